"""RankSEG-RMA: masks decoded for Dice or IoU, where ``argmax`` decodes for voxel accuracy.

Names are imported on first use, so that ``import rankseg_rma`` and the command line start at once and the decoder
never loads MONAI.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from rankseg_rma.old_names import find_old_modules

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
# Names that configs say: a config of a run must outlive any move of our modules.
_CONFIG_NAMES = {
    "stored_temperature": "bundles.open.stored_temperature",
    "load_card": "datasets.load_card",
    "LoadVolumed": "datasets.loading.LoadVolumed",
    "items_of": "datasets.datalist.items_of",
    "list_volumes": "files.volumes.list_volumes",
    "PaddedNetwork": "networks.PaddedNetwork",
    "natural_network": "networks.natural_network",
    "MultiScaleInferer": "prediction.multiscale.MultiScaleInferer",
    "fit_run_temperature": "training.calibrate.fit_run_temperature",
    "default_device": "training.distributed.default_device",
    "is_first_process": "training.distributed.is_first_process",
    "num_processes": "training.distributed.num_processes",
    "rank": "training.distributed.rank",
    "share_of": "training.distributed.share_of",
    "spread": "training.distributed.spread",
    "wait_for_all": "training.distributed.wait_for_all",
    "attach_ema": "training.engine.attach_ema",
    "checkpoint_parts": "training.engine.checkpoint_parts",
    "has_tensorboard": "training.engine.has_tensorboard",
    "image_and_label": "training.engine.image_and_label",
    "latest_checkpoint": "training.engine.latest_checkpoint",
    "make_ema": "training.engine.make_ema",
    "make_optimizer": "training.engine.make_optimizer",
    "mean_iou": "training.engine.mean_iou",
    "plan_epochs": "training.engine.plan_epochs",
    "poly_schedule": "training.engine.poly_schedule",
    "FiniteGuard": "training.guard.FiniteGuard",
    "FinalCheckpoint": "training.guard.FinalCheckpoint",
    "LoadSampled": "training.samples.LoadSampled",
    "NormaliseImaged": "training.samples.NormaliseImaged",
    "WholeLabelsd": "training.samples.WholeLabelsd",
    "SampleStream": "training.stream.SampleStream",
    "StartEpoch": "training.stream.StartEpoch",
    "StreamBatches": "training.stream.StreamBatches",
    "CrossEntropyLoss": "training.losses.CrossEntropy",
    "FocalLoss": "training.losses.Focal",
    "DiceLoss": "training.losses.Dice",
    "DiceCrossEntropyLoss": "training.losses.DiceCrossEntropy",
    "JaccardMetricLoss": "training.losses.JaccardMetric",
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
    place = f"{_HOME[name]}.{name}" if name in _HOME else _CONFIG_NAMES.get(name)
    if place is None:
        raise AttributeError(f"module 'rankseg_rma' has no attribute {name!r}")
    module, _, attribute = place.rpartition(".")
    value = getattr(import_module(f"rankseg_rma.{module}"), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})


find_old_modules()
