"""Photographs in, masks out: what `infer` does with a 2D network for images."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rankseg_rma.checks import wrong
from rankseg_rma.report.columns import COLUMNS
from rankseg_rma.volumes import replacing
from rankseg_rma.workflows.outcome import Outcome, describe_failure, track, write_csv

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")


def find_photographs(inputs: Sequence[Path]) -> dict[str, Path]:
    """Image files by name without suffix, from files and folders.

    Raises:
        FileNotFoundError: a path does not exist, or there is no image at all.
        ValueError: two files have the same name.
    """
    found: dict[str, Path] = {}
    for path in inputs:
        if not path.exists():
            raise FileNotFoundError(wrong("find_photographs", "input", "an existing file or folder", path))
        for file in sorted(path.iterdir()) if path.is_dir() else [path]:
            if file.suffix.lower() not in SUFFIXES or file.name.startswith("."):
                continue
            if file.stem in found:
                got = f"{found[file.stem]} and {file}"
                raise ValueError(wrong("find_photographs", "names", "unique", got, case_id=file.stem))
            found[file.stem] = file
    if not found:
        expected = "images: " + ", ".join(SUFFIXES)
        raise FileNotFoundError(wrong("find_photographs", "input", expected, ", ".join(map(str, inputs)) or "nothing"))
    return found


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
    import numpy as np

    from rankseg_rma.decoder import RMADecoder, expected_score
    from rankseg_rma.images import read_image
    from rankseg_rma.inference import predict_image
    from rankseg_rma.transforms import ScaleTemperature

    probs = predict_image(bundle, read_image(path))
    scaled = ScaleTemperature(options.temperature)(probs).as_subclass(type(probs))
    masks = {}
    if "argmax" in decoders:
        masks["argmax"] = probs.argmax(dim=0).numpy().astype(np.uint8)
    if "rma" in decoders:
        decoder = RMADecoder(metric=options.metric, unit="image", pruning_prob=options.pruning_prob)
        masks["rma"] = np.asarray(decoder(scaled).labels).astype(np.uint8)
    scores = {name: expected_score(scaled, mask, options.metric) for name, mask in masks.items()}
    mass = scaled.double().sum(dim=(1, 2)).numpy()
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
