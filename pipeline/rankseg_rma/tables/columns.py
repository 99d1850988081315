"""How a table is declared: its columns in order, each with its meaning."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from rankseg_rma.checks import wrong

# Stands for any further columns, behind those that are named.
ANY = "*"


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        name: its header; `ANY` for further columns.
        meaning: in words, for the data dictionary.
        optional: a row may lack it, its cell is empty then.
    """

    name: str
    meaning: str
    optional: bool = False


def declare(meanings: Mapping[str, str], optional: Collection[str] = ()) -> tuple[Column, ...]:
    """The columns of a table.

    Args:
        meanings: by column, in order.
        optional: columns that a row may lack.
    Raises:
        ValueError: an optional column is none of the table's.
    """
    unknown = [name for name in optional if name not in meanings]
    if unknown:
        raise ValueError(wrong("declare", "optional", "columns of the table", ", ".join(unknown)))
    return tuple(Column(name, meaning, name in optional) for name, meaning in meanings.items())
