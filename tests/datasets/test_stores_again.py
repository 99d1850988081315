"""`data prepare`, once more: interrupted runs, changed and damaged files, and what must stay untouched."""

import gzip
import shutil

import numpy as np
import pytest

import trees
from prepared import run, state
from rankseg_rma.checks import DatasetError
from rankseg_rma.datasets import list_cases, load_card, prepare
from rankseg_rma.datasets.check import check_dataset
from rankseg_rma.datasets.prepare import prepare_dataset
from rankseg_rma.datasets.slices import is_store, make_slices, read_slice, read_store
from rankseg_rma.files.volumes import read_volume, write_volume


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
