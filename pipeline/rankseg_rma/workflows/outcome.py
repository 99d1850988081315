"""What every command shares: its outcome, progress, CSV files and the wording of a failed case."""

import resource
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
DECODERS = ("argmax", "rma")


@dataclass
class Outcome:
    """What a command did: files written, notes for the reader, the cases that failed with the reason, a last line."""

    out: Path
    notes: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    written: list[Path] = field(default_factory=list)
    last: str = ""


def track(items: Iterable[T], description: str, total: int) -> Iterator[T]:
    """Iterate with a progress bar on stderr; silent when that is no terminal."""
    with progress_bar() as progress:
        yield from progress.track(items, total=total, description=description)


def progress_bar() -> Any:
    """A progress display on stderr, a context manager; silent when that is no terminal."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    return Progress(console=console, disable=not console.is_terminal)


def write_csv(path: Path, rows: Any, columns: Iterable[str]) -> Path:
    """Write rows, or a frame, as UTF-8 CSV with a stable column order; text is quoted, missing values stay empty."""
    import pandas

    from rankseg_rma.volumes import replacing

    with replacing(path) as temporary:
        frame = rows if isinstance(rows, pandas.DataFrame) else pandas.DataFrame(list(rows))
        frame.reindex(columns=list(columns)).to_csv(temporary, index=False, encoding="utf-8")
    return path


def read_rows(path: Path) -> Any:
    """Read a CSV of ours: ids and names are text, also where they look like numbers or "NA"."""
    import pandas

    text = dict.fromkeys(("case_id", "label", "label_name", "decoder", "first", "second"), str)
    return pandas.read_csv(path, dtype=text, keep_default_na=False, na_values=[""])


def restart_peak_memory() -> None:
    """Let the peak start again from the present size, where the system can (Linux)."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_memory_bytes() -> int:
    """Largest resident size of this process, since `restart_peak_memory` where the system can, else since its start."""
    with suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


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
