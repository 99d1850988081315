"""Images and labels on disk: every kind of file, damage, and the way back."""

import numpy as np
import pytest
from PIL import Image

import trees
from rankseg_rma.checks import DatasetError
from rankseg_rma.datasets import load_card
from rankseg_rma.datasets.slices import read_slice
from rankseg_rma.files.images import (
    VOID,
    class_map,
    palette_of,
    read_classes,
    read_image,
    read_stored_label,
    write_classes,
)

RGB = np.array([[[255, 0, 10], [0, 128, 0]], [[7, 8, 9], [200, 100, 50]]], np.uint8)


@pytest.fixture(scope="module")
def voc_card():
    return load_card("pascal_voc")


def save(path, array, mode=None, **options):
    image = Image.fromarray(np.asarray(array))
    (image.convert(mode) if mode else image).save(path, **options)
    return path


def test_images_of_every_mode_become_rgb(tmp_path):
    expected = RGB.transpose(2, 0, 1)
    image = read_image(save(tmp_path / "rgb.png", RGB))
    np.testing.assert_array_equal(image, expected)
    assert image.dtype == np.uint8 and image.flags.c_contiguous
    rgba = np.dstack([RGB, [[0, 255], [128, 3]]]).astype(np.uint8)
    np.testing.assert_array_equal(read_image(save(tmp_path / "rgba.png", rgba)), expected)
    np.testing.assert_array_equal(read_image(save(tmp_path / "cmyk.tif", RGB, "CMYK")), expected)
    palette = Image.fromarray(np.array([[0, 1], [2, 3]], np.uint8))
    palette.putpalette(RGB.tobytes())
    palette.save(tmp_path / "palette.png")
    np.testing.assert_array_equal(read_image(tmp_path / "palette.png"), expected)
    palette.save(tmp_path / "transparent.png", transparency=bytes([0, 255, 3, 9]))
    np.testing.assert_array_equal(read_image(tmp_path / "transparent.png"), expected)


def test_grey_images_of_8_and_16_bits(tmp_path):
    grey = np.array([[0, 7], [254, 255]], np.uint8)
    np.testing.assert_array_equal(read_image(save(tmp_path / "8.png", grey)), np.stack([grey] * 3))
    deep = grey.astype(np.uint16) * 257
    np.testing.assert_array_equal(read_image(save(tmp_path / "16.png", deep)), np.stack([grey] * 3))
    with pytest.raises(DatasetError, match="of 8 or 16 bits") as error:
        read_image(save(tmp_path / "float.tif", deep.astype(np.float32)))
    assert "float.tif" in str(error.value)


@pytest.mark.parametrize("name", ["x.png", "x.jpg", "x.tif"])
@pytest.mark.parametrize("read", [read_image, read_stored_label])
def test_damaged_files_are_named(tmp_path, name, read):
    array = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    path = save(tmp_path / name, array)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DatasetError, match="must be a readable image.*copy it again") as error:
        read(path)
    assert str(path) in str(error.value)
    path.write_text("<html>quota exceeded</html>")
    with pytest.raises(DatasetError, match="must be a readable image"):
        read(path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="must be an existing file"):
        read(path)


def test_stored_labels_keep_their_values(tmp_path):
    values = np.array([[0, 1], [7, 255]], np.uint8)
    image = Image.fromarray(values)
    image.putpalette(trees.voc_colours().tobytes())
    image.save(tmp_path / "palette.png")
    np.testing.assert_array_equal(read_stored_label(tmp_path / "palette.png"), values)
    np.testing.assert_array_equal(read_stored_label(save(tmp_path / "grey.png", values)), values)
    deep = np.array([[0, 300], [7, 65535]], np.uint16)
    np.testing.assert_array_equal(read_stored_label(save(tmp_path / "deep.png", deep)), deep)
    bits = np.array([[True, False], [False, True]])
    np.testing.assert_array_equal(read_stored_label(save(tmp_path / "bits.png", bits)), bits.astype(int))
    alpha = np.dstack([values, np.full((2, 2), 9, np.uint8)])
    np.testing.assert_array_equal(read_stored_label(save(tmp_path / "alpha.png", alpha)), values)
    rgba = np.dstack([RGB, np.full((2, 2), 9, np.uint8)])
    np.testing.assert_array_equal(read_stored_label(save(tmp_path / "rgba.png", rgba)), RGB)
    with pytest.raises(DatasetError, match="stored without loss; got JPEG"):
        read_stored_label(save(tmp_path / "lossy.jpg", values))
    with pytest.raises(DatasetError, match="whole numbers or RGB; got mode F"):
        read_stored_label(save(tmp_path / "float.tif", values.astype(np.float32)))


