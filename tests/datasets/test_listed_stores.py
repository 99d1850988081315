"""Splits by case number, and slice stores as they are listed."""

import json
from dataclasses import replace

import numpy as np
import pytest

from grown import problems
from rankseg_rma.checks import DatasetError
from rankseg_rma.datasets import check as data
from rankseg_rma.datasets import list_cases, load_card, part_cases, slices, split_cases
from rankseg_rma.datasets.check import check_dataset


def test_splits_by_number_are_contiguous_blocks():
    card = load_card("lits")
    ids = [f"volume-{number}" for number in range(131)]
    sizes, seen = [], []
    for fold in range(5):
        parts = split_cases(card, ids[::-1], fold)
        numbers = sorted(int(case_id.split("-")[1]) for case_id in parts["validation"])
        assert numbers == [*range(numbers[0], numbers[-1] + 1)]
        assert not set(parts["training"]) & set(parts["validation"]) and parts["test"] == []
        assert len(parts["training"]) + len(numbers) == 131
        sizes.append(len(numbers))
        seen += numbers
    assert sizes == [26, 26, 26, 26, 27] and seen == [*range(131)]
    ids = [f"case_{number:05d}" for number in range(210)]
    assert [len(split_cases(load_card("kits19"), ids, fold)["validation"]) for fold in range(5)] == [42] * 5
    with pytest.raises(DatasetError, match="an id that ends in its number"):
        split_cases(card, ["a", "b", "c", "d", "e"], 0)


def test_cases_without_slices_count_in_the_blocks():
    """A slice store lists cases with tumour only; its folds are those of all cases."""
    card = load_card("lits")
    every = tuple(f"volume-{number}" for number in range(10))
    card = replace(card, splits=replace(card.splits, case_ids=every))
    parts = split_cases(card, ["volume-3", "volume-4", "volume-9"], 1)
    assert parts == {"training": ["volume-4", "volume-9"], "validation": ["volume-3"], "test": []}


@pytest.fixture
def store(grown, tmp_path):
    """A slice store of the LiTS tree."""
    card, cases = list_cases(load_card("lits"), grown["lits"])
    tasks = [slices.SliceTask(case, grown["lits"], tmp_path, card.name, card.slices, 2) for case in cases]
    slices.write_store(tmp_path, card, [slices.make_slices(task) for task in tasks], {})
    return tmp_path


def test_a_store_is_listed_by_slice_and_split_by_case(store):
    card, cases = list_cases(load_card("lits"), store)
    assert len(cases) == 15 and len({case.case_id for case in cases}) == 5
    assert cases[0].id == "volume-0_0002" and cases[0].label == cases[0].image
    sizes = []
    for fold in range(5):
        parts = part_cases(card, cases, fold)
        assert {case.case_id for case in parts["validation"]} == {f"volume-{fold}"}
        assert len(parts["training"]) + len(parts["validation"]) == 15 and parts["test"] == []
        sizes.append(len(parts["validation"]))
    assert sizes == [3] * 5
    result = check_dataset("lits", store)
    assert (result.num_cases, result.faults, result.notes) == (15, [], ["slices: 15 of 7190"])


def test_a_complete_store_is_compared_by_fold(store, monkeypatch):
    card = replace(load_card("lits"), num_cases=6, num_slices=15, fold_slices=(3, 3, 3, 3, 4))
    monkeypatch.setattr(data, "load_card", lambda name: card)
    notes = check_dataset("lits", store).notes
    assert notes == [
        "slices: 15 of 15",
        *(f"slices of fold {fold}: 3 of 3" for fold in range(4)),
        "slices of fold 4: 3 of 4",
    ]


def test_damaged_slices_are_named(store):
    path = store / "slices" / "volume-1"
    (path / "0003.npz").unlink()
    (path / "0002.npz").write_bytes((path / "0002.npz").read_bytes()[:500])
    image, label = np.zeros((512, 512), np.float32), np.zeros((512, 512), np.uint8)
    image[3, 4], label[5, 6] = np.nan, 2
    np.savez(path / "0004.npz", image=image, label=label)
    result = check_dataset("lits", store)
    found = problems(result)
    assert result.num_cases == 15 and len(result.faults) == 4
    assert "must be a slice with image and label" in found["volume-1_0002"][1]
    assert found["volume-1_0003"][1].endswith("(slice of the store's list without a file)")
    assert found["volume-1_0004"] == ("0004.npz", f"the image has NaN or infinite pixels: 1 of {image.size}")
    assert "labels outside 0 to 1: 2" in [fault["problem"] for fault in result.faults]


def test_a_store_of_another_data_set_or_rule(store, monkeypatch):
    with pytest.raises(DatasetError, match="root must be made of kits19; got a slice store of lits"):
        list_cases(load_card("kits19"), store)
    with pytest.raises(DatasetError, match="made of camvid"):
        list_cases(load_card("camvid"), store)
    card = load_card("lits")
    card = replace(card, slices=replace(card.slices, names=("lesion",)))
    with pytest.raises(DatasetError, match="card's classes, lesion; got tumour .*run `data prepare` again"):
        list_cases(card, store)
    content = json.loads((store / "store.json").read_text())
    content["slices"][0]["file"] = "../../etc/passwd"
    (store / "store.json").write_text(json.dumps(content))
    with pytest.raises(DatasetError, match="paths inside its folder"):
        list_cases(load_card("lits"), store)
