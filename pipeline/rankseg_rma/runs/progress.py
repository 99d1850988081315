"""Progress bars and peak memory."""

import resource
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


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


def restart_peak_memory() -> None:
    """Let the peak start again from the present size, where the system can (Linux)."""
    with suppress(OSError):
        # 5 sets the peak (VmHWM) back to the present size.
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_memory_bytes() -> int:
    """Largest resident size of this process, since `restart_peak_memory` where the system can, else since its start."""
    with suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024
    # macOS counts in bytes, Linux in kilobytes.
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
