"""Every layout is listed as its data set publishes it, on miniature trees and on the real data."""

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image

import conftest
import trees
from grown import MAKERS
from rankseg_rma.checks import DatasetError
from rankseg_rma.datasets import list_cases, load_card, part_cases
from rankseg_rma.datasets.check import check_dataset
from rankseg_rma.files.images import VOID, read_classes, read_image
from rankseg_rma.files.volumes import read_volume, write_volume
from rankseg_rma.grid import find_slice_axis, voxel_volume_ml


@pytest.mark.parametrize("name", MAKERS)
def test_trees_are_clean(grown, name):
    result = check_dataset(name, grown[name])
    assert result.faults == []
    assert result.num_cases == len(list_cases(load_card(name), grown[name])[1])
    assert result.notes


@pytest.mark.parametrize("name", MAKERS)
def test_the_same_tree_grows_again(grown, name, tmp_path):
    """Pictures and volumes of a second tree are the same."""
    _, cases = list_cases(load_card(name), MAKERS[name](tmp_path))
    _, first = list_cases(load_card(name), grown[name])
    assert [case.id for case in cases] == [case.id for case in first]
    read = read_volume if load_card(name).kind == "volume" else read_image
    one, other = (read(found[1].image) for found in (cases, first))
    np.testing.assert_array_equal(getattr(one, "array", one), getattr(other, "array", other))


def test_lits_is_found_in_both_batches(grown):
    card, cases = list_cases(load_card("lits"), grown["lits"])
    assert [case.case_id for case in cases] == [f"volume-{number}" for number in range(6)]
    assert {case.image.parent.name for case in cases} == {"Training Batch 1", "Training Batch 2"}
    assert [case.label.name for case in cases] == [f"segmentation-{number}.nii" for number in range(6)]
    assert all(case.part is None for case in cases)
    assert (card.labels, card.intensity.low, card.intensity.high) == ({1: "liver", 2: "tumour"}, -60, 140)
    assert card.foreground_crop


def test_lits_labels_may_lie_elsewhere_and_packed(copied):
    root = copied("lits")
    elsewhere = root / "labels"
    for path in [*root.rglob("segmentation-*.nii")]:
        label = read_volume(path)
        write_volume(elsewhere / f"{path.name}.gz", label.array, label.affine)
        path.unlink()
    wrapped = root / "volume-0.nii"
    shutil.move(root / "Training Batch 1" / "volume-0.nii", root / "moved")
    wrapped.mkdir()
    shutil.move(root / "moved", wrapped / "volume-0.nii")
    (root / "._volume-7.nii").write_bytes(b"of a Mac")
    (root / "test-volume-0.nii").write_bytes(b"of the test")
    result = check_dataset("lits", root)
    assert (result.num_cases, result.faults) == (6, [])
    shutil.copy(wrapped / "volume-0.nii", root / "Training Batch 2" / "volume-0.nii")
    with pytest.raises(DatasetError, match="volume files must be one of each number; got .*volume-0.nii and"):
        list_cases(load_card("lits"), root)


def test_kits_is_found_from_the_repository_and_from_its_folder(grown):
    for name, folder in (("kits19", "data"), ("kits23", "dataset")):
        _, cases = list_cases(load_card(name), grown[name])
        assert list_cases(load_card(name), grown[name] / folder)[1] == cases
        assert cases[0].case_id == "case_00000"
        assert (cases[0].image.name, cases[0].label.name) == ("imaging.nii.gz", "segmentation.nii.gz")
        assert len({read_volume(case.label).array.shape[1:] for case in cases}) == 2
        affine = read_volume(cases[0].label).affine
        assert find_slice_axis(affine, "axial") == 0
    # The unlabelled test case of KiTS19 is no case; KiTS23's numbers have a gap.
    assert (grown["kits19"] / "data" / "case_00210").is_dir()
    assert [case.case_id for case in cases][-1] == "case_00400"
    assert "case_00210" not in [case.case_id for case in list_cases(load_card("kits19"), grown["kits19"])[1]]


def test_a_cyst_is_no_tumour_on_the_card():
    card = load_card("kits23")
    assert card.slices.labels == {1: (2,)} and card.slices.names == ("tumour",)
    assert card.regions == {"kidney_and_mass": (1, 2, 3), "mass": (2, 3), "tumor": (2,)}


PARTS = {
    "pascal_voc": (6, 3, 0, "2007_000032"), "cityscapes": (6, 3, 1, "aachen_000000_000019"),
    "ade20k": (6, 3, 0, "ADE_train_00000001"), "camvid": (6, 3, 3, "0001TP_006690"),
}  # fmt: skip


