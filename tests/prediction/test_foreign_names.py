"""Names of other tools on the way from images to scores: infer, decode, evaluate, compare and advise pair them."""

import json
import unicodedata

import numpy as np
import pytest
import SimpleITK
import torch

from conftest import run
from rankseg_rma.demo import DEMO_BUNDLE
from rankseg_rma.evaluation.evaluate import evaluate_masks
from rankseg_rma.evaluation.options import EvaluationOptions
from rankseg_rma.files.probabilities import Probabilities, write_probabilities
from rankseg_rma.files.volumes import read_volume, write_volume
from rankseg_rma.prediction.infer import infer_cases
from rankseg_rma.prediction.inputs import find_images
from rankseg_rma.prediction.policy import DecodeOptions
from rankseg_rma.prediction.predict import predict_probabilities
from rankseg_rma.tables.store import read_rows

COMPOSED = "Müller"
DECOMPOSED = unicodedata.normalize("NFD", COMPOSED)
AFFINE = np.diag([3.0, 3.0, 5.0, 1.0])


def write_case(root, image, label, seed=0):
    """An image, a label of two classes, and soft probabilities of them, under the names given."""
    rng = np.random.default_rng(seed)
    reference = np.zeros((12, 10, 8), np.uint8)
    reference[2:9, 2:8, 2:6], reference[4:6, 4:6, 3:5] = 1, 2
    logits = 2.0 * np.eye(3)[reference].transpose(3, 0, 1, 2) + rng.normal(size=(3, *reference.shape))
    probs = torch.from_numpy(logits).softmax(dim=0).float()
    write_volume(root / "images" / f"{image}.nii.gz", (100.0 * reference - 50).astype(np.float32), AFFINE)
    write_volume(root / "labels" / f"{label}.nii.gz", reference, AFFINE)
    write_probabilities(root / "probabilities" / f"{image}.nii.gz", Probabilities(probs, AFFINE))
    return probs, reference


