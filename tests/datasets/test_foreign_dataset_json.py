"""dataset.json as nnU-Net and people write it: read, kept inside its folder, and its channels counted."""

import json
import shutil
import unicodedata

import numpy as np
import pytest

from rankseg_rma.checks import DatasetError
from rankseg_rma.datasets import list_cases, load_card, read_part
from rankseg_rma.datasets.case import inside
from rankseg_rma.datasets.check import check_dataset
from rankseg_rma.files.volumes import write_volume

V2 = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1, "tumour": 2}, "numTraining": 2,
      "file_ending": ".nii.gz"}  # fmt: skip
V1 = {"modality": {"0": "CT"}, "labels": {"0": "background", "1": "liver", "2": "tumour"}, "numTraining": 2}


def write_pairs(root, images=("a_0000", "b_0000"), labels=("a", "b"), channels=None):
    shape = (4, 5, 6) if channels is None else (channels, 4, 5, 6)
    for name in images:
        write_volume(root / "imagesTr" / f"{name}.nii.gz", np.ones(shape, np.float32), np.diag([2.0, 2, 2, 1]))
    for name in labels:
        write_volume(root / "labelsTr" / f"{name}.nii.gz", np.full((4, 5, 6), 2, np.uint8), np.diag([2.0, 2, 2, 1]))


def write_json(root, content, start=""):
    root.mkdir(exist_ok=True, parents=True)
    (root / "dataset.json").write_text(start + json.dumps(content), encoding="utf-8")
    return root


def pair(image, label="labelsTr/{}.nii.gz", names=("a", "b")):
    return [{"image": image.format(name), "label": label.format(name)} for name in names]


def list_msd(root):
    return list_cases(load_card("msd"), root)


LAYOUTS = {
    "nnU-Net 2": V2,
    "nnU-Net 2, named": {**V2, "dataset": {
        name: {"images": [f"imagesTr/{name}_0000.nii.gz"], "label": f"labelsTr/{name}.nii.gz"} for name in "ab"
    }},
    "nnU-Net 2, training": {**V2, "training": pair("./imagesTr/{}.nii.gz")},
    "nnU-Net 2, empty training": {**V2, "training": []},
    "nnU-Net 1": {**V1, "training": pair("./imagesTr/{}.nii.gz", "./labelsTr/{}.nii.gz")},
    "with the number": {**V1, "training": pair("./imagesTr/{}_0000.nii.gz")},
    "absolute": {**V1, "training": pair("ROOT/imagesTr/{}_0000.nii.gz", "ROOT/labelsTr/{}.nii.gz")},
    "Windows": {**V1, "training": pair(".\\imagesTr\\{}.nii.gz", "labelsTr\\{}.nii.gz")},
    "list of channels": {**V1, "modality": ["CT"], "training": pair("imagesTr/{}.nii.gz")},
}  # fmt: skip


@pytest.mark.parametrize("start", ["", "\ufeff"])
@pytest.mark.parametrize("layout", [*LAYOUTS])
def test_layouts_of_others(tmp_path, layout, start):
    write_pairs(tmp_path)
    content = json.loads(json.dumps(LAYOUTS[layout]).replace("ROOT", str(tmp_path)))
    card, cases = list_msd(write_json(tmp_path, content, start))
    assert [case.case_id for case in cases] == ["a", "b"]
    assert [case.image for case in cases] == [tmp_path / "imagesTr" / f"{name}_0000.nii.gz" for name in "ab"]
    assert [case.label for case in cases] == [tmp_path / "labelsTr" / f"{name}.nii.gz" for name in "ab"]
    assert (card.labels, card.modality, card.num_channels) == ({1: "liver", 2: "tumour"}, "CT", 1)
    assert check_dataset("msd", tmp_path).faults == []


def test_numbers_that_are_part_of_the_id_stay(tmp_path):
    names = ("case_0000", "case_0001")
    write_pairs(tmp_path, names, names)
    for content in (V2, {**V1, "training": pair("imagesTr/{}.nii.gz", names=names)}):
        assert [case.case_id for case in list_msd(write_json(tmp_path, content))[1]] == [*names]


def test_regions_are_unions_of_labels(tmp_path):
    write_pairs(tmp_path)
    labels = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": [3]}
    card, _ = list_msd(write_json(tmp_path, {**V2, "labels": labels, "regions_class_order": [1, 2, 3]}))
    assert card.labels == {1: "label 1", 2: "label 2", 3: "enhancing"}
    assert card.regions == {"whole": (1, 2, 3), "core": (2, 3)}


def test_a_missing_partner_is_named(tmp_path):
    write_pairs(tmp_path, labels=("a", "c"))
    faults = check_dataset("msd", write_json(tmp_path, V2)).faults
    assert [(fault["case_id"], fault["file"]) for fault in faults] == [("b", "b.nii.gz"), ("c", "c_0000.nii.gz")]


@pytest.mark.parametrize("stored", ["NFC", "NFD"])
def test_other_spellings_are_found(tmp_path, stored):
    on_disk, listed = (unicodedata.normalize(form, "Müller") for form in (stored, "NFC" if stored == "NFD" else "NFD"))
    write_pairs(tmp_path, [f"{on_disk}_0000"], [on_disk])
    _, cases = list_msd(write_json(tmp_path, {**V1, "training": pair("imagesTr/{}.nii.gz", names=[listed])}))
    assert cases[0].case_id == "Müller" and cases[0].image.is_file() and cases[0].label.is_file()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": {"background": 0, "liver": 2}}, "without a gap"),
        ({"labels": {"background": 0, "liver": 1, "ignore": 2}}, "'ignore', which is not known"),
        ({"labels": {"background": 0, "liver": True}}, "label 'liver' with True"),
        ({"labels": {"background": 0, "liver": 1, "tumour": 1}}, "a value with two names"),
        ({"labels": None}, "JSON with labels"),
        ({"channel_names": {}}, "no channel"),
        ({"file_ending": ".png"}, "file_ending must be one of"),
        ({"dataset": {"a": {"images": ["a_0000.nii.gz", "a_0001.nii.gz"], "label": "a.nii.gz"}}}, "a_0000.* to a_0001"),
        ({"training": [["a", "b"]]}, "JSON with labels"),
    ],
)
def test_what_is_refused(tmp_path, change, message):
    write_pairs(tmp_path)
    with pytest.raises(DatasetError, match=message):
        list_msd(write_json(tmp_path, {**V2, **change}))


