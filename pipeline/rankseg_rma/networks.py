"""Network definitions, losses: names on the command line to MONAI config entries."""

import difflib
from pathlib import Path
from typing import Any

import yaml

from rankseg_rma.checks import wrong
from rankseg_rma.datasets.cards import resource_dir

_SOFTMAX_LABELS = {"to_onehot_y": True, "softmax": True}
LOSSES: dict[str, dict[str, Any]] = {
    "ce": {"_target_": "monai.losses.DiceCELoss", **_SOFTMAX_LABELS, "lambda_dice": 0.0, "lambda_ce": 1.0},
    "dice_ce": {"_target_": "monai.losses.DiceCELoss", **_SOFTMAX_LABELS},
    "dice": {"_target_": "monai.losses.DiceLoss", **_SOFTMAX_LABELS},
    "focal": {"_target_": "monai.losses.FocalLoss", "to_onehot_y": True, "use_softmax": True},
}


def list_networks() -> dict[str, Path]:
    """Names and files of the shipped network definitions."""
    return {path.stem: path for path in sorted((resource_dir("configs") / "networks").glob("*.yaml"))}


def network_config(name_or_path: str) -> dict[str, Any]:
    """The MONAI config of a network, by shipped name or by the path of a YAML file with the entry ``network_def``.

    Raises:
        ValueError: unknown name, or a file without ``network_def``.
    """
    shipped = list_networks()
    path = shipped.get(name_or_path, Path(name_or_path))
    if not path.is_file():
        close = difflib.get_close_matches(name_or_path, shipped, n=1)
        advice = f"Did you mean {close[0]!r}?" if close else ""
        raise ValueError(
            wrong("network_config", "network", "one of " + ", ".join(shipped), repr(name_or_path), advice=advice)
        )
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict) or "network_def" not in content:
        raise ValueError(wrong("network_config", "network", "a YAML file with the entry network_def", path))
    definition: dict[str, Any] = content["network_def"]
    return definition
