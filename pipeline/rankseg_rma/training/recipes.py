"""Training recipes of 2D networks: one YAML file of settings, read into a frozen dataclass."""

import difflib
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from rankseg_rma.checks import wrong
from rankseg_rma.files.resources import resource_dir
from rankseg_rma.networks import OPTIMIZERS, list_networks
from rankseg_rma.training.losses import LOSSES

# The smallest that counts as above 0, for ranges that exclude it.
_TINY, _MOST = 1e-12, float("inf")
_RANGES = {
    "learning_rate": (_TINY, _MOST), "weight_decay": (0, _MOST), "momentum": (0, 1), "head_multiplier": (_TINY, _MOST),
    "power": (0, _MOST), "warmup_fraction": (0, 1), "start_learning_rate": (0, _MOST), "flip_prob": (0, 1),
    "stride_rate": (_TINY, 1),
}  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """How a network is trained and applied.

    Attributes:
        dataset: name or path of a dataset card.
        network: name or path of a network definition.
        learning_rate: of the encoder; the rest learns ``head_multiplier`` times as fast.
        batch_size: images of one step, of all processes together.
        crop_size: (height, width) of training images and of the windows of inference.
        max_iterations, max_epochs: length of the training; one of them is given.
        iterations_per_epoch: with max_iterations: it is reported and stored every so many.
        power: of the polynomial decay, (1 - done) ** power.
        warmup_fraction: share of the iterations in which the rate grows from ``start_learning_rate``.
        scale_range: images are resized by a random factor of this range before they are cropped.
        encoder_weights: None, "imagenet" or the path of a file.
        ratios: scales at which probabilities are averaged; with ``flip`` also of the mirrored image.
        stride_rate: step of the windows as a share of the crop.
        note: which settings are the paper's and which are assumptions.
    """

    name: str
    dataset: str
    network: str
    optimizer: str
    learning_rate: float
    weight_decay: float
    batch_size: int
    crop_size: tuple[int, int]
    max_iterations: int | None = None
    max_epochs: int | None = None
    iterations_per_epoch: int = 1000
    loss: str = "ce"
    momentum: float = 0.9
    head_multiplier: float = 10.0
    power: float = 0.9
    warmup_fraction: float = 0.01
    start_learning_rate: float = 1e-6
    scale_range: tuple[float, float] = (0.5, 2.0)
    flip_prob: float = 0.5
    colour_jitter: bool = False
    encoder_weights: str | None = None
    ratios: tuple[float, ...] = (1.0,)
    flip: bool = False
    stride_rate: float = 2 / 3
    amp: bool = True
    num_workers: int = 4
    note: str = ""


def list_recipes() -> dict[str, Path]:
    """Names and files of the shipped recipes."""
    return {path.stem: path for path in sorted((resource_dir("configs") / "recipes").glob("*.yaml"))}


def load_recipe(name_or_path: str | Path) -> Recipe:
    """Read a recipe by its shipped name or the path of a YAML file, NAME.yaml.

    Raises:
        ValueError: unknown name, or entries are missing, unknown or wrong; a likely spelling is named.
    """
    shipped = list_recipes()
    path = shipped.get(str(name_or_path), Path(name_or_path))
    if path.suffix not in (".yaml", ".yml") or not path.is_file():
        advice = _close(str(name_or_path), shipped) or "Or give the path of a recipe, NAME.yaml."
        expected = "one of " + ", ".join(shipped)
        raise ValueError(wrong("load_recipe", "recipe", expected, repr(str(name_or_path)), advice=advice))
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        got = " ".join(str(error).split())
        raise ValueError(wrong("load_recipe", "recipe", "a YAML file", got, path=path)) from error
    return _build(content, path)


