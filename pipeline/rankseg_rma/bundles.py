"""MONAI bundles: fill the shipped one from a dataset card, and open a finished one for inference.

A bundle's config is code: opening one runs what it says. Open only bundles that you trust.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from rankseg_rma import __version__
from rankseg_rma.checks import DatasetError, wrong
from rankseg_rma.datasets.cards import DatasetCard, resource_dir
from rankseg_rma.volumes import write_text

TEMPERATURE_FILE = "models/temperature.json"


def write_bundle(run: Path, card: DatasetCard, datalist: dict[str, Any], entries: dict[str, Any]) -> None:
    """Write a run folder that is a complete bundle once its training ends.

    Args:
        run: folder to write; a run of the same settings in it goes on, models and logs stay.
        card: completed dataset card: labels, window, spacing and patch size go into the configs.
        datalist: lists "training", "validation", "test" of {image, label}, relative to the data set's folder.
        entries: further entries for the configs, such as network_def, loss and max_epochs.
    Raises:
        DatasetError: the folder holds a run of other cases or settings; nothing is changed.
    """
    shipped, configs = resource_dir("configs"), run / "configs"
    facts = {
        "label_names": list((card.labels or {}).values()),
        "in_channels": len((card.modality or "image").split(",")),
        "spacing_mm": list(card.spacing_mm) if card.spacing_mm else None,
        "intensity": {"kind": card.intensity.kind, "low": card.intensity.low, "high": card.intensity.high},
        "roi_size": list(card.roi_size),
    }
    written = {"datalist.json": json.dumps(datalist, indent=1)}
    for name in ("train.yaml", "inference.yaml"):
        content = yaml.safe_load((shipped / name).read_text(encoding="utf-8"))
        filled = {**facts, "dataset_name": card.name, **entries}
        content.update({key: value for key, value in filled.items() if key in content})
        written[name] = yaml.safe_dump(content, sort_keys=False, width=120)
    for name, text in written.items():
        path = configs / name
        if path.is_file() and path.read_text(encoding="utf-8") != text:
            advice = "Choose another --out, or give the same data set, fold, network and settings."
            got = f"a run that differs in {_difference(path.read_text(encoding='utf-8'), text)}"
            raise DatasetError(wrong("train", "out", "empty or the same run", got, path=path, advice=advice))
    for folder in ("configs", "docs", "models"):
        (run / folder).mkdir(parents=True, exist_ok=True)
    for name, text in written.items():
        write_text(configs / name, text)
    for name in ("evaluate.yaml", "logging.conf"):
        shutil.copyfile(shipped / name, configs / name)
    write_text(configs / "metadata.json", json.dumps(_metadata(shipped, card), indent=1))
    write_text(run / "docs" / "README.md", _describe(card))
    write_text(run / "LICENSE", _license_text())


def _difference(old: str, new: str) -> str:
    """Top-level entries in which two configs differ."""
    before, after = yaml.safe_load(old), yaml.safe_load(new)  # JSON is YAML
    return ", ".join(sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key)))


def _metadata(shipped: Path, card: DatasetCard) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((shipped / "metadata.json").read_text(encoding="utf-8"))
    names = {"0": "background", **{str(value): name for value, name in (card.labels or {}).items()}}
    formats = content["network_data_format"]
    image, pred = formats["inputs"]["image"], formats["outputs"]["pred"]
    modalities = [name.strip() for name in (card.modality or "image").split(",")]
    is_window = card.intensity.kind == "window"
    content["task"] = card.task
    content["version"] = content["required_packages_version"]["rankseg-rma"] = __version__
    image.update(
        modality=card.modality or "n/a", num_channels=len(modalities), spatial_shape=list(card.roi_size),
        format="hounsfield" if is_window else "magnitude", value_range=[-1, 1] if is_window else [-10, 10],
        channel_def={str(index): name for index, name in enumerate(modalities)},
    )  # fmt: skip
    pred.update(num_channels=len(names), spatial_shape=list(card.roi_size), channel_def=names)
    return content


def _describe(card: DatasetCard) -> str:
    labels = ", ".join(f"{value} {name}" for value, name in (card.labels or {}).items())
    return (
        f"# {card.title}\n\nTrained with cross-entropy on the training cases in `configs/datalist.json`.\n"
        f"Labels: {labels}. Masks are decoded for Dice with RankSEG-RMA on the native grid, at the temperature in\n"
        f"`{TEMPERATURE_FILE}`.\n\n"
        "    rankseg-rma infer --bundle . --input IMAGES --out PREDICTIONS\n"
        "    python -m monai.bundle run --bundle_root . --config_file configs/inference.yaml --dataset_dir IMAGES\n\n"
        f"Data: {card.source}, {card.licence}. Research use; not a medical device.\n"
    )


def _license_text() -> str:
    from importlib.metadata import files

    for path in files("rankseg-rma") or []:
        if path.name == "LICENSE":
            return path.read_text(encoding="utf-8")
    return "Apache License 2.0, see https://www.apache.org/licenses/LICENSE-2.0\n"


def stored_temperature(bundle_root: str | Path) -> float | None:
    """The temperature that was fitted at the end of training; None when the bundle has none."""
    path = Path(bundle_root) / TEMPERATURE_FILE
    return read_temperature(path) if path.is_file() else None


def read_temperature(path: str | Path) -> float:
    """Read a temperature file.

    Raises:
        FileNotFoundError: no such file.
        DatasetError: the file is not JSON with a number ``temperature``.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(wrong("read_temperature", "path", "an existing file", path))
    try:
        return float(json.loads(path.read_text(encoding="utf-8"))["temperature"])
    except (ValueError, KeyError, TypeError) as error:
        expected = "JSON with a number 'temperature'"
        raise DatasetError(
            wrong("read_temperature", "file", expected, f"{type(error).__name__}: {error}", path=path)
        ) from error