@pytest.mark.parametrize("name", PARTS)
def test_images_have_their_official_parts(grown, name):
    card, cases = list_cases(load_card(name), grown[name])
    parts = part_cases(card, cases, 0)
    assert tuple(map(len, parts.values())) == PARTS[name][:3]
    assert parts["training"][0].case_id == PARTS[name][3]
    assert all(case.label is None for case in parts["test"]) == (name != "camvid")
    with pytest.raises(ValueError, match="fold must be 0: the parts of"):
        part_cases(card, cases, 1)
    for case in parts["training"] + parts["validation"]:
        image, classes = read_image(case.image), read_classes(case.label, card)
        assert image.shape[1:] == classes.shape
        present = set(np.unique(classes)) - {VOID}
        assert present and max(present) < card.num_classes
        # What a network can learn: within a class the colour is the same, JPEG and noise aside.
        for value in present:
            pixels = image[:, classes == value].astype(float)
            assert np.abs(pixels - np.median(pixels, axis=1)[:, None]).mean() < 12


def test_every_tree_has_void_and_the_roots_may_be_above(grown):
    for name, above in (("pascal_voc", 2), ("ade20k", 1)):
        card, cases = list_cases(load_card(name), grown[name])
        assert list_cases(load_card(name), grown[name].parents[above - 1])[1] == cases
    for name in PARTS:
        card, cases = list_cases(load_card(name), grown[name])
        assert any((read_classes(case.label, card) == VOID).any() for case in cases if case.label)


def test_prepared_voc_trains_on_trainaug(grown, tmp_path):
    source = grown["pascal_voc"]
    names = [*trees.VOC_TRAIN, *trees.VOC_EXTRA]
    (tmp_path / "ImageSets" / "Segmentation").mkdir(parents=True)
    (tmp_path / "ImageSets" / "Segmentation" / "trainaug.txt").write_text("\n".join(names) + "\n")
    (tmp_path / "SegmentationClassAug").mkdir()
    for name in names:
        shape = read_image(source / "JPEGImages" / f"{name}.jpg").shape[1:]
        Image.fromarray(np.zeros(shape, np.uint8)).save(tmp_path / "SegmentationClassAug" / f"{name}.png")
    prepared = {"dataset": "pascal_voc", "source": str(source), "counts": {}}
    (tmp_path / "prepared.json").write_text(json.dumps(prepared))
    card, cases = list_cases(load_card("pascal_voc"), tmp_path)
    parts = part_cases(card, cases, 0)
    assert (len(parts["training"]), len(parts["validation"])) == (10, 3)
    assert card.parts["training"] == 10582
    result = check_dataset("pascal_voc", tmp_path)
    assert result.faults == []
    assert "training images: 10 of 10582" in result.notes
    (tmp_path / "prepared.json").write_text(json.dumps({**prepared, "source": str(tmp_path / "gone")}))
    with pytest.raises(DatasetError, match="Was it moved"):
        list_cases(load_card("pascal_voc"), tmp_path)
    (tmp_path / "prepared.json").write_text("[]")
    with pytest.raises(DatasetError, match="JSON with a source"):
        list_cases(load_card("pascal_voc"), tmp_path)


def test_own_images_need_no_lists(copied, tmp_path):
    root = copied("camvid")
    for part in ("train", "val", "test"):
        (root / f"{part}.txt").unlink()
    card, cases = list_cases(load_card("camvid"), root)
    assert tuple(map(len, part_cases(card, cases, 0).values())) == (6, 3, 3)
    shutil.rmtree(root / "testannot")
    result = check_dataset("camvid", root)
    assert (result.num_cases, result.faults) == (12, [])
    shutil.copy(root / "train" / "0001TP_006690.png", root / "train" / "0001TP_006690.bmp")
    with pytest.raises(DatasetError, match="file names must be unique"):
        list_cases(card, root)
    (root / "train.txt").write_text("one two three\n")
    with pytest.raises(DatasetError, match="an image and a label; got one two three"):
        list_cases(card, root)
    (root / "train.txt").write_text("../../x.png ../y.png\n")
    with pytest.raises(DatasetError, match="paths inside its folder"):
        list_cases(card, root)


@pytest.mark.parametrize("name", [name for name in MAKERS if name != "msd_hippocampus"])
def test_a_wrong_folder_is_named(name, tmp_path):
    with pytest.raises(FileNotFoundError, match=f"root must be a folder with .*{tmp_path.name}"):
        list_cases(load_card(name), tmp_path)


