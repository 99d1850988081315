"""The MONAI transforms beside the ones that they replace."""

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.transforms import AsDiscrete, AsDiscreted, Compose, Invertd, SaveImaged

import rankseg_rma
from conftest import random_probs
from rankseg_rma import AsDiscreteRMA, AsDiscreteRMAd, RMADecoder, ScaleTemperature, ScaleTemperatured
from rankseg_rma.files.volumes import read_volume

AFFINE = torch.diag(torch.tensor([0.5, 0.8, 2.0, 1.0], dtype=torch.float64))


@pytest.fixture
def probs(rng):
    return torch.from_numpy(random_probs(rng, 3, (7, 8, 9)))


def test_drop_in_for_asdiscrete(probs):
    image = MetaTensor(probs, affine=AFFINE, meta={"filename_or_obj": "case.nii.gz"})
    neutral = {"dim": 0, "keepdim": True, "threshold": None, "rounding": None}
    for kwargs in ({}, {"to_onehot": 3}, {"dtype": torch.uint8}, neutral):
        ours, theirs = AsDiscreteRMA(argmax=True, **kwargs)(image), AsDiscrete(argmax=True, **kwargs)(image)
        assert (ours.shape, ours.dtype, type(ours)) == (theirs.shape, theirs.dtype, type(theirs))
        assert torch.equal(ours.affine, theirs.affine)
        assert ours.meta["filename_or_obj"] == "case.nii.gz"
    labels = RMADecoder()(probs).labels
    assert torch.equal(AsDiscreteRMA()(probs)[0], labels.float())
    assert torch.equal(AsDiscreteRMA(to_onehot=3)(probs).argmax(0), labels.long())
    assert type(AsDiscreteRMA()(probs.numpy())) is type(AsDiscrete(argmax=True)(probs.numpy()))


def test_config_changes_target_alone(probs):
    config = {
        "imports": ["$import rankseg_rma"],
        "post": {
            "_target_": "AsDiscreted", "keys": ["pred", "label"], "argmax": [True, False], "to_onehot": 3,
            "allow_missing_keys": True,
        },
    }  # fmt: skip
    label = torch.randint(0, 3, (1, 7, 8, 9))
    results = []
    for target in ("AsDiscreted", "rankseg_rma.AsDiscreteRMAd"):
        config["post"]["_target_"] = target
        results.append(ConfigParser(config).get_parsed_content("post")({"pred": probs, "label": label}))
    theirs, ours = results
    assert torch.equal(ours["label"], theirs["label"])
    assert ours["pred"].shape == theirs["pred"].shape
    assert torch.equal(ours["pred"].argmax(0), RMADecoder()(probs).labels.long())


def test_undecoded_key_is_as_asdiscreted_leaves_it(probs):
    label = torch.randint(0, 3, (1, 7, 8, 9))
    item = {"pred": probs, "label": label}
    for kwargs in ({}, {"to_onehot": [None, 3]}):
        theirs = AsDiscreted(["pred", "label"], argmax=[True, False], **kwargs)(item)
        ours = AsDiscreteRMAd(["pred", "label"], argmax=[True, False], **kwargs)(item)
        assert torch.equal(ours["label"], theirs["label"])
        assert ours["label"].dtype == theirs["label"].dtype
    assert AsDiscreteRMAd("pred", argmax=False)(item)["pred"].shape == (1, 7, 8, 9)


def test_dictionary_arguments(probs):
    logits = probs.log()
    transform = AsDiscreteRMAd(
        ["a", "b", "missing"], softmax=[True, False, False], metric=["dice", "iou", "dice"],
        multilabel=[False, True, False],
        keep_summary=True, allow_missing_keys=True,
    )  # fmt: skip
    item = transform({"a": logits, "b": probs, "other": 1})
    assert torch.equal(item["a"][0], RMADecoder()(probs).labels.float())
    assert item["b"].shape == probs.shape
    assert set(item) == {"a", "b", "a_rma", "b_rma", "other"}
    np.testing.assert_array_equal(item["b_rma"]["num_selected"], item["b"].sum(dim=(1, 2, 3)).numpy())
    assert set(item["a_rma"]) == {"cutoff", "num_selected", "mass", "value"}
    with pytest.raises(KeyError):
        AsDiscreteRMAd("missing")({"a": logits})
    assert rankseg_rma.AsDiscreteRMAD is rankseg_rma.AsDiscreteRMADict is AsDiscreteRMAd


