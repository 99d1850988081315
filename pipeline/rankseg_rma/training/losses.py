"""Losses of logits (batch, class, *spatial) against label maps (batch, 1, *spatial) in which voxels may be void.

A void voxel (label 255) has no part in the value and no gradient; a batch of void voxels alone gives 0. All are
computed in float32, whatever the network's precision. MONAI's Dice and focal losses keep void out by ``ignore_index``
and are used as they are; its DiceCELoss has no such option, so cross-entropy is PyTorch's, averaged here over the
voxels that count.
"""

import difflib
from typing import Any

import torch

from rankseg_rma.checks import wrong
from rankseg_rma.files.images import VOID

_FROM_LABELS: dict[str, Any] = {"to_onehot_y": True, "ignore_index": VOID}


class CrossEntropy(torch.nn.Module):
    """Mean cross-entropy of the voxels that are not void: a proper score, so probabilities can be believed."""

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        target = labels.squeeze(1).long()
        # Summed here and divided below: the mean over a batch of void alone would be 0 / 0.
        total = torch.nn.functional.cross_entropy(logits.float(), target, ignore_index=VOID, reduction="sum")
        return total / (target != VOID).sum().clamp_min(1)


class Focal(torch.nn.Module):
    """Mean focal loss of the voxels that are not void, gamma 2.

    Source:
        Lin et al., Focal Loss for Dense Object Detection, ICCV 2017.
    """

    def __init__(self) -> None:
        super().__init__()
        from monai.losses import FocalLoss

        self.focal = FocalLoss(use_softmax=True, **_FROM_LABELS)

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        value: torch.Tensor = self.focal(logits.float(), labels)
        return value


class Dice(torch.nn.Module):
    """One minus the soft Dice of each image and class, their mean; an image of void alone counts as 0.

    Source:
        Milletari et al., V-Net, 3DV 2016.
    """

    def __init__(self) -> None:
        super().__init__()
        from monai.losses import DiceLoss

        self.dice = DiceLoss(softmax=True, **_FROM_LABELS)

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        value: torch.Tensor = self.dice(logits.float(), labels)
        return value


class DiceCrossEntropy(torch.nn.Module):
    """Sum of `Dice` and `CrossEntropy`."""

    def __init__(self) -> None:
        super().__init__()
        self.dice, self.cross_entropy = Dice(), CrossEntropy()

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        value: torch.Tensor = self.dice(logits, labels) + self.cross_entropy(logits, labels)
        return value


class JaccardMetric(torch.nn.Module):
    """Mean Jaccard metric loss of the classes that the batch's labels contain, pooled over its images.

    With x the probabilities of a class and y its label, 1 - (|x| + |y| - |x - y|) / (|x| + |y| + |x - y|), L1 norms.

    Source:
        Wang, Ning and Blaschko, Jaccard Metric Losses, NeurIPS 2023, arXiv 2302.05666.
    """

    def __init__(self) -> None:
        super().__init__()
        from monai.losses import DiceLoss

        # `soft_label` chooses the form by L1 norms of the differences.
        form: dict[str, Any] = {"jaccard": True, "soft_label": True, "batch": True, "reduction": "none"}
        self.jaccard = DiceLoss(softmax=True, **form, **_FROM_LABELS)

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        by_class: torch.Tensor = self.jaccard(logits.float(), labels).flatten()
        # Up to the number of classes, which leaves out void.
        present = torch.bincount(labels.flatten().long(), minlength=VOID + 1)[: len(by_class)] > 0
        return (by_class * present).sum() / present.sum().clamp_min(1)


LOSSES: dict[str, dict[str, Any]] = {
    "ce": {"_target_": "rankseg_rma.CrossEntropyLoss"},
    "focal": {"_target_": "rankseg_rma.FocalLoss"},
    "dice": {"_target_": "rankseg_rma.DiceLoss"},
    "dice_ce": {"_target_": "rankseg_rma.DiceCrossEntropyLoss"},
    "jaccard": {"_target_": "rankseg_rma.JaccardMetricLoss"},
}


def loss_config(name: str) -> dict[str, Any]:
    """The MONAI config entry of a loss, by a key of `LOSSES`; ``dice-ce`` is ``dice_ce``.

    Raises:
        ValueError: unknown name.
    """
    found = LOSSES.get(name.replace("-", "_"))
    if found is None:
        close = difflib.get_close_matches(name, LOSSES, n=1)
        advice = f"Did you mean {close[0]!r}?" if close else ""
        raise ValueError(wrong("loss_config", "loss", "one of " + ", ".join(LOSSES), repr(name), advice=advice))
    return dict(found)
