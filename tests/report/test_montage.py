"""Montages and the choice of cases: right planes, right sides, right errors, whatever way the files are stored."""

import gzip
import re

import nibabel
import numpy as np
import pandas
import pytest
from matplotlib.colors import to_rgb
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, ornt_transform
from PIL import Image

from rankseg_rma.files.volumes import list_volumes, write_volume
from rankseg_rma.report import examples, montage, viewer
from rankseg_rma.report.examples import Choice, CohortFiles, choose_cases, find_image
from rankseg_rma.report.montage import MontageCase, draw_montage, find_place, mask_colours, montage_url
from rankseg_rma.report.pictures import find_pictures
from rankseg_rma.tables.frames import Tables

SPACING = (1.0, 2.0, 4.0)
BLUE, VERMILLION, YELLOW = "#0072B2", "#D55E00", "#F0E442"


def box(shape, *sides):
    mask = np.zeros(shape, bool)
    mask[tuple(slice(*side) for side in sides)] = True
    return mask


def make_case(**changes):
    """Reference, a decoder that misses its right end and one that adds to its front."""
    shape = (40, 30, 20)
    reference = box(shape, (10, 20), (10, 16), (8, 12))
    first, second = box(shape, (10, 17), (10, 16), (8, 12)), box(shape, (10, 20), (10, 18), (8, 12))
    case = {
        "title": "a $case_1$", "image": np.linspace(0, 1, np.prod(shape)).reshape(shape),
        "masks": {"reference": reference, "argmax": first, "rma": second}, "spacing_mm": SPACING,
        "place": (14, 15, 9), "voxel_ml": float(np.prod(SPACING)) / 1000, "grey": "window 0 to 1",
    }  # fmt: skip
    return MontageCase(**case | changes)


def test_rows_and_columns_of_a_montage():
    figure = draw_montage(make_case())
    assert len(figure.axes) == 9
    assert [axes.get_title() for axes in figure.axes[:3]] == ["axial", "coronal", "sagittal"]
    # 3 x 6 x 4 voxels of 8 cubic mm are missed, 10 x 2 x 4 are too much
    assert figure.axes[3].get_ylabel() == "errors of argmax\n0 mL too much, 0.576 mL missed"
    assert figure.axes[6].get_ylabel() == "errors of rma\n0.64 mL too much, 0 mL missed"
    assert len(draw_montage(make_case(masks=dict(list(make_case().masks.items())[:2]))).axes) == 6
    assert montage_url(figure) == montage_url(draw_montage(make_case()))


@pytest.mark.parametrize(
    ("column", "horizontal", "vertical", "letters"),
    [(0, 0, 1, "RLAP"), (1, 0, 2, "RLSI"), (2, 1, 2, "APSI")],
    ids=["axial", "coronal", "sagittal"],
)
def test_planes_are_seen_as_radiologists_do(column, horizontal, vertical, letters):
    """Larger coordinates (right, front, head) lie to the left and up, in true millimetres."""
    case = make_case()
    axes = draw_montage(case).axes[column]
    assert axes.get_xlim()[0] > axes.get_xlim()[1]
    assert axes.get_ylim()[0] < axes.get_ylim()[1]
    assert axes.get_aspect() == 1
    assert axes.get_xlim()[0] - axes.get_xlim()[1] == pytest.approx(axes.get_ylim()[1] - axes.get_ylim()[0])
    texts = {text.get_text(): text.get_position() for text in axes.texts}
    for letter, (x, y) in zip(letters, ((0, 0.5), (1, 0.5), (0.5, 1), (0.5, 0)), strict=True):
        assert np.allclose(texts[letter], (x, y), atol=0.1), letter
    shown = axes.images[0]
    left, right, low, high = shown.get_extent()
    for point, value in (((14, 15, 9), None), ((11, 12, 10), None), ((18, 10, 8), None)):
        point = list(point)
        through = 3 - horizontal - vertical
        point[through] = case.place[through]
        row = int((point[vertical] * SPACING[vertical] - low) / SPACING[vertical])
        across = int((point[horizontal] * SPACING[horizontal] - left) / SPACING[horizontal])
        value = case.image[tuple(point)]
        assert shown.get_array()[row, across] == pytest.approx(value)
    assert (right, high) == pytest.approx(
        tuple((case.image.shape[axis] - 0.5) * SPACING[axis] for axis in (horizontal, vertical))
    )


