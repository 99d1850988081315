"""CSV files of ours: written as the dictionary declares them, read back with ids as text."""

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankseg_rma.checks import require_one_of, wrong
from rankseg_rma.tables.columns import ANY
from rankseg_rma.tables.dictionary import TABLES

if TYPE_CHECKING:
    import pandas

    Rows = Iterable[Mapping[str, Any]] | pandas.DataFrame

_TEXT = ("case_id", "label", "label_name", "decoder", "first", "second")
# Until 0.1.0 "unit" stood for both; the table of advice had the unit of its scores under a third name.
_OLD_NAMES = {"unit": "score_over", "score_unit": "unit"}


def frame_of(name: str, rows: "Rows") -> "pandas.DataFrame":
    """A table from its rows, every one of which is as the dictionary declares it.

    Args:
        name: of the table's file, for example "cases.csv".
        rows: mappings by column; a frame is taken as it is.
    Raises:
        ValueError: no such table; a column that it does not have; a row without one that may not be left out.
    """
    import pandas

    require_one_of("frame_of", "name", name, TABLES)
    if isinstance(rows, pandas.DataFrame):
        _require_columns(name, list(map(str, rows.columns)) if len(rows.columns) else None, 0)
        return rows
    held = list(rows)
    for number, row in enumerate(held):
        _require_columns(name, row.keys(), number)
    return pandas.DataFrame(held)


def _require_columns(name: str, found: Collection[str] | None, number: int) -> None:
    """Raise on unknown and on missing columns; a frame without any column is an empty table."""
    if found is None:
        return
    columns = TABLES[name]
    known = {column.name for column in columns}
    strange = [] if ANY in known else [column for column in found if column not in known]
    missing = [column.name for column in columns if not column.optional and column.name not in found]
    if strange or missing:
        faults = [f"{what} {', '.join(names)}" for what, names in (("unknown", strange), ("no", missing)) if names]
        raise ValueError(wrong("write_table", f"row {number} of {name}", "of its declared columns", "; ".join(faults)))


def write_table(path: Path, rows: "Rows") -> Path:
    """Write a table that the dictionary declares under the file's name, as UTF-8 CSV in the order of its columns.

    Text is quoted where it must be; missing values stay empty, and so do optional columns that no row has.

    Args:
        path: its name is that of the table.
        rows: as for `frame_of`.
    Raises:
        ValueError: as `frame_of`.
    """
    from rankseg_rma.files.writing import replacing

    frame = frame_of(path.name, rows)
    declared = [column.name for column in TABLES[path.name] if column.name != ANY]
    # A table with `ANY` takes further columns; they follow in the order of the rows.
    further = [column for column in frame if column not in declared]
    with replacing(path) as temporary:
        frame.reindex(columns=[*declared, *further]).to_csv(temporary, index=False, encoding="utf-8")
    return path


def read_rows(path: Path) -> Any:
    """Read a CSV of ours: ids and names are text, also where they look like numbers or "NA".

    Columns of a table that the version before wrote get the names of today.
    """
    import pandas

    # Without pandas' defaults a case called NA or None stays one, and 007 keeps its zeros as text.
    table = pandas.read_csv(path, dtype=dict.fromkeys(_TEXT, str), keep_default_na=False, na_values=[""])
    declared = {column.name for column in TABLES.get(path.name, ())}
    if "score_over" in declared and "score_over" not in table:
        table = table.rename(columns=_OLD_NAMES)
    return table
