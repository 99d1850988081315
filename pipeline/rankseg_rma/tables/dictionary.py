"""The data dictionary: every column of every table that the commands write, in order."""

from rankseg_rma.tables.columns import Column
from rankseg_rma.tables.columns_of_evaluation import ADVICE_TABLES, EVALUATION_TABLES
from rankseg_rma.tables.columns_of_paper import PAPER_TABLES
from rankseg_rma.tables.columns_of_prediction import PREDICTION_TABLES

TABLES: dict[str, tuple[Column, ...]] = {**PREDICTION_TABLES, **EVALUATION_TABLES, **PAPER_TABLES, **ADVICE_TABLES}
# What people read of it, in docs/columns.md and in the columns.json beside tables: meanings by column.
COLUMNS = {name: {column.name: column.meaning for column in columns} for name, columns in TABLES.items()}


def describe_columns() -> str:
    """docs/columns.md: the dictionary as tables, and the metrics."""
    from rankseg_rma.metrics import METRIC_GROUPS, list_metrics

    text = [
        "# Columns", "",
        "Every column of the tables that `rankseg-rma infer`, `decode`, `evaluate`, `compare`, `advise`, `test` and "
        "`reproduce` write; `columns.json` beside the scores holds the same. Empty cells mean: not defined. Fractions "
        "run from 0 to 1; a point is 0.01. Files of other programs (MONAI's, nnU-Net's, KiTS23's, LiTS') hold what "
        "those say. This file "
        "is made by `python -m rankseg_rma.tables.dictionary > docs/columns.md`.", "",
    ]  # fmt: skip
    for name, columns in COLUMNS.items():
        text += [f"## {name}", "", "| column | meaning |", "|---|---|"]
        text += [f"| {column} | {meaning} |" for column, meaning in columns.items()]
        text += [""]
    text += ["## Metrics", "", "| metric | unit | better | empty masks | meaning |", "|---|---|---|---|---|"]
    rule = {"score": "by the policy", "loss": "1 minus the policy's value", "own": "see meaning"}
    for metric in list_metrics(METRIC_GROUPS, (1.0,)):
        # A bar would end the cell.
        meaning = " ".join((metric.compute.__doc__ or metric.title).split()).replace("|", "\\|")
        text.append(f"| {metric.name} | {metric.unit} | {metric.better or '-'} | {rule[metric.empty]} | {meaning} |")
    return "\n".join(text) + "\n"


if __name__ == "__main__":
    print(describe_columns(), end="")
