"""MONAI transforms of 2D samples: photographs with their classes, and axial slices out of a store."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.transforms import NormalizeIntensity, ScaleIntensityRange, Transform

from rankseg_rma.checks import DatasetError, require_one_of, wrong
from rankseg_rma.datasets import DatasetCard, ImageCard
from rankseg_rma.images import read_classes, read_image, read_slice

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


def read_sample(entry: Mapping[Any, Any], card: DatasetCard | ImageCard) -> tuple[Any, Any]:
    """Image (channel, H, W) float32, as stored, and classes (H, W) uint8 of an entry of a data list.

    Args:
        entry: paths "image" and "label"; a slice of a store has both in one .npz file.
        card: of the data set.
    Raises:
        FileNotFoundError, DatasetError: a file is missing, damaged, or holds other labels.
    """
    if str(entry["image"]).endswith(".npz"):
        found = read_slice(entry["image"])
        return found["image"].astype(np.float32)[None], found["label"].astype(np.uint8)
    if not isinstance(card, ImageCard):
        expected = "one of photographs, or a slice of a store"
        raise DatasetError(wrong("read_sample", "card", expected, card.name, path=entry["image"]))
    return read_image(entry["image"]).astype(np.float32), read_classes(entry["label"], card).astype(np.uint8)


def read_tested(entry: Mapping[Any, Any], card: DatasetCard | ImageCard) -> tuple[Any, Any]:
    """As `read_sample`, as a test sees it: slices of a store of one size are cut to the centre of the rule's crop."""
    image, label = read_sample(entry, card)
    rule = card.slices if isinstance(card, DatasetCard) else None
    if rule is None or rule.size is None:
        return image, label
    return crop_centre(image, rule.crop_size), crop_centre(label, rule.crop_size)


def crop_centre(array: Any, size: Sequence[int]) -> Any:
    """The central (height, width) of an array (..., height, width); a side that is smaller stays."""
    starts = [max(have // 2 - want // 2, 0) for have, want in zip(array.shape[-2:], size, strict=True)]
    rows, columns = (slice(start, start + want) for start, want in zip(starts, size, strict=True))
    return array[..., rows, columns]


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
