"""`data prepare`: slice stores equal their volumes, on miniature trees with the true names and formats."""

import json
import shutil

import nibabel
import numpy as np
import pytest

import trees
from prepared import SIZE, planes, run, state
from rankseg_rma.datasets import list_cases, load_card, part_cases
from rankseg_rma.datasets.axial import from_axial, resize_image, resize_label, to_axial
from rankseg_rma.datasets.prepare import prepare_dataset
from rankseg_rma.datasets.slices import read_slice, read_store
from rankseg_rma.files.volumes import read_volume, write_volume


def test_lits_store_voxel_for_voxel(tmp_path, small):
    root, out = trees.make_lits(tmp_path / "raw"), tmp_path / "store"
    before = state(root)
    outcome = prepare_dataset(small("lits"), root, out)
    assert not outcome.failed
    assert state(root) == before
    store = read_store(out)
    assert store["dataset"] == "lits"
    assert store["classes"] == ["background", "tumour"]
    assert (store["size"], store["crop_size"]) == ([*SIZE], [16, 16])
    assert store["intensity"] == {"kind": "window", "low": -60, "high": 140}
    assert store["card"]["title"] == load_card("lits").title
    expected = {}
    for number in range(6):
        batch = root / f"Training Batch {1 if number < 2 else 2}"
        image, label = planes(batch / f"volume-{number}.nii"), planes(batch / f"segmentation-{number}.nii")
        kept = [index for index in label if (label[index] == 2).any()]
        for position, index in enumerate(kept):
            tumour = label[index] == 2
            expected[f"volume-{number}", index] = (position, len(label), image[index], tumour)
    assert {(entry["case_id"], entry["slice_index"]) for entry in store["slices"]} == set(expected)
    for entry in store["slices"]:
        position, count, image, tumour = expected[entry["case_id"], entry["slice_index"]]
        assert entry["file"] == f"slices/{entry['case_id']}/{entry['slice_index']:04d}.npz"
        assert (entry["position"], entry["num_slices"], entry["shape"]) == (position, count, [*SIZE])
        assert entry["counts"] == [int((~tumour).sum()), int(tumour.sum())]
        found = read_slice(out / entry["file"])
        assert (found["image"].dtype, found["label"].dtype) == (np.int16, np.uint8)
        np.testing.assert_array_equal(found["image"], image)
        np.testing.assert_array_equal(found["label"], tumour)
    # The case without a tumour has no slice, but counts for the folds.
    assert store["case_ids"] == [f"volume-{number}" for number in range(6)]
    assert store["num_cases"] == 6
    assert "volume-5" not in {entry["case_id"] for entry in store["slices"]}


@pytest.mark.parametrize("year", [19, 23])
def test_kits_axis_size_and_cyst(tmp_path, small, year):
    root, out = trees.make_kits(tmp_path / "raw", year=year), tmp_path / "store"
    outcome = prepare_dataset(small(f"kits{year}"), root, out)
    assert not outcome.failed
    store = read_store(out)
    assert "case_00210" not in store["case_ids"]
    folder = root / ("data" if year == 19 else "dataset")
    seen_cyst, other = 0, "case_00001"
    for case_id in store["case_ids"]:
        entries = [entry for entry in store["slices"] if entry["case_id"] == case_id]
        image = read_volume(folder / case_id / "imaging.nii.gz").array
        label = read_volume(folder / case_id / "segmentation.nii.gz").array
        # Axis 0 of the file is axial, whatever its length; rows are x and columns y, both reversed in the file.
        assert [entry["slice_index"] for entry in entries] == np.flatnonzero((label == 2).any(axis=(1, 2))).tolist()
        for entry in entries:
            found = read_slice(out / entry["file"])
            plane, tumour = image[entry["slice_index"]].T[::-1, ::-1], label[entry["slice_index"]].T[::-1, ::-1] == 2
            assert entry["shape"] == [*plane.shape]
            assert found["image"].shape == SIZE
            assert set(np.unique(found["label"])) <= {0, 1}
            if case_id != other:
                np.testing.assert_array_equal(found["image"], plane)
                np.testing.assert_array_equal(found["label"], tumour)
                assert found["image"].dtype == np.int16
                cyst = label[entry["slice_index"]].T[::-1, ::-1] == 3
                seen_cyst += cyst.sum()
                assert not found["label"][cyst].any()
            else:
                assert plane.shape == (28, 24)
                assert found["image"].dtype == np.float32
                np.testing.assert_allclose(found["image"], linear(plane, SIZE), atol=1e-3)
                np.testing.assert_array_equal(found["label"], nearest(tumour, SIZE))
    assert (seen_cyst > 0) == (year == 23)
    resized = sum(entry["case_id"] == other for entry in store["slices"])
    assert f"{resized} slices were resized to 24 x 20" in outcome.notes