def test_folders_of_links_are_read(copied, tmp_path):
    root = copied("pascal_voc")
    shutil.move(root / "JPEGImages", tmp_path / "elsewhere")
    (root / "JPEGImages").mkdir()
    for path in (tmp_path / "elsewhere").iterdir():
        (root / "JPEGImages" / path.name).symlink_to(path)
    assert check_dataset("pascal_voc", root).faults == []


def test_real_kits23_labels(real_data):
    root = real_data / "kits23_labels"
    result = check_dataset("kits23", root, labels_only=True)
    assert (result.num_cases, result.faults, result.notes) == (24, [], ["cases: 24 of 489"])
    card, cases = list_cases(load_card("kits23"), root)
    with (root / "cases.csv").open(encoding="utf-8") as stream:
        rows = {row["case"]: row for row in csv.DictReader(stream)}
    assert [case.case_id for case in cases] == sorted(rows)
    for case in cases[::4]:
        label, row = read_volume(case.label), rows[case.case_id]
        counts = np.bincount(label.array.reshape(-1, order="A"), minlength=4)
        ml = counts * voxel_volume_ml(label.affine)
        kidney, tumour, cyst = (float(row[f"{name}_ml"]) for name in ("kidney", "tumor", "cyst"))
        np.testing.assert_allclose(ml[1:], [kidney, tumour, cyst], atol=6e-4)
        assert counts[list(card.regions["tumor"])].sum() == int(row["tumor_voxels"])
        united = [ml[list(card.regions[name])].sum() for name in ("kidney_and_mass", "mass", "tumor")]
        np.testing.assert_allclose(united, [kidney + tumour + cyst, tumour + cyst, tumour], atol=2e-3)
        assert find_slice_axis(label.affine, "axial") == 0


def test_real_camvid(real_data):
    result = check_dataset("camvid", real_data / "camvid")
    assert (result.num_cases, result.faults) == (166, [])
    assert result.notes == ["training images: 96 of 367", "validation images: 30 of 101", "test images: 40 of 233"]
    card, cases = list_cases(load_card("camvid"), real_data / "camvid")
    parts = part_cases(card, cases, 0)
    assert "0001TP_006720" in [case.case_id for case in parts["training"]]
    classes = np.stack([read_classes(case.label, card) for case in parts["validation"]])
    assert classes.shape == (30, 360, 480)
    assert set(np.unique(classes)) <= {*range(11), VOID}
    assert 0.005 < (classes == VOID).mean() < 0.1
    known = json.loads((real_data / "camvid" / "classes.json").read_text())["classes"]
    assert {row["id"]: row["name"] for row in known if not row["ignore"]} == card.classes
    assert {row["id"]: tuple(row["colour_rgb"]) for row in known} == card.colours


def test_real_hippocampus(real_data):
    result = check_dataset("msd_hippocampus", real_data / "msd_hippocampus")
    assert (result.num_cases, result.faults, result.notes) == (194, [], ["cases: 194 of 260"])


def own_card(text, path):
    """The card in DATA.md that begins with a text, written to its own name."""
    document = (conftest.REPOSITORY / "DATA.md").read_text(encoding="utf-8")
    block = next(block for block in document.split("```yaml\n")[1:] if block.startswith(text)).split("```")[0]
    name = next(line.split()[1] for line in block.splitlines() if line.startswith("name:"))
    (path / f"{name}.yaml").write_text(block, encoding="utf-8")
    return path / f"{name}.yaml"


def test_own_cards_as_data_md_shows_them(tmp_path):
    card = load_card(own_card("name: my_livers", tmp_path))
    assert card.foreground_crop and card.slices.labels == {1: (2,)}
    path = own_card("kind: image", tmp_path)
    assert load_card(path).class_names == ("maize", "wheat", "other")
    root = tmp_path / "fields"
    for folder in ("train", "trainannot", "val", "valannot"):
        (root / folder).mkdir(parents=True)
    label = np.array([[0, 1, 2, 7, 255]] * 4, np.uint8)
    for part in ("train", "val"):
        Image.fromarray(np.zeros((4, 5, 3), np.uint8)).save(root / part / f"{part}_1.jpg")
        Image.fromarray(label).save(root / f"{part}annot" / f"{part}_1.png")
    result = check_dataset(str(path), root)
    assert (result.faults, result.notes) == ([], ["training images: 1", "validation images: 1"])
    card, cases = list_cases(load_card(path), root)
    assert read_classes(cases[0].label, card)[0].tolist() == [VOID, 0, 1, 2, VOID]
