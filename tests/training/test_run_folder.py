"""What `train` writes is a bundle; a killed run goes on."""

import json
import shutil
import subprocess
import sys

import nibabel
import numpy as np
import torch

from conftest import run
from rankseg_rma import __version__
from rankseg_rma.training.engine import latest_checkpoint


def test_run_folder_is_a_bundle(work):
    bundle = work / "run"
    for name in ("LICENSE", "configs/metadata.json", "models/model.pt", "docs/README.md", "models/temperature.json"):
        assert (bundle / name).is_file(), name
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text())
    required = {
        "version", "monai_version", "pytorch_version", "numpy_version", "required_packages_version", "task",
        "description", "authors", "copyright", "network_data_format",
    }  # fmt: skip
    assert required <= set(metadata)
    assert metadata["version"] == __version__
    assert metadata["network_data_format"]["outputs"]["pred"]["channel_def"] == {
        "0": "background",
        "1": "liver",
        "2": "tumour",
    }
    found = json.loads((bundle / "models" / "temperature.json").read_text())
    validation = json.loads((bundle / "configs" / "datalist.json").read_text())["validation"]
    assert [f"./imagesTr/{case_id}.nii.gz" for case_id in found["case_ids"]] == [f"./{c['image']}" for c in validation]
    assert found["nll_after"] <= found["nll_before"]
    assert set(found["expected_volume_ratio"]) == {"liver", "tumour"}
    assert str(work) not in (bundle / "configs" / "train.yaml").read_text()


def test_bundle_runs_with_monai_alone(work, tmp_path):
    """The moved bundle, by python -m monai.bundle: inference and evaluation."""
    bundle = tmp_path / "elsewhere"
    shutil.copytree(work / "run", bundle)
    command = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", "--bundle_root", "."]
    images = tmp_path / "images"
    images.mkdir()
    shutil.copy(work / "data" / "imagesTr" / "phantom_001.nii.gz", images)
    subprocess.run(
        [*command, "--config_file", "configs/inference.yaml", "--dataset_dir", str(images)], cwd=bundle, check=True
    )
    run("infer", "--bundle", bundle, "--input", images, "--out", tmp_path / "ours", "--device", "cpu")
    theirs = nibabel.load(bundle / "predictions" / "phantom_001.nii.gz")
    ours = nibabel.load(tmp_path / "ours" / "rma" / "phantom_001.nii.gz")
    assert theirs.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.asarray(theirs.dataobj), np.asarray(ours.dataobj))
    np.testing.assert_allclose(theirs.affine, ours.affine, atol=1e-4)
    configs = "['configs/train.yaml','configs/evaluate.yaml']"
    subprocess.run([*command, "--config_file", configs, "--dataset_dir", str(work / "data")], cwd=bundle, check=True)
    assert (bundle / "eval" / "val_mean_dice_raw.csv").is_file()


def test_killed_training_goes_on_to_the_same_weights(work, tmp_path):
    """A run of two epochs whose second was killed, which tore the newest checkpoint, ends as the whole one."""
    out, data = tmp_path / "run", work / "data"
    common = ("train", "--dataset", "phantom", "--root", data, "--network", work / "tiny.yaml", "--batch-size", 2,
              "--out", out)  # fmt: skip
    shutil.copytree(work / "run", out)
    (out / "models" / "model.pt").unlink()
    newest = latest_checkpoint(out / "models")
    assert newest.name == "checkpoint_epoch=2.pt"
    newest.write_bytes(newest.read_bytes()[:1000])
    assert latest_checkpoint(out / "models").name == "checkpoint_epoch=1.pt"
    run(*common, "--epochs", 2)
    whole, resumed = (torch.load(folder / "models" / "model.pt", weights_only=True) for folder in (work / "run", out))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    before = {path: path.read_bytes() for path in (out / "configs").iterdir()}
    assert "differs in max_epochs" in run(*common, "--epochs", 3, code=2)
    for change in (("--epochs", 3), ("--epochs", 2, "--fold", 1), ("--epochs", 2, "--loss", "dice")):
        assert "must be empty or the same run" in run(*common, *change, code=2)
    assert before == {path: path.read_bytes() for path in (out / "configs").iterdir()}


def test_training_names_a_damaged_image(work, tmp_path):
    root = tmp_path / "data"
    shutil.copytree(work / "data", root)
    image = root / "imagesTr" / "phantom_002.nii.gz"
    image.write_bytes(image.read_bytes()[:3000])
    output = run("train", "--dataset", "phantom", "--root", root, "--network", work / "tiny.yaml", "--epochs", 1,
                 "--out", tmp_path / "run", code=2)  # fmt: skip
    assert "every case must be readable" in output
    assert "data check phantom" in output
