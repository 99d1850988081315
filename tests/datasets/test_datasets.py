"""Cards, readers, splits and the phantom."""

import json

import numpy as np
import pytest
import yaml

from rankseg_rma.checks import DatasetError
from rankseg_rma.datasets import list_cards, list_cases, load_card, split_cases
from rankseg_rma.datasets.check import check_dataset
from rankseg_rma.datasets.phantom import make_phantom, render_case
from rankseg_rma.files.volumes import list_volumes, read_volume, write_volume


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    root = tmp_path_factory.mktemp("phantom")
    make_phantom(root, 5, seed=3)
    return root


def test_every_card_loads():
    assert {"phantom", "msd", "msd_hippocampus"} <= set(list_cards())
    for name in list_cards():
        assert load_card(name).name == name
    card = load_card("msd_hippocampus")
    assert card.labels == {1: "anterior", 2: "posterior"}
    with pytest.raises(AttributeError):
        card.name = "other"


SPLITS = {"group": "case", "test_fraction": 0.2, "folds": 5, "seed": 0}
SLICES = {"labels": {1: [2]}, "names": ["tumour"], "keep": "labelled", "size": None, "crop_size": [48, 48]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": {1: "a", 3: "b"}}, "labels must be a mapping from 1, 2, ... to names"),
        ({"spacing_mm": [1, -1, 1]}, "spacing_mm must be"),
        ({"roi_size": [64, 64]}, "roi_size must be"),
        ({"layout": "bids"}, "layout must be one of msd"),
        ({"intensity": {"kind": "window", "low": 5, "high": 1}}, "low < high"),
        ({"splits": {"group": "case", "folds": 5, "seed": 0}}, "missing test_fraction"),
        ({"colour": "red"}, "unknown colour"),
        ({"name": "other"}, "name must be the file's name"),
        ({"kind": "video"}, "kind must be 'volume' or 'image'"),
        ({"foreground_crop": "yes"}, "foreground_crop must be true or false"),
        ({"num_cases": 0}, "num_cases must be a whole number"),
        ({"regions": {"mass": [2, 3]}}, "regions must be names with lists of the card's labels"),
        ({"fold_slices": [1, 2]}, "fold_slices must be a whole number for each fold"),
        ({"splits": {**SPLITS, "order": "random"}}, "splits.order must be one of shuffled, number"),
        ({"splits": {**SPLITS, "order": "number"}}, "without a test_fraction where order is number"),
        ({"splits": {**SPLITS, "case_ids": ["a"]}}, "unknown case_ids"),
        ({"slices": {"labels": {1: [2]}}}, "missing crop_size, keep, names, size"),
        ({"slices": {**SLICES, "labels": {1: [3]}}}, "slices.labels must be a mapping from 1, 2, ... to lists"),
        ({"slices": {**SLICES, "labels": {1: [1, 2], 2: [2]}}}, "each label once"),
        ({"slices": {**SLICES, "labels": {2: [2]}}}, "slices.labels must be a mapping from 1"),
        ({"slices": {**SLICES, "names": ["a", "b"]}}, "slices.names must be one name for each class"),
        ({"slices": {**SLICES, "keep": "some"}}, "slices.keep must be one of labelled, all"),
        ({"slices": {**SLICES, "size": [5]}}, "slices.size must be null or height and width"),
        ({"slices": {**SLICES, "crop_size": None}}, "slices.crop_size must be height and width"),
    ],
)
def test_bad_cards_are_named(tmp_path, change, message):
    content = yaml.safe_load(list_cards()["phantom"].read_text())
    path = tmp_path / "phantom.yaml"
    path.write_text(yaml.safe_dump({**content, **change}))
    with pytest.raises(DatasetError, match=message) as error:
        load_card(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": {0: "a", 1: "a"}}, "classes must be 1 to 255 stored values with names, each name once"),
        ({"classes": {value: str(value) for value in range(256)}}, "classes must be 1 to 255"),
        ({"void": [3]}, "void must be a list of stored values that are no classes"),
        ({"void": 255}, "void must be a list"),
        ({"colours": {0: [1, 2, 300]}}, "colours must be null or"),
        ({"colours": {0: [1, 2, 3], 1: [1, 2, 3]}}, "one own colour"),
        ({"colours": {77: [1, 2, 3]}}, "colours must be null or"),
        ({"crop_size": [64]}, "crop_size must be height and width"),
        ({"std": [1, 0, 1]}, "std must be three numbers above 0"),
        ({"mean": [1, 2]}, "mean must be three numbers"),
        ({"parts": {"trainaug": 3}}, "parts must be numbers of images in training, validation, test"),
        ({"prepared_parts": {"training": -1}}, "prepared_parts must be null or as parts"),
        ({"layout": "msd"}, "layout must be one of voc, cityscapes, ade20k, camvid"),
        ({"labels": {1: "a"}}, "unknown labels"),
    ],
)
def test_bad_cards_of_images_are_named(tmp_path, change, message):
    content = yaml.safe_load(list_cards()["camvid"].read_text())
    path = tmp_path / "camvid.yaml"
    path.write_text(yaml.safe_dump({**content, **change}))
    with pytest.raises(DatasetError, match=message) as error:
        load_card(path)
    assert str(path) in str(error.value)


