"""MONAI bundles: the shipped one, filled from a dataset card."""

import json
import shutil
from pathlib import Path
from typing import Any

import yaml

from rankseg_rma import __version__
from rankseg_rma.bundles.open import TEMPERATURE_FILE
from rankseg_rma.checks import DatasetError, wrong
from rankseg_rma.datasets.card_kinds import DatasetCard, ImageCard
from rankseg_rma.files.resources import read_yaml, resource_dir
from rankseg_rma.files.writing import write_text
from rankseg_rma.old_names import translate_config

# Files of a bundle that a card beside them must not replace.
_CONFIG_NAMES = ("train", "inference", "evaluate")


def write_bundle(
    run: Path, card: DatasetCard | ImageCard, datalist: dict[str, Any], entries: dict[str, Any], card_file: Path
) -> None:
    """Write a run folder that is a complete bundle once its training ends.

    Args:
        run: folder to write; a run of the same settings in it goes on, models and logs stay.
        card: completed dataset card: labels, window, spacing and patch size go into the configs.
        datalist: lists "training", "validation", "test" of {case_id, image, label}, relative to the data set's folder;
            with a slice_index they are axial slices, and the network is a 2D one.
        entries: further entries for the configs, such as network_def, loss and max_epochs.
        card_file: file of the card, which is put beside the configs.
    Raises:
        DatasetError: the folder holds a checkpoint of a run of other cases or settings; nothing is changed.
    """
    shipped, configs = resource_dir("configs"), run / "configs"
    if card.name in _CONFIG_NAMES:
        raise DatasetError(wrong("train", "card", f"named otherwise than {', '.join(_CONFIG_NAMES)}", card.name))
    facts = facts_of(card, in_slices=any("slice_index" in entry for part in datalist.values() for entry in part))
    base = {"train.yaml": read_yaml(shipped / "train.yaml"), "inference.yaml": read_yaml(shipped / "inference.yaml")}
    if facts["kind"] != "volume":
        base = {
            "train.yaml": _lay_over(base["train.yaml"], read_yaml(shipped / "image" / "train.yaml")),
            "inference.yaml": read_yaml(shipped / "image" / "inference.yaml"),
        }
    # The weights are the run's own once it is trained.
    own = {"encoder_weights": None, "network_def": _without_weights(entries.get("network_def"))}
    given = {"train.yaml": entries, "inference.yaml": {**entries, **own}}
    written = {"datalist.json": json.dumps(datalist, indent=1)}
    for name, content in base.items():
        filled = {**facts, "dataset_name": card.name, **given[name]}
        content.update({key: value for key, value in filled.items() if key in content})
        written[name] = yaml.safe_dump(content, sort_keys=False, width=120)
    # A run that never came to its first checkpoint, for a wrong setting perhaps, may be started with others.
    is_trained = any((run / "models").glob("*.pt"))
    for name, text in written.items():
        path = configs / name
        differing = _difference(path.read_text(encoding="utf-8"), text) if is_trained and path.is_file() else ""
        if differing:
            advice = "Choose another --out, or give the same data set, fold, network and settings."
            got = f"a run that differs in {differing}"
            raise DatasetError(wrong("train", "out", "empty or the same run", got, path=path, advice=advice))
    for folder in ("configs", "docs", "models"):
        (run / folder).mkdir(parents=True, exist_ok=True)
    written[f"{card.name}.yaml"] = card_file.read_text(encoding="utf-8")
    for name, text in written.items():
        write_text(configs / name, text)
    # evaluate.yaml is a config of volumes only.
    copied = ("logging.conf",) if facts["kind"] != "volume" else ("evaluate.yaml", "logging.conf")
    for name in copied:
        shutil.copyfile(shipped / name, configs / name)
    write_text(configs / "metadata.json", json.dumps(_metadata(shipped, card, facts), indent=1))
    write_text(run / "docs" / "README.md", _describe(card, facts))
    write_text(run / "LICENSE", _license_text())


