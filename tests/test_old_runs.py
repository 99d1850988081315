"""Run folders that the version before wrote, and scripts that say its names: both go on working.

`tests/old_runs` holds two runs of version 0.1.0 as it was before the folders of the package were named after stages: a
volume network of two epochs on the phantom (8 cases, seed 1) and a photograph network of two iterations on CamVid.
"""

import csv
import importlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import yaml
from PIL import Image

import rankseg_rma
from conftest import run
from rankseg_rma.bundles.write import _difference
from rankseg_rma.datasets.phantom import make_phantom
from rankseg_rma.old_names import MOVED, resolve, translate_config
from rankseg_rma.training.losses import loss_config

OLD_RUNS = Path(__file__).parent / "old_runs"


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantom")
    make_phantom(folder, 8, seed=1)
    return folder


def read_config(name, kind="volume"):
    return yaml.safe_load((OLD_RUNS / kind / "configs" / f"{name}.yaml").read_text())


def test_old_run_infers_as_before_and_with_monai_alone(tmp_path, phantom):
    bundle = tmp_path / "run"
    shutil.copytree(OLD_RUNS / "volume", bundle)
    images = tmp_path / "images"
    images.mkdir()
    shutil.copy(phantom / "imagesTr" / "phantom_000.nii.gz", images)
    run("infer", "--bundle", bundle, "--input", images, "--out", tmp_path / "ours", "--device", "cpu")
    with (tmp_path / "ours" / "inference.csv").open() as ours, (OLD_RUNS / "volume" / "inference.csv").open() as theirs:
        for row, before in zip(csv.DictReader(ours), csv.DictReader(theirs), strict=True):
            for name in ("label", "label_name", "temperature", "volume_argmax_ml", "volume_rma_ml", "expected_gain"):
                same = row[name] == before[name] or float(row[name]) == pytest.approx(float(before[name]), rel=1e-5)
                assert same, (name, row[name], before[name])
    command = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", "--bundle_root", "."]
    subprocess.run(
        [*command, "--config_file", "configs/inference.yaml", "--dataset_dir", str(images)], cwd=bundle, check=True
    )
    alone = nibabel.load(bundle / "predictions" / "phantom_000.nii.gz")
    ours = nibabel.load(tmp_path / "ours" / "rma" / "phantom_000.nii.gz")
    np.testing.assert_array_equal(np.asarray(alone.dataobj), np.asarray(ours.dataobj))


def test_unfinished_old_run_goes_on(tmp_path, phantom):
    """From its checkpoint of epoch 1, under the same command, to the loss that the old version had in epoch 2."""
    out = tmp_path / "run"
    shutil.copytree(OLD_RUNS / "volume", out)
    (out / "logs").mkdir()
    shutil.move(out / "loss.csv", out / "logs" / "loss.csv")
    for name in ("model.pt", "temperature.json"):
        (out / "models" / name).unlink()
    common = ("train", "--dataset", "phantom", "--root", phantom, "--network", OLD_RUNS / "volume" / "network.yaml")
    other = run(*common, "--epochs", 3, "--batch-size", 2, "--out", out, code=2)
    assert "a run that differs in max_epochs" in other and "max_epochs, " not in other
    run(*common, "--epochs", 2, "--batch-size", 2, "--out", out)
    lines = (out / "logs" / "loss.csv").read_text().splitlines()
    assert lines[1].startswith("1,2,1.05981") and lines[2].startswith("2,4,1.02525") and len(lines) == 3
    assert (out / "models" / "model.pt").is_file() and (out / "models" / "temperature.json").is_file()
    assert "rankseg_rma.training" not in (out / "configs" / "train.yaml").read_text()


def test_old_run_of_photographs_infers(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "street.png")
    run("infer", "--bundle", OLD_RUNS / "image", "--input", tmp_path / "street.png", "--out", tmp_path / "masks")
    assert np.asarray(Image.open(tmp_path / "masks" / "rma" / "street.png")).shape == (64, 96)


@pytest.mark.parametrize("kind", ["volume", "image"])
def test_old_config_in_the_names_of_today(kind):
    old = read_config("train", kind)
    new = translate_config(old)
    assert translate_config(new) == new
    assert new["loss"] == loss_config("ce")
    assert new["imports"] == ["$import torch", "$import ignite", "$import monai", "$import rankseg_rma"]
    text = yaml.safe_dump(new)
    assert set(re.findall(r"rankseg_rma\.(\w+)", text)) <= {*rankseg_rma._CONFIG_NAMES, *rankseg_rma._HOME}
    assert not re.search(r"\b(training|distributed|temperatures|datasets)\.", text)


@pytest.mark.parametrize("old", MOVED)
def test_old_modules_are_found(old):
    module = importlib.import_module(f"rankseg_rma.{old}")
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        resolve(old, "nothing")
    if "." not in old:
        assert not hasattr(module, "nothing")


def test_old_names_are_those_of_today():
    from rankseg_rma.temperature import fit_temperature
    from rankseg_rma.volumes import find_slice_axis, read_volume, write_text

    from rankseg_rma.evaluation import compare_pairs, count_overlap
    from rankseg_rma.metrics.overlap import count_overlap as count_overlap_today
    from rankseg_rma.statistics.differences import compare_pairs as compare_pairs_today

    assert count_overlap is count_overlap_today and compare_pairs is compare_pairs_today
    assert read_volume.__module__ == "rankseg_rma.files.volumes" and find_slice_axis.__module__ == "rankseg_rma.grid"
    assert write_text.__module__ == "rankseg_rma.files.writing"
    assert fit_temperature.__module__ == "rankseg_rma.decoder.temperature"
    from rankseg_rma.report.columns import COLUMNS
    from rankseg_rma.workflows.evaluation import EvaluationOptions, evaluate_masks

    assert evaluate_masks.__module__ == "rankseg_rma.evaluation.evaluate" and EvaluationOptions and COLUMNS
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("rankseg_rma.nothing")


def test_every_name_of_the_root_is_there():
    for name in (*rankseg_rma._HOME, *rankseg_rma._CONFIG_NAMES):
        assert getattr(rankseg_rma, name) is not None


def test_a_network_file_in_old_or_in_new_names_is_the_same_run():
    """A user's own network file keeps its names, so what is written now is compared in the names of today too."""
    for name in ("rankseg_rma.networks.PaddedNetwork", "rankseg_rma.PaddedNetwork", "my.package.Network"):
        text = yaml.safe_dump({"network_def": {"_target_": name}, "seed": 0})
        assert _difference(text, text) == ""
    old, new = ({"network_def": {"_target_": name}} for name in ("rankseg_rma.losses.Focal", "rankseg_rma.FocalLoss"))
    assert _difference(yaml.safe_dump(old), yaml.safe_dump(new)) == ""
    for name in ("rankseg_rma.training.losses.Focal", "rankseg_rma.evaluation.case.score_case"):
        assert translate_config({"_target_": name}) == {"_target_": name}
    assert translate_config({"_target_": "rankseg_rma.training.make_ema"}) == {"_target_": "rankseg_rma.make_ema"}


def test_shipped_configs_say_names_of_the_root_only():
    root = Path(__file__).parents[1]
    files = [*root.glob("configs/**/*.yaml"), *root.glob("pipeline/rankseg_rma/demo_bundle/configs/*.yaml")]
    known = {*rankseg_rma._HOME, *rankseg_rma._CONFIG_NAMES}
    assert len(files) > 20
    for path in files:
        for name in re.findall(r"rankseg_rma\.([\w.]+)", path.read_text()):
            assert name in known, f"{path.name} says rankseg_rma.{name}"
