"""RankSEG-RMA: masks decoded for Dice or IoU, where ``argmax`` decodes for voxel accuracy.

Names are imported on first use, so that ``import rankseg_rma`` and the command line start at once and the decoder
never loads MONAI.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

_HOME = {
    "rankseg_rma": "decoder",
    "RMADecoder": "decoder",
    "Decoding": "decoder",
    "expected_score": "decoder",
    "AsDiscreteRMA": "transforms",
    "AsDiscreteRMAd": "transforms",
    "AsDiscreteRMAD": "transforms",
    "AsDiscreteRMADict": "transforms",
    "ScaleTemperature": "transforms",
    "ScaleTemperatured": "transforms",
}
__all__ = [
    "AsDiscreteRMA",
    "AsDiscreteRMAD",
    "AsDiscreteRMADict",
    "AsDiscreteRMAd",
    "Decoding",
    "RMADecoder",
    "ScaleTemperature",
    "ScaleTemperatured",
    "__version__",
    "expected_score",
    "rankseg_rma",
]

if TYPE_CHECKING:
    from rankseg_rma.decoder import Decoding, RMADecoder, expected_score, rankseg_rma
    from rankseg_rma.transforms import (
        AsDiscreteRMA,
        AsDiscreteRMAD,
        AsDiscreteRMAd,
        AsDiscreteRMADict,
        ScaleTemperature,
        ScaleTemperatured,
    )


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'rankseg_rma' has no attribute {name!r}")
    value = getattr(import_module(f"rankseg_rma.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