def test_sigmoid_and_void(probs):
    logit = torch.logit(probs[1:2].clamp(1e-6, 1 - 1e-6))
    assert torch.equal(AsDiscreteRMA(sigmoid=True)(logit)[0], AsDiscreteRMA()(logit.sigmoid())[0])
    hot = AsDiscreteRMA(to_onehot=3, unassigned="void")(probs)
    assert torch.equal(hot.sum(0) == 0, RMADecoder(unassigned="void")(probs).labels == 255)


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_slices_are_found_from_the_affine(probs, plane):
    """KiTS stores (z, y, x): axial slices lie along the first axis."""
    zyx = torch.tensor([[0, 0, 0.8, 0], [0, 0.8, 0, 0], [-3.0, 0, 0, 0], [0, 0, 0, 1]], dtype=torch.float64)
    axis = {"axial": 0, "coronal": 1, "sagittal": 2}[plane]
    ours = AsDiscreteRMA(unit="slice", slice_axis=plane)(MetaTensor(probs, affine=zyx))
    assert torch.equal(ours.as_tensor()[0], RMADecoder(unit="slice", slice_axis=axis)(probs).labels.float())
    plain = AsDiscreteRMA(unit="slice", slice_axis=plane)(probs)
    assert torch.equal(plain[0], RMADecoder(unit="slice", slice_axis=2 - axis)(probs).labels.float())


def test_chain_saves_uint8_on_the_same_grid(probs, tmp_path):
    chain = Compose([
        AsDiscreteRMAd("pred"),
        SaveImaged("pred", output_dir=tmp_path, output_postfix="", output_dtype="uint8", separate_folder=False,
                   print_log=False),
    ])  # fmt: skip
    chain({"pred": MetaTensor(probs, affine=AFFINE, meta={"filename_or_obj": "case.nii.gz"})})
    saved = read_volume(tmp_path / "case.nii.gz")
    assert saved.array.dtype == np.uint8
    np.testing.assert_array_equal(saved.array, RMADecoder()(probs).labels.numpy())
    np.testing.assert_allclose(saved.affine, AFFINE.numpy())


def test_padding_of_an_inverted_crop_is_background(rng):
    """Inverting CropForegroundd pads probabilities with zeros; these voxels must not become foreground."""
    from monai.transforms import CropForegroundd

    image = torch.zeros(1, 20, 20, 20)
    image[:, 6:12, 6:12, 6:12] = 1
    crop = CropForegroundd("image", source_key="image")
    item = crop({"image": MetaTensor(image, affine=AFFINE)})
    foreground = torch.full((2, 6, 6, 6), 0.1)
    foreground[1] = 0.9
    item["pred"] = MetaTensor(foreground, meta=item["image"].meta)
    pred = Invertd("pred", crop, orig_keys="image")(item)["pred"]
    labels = AsDiscreteRMA()(pred)
    assert pred.shape[1:] == (20, 20, 20)
    assert int(labels.sum()) == 6**3


def test_temperature_is_softmax_of_scaled_logits(rng):
    logits = torch.from_numpy(rng.normal(0, 3, (4, 5, 6)))
    for temperature in (0.5, 1.0, 1.7):
        scaled = ScaleTemperature(temperature)(logits.softmax(0))
        torch.testing.assert_close(scaled, (logits / temperature).softmax(0))
        assert torch.equal(scaled.argmax(0), logits.argmax(0))
    many = torch.full((133, 2), 1 / 133)
    torch.testing.assert_close(ScaleTemperature(0.05)(many), many)
    single = ScaleTemperature(0.5)(torch.tensor([[0.8, 0.0, 1.0]]))
    torch.testing.assert_close(single, torch.tensor([[0.64 / 0.68, 0.0, 1.0]]))
    assert not ScaleTemperature(2.0)(torch.zeros(3, 2, 2)).any()
    item = ScaleTemperatured("pred", 0.5)({"pred": MetaTensor(logits.softmax(0)[:, None], affine=AFFINE)})
    assert torch.equal(item["pred"].affine, AFFINE)
    assert AsDiscreted("pred", argmax=True)(item)["pred"].shape == (1, 1, 5, 6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AsDiscreteRMA(softmax=True, sigmoid=True), "not both true"),
        (lambda: AsDiscreteRMA(to_onehot=True), "to_onehot must be"),
        (lambda: AsDiscreteRMA(metric="dise"), "metric must be one of"),
        (lambda: AsDiscreteRMA(unit="slice", slice_axis="axail"), "slice_axis must be"),
        (lambda: AsDiscreteRMA(unit="slice")(torch.ones(2, 3, 3)), "with 2 spatial axes"),
        (lambda: ScaleTemperature(-1), "temperature must be a number in"),
        (lambda: ScaleTemperature(0), "temperature must be a number in"),
        (lambda: ScaleTemperature(0.5)(torch.tensor([[3.0], [-2.0]])), "Apply softmax to logits first"),
        (lambda: ScaleTemperature(0.5)(torch.tensor([[float("nan")], [0.5]])), "Apply softmax to logits first"),
        (lambda: AsDiscreteRMA(threshold=0.5), "threshold must be None"),
    ],
)
def test_wrong_use(make, message):
    with pytest.raises(ValueError, match=message):
        make()
