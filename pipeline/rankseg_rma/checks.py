"""Argument checks, and the wording that every error of this package follows."""

from collections.abc import Collection
from pathlib import Path


class DatasetError(ValueError):
    """A data set, dataset card or bundle is not what its documentation says."""


def wrong(
    function: str,
    argument: str,
    expected: str,
    got: object,
    *,
    case_id: str | None = None,
    path: str | Path | None = None,
    advice: str = "",
) -> str:
    """Word an error: ``<function>: <argument> must be <expected>; got <actual> (case <id>, <path>). <advice>``.

    Example:
        >>> wrong("decode", "metric", "'dice' or 'iou'", "'dise'", advice="Did you mean 'dice'?")
        "decode: metric must be 'dice' or 'iou'; got 'dise'. Did you mean 'dice'?"
    """
    where = [f"case {case_id}"] if case_id is not None else []
    where += [str(path)] if path is not None else []
    place = f" ({', '.join(where)})" if where else ""
    return f"{function}: {argument} must be {expected}; got {got}{place}. {advice}".rstrip()


def require_one_of(function: str, argument: str, value: object, allowed: Collection[str]) -> str:
    """Return ``value`` when it is one of the ``allowed`` strings.

    Raises:
        ValueError: it is not; the message lists the choices.
    """
    if isinstance(value, str) and value in allowed:
        return value
    raise ValueError(wrong(function, argument, "one of " + ", ".join(map(repr, allowed)), repr(value)))


def require_number(function: str, argument: str, value: float, low: float, high: float) -> float:
    """Return ``value`` as a float when it is a finite number in ``[low, high]``.

    Raises:
        TypeError: it is not a number.
        ValueError: it is out of range or not finite.
    """
    expected = f"a number in [{low:g}, {high:g}]"
    if isinstance(value, bool) or not hasattr(value, "__float__"):
        raise TypeError(wrong(function, argument, expected, repr(value)))
    number = float(value)
    if not low <= number <= high:
        raise ValueError(wrong(function, argument, expected, repr(value)))
    return number
