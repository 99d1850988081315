"""Volumes for MONAI's transforms, read as every other part of the package reads them."""

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.config import KeysCollection, PathLike
from monai.data import ImageReader
from monai.transforms import LoadImage, MapTransform
from monai.utils import MetaKeys, SpaceKeys, ensure_tuple

from rankseg_rma.files.names import SUFFIXES
from rankseg_rma.files.volumes import Volume, read_volume


class VolumeReader(ImageReader):
    """`read_volume` as MONAI's transforms call a reader; MONAI's own take a header in metres for one in mm."""

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        """Whether a file is a volume by its name."""
        return isinstance(filename, str | Path) and str(filename).lower().endswith(SUFFIXES)

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> Volume:
        """Read one file; raises as `read_volume`."""
        (path,) = ensure_tuple(data)
        return read_volume(str(path))

    def get_data(self, img: Volume) -> tuple[Any, dict[str, Any]]:
        """Array (*spatial) or (channel, *spatial) float32, and MONAI's meta data of it."""
        array = np.ascontiguousarray(img.array, np.float32)
        return array, {
            MetaKeys.AFFINE: np.array(img.affine), MetaKeys.ORIGINAL_AFFINE: np.array(img.affine),
            MetaKeys.SPACE: SpaceKeys.RAS, MetaKeys.SPATIAL_SHAPE: np.array(array.shape[-3:]),
            # NaN is MONAI's mark of an array without channels.
            MetaKeys.ORIGINAL_CHANNEL_DIM: 0 if array.ndim == 4 else float("nan"),
        }  # fmt: skip


class LoadVolumed(MapTransform):
    """MONAI's LoadImaged for volumes of any format and unit that `read_volume` knows.

    Args:
        keys: of paths; they become (channel, *spatial) float32 with an affine in mm.
        allow_missing_keys: whether a sample may lack a key.
    """

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self._load, self._reader = LoadImage(image_only=True, ensure_channel_first=True), VolumeReader()

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The item with images in the place of paths; raises as `read_volume`."""
        # A reader that is given when LoadImage is made has its errors swallowed.
        return {**data, **{key: self._load(data[key], self._reader) for key in self.key_iterator(data)}}
