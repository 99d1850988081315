"""What a command did: files, notes, failures, and the wording of a failed case."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Outcome:
    """What a command did: files written, notes for the reader, the cases that failed with the reason, a last line."""

    out: Path
    notes: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    written: list[Path] = field(default_factory=list)
    last: str = ""


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what caused it, down to the first cause."""
    while error is not None:
        yield error
        error = error.__cause__


def describe_failure(error: BaseException, path: Path) -> str:
    """One line that names the file and the first cause."""
    cause = list(causes(error))[-1]
    text = " ".join(str(error if isinstance(error, ValueError | FileNotFoundError) else cause).split())
    place = "" if str(path) in text else f" ({path})"
    return f"{type(cause).__name__}: {text[:300]}{place}"
