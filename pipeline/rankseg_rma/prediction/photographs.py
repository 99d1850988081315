"""Photographs in, masks out: what `infer` does with a 2D network for images."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from rankseg_rma.bundles.open import Bundle, require_exclusive
from rankseg_rma.checks import wrong
from rankseg_rma.datasets.card_kinds import ImageCard
from rankseg_rma.files.images import read_image, write_classes
from rankseg_rma.files.writing import replacing
from rankseg_rma.prediction.masks import decode_and_expect, shared_columns, with_gain
from rankseg_rma.prediction.policy import DecodeOptions, tell_temperature
from rankseg_rma.runs.outcome import Outcome, describe_failure
from rankseg_rma.runs.progress import restart_peak_memory, track
from rankseg_rma.tables.store import write_table


def infer_photographs(
    bundle: Bundle,
    card: ImageCard | None,
    images: Mapping[str, Path],
    out: Path,
    decoders: tuple[str, ...],
    options: DecodeOptions,
    source: str,
    save_probabilities: bool,
) -> Outcome:
    """Decode every image at its own size; masks are palette PNG of class indices.

    Args:
        bundle: opened bundle of kind "image".
        card: of its data set: colours and names; None paints without.
        images: image files by name, from `find_photographs`.
        out: gets a folder of masks per decoder, and inference_images.csv.
        decoders: some of "argmax", "rma".
        options: how to decode, with the temperature.
        source: where the temperature comes from.
        save_probabilities: also write (class, height, width) float16 as probabilities/NAME.npz, before temperature.
    Raises:
        ValueError: slices are asked for, which photographs have none of; or the classes of the bundle may overlap,
            which an image of class indices cannot show.
    """
    require_exclusive("infer", bundle)
    if options.unit == "slice":
        raise ValueError(wrong("infer", "unit", "'volume', which is the image, for a bundle of photographs", "'slice'"))
    outcome = Outcome(out, tell_temperature(decoders, options.temperature, source))
    rows: list[dict[str, Any]] = []
    for case_id, path in track(images.items(), "decoding", len(images)):
        started = time.perf_counter()
        restart_peak_memory()
        try:
            probs, masks, found = _decode(bundle, path, decoders, options)
            for name, mask in masks.items():
                _write_mask(out / name / f"{case_id}.png", mask, card)
            if save_probabilities:
                _write_probabilities(out / "probabilities" / f"{case_id}.npz", probs)
        except Exception as error:  # one bad image must not cost the others
            outcome.failed[case_id] = describe_failure(error, path)
            continue
        shared = {**shared_columns(case_id, options, source, started), "score_over": "image"}
        rows += [{**shared, **with_gain(row), "class_name": bundle.label_names[row["class"]]} for row in found]
    outcome.written.append(write_table(out / "inference_images.csv", rows))
    return outcome


def _decode(
    bundle: Bundle, path: Path, decoders: tuple[str, ...], options: DecodeOptions
) -> tuple[Any, Any, list[dict[str, Any]]]:
    """Probabilities, masks by decoder, and a row per class."""
    from rankseg_rma.prediction.predict import predict_image

    probs = predict_image(bundle, read_image(path))
    decoded, told = decode_and_expect("infer", probs, decoders, options, -1)
    rows = []
    for index in range(len(probs)):
        row: dict[str, Any] = {"class": index, "expected_pixels": float(told.mass[index])}
        for name in decoded:
            row[f"pixels_{name}"] = int(told.counts[name][index])
            row[f"expected_score_{name}"] = float(told.scores[name][index])
        rows.append(row)
    return probs, {name: arm.labels for name, arm in decoded.items()}, rows


def _write_mask(path: Path, mask: Any, card: ImageCard | None) -> None:
    if card is not None:
        write_classes(path, mask, card)
        return
    with replacing(path) as temporary:
        Image.fromarray(mask).save(temporary, format="PNG")


def _write_probabilities(path: Path, probs: Any) -> None:
    import numpy as np

    with replacing(path) as temporary, temporary.open("wb") as file:
        # Half the size, at steps of at most 0.0005.
        np.savez_compressed(file, probabilities=probs.numpy().astype(np.float16))
