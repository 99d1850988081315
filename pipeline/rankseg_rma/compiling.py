"""Compilation of the kernels, kept on disk where there is room for it."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numba


def kernel(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Compile a function without the interpreter's lock; keep the result on disk where that is possible.

    A read-only installation, a user without a home, a full disk: then each process compiles for itself, which takes
    some seconds. A folder that others can write would be no place instead, for numba unpickles what it finds there.

    Args:
        options: of `numba.njit`.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        try:
            compiled = numba.njit(nogil=True, cache=True, **options)(function)
        except (RuntimeError, OSError):  # numba finds no place that it can write
            return numba.njit(nogil=True, **options)(function)
        _forgive_failed_saving(compiled)
        return compiled

    return decorate


def _forgive_failed_saving(compiled: Any) -> None:
    """Go on with the compiled code when it cannot be saved: the folder was there on import, the room is not."""
    cache = getattr(compiled, "_cache", None)
    save = getattr(cache, "save_overload", None)
    if cache is None or save is None:
        return

    def save_if_possible(signature: Any, data: Any) -> None:
        with suppress(OSError):
            save(signature, data)

    cache.save_overload = save_if_possible