def test_facts_of_the_cards():
    """The published numbers, and stored values in the order of their class index."""
    lits, city = load_card("lits"), load_card("cityscapes")
    assert (lits.num_cases, lits.num_slices, sum(lits.fold_slices)) == (131, 7190, 7190)
    assert (lits.slices.size, lits.slices.crop_size, lits.splits.order) == ((512, 512), (384, 384), "number")
    assert [load_card(name).num_cases for name in ("kits19", "kits23")] == [210, 489]
    assert {load_card(name).intensity.low for name in ("kits19", "kits23")} == {-200}
    numbers = {name: load_card(name).num_classes for name in ("pascal_voc", "cityscapes", "ade20k", "camvid")}
    assert numbers == {"pascal_voc": 21, "cityscapes": 19, "ade20k": 150, "camvid": 11}
    assert list(city.classes) == sorted(city.classes) and city.class_names[:2] == ("road", "sidewalk")
    assert set(city.classes) | set(city.void) == {*range(35), 255}
    ade = load_card("ade20k").class_names
    assert [ade[place] for place in (0, 12, 20, 149)] == ["wall", "person", "car", "flag"]
    assert load_card("pascal_voc").prepared_parts == {"training": 10582}
    assert (lits.kind, city.kind) == ("volume", "image")


def test_unknown_name_is_guessed():
    with pytest.raises(DatasetError, match="Did you mean 'phantom'"):
        load_card("phantm")


def test_phantom_is_seeded_and_has_what_it_promises(phantom):
    card, cases = list_cases(load_card("phantom"), phantom)
    assert len(cases) == 5
    assert card.labels == {1: "liver", 2: "tumour"}
    affines, tumours = [], []
    for case in cases:
        image, label = read_volume(case.image), read_volume(case.label)
        assert image.array.shape == label.array.shape
        assert (label.array == 1).sum() > 1000
        assert 60 < image.array[label.array == 1].mean() < 140
        affines.append(image.affine)
        tumours.append(int((label.array == 2).sum()))
    assert tumours[3] == 0
    assert min(tumours[:3]) > 0
    oblique = [np.count_nonzero(np.abs(affine[:3, :3]) > 1e-6) > 3 for affine in affines]
    assert oblique == [False, True, False, False, False]
    again, _, _ = render_case(np.random.default_rng([3, 2]), 2)
    np.testing.assert_array_equal(read_volume(cases[2].image).array, again)


def test_splits_keep_subjects_together(real_data):
    card, cases = list_cases(load_card("msd_hippocampus"), real_data / "msd_hippocampus")
    ids = [case.case_id for case in cases]
    tests = set()
    for fold in range(card.splits.folds):
        parts = split_cases(card, ids[::-1], fold)
        assert sorted(name for names in parts.values() for name in names) == ids
        subjects = {part: {(int(case[-3:]) + 1) // 2 for case in names} for part, names in parts.items()}
        assert not subjects["training"] & subjects["validation"]
        assert not subjects["training"] & subjects["test"]
        assert not subjects["validation"] & subjects["test"]
        tests.add(tuple(parts["test"]))
    assert len(tests) == 1
    assert len(ids) == 194


def test_damage_is_found_and_named(phantom, tmp_path):
    import shutil

    root = tmp_path / "damaged"
    shutil.copytree(phantom, root)
    images, labels = list_volumes(root / "imagesTr"), list_volumes(root / "labelsTr")
    images["phantom_000"].write_bytes(images["phantom_000"].read_bytes()[:5000])
    labels["phantom_001"].unlink()
    label = read_volume(labels["phantom_003"])
    write_volume(labels["phantom_003"], np.where(label.array == 1, np.nan, 0.0), label.affine)
    label = read_volume(labels["phantom_002"])
    write_volume(labels["phantom_002"], label.array + 5, label.affine)
    label = read_volume(labels["phantom_004"])
    write_volume(labels["phantom_004"], label.array, label.affine + np.eye(4, k=3) * 30)
    found = {fault["case_id"]: fault["problem"] for fault in check_dataset("phantom", root).faults}
    assert "must be a readable volume" in found["phantom_000"]
    assert "must be an existing file" in found["phantom_001"]
    assert "labels outside 0 to 2: 5, 6, 7" in found["phantom_002"]
    assert "30 mm apart" in found["phantom_004"]
    assert "whole numbers" in found["phantom_003"]
    assert len(found) == 5


def test_bad_folders_are_named(tmp_path, phantom):
    card = load_card("msd")
    with pytest.raises(FileNotFoundError, match="See DATA.md"):
        list_cases(card, tmp_path / "none")
    with pytest.raises(FileNotFoundError, match=r"holds dataset\.json"):
        list_cases(card, tmp_path)
    (tmp_path / "dataset.json").write_text("{")
    with pytest.raises(DatasetError, match=r"dataset\.json must be JSON with labels"):
        list_cases(card, tmp_path)
    content = json.loads((phantom / "dataset.json").read_text())
    content["labels"] = {"0": "background", "3": "c", "1": "a"}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    with pytest.raises(DatasetError, match="without a gap"):
        list_cases(card, tmp_path)
    content["labels"] = {"0": "background", "2": "tumour", "1": "liver"}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    assert list(list_cases(card, tmp_path)[0].labels.values()) == ["liver", "tumour"]
    content["training"] = [{"image": "../../etc/passwd", "label": "x.nii.gz"}]
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    with pytest.raises(DatasetError, match="paths inside its folder"):
        list_cases(card, tmp_path)
    with pytest.raises(DatasetError, match="as on the card"):
        list_cases(load_card("msd_hippocampus"), phantom)
    with pytest.raises(ValueError, match="fold must be 0 to 4"):
        split_cases(card, ["a"] * 9, 5)
    with pytest.raises(ValueError, match="large enough for 5 folds"):
        split_cases(card, ["a", "b"], 0)
