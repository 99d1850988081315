"""The command that tests a run as the paper does: argmax and RMA in every form of mean IoU and mean Dice."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rankseg_rma import __version__
from rankseg_rma.bundles.open import MODEL, TEMPERATURE_FILE, open_bundle, require_exclusive
from rankseg_rma.checks import require_one_of, wrong
from rankseg_rma.datasets import list_cases, load_card, patient_of
from rankseg_rma.datasets.card_kinds import DatasetCard, class_names_of
from rankseg_rma.datasets.datalist import DATALIST, choose_part
from rankseg_rma.decoder.arms import DECODERS
from rankseg_rma.files.json_files import read_json
from rankseg_rma.files.writing import sha256_of, write_text
from rankseg_rma.paper import scores
from rankseg_rma.paper.items import UNITS, Item, ItemPlan, ItemScores, group_entries, score_item
from rankseg_rma.prediction.policy import choose_temperature
from rankseg_rma.runs.manifest import package_versions
from rankseg_rma.runs.outcome import Outcome, describe_failure
from rankseg_rma.runs.progress import track
from rankseg_rma.tables.dictionary import COLUMNS
from rankseg_rma.tables.store import frame_of, write_table

_PACKAGES = ("numpy", "scipy", "torch", "monai", "numba")


@dataclass(frozen=True)
class TrialOptions:
    """What is asked of a test.

    Attributes:
        decoders: some of "argmax" and "rma".
        metric: "dice" or "iou", which RMA maximises.
        unit: unit that RMA decodes for; None: all of the kind of bundle.
        part: part of the data list; None: the test part when there is one, else validation.
        temperature: as for `choose_temperature`; the stored one is not used on the cases it was fitted on.
        limit: test the first images or cases only.
        device: torch device; None takes CUDA where there is one.
        save_masks: write the masks too.
        views: of a 2D network, what to average probabilities over in the place of the run's own: ratios, flip and
            stride_rate; None keeps the run's.
        pruning_prob: as for `RMADecoder`; so is ``unassigned``.
    """

    decoders: tuple[str, ...]
    metric: str
    unit: str | None
    part: str | None
    temperature: str | None
    limit: int | None
    device: str | None
    save_masks: bool
    views: Mapping[str, Any] = field(default_factory=dict)
    pruning_prob: float = 0.5
    unassigned: str = "max_score"


def score_run(dataset: str, root: Path, run: Path, out: Path, options: TrialOptions) -> Outcome:
    """Predict, decode and score every item of a part of a data set.

    Args:
        dataset: name or path of a dataset card.
        root: the data set's folder, or a slice store; paths of the run's data list are relative to it.
        run: finished run folder; its config runs as code.
        out: gets items.csv, classes.csv, probabilities.csv, test_summary.csv, test.json, columns.json and masks.
        options: what is asked.
    Raises:
        ValueError, FileNotFoundError: an option, the data set or the run is not as described. What is wrong with
            single items is in the outcome.
    """
    # No decoder at all is refused as well.
    for decoder in options.decoders or ("",):
        require_one_of("test", "decode", decoder, DECODERS)
    card, _ = list_cases(load_card(dataset), root)
    part, entries = choose_part(run / DATALIST, options.part)
    items = group_entries(entries)
    bundle = open_bundle(run, options.device, options.views)
    require_exclusive("test", bundle)
    outcome = Outcome(out, [*bundle.notes])
    temperature, source = _temperature_for(run, bundle.temperature, options.temperature, entries, outcome)
    plan = ItemPlan(
        bundle=bundle, card=card, root=root, class_names=class_names_of(card, bundle.kind), decoders=options.decoders,
        units=_units_of(bundle.kind, options.unit), metric=options.metric,
        temperatures={"none": None} | ({} if temperature is None else {source: temperature}),
        masks=out / "masks" if options.save_masks else None, pruning_prob=options.pruning_prob,
        unassigned=options.unassigned,
    )  # fmt: skip
    results = _score_items(items[: options.limit], plan, outcome)
    if not results:
        return outcome
    record = _describe_trial(plan, options, part, run)
    record |= {"dataset": card.name, "root": str(root), "temperature": temperature, "temperature_source": source}
    left_out = len(items) - len(results)
    if left_out:
        outcome.notes.append(f"warning: PARTIAL, {len(results)} of {len(items)} {_plural(plan)} are scored")
    _write_tables(results, plan, outcome, record)
    return outcome


def _units_of(kind: str, unit: str | None) -> tuple[str, ...]:
    if unit is None:
        return UNITS[kind]
    if unit not in UNITS[kind]:
        expected, advice = "one of " + ", ".join(map(repr, UNITS[kind])), ""
        if kind == "volume":
            advice = "`rankseg-rma infer --unit slice` and `evaluate` judge slices of volumes."
        raise ValueError(wrong("test", "unit", f"{expected} for a run of kind {kind!r}", repr(unit), advice=advice))
    return (unit,)


def _temperature_for(
    run: Path, stored: float | None, given: str | None, entries: Sequence[Mapping[str, Any]], outcome: Outcome
) -> tuple[float | None, str]:
    """Temperature and its source; the stored one would flatter RMA on the very cases it was fitted on."""
    chosen, source = choose_temperature(given, stored)
    if source == "stored":
        fitted = read_json("test", run / TEMPERATURE_FILE).get("case_ids", [])
        shared = len(set(map(str, fitted)) & {name for entry in entries for name in _names_of(entry)})
        if shared:
            outcome.notes.append(
                f"no temperature is used: the stored one, {chosen:.3f}, was fitted on {shared} of the tested cases; "
                "--temperature gives one"
            )
            return None, "none"
    if chosen is not None:
        outcome.notes.append(f"temperature of RMA and of the second calibration: {chosen:.3f} ({source})")
    return chosen, source


def _names_of(entry: Mapping[str, Any]) -> set[str]:
    """What a temperature file may call an entry: its case or slice, or its file."""
    case_id, number = str(entry["case_id"]), entry.get("slice_index")
    file = Path(entry["image"])
    return {case_id, file.name, file.stem} if number is None else {case_id, f"{case_id}_{int(number):04d}"}


def _score_items(items: Sequence[Item], plan: ItemPlan, outcome: Outcome) -> list[ItemScores]:
    """Scores of the items that can be read; the others are listed with the reason."""
    results = []
    for item in track(items, "testing", len(items)):
        try:
            results.append(score_item(item, plan))
            outcome.rounded += results[-1].rounded
        except Exception as error:  # one bad item must not cost the test
            # Most errors name their file, which need not be the image.
            path = plan.root if str(plan.root) in str(error) else plan.root / item.entries[0]["image"]
            outcome.failed[item.case_id] = describe_failure(error, path)
    return results


def _write_tables(results: Sequence[ItemScores], plan: ItemPlan, outcome: Outcome, record: dict[str, Any]) -> None:
    kind, out = plan.bundle.kind, outcome.out
    rule = scores.rule_of(kind, len(plan.class_names))
    views = scores.view_units(results, kind, rule)
    group = plan.card.splits.group if isinstance(plan.card, DatasetCard) else None
    patients = [patient_of(result.case_id, group) for result in results]
    last = [*plan.temperatures][-1]
    temperatures = {name: last if unit else "none" for name, unit in plan.arms.items()}
    tables: dict[str, list[dict[str, Any]]] = {
        "items.csv": [row for view in views for row in scores.item_rows(view)],
        "classes.csv": [row for view in views for row in scores.class_rows(view, plan.class_names)],
        "probabilities.csv": scores.probability_rows(results, views[0].unit),
        "test_summary.csv": [
            *(row for view in views for row in scores.score_rows(view, patients, temperatures)),
            *scores.calibration_rows(results, views[0].unit, patients),
        ],
    }
    frames = {name: frame_of(name, rows) for name, rows in tables.items()}
    for name, frame in frames.items():
        # Nullable, or columns with gaps are written as 3.0.
        whole = [column for column in map(str, frame) if column == "slice_index" or column.startswith("num_")]
        outcome.written.append(write_table(out / name, frame.astype(dict.fromkeys(whole, "Int64"))))
    record |= {"rule": rule, "num_patients": len(set(patients))} | _count_items(results, views, outcome)
    outcome.notes += scores.describe_test(frames["test_summary.csv"])
    for name, content in (("test.json", record), ("columns.json", {name: COLUMNS[name] for name in tables})):
        write_text(out / name, json.dumps(content, indent=1))
        outcome.written.append(out / name)


def _count_items(results: Sequence[ItemScores], views: Sequence[scores.UnitScores], outcome: Outcome) -> dict[str, Any]:
    """Numbers of items and of what is left out, for the record; warnings for the reader."""
    first = views[0]
    counts = next(iter(first.counts.values()))
    void_only = int((counts.num_voxels == 0).sum())
    if void_only:
        outcome.notes.append(
            f"warning: {void_only} of {len(first.owner)} {first.unit}s have no annotated pixel and are in no mean"
        )
    return {
        "num_items": len(results), f"num_{first.unit}s": len(first.owner), "num_void_only": void_only,
        "num_void_voxels": int(counts.num_void.sum()), "num_voxels": int(counts.num_voxels.sum()),
        "failed": outcome.failed, "notes": list(outcome.notes),
    }  # fmt: skip


def _describe_trial(plan: ItemPlan, options: TrialOptions, part: str, run: Path) -> dict[str, Any]:
    """Settings, versions, seed, and the digests of what was tested."""
    card = plan.card
    crop = card.slices if isinstance(card, DatasetCard) and plan.bundle.kind == "slices" else None
    files = (MODEL, DATALIST)
    return {
        "program": f"rankseg-rma {__version__}", "run": str(run), "kind": plan.bundle.kind,
        **asdict(options), "part": part, "units": list(plan.units), "arms": list(plan.arms),
        "classes": list(plan.class_names),
        "crop_size": list(crop.crop_size) if crop is not None and crop.size is not None else None,
        "bootstrap_resamples": scores.NUM_RESAMPLES, "seed": scores.SEED,
        "device": str(plan.bundle.device), "packages": package_versions(_PACKAGES),
        "sha256": {name: sha256_of(run / name) for name in files if (run / name).is_file()},
    }  # fmt: skip


def _plural(plan: ItemPlan) -> str:
    return "images" if plan.bundle.kind == "image" else "cases"
