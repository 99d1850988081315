"""One item of a test: read it, predict, decode every way, count. An image, a volume, or all slices of a case."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rankseg_rma.bundles.open import Bundle
from rankseg_rma.checks import DatasetError, wrong
from rankseg_rma.datasets.card_kinds import Card, ImageCard
from rankseg_rma.decoder import RMADecoder
from rankseg_rma.decoder.arms import decode_arms
from rankseg_rma.decoder.temperature import scale_probabilities
from rankseg_rma.files.images import VOID, write_classes
from rankseg_rma.files.labels import read_labels
from rankseg_rma.files.volumes import write_volume
from rankseg_rma.files.writing import replacing
from rankseg_rma.grid import require_same_grid
from rankseg_rma.metrics.calibration import CalibrationCounts, count_calibration
from rankseg_rma.metrics.semantic import SemanticCounts, count_images
from rankseg_rma.statistics.calibration import CalibrationSums, sum_calibration

# What one score can be computed over, by the kind of the bundle; the first is the default.
UNITS = {"image": ("image",), "slices": ("slice", "volume"), "volume": ("volume",)}


@dataclass(frozen=True)
class ItemPlan:
    """How items are predicted, decoded and scored.

    Attributes:
        bundle: opened bundle.
        card: card of the data set.
        root: folder that the paths of the items are relative to.
        class_names: names of all classes, class 0 too.
        decoders: some of "argmax" and "rma".
        units: units that RMA decodes for.
        metric: "dice" or "iou", which RMA maximises.
        temperatures: temperatures whose calibration is judged, by name; RMA decodes at the last one.
        masks: folder for the masks; None writes none.
        pruning_prob: as for `RMADecoder`; so is ``unassigned``.
    """

    bundle: Bundle
    card: Card
    root: Path
    class_names: tuple[str, ...]
    decoders: tuple[str, ...]
    units: tuple[str, ...]
    metric: str
    temperatures: Mapping[str, float | None]
    masks: Path | None
    pruning_prob: float
    unassigned: str

    def decoder_for(self, unit: str) -> RMADecoder:
        """RMA for a unit; the slices of a case lie along the first axis."""
        return RMADecoder(
            metric=self.metric, unit=unit, slice_axis=0, pruning_prob=self.pruning_prob, unassigned=self.unassigned,
            void_index=VOID,
        )  # fmt: skip

    @property
    def arms(self) -> dict[str, str]:
        """Unit that each decoder of the tables decodes for, by its name; argmax has none."""
        found = {"argmax": ""} if "argmax" in self.decoders else {}
        if "rma" in self.decoders:
            several = self.bundle.kind == "slices"
            found |= {f"rma_{unit}" if several else "rma": unit for unit in self.units}
        return found


@dataclass(frozen=True)
class Item:
    """An image, a volume, or the slices of a case in their order, as entries {image, label, slice_index}."""

    case_id: str
    entries: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class ItemScores:
    """What is kept of an item; "images" are the slices of a case.

    Attributes:
        case_id: id of the image or case.
        slice_index: per image, None where it is no slice.
        counts: by decoder, (image, class).
        seconds: by decoder, time to decode the item.
        measures: by temperature, a row of calibration measures per image.
        calibration: by temperature, sums of the item.
        rounded: label files whose values were not quite whole numbers.
    """

    case_id: str
    slice_index: tuple[int | None, ...]
    counts: Mapping[str, SemanticCounts]
    seconds: Mapping[str, float]
    measures: Mapping[str, list[dict[str, float]]]
    calibration: Mapping[str, CalibrationSums]
    rounded: tuple[Path, ...] = ()


@dataclass(frozen=True)
class _Sample:
    """Probabilities (class, *spatial) and reference (*spatial) of an item.

    ``grid``: affine and header of a volume; ``rounded``: its label file, where the labels had to be rounded.
    """

    probs: Any
    reference: Any
    grid: tuple[Any, Any] = (None, None)
    rounded: tuple[Path, ...] = ()


def group_entries(entries: Iterable[Mapping[str, Any]]) -> list[Item]:
    """Items in the order of their first entry; entries with a ``slice_index`` and one case id are one item.

    Raises:
        DatasetError: an entry is no slice and shares its case id with another.
    """
    grouped: dict[str, list[Mapping[str, Any]]] = {}
    for entry in entries:
        grouped.setdefault(str(entry["case_id"]), []).append(entry)
    for case_id, members in grouped.items():
        if len(members) > 1 and any(entry.get("slice_index") is None for entry in members):
            raise DatasetError(wrong("test", "case ids", "unique", f"{len(members)} entries", case_id=case_id))
    return [
        Item(case_id, tuple(sorted(members, key=lambda entry: entry.get("slice_index") or 0)))
        for case_id, members in grouped.items()
    ]


def score_item(item: Item, plan: ItemPlan) -> ItemScores:
    """Predict an item, decode it every way, and count.

    Decoding sees every pixel, also those that nobody annotated: at test time a decoder cannot know where those are.
    They count in no score.

    Raises:
        ValueError, FileNotFoundError: a file is missing, damaged or not as the data set says.
    """
    sample = {"image": _read_image, "slices": _read_slices, "volume": _read_volume}[plan.bundle.kind](item, plan)
    num_classes = len(plan.class_names)
    if len(sample.probs) != num_classes:
        expected = f"of the {num_classes} classes of {plan.card.name}"
        raise DatasetError(wrong("test", "probabilities", expected, len(sample.probs), case_id=item.case_id))
    tempered = {name: _temper(sample.probs, value) for name, value in plan.temperatures.items()}
    # The temperature does not touch argmax.
    arms = {name: plan.decoder_for(unit) if unit else None for name, unit in plan.arms.items()}
    decoded = decode_arms(sample.probs, [*tempered.values()][-1], arms)
    masks = {name: arm.labels for name, arm in decoded.items()}
    seconds = {name: round(arm.seconds, 6) for name, arm in decoded.items()}
    if plan.masks is not None:
        _write_masks(plan.masks, masks, item, sample, plan)
    stacked = plan.bundle.kind == "slices"
    references = sample.reference if stacked else sample.reference[None]
    counts = {
        name: _count(mask if stacked else mask[None], references, num_classes, item.case_id)
        for name, mask in masks.items()
    }
    calibration = {name: _calibrate(probs, references, stacked, item.case_id) for name, probs in tempered.items()}
    return ItemScores(
        item.case_id, tuple(entry.get("slice_index") for entry in item.entries), counts, seconds,
        {name: [_measure(one) for one in found] for name, found in calibration.items()},
        {name: sum_calibration(found) for name, found in calibration.items()}, sample.rounded,
    )  # fmt: skip


def _count(mask: Any, references: Any, num_classes: int, case_id: str) -> SemanticCounts:
    """Counts of the classes; a voxel that the decoder left void is in no class, and missed by its true one."""
    is_void = mask == VOID
    if not is_void.any() or num_classes in references:  # a reference of another class is refused there
        return count_images(mask, references, num_classes, void=VOID, case_id=case_id)
    inside = np.where(is_void, num_classes, mask)
    found = count_images(inside, references, num_classes + 1, void=VOID, case_id=case_id)
    kept = slice(0, num_classes)
    return SemanticCounts(found.tp[:, kept], found.fp[:, kept], found.fn[:, kept], found.num_void)


def _read_image(item: Item, plan: ItemPlan) -> _Sample:
    return _Sample(*_predict(item.entries[0], plan))


def _read_slices(item: Item, plan: ItemPlan) -> _Sample:
    """Slice by slice, then stacked: probabilities (class, slice, height, width)."""
    probs, references = [], []
    for entry in item.entries:
        if entry.get("slice_index") is None:
            advice = "Give the folder that `rankseg-rma data prepare` made as --root."
            raise DatasetError(wrong("test", "entries", "slices of a slice store", entry["image"], advice=advice))
        found, reference = _predict(entry, plan)
        probs.append(found)
        references.append(reference)
    if len({reference.shape for reference in references}) > 1:
        raise DatasetError(wrong("test", "slices of a case", "of one size", "several", case_id=item.case_id))
    return _Sample(np.stack(probs, axis=1), np.stack(references))


def _predict(entry: Mapping[str, Any], plan: ItemPlan) -> tuple[Any, Any]:
    from rankseg_rma.prediction.predict import predict_entry

    paths = {key: plan.root / entry[key] for key in ("image", "label")}
    probs, reference = predict_entry(plan.bundle, paths, plan.card)
    return np.asarray(probs), reference


def _read_volume(item: Item, plan: ItemPlan) -> _Sample:
    from rankseg_rma.prediction.predict import predict_probabilities

    path = plan.root / item.entries[0]["label"]
    label = read_labels(path, "reference")
    found = predict_probabilities(plan.bundle, plan.root / item.entries[0]["image"])
    require_same_grid("test", "probabilities", found.probs.shape[1:], found.affine, label, path)
    rounded = (path,) if label.was_rounded else ()
    return _Sample(np.asarray(found.probs), label.array, (found.affine, found.header), rounded)


def _temper(probs: Any, temperature: float | None) -> Any:
    return scale_probabilities(torch.as_tensor(probs), temperature or 1.0, function="test").numpy()


def _calibrate(probs: Any, references: Any, stacked: bool, case_id: str) -> list[CalibrationCounts]:
    images = np.moveaxis(probs, 1, 0) if stacked else probs[None]
    return [
        count_calibration(image, reference, ignore_label=VOID, case_id=case_id)
        for image, reference in zip(images, references, strict=True)
    ]


def _measure(counts: CalibrationCounts) -> dict[str, float]:
    return {
        "num_voxels": counts.num_voxels, "ece": counts.ece(), "class_ece": counts.class_ece(),
        "brier": counts.brier(), "nll": counts.nll(),
    }  # fmt: skip


def _write_masks(folder: Path, masks: Mapping[str, Any], item: Item, sample: _Sample, plan: ItemPlan) -> None:
    """Palette PNG of an image, NIfTI of a volume, or the slices of a case as one .npz (label, slice_index)."""
    for name, mask in masks.items():
        place = folder / name / item.case_id
        if isinstance(plan.card, ImageCard):  # then the bundle is of photographs too, see `class_names_of`
            write_classes(place.with_name(f"{item.case_id}.png"), mask, plan.card)
        elif plan.bundle.kind == "volume":
            write_volume(place.with_name(f"{item.case_id}.nii.gz"), mask, *sample.grid)
        else:
            numbers = np.array([entry["slice_index"] for entry in item.entries])
            with replacing(place.with_name(f"{item.case_id}.npz")) as temporary, temporary.open("wb") as stream:
                np.savez_compressed(stream, label=mask, slice_index=numbers)