def names_in(folder):
    return sorted(path.name for path in folder.glob("*.nii.gz"))


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Images and probabilities named as nnU-Net names images, and decomposed; labels without either."""
    root = tmp_path_factory.mktemp("foreign")
    for seed, (image, label) in enumerate([("x_0000", "x"), ("y_0000", "y"), (f"{DECOMPOSED}_0000", COMPOSED)]):
        write_case(root, image, label, seed)
    return root


def test_infer_then_evaluate(cohort, tmp_path):
    run("infer", "--bundle", DEMO_BUNDLE, "--input", cohort / "images", "--out", tmp_path / "out",
        "--save-probabilities", "--device", "cpu")  # fmt: skip
    names = [f"{COMPOSED}.nii.gz", "x.nii.gz", "y.nii.gz"]
    for folder in ("argmax", "rma", "probabilities"):
        assert names_in(tmp_path / "out" / folder) == sorted(names)
    outcome = evaluate_masks(
        [str(tmp_path / "out")], cohort / "labels", tmp_path / "scores",
        EvaluationOptions(probabilities=tmp_path / "out" / "probabilities", images=cohort / "images", report=True),
    )  # fmt: skip
    assert outcome.failed == {}
    assert {*read_rows(tmp_path / "scores" / "cases.csv")["case_id"]} == {"x", "y", COMPOSED}
    assert "without its image" not in (tmp_path / "scores" / "report.html").read_text(encoding="utf-8")


def test_decode_compare_and_advise(cohort, tmp_path):
    run("decode", cohort / "probabilities", "--out", tmp_path / "out")
    assert names_in(tmp_path / "out" / "rma") == sorted([f"{COMPOSED}.nii.gz", "x.nii.gz", "y.nii.gz"])
    run("advise", cohort / "probabilities", "--references", cohort / "labels", "--out", tmp_path / "advice")
    assert {*read_rows(tmp_path / "advice" / "advice_cases.csv")["case_id"]} == {"x", "y", COMPOSED}
    validation = tmp_path / "validation"
    validation.mkdir()
    (validation / "x_0000.nii.gz").write_bytes((cohort / "probabilities" / "x_0000.nii.gz").read_bytes())
    judged = tmp_path / "judged"
    judged.mkdir()
    (judged / "y_0000.nii.gz").write_bytes((cohort / "probabilities" / "y_0000.nii.gz").read_bytes())
    run("compare", tmp_path / "out" / "argmax", tmp_path / "out" / "rma", "--references", cohort / "labels",
        "--probabilities", judged, "--validation", validation, "--out", tmp_path / "compared", code=1)  # fmt: skip
    assert names_in(tmp_path / "compared" / "masks" / "threshold") == ["y.nii.gz"]
    told = json.loads((tmp_path / "compared" / "masks" / "thresholds.json").read_text(encoding="utf-8"))
    assert told["case_ids"] == ["x"]


def test_masks_of_earlier_runs_and_data_lists_pair(cohort, tmp_path):
    """Masks, their inference.csv and a data list that still have the channel's number, or another spelling."""
    run("decode", cohort / "probabilities", "--out", tmp_path)
    for decoder in ("argmax", "rma"):
        for path in (tmp_path / decoder).glob("*.nii.gz"):
            path.rename(path.with_name(path.name.replace(".nii", "_0000.nii")))
    table = tmp_path / "inference.csv"
    table.write_text(table.read_text(encoding="utf-8").replace("\nx,", "\nx_0000,").replace("\ny,", "\ny_0000,"))
    options = EvaluationOptions(only={"x_0000", DECOMPOSED})
    outcome = evaluate_masks([str(tmp_path)], cohort / "labels", tmp_path / "scores", options)
    assert outcome.failed == {}
    assert {*read_rows(tmp_path / "scores" / "cases.csv")["case_id"]} == {"x", COMPOSED}
    volumes = read_rows(tmp_path / "scores" / "volumes.csv")
    assert {*volumes[volumes["decoder"] == "expected"]["case_id"]} == {"x", COMPOSED}


def test_ids_that_end_in_a_number_stay(tmp_path):
    for number in (0, 1):
        _, reference = write_case(tmp_path, f"case_{number:04d}", f"case_{number:04d}")
        write_volume(tmp_path / "masks" / f"case_{number:04d}.nii.gz", reference, AFFINE)
    outcome = evaluate_masks([f"m={tmp_path / 'masks'}"], tmp_path / "labels", tmp_path / "scores", EvaluationOptions())
    assert outcome.failed == {}
    table = read_rows(tmp_path / "scores" / "cases.csv")
    assert {*table["case_id"]} == {"case_0000", "case_0001"}
    assert (table[table["metric"] == "dice"]["value"] == 1).all()
    run("decode", tmp_path / "probabilities", "--out", tmp_path / "decoded")
    assert names_in(tmp_path / "decoded" / "rma") == ["case_0000.nii.gz", "case_0001.nii.gz"]


def test_two_masks_of_a_case_are_named(tmp_path):
    _, reference = write_case(tmp_path, "x", "x")
    for name in ("x", "x_0000"):
        write_volume(tmp_path / "masks" / f"{name}.nii.gz", reference, AFFINE)
    output = run("evaluate", "--predictions", f"m={tmp_path / 'masks'}", "--references", tmp_path / "labels",
                 "--out", tmp_path / "scores", code=2)  # fmt: skip
    assert all(str(tmp_path / "masks" / f"{name}.nii.gz") in output for name in ("x", "x_0000"))


def test_segmentations_of_slicer_are_references(tmp_path):
    _, reference = write_case(tmp_path, "case1", "case1")
    image = SimpleITK.GetImageFromArray(reference.T)
    image.SetSpacing((3.0, 3.0, 5.0))
    image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
    (tmp_path / "slicer").mkdir()
    SimpleITK.WriteImage(image, str(tmp_path / "slicer" / "case1.seg.nrrd"))
    outcome = evaluate_masks([str(tmp_path / "labels")], tmp_path / "slicer", tmp_path / "scores", EvaluationOptions())
    assert outcome.failed == {}
    table = read_rows(tmp_path / "scores" / "cases.csv")
    assert (table[table["metric"] == "dice"]["value"] == 1).all()