def test_contours_follow_the_edges_of_voxels():
    figure = draw_montage(make_case())
    lines = dict(zip(("reference", "argmax", "rma"), figure.axes[0].collections, strict=True))
    for name, ends in {
        "reference": (9.5, 19.5, 19, 31),
        "argmax": (9.5, 16.5, 19, 31),
        "rma": (9.5, 19.5, 19, 35),
    }.items():
        vertices = np.concatenate([path.vertices for path in lines[name].get_paths()])
        found = [
            *(pick(vertices[:, 0]) for pick in (np.min, np.max)),
            *(pick(vertices[:, 1]) for pick in (np.min, np.max)),
        ]
        assert found == pytest.approx(ends, abs=0.1), name
        assert to_rgb(lines[name].get_edgecolor()[0]) == pytest.approx(to_rgb(mask_colours(lines)[name]))
    assert len({str(line.get_linestyle()) for line in lines.values()}) == 3


@pytest.mark.parametrize(("row", "name"), [(1, "argmax"), (2, "rma")])
def test_errors_are_counted_in_their_colours(row, name):
    case = make_case()
    layer = draw_montage(case).axes[3 * row].images[1].get_array()
    reference, prediction = (case.masks[key][:, :, case.place[2]] for key in ("reference", name))
    for colour, part in (
        (BLUE, reference & prediction), (VERMILLION, prediction & ~reference), (YELLOW, reference & ~prediction)
    ):  # fmt: skip
        found = np.isclose(layer[..., :3], to_rgb(colour), atol=0.01).all(axis=-1) & (layer[..., 3] > 0)
        assert np.array_equal(found.T, part), colour


def test_scale_bar_is_as_long_as_it_says():
    axes = draw_montage(make_case()).axes[0]
    start, stop = axes.lines[0].get_xdata()
    assert f"{start - stop:g} mm" in [text.get_text() for text in axes.texts]
    assert start - stop in (10, 20, 50)


def test_montage_of_empty_masks_and_no_image():
    empty = dict.fromkeys(("reference", "argmax", "rma"), np.zeros((5, 6, 7), bool))
    figure = draw_montage(make_case(masks=empty, image=None, place=(2, 3, 3), grey=""))
    assert not figure.axes[0].collections
    title = figure.legends[0].get_title().get_text()
    assert "no image given" in title and "right is on the left" in title
    far = make_case()
    far.masks["rma"][39, 29, 19] = True
    assert "a mask goes on outside the view" in draw_montage(far).legends[0].get_title().get_text()


def test_montage_refuses_other_shapes():
    with pytest.raises(ValueError, match="draw_montage: masks must be a reference and one or two decoders"):
        draw_montage(make_case(masks={"reference": np.zeros((5, 5, 5), bool), "rma": np.zeros((5, 5, 4), bool)}))
    with pytest.raises(ValueError, match="one or two decoders"):
        draw_montage(make_case(masks={"reference": np.zeros((5, 5, 5), bool)}))


def test_place_is_where_there_is_most_to_see():
    masks = dict(make_case().masks)
    assert (masks["argmax"] ^ masks["rma"])[find_place(masks, SPACING, "changed")]
    assert (masks["reference"] ^ masks["rma"])[find_place(masks, SPACING, "worst")]
    assert np.abs(np.array(find_place(masks, SPACING, "best")) - (14.5, 12.5, 9.5)).max() <= 0.5
    spread = {"reference": box((60, 20, 20), (2, 3), (2, 3), (2, 3)) | box((60, 20, 20), (40, 46), (5, 11), (5, 11))}
    spread["rma"] = np.zeros((60, 20, 20), bool)
    assert find_place(spread, (1, 1, 1), "worst")[0] in (42, 43)
    same = {"reference": masks["reference"], "a": masks["reference"], "b": masks["reference"]}
    assert masks["reference"][find_place(same, SPACING, "changed")]
    assert find_place(dict.fromkeys("rab", np.zeros((5, 6, 7), bool)), SPACING, "worst") == (2, 3, 3)


# Choice of cases


def make_tables(values, metric="dice", first="argmax", second="rma", status=None):
    """Scores by case id: (first, second), all of label 2."""
    rows = [
        {"case_id": case_id, "label": "2", "label_name": "tumour", "decoder": decoder, "metric": metric, "value": value,
         "status": (status or {}).get(case_id, "ok")}
        for case_id, pair in values.items() for decoder, value in zip((first, second), pair, strict=True)
    ]  # fmt: skip
    return Tables(first, second, metric, pandas.DataFrame(rows))


VALUES = {"a": (0.5, 0.9), "b": (0.8, 0.4), "c": (0.1, 0.1), "d": (0.95, 0.97), "e": (0.6, 0.65), "f": (0.7, 0.7)}


def test_cases_are_chosen_in_turns_and_once():
    found = choose_cases(make_tables(VALUES), 6)
    # largest loss, worst score, largest gain, best score, then losses are used up, next worst, next gain
    assert [(choice.kind, choice.case_id) for choice in found] == [
        ("changed", "b"), ("worst", "c"), ("changed", "a"), ("best", "d"), ("worst", "e"), ("best", "f")
    ]  # fmt: skip
    assert choose_cases(make_tables(VALUES), 2) == [Choice("changed", "b", "2"), Choice("worst", "c", "2")]
    assert choose_cases(make_tables(VALUES), 0) == []
    assert len(choose_cases(make_tables(VALUES), 60)) == 6


