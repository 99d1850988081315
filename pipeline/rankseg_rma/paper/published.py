"""Numbers of a reproduction: ours beside the published ones, of single folds and of all cases of the folds as one."""

from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import pandas

from rankseg_rma.datasets import patient_of
from rankseg_rma.datasets.card_kinds import Card, DatasetCard, ImageCard, class_names_of
from rankseg_rma.metrics.semantic import SemanticCounts
from rankseg_rma.paper.rows import PaperRow
from rankseg_rma.paper.scores import TITLES, UnitScores, rule_of, score_rows
from rankseg_rma.report.wording import NONE, write_interval, write_quantity
from rankseg_rma.tables.store import read_rows, write_table

QUANTITIES = {"argmax": "argmax", "rma": "RMA", "difference": "RMA - argmax"}
_SUMMARY = "test_summary.csv"
_PLACE = ["case_id", "slice_index"]


def compare_folds(
    row: PaperRow, card: Card, tested: Mapping[int | None, Path], out: Path
) -> tuple[list[dict[str, Any]], list[Path]]:
    """Rows of reproduce.csv, and the files written.

    Args:
        row: of the paper's tables.
        card: of its data set.
        tested: by fold, the folder with the tables of its test.
        out: gets reproduce.csv; of several folds also test_summary.csv, with every score of all their cases as one.
    """
    summaries = {fold: _summary_of(row, folder) for fold, folder in tested.items()}
    written, whole = [], next(iter(summaries.values()))
    if isinstance(card, DatasetCard) and len(tested) > 1:
        whole = pool_folds(row, card, [*tested.values()])
        numbers = [column for column in map(str, whole) if column.startswith("num_")]
        # Nullable, or columns with gaps are written as 12.0.
        whole = whole.astype(dict.fromkeys(numbers, "Int64"))
        written.append(write_table(out / _SUMMARY, whole))
    rows = _compare(row, whole, [*tested], _expected(row, card, [*tested]), row.published)
    if len(tested) > 1:
        for fold, summary in summaries.items():
            rows += _compare(row, summary, [fold], _expected(row, card, [fold]), {})
    return rows, [*written, write_table(out / "reproduce.csv", rows)]


def _summary_of(row: PaperRow, folder: Path) -> pandas.DataFrame:
    table = read_rows(folder / _SUMMARY)
    found: pandas.DataFrame = table[(table["score_over"] == row.unit) & table["decoder"].notna()]
    return found


def pool_folds(row: PaperRow, card: DatasetCard, folders: Sequence[Path]) -> pandas.DataFrame:
    """Every score of the cases of all folds as one data set, from the tables of the folds, as rows of `test`.

    Args:
        row: whose unit is "slice".
        card: of its data set.
        folders: of the tests, each with items.csv and classes.csv; no case is in two.
    """
    items, classes = (
        pandas.concat(
            [table[table["score_over"] == row.unit] for table in (read_rows(folder / name) for folder in folders)]
        )
        for name in ("items.csv", "classes.csv")
    )
    # The places are those of every decoder.
    places = pandas.MultiIndex.from_frame(items.loc[items["decoder"] == "argmax", _PLACE])
    owner, case_ids = pandas.factorize(places.get_level_values("case_id"))
    names = class_names_of(card, "slices")
    counts = {
        name: _count(items[items["decoder"] == name], classes[classes["decoder"] == name], places, len(names))
        for name in row.decoders.values()
    }
    view = UnitScores(
        row.unit, counts, owner, [*case_ids], [*places.get_level_values("slice_index")], {},
        rule_of("slices", len(names)),
    )  # fmt: skip
    patients = [patient_of(case_id, card.splits.group) for case_id in case_ids]
    return pandas.DataFrame(score_rows(view, patients, dict.fromkeys(counts, "none")))


def _count(
    items: pandas.DataFrame, classes: pandas.DataFrame, places: pandas.MultiIndex, num_classes: int
) -> SemanticCounts:
    """Voxels per slice, in the order of ``places``, and class; a class in neither map has no line."""
    rows = places.get_indexer(pandas.MultiIndex.from_frame(classes[_PLACE]))
    table = np.zeros((3, len(places), num_classes), np.int64)
    table[:, rows, classes["label"].astype(int)] = classes[["tp", "fp", "fn"]].to_numpy(np.int64).T
    num_void = items.set_index(_PLACE)["num_void"].reindex(places).to_numpy(np.int64)
    tp, fp, fn = table
    return SemanticCounts(tp, fp, fn, num_void)


