"""Commands that make masks: from images with a bundle, or from saved probabilities."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rankseg_rma.datasets.card_kinds import ImageCard
from rankseg_rma.files.probabilities import write_kind, write_probabilities
from rankseg_rma.files.writing import replacing, write_text
from rankseg_rma.prediction.inputs import find_images, find_photographs
from rankseg_rma.prediction.masks import decode_cases
from rankseg_rma.prediction.policy import DecodeOptions, choose_temperature
from rankseg_rma.runs.outcome import Outcome


def infer_cases(
    bundle_root: Path,
    inputs: Sequence[Path] | Mapping[str, Path],
    out: Path,
    decoders: tuple[str, ...],
    options: DecodeOptions,
    temperature: str | None,
    save_probabilities: bool,
    device: str | None,
) -> Outcome:
    """Run a bundle over images, decode on the native grid, and write masks and inference.csv.

    Args:
        bundle_root: finished bundle; its config runs as code.
        inputs: image files and folders of images, see `find_images`, or image files by case id; photographs
            for a bundle of them.
        out: gets a folder of masks per decoder, and inference.csv.
        decoders: some of "argmax", "rma".
        options: how to decode; its temperature is set here.
        temperature: as for `choose_temperature`.
        save_probabilities: also write the probabilities, before temperature, as 4D NIfTI.
        device: torch device; None takes CUDA where there is one.
    """
    from rankseg_rma.bundles.open import TEMPERATURE_FILE, find_card, find_channels, find_kind, open_bundle
    from rankseg_rma.prediction.photographs import infer_photographs
    from rankseg_rma.prediction.predict import predict_probabilities

    # Of a folder without a config `open_bundle` says more than the reading of its kind would.
    is_image = (bundle_root / "configs" / "inference.yaml").is_file() and find_kind(bundle_root) == "image"
    channels: dict[str, tuple[Path, ...]] = {}
    notes: list[str] = []
    if isinstance(inputs, Mapping):
        images = dict(inputs)
    elif is_image:
        images = find_photographs(inputs)
    else:
        channels, notes = find_images(inputs, find_channels(bundle_root))
        images = {case_id: files[0] for case_id, files in channels.items()}
    bundle = open_bundle(bundle_root, device)
    chosen, source = choose_temperature(temperature, bundle.temperature)
    if is_image:
        options, card = replace(options, temperature=chosen), find_card(bundle_root)
        painted = card if isinstance(card, ImageCard) else None
        outcome = infer_photographs(bundle, painted, images, out, decoders, options, source, save_probabilities)
        outcome.notes[:0] = bundle.notes
        return outcome
    folder = out / "probabilities"
    if save_probabilities:
        write_text(folder / "labels.json", json.dumps(bundle.label_names))
        write_kind(folder, bundle.multilabel)
    # The saved probabilities are those before temperature: `decode` finds it beside them and does the same.
    if save_probabilities and (bundle_root / TEMPERATURE_FILE).is_file():
        with replacing(folder / "temperature.json") as temporary:
            shutil.copyfile(bundle_root / TEMPERATURE_FILE, temporary)

    def predict(case_id: str, path: Path) -> Any:
        probabilities = predict_probabilities(bundle, *channels.get(case_id, (path,)))
        if save_probabilities:
            write_probabilities(folder / f"{case_id}.nii.gz", probabilities)
        return probabilities

    options = replace(options, temperature=chosen)
    outcome = decode_cases(images, predict, out, decoders, options, source, bundle.label_names)
    outcome.notes[:0] = [*bundle.notes, *notes]
    return outcome