def test_channels_that_a_bundle_does_not_take(tmp_path):
    for name in ("w", "x_0000", "x_0001", "y_0000", "y_0001"):
        write_case(tmp_path, name, "x")
    # Beside another case the channels of x are no cases, whether that has a number, several or none.
    for others in (["w", "y_0000", "y_0001"], ["y_0000", "y_0001"], ["y_0000"], ["w"]):
        files = [tmp_path / "images" / f"{name}.nii.gz" for name in ("x_0000", "x_0001", *others)]
        inputs = [argument for file in files for argument in ("--input", file)]
        output = run("infer", "--bundle", DEMO_BUNDLE, *inputs, "--out", tmp_path / "out", code=2)
        assert "image of 1 channel must be one file; got 2" in output and "(case x)" in output
        assert "x_0000.nii.gz to x_0001.nii.gz" in output
        assert not (tmp_path / "out").exists()


def test_a_folder_numbered_from_0_holds_cases(tmp_path):
    names = [f"case_{number:04d}" for number in range(3)]
    for seed, name in enumerate(names):
        write_case(tmp_path, name, name, seed)
    output = run("infer", "--bundle", DEMO_BUNDLE, "--input", tmp_path / "images", "--out", tmp_path / "out",
                 "--device", "cpu")  # fmt: skip
    assert output.count("case_0000 to case_0002 are read as 3 cases") == 1
    for folder in ("argmax", "rma"):
        assert names_in(tmp_path / "out" / folder) == [f"{name}.nii.gz" for name in names]
    assert {*read_rows(tmp_path / "out" / "inference.csv")["case_id"]} == {*names}
    options = EvaluationOptions(images=tmp_path / "images")
    outcome = evaluate_masks([str(tmp_path / "out")], tmp_path / "labels", tmp_path / "scores", options)
    assert outcome.failed == {}
    assert {*read_rows(tmp_path / "scores" / "cases.csv")["case_id"]} == {*names}


def test_channels_that_are_missing(tmp_path):
    for name in ("x_0000", "x_0001"):
        (tmp_path / f"{name}.nii.gz").write_bytes(b"")
    assert [*find_images([tmp_path], 2)[0]] == ["x"]
    with pytest.raises(ValueError, match=r"one file, or 3; got 2: .*x_0000.nii.gz to x_0001.nii.gz \(case x\)"):
        find_images([tmp_path], 3)
    (tmp_path / "x_0001.nii.gz").unlink()
    assert find_images([tmp_path], 1) == ({"x": (tmp_path / "x_0000.nii.gz",)}, [])


class Channels:
    """What inference needs of a bundle: the mean of the two channels is the logit of class 1."""

    kind, device, network, in_channels, multilabel = "volume", torch.device("cpu"), None, 2, False

    def __init__(self):
        from monai.transforms import Compose, LoadImaged

        self.preprocessing = Compose([LoadImaged("image", ensure_channel_first=True, image_only=True)])

    @staticmethod
    def inferer(batch, network):
        assert batch.shape[1] == 2
        return torch.stack([torch.zeros_like(batch[:, 0]), batch[:, 0] - batch[:, 1] / 2], dim=1)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd"])
