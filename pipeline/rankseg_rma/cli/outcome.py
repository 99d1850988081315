"""How a command ends: what it says, and its exit code."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from rankseg_rma.runs.outcome import Outcome, word_rounded


def say(text: str, error: bool = False) -> None:
    Console(stderr=error, soft_wrap=True, markup=False, highlight=False).print(text)


def _list_files(written: Sequence[Path]) -> list[str]:
    """A line per file, or per folder when there are many."""
    if len(written) <= 5:
        return [f"wrote {path}" for path in written]
    folders: dict[Path, list[str]] = {}
    for path in written:
        folders.setdefault(path.parent, []).append(path.name)
    return [f"wrote {folder}: {', '.join(names)}" for folder, names in folders.items()]


# Errors of the user, told in a line; any other one is ours and keeps its traceback.
_OF_USE = (ValueError, ImportError, FileNotFoundError, FileExistsError, PermissionError, NotADirectoryError)


def reporting(command: Callable[..., Outcome | None]) -> Callable[..., None]:
    """Print notes and failed cases; turn errors of use into one line and exit code 2."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            outcome = command(*args, **kwargs)
        except _OF_USE as error:
            say(f"error: {error}", error=True)
            raise typer.Exit(2) from error
        if outcome is None:
            return
        for note in [*outcome.notes, *word_rounded(outcome.rounded)]:
            say(note, error=note.startswith("warning"))
        for line in _list_files(outcome.written):
            say(line)
        if outcome.failed:
            if outcome.last:
                say(outcome.last)
            say(f"{len(outcome.failed)} {'fault' if len(outcome.failed) == 1 else 'faults'}:", error=True)
            for case_id, reason in outcome.failed.items():
                say(f"  {case_id}: {reason}", error=True)
            raise typer.Exit(1)
        if outcome.last:
            say(outcome.last)

    return run
