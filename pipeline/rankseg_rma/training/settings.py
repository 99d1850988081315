"""Settings of a run, and in what they differ from a recipe."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from rankseg_rma.checks import DatasetError, wrong
from rankseg_rma.datasets import load_card
from rankseg_rma.files.resources import resource_dir
from rankseg_rma.networks import network_config
from rankseg_rma.old_names import translate_config
from rankseg_rma.training.losses import loss_config
from rankseg_rma.training.recipes import Recipe, load_recipe

# Entries of a recipe that go into the configs under another name, or not at all.
RENAMED = {"optimizer": "optimizer_name"}
NOT_ENTRIES = ("name", "dataset", "network", "loss", "note")
# Entries of a recipe that do not touch the result, or that are compared in another way.
_NOT_COMPARED = (
    "name", "dataset", "network", "loss", "max_iterations", "max_epochs", "iterations_per_epoch", "num_workers", "note"
)  # fmt: skip
# Settings that no recipe has, whose value in configs/train.yaml is meant.
_SHIPPED = ("accumulation_steps", "ema_decay")


def require_same_settings(run: Path, recipe: Recipe, given: Mapping[str, Any]) -> None:
    config = _read_config(run)
    # How many loaders read does not touch the result.
    asked = {key: _plain(value) for key, value in given.items() if key != "num_workers"}
    differing = {key for key, value in asked.items() if config.get(key) != value}
    expected = {"length" if key.startswith("max_") else key for key in asked}
    differing |= set(changed_settings(run, recipe)) - expected
    if config.get("dataset_name") != load_card(recipe.dataset).name:
        differing.add("dataset_name")
    if differing:
        got = f"a finished run that differs in {', '.join(sorted(differing))}"
        advice = "Choose another --out, or give the settings of that run."
        raise DatasetError(wrong("reproduce", "out", "empty or of the same settings", got, path=run, advice=advice))


def changed_settings(run: Path, recipe: Recipe) -> dict[str, tuple[Any, Any]]:
    """Settings of a run that are not the recipe's: by name what the run has, and what the recipe has."""
    config = _read_config(run)
    shipped = yaml.safe_load((resource_dir("configs") / "train.yaml").read_text(encoding="utf-8"))
    wanted = {key: shipped[key] for key in _SHIPPED}
    wanted |= {key: _plain(value) for key, value in asdict(recipe).items() if key not in _NOT_COMPARED}
    pairs = {key: (config.get("optimizer_name" if key == "optimizer" else key), wanted[key]) for key in wanted}
    pairs["length"] = (_length(config), _length(asdict(recipe)))
    for key, definition, name in (
        ("network_def", network_config(recipe.network), recipe.network), ("loss", loss_config(recipe.loss), recipe.loss)
    ):  # fmt: skip
        pairs[key] = (name if config.get(key) == definition else "another", name)
    return {key: (have, want) for key, (have, want) in pairs.items() if have != want}


def _read_config(run: Path) -> dict[str, Any]:
    path = run / "configs" / "train.yaml"
    if not path.is_file():
        advice = "Its settings cannot be compared with the paper's; `rankseg-rma test` tests any bundle."
        raise FileNotFoundError(wrong("reproduce", "bundle", "a run with configs/train.yaml", run, advice=advice))
    content: dict[str, Any] = translate_config(yaml.safe_load(path.read_text(encoding="utf-8")))
    return content


def _plain(value: Any) -> Any:
    """As YAML gives it back: lists for tuples, and nothing for "none"."""
    if str(value).lower() == "none":
        return None
    return list(value) if isinstance(value, tuple) else value


def _length(settings: Mapping[str, Any]) -> str:
    iterations = settings.get("max_iterations")
    return f"{iterations} iterations" if iterations else f"{settings.get('max_epochs')} epochs"


def word_change(name: str, values: tuple[Any, Any]) -> str:
    have, want = values
    if name == "encoder_weights":
        # From scratch is null in a config, and no word for a reader.
        have = "random" if have is None else have
    return f"{name.replace('_', ' ')}: {have}, not {want}"


def settings_of(recipe: str | None) -> dict[str, Any]:
    if recipe is None:
        return {}
    settings = asdict(load_recipe(recipe))
    return {key: list(value) if isinstance(value, tuple) else value for key, value in settings.items()}