def test_choice_for_distances_empties_and_one_decoder():
    found = choose_cases(make_tables(VALUES, metric="hd95_mm"), 4)
    assert [choice.case_id for choice in found] == ["a", "d", "b", "c"]
    found = choose_cases(make_tables(VALUES, status={"d": "both_empty"}), 6)
    assert ("best", "a") not in [(choice.kind, choice.case_id) for choice in found[:3]]
    assert "d" not in [choice.case_id for choice in found if choice.kind != "changed"]
    single = make_tables({case_id: pair[1:] * 2 for case_id, pair in VALUES.items()}, second="argmax")
    single = Tables("argmax", "argmax", "dice", single.scores.drop_duplicates())
    assert [choice.kind for choice in choose_cases(single, 3)] == ["worst", "best", "worst"]
    missing = make_tables({"a": (0.5, float("nan")), "b": (float("nan"), 0.3)})
    assert choose_cases(missing, 5) == [Choice("worst", "b", "2")]
    assert choose_cases(Tables("argmax", "rma", "dice", pandas.DataFrame()), 5) == []


# Volumes from disk


def turn(array, affine, codes):
    """The same volume stored along other axes."""
    change = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(codes))
    return nibabel.apply_orientation(array, change), affine @ inv_ornt_aff(change, array.shape)


def write_cohort(folder, codes="RAS", case_ids=("case_1",)):
    """An image and three masks of every case, of labels 1 to 3; returns the files and the volumes as they are."""
    rng = np.random.default_rng(4)
    affine = np.diag([*SPACING, 1.0])
    affine[:3, 3] = (-20.0, 11.0, 7.0)
    case = make_case()
    volumes = {"image": rng.normal(60, 200, case.image.shape).astype(np.float32)}
    volumes["image"][0, 0, 0] = -1000
    for name, mask in case.masks.items():
        volumes[name] = np.where(mask, 1 + (np.indices(mask.shape)[0] % 3), 0).astype(np.uint8)
    for case_id in case_ids:
        for name, array in volumes.items():
            file = f"{case_id}_0000.nii.gz" if name == "image" else f"{case_id}.nii.gz"
            write_volume(folder / name / file, *turn(array, affine, codes))
    files = {name: list_volumes(folder / name) for name in volumes}
    return CohortFiles(files["reference"], {name: files[name] for name in ("argmax", "rma")}, files["image"]), affine


def decode(data):
    image = nibabel.Nifti1Image.from_bytes(gzip.decompress(data))
    return np.asanyarray(image.dataobj), image.affine


def places(mask, affine):
    """Patient coordinates of the voxels of a mask."""
    return sorted(map(tuple, np.round(nibabel.affines.apply_affine(affine, np.argwhere(mask)), 3).tolist()))


@pytest.mark.parametrize("codes", ["RAS", "LPS", "IPL", "SAR"])
@pytest.mark.parametrize("label", ["2", "1+2+3"])
def test_pictures_do_not_depend_on_how_files_are_stored(tmp_path, codes, label):
    files, _ = write_cohort(tmp_path, codes)
    tables = make_tables({"case_1": (0.5, 0.6)})
    tables.scores["label"] = label
    found = find_pictures(tables, [Choice("changed", "case_1", label)], files)
    assert not found.notes
    (montage,), (case,) = found.montages, found.viewer_cases
    assert montage.title == case.title == "case_1, tumour: Dice 50.00 with argmax, 60.00 with rma"
    assert (montage.kind, case.label) == ("changed", label)
    as_stored, stored = write_cohort(tmp_path / "ras", "RAS")
    assert montage.url == find_pictures(tables, [Choice("changed", "case_1", label)], as_stored).montages[0].url
    image, where = decode(case.image)
    assert nibabel.aff2axcodes(where) == ("R", "A", "S")
    for name, data in case.masks.items():
        mask, mask_affine = decode(data)
        assert mask.shape == image.shape
        assert np.array_equal(mask_affine, where)
        path = as_stored.references["case_1"] if name == "reference" else as_stored.predictions[name]["case_1"]
        original = np.isin(np.asanyarray(nibabel.load(path).dataobj), [int(part) for part in label.split("+")])
        assert places(mask, mask_affine) == places(original, stored), name
    original = np.asanyarray(nibabel.load(as_stored.images["case_1_0000"]).dataobj)
    index = np.rint(nibabel.affines.apply_affine(np.linalg.inv(stored) @ where, np.argwhere(image >= 0))).astype(int)
    grey = np.clip((original[tuple(index.T)] + 160) / 400, 0, 1).reshape(image.shape)
    assert np.abs(image / 252 - grey).max() < 0.01  # 64 grey levels