def test_channels_in_files_of_their_own_are_stacked(tmp_path, rng, suffix, monkeypatch):
    first, second = rng.normal(size=(2, 6, 5, 4)).astype(np.float32)
    for number, array in enumerate((first, second)):
        image = SimpleITK.GetImageFromArray(array.T)
        SimpleITK.WriteImage(image, str(tmp_path / f"x_{number:04d}{suffix}"))
    files = [tmp_path / f"x_{number:04d}{suffix}" for number in (0, 1)]
    probs = predict_probabilities(Channels(), *files).probs
    np.testing.assert_allclose(probs[1], 1 / (1 + np.exp(second / 2 - first)), atol=1e-6)
    moved = SimpleITK.ReadImage(str(files[1]))
    moved.SetSpacing((2.0, 1.0, 1.0))
    SimpleITK.WriteImage(moved, str(files[1]))
    with pytest.raises(ValueError, match="x_0001") as caught:
        predict_probabilities(Channels(), *files)
    assert f"Its first channel is {files[0]}" in str(caught.value)


def test_a_bundle_of_two_channels_gets_both_files(tmp_path, monkeypatch):
    for name in ("x_0000", "x_0001", "y"):
        write_case(tmp_path, name, "x")
    from rankseg_rma.prediction import predict

    seen = {}
    monkeypatch.setattr("rankseg_rma.bundles.open.find_channels", lambda root: 2)

    def keep(bundle, image, *channels):
        seen[image.name] = [path.name for path in channels]
        volume = read_volume(image)
        return Probabilities(torch.full((3, *volume.array.shape), 1 / 3), volume.affine)

    monkeypatch.setattr(predict, "predict_probabilities", keep)
    outcome = infer_cases(
        DEMO_BUNDLE, [tmp_path / "images"], tmp_path / "out", ("argmax",), DecodeOptions(), None, False, "cpu"
    )
    assert outcome.failed == {}
    assert seen == {"x_0000.nii.gz": ["x_0001.nii.gz"], "y.nii.gz": []}
    assert names_in(tmp_path / "out" / "argmax") == ["x.nii.gz", "y.nii.gz"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("temperature.json", '{"temperature": true}'),
        ("temperature.json", '{"temperature": 0.01}'),
        ("labels.json", "null"),
    ],
)
def test_side_files_are_refused_before_the_work(cohort, tmp_path, name, text):
    folder = tmp_path / "probabilities"
    folder.mkdir()
    for path in (cohort / "probabilities").glob("*.nii.gz"):
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / name).write_text(text, encoding="utf-8")
    output = run("decode", folder, "--out", tmp_path / "out", code=2)
    assert len({*output.splitlines()}) == 1 and str(folder / name) in output and not (tmp_path / "out").exists()
    if name == "labels.json":
        run("advise", folder, "--references", cohort / "labels", "--out", tmp_path / "advice", code=2)
    else:
        masks = ["--predictions", f"m={cohort / 'labels'}", "--references", cohort / "labels"]
        output = run("evaluate", *masks, "--probabilities", folder, "--out", tmp_path / "scores", code=2)
        assert str(folder / name) in output and not (tmp_path / "scores" / "cases.csv").exists()
        (tmp_path / "validation").mkdir()
        (folder / "x_0000.nii.gz").rename(tmp_path / "validation" / "x_0000.nii.gz")
        output = run("compare", f"a={cohort / 'labels'}", f"b={cohort / 'labels'}", "--references", cohort / "labels",
                     "--probabilities", folder, "--validation", tmp_path / "validation",
                     "--out", tmp_path / "compared", code=2)  # fmt: skip
        assert str(folder / name) in output
        assert not (tmp_path / "compared" / "masks").exists()


@pytest.mark.parametrize("text", ['{"temperature": true}', '{"temperature": NaN}', "null"])
def test_a_bundles_temperature_is_refused_once(cohort, tmp_path, text):
    import shutil

    shutil.copytree(DEMO_BUNDLE, tmp_path / "bundle")
    stored = tmp_path / "bundle" / "models" / "temperature.json"
    stored.write_text(text, encoding="utf-8")
    output = run("infer", "--bundle", tmp_path / "bundle", "--input", cohort / "images", "--out", tmp_path / "out",
                 code=2)  # fmt: skip
    assert len({*output.splitlines()}) == 1 and str(stored) in output
