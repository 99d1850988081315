"""Masks of `infer` and `decode`: on the image's grid, the same by every way, and what is refused."""

import json
import re
import shutil

import nibabel
import numpy as np
import pandas
import pytest
import torch
from monai.transforms import Compose

from conftest import random_probs, run
from rankseg_rma import AsDiscreteRMAd, RMADecoder, ScaleTemperatured, __version__, expected_score
from rankseg_rma.bundles.open import open_bundle, stored_temperature
from rankseg_rma.demo import DEMO_BUNDLE
from rankseg_rma.files.volumes import list_volumes, read_volume, write_volume
from rankseg_rma.grid import voxel_volume_ml
from rankseg_rma.metrics import count_overlap
from rankseg_rma.metrics.metric import dice_of
from rankseg_rma.prediction.predict import predict_probabilities


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
    assert set(pandas.read_csv(tmp_path / "inference.csv")["score_over"]) == {"slice"}


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


def test_random_probs_helper_is_a_distribution(rng):
    np.testing.assert_allclose(random_probs(rng, 3, (4, 4)).sum(axis=0), 1, atol=1e-6)