def test_large_cases_are_thinned_on_their_grid(tmp_path, monkeypatch):
    files, affine = write_cohort(tmp_path)
    monkeypatch.setattr(viewer, "_VIEWER_VOXELS", 3000)
    tables = make_tables({"case_1": (0.5, 0.6)})
    tables.scores["label"] = "1+2+3"
    case = find_pictures(tables, [Choice("worst", "case_1", "1+2+3")], files).viewer_cases[0]
    mask, where = decode(case.masks["reference"])
    assert mask.size <= 3000
    assert re.search(r"; thinned to voxels of \d.* x .* x 4 mm$", case.title)
    original = np.asanyarray(nibabel.load(files.references["case_1"]).dataobj) > 0
    assert set(places(mask, where)) < set(places(original, affine))


def test_a_bad_file_costs_its_case_only(tmp_path):
    files, _ = write_cohort(tmp_path, case_ids=("case_1", "case_2", "case_3", "case_4", "case_5"))
    files.predictions["rma"]["case_1"].write_bytes(b"no volume")
    files.images["case_2_0000"].write_bytes(b"no image")
    write_volume(files.images["case_3_0000"], np.zeros((4, 4, 4), np.float32), np.eye(4))
    files.images.pop("case_4_0000")
    tables = make_tables({f"case_{k}": (0.5, 0.6) for k in range(1, 7)})
    choices = [Choice("worst", f"case_{k}", "2") for k in range(1, 7)]
    found = find_pictures(tables, choices, files, num_viewer_cases=3)
    assert [picture.title[:6] for picture in found.montages] == ["case_2", "case_3", "case_4", "case_5"]
    assert [case.image is None for case in found.viewer_cases] == [True, True, True]
    notes = "\n".join(found.notes)
    for part in (
        "case_1 is not shown", "case_2 is shown without its image", "a difference in shape",
        "case_4 is shown without its image: none was found", "case_6 is not shown: FileNotFoundError",
    ):  # fmt: skip
        assert part in notes, part
    assert len(found.notes) == 5
    none = find_pictures(tables, choices[4:5], CohortFiles(files.references, files.predictions), num_viewer_cases=0)
    assert (len(none.montages), none.viewer_cases, none.notes) == (1, [], [])


def test_window_of_ct_and_of_anything_else():
    ct, mri = np.array([-1000, -160, 40, 240, 900], np.int16), np.linspace(0, 1000, 1001)
    assert examples._choose_window(ct, None) == ((-160, 240), "soft-tissue window -160 to 240 HU")
    window, words = examples._choose_window(mri, None)
    assert window == pytest.approx((10, 990))
    assert words == "window 10 to 990, 1st to 99th percentile"
    assert examples._choose_window(mri, (0, 500)) == ((0, 500), "window 0 to 500")
    assert examples._apply_window(ct, (-160, 240)).tolist() == [0, 0, 0.5, 1, 1]
    assert examples._apply_window(np.array([np.nan, np.inf, -np.inf, 2.0]), (1, 3)).tolist() == [0, 1, 0, 0.5]
    assert examples._apply_window(np.full(4, 7, np.int16), (7, 7)).max() <= 1
    assert examples._choose_window(np.full(4, np.nan), None)[0] == (0, 1)


def test_images_of_either_name(tmp_path):
    for name in ("a.nii.gz", "b_0000.nii.gz", "b_0001.nii.gz"):
        (tmp_path / name).write_bytes(b"")
    files = list_volumes(tmp_path)
    assert [path and path.name for path in (find_image(files, name) for name in "abc")] == [
        "a.nii.gz", "b_0000.nii.gz", None
    ]  # fmt: skip


def test_few_colours_stay_true():
    """Greys keep no tint, and the colours of small areas are kept: a key must show what the picture shows."""
    noise = np.random.default_rng(0).integers(0, 256, (200, 200))
    array = np.repeat(noise[..., None], 3, axis=2).astype(np.uint8)
    array[:60, :60] = noise[:60, :60, None] // 2 + np.array([0, 57, 89])  # an overlay of many shades
    swatches = [(0, 158, 115), (230, 159, 0), (86, 180, 233), (213, 94, 0), (240, 228, 66)]
    for place, colour in enumerate(swatches):
        array[-4:, 4 * place : 4 * place + 3] = colour
    reduced = np.asarray(montage._reduce_colours(Image.fromarray(array)).convert("RGB")).astype(int)
    grey = np.ptp(array.astype(int), axis=2) == 0
    assert (np.ptp(reduced[grey], axis=1) == 0).all()
    assert np.abs(reduced - array)[grey].max() <= 2
    for place, colour in enumerate(swatches):
        assert np.abs(reduced[-2, 4 * place + 1] - colour).max() <= 6, colour
