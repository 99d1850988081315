"""Classes that should add up to 1 and do not: refused where classes exclude each other, told apart from padding."""

import numpy as np
import pytest
import torch

from conftest import random_probs
from rankseg_rma import AsDiscreteRMA, AsDiscreteRMAd, ScaleTemperature, ScaleTemperatured, rankseg_rma
from rankseg_rma.decoder.sums import require_sums
from rankseg_rma.decoder.temperature import scale_probabilities

LOGIT = float(torch.logit(torch.tensor(0.953, dtype=torch.float64)))


@pytest.fixture
def nested():
    """Sigmoid outputs (3, 16, 16, 16) of nested cubes of 1000, 216 and 64 voxels, each sure of itself."""
    logits = torch.full((3, 16, 16, 16), -LOGIT)
    for place, side in enumerate((10, 6, 4)):
        inside = slice(8 - side // 2, 8 + side // 2)
        logits[place, inside, inside, inside] = LOGIT
    return logits.sigmoid()


def test_nested_regions_are_scaled_and_decoded_by_themselves(nested):
    item = ScaleTemperatured("pred", 0.9, multilabel=True)({"pred": nested})
    np.testing.assert_allclose(item["pred"][:, 8, 8, 8], 0.966, atol=5e-4)
    np.testing.assert_allclose(item["pred"], torch.sigmoid(torch.logit(nested) / 0.9), atol=1e-6)
    masks = AsDiscreteRMAd("pred", multilabel=True)(item)["pred"]
    assert masks.sum(dim=(1, 2, 3)).tolist() == [1000, 216, 64]


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("ScaleTemperature", lambda probs: ScaleTemperature(0.9)(probs)),
        ("ScaleTemperature", lambda probs: ScaleTemperatured("pred", 0.9)({"pred": probs})),
        ("AsDiscreteRMA", lambda probs: AsDiscreteRMA()(probs)),
        ("AsDiscreteRMA", lambda probs: AsDiscreteRMA(sigmoid=True)(torch.logit(probs))),
        ("AsDiscreteRMA", lambda probs: AsDiscreteRMAd("pred", to_onehot=3)({"pred": probs})),
        ("rankseg_rma", lambda probs: rankseg_rma(probs[None])),
        ("rankseg_rma", lambda probs: rankseg_rma(probs.numpy()[None], "iou")),
        ("decode", lambda probs: scale_probabilities(probs, 0.9, function="decode")),
    ],
)
def test_overlapping_classes_are_refused_where_they_should_exclude_each_other(nested, name, call):
    say = "allow_overlap=True" if name == "rankseg_rma" else "multilabel=True"
    with pytest.raises(ValueError, match=f"{name}: .* must be classes that add up to 1; got .* say {say}"):
        call(nested)


def test_classes_on_another_axis_are_found(rng):
    last = np.moveaxis(random_probs(rng, 3, (16, 17)), 0, -1)
    with pytest.raises(ValueError, match=r"Axis 2 of a case adds up to 1: put the classes first, \(class, \*spatial\)"):
        rankseg_rma(last[None])


def test_overlapping_classes_pass_where_they_may_overlap(nested):
    assert rankseg_rma(nested[None], allow_overlap=True).sum() == 1280
    assert AsDiscreteRMA(multilabel=True, sigmoid=True)(torch.logit(nested)).sum() == 1280


@pytest.mark.parametrize("container", [torch.as_tensor, np.asarray, lambda probs: np.asfortranarray(probs)[:, ::-1]])
@pytest.mark.parametrize("shape", [(50,), (40, 50), (24, 30, 40)])
def test_one_voxel_of_a_hundred_may_be_above(rng, container, shape):
    probs = random_probs(rng, 3, shape)
    flat = probs.reshape(3, -1)
    few = rng.permutation(flat.shape[1])[: flat.shape[1] // 100]
    flat[:, few] = 0.5
    require_sums("f", "probs", container(probs))
    flat[:, rng.permutation(flat.shape[1])[: flat.shape[1] // 20]] = 0.5
    with pytest.raises(ValueError, match="voxels above 1 and 0 below"):
        require_sums("f", "probs", container(probs))


def test_padding_and_its_edge_are_no_fault(rng):
    """Inverting a crop and then a resampling leaves zeros, and around the crop probabilities mixed with them."""
    probs = random_probs(rng, 3, (20, 20, 20))
    probs[:, :6] = 0
    require_sums("f", "probs", probs)
    probs[:, 6:9] *= 0.5
    require_sums("f", "probs", probs)
    probs[:, :15] *= 0.5
    with pytest.raises(ValueError, match="0 of 8000|of 8000 voxels above 1 and"):
        require_sums("f", "probs", probs)
    require_sums("f", "probs", np.zeros_like(probs))
    require_sums("f", "probs", probs[:1])
    require_sums("f", "probs", probs[:, :0])


def test_inverted_crop_of_a_bundle_is_scaled_and_decoded(rng):
    from monai.data import MetaTensor
    from monai.transforms import Compose, CropForegroundd, Invertd, Spacingd

    image = torch.zeros(1, 40, 40, 40)
    image[:, 10:30, 10:30, 10:30] = 1
    chain = Compose([Spacingd("image", (1.5, 1.5, 1.5)), CropForegroundd("image", source_key="image", margin=2)])
    item = chain({"image": MetaTensor(image, affine=torch.eye(4, dtype=torch.float64))})
    probs = torch.from_numpy(random_probs(rng, 3, tuple(item["image"].shape[1:])))
    item["pred"] = MetaTensor(probs, meta=item["image"].meta, applied_operations=item["image"].applied_operations)
    pred = Invertd("pred", chain, orig_keys="image", nearest_interp=False)(item)["pred"]
    assert ((pred.sum(0) - 1).abs() > 0.05).float().mean() > 0.01
    assert AsDiscreteRMA()(ScaleTemperature(1.2)(pred)).shape == (1, 40, 40, 40)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions(rng, dtype):
    probs = torch.from_numpy(random_probs(rng, 150, (12, 12))).to(dtype)
    require_sums("f", "probs", probs)
    with pytest.raises(ValueError, match="144 of 144 voxels above 1"):
        require_sums("f", "probs", probs * 2)


def test_logits_are_named_as_such_first():
    with pytest.raises(ValueError, match="RMADecoder: probs must be probabilities in"):
        AsDiscreteRMA()(torch.tensor([[3.0, 2.0], [-2.0, 1.0]]))
