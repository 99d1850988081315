"""Photographs in, masks out: what `infer` does with a 2D network for images."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rankseg_rma.datasets.image_layouts import SUFFIXES as LABEL_SUFFIXES
from rankseg_rma.report.columns import COLUMNS
from rankseg_rma.volumes import replacing
from rankseg_rma.workflows.inference import collect_files
from rankseg_rma.workflows.outcome import Outcome, describe_failure, track, write_csv

SUFFIXES = (*LABEL_SUFFIXES, ".webp")


def find_photographs(inputs: Sequence[Path]) -> dict[str, Path]:
    """Image files by name without suffix, from files and folders.

    Raises:
        FileNotFoundError: a path does not exist, or there is no image at all.
        ValueError: two files have the same name.
    """
    expected = "images: " + ", ".join(SUFFIXES)
    return collect_files("find_photographs", "names", inputs, _photographs_in, expected)


def _photographs_in(path: Path) -> Iterator[tuple[str, Path]]:
    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
        if file.suffix.lower() in SUFFIXES and not file.name.startswith("."):
            yield file.stem, file


def infer_photographs(
    bundle: Any,
    card: Any,
    images: Mapping[str, Path],
    out: Path,
    decoders: tuple[str, ...],
    options: Any,
    save_probabilities: bool,
    outcome: Outcome,
) -> Outcome:
    """Decode every image at its own size; masks are palette PNG of class indices.

    Args:
        bundle: opened bundle of kind "image".
        card: of its data set: colours and names; None paints without.
        images: image files by name, from `find_photographs`.
        out: gets a folder of masks per decoder, and inference_images.csv.
        decoders: some of "argmax", "rma".
        options: `inference.DecodeOptions` with the temperature.
        save_probabilities: also write (class, height, width) float16 as probabilities/NAME.npz, before temperature.
        outcome: is completed.
    """
    rows: list[dict[str, Any]] = []
    for case_id, path in track(images.items(), "decoding", len(images)):
        try:
            probs, masks, found = _decode(bundle, path, decoders, options)
            for name, mask in masks.items():
                _write_mask(out / name / f"{case_id}.png", mask, card)
            if save_probabilities:
                _write_probabilities(out / "probabilities" / f"{case_id}.npz", probs)
        except Exception as error:  # one bad image must not cost the others
            outcome.failed[case_id] = describe_failure(error, path)
            continue
        shared = {"case_id": case_id, "metric": options.metric, "temperature": options.temperature or 1.0}
        rows += [{**shared, **row, "class_name": bundle.label_names[row["class"]]} for row in found]
    outcome.written.append(write_csv(out / "inference_images.csv", rows, COLUMNS["inference_images.csv"]))
    return outcome


def _decode(bundle: Any, path: Path, decoders: tuple[str, ...], options: Any) -> tuple[Any, Any, list[dict[str, Any]]]:
    """Probabilities, masks by decoder, and a row per class."""
    from rankseg_rma.decoder import expected_score
    from rankseg_rma.images import read_image
    from rankseg_rma.inference import make_masks, predict_image, sum_classes
    from rankseg_rma.transforms import ScaleTemperature

    probs = predict_image(bundle, read_image(path))
    scaled = ScaleTemperature(options.temperature)(probs).as_subclass(type(probs))
    masks, _ = make_masks(probs, scaled, decoders, replace(options, unit="image"), -1)
    scores = {name: expected_score(scaled, mask, options.metric) for name, mask in masks.items()}
    mass = sum_classes(scaled, None)
    rows = []
    for index in range(len(probs)):
        row: dict[str, Any] = {"class": index, "expected_pixels": float(mass[index])}
        for name, mask in masks.items():
            row[f"pixels_{name}"] = int((mask == index).sum())
            row[f"expected_score_{name}"] = float(scores[name][index])
        rows.append(row)
    return probs, masks, rows


def _write_mask(path: Path, mask: Any, card: Any) -> None:
    from PIL import Image

    from rankseg_rma.images import write_classes

    if card is not None:
        write_classes(path, mask, card)
        return
    with replacing(path) as temporary:
        Image.fromarray(mask).save(temporary, format="PNG")


def _write_probabilities(path: Path, probs: Any) -> None:
    import numpy as np

    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, probabilities=probs.numpy().astype(np.float16))
