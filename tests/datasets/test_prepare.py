"""`data prepare`: slice stores and PASCAL VOC's trainaug, on miniature trees with the true names and formats."""

import gzip
import hashlib
import json
import os
import shutil

import nibabel
import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

import trees
from rankseg_rma.checks import DatasetError
from rankseg_rma.cli import app
from rankseg_rma.datasets import list_cards, list_cases, load_card, part_cases, prepare
from rankseg_rma.datasets.axial import from_axial, resize_image, resize_label, to_axial
from rankseg_rma.datasets.check import check_dataset
from rankseg_rma.datasets.prepare import prepare_dataset
from rankseg_rma.datasets.slices import is_store, make_slices, read_slice, read_store
from rankseg_rma.files.images import VOID, read_classes
from rankseg_rma.files.volumes import read_volume, write_volume

SIZE = (24, 20)


@pytest.fixture
def small(tmp_path):
    """Give a card with slices of the miniature trees' size, and other changes."""

    def write(name, slices=None, **change):
        content = yaml.safe_load(list_cards()[name].read_text())
        content["slices"] |= {"size": [*SIZE], "crop_size": [16, 16], **(slices or {})}
        folder = tmp_path / "cards"
        folder.mkdir(exist_ok=True)
        path = folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump({**content, **change}))
        return str(path)

    return write


def state(folder, pattern="**/*"):
    """Content and time of every file."""
    return {
        path.relative_to(folder).as_posix(): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in folder.glob(pattern)
        if path.is_file()
    }


def planes(path):
    """Planes of a NIfTI file in RAS order, by nibabel alone: index along the file's axial axis -> (R, A) array."""
    image = nibabel.load(path)
    codes = nibabel.aff2axcodes(image.affine)
    axis = next(place for place, code in enumerate(codes) if code in "SI")
    array = np.asarray(nibabel.as_closest_canonical(image).dataobj)
    count = array.shape[2]
    return {index: array[:, :, count - 1 - index if codes[axis] == "I" else index] for index in range(count)}


def run(*arguments):
    return CliRunner().invoke(app, ["data", *map(str, arguments)])


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


def test_interrupted_run_is_resumed(tmp_path, small, monkeypatch):
    root, out, name = trees.make_lits(tmp_path / "raw"), tmp_path / "store", small("lits")

    def stop_at_third(task):
        if task.case.case_id == "volume-2":
            # As a kill in the middle of a case: some slices, one half, no record.
            folder = task.store / "slices" / "volume-2"
            folder.mkdir()
            (folder / ".99.partial.0003.npz").write_bytes(b"half")
            (folder / "0099.npz").write_bytes(b"of an earlier rule")
            (folder.parent / "volume-0" / ".99.partial.0001.npz").write_bytes(b"half")
            (task.store / "cases" / ".99.partial.volume-2.json").write_bytes(b"half")
            raise KeyboardInterrupt
        return task.case.case_id, make_slices(task), ""

    monkeypatch.setattr(prepare, "_make_slices", stop_at_third)
    with pytest.raises(KeyboardInterrupt):
        prepare_dataset(name, root, out)
    monkeypatch.undo()
    assert is_store(out)
    with pytest.raises(DatasetError, match="one that was interrupted"):
        list_cases(load_card(name), out)
    before = state(out, "slices/**/*.npz")
    finished = {path: facts for path, facts in before.items() if "volume-2" not in path and "partial" not in path}
    assert len({path.split("/")[1] for path in finished}) == 2
    outcome = prepare_dataset(name, root, out)
    assert "2 cases were finished before and left as they are" in outcome.notes
    after = state(out)
    assert {path: after[path] for path in finished} == finished
    assert not any("partial" in path or "0099" in path for path in after)
    fresh = tmp_path / "fresh"
    prepare_dataset(name, root, fresh)
    assert {path: facts[0] for path, facts in state(fresh, "slices/**/*").items()} == {
        path: facts[0] for path, facts in after.items() if path.startswith("slices")
    }
    assert read_store(fresh) == read_store(out)


