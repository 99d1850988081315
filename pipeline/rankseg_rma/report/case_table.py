"""The page's table of all cases."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas

from rankseg_rma.report.sections import case_keys
from rankseg_rma.report.wording import Cell, Row, Table, build, describe_score, left, right, text_of, write_quantity
from rankseg_rma.tables.frames import Tables


def list_cases(tables: Tables) -> Table | None:
    """One row per case and label: scores, distances, volumes, expected score and status."""
    score, keys = describe_score(tables), case_keys(tables)
    if not keys:
        return None
    arms = list(dict.fromkeys([tables.first, tables.second]))
    values = _values(tables.scores, "metric", "value")
    status = _values(tables.scores[tables.scores["metric"] == tables.metric], "metric", "status")
    volume, reference = (_values(tables.volumes, None, name) for name in ("prediction_ml", "reference_ml"))
    expected = _values(tables.expected, None, "expected_score")
    names = dict(zip(tables.scores["label"].astype(str), tables.scores["label_name"].astype(str), strict=True))

    def of(table: dict[Any, Any], name: str, *more: str) -> Callable[[Row], Any]:
        return lambda row: table.get((row["case_id"], row["label"], name, *more), np.nan)

    def difference(row: Row) -> Any:
        change = of(values, tables.second, score.name)(row) - of(values, tables.first, score.name)(row)
        return Cell(score.text(change, True), score.look(change))

    def write(table: dict[Any, Any], name: str, unit: str, *more: str) -> Callable[[Row], str]:
        return lambda row: write_quantity(of(table, name, *more)(row), unit)

    def describe_status(row: Row) -> str:
        found = {name: str(of(status, name, score.name)(row)).replace("_", " ") for name in arms}
        # A decoder that has no mask of the case has no row, and so no status.
        found = {name: "missing" if text == "nan" else text for name, text in found.items()}
        same = len(set(found.values())) == 1
        return found[arms[0]] if same else ", ".join(f"{text} ({name})" for name, text in found.items())

    with_distance = score.name != "hd95_mm" and (tables.scores["metric"] == "hd95_mm").any()
    rows = [{"case_id": case_id, "label": label} for case_id, label in keys]
    return build(rows, [
        left("case", text_of("case_id")),
        left("label", lambda row: names[row["label"]]),
        *(right(f"{score.title} {name}", write(values, name, score.unit, score.name)) for name in arms),
        *([right("difference", difference)] if tables.is_pair else []),
        *(right(f"HD95 {name}, mm", write(values, name, "mm", "hd95_mm")) for name in arms if with_distance),
        *([right("reference, mL", write(reference, tables.second, "ml"))] if volume else []),
        *(right(f"{name}, mL", write(volume, name, "ml")) for name in arms if volume),
        *([right("sum of probabilities, mL", write(volume, "expected", "ml"))]
          if any(key[2] == "expected" for key in volume) else []),
        *([right(f"model-implied score {tables.second}", write(expected, tables.second, "1"))] if expected else []),
        left("status", describe_status),
    ], [f"case-{place}" for place in range(len(rows))])  # fmt: skip


def _values(frame: pandas.DataFrame, extra: str | None, column: str) -> dict[Any, Any]:
    """A column by (case id, label, decoder) and perhaps one more."""
    if frame.empty or column not in frame:
        return {}
    keys = [frame[name].astype(str) for name in ("case_id", "label", "decoder", *([extra] if extra else []))]
    return dict(zip(zip(*keys, strict=True), frame[column].tolist(), strict=True))
