"""The command that runs a row of the paper's tables: train where no run is given, test both ways, compare."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rankseg_rma import __version__
from rankseg_rma.bundles.open import MODEL, TEMPERATURE_FILE
from rankseg_rma.checks import DatasetError, wrong
from rankseg_rma.datasets import list_cases, load_card, part_cases, read_part
from rankseg_rma.datasets.card_kinds import DatasetCard, ImageCard
from rankseg_rma.datasets.completeness import word_counts
from rankseg_rma.datasets.datalist import DATALIST
from rankseg_rma.datasets.slices import is_store
from rankseg_rma.files.writing import write_text
from rankseg_rma.paper import published as reproduce_tables
from rankseg_rma.paper.rows import PaperRow
from rankseg_rma.paper.score_run import TrialOptions, score_run
from rankseg_rma.runs.outcome import Outcome
from rankseg_rma.training.distributed import is_first_process
from rankseg_rma.training.recipes import Recipe, load_recipe
from rankseg_rma.training.settings import changed_settings, require_same_settings, word_change
from rankseg_rma.training.train import train_network


@dataclass(frozen=True)
class ReproduceOptions:
    """What is asked beside the row.

    Attributes:
        bundles: finished runs to test, or folders with fold_0, fold_1, ...; none: train.
        fold: this fold only; None: all of the row.
        entries: entries of the train config that replace the recipe's; None keeps the recipe's.
        limit: test the first images or cases of each fold only.
        device: torch device of the test; None takes CUDA where there is one, as training does.
    """

    bundles: Sequence[Path]
    fold: int | None
    entries: Mapping[str, Any]
    limit: int | None
    device: str | None


def check_root(row: PaperRow, root: Path) -> list[str]:
    """What differs between a folder and the complete data set of a row.

    Args:
        row: of the paper's tables.
        root: the data set's folder, or what `data prepare` made of it.
    Raises:
        FileNotFoundError, DatasetError: the folder is no such data set; the message says how to prepare one.
    """
    dataset = load_recipe(row.recipe).dataset
    if row.unit == "slice" and root.is_dir() and not is_store(root):
        advice = f"Run `rankseg-rma data prepare {dataset} --root {root} --out STORE` and give --root STORE."
        raise DatasetError(wrong("reproduce", "root", f"a slice store of {dataset}", root, advice=advice))
    shipped = load_card(dataset)
    card, cases = list_cases(shipped, root)
    if isinstance(card, DatasetCard):
        found = [("cases", len(card.splits.case_ids or ()), card.num_cases), ("slices", len(cases), card.num_slices)]
        return word_counts(found)
    parts = {**card.parts, **(card.prepared_parts or {})}
    found = [
        (f"{part} images", sum(case.part == part for case in cases), parts[part]) for part in ("training", row.part)
    ]
    faults = word_counts(found)
    listed = shipped.parts if isinstance(shipped, ImageCard) else {}
    if card.prepared_parts and card.parts == listed:
        faults.append(
            f"training is on the {listed['training']} images of the data set's own list, the paper's on "
            f"{parts['training']}: run `rankseg-rma data prepare {dataset}` (see its --help) and give what it wrote"
        )
    return faults


def reproduce_row(row: PaperRow, root: Path, out: Path, options: ReproduceOptions) -> Outcome:
    """Train the networks of a row, unless runs are given, test them with argmax and RMA, and write the comparison.

    Args:
        row: of the paper's tables.
        root: as for `check_root`.
        out: gets the runs (run, or fold_0, fold_1, ...; unfinished ones go on), the tables of the tests in test/,
            reproduce.csv and reproduce.json; of several folds also test_summary.csv of all cases.
        options: what else is asked.
    Raises:
        ValueError, FileNotFoundError: an option, the data set or a run is not as described.
    """
    deviations, recipe = check_root(row, root), load_recipe(row.recipe)
    folds = _folds_of(row, options.fold)
    runs = _given_runs(row, root, folds, options.bundles) if options.bundles else _own_runs(folds, out)
    if not options.bundles:
        # All before the first test: with several processes, only the first one tests.
        for fold, run in runs.items():
            _train(run, root, recipe, fold, options.entries)
        if not is_first_process():
            return Outcome(out)
    missing = [fold for fold in row.folds or () if fold not in runs]
    deviations += [f"fold {fold} of {len(row.folds or ())} is missing" for fold in missing]
    changes = {fold: changed_settings(run, recipe) for fold, run in runs.items()}
    deviations += _say_once({fold: [word_change(*item) for item in found.items()] for fold, found in changes.items()})
    outcome, tests = Outcome(out), {}
    for fold, run in runs.items():
        folder = out / "test" if fold is None else out / "test" / f"fold_{fold}"
        tests[fold] = _test(row, recipe.dataset, root, run, folder, options, outcome)
    deviations += [f"only the first {options.limit} images or cases of a part are tested"] if options.limit else []
    deviations += [f"{len(outcome.failed)} images or cases could not be tested"] if outcome.failed else []
    tested = {fold: folder for fold, folder in tests.items() if folder is not None}
    if tested:
        _write(row, root, runs, tested, list(dict.fromkeys(deviations)), outcome)
    return outcome


def _folds_of(row: PaperRow, fold: int | None) -> tuple[int | None, ...]:
    if fold is None:
        return row.folds or (None,)
    if fold not in (row.folds or ()):
        expected = f"one of {', '.join(map(str, row.folds))}" if row.folds else f"left out: {row.name} has no folds"
        raise ValueError(wrong("reproduce", "fold", expected, fold))
    return (fold,)


def _own_runs(folds: Sequence[int | None], out: Path) -> dict[int | None, Path]:
    return {fold: out / ("run" if fold is None else f"fold_{fold}") for fold in folds}


def _given_runs(
    row: PaperRow, root: Path, folds: Sequence[int | None], bundles: Sequence[Path]
) -> dict[int | None, Path]:
    """The finished runs among those given, by the fold that each was validated on."""
    paths = [run for path in bundles for run in (sorted(path.glob("fold_*")) or [path])]
    for path in paths:
        if not (path / MODEL).is_file():
            advice = "Train it to its end, or leave out --bundle."
            raise FileNotFoundError(wrong("reproduce", "bundle", f"a run with {MODEL}", path, advice=advice))
    if row.folds is None:
        if len(paths) != 1:
            raise ValueError(wrong("reproduce", "bundle", f"one run: {row.name} has no folds", len(paths)))
        return {None: paths[0]}
    card, cases = list_cases(load_card(load_recipe(row.recipe).dataset), root)
    parts = {fold: {case.case_id for case in part_cases(card, cases, fold)[row.part]} for fold in row.folds}
    found: dict[int | None, Path] = {}
    for path in paths:
        held_out = {str(entry["case_id"]) for entry in read_part(path / DATALIST, row.part)}
        fold = next((fold for fold, case_ids in parts.items() if case_ids == held_out), None)
        if fold is None or fold in found:
            got = f"a second run of fold {fold}" if fold in found else f"one with {len(held_out)} other cases"
            expected = f"a run whose {row.part} cases are those of a fold, each fold once"
            raise DatasetError(wrong("reproduce", "bundle", expected, got, path=path))
        found[fold] = path
    chosen = {fold: found[fold] for fold in folds if fold in found}
    if not chosen:
        raise ValueError(wrong("reproduce", "bundle", f"a run of fold {folds[0]}", f"of {', '.join(map(str, found))}"))
    return chosen


def _train(run: Path, root: Path, recipe: Recipe, fold: int | None, entries: Mapping[str, Any]) -> None:
    """Train to the end; a run that has come there is only compared with what is asked."""
    given = {key: value for key, value in entries.items() if value is not None}
    if (run / MODEL).is_file() and (run / TEMPERATURE_FILE).is_file():
        require_same_settings(run, recipe, given)
        return
    train_network(
        root, run, dataset=None, recipe=recipe.name, network=None, loss=None, fold=fold or 0, entries=given
    )  # fmt: skip


def _say_once(found: Mapping[int | None, Sequence[str]]) -> list[str]:
    """Texts of all folds; one that not all folds have names its folds."""
    texts = dict.fromkeys(text for of_fold in found.values() for text in of_fold)
    folds = {text: [fold for fold, of_fold in found.items() if text in of_fold] for text in texts}
    return [
        text if len(having) == len(found) else f"{text} (fold {', '.join(map(str, having))})"
        for text, having in folds.items()
    ]


def _test(
    row: PaperRow, dataset: str, root: Path, run: Path, folder: Path, options: ReproduceOptions, outcome: Outcome
) -> Path | None:
    """Test a run; the folder of its tables, or None when nothing could be tested."""
    # The paper decodes probabilities as they are.
    trial = TrialOptions(
        decoders=("argmax", "rma"), metric=row.metric, unit=row.unit, part=row.part, temperature="none",
        limit=options.limit, device=options.device, save_masks=False,
    )  # fmt: skip
    found = score_run(dataset, root, run, folder, trial)
    outcome.failed |= found.failed
    outcome.written += found.written
    outcome.notes += [note for note in found.notes if note.startswith("warning")]
    return folder if found.written else None


def _write(
    row: PaperRow, root: Path, runs: Mapping[int | None, Path], tested: Mapping[int | None, Path],
    deviations: Sequence[str], outcome: Outcome,
) -> None:  # fmt: skip
    recipe = load_recipe(row.recipe)
    card = load_card(recipe.dataset)
    rows, written = reproduce_tables.compare_folds(row, card, tested, outcome.out)
    outcome.written += written
    record = {
        "program": f"rankseg-rma {__version__}", **asdict(row), "dataset": card.name, "root": str(root),
        "settings_and_data_of_the_paper": not deviations, "deviations": deviations, "assumptions": recipe.note,
        "results": rows, "decoders": row.decoders,
        "runs": {_key(fold): str(run) for fold, run in runs.items()},
        "tests": {_key(fold): str(folder) for fold, folder in tested.items()},
        "failed": outcome.failed, "notes": list(outcome.notes),
    }  # fmt: skip
    path = outcome.out / "reproduce.json"
    write_text(path, json.dumps(record, indent=1))
    outcome.written.append(path)
    outcome.notes += reproduce_tables.describe_comparison(row, rows)
    outcome.notes += _describe_terms(deviations, recipe)


def _key(fold: int | None) -> str:
    return "all" if fold is None else str(fold)


def _describe_terms(deviations: Sequence[str], recipe: Recipe) -> list[str]:
    """Under which terms the two lines may be compared."""
    heads = ["Data and settings are the paper's, as far as they are known."]
    if deviations:
        heads = ["NOT THE PAPER'S DATA OR SETTINGS:", *(f"- {text}" for text in deviations)]
    return [*heads, f"What is known of the settings: {recipe.note.strip()}"]
