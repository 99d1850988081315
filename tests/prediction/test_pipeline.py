"""Train, infer, decode, evaluate: through the command line, on the phantom and on real volumes."""

import json
import re
import shutil
import subprocess
import sys

import nibabel
import numpy as np
import pandas
import pytest
import torch
import yaml
from monai.transforms import Compose

from conftest import REPOSITORY, random_probs, run, tiny_network
from rankseg_rma import AsDiscreteRMAd, RMADecoder, ScaleTemperatured, __version__, expected_score
from rankseg_rma.bundles.open import open_bundle, stored_temperature
from rankseg_rma.datasets import list_cards
from rankseg_rma.datasets.phantom import make_phantom
from rankseg_rma.decoder.temperature import fit_temperature
from rankseg_rma.demo import DEMO_BUNDLE, RECORD_SEED
from rankseg_rma.files.volumes import list_volumes, read_volume, write_volume
from rankseg_rma.grid import voxel_volume_ml
from rankseg_rma.metrics import METRIC_TABLE, count_overlap
from rankseg_rma.metrics.metric import dice_of
from rankseg_rma.prediction.predict import predict_probabilities
from rankseg_rma.training.engine import latest_checkpoint


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A tiny phantom and a tiny network trained on it for two epochs."""
    folder = tmp_path_factory.mktemp("work")
    make_phantom(folder / "data", 8, seed=RECORD_SEED)
    (folder / "tiny.yaml").write_text(yaml.safe_dump(tiny_network(3)))
    run("train", "--dataset", "phantom", "--root", folder / "data", "--network", folder / "tiny.yaml", "--epochs", 2,
        "--batch-size", 2, "--out", folder / "run")  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def masks(work):
    """Masks and probabilities of two phantom cases by the shipped weights."""
    images = [work / "data" / "imagesTr" / f"phantom_00{k}.nii.gz" for k in (0, 1)]
    run(
        "infer",
        "--bundle",
        DEMO_BUNDLE,
        "-i",
        images[0],
        "-i",
        images[1],
        "--out",
        work / "masks",
        "--save-probabilities",
    )
    return work / "masks"


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


@pytest.mark.slow
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
    """The run of two epochs, repeated as one epoch and a second after a kill that tore the newest checkpoint."""
    out, data = tmp_path / "run", work / "data"
    common = (
        "train",
        "--dataset",
        "phantom",
        "--root",
        data,
        "--network",
        work / "tiny.yaml",
        "--batch-size",
        2,
        "--out",
        out,
    )
    run(*common, "--epochs", 2)
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


def test_masks_lie_on_the_images_grid(work, masks):
    table = pandas.read_csv(masks / "inference.csv")
    assert list(table["case_id"]) == ["phantom_000", "phantom_000", "phantom_001", "phantom_001"]
    assert list(table["label_name"]) == ["liver", "tumour"] * 2
    temperature = stored_temperature(DEMO_BUNDLE)
    for case_id in ("phantom_000", "phantom_001"):
        image = nibabel.load(work / "data" / "imagesTr" / f"{case_id}.nii.gz")
        probs = read_volume(masks / "probabilities" / f"{case_id}.nii.gz").array
        np.testing.assert_allclose(probs.sum(axis=0), 1, atol=1e-3)
        scaled = probs.astype(np.float64) ** (1 / temperature)
        scaled /= scaled.sum(axis=0)
        for decoder, labels in (("argmax", probs.argmax(axis=0)), ("rma", RMADecoder()(scaled).labels)):
            mask = nibabel.load(masks / decoder / f"{case_id}.nii.gz")
            assert mask.get_data_dtype() == np.uint8
            np.testing.assert_array_equal(mask.affine, image.affine)
            assert np.count_nonzero(np.asarray(mask.dataobj) != labels) <= labels.size / 10_000
            rows = table[table["case_id"] == case_id].set_index("label")
            array = np.asarray(mask.dataobj)
            for label in (1, 2):
                expected = (array == label).sum() * voxel_volume_ml(image.affine)
                assert rows.loc[label, f"volume_{decoder}_ml"] == pytest.approx(expected)
                score = expected_score(scaled, array)[label]
                assert rows.loc[label, f"expected_score_{decoder}"] == pytest.approx(score, abs=1e-5)
                volume = scaled[label].sum() * voxel_volume_ml(image.affine)
                gain = rows.loc[label, "expected_score_rma"] - rows.loc[label, "expected_score_argmax"]
                assert rows.loc[label, "expected_gain"] == pytest.approx(gain)
                assert rows.loc[label, "expected_volume_ml"] == pytest.approx(volume, rel=1e-4)
    assert (table["temperature_source"] == "stored").all()
    assert (table["seconds"] > 0).all()
    assert (table["peak_memory_bytes"] > 1e8).all()


def test_shipped_weights_reproduce_recorded_dice(work, masks):
    """Dice of the shipped weights on the first case, recorded when they were trained (see demo_bundle/docs)."""
    recorded = json.loads((DEMO_BUNDLE / "docs" / "recorded_dice.json").read_text())
    reference = read_volume(work / "data" / "labelsTr" / "phantom_000.nii.gz").array
    for decoder, expected in recorded["dice"].items():
        counts = count_overlap(read_volume(masks / decoder / "phantom_000.nii.gz").array, reference, [1, 2])
        assert [dice_of(part) for part in counts] == pytest.approx(expected, abs=2e-3)


def test_decoding_saved_probabilities_equals_inference(masks, tmp_path):
    output = run("decode", masks / "probabilities", "--out", tmp_path)
    assert "(stored)" in output
    for decoder in ("argmax", "rma"):
        for case_id, path in list_volumes(masks / decoder).items():
            ours = read_volume(tmp_path / decoder / f"{case_id}.nii.gz")
            np.testing.assert_array_equal(ours.array, read_volume(path).array)
            np.testing.assert_array_equal(ours.affine, read_volume(path).affine)


def test_temperature_none_value_and_file(masks, tmp_path):
    probs = masks / "probabilities" / "phantom_000.nii.gz"
    output = run("decode", probs, "--out", tmp_path / "none", "--temperature", "none", "--decode", "rma")
    assert "no temperature is used" in output
    assert not (tmp_path / "none" / "argmax").exists()
    (tmp_path / "t.json").write_text('{"temperature": 2.0}')
    for given in ("2.0", str(tmp_path / "t.json")):
        run("decode", probs, "--out", tmp_path / "two", "--temperature", given)
        table = pandas.read_csv(tmp_path / "two" / "inference.csv")
        assert set(table["temperature"]) == {2.0}
        assert set(table["temperature_source"]) == {"given"}
    none, two = (read_volume(tmp_path / name / "rma" / "phantom_000.nii.gz").array for name in ("none", "two"))
    assert (none != two).any()
    argmax = read_volume(tmp_path / "two" / "argmax" / "phantom_000.nii.gz").array
    np.testing.assert_array_equal(argmax, read_volume(masks / "argmax" / "phantom_000.nii.gz").array)
    assert "an existing file" in run("decode", probs, "--out", tmp_path, "--temperature", "hot", code=2)
    assert "in [0.05, 20]" in run("decode", probs, "--out", tmp_path, "--temperature", "0", code=2)


def test_slice_units_use_the_affine(masks, tmp_path):
    run(
        "decode",
        masks / "probabilities",
        "--out",
        tmp_path,
        "--unit",
        "slice",
        "--metric",
        "iou",
        "--temperature",
        "none",
    )
    volume = read_volume(masks / "probabilities" / "phantom_001.nii.gz")
    labels = RMADecoder("iou", unit="slice", slice_axis=2)(np.ascontiguousarray(volume.array)).labels
    np.testing.assert_array_equal(read_volume(tmp_path / "rma" / "phantom_001.nii.gz").array, labels)
    assert set(pandas.read_csv(tmp_path / "inference.csv")["unit"]) == {"slice"}


def test_other_formats_give_the_same_mask(work, masks, tmp_path):
    """The same image as MetaImage: read through SimpleITK, mask written as NIfTI on the same grid."""
    import SimpleITK

    SimpleITK.WriteImage(
        SimpleITK.ReadImage(str(work / "data" / "imagesTr" / "phantom_001.nii.gz")), str(tmp_path / "phantom_001.mha")
    )
    run("infer", "--bundle", DEMO_BUNDLE, "-i", tmp_path / "phantom_001.mha", "--out", tmp_path / "out")
    ours, theirs = (read_volume(folder / "rma" / "phantom_001.nii.gz") for folder in (tmp_path / "out", masks))
    np.testing.assert_allclose(ours.affine, theirs.affine, atol=1e-3)
    assert np.count_nonzero(ours.array != theirs.array) <= ours.array.size / 10_000


def test_bad_case_does_not_stop_the_cohort(work, tmp_path):
    images = tmp_path / "images"
    shutil.copytree(work / "data" / "imagesTr", images)
    good, torn = "phantom_001", images / "phantom_000.nii.gz"
    for name in list_volumes(images):
        if name not in (good, "phantom_000"):
            (images / f"{name}.nii.gz").unlink()
    torn.write_bytes(torn.read_bytes()[:4000])
    output = run("infer", "--bundle", work / "run", "-i", images, "--out", tmp_path / "out", code=1)
    assert re.search(r"1 fault:\s+phantom_000: .*phantom_000.nii.gz", output, re.DOTALL)
    assert list(list_volumes(tmp_path / "out" / "rma")) == [good]
    assert set(pandas.read_csv(tmp_path / "out" / "inference.csv")["case_id"]) == {good}


def test_wrong_use_is_told_and_exits_with_2(work, tmp_path):
    data = work / "data"
    assert "Did you mean 'phantom'" in run("train", "--dataset", "phantm", "--root", data, "--out", tmp_path, code=2)
    train = ("train", "--dataset", "phantom", "--root", data, "--out", tmp_path / "x")
    assert "Did you mean 'unet3d'" in run(*train, "--network", "unet3", code=2)
    assert "loss must be one of" in run(*train, "--loss", "cee", code=2)
    assert "configs/inference.yaml" in run(
        "infer", "--bundle", tmp_path, "-i", data / "imagesTr", "--out", tmp_path, code=2
    )
    assert "existing file or folder" in run(
        "infer", "--bundle", work / "run", "-i", tmp_path / "no", "--out", tmp_path, code=2
    )
    assert "either --input or --root" in run("infer", "--bundle", work / "run", "--out", tmp_path, code=2)
    assert "floating-point probabilities" in run("decode", data / "labelsTr", "--out", tmp_path / "y", code=1)
    assert f"rankseg-rma {__version__}" in run("--version")
    infer = ("infer", "-i", data / "imagesTr", "--out", tmp_path / "z")
    assert "device must be one that this machine has" in run(
        *infer, "--bundle", work / "run", "--device", "cpux", code=2
    )
    shutil.copytree(work / "run", tmp_path / "torn")
    (tmp_path / "torn" / "models" / "model.pt").write_bytes(b"torn")
    assert "weights must be a readable file" in run(*infer, "--bundle", tmp_path / "torn", code=2)
    run("infer", "--decode", "argmx", code=2)


def test_data_commands(work, tmp_path):
    assert "msd_hippocampus" in run("data", "list")
    assert "spacing_mm" in run("data", "describe", "phantom")
    run("data", "make", "phantom", "--out", tmp_path / "p", "--cases", 1)
    assert "1 cases, 1 good, 0 with faults" in run("data", "check", "phantom", "--root", tmp_path / "p")
    (tmp_path / "p" / "labelsTr" / "phantom_000.nii.gz").unlink()
    assert "must be an existing file" in run("data", "check", "phantom", "--root", tmp_path / "p", code=1)


def test_evaluate_two_plain_folders(tmp_path, rng):
    """Two masks of known overlap: a,1 = 6 of 8 and 6 of 7 voxels -> Dice 0.8; b is empty on both sides."""
    for folder in ("predictions", "references"):
        (tmp_path / folder).mkdir()
    reference, prediction = np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8)
    reference.flat[:8], prediction.flat[2:9] = 1, 1
    affine = np.diag([1.0, 1, 2, 1])
    write_volume(tmp_path / "references" / "a.nii.gz", reference, affine)
    write_volume(tmp_path / "predictions" / "a.nii.gz", prediction, affine)
    for folder in ("predictions", "references"):
        write_volume(tmp_path / folder / "b.nii.gz", np.zeros_like(reference), affine)
    command = ("evaluate", "--predictions", tmp_path / "predictions", "--references", tmp_path / "references", "--out")
    run(*command, tmp_path / "out")
    table = pandas.read_csv(tmp_path / "out" / "cases.csv")
    assert list(table)[:8] == ["case_id", "label", "label_name", "decoder", "metric", "value", "unit", "status"]
    dice = table[table["metric"] == "dice"].set_index("case_id")
    assert dice.loc["a", "value"] == pytest.approx(0.8)
    assert (dice.loc["b", "value"], dice.loc["b", "status"]) == (1.0, "both_empty")
    assert set(table["empty_policy"]) == {"kits"}
    raw = pandas.read_csv(tmp_path / "out" / "mean_dice_raw.csv")
    assert list(raw) == ["filename", "class0", "mean"]
    assert raw["class0"].tolist() == pytest.approx([0.8, 1.0])
    assert (tmp_path / "out" / "metrics.csv").read_text().startswith("mean_dice,0.9")
    assert list(pandas.read_csv(tmp_path / "out" / "mean_dice_summary.csv")["class"]) == ["class0", "mean"]
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["metric_per_case"][0]["metrics"]["1"]["TP"] == 6
    assert summary["foreground_mean"]["Dice"] == pytest.approx(0.9)

    # Missing, extra, moved, damaged and wrongly labelled cases are named; the rest is scored.
    for name, array, where in (("missing", reference, "references"), ("extra", prediction, "predictions")):
        write_volume(tmp_path / where / f"{name}.nii.gz", array, affine)
    for name, array, place in (("moved", prediction, np.diag([1.0, 1, 3, 1])), ("strange", prediction * 7, affine)):
        write_volume(tmp_path / "references" / f"{name}.nii.gz", reference, affine)
        write_volume(tmp_path / "predictions" / f"{name}.nii.gz", array, place)
    write_volume(tmp_path / "references" / "torn.nii.gz", reference, affine)
    (tmp_path / "predictions" / "torn.nii.gz").write_bytes(b"\x1f\x8b\x08")
    (tmp_path / "card.yaml").write_text(
        yaml.safe_dump({**yaml.safe_load(list_cards()["phantom"].read_text()), "name": "card"})
    )
    output = run(*command, tmp_path / "again", "--dataset", tmp_path / "card.yaml", code=1)
    for text in (
        "5 faults",
        "1 with no reference in",
        "1 with no prediction in",
        "moved: ",
        "mm apart",
        "strange: ",
        "torn: ",
    ):
        assert text in output, (text, output)
    assert set(pandas.read_csv(tmp_path / "again" / "cases.csv")["case_id"]) == {"a", "b"}


def test_evaluate_hints(work, tmp_path):
    references = work / "data" / "labelsTr"
    for name, path in list(list_volumes(references).items())[:2]:
        (tmp_path / "p").mkdir(exist_ok=True)
        shutil.copy(path, tmp_path / "p" / f"pred_{name}.nii.gz")
    command = ("evaluate", "--predictions", tmp_path / "p", "--references", references, "--out", tmp_path / "o")
    assert "p has for example 'pred_phantom_000', references 'phantom_000'" in run(
        *command, "--dataset", "phantom", code=1
    )
    for decoder in ("argmax", "rma"):
        shutil.copytree(references, tmp_path / "both" / decoder)
    command = ("evaluate", "--predictions", tmp_path / "both", "--references", references, "--out", tmp_path / "o")
    assert "unterminated subpattern" in run(*command, "--cluster", "phantom_(", code=2)
    run(*command)
    assert (tmp_path / "o" / "paired.csv").is_file()
    run("evaluate", "--predictions", tmp_path / "both" / "rma", "--references", references, "--out", tmp_path / "o")
    assert not (tmp_path / "o" / "paired.csv").exists()


def test_training_names_a_damaged_image(work, tmp_path):
    root = tmp_path / "data"
    shutil.copytree(work / "data", root)
    image = root / "imagesTr" / "phantom_002.nii.gz"
    image.write_bytes(image.read_bytes()[:3000])
    output = run("train", "--dataset", "phantom", "--root", root, "--network", work / "tiny.yaml", "--epochs", 1,
                 "--out", tmp_path / "run", code=2)  # fmt: skip
    assert "every case must be readable" in output
    assert "data check phantom" in output


def test_evaluate_labels_that_only_one_side_has(tmp_path):
    """False positives of a label that no reference holds score 0; without any label the command says what it needs."""
    one, two = np.ones((3, 3, 3), np.uint8), np.full((3, 3, 3), 2, np.uint8)
    write_volume(tmp_path / "r" / "a.nii.gz", one, np.eye(4))
    write_volume(tmp_path / "p" / "a.nii.gz", two[None].astype(np.float32), np.eye(4))
    run("evaluate", "--predictions", tmp_path / "p", "--references", tmp_path / "r", "--out", tmp_path / "o")
    dice = pandas.read_csv(tmp_path / "o" / "cases.csv").query("metric == 'dice'").set_index("label")
    assert dice["value"].to_dict() == {1: 0.0, 2: 0.0}
    assert dice["status"].to_dict() == {1: "prediction_empty", 2: "reference_empty"}
    for folder in ("r", "p"):
        write_volume(tmp_path / folder / "a.nii.gz", 0 * one, np.eye(4))
    empty = ("evaluate", "--predictions", tmp_path / "p", "--references", tmp_path / "r", "--out", tmp_path / "o")
    assert "Name the data set with --dataset" in run(*empty, code=2)
    run(*empty, "--dataset", "phantom")
    assert set(pandas.read_csv(tmp_path / "o" / "cases.csv").query("metric == 'dice'")["value"]) == {1.0}


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.5, -1, 1e9])
def test_evaluate_names_what_is_no_label_map(tmp_path, value):
    good = np.ones((3, 3, 3), np.float32)
    bad = good.copy()
    bad[0, 0, 0] = value
    for case_id, array in (("good", good), ("bad", bad)):
        write_volume(tmp_path / "r" / f"{case_id}.nii.gz", array, np.eye(4))
        write_volume(tmp_path / "p" / f"{case_id}.nii.gz", good, np.eye(4))
    command = ("evaluate", "--predictions", tmp_path / "p", "--references", tmp_path / "r", "--out", tmp_path / "o")
    assert "a label map of whole numbers" in run(*command, code=1)
    table = pandas.read_csv(tmp_path / "o" / "cases.csv")
    assert set(table["case_id"]) == {"good"}
    assert set(table["label"]) == {1}


def test_evaluate_compares_decoders(work, masks, tmp_path):
    out = tmp_path / "evaluation"
    ids = tmp_path / "datalist.json"
    entries = [{"image": f"imagesTr/phantom_00{k}.nii.gz"} for k in (0, 1)]
    ids.write_text(json.dumps({"test": entries}))
    again, references = f"again={masks / 'rma'}", work / "data" / "labelsTr"
    run("evaluate", "--predictions", masks, "--predictions", again, "--references", references, "--out", out,
        "--dataset", "phantom", "--unit", "slice", "--datalist", ids)  # fmt: skip
    table = pandas.read_csv(out / "cases.csv")
    assert set(table["decoder"]) == {"argmax", "rma", "again"}
    assert set(table["metric"]) == {*METRIC_TABLE, "nsd_1mm", "nsd_2mm"}
    paired = pandas.read_csv(out / "paired.csv").set_index(["label_name", "metric", "second"])
    scores = table[table["metric"] == "dice"].pivot(index=["case_id", "label"], columns="decoder", values="value")
    tumour = scores.xs(2, level="label")
    assert paired.loc[("tumour", "dice", "rma"), "mean"] == pytest.approx((tumour["rma"] - tumour["argmax"]).mean())
    macro = scores.groupby(level="case_id").mean()
    assert paired.loc[("mean", "dice", "rma"), "mean"] == pytest.approx((macro["rma"] - macro["argmax"]).mean())
    assert paired.loc[("mean", "dice", "rma"), "mean"] == paired.loc[("mean", "dice", "again"), "mean"]
    assert (out / "rma" / "summary.json").is_file()


def test_temperature_is_found_again(rng):
    """Labels drawn from softmax(z): logits 1.6 z are over-confident by exactly that factor."""
    z = torch.from_numpy(rng.normal(0, 2, (40_000, 3)))
    labels = torch.multinomial(z.softmax(1), 1, generator=torch.Generator().manual_seed(0))[:, 0]
    found = fit_temperature([(1.6 * z[:20_000], labels[:20_000]), (1.6 * z[20_000:], labels[20_000:])])
    assert found["temperature"] == pytest.approx(1.6, abs=0.03)
    assert found["nll_after"] < found["nll_before"]


def test_real_ct_of_odd_geometry_comes_back_on_its_grid(real_data, tmp_path):
    image = real_data / "totalseg_ct" / "ct.nii.gz"
    run("infer", "--bundle", DEMO_BUNDLE, "-i", image, "--out", tmp_path)
    original = nibabel.load(image)
    for decoder in ("argmax", "rma"):
        mask = nibabel.load(tmp_path / decoder / "ct.nii.gz")
        assert mask.shape == original.shape
        assert mask.get_data_dtype() == np.uint8
        np.testing.assert_array_equal(mask.affine, original.affine)
    assert np.count_nonzero(np.asarray(nibabel.load(tmp_path / "rma" / "ct.nii.gz").dataobj)) > 0


def test_inverted_geometry_is_right(real_data):
    """Bones found on the network's grid come back onto the bones of the image, not mirrored or shifted."""
    bundle = open_bundle(DEMO_BUNDLE, "cpu")
    path = real_data / "totalseg_ct" / "ct.nii.gz"

    def bright(patch, network):
        return torch.cat([0.9 - patch, patch - 0.9], dim=1) * 100

    class Threshold:
        __call__ = staticmethod(bright)

    found = predict_probabilities(type(bundle)(**{**vars(bundle), "inferer": Threshold()}), path).probs[1].numpy() > 0.5
    truth = read_volume(path).array > 232.5  # 0.9 in the window -60 to 240
    dice = 2 * (found & truth).sum() / (found.sum() + truth.sum())
    assert dice > 0.8
    mirrored = found[::-1]
    assert 2 * (mirrored & truth).sum() / (mirrored.sum() + truth.sum()) < 0.6