def _build(content: Any, path: Path) -> Recipe:
    _require_entries(content, path)
    given: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in content.items()}
    recipe = Recipe(**{"name": path.stem, **given})
    scales, lengths = recipe.scale_range, [recipe.max_iterations, recipe.max_epochs]
    facts = [
        ("name", recipe.name == path.stem, f"the file's name, {path.stem!r}"),
        ("dataset", isinstance(recipe.dataset, str), "a name"),
        ("network", _is_network(recipe.network), "one of " + ", ".join(list_networks()) + ", or a YAML file"),
        ("loss", str(recipe.loss).replace("-", "_") in LOSSES, "one of " + ", ".join(LOSSES)),
        ("optimizer", recipe.optimizer in OPTIMIZERS, "one of " + ", ".join(OPTIMIZERS)),
        ("batch_size", _is_count(recipe.batch_size, 1), "a whole number from 1"),
        ("iterations_per_epoch", _is_count(recipe.iterations_per_epoch, 1), "a whole number from 1"),
        ("num_workers", _is_count(recipe.num_workers, 0), "a whole number from 0"),
        ("crop_size", _all(recipe.crop_size, 2, lambda n: _is_count(n, 1)), "height and width in pixels"),
        ("scale_range", _all(scales, 2, _is_factor) and scales[0] <= scales[1], "two factors, the smaller first"),
        ("ratios", _all(recipe.ratios, None, _is_factor), "a list of factors"),
        ("encoder_weights", isinstance(recipe.encoder_weights, str | None), "null, imagenet or the path of a file"),
    ]
    for key, (low, high) in _RANGES.items():
        facts.append((key, _is_number(getattr(recipe, key), low, high), f"a number in [{low:g}, {high:g}]"))
    for key in ("max_iterations", "max_epochs"):
        value = getattr(recipe, key)
        facts.append((key, value is None or _is_count(value, 1), "a whole number from 1"))
    for key in ("colour_jitter", "flip", "amp"):
        facts.append((key, isinstance(getattr(recipe, key), bool), "true or false"))
    for key, fine, expected in facts:
        if not fine:
            value = getattr(recipe, key)
            raise ValueError(wrong("load_recipe", key, expected, repr(value), path=path, advice=_advice(key, value)))
    if sum(length is not None for length in lengths) != 1:
        got = f"max_iterations {recipe.max_iterations}, max_epochs {recipe.max_epochs}"
        raise ValueError(wrong("load_recipe", "length", "one of max_iterations and max_epochs", got, path=path))
    return recipe


def _require_entries(content: Any, path: Path) -> None:
    if not isinstance(content, dict):
        raise ValueError(wrong("load_recipe", "recipe", "a mapping", repr(content), path=path))
    known = {field.name for field in fields(Recipe)}
    needed = {field.name for field in fields(Recipe) if field.default is MISSING} - {"name"}
    unknown, missing = [str(key) for key in content if key not in known], sorted(needed - set(content))
    if unknown or missing:
        got = "; ".join(
            f"{word} {', '.join(keys)}" for word, keys in (("unknown", unknown), ("missing", missing)) if keys
        )
        advice = " ".join(filter(None, (_close(key, known) for key in unknown)))
        expected = "of known entries, with " + ", ".join(sorted(needed))
        raise ValueError(wrong("load_recipe", "recipe", expected, got, path=path, advice=advice))


def _close(word: str, known: Any) -> str:
    close = difflib.get_close_matches(word, sorted(known), n=1)
    return f"Did you mean {close[0]!r}?" if close else ""


def _advice(key: str, value: Any) -> str:
    choices = {"network": list_networks(), "loss": LOSSES, "optimizer": OPTIMIZERS}.get(key)
    if choices is not None:
        return _close(str(value), choices)
    # YAML 1.1 reads 6e-5 as a word.
    return "Write 6.0e-5, with a point, not 6e-5." if isinstance(value, str) and "e" in value.lower() else ""


def _is_network(value: Any) -> bool:
    return isinstance(value, str) and (value in list_networks() or Path(value).is_file())


def _is_number(value: Any, low: float, high: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def _is_factor(value: Any) -> bool:
    return _is_number(value, _TINY, _MOST)


def _is_count(value: Any, low: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= low


def _all(values: Any, length: int | None, fine: Any) -> bool:
    right_length = isinstance(values, tuple) and values and length in (None, len(values))
    return bool(right_length and all(map(fine, values)))