def test_what_changed_is_made_again(tmp_path, small):
    root, out, name = trees.make_lits(tmp_path / "raw"), tmp_path / "store", small("lits")
    prepare_dataset(name, root, out)
    first = state(out, "slices/**/*.npz")
    path = root / "Training Batch 1" / "segmentation-1.nii"
    label = read_volume(path)
    changed = label.array.copy()
    changed[:, :, 2] = np.minimum(changed[:, :, 2], 1)
    write_volume(path, changed, label.affine)
    (out / "slices" / "volume-3" / "0003.npz").unlink()
    (out / "slices" / "volume-4" / "0003.npz").write_bytes(b"short")
    outcome = prepare_dataset(name, root, out)
    assert "3 cases were finished before and left as they are" in outcome.notes
    second = state(out, "slices/**/*.npz")
    assert set(first) - set(second) == {"slices/volume-1/0002.npz"}
    made = {path.split("/")[1] for path in second if second[path] != first[path]}
    assert made == {"volume-1", "volume-3", "volume-4"}
    assert {path: facts[0] for path, facts in second.items()}.items() <= {p: f[0] for p, f in first.items()}.items()
    outcome = prepare_dataset(small("lits", {"keep": "all"}), root, out)
    assert not any("finished before" in note for note in outcome.notes)
    assert len(read_store(out)["slices"]) == 6 * 8


