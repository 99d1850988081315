"""MONAI transforms of 2D samples: photographs with their classes, and axial slices out of a store."""

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.transforms import NormalizeIntensity, ScaleIntensityRange, Transform

from rankseg_rma.checks import DatasetError, require_one_of, wrong
from rankseg_rma.datasets import DatasetCard, ImageCard
from rankseg_rma.datasets.datalist import read_sample

INTENSITIES = ("rgb", "window", "zscore")


class LoadSampled(Transform):
    """Read an entry of a data list.

    Args:
        card: of the data set; says what the stored label values mean.
    """

    def __init__(self, card: DatasetCard | ImageCard) -> None:
        self.card = card

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Paths "image" and "label" become (channel, H, W) float32 and (1, H, W) uint8; void is 255."""
        image, label = read_sample(data, self.card)
        if image.shape[1:] != label.shape:
            expected = f"of the image's size, {image.shape[1:]}"
            raise DatasetError(wrong("LoadSampled", "label", expected, label.shape, path=data["label"]))
        return {**data, "image": torch.from_numpy(image), "label": torch.from_numpy(label[None])}


class NormaliseImaged(Transform):
    """Bring the item "image" to the network's scale.

    Args:
        intensity: kind "rgb" with the channels' mean and std (0 to 255), "window" with low and high (clipped to them
            and mapped to -1 to 1), or "zscore" (each image by its own mean and deviation).
    """

    def __init__(self, intensity: Mapping[str, Any]) -> None:
        kind = require_one_of("NormaliseImaged", "intensity.kind", intensity["kind"], INTENSITIES)
        self.transform: Any
        if kind == "rgb":
            self.transform = NormalizeIntensity(intensity["mean"], intensity["std"], channel_wise=True)
        elif kind == "window":
            self.transform = ScaleIntensityRange(intensity["low"], intensity["high"], -1.0, 1.0, clip=True)
        else:
            self.transform = NormalizeIntensity(channel_wise=True)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        # MONAI normalises in place.
        return {**data, "image": self.transform(data["image"].clone())}