def test_one_pixel_wide_label_with_alpha_keeps_its_axes(tmp_path):
    alpha = np.array([[[1, 9]], [[2, 9]]], np.uint8)
    assert read_stored_label(save(tmp_path / "alpha.png", alpha)).shape == (2, 1)
    rgba = np.zeros((1, 3, 4), np.uint8)
    assert read_stored_label(save(tmp_path / "rgba.png", rgba)).shape == (1, 3, 3)


def test_palette_and_colours_and_indices_are_the_same_classes(tmp_path, voc_card):
    values = np.arange(21, dtype=np.uint8).reshape(3, 7)
    values[0, 0] = 255
    expected = np.where(values == 255, VOID, values)
    colours = trees.voc_colours()
    image = Image.fromarray(values)
    image.putpalette(colours.tobytes())
    image.save(tmp_path / "palette.png")
    for path in (
        tmp_path / "palette.png",
        save(tmp_path / "grey.png", values),
        save(tmp_path / "deep.png", values.astype(np.uint16)),
        save(tmp_path / "colour.png", colours[values]),
        save(tmp_path / "three.png", np.dstack([values] * 3)),
    ):
        classes = read_classes(path, voc_card)
        np.testing.assert_array_equal(classes, expected, err_msg=path.name)
        assert classes.dtype == np.uint8


def test_luminance_of_a_palette_is_found(tmp_path, voc_card):
    values = np.full((8, 8), 0, np.uint8)
    values[2:6, 2:6], values[3, 3] = 7, 255
    image = Image.fromarray(values)
    image.putpalette(trees.voc_colours().tobytes())
    image.convert("L").save(tmp_path / "grey.png")
    with pytest.raises(DatasetError, match=r"128 \(15 pixels\), 220 \(1 pixels\).*read as luminance") as error:
        read_classes(tmp_path / "grey.png", voc_card)
    assert "grey.png" in str(error.value)
    image.putdata([*range(21), 255] + [0] * 42)
    image.convert("L").save(tmp_path / "all.png")
    with pytest.raises(DatasetError, match="read as luminance"):
        read_classes(tmp_path / "all.png", voc_card)
    with pytest.raises(DatasetError, match=r"got 99 \(64 pixels\)") as error:
        read_classes(save(tmp_path / "other.png", values * 0 + 99), voc_card)
    assert "read as luminance" not in str(error.value)


def test_unknown_colours_and_values_are_named(tmp_path, voc_card):
    with pytest.raises(DatasetError, match=r"\(7, 8, 9\) \(1 pixels\).*exact colours"):
        read_classes(save(tmp_path / "colour.png", RGB), voc_card)
    deep = np.array([[0, 300]], np.uint16)
    with pytest.raises(DatasetError, match=r"got 300 \(1 pixels\)"):
        read_classes(save(tmp_path / "deep.png", deep), voc_card)
    many = np.arange(30, 60, dtype=np.uint8)[None]
    with pytest.raises(DatasetError, match=r"30 \(1 pixels\), .*34 \(1 pixels\), \.\.\."):
        read_classes(save(tmp_path / "many.png", many), voc_card)