def linear(plane, size):
    """Bilinear resize with pixel centres, one pixel at a time."""
    result = np.zeros(size)
    for row in range(size[0]):
        for column in range(size[1]):
            y = min(max((row + 0.5) * plane.shape[0] / size[0] - 0.5, 0), plane.shape[0] - 1)
            x = min(max((column + 0.5) * plane.shape[1] / size[1] - 0.5, 0), plane.shape[1] - 1)
            top, left = int(y), int(x)
            bottom, right = min(top + 1, plane.shape[0] - 1), min(left + 1, plane.shape[1] - 1)
            upper = plane[top, left] * (1 - x + left) + plane[top, right] * (x - left)
            lower = plane[bottom, left] * (1 - x + left) + plane[bottom, right] * (x - left)
            result[row, column] = upper * (1 - y + top) + lower * (y - top)
    return result


def nearest(plane, size):
    rows = [int((row + 0.5) * plane.shape[0] / size[0]) for row in range(size[0])]
    columns = [int((column + 0.5) * plane.shape[1] / size[1]) for column in range(size[1])]
    return plane[rows][:, columns]


@pytest.mark.parametrize(("old", "new"), [((7, 9), (14, 5)), ((12, 10), (8, 10)), ((3, 3), (9, 2))])
def test_resizing_aligns_edges(rng, old, new):
    plane, classes = rng.normal(size=old).astype(np.float32), rng.integers(0, 3, old, np.uint8)
    np.testing.assert_allclose(resize_image(plane, new), linear(plane, new), atol=1e-5)
    np.testing.assert_array_equal(resize_label(classes, new), nearest(classes, new))
    assert resize_image(plane, None) is plane
    assert resize_label(classes, old) is classes


@pytest.mark.parametrize("axes", ["RAS", "LPS", "IPL", "SRA", "ALI", "PIR"])
def test_axial_stack_has_one_orientation(rng, axes):
    import torch

    shape = (5, 6, 7)
    wanted = nibabel.orientations.axcodes2ornt(tuple(axes))
    ras = nibabel.Nifti1Image(rng.normal(size=shape), np.diag([1.0, 2, 3, 1]))
    stored = ras.as_reoriented(nibabel.orientations.ornt_transform(nibabel.io_orientation(ras.affine), wanted))
    assert "".join(nibabel.aff2axcodes(stored.affine)) == axes
    stack = to_axial(stored.get_fdata(), stored.affine)
    expected = np.moveaxis(ras.get_fdata(), 2, 0)
    np.testing.assert_array_equal(stack, expected[::-1] if "I" in axes else expected)
    probs = np.stack([stack, -stack])
    for given in (probs, torch.tensor(probs)):
        back = from_axial(given, stored.affine)
        assert type(back) is type(given)
        np.testing.assert_array_equal(np.asarray(back), [stored.get_fdata(), -stored.get_fdata()])