def test_transforms_in_a_chain_equal_the_command(masks):
    chain = Compose([ScaleTemperatured("pred", stored_temperature(DEMO_BUNDLE)), AsDiscreteRMAd("pred")])
    for case_id, path in list_volumes(masks / "probabilities").items():
        probs = torch.from_numpy(read_volume(path).array.copy())
        mask = read_volume(masks / "rma" / f"{case_id}.nii.gz").array
        np.testing.assert_array_equal(chain({"pred": probs})["pred"][0].numpy(), mask)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: p * 0.3, "adding up to 1"),
        (lambda p: p[1:], "background first"),
        (lambda p: p * 0, "adding up to 1"),
        (lambda p: p.transpose(3, 0, 1, 2), "store the classes last"),
        (lambda p: (p > 0.5).astype(np.uint8), "not labels"),
    ],
)
def test_what_is_no_distribution_is_refused(tmp_path, rng, make, message):
    probs = random_probs(rng, 3, (8, 9, 10))
    write_volume(tmp_path / "case.nii.gz", make(probs), np.eye(4))
    assert message in run("decode", tmp_path / "case.nii.gz", "--out", tmp_path / "out", code=1)
    probs[:, 4:] = 0  # padding without any mass is no fault
    write_volume(tmp_path / "case.nii.gz", probs, np.eye(4))
    run("decode", tmp_path / "case.nii.gz", "--out", tmp_path / "out")