def test_void_rules_of_the_data_sets():
    city = load_card("cityscapes")
    ids = np.array([[*range(35), 255]])
    classes = class_map(city).apply(ids)[0]
    kept = [7, 8, 11, 12, 13, 17, *range(19, 29), 31, 32, 33]
    assert [classes[value] for value in kept] == [*range(19)]
    assert {int(classes[value]) for value in set(range(36)) - set(kept)} == {VOID}
    ade = class_map(load_card("ade20k")).apply(np.array([[0, 1, 150, 151]]))[0]
    assert ade.tolist() == [VOID, 0, 149, -1]
    camvid = load_card("camvid")
    assert class_map(camvid).apply(np.array([[0, 10, 11, 12]]))[0].tolist() == [0, 10, VOID, -1]
    # Black is CamVid's void colour, and (128, 128, 128) is sky, although their three channels are equal.
    colours = np.array([[[0, 0, 0], [128, 128, 128], [128, 0, 0]]], np.uint8)
    assert class_map(camvid).apply(colours)[0].tolist() == [VOID, 0, 1]


@pytest.mark.parametrize("name", ["pascal_voc", "cityscapes", "ade20k", "camvid"])
def test_written_classes_come_back(tmp_path, name):
    card = load_card(name)
    classes = np.append(np.arange(card.num_classes), VOID).astype(np.int64)[None]
    write_classes(tmp_path / "x.png", classes, card)
    with Image.open(tmp_path / "x.png") as image:
        assert image.mode == "P"
        np.testing.assert_array_equal(np.asarray(image), classes)
    np.testing.assert_array_equal(read_image(tmp_path / "x.png")[:, 0].T, palette_of(card)[classes[0]])
    assert [path.name for path in tmp_path.iterdir()] == ["x.png"]


def test_painted_colours_are_the_cards(voc_card):
    np.testing.assert_array_equal(palette_of(voc_card)[:21], trees.voc_colours()[:21])
    assert palette_of(load_card("cityscapes"))[[0, 18]].tolist() == [[128, 64, 128], [119, 11, 32]]
    assert palette_of(load_card("camvid"))[VOID].tolist() == [0, 0, 0]
    assert len(np.unique(palette_of(load_card("ade20k")), axis=0)) == 256


def test_wrong_classes_are_not_written(tmp_path, voc_card):
    with pytest.raises(ValueError, match=r"0 to 20 or 255; got \[21, 254\]"):
        write_classes(tmp_path / "x.png", np.array([[0, 21, 254, 255]]), voc_card)
    with pytest.raises(ValueError, match=r"\(H, W\) integers"):
        write_classes(tmp_path / "x.png", np.zeros((2, 2)), voc_card)
    with pytest.raises(ValueError, match=r"\(H, W\) integers"):
        write_classes(tmp_path / "x.png", np.zeros((1, 2, 2), int), voc_card)
    assert not list(tmp_path.iterdir())


def test_slices_are_read_and_damage_is_named(tmp_path):
    image, label = np.arange(-3, 3, dtype=np.int16).reshape(2, 3), np.eye(2, 3, dtype=np.uint8)
    path = tmp_path / "0004.npz"
    np.savez_compressed(path, image=image, label=label)
    found = read_slice(path)
    np.testing.assert_array_equal(found["image"], image)
    np.testing.assert_array_equal(found["label"], label)
    good = path.read_bytes()
    for content in (good[:-40], good[:100], b"", b"text"):
        path.write_bytes(content)
        with pytest.raises(DatasetError, match="a slice with image and label.*0004.npz") as error:
            read_slice(path)
        assert "data prepare" in str(error.value)
    np.savez_compressed(path, image=image)
    with pytest.raises(DatasetError, match="KeyError"):
        read_slice(path)
    np.savez_compressed(path, image=image, label=label[:1])
    with pytest.raises(DatasetError, match=r"\(2, 3\) int16 and \(1, 3\) uint8"):
        read_slice(path)
    np.savez_compressed(path, image=np.array([[{}]]), label=label)
    with pytest.raises(DatasetError, match="allow_pickle"):
        read_slice(path)