def test_folds_are_blocks_of_case_numbers(tmp_path, small):
    root, out = trees.make_lits(tmp_path / "raw", cases=12), tmp_path / "store"
    name = small("lits", num_cases=12, num_slices=55, fold_slices=[6, 8, 10, 12, 9])
    outcome = prepare_dataset(name, root, out)
    card, cases = list_cases(load_card(name), out)
    sizes, numbers = [], []
    for fold in range(5):
        validation = part_cases(card, cases, fold)["validation"]
        sizes.append(len(validation))
        numbers.append(sorted({int(case.case_id.split("-")[1]) for case in validation}))
    assert numbers == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9, 10]]
    notes = " | ".join(outcome.notes)
    assert f"slices in validation, by fold: {', '.join(map(str, sizes))}" in notes
    assert f"warning: slices in validation, by fold: {', '.join(map(str, sizes))}; expected 6, 8, 10, 12, 9" in notes
    assert f"warning: slices: {sum(sizes)} of 55; all cases are there" in notes
    right = small("lits", num_cases=12, num_slices=sum(sizes), fold_slices=sizes)
    assert "warning" not in " | ".join(prepare_dataset(right, root, out).notes)


def test_fold_sizes_of_the_paper_add_up():
    card = load_card("lits")
    assert card.fold_slices == (1320, 889, 459, 2278, 2244)
    assert sum(card.fold_slices) == card.num_slices == 7190


def test_every_slice_and_several_classes(tmp_path, small):
    root, out = trees.make_msd(tmp_path / "raw", cases=5), tmp_path / "store"
    assert not prepare_dataset(small("msd_hippocampus", {"size": None, "keep": "all"}), root, out).failed
    store = read_store(out)
    assert len(store["slices"]) == 5 * 10
    for entry in store["slices"]:
        path = root / "labelsTr" / f"{entry['case_id']}.nii.gz"
        np.testing.assert_array_equal(read_slice(out / entry["file"])["label"], planes(path)[entry["slice_index"]])
    assert {tuple(entry["shape"]) for entry in store["slices"]} == {(24, 20), (24, 21), (24, 22)}


def test_fractions_stay_float(tmp_path, small):
    root, out = trees.make_lits(tmp_path / "raw", cases=5), tmp_path / "store"
    path = root / "Training Batch 1" / "volume-0.nii"
    volume = read_volume(path)
    write_volume(path, volume.array + np.float32(0.25), volume.affine)
    wide = root / "Training Batch 2" / "volume-1.nii"
    write_volume(wide, read_volume(wide).array.astype(np.float32) + 40000, read_volume(wide).affine)
    assert not prepare_dataset(small("lits"), root, out).failed
    for number, kind in ((0, np.float32), (1, np.float32), (2, np.int16)):
        entry = next(entry for entry in read_store(out)["slices"] if entry["case_id"] == f"volume-{number}")
        image = read_slice(out / entry["file"])["image"]
        assert image.dtype == kind
        if number == 0:
            np.testing.assert_array_equal(image, planes(path)[entry["slice_index"]])


def test_real_hippocampus_through_the_command(tmp_path, real_data):
    source, root, out = real_data / "msd_hippocampus", tmp_path / "raw", tmp_path / "store"
    content = json.loads((source / "dataset.json").read_text())
    content["training"] = [entry for entry in content["training"] if int(entry["image"][-10:-7]) in (1, 3, 4)]
    assert len(content["training"]) == 3
    for entry in content["training"]:
        for path in entry.values():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / path, root / path)
    (root / "dataset.json").write_text(json.dumps(content))
    result = run("prepare", "msd_hippocampus", "--root", root, "--out", out)
    assert result.exit_code == 0, result.output
    assert "warning: cases: 3 of 260; numbers from 1 to 4, without 2" in result.output
    _, cases = list_cases(load_card("msd_hippocampus"), out)
    assert {case.case_id for case in cases} == {f"hippocampus_{number:03d}" for number in (1, 3, 4)}
    for entry in content["training"]:
        image, label = planes(root / entry["image"]), planes(root / entry["label"])
        case_id = entry["image"][-22:-7]
        found = {case.slice_index: read_slice(case.image) for case in cases if case.case_id == case_id}
        assert [*found] == [index for index in label if label[index].any()]
        for index, content in found.items():
            np.testing.assert_array_equal(content["image"], image[index])
            np.testing.assert_array_equal(content["label"], label[index])