def test_suspicious_masks_are_pointed_out(tmp_path, rng):
    foreground = np.zeros((20, 20, 20), np.float32)
    foreground[5:9, 5:9, 5:9], foreground[6:8, 6:8, 6:8] = 0.45, 0.9
    for case_id in ("a", "b"):
        write_volume(tmp_path / "p" / f"{case_id}.nii.gz", np.stack([1 - foreground, foreground]), np.eye(4))
    output = run("decode", tmp_path / "p", "--out", tmp_path / "out", "--temperature", "1")
    assert "in 2 of 2 cases RMA's mask of 1 is more than 1.5 times as large" in output
    output = run("decode", tmp_path / "p" / "a.nii.gz", "--out", tmp_path / "out", "--temperature", "1")
    assert "holds 1 masks of another run, for example b" in output


def test_logits_are_refused_not_clamped(tmp_path, rng):
    write_volume(tmp_path / "case.nii.gz", rng.normal(0, 5, (3, 4, 5, 6)).astype(np.float32), np.eye(4))
    for temperature in ("none", "0.7"):
        output = run(
            "decode", tmp_path / "case.nii.gz", "--out", tmp_path / "out", "--temperature", temperature, code=1
        )
        assert re.search(r"in \[0, 1\]; got .*softmax", output)


def test_wheel_ships_configs_cards_and_weights(tmp_path):
    import zipfile

    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)], cwd=REPOSITORY, check=True
    )
    names = zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist()
    for name in ("configs/train.yaml", "configs/metadata.json", "configs/networks/unet3d.yaml", "datasets/phantom.yaml",
                 "datasets/cards.py", "demo_bundle/models/model.pt", "report/templates/page.html"):  # fmt: skip
        assert f"rankseg_rma/{name}" in names, name
    assert (
        "rankseg_rma/configs/image/train.yaml" in names and "rankseg_rma/configs/recipes/camvid_segresnet.yaml" in names
    )
    assert not [name for name in names if name.split("/")[0] == "tests" or name.split("/")[-1].startswith("test_")]


def test_random_probs_helper_is_a_distribution(rng):
    np.testing.assert_allclose(random_probs(rng, 3, (4, 4)).sum(axis=0), 1, atol=1e-6)
