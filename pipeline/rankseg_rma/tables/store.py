"""CSV files of ours: written by their columns, read back with ids as text."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any


def write_csv(path: Path, rows: Any, columns: Iterable[str]) -> Path:
    """Write rows, or a frame, as UTF-8 CSV with a stable column order; text is quoted, missing values stay empty."""
    import pandas

    from rankseg_rma.files.writing import replacing

    with replacing(path) as temporary:
        frame = rows if isinstance(rows, pandas.DataFrame) else pandas.DataFrame(list(rows))
        frame.reindex(columns=list(columns)).to_csv(temporary, index=False, encoding="utf-8")
    return path


def read_rows(path: Path) -> Any:
    """Read a CSV of ours: ids and names are text, also where they look like numbers or "NA"."""
    import pandas

    text = dict.fromkeys(("case_id", "label", "label_name", "decoder", "first", "second"), str)
    return pandas.read_csv(path, dtype=text, keep_default_na=False, na_values=[""])