@pytest.mark.parametrize("text", ["{", "null", "[]", ""])
def test_broken_files_are_named(tmp_path, text):
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(DatasetError, match="JSON with labels") as caught:
        list_msd(tmp_path)
    assert str(tmp_path / "dataset.json") in str(caught.value)


@pytest.mark.parametrize("content", [V2, {**V1, "training": pair("imagesTr/{}.nii.gz")}])
def test_channels_in_files_of_their_own_are_named(tmp_path, content):
    write_pairs(tmp_path, ("a_0000", "a_0001", "b_0000", "b_0001"))
    with pytest.raises(DatasetError, match=r"one file with all channels; got .*a_0000\.nii\.gz to a_0001\.nii\.gz"):
        list_msd(write_json(tmp_path, content))


@pytest.mark.parametrize(("stored", "named"), [(2, {"0": "CT"}), (None, {"0": "T1", "1": "T2, fat"}), (2, {"0": "T1"})])
def test_wrong_numbers_of_channels_are_named(tmp_path, stored, named):
    write_pairs(tmp_path, channels=stored)
    faults = check_dataset("msd", write_json(tmp_path, {**V2, "channel_names": named})).faults
    expected = f"the image has {stored or 1} channels; the data set has {len(named)} "
    assert [fault["file"] for fault in faults] == ["a_0000.nii.gz", "b_0000.nii.gz"]
    assert all(fault["problem"].startswith(expected) for fault in faults)


def test_channels_that_are_right_are_no_fault(tmp_path):
    write_pairs(tmp_path, channels=2)
    assert check_dataset("msd", write_json(tmp_path, {**V2, "channel_names": {"0": "T1", "1": "T2"}})).faults == []


def test_channels_against_the_card(tmp_path, real_data):
    content = json.loads((real_data / "msd_hippocampus" / "dataset.json").read_text(encoding="utf-8"))
    write_json(tmp_path, {**content, "modality": {"0": "MRI", "1": "CT"}})
    with pytest.raises(DatasetError, match=r"channels must be 1 as on the card \(MRI\); got 2 \(MRI, CT\)"):
        list_cases(load_card("msd_hippocampus"), tmp_path)


@pytest.mark.parametrize(
    "name",
    ["../x", "/etc/passwd", "..\\x", "a\\..\\..\\x", "C:\\data\\x", "C:/data/x", "ROOT/../x", "ROOTx/y", "\\\\s\\x"],
)
def test_paths_outside_are_refused(tmp_path, name):
    root = tmp_path / "root"
    root.mkdir()
    with pytest.raises(DatasetError, match="paths inside its folder"):
        inside(root, name.replace("ROOT", str(root)))


def test_paths_inside_are_found(tmp_path, monkeypatch):
    root, link = tmp_path / "root", tmp_path / "link"
    root.mkdir()
    link.symlink_to(root)
    for name in (f"{root}/a/b", f"{link}/a/b", "a\\b", ".\\a\\..\\a\\b", "a/b"):
        assert inside(link, name) == link / "a" / "b"
    monkeypatch.chdir(tmp_path)
    assert inside(root.relative_to(tmp_path), f"{root}/a/b").resolve() == root / "a" / "b"
    (root / "odd\\name").write_bytes(b"")
    assert inside(root, "odd\\name") == root / "odd\\name"


def test_lists_of_images_with_backslashes_and_a_mark(tmp_path):
    from PIL import Image

    for folder in ("train", "trainannot", "val", "valannot"):
        (tmp_path / folder).mkdir()
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / folder / "a.png")
    for part in ("train", "val"):
        line = f"C:\\SegNet\\CamVid\\{part}\\a.png C:\\SegNet\\CamVid\\{part}annot\\a.png\n"
        (tmp_path / f"{part}.txt").write_text("\ufeff" + line.replace("/val", "/other"), encoding="utf-8")
    shutil.copy(tmp_path / "val" / "a.png", tmp_path / "val" / "b.png")
    text = (tmp_path / "val.txt").read_text(encoding="utf-8").replace("val\\a", "val\\b")
    (tmp_path / "val.txt").write_text(text, encoding="utf-8")
    _, cases = list_cases(load_card("camvid"), tmp_path)
    assert [(case.id, case.image.is_file(), case.label.is_file()) for case in cases] == [
        ("a", True, True),
        ("b", True, True),
    ]


def test_data_lists_name_cases_by_their_labels(tmp_path):
    entries = [{"image": "imagesTr/x_0000.nii.gz", "label": "labelsTr/x.nii.gz"}, {"image": "case_0007.nii.gz"},
               {"case_id": "own_0000", "image": "y_0000.nii.gz", "label": "y.nii.gz"}]  # fmt: skip
    path = tmp_path / "datalist.json"
    path.write_text("\ufeff" + json.dumps({"test": entries}), encoding="utf-8")
    assert [entry["case_id"] for entry in read_part(path, "test")] == ["x", "case_0007", "own_0000"]
