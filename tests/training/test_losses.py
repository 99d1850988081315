"""Losses with void voxels: the value is that of the voxels that count, and void voxels have no gradient."""

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor

from rankseg_rma.files.images import VOID
from rankseg_rma.training.losses import LOSSES, loss_config


def make_loss(name):
    return ConfigParser({"loss": loss_config(name)}).get_parsed_content("loss")


def sample(seed=0, spatial=(6, 7), classes=4, void=0.3, images=2):
    """Logits and labels; class 3 is nowhere, the second image lacks class 2 as well."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(images, classes, *spatial, generator=generator)
    labels = torch.randint(0, 3, (images, 1, *spatial), generator=generator)
    labels[1:][labels[1:] == 2] = 1
    labels[torch.rand(labels.shape, generator=generator) < void] = VOID
    return logits, labels.to(torch.uint8)


def kept_voxels(logits, labels):
    """Voxels that count, one matrix of (voxel, class) logits and one row of labels for each image."""
    for image, label in zip(logits, labels[:, 0].long(), strict=True):
        counts = label != VOID
        yield image[:, counts].T.double(), label[counts]


def plain_ce(logits, labels):
    values, targets = (torch.cat(part) for part in zip(*kept_voxels(logits, labels), strict=True))
    return -values.log_softmax(1)[range(len(targets)), targets].mean()


def plain_focal(logits, labels):
    values, targets = (torch.cat(part) for part in zip(*kept_voxels(logits, labels), strict=True))
    chosen = values.log_softmax(1)[range(len(targets)), targets]
    return -((1 - chosen.exp()) ** 2 * chosen).mean()


def plain_dice(logits, labels):
    scores = []
    for values, targets in kept_voxels(logits, labels):
        probs = values.softmax(1)
        for index in range(logits.shape[1]):
            inside = targets == index
            overlap, total = probs[inside, index].sum(), probs[:, index].sum() + inside.sum()
            scores.append((2 * overlap + 1e-5) / (total + 1e-5))
    return 1 - torch.stack(scores).mean()


def plain_jaccard(logits, labels):
    values, targets = (torch.cat(part) for part in zip(*kept_voxels(logits, labels), strict=True))
    probs, scores = values.softmax(1), []
    for index in targets.unique():
        x, y = probs[:, index], (targets == index).double()
        both, apart = x.sum() + y.sum(), (x - y).abs().sum()
        scores.append((both - apart) / (both + apart))
    return 1 - torch.stack(scores).mean()


PLAIN = {
    "ce": plain_ce,
    "focal": plain_focal,
    "dice": plain_dice,
    "dice_ce": lambda logits, labels: plain_dice(logits, labels) + plain_ce(logits, labels),
    "jaccard": plain_jaccard,
}


@pytest.mark.parametrize("spatial", [(6, 7), (4, 3, 5)])
@pytest.mark.parametrize("void", [0.0, 0.3])
@pytest.mark.parametrize("name", LOSSES)
def test_value_and_gradient_are_those_of_the_voxels_that_count(name, void, spatial):
    logits, labels = sample(spatial=spatial, void=void)
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    value, expected = make_loss(name)(ours, labels), PLAIN[name](theirs, labels)
    assert value.ndim == 0 and value.dtype == torch.float32
    torch.testing.assert_close(value.double(), expected, rtol=2e-5, atol=1e-6)
    value.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-6)
    void_voxels = (labels == VOID).expand_as(logits)
    assert (ours.grad[void_voxels] == 0).all() and (ours.grad[~void_voxels] != 0).any()


@pytest.mark.parametrize("name", LOSSES)
def test_a_batch_of_void_gives_zero_and_no_gradient(name):
    logits, labels = sample()
    logits.requires_grad_()
    value = make_loss(name)(logits, torch.full_like(labels, VOID))
    value.backward()
    assert value.item() == 0 and (logits.grad == 0).all()


@pytest.mark.parametrize("name", LOSSES)
def test_an_image_of_void_beside_a_labelled_one(name):
    logits, labels = sample()
    labels[1] = VOID
    value = make_loss(name)(logits, labels)
    alone = make_loss(name)(logits[:1], labels[:1])
    # Dice is a mean over images, so an image of void halves it; the others are means over voxels or classes.
    dice = make_loss("dice")(logits[:1], labels[:1]) / 2 if "dice" in name else 0
    torch.testing.assert_close(value, alone - dice)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_are_computed_in_float32(name, dtype):
    logits, labels = sample(spatial=(64, 64), void=0.1)
    half = logits.to(dtype).requires_grad_()
    value = make_loss(name)(half, labels)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, make_loss(name)(half.detach().float(), labels), rtol=0, atol=0)
    value.backward()
    assert half.grad.dtype == dtype and half.grad.isfinite().all()
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(make_loss(name)(half, labels), value)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("convert", [MetaTensor, lambda labels: labels.long(), lambda labels: labels.float()])
def test_labels_as_the_loaders_give_them(name, convert):
    logits, labels = sample()
    value = make_loss(name)(logits, convert(labels))
    torch.testing.assert_close(torch.as_tensor(value), make_loss(name)(logits, labels), check_dtype=True)


@pytest.mark.parametrize("name", LOSSES)
def test_a_sure_and_right_answer_costs_nothing_a_wrong_one_does(name):
    labels = torch.tensor([[[[0, 1], [1, VOID]]]], dtype=torch.uint8)
    target = torch.nn.functional.one_hot(labels[:, 0].long().clamp_max(1)).movedim(-1, 1)
    right = 40.0 * target.float()
    assert make_loss(name)(right, labels) == pytest.approx(0, abs=1e-5)
    assert make_loss(name)(-right, labels) > 0.9


def test_jaccard_by_hand_leaves_absent_classes_out():
    # Class 0: x = (0.5, 0.5), y = (1, 0): both 2, apart 1, loss 1 - 1/3. Class 1 likewise. Class 2 is nowhere.
    logits = torch.tensor([0.0, 0.0, -np.inf]).clamp_min(-80).view(1, 3, 1, 1).expand(1, 3, 1, 2)
    value = make_loss("jaccard")(logits, torch.tensor([[[[0, 1]]]]))
    assert value.item() == pytest.approx(2 / 3, abs=1e-5)


def test_names():
    assert loss_config("dice-ce") == LOSSES["dice_ce"]
    with pytest.raises(ValueError, match=r"loss must be one of ce, .*got 'jacard'. Did you mean 'jaccard'\?"):
        loss_config("jacard")
