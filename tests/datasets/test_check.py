"""`data check`: damaged, missing and surplus files are named."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import trees
from grown import problems
from rankseg_rma.datasets import check as data
from rankseg_rma.datasets import list_cases, load_card, part_cases
from rankseg_rma.datasets.check import check_dataset
from rankseg_rma.files.volumes import read_volume, write_volume


def test_damaged_volumes_are_named(copied):
    root = copied("kits19")
    case = {number: root / "data" / f"case_{number:05d}" for number in range(6)}
    image = case[0] / "imaging.nii.gz"
    image.write_bytes(image.read_bytes()[: image.stat().st_size // 2])
    (case[1] / "segmentation.nii.gz").unlink()
    (case[2] / "imaging.nii.gz").unlink()
    label = read_volume(case[3] / "segmentation.nii.gz")
    write_volume(case[3] / "segmentation.nii.gz", label.array.swapaxes(0, 2), label.affine)
    label = read_volume(case[4] / "segmentation.nii.gz")
    write_volume(case[4] / "segmentation.nii.gz", label.array * 3, label.affine)
    volume = read_volume(case[5] / "imaging.nii.gz")
    volume.array[2, 3, 4] = np.nan
    write_volume(case[5] / "imaging.nii.gz", volume.array, volume.affine)
    found = problems(check_dataset("kits19", root))
    assert found["case_00000"][0] == "imaging.nii.gz" and "must be a readable volume" in found["case_00000"][1]
    assert found["case_00001"][1].endswith("(image without label)")
    assert found["case_00002"][1].endswith("(label without image)")
    assert found["case_00003"][1] == "image and label differ in shape (8, 20, 24) and (24, 20, 8)"
    assert found["case_00004"] == ("segmentation.nii.gz", "labels outside 0 to 2: 3, 6")
    assert found["case_00005"] == ("imaging.nii.gz", "the image has NaN or infinite voxels: 1 of 3840")
    assert [*problems(check_dataset("kits19", root, labels_only=True))] == ["case_00001", "case_00004"]


def test_a_late_case_with_a_label_is_a_case(copied):
    root = copied("kits19")
    shutil.copytree(root / "data" / "case_00000", root / "data" / "case_00299")
    assert check_dataset("kits19", root).num_cases == 7


def test_volumes_without_geometry_are_noted(copied):
    """LiTS volume-28 to volume-47 carry the unit matrix."""
    root = copied("lits")
    for word in ("volume", "segmentation"):
        path = next(root.rglob(f"{word}-3.nii"))
        write_volume(path, read_volume(path).array, np.eye(4))
    result = check_dataset("lits", root)
    assert result.faults == []
    assert [note for note in result.notes if "1 cases with an affine of 1 mm" in note and "(volume-3)" in note]


def test_damaged_images_are_named(copied):
    root = copied("pascal_voc")
    masks, images = root / "SegmentationClass", root / "JPEGImages"
    first, second, third, fourth, fifth, sixth = trees.VOC_TRAIN
    with Image.open(masks / f"{first}.png") as mask:
        grey = mask.convert("L")
    grey.save(masks / f"{first}.png")
    (masks / f"{second}.png").write_bytes((masks / f"{second}.png").read_bytes()[:-60])
    (masks / f"{third}.png").unlink()
    (images / f"{fourth}.jpg").unlink()
    with Image.open(images / f"{fifth}.jpg") as image:
        image.resize((30, 30)).save(images / f"{fifth}.jpg")
    (images / f"{sixth}.jpg").write_bytes((images / f"{sixth}.jpg").read_bytes()[:900])
    result = check_dataset("pascal_voc", root)
    found = problems(result)
    assert found[first][0] == f"{first}.png" and "a palette image was read as luminance" in found[first][1]
    assert "must be a readable image" in found[second][1]
    assert found[third][1].endswith("(image without label)")
    assert found[fourth][1].endswith("(label without image)")
    assert "image and label differ in size: (30, 30) and (64, 48)" in found[fifth][1]
    assert found[sixth][0] == f"{sixth}.jpg" and "must be a readable image" in found[sixth][1]
    assert len(result.faults) == 6 and result.num_cases == 9
    assert [*problems(check_dataset("pascal_voc", root, labels_only=True))] == [first, second, third]


@pytest.mark.parametrize("name", ["cityscapes", "ade20k", "camvid"])
def test_unpaired_images_are_named(copied, name):
    root = copied(name)
    for part in ("train.txt", "val.txt", "test.txt"):
        (root / part).unlink(missing_ok=True)
    card, cases = list_cases(load_card(name), root)
    training = part_cases(card, cases, 0)["training"]
    training[0].label.unlink()
    training[1].image.unlink()
    result = check_dataset(name, root)
    found = problems(result)
    assert result.num_cases == len(cases)
    assert set(found) == {training[0].case_id, training[1].case_id}
    assert found[training[0].case_id][1].endswith("(image without label)")
    assert found[training[1].case_id][1].endswith("(label without image)")


def test_a_label_of_another_set_and_an_empty_one(copied):
    root = copied("ade20k")
    path = root / "annotations" / "validation" / "ADE_val_00000001.png"
    Image.fromarray(np.full(trees.SHAPE, 151, np.uint8)).save(path)
    path = path.with_name("ADE_val_00000003.png")
    Image.fromarray(np.zeros(trees.SHAPE, np.uint8)).save(path)
    result = check_dataset("ade20k", root)
    assert "151 (3072 pixels)" in problems(result)["ADE_val_00000001"][1] and len(result.faults) == 1
    assert "1 cases whose label is void throughout (ADE_val_00000003)" in result.notes


def test_more_cases_than_there_should_be(copied, monkeypatch):
    root = copied("camvid")
    card = replace(load_card("camvid"), parts={"training": 6, "validation": 2, "test": 0})
    monkeypatch.setattr(data, "load_card", lambda name: card)
    notes = check_dataset("camvid", root).notes
    assert notes == [
        "training images: 6 of 6",
        "validation images: 3 of 2, more than there should be",
        "test images: 3",
    ]


def test_labels_are_counted_in_every_chunk(monkeypatch):
    monkeypatch.setattr(data, "_CHUNK", 7)
    for place in range(60):
        label = np.zeros((3, 4, 5), np.uint16, order="F" if place % 2 else "C")
        label.flat[place] = 65535
        assert data._values_of(label) == [0, 65535]


def test_processes_find_the_same(copied, monkeypatch):
    root = copied("kits19")
    (root / "data" / "case_00003" / "segmentation.nii.gz").unlink()
    alone = check_dataset("kits19", root)
    monkeypatch.setattr(data, "choose_workers", lambda *numbers: 2)
    assert check_dataset("kits19", root) == alone
    assert len(alone.faults) == 1


def test_real_kits23_without_images_says_so(real_data, tmp_path):
    for name in ("case_00502", "case_00030"):
        (tmp_path / name).mkdir()
        shutil.copy(real_data / "kits23_labels" / name / "segmentation.nii.gz", tmp_path / name)
    result = check_dataset("kits23", tmp_path)
    assert [fault["problem"].split("(")[-1] for fault in result.faults] == ["label without image)"] * 2
