"""MONAI transforms of samples: labels as whole numbers, photographs with their classes, slices out of a store."""

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, NormalizeIntensity, ScaleIntensityRange, Transform
from monai.utils import convert_to_dst_type

from rankseg_rma.checks import DatasetError, require_one_of, wrong
from rankseg_rma.datasets import DatasetCard, ImageCard
from rankseg_rma.datasets.datalist import read_sample
from rankseg_rma.files.images import VOID
from rankseg_rma.metrics import as_label_map

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


class WholeLabelsd(MapTransform):
    """Labels of a volume as whole numbers: rounded where they are off by 0.01 at most, refused otherwise.

    It stands right after the reading, for all that follows casts: 0.996 would become 0, and 256 too.

    Args:
        keys: of the labels.
        num_classes: labels are 0 to ``num_classes`` - 1.
        allow_missing_keys: whether a sample may lack a key.
    Raises:
        ValueError: there are more classes than uint8 holds beside void.
    """

    def __init__(self, keys: KeysCollection, num_classes: int, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        if not 1 <= num_classes <= VOID:
            raise ValueError(wrong("WholeLabelsd", "num_classes", f"from 1 to {VOID}", num_classes))
        self.num_classes = num_classes

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Labels keep their shape, dtype and meta data.

        Raises:
            DatasetError: a label is none of the classes.
        """
        d = dict(data)
        for key in self.key_iterator(d):
            whole = as_label_map(str(key), d[key].numpy())
            highest = int(whole.max(initial=0))
            if highest >= self.num_classes:
                expected = f"of the classes 0 to {self.num_classes - 1}"
                raise DatasetError(wrong("WholeLabelsd", str(key), expected, highest, case_id=d.get("case_id")))
            d[key] = convert_to_dst_type(whole.astype(np.float32), d[key])[0]
        return d


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