def _expected(row: PaperRow, card: Card, folds: Sequence[int | None]) -> int | None:
    """Images or slices of the complete data set in the part, or in these folds; None where the card does not say."""
    if isinstance(card, ImageCard):
        return {**card.parts, **(card.prepared_parts or {})}[row.part]
    if {*folds} == {*(row.folds or ())}:
        return card.num_slices
    return sum(card.fold_slices[fold] for fold in folds if fold is not None) if card.fold_slices else None


def _compare(
    row: PaperRow, summary: pandas.DataFrame, folds: Sequence[int | None], expected: int | None,
    published: Mapping[str, float],
) -> list[dict[str, Any]]:  # fmt: skip
    """A row for argmax, one for RMA and one for their difference."""
    scores = summary[summary["score"] == row.score].set_index("decoder").to_dict("index")
    argmax, rma = (scores[name] for name in row.decoders.values())
    ours = {
        name: [found[key] for key in ("value", "low", "high")] for name, found in (("argmax", argmax), ("rma", rma))
    }
    ours["difference"] = [rma[key] for key in ("difference", "difference_low", "difference_high")]
    # Rounded, because a hundredth is not exact and would be written with sixteen digits.
    paper = {name: round(points / 100, 6) for name, points in published.items()}
    if paper:
        paper["difference"] = round(paper["rma"] - paper["argmax"], 6)
    place = {"row": row.name, "folds": " ".join(str(fold) for fold in folds if fold is not None)}
    numbers = {
        "num_images": int(rma["num_images"]), "num_images_left_out": int(rma["num_images_left_out"]),
        "num_images_expected": expected, "num_cases": int(rma["num_cases"]),
    }  # fmt: skip
    rows = []
    for quantity, ends in ours.items():
        value, low, high = (float(end) if isfinite(end) else None for end in ends)
        far = None if value is None or not paper else value - paper[quantity]
        rows.append({
            **place, "quantity": quantity, "score_over": row.unit, "score": row.score, "value": value,
            "low": low, "high": high, "published": paper.get(quantity), "from_published": far, **numbers,
        })  # fmt: skip
    return rows


def describe_comparison(row: PaperRow, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Lines for a terminal: ours, the paper's, their difference, then the folds; and how much was tested."""
    groups: dict[str, dict[str, Mapping[str, Any]]] = {}
    for one in rows:
        groups.setdefault(one["folds"], {})[one["quantity"]] = one
    whole, *single = groups.values()
    lines = {
        "ours": {name: _write_ours(one) for name, one in whole.items()},
        "paper": {name: _write(one["published"], name) for name, one in whole.items()},
        "ours - paper": {name: write_quantity(one["from_published"], "1", True) for name, one in whole.items()},
    }
    for one in single:
        lines[f"fold {one['argmax']['folds']}"] = {name: _write_ours(found) for name, found in one.items()}
    table = pandas.DataFrame.from_dict(lines, orient="index").rename(columns=QUANTITIES)
    found, plural = whole["rma"], f"{row.unit}s"
    tested = found["num_images"] + found["num_images_left_out"]
    of = "" if found["num_images_expected"] is None else f" of {found['num_images_expected']}"
    last = f"tested: {tested}{of} {plural}" + (f", {found['num_cases']} cases" if row.unit == "slice" else "")
    last += f" (fold {found['folds']})" if found["folds"].isdigit() else ""
    title = f"{row.title}, {TITLES[row.score]} in points (95 % interval); paper: {row.source}"
    return [title, *table.to_string().splitlines(), last]


def _write_ours(one: Mapping[str, Any]) -> str:
    low, high = (float("nan") if one[key] is None else one[key] for key in ("low", "high"))
    if one["quantity"] == "difference" or not isfinite(low):
        interval = write_interval(low, high, "1")
    else:
        interval = " to ".join(write_quantity(end, "1") for end in (low, high))
    return f"{_write(one['value'], one['quantity'])} ({interval})"


def _write(value: float | None, quantity: str) -> str:
    return NONE if value is None else write_quantity(value, "1", quantity == "difference")