def facts_of(card: DatasetCard | ImageCard, in_slices: bool) -> dict[str, Any]:
    """What a card says to the configs: of a volume, of photographs, or of axial slices of volumes."""
    if isinstance(card, ImageCard):
        return {
            "kind": "image",
            "class_names": list(card.class_names),
            "in_channels": 3,
            "intensity": {"kind": "rgb", "mean": list(card.mean), "std": list(card.std)},
            "crop_size": list(card.crop_size),
            "colour_jitter": True,
        }
    intensity = {"kind": card.intensity.kind, "low": card.intensity.low, "high": card.intensity.high}
    if in_slices:
        rule = card.slices
        if rule is None:
            raise DatasetError(wrong("train", "card", "one with the entry 'slices'", card.name))
        return {
            "kind": "slices",
            "class_names": ["background", *rule.names],
            "in_channels": 1,
            "intensity": intensity,
            "crop_size": list(rule.crop_size),
            "center_crop": list(rule.crop_size) if rule.size else None,
            "slice_size": list(rule.size) if rule.size else None,
            "colour_jitter": False,
        }
    return {
        "kind": "volume",
        "label_names": list((card.labels or {}).values()),
        "in_channels": card.num_channels,
        "spacing_mm": list(card.spacing_mm) if card.spacing_mm else None,
        "intensity": intensity,
        "foreground_crop": card.foreground_crop,
        "roi_size": list(card.roi_size),
    }


def _without_weights(definition: Any) -> Any:
    """A network's definition that loads no weights of an encoder, wherever it names them."""
    if not isinstance(definition, dict):
        return definition
    return {key: None if key == "encoder_weights" else _without_weights(value) for key, value in definition.items()}


def _lay_over(base: Any, over: Any) -> Any:
    """Mappings are merged, anything else is replaced; so is a mapping that names a target of its own."""
    if not isinstance(base, dict) or not isinstance(over, dict) or "_target_" in over:
        return over
    return {**base, **{key: _lay_over(base.get(key), value) for key, value in over.items()}}


def _difference(old: str, new: str) -> str:
    """Top-level entries in which two configs differ, whatever version wrote the first one; empty when none does."""
    # The new side too: a network file of the user may say names of an earlier version. JSON is YAML.
    before, after = (translate_config(yaml.safe_load(text)) for text in (old, new))
    return ", ".join(sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key)))


def _metadata(shipped: Path, card: DatasetCard | ImageCard, facts: dict[str, Any]) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((shipped / "metadata.json").read_text(encoding="utf-8"))
    names = facts.get("class_names") or ["background", *facts["label_names"]]
    formats = content["network_data_format"]
    image, pred = formats["inputs"]["image"], formats["outputs"]["pred"]
    modalities = [name.strip() for name in (card.modality or "image").split(",")]
    if facts["kind"] == "image":
        modalities = ["red", "green", "blue"]
    is_window = facts["intensity"]["kind"] == "window"
    shape = facts.get("crop_size") or facts["roi_size"]
    content["task"] = card.task
    content["version"] = content["required_packages_version"]["rankseg-rma"] = __version__
    image.update(
        modality=card.modality or "n/a", num_channels=facts["in_channels"], spatial_shape=list(shape),
        format="hounsfield" if is_window else "magnitude", value_range=[-1, 1] if is_window else [-10, 10],
        channel_def={str(index): name for index, name in enumerate(modalities)},
    )  # fmt: skip
    pred.update(
        num_channels=len(names), spatial_shape=list(shape),
        channel_def={str(index): name for index, name in enumerate(names)},
    )  # fmt: skip
    return content


def _describe(card: DatasetCard | ImageCard, facts: dict[str, Any]) -> str:
    first = 0 if facts["kind"] == "image" else 1
    names = facts["class_names"][first:] if "class_names" in facts else facts["label_names"]
    labels = ", ".join(f"{value} {name}" for value, name in enumerate(names, first))
    run = "" if facts["kind"] != "volume" else (
        "    python -m monai.bundle run --bundle_root . --config_file configs/inference.yaml --dataset_dir IMAGES\n"
    )  # fmt: skip
    return (
        f"# {card.title}\n\nTrained with cross-entropy on the training cases in `configs/datalist.json`.\n"
        f"Labels: {labels}. Masks are decoded for Dice with RankSEG-RMA on the native grid, at the temperature in\n"
        f"`{TEMPERATURE_FILE}`.\n\n"
        f"    rankseg-rma infer --bundle . --input IMAGES --out PREDICTIONS\n{run}\n"
        f"Data: {card.source}, {card.licence}. Research use; not a medical device.\n"
    )


def _license_text() -> str:
    from importlib.metadata import files

    # Installed, the licence is among the files of the package, wherever those lie.
    for path in files("rankseg-rma") or []:
        if path.name == "LICENSE":
            return path.read_text(encoding="utf-8")
    return "Apache License 2.0, see https://www.apache.org/licenses/LICENSE-2.0\n"