@dataclass(frozen=True)
class Bundle:
    """What inference needs of a bundle: transforms, network with its weights, sliding window, names."""

    root: Path
    preprocessing: Any
    network: Any
    inferer: Any
    device: Any
    label_names: tuple[str, ...]
    temperature: float | None


def open_bundle(root: str | Path, device: str | None = None) -> Bundle:
    """Open a finished bundle for inference.

    Args:
        root: bundle folder with configs/inference.yaml and models/model.pt. Its config is code.
        device: torch device; default: CUDA where there is one.
    Raises:
        FileNotFoundError: a part of the bundle is missing.
        DatasetError: the config lacks an entry, or the weights do not fit the network.
    """
    import torch
    from monai.bundle import ConfigParser

    root = Path(root)
    config, weights = root / "configs" / "inference.yaml", root / "models" / "model.pt"
    for path in (config, weights):
        if not path.is_file():
            advice = "Training writes models/model.pt when it ends; run it again to go on." if path == weights else ""
            raise FileNotFoundError(
                wrong("open_bundle", "bundle", f"a folder with {path.relative_to(root)}", root, advice=advice)
            )
    parser = ConfigParser()
    parser.read_config(str(config))
    parser["bundle_root"] = str(root)
    if device is not None:
        parser["device"] = f"$torch.device({device!r})"
    missing = [name for name in ("preprocessing", "network", "inferer", "device", "label_names") if name not in parser]
    if missing:
        raise DatasetError(wrong("open_bundle", "config", "complete", f"no {', '.join(missing)}", path=config))
    try:
        torch.empty(0, device=parser.get_parsed_content("device"))
    except (RuntimeError, AssertionError) as error:
        got = " ".join(str(error.__cause__ or error).split())[:150]
        raise ValueError(wrong("open_bundle", "device", "one that this machine has", f"{device}: {got}")) from error
    network = parser.get_parsed_content("network")
    try:
        state = torch.load(weights, map_location="cpu", weights_only=True)
    except Exception as error:  # a torn or foreign file raises many kinds of error
        got = f"{type(error).__name__}: {' '.join(str(error).split())[:150]}"
        raise DatasetError(wrong("open_bundle", "weights", "a readable model.pt", got, path=weights)) from error
    try:
        network.load_state_dict(state.get("model", state))
    except (RuntimeError, AttributeError) as error:
        got = " ".join(str(error).split())[:200]
        raise DatasetError(
            wrong("open_bundle", "weights", "those of the config's network", got, path=weights)
        ) from error
    return Bundle(
        root,
        parser.get_parsed_content("preprocessing"),
        network.eval(),
        parser.get_parsed_content("inferer"),
        parser.get_parsed_content("device"),
        tuple(parser.get_parsed_content("label_names")),
        stored_temperature(root),
    )