def break_cases(root):
    """Damage five of six cases, each in another way; what the reports must say, by case."""
    batch = root / "Training Batch 2"
    image = batch / "volume-2.nii"
    packed = gzip.compress(image.read_bytes())
    image.with_name("volume-2.nii.gz").write_bytes(packed[: len(packed) // 2])
    image.unlink()
    (batch / "volume-3.nii").unlink()
    label = read_volume(batch / "segmentation-4.nii")
    write_volume(batch / "segmentation-4.nii", label.array, label.affine + np.eye(4, k=3) * 30)
    label = read_volume(batch / "segmentation-5.nii")
    write_volume(batch / "segmentation-5.nii", label.array + 3, label.affine)
    path = root / "Training Batch 1" / "volume-1.nii"
    volume = read_volume(path)
    write_volume(path, np.where(volume.array > 100, np.nan, volume.array).astype(np.float32), volume.affine)
    return {
        "volume-1": "NaN or infinite voxels",
        "volume-2": "must be a readable volume",
        "volume-3": "label without image",
        "volume-4": "30 mm apart",
        "volume-5": "of labels 0 to 2; got 3 (",
    }


def test_bad_cases_are_listed_and_the_rest_is_kept(tmp_path, small):
    root, out, name = trees.make_lits(tmp_path / "raw"), tmp_path / "store", small("lits")
    expected = break_cases(root)
    result = run("prepare", name, "--root", root, "--out", out)
    assert result.exit_code == 1
    assert "5 faults" in result.output
    for case_id, problem in expected.items():
        line = next(line for line in result.output.splitlines() if line.strip().startswith(f"{case_id}:"))
        assert problem in line
    assert "unfinished" in result.output
    with pytest.raises(DatasetError, match=r"must be finished; got failed cases: volume-1, volume-2"):
        read_store(out)
    assert [path.name for path in (out / "cases").iterdir()] == ["volume-0.json"]
    shutil.rmtree(root)
    trees.make_lits(root)
    result = run("prepare", name, "--root", root, "--out", out)
    assert result.exit_code == 0
    assert read_store(out)["num_cases"] == 6
    assert len(list_cases(load_card(name), out)[1]) == len(read_store(out)["slices"])


def test_labels_of_fractions_are_refused(tmp_path, small):
    root, out = trees.make_lits(tmp_path / "raw", cases=5), tmp_path / "store"
    path = root / "Training Batch 2" / "segmentation-4.nii"
    label = read_volume(path)
    write_volume(path, label.array * np.float32(0.5), label.affine)
    whole = root / "Training Batch 2" / "segmentation-3.nii"
    write_volume(whole, read_volume(whole).array.astype(np.float64), read_volume(whole).affine)
    failed = prepare_dataset(small("lits"), root, out).failed
    assert [*failed] == ["volume-4"]
    assert "of whole numbers" in failed["volume-4"]


def test_processes_give_the_same_store(tmp_path, small):
    root, name = trees.make_kits(tmp_path / "raw"), small("kits19")
    for workers in (1, 2):
        assert not prepare_dataset(name, root, tmp_path / str(workers), workers=workers).failed
    one, two = (state(tmp_path / folder, "**/*") for folder in "12")
    assert {path: facts[0] for path, facts in one.items()} == {path: facts[0] for path, facts in two.items()}


def test_missing_cases_are_counted(tmp_path, small):
    root, out = trees.make_lits(tmp_path / "raw", cases=12), tmp_path / "store"
    for number in (3, 5, 6, 7):
        for path in root.rglob(f"*-{number}.nii"):
            path.unlink()
    notes = prepare_dataset(small("lits"), root, out).notes
    assert "warning: cases: 8 of 131; numbers from 0 to 11, without 3, 5-7" in notes


def test_originals_and_foreign_folders_are_safe(tmp_path, small):
    root, name = trees.make_lits(tmp_path / "raw"), small("lits")
    before = state(root)
    (tmp_path / "link").symlink_to(root)
    for out in (root, root / "store", tmp_path / "other" / ".." / "raw" / "x", tmp_path / "link" / "x"):
        with pytest.raises(ValueError, match="never written to"):
            prepare_dataset(name, root, out)
    with pytest.raises(ValueError, match="Give --out"):
        prepare_dataset(name, root)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("two years of work")
    with pytest.raises(ValueError, match=r"empty or a slice store; got thesis\.txt"):
        prepare_dataset(name, root, foreign)
    assert state(root) == before
    store = tmp_path / "store"
    prepare_dataset(name, root, store)
    kits = trees.make_kits(tmp_path / "kits")
    with pytest.raises(ValueError, match="a store of kits19; got one of lits"):
        prepare_dataset(small("kits19"), kits, store)
    with pytest.raises(DatasetError, match="original download of lits; got a slice store"):
        prepare_dataset(name, store, tmp_path / "again")
    with pytest.raises(DatasetError, match="with tumour in some slice"):
        prepare_dataset(name, trees_without_tumour(tmp_path), tmp_path / "none")


def trees_without_tumour(tmp_path):
    root = trees.make_lits(tmp_path / "healthy", cases=5)
    for path in root.rglob("segmentation-*.nii"):
        label = read_volume(path)
        write_volume(path, np.minimum(label.array, 1), label.affine)
    return root


def test_damage_of_a_store_is_named(tmp_path, small):
    root, out, name = trees.make_lits(tmp_path / "raw"), tmp_path / "store", small("lits")
    prepare_dataset(name, root, out)
    assert not check_dataset(name, out).faults
    files = [entry["file"] for entry in read_store(out)["slices"]]
    (out / files[0]).unlink()
    (out / files[1]).write_bytes((out / files[1]).read_bytes()[:200])
    found = read_slice(out / files[2])
    np.savez_compressed(out / files[2], image=found["image"], label=found["label"] + 5)
    problems = [fault["problem"] for fault in check_dataset(name, out).faults]
    assert len(problems) == 3
    for problem, expected in zip(
        problems, ("existing file", "a slice with image and label", "outside 0 to 1"), strict=True
    ):
        assert expected in problem
    text = (out / "store.json").read_text()
    for content, message in (
        (text[:50], "must be JSON"), ("[]", "must be a mapping"),
        (text.replace('"case_ids"', '"x"'), "missing case_ids"),
        (text.replace('"version": 1', '"version": 9'), "got version 9"),
    ):  # fmt: skip
        (out / "store.json").write_text(content)
        with pytest.raises(DatasetError, match=message):
            read_store(out)
    with pytest.raises(FileNotFoundError, match="`data prepare` makes one"):
        read_store(root)


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


@pytest.fixture
def downloads(tmp_path):
    return trees.make_voc(tmp_path / "voc"), trees.make_sbd(tmp_path / "sbd")


def sbd_mask(sbd, name):
    from scipy.io import loadmat

    return loadmat(sbd / "dataset" / "cls" / f"{name}.mat", squeeze_me=True)["GTcls"]["Segmentation"].item()


def test_voc_trainaug(tmp_path, downloads):
    (voc, sbd), out = downloads, tmp_path / "aug"
    before = state(voc), state(sbd)
    result = run("prepare", "pascal_voc", "--root", voc.parent, "--sbd", sbd, "--out", out)
    assert result.exit_code == 0, result.output
    assert (state(voc), state(sbd)) == before
    names = sorted({*trees.VOC_TRAIN, *trees.VOC_EXTRA})
    assert (out / "ImageSets" / "Segmentation" / "trainaug.txt").read_text().split() == names
    assert sorted(path.stem for path in (out / "SegmentationClassAug").iterdir()) == names
    card = load_card("pascal_voc")
    has_void = set()
    for name in names:
        stored = Image.open(out / "SegmentationClassAug" / f"{name}.png")
        assert stored.mode == "P"
        assert stored.getpalette()[3:6] == [128, 0, 0]
        if name in trees.VOC_TRAIN:
            expected = np.asarray(Image.open(voc / "SegmentationClass" / f"{name}.png"))
            has_void.add((expected == VOID).any())
        else:
            expected = sbd_mask(sbd, name)
        np.testing.assert_array_equal(np.asarray(stored), expected)
        np.testing.assert_array_equal(read_classes(out / "SegmentationClassAug" / f"{name}.png", card), expected)
    assert has_void == {True}
    content = json.loads((out / "prepared.json").read_text())
    counts = {"training": 10, "from_voc": 6, "from_sbd": 4, "validation": 3}
    assert content == {"dataset": "pascal_voc", "source": str(voc), "counts": counts}
    _, cases = list_cases(card, out)
    parts = part_cases(card, cases, 0)
    assert [case.case_id for case in parts["training"]] == names
    assert [case.case_id for case in parts["validation"]] == sorted(trees.VOC_VAL)
    assert not check_dataset("pascal_voc", out).faults
    assert "warning: trainaug: 10 of 10582" in result.output
    assert "warning: SBD train: 5 of 8498" in result.output


def test_voc_is_resumed_and_checked(tmp_path, downloads):
    (voc, sbd), out = downloads, tmp_path / "aug"
    truncated = sbd / "dataset" / "cls" / f"{trees.VOC_EXTRA[0]}.mat"
    good = truncated.read_bytes()
    truncated.write_bytes(good[:150])
    (voc / "JPEGImages" / f"{trees.VOC_EXTRA[1]}.jpg").unlink()
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(voc / "JPEGImages" / f"{trees.VOC_EXTRA[2]}.jpg")
    Image.open(voc / "SegmentationClass" / f"{trees.VOC_TRAIN[0]}.png").convert("L").save(
        voc / "SegmentationClass" / f"{trees.VOC_TRAIN[0]}.png"
    )
    outcome = prepare_dataset("pascal_voc", voc, out, sbd)
    for name, problem in zip(
        (trees.VOC_TRAIN[0], *trees.VOC_EXTRA[:3]),
        ("read as luminance", "a .mat file with GTcls", "with a photograph", "photograph's size (9, 9)"),
        strict=True,
    ):
        assert problem in outcome.failed.pop(name)
    assert not outcome.failed
    assert not (out / "prepared.json").exists()
    finished = state(out / "SegmentationClassAug")
    assert len(finished) == 6
    shutil.rmtree(voc.parents[1])
    trees.make_voc(tmp_path / "voc")
    truncated.write_bytes(good)
    for name in trees.VOC_TRAIN[1:]:
        path = voc / "SegmentationClass" / f"{name}.png"
        os.utime(path, ns=(0, finished[f"{name}.png"][1] + (name == trees.VOC_TRAIN[1])))
    outcome = prepare_dataset("pascal_voc", voc, out, sbd, workers=2)
    assert not outcome.failed
    # Five stay; the one whose source has another time is made again.
    assert "5 masks were finished before and left as they are" in outcome.notes
    again = state(out / "SegmentationClassAug")
    assert {name for name in finished if again[name] != finished[name]} == {f"{trees.VOC_TRAIN[1]}.png"}
    assert (out / "prepared.json").is_file()
    truncated.write_bytes(good[:150])
    assert [*prepare_dataset("pascal_voc", voc, out, sbd).failed] == [truncated.stem]
    assert [path.name for path in out.iterdir() if path.is_file()] == []


def test_voc_without_sbd_says_what_to_download(tmp_path, downloads):
    voc, sbd = downloads
    result = run("prepare", "pascal_voc", "--root", voc, "--out", tmp_path / "aug")
    assert result.exit_code == 2
    assert "benchmark.tgz" in result.output
    assert f"nothing is to be prepared: train with --root {voc}" in result.output
    assert not (tmp_path / "aug").exists()
    for out, message in (
        (sbd / "x", "never written to"),
        (voc / "x", "never written to"),
        (tmp_path, "holds|empty or a"),
    ):
        with pytest.raises(ValueError, match=message):
            prepare_dataset("pascal_voc", voc, out, sbd)
    with pytest.raises(FileNotFoundError, match="sbd must be a folder with cls"):
        prepare_dataset("pascal_voc", voc, tmp_path / "aug", tmp_path)
    with pytest.raises(ValueError, match="pascal_voc only"):
        prepare_dataset("camvid", trees.make_camvid(tmp_path / "camvid"), None, sbd)


@pytest.mark.parametrize(
    ("name", "make", "note"),
    [
        ("cityscapes", trees.make_cityscapes, "warning: training images: 6 of 2975"),
        ("ade20k", trees.make_ade20k, "warning: validation images: 3 of 2000"),
        ("camvid", trees.make_camvid, "warning: test images: 3 of 233"),
        ("msd", trees.make_msd, "cases: 16"),
    ],
)
def test_what_needs_nothing_is_only_counted(tmp_path, name, make, note):
    root = make(tmp_path / "raw")
    before = state(tmp_path)
    result = run("prepare", name, "--root", root)
    assert result.exit_code == 0, result.output
    assert f"{name} is read as it is: nothing to prepare" in result.output
    assert note in result.output
    assert state(tmp_path) == before


def test_data_commands_know_both_kinds(tmp_path):
    listed = run("list").output
    for name in list_cards():
        assert name in listed
        described = yaml.safe_load(run("describe", name).output)
        assert (described["name"], described["kind"]) == (name, load_card(name).kind)
    lits = yaml.safe_load(run("describe", "lits").output)
    assert lits["slices"]["labels"] == {1: [2]}
    assert lits["fold_slices"] == [1320, 889, 459, 2278, 2244]
    root = trees.make_kits(tmp_path / "kits23", year=23)
    for path in root.rglob("imaging.nii.gz"):
        path.unlink()
    assert run("check", "kits23", "--root", root).exit_code == 1
    result = run("check", "kits23", "--root", root, "--labels-only")
    assert result.exit_code == 0, result.output
    assert "cases: 6 of 489" in result.output
    assert "6 cases, 6 good, 0 with faults" in result.output
