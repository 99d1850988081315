"""What a command did: files, notes, failures, and the wording of a failed case."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

# Enough for a sentence with a long path and its advice; foreign libraries may write pages.
_LONGEST_REASON = 600


@dataclass
class Outcome:
    """What a command did: files written, notes for the reader, the cases that failed with the reason, a last line.

    ``rounded`` are label files whose values were not quite whole numbers; that is said once, at the end.
    """

    out: Path
    notes: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    written: list[Path] = field(default_factory=list)
    last: str = ""
    rounded: list[Path] = field(default_factory=list)

    def attempt(self, what: str, make: Callable[[], T]) -> T | None:
        """What ``make`` returns, or None with its fault noted under ``what``: the rest must not be lost for it."""
        try:
            return make()
        except Exception as error:
            self.failed[what] = describe_failure(error, self.out)
            return None


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what caused it, down to the first cause."""
    while error is not None:
        yield error
        error = error.__cause__


def describe_failure(error: BaseException, path: Path) -> str:
    """One line that names the file and the first cause."""
    cause = list(causes(error))[-1]
    # Our own errors say more than the library's that caused them; of all others the first cause says most.
    text = " ".join(str(error if isinstance(error, ValueError | FileNotFoundError) else cause).split())
    place = "" if str(path) in text[:_LONGEST_REASON] else f" ({path})"
    return f"{type(cause).__name__}: {text[:_LONGEST_REASON]}{place}"


def word_rounded(paths: Sequence[Path]) -> list[str]:
    """What is said, once in a run, of label files that had to be rounded; nothing without one."""
    if not paths:
        return []
    files = "1 label file holds" if len(paths) == 1 else f"{len(paths)} label files hold"
    return [
        f"{files} values that are not quite whole numbers; they were rounded (by 0.01 at most; for example {paths[0]})"
    ]
