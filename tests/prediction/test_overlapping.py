"""Classes that may overlap, from the bundle to the masks: sigmoid instead of softmax, a mask for each class."""

import json
import shutil

import made_bundles
import numpy as np
import pandas
import pytest
import torch

from conftest import run
from rankseg_rma.bundles.open import open_bundle, require_exclusive
from rankseg_rma.decoder import RMADecoder
from rankseg_rma.decoder.arms import decode_arms, expect
from rankseg_rma.files.probabilities import Probabilities, read_kind, read_probabilities, write_probabilities
from rankseg_rma.files.volumes import read_volume, write_volume
from rankseg_rma.prediction.multiscale import MultiScaleInferer
from rankseg_rma.prediction.predict import predict_probabilities

NAMES = ["whole", "core", "enhancing"]
SIZES = [1000, 216, 64]
AFFINE = np.diag([1.0, 2.0, 2.0, 1.0])
LOGIT = float(np.log(0.953 / 0.047))
CONFIG = made_bundles.CONFIG | {"label_names": NAMES, "multilabel": True}


def nested():
    """Number of nested cubes that a voxel lies in, (16, 16, 16)."""
    depth = np.zeros((16, 16, 16), np.float32)
    for side in (10, 6, 4):
        inside = slice(8 - side // 2, 8 + side // 2)
        depth[inside, inside, inside] += 1
    return depth


def write_network(root, config, num_classes=3, dimensions=3):
    """A bundle whose class c has the logit 2 LOGIT (image - c - 1/2): +-LOGIT where the image is next to it."""
    kernel = (1,) * dimensions
    weight = torch.full((num_classes, 1, *kernel), 2 * LOGIT)
    return made_bundles.write_network(root, config, weight, -2 * LOGIT * (torch.arange(num_classes) + 0.5))


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("overlapping")
    write_volume(folder / "images" / "case.nii.gz", nested(), AFFINE)
    write_network(folder / "bundle", CONFIG)
    arguments = ("--input", folder / "images", "--out", folder / "out", "--save-probabilities", "--temperature", 0.9)
    run("infer", "--bundle", folder / "bundle", *arguments)
    return folder


@pytest.mark.parametrize("decoder", ["argmax", "rma"])
def test_infer_writes_a_mask_for_each_class(work, decoder):
    import nibabel

    stored = nibabel.load(work / "out" / decoder / "case.nii.gz")
    assert stored.shape == (16, 16, 16, 3)
    assert stored.get_data_dtype() == np.uint8
    masks = read_volume(work / "out" / decoder / "case.nii.gz")
    assert masks.array.sum(axis=(1, 2, 3)).tolist() == SIZES
    np.testing.assert_array_equal(masks.array[1], nested() >= 2)
    np.testing.assert_allclose(masks.affine, AFFINE)


def test_rows_are_those_of_every_class(work):
    table = pandas.read_csv(work / "out" / "inference.csv")
    assert table.label_name.tolist() == NAMES
    assert table.label.tolist() == [1, 2, 3]
    np.testing.assert_allclose(table.volume_rma_ml, np.array(SIZES) * 4 / 1000)
    np.testing.assert_allclose(table.volume_argmax_ml, np.array(SIZES) * 4 / 1000)
    scaled = torch.sigmoid(2 * LOGIT * (torch.from_numpy(nested()).double() - 0.5) / 0.9)
    np.testing.assert_allclose(table.expected_volume_ml[0], scaled.sum() * 4 / 1000, rtol=1e-5)
    assert (table.expected_gain.abs() < 1e-6).all()


def test_saved_probabilities_say_their_kind(work, tmp_path):
    folder = work / "out" / "probabilities"
    assert read_kind(folder)
    held = read_probabilities(folder / "case.nii.gz", multilabel=True)
    assert held.multilabel
    torch.testing.assert_close(held.probs[:, 4, 4, 4], torch.sigmoid(LOGIT * torch.tensor([1.0, -1.0, -3.0])))
    run("decode", folder, "--out", tmp_path / "out", "--temperature", 0.9)
    for decoder in ("argmax", "rma"):
        ours, theirs = (read_volume(top / decoder / "case.nii.gz") for top in (tmp_path / "out", work / "out"))
        np.testing.assert_array_equal(ours.array, theirs.array)
    columns = ["label_name", "expected_score_rma", "volume_rma_ml", "expected_volume_ml"]
    ours, theirs = (pandas.read_csv(top / "inference.csv")[columns] for top in (tmp_path / "out", work / "out"))
    pandas.testing.assert_frame_equal(ours, theirs)


def test_decode_is_told_the_kind_where_nothing_says_it(work, tmp_path):
    folder = tmp_path / "foreign"
    folder.mkdir()
    shutil.copy(work / "out" / "probabilities" / "case.nii.gz", folder)
    told = run("decode", folder, "--out", tmp_path / "refused", code=1)
    assert "adding up to 1" in told and "decode --multilabel" in told
    run("decode", folder, "--out", tmp_path / "out", "--multilabel", "--decode", "rma")
    assert read_volume(tmp_path / "out" / "rma" / "case.nii.gz").array.sum(axis=(1, 2, 3)).tolist() == SIZES
    told = run("decode", work / "out" / "probabilities", "--out", tmp_path / "refused", "--exclusive", code=1)
    assert "adding up to 1" in told


@pytest.mark.parametrize("content", ["null", "[]", '{"multilabel": 1}', "{", '{"kind": "multilabel"}'])
def test_a_broken_kind_file_is_named(work, tmp_path, content):
    shutil.copytree(work / "out" / "probabilities", tmp_path / "probabilities")
    (tmp_path / "probabilities" / "kind.json").write_text(content)
    told = run("decode", tmp_path / "probabilities", "--out", tmp_path / "out", code=2)
    assert "'multilabel' true or false" in told and "kind.json" in told


def test_a_later_run_of_exclusive_classes_takes_the_kind_back(work, tmp_path):
    shutil.copytree(work / "out", tmp_path / "out")
    write_network(tmp_path / "bundle", {**CONFIG, "multilabel": False})
    arguments = ("--input", work / "images", "--out", tmp_path / "out", "--save-probabilities")
    run("infer", "--bundle", tmp_path / "bundle", *arguments)
    assert not (tmp_path / "out" / "probabilities" / "kind.json").exists()
    assert read_volume(tmp_path / "out" / "rma" / "case.nii.gz").array.ndim == 3


@pytest.mark.parametrize(
    ("postprocessing", "multilabel"),
    [
        ([{"_target_": "rankseg_rma.AsDiscreteRMAd", "keys": "pred", "multilabel": True}], True),
        ([{"_target_": "rankseg_rma.AsDiscreteRMAd", "keys": ["pred", "a"], "multilabel": [True, False]}], True),
        ([{"_target_": "Activationsd", "keys": "pred", "sigmoid": True}], True),
        ([{"_target_": "rankseg_rma.AsDiscreteRMAd", "keys": "pred"}], False),
    ],
)
def test_postprocessing_says_the_kind_too(tmp_path, postprocessing, multilabel):
    config = {name: value for name, value in CONFIG.items() if name != "multilabel"}
    config["postprocessing"] = {"_target_": "Compose", "transforms": postprocessing}
    bundle = open_bundle(write_network(tmp_path / "bundle", config))
    assert bundle.multilabel is multilabel
    if multilabel:
        with pytest.raises(ValueError, match="test: bundle must be one of classes that exclude each other"):
            require_exclusive("test", bundle)


def test_a_single_class_is_a_sigmoid(work, tmp_path):
    config = {**CONFIG, "multilabel": False, "label_names": ["whole"]}
    config["network"] = {**CONFIG["network"], "out_channels": 1}
    bundle = open_bundle(write_network(tmp_path / "bundle", config, num_classes=1))
    probs = predict_probabilities(bundle, work / "images" / "case.nii.gz").probs
    torch.testing.assert_close(probs[0], torch.sigmoid(2 * LOGIT * (torch.from_numpy(nested()) - 0.5)))


def test_slices_of_a_2d_network_overlap_too(work, tmp_path):
    network = {"_target_": "torch.nn.Conv2d", "in_channels": 1, "out_channels": 3, "kernel_size": 1}
    inferer = {"_target_": "rankseg_rma.MultiScaleInferer", "roi_size": [16, 16], "flip": True}
    ready = {"_target_": "Compose", "transforms": [{"_target_": "EnsureTyped", "keys": "image"}]}
    config = {**CONFIG, "kind": "slices"}
    config |= {"network": network, "inferer": inferer, "preprocessing": ready}
    root = write_network(tmp_path / "bundle", config, dimensions=2)
    run("infer", "--bundle", root, "--input", work / "images", "--out", tmp_path / "out")
    for decoder in ("argmax", "rma"):
        masks = read_volume(tmp_path / "out" / decoder / "case.nii.gz").array
        np.testing.assert_array_equal(masks, read_volume(work / "out" / decoder / "case.nii.gz").array)
    assert pandas.read_csv(tmp_path / "out" / "inference.csv").label_name.tolist() == NAMES


def test_the_average_of_sigmoids_comes_back(rng):
    network = torch.nn.Conv2d(1, 2, 1)
    image = torch.from_numpy(rng.normal(size=(1, 1, 12, 16)).astype(np.float32))
    with torch.inference_mode():
        found = MultiScaleInferer((12, 16), multilabel=True)(image, network).sigmoid()
        torch.testing.assert_close(found, network(image).sigmoid())


@pytest.mark.parametrize("unit", ["volume", "slice"])
def test_arms_of_overlapping_classes(rng, unit):
    probs = torch.from_numpy(rng.random((3, 5, 6, 7)).astype(np.float32))
    arms = {"argmax": None, "rma": RMADecoder(unit=unit, slice_axis=1, multilabel=True)}
    decoded = decode_arms(probs, probs, arms, multilabel=True)
    np.testing.assert_array_equal(decoded["argmax"].labels, probs.numpy() > 0.5)
    told = expect(probs, decoded, "dice", unit=unit, slice_axis=1)
    for name, arm in decoded.items():
        assert told.counts[name].tolist() == arm.labels.sum(axis=(1, 2, 3)).tolist()
    assert (told.scores["rma"] >= told.scores["argmax"]).all()
    with pytest.raises(ValueError, match="decoders with multilabel=False; got True"):
        decode_arms(probs, probs, arms)


def test_probabilities_of_one_class_may_be_a_mask_of_one_class(tmp_path, rng):
    held = Probabilities(rng.random((1, 4, 5, 6)), AFFINE, multilabel=True)
    write_probabilities(tmp_path / "in" / "case.nii.gz", held)
    (tmp_path / "in" / "labels.json").write_text(json.dumps(["organ"]))
    run("decode", tmp_path / "in", "--out", tmp_path / "out", "--multilabel")
    assert pandas.read_csv(tmp_path / "out" / "inference.csv").label_name.tolist() == ["organ"]


def test_what_scores_one_label_for_each_voxel_refuses_overlapping_classes(work, tmp_path):
    folder = work / "out" / "probabilities"
    masks, references = work / "out" / "rma", tmp_path / "references"
    references.mkdir()
    for path in masks.glob("*.nii.gz"):
        volume = read_volume(path)
        write_volume(references / path.name, volume.array.max(axis=0), volume.affine)
    told = run("advise", folder, "--references", references, "--out", tmp_path / "advice", code=2)
    assert "advise: probabilities must be of classes that exclude each other; got kind.json" in told
    told = run("evaluate", "--predictions", references, "--references", references, "--probabilities", folder, "--out",
               tmp_path / "scores", code=2)  # fmt: skip
    assert "evaluate: probabilities must be of classes that exclude each other" in told
    told = run("evaluate", "--predictions", masks, "--references", references, "--out", tmp_path / "other", code=1)
    assert "write one label map for each class" in told
