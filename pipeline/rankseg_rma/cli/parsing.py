"""Short texts of the command line, such as 1=liver,2=tumour, as values."""

from collections.abc import Sequence

from rankseg_rma.checks import wrong


def parse_labels(text: str | None) -> dict[int, str]:
    """Names by label.

    Example:
        >>> parse_labels("1=liver, 2=tumour")
        {1: 'liver', 2: 'tumour'}
    """
    found: dict[int, str] = {}
    for entry in _split(text):
        number, _, name = (part.strip() for part in entry.partition("="))
        if not number.isdigit() or not int(number) or not name or int(number) in found:
            raise ValueError(wrong("evaluate", "labels", "NUMBER=NAME,... from 1 on, each once", repr(text)))
        found[int(number)] = name
    return found


def parse_regions(entries: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Members by region.

    Example:
        >>> parse_regions(["masses=2+3"])
        {'masses': (2, 3)}
    """
    found = {}
    for entry in entries:
        name, _, members = (part.strip() for part in entry.partition("="))
        numbers = [part.strip() for part in members.split("+")]
        if not name or not all(part.isdigit() and int(part) for part in numbers) or len(set(numbers)) < 2:
            raise ValueError(wrong("evaluate", "region", "NAME=LABEL+LABEL of at least two labels", repr(entry)))
        found[name] = tuple(sorted(int(part) for part in numbers))
    return found


def parse_names(text: str | None) -> list[str] | None:
    """Names in a list; "none" is an empty list, None stays None.

    Example:
        >>> parse_names("tumour, cyst"), parse_names("none"), parse_names(None)
        (['tumour', 'cyst'], [], None)
    """
    if text is None:
        return None
    return [] if text.strip().lower() == "none" else _split(text)


def parse_numbers(argument: str, text: str) -> tuple[float, ...]:
    """Numbers from 0 on; "none" is none.

    Example:
        >>> parse_numbers("tolerances", "1, 2.5")
        (1.0, 2.5)
    """
    if text.strip().lower() == "none":
        return ()
    try:
        numbers = tuple(float(part) for part in _split(text))
    except ValueError:
        numbers = (-1.0,)
    if not numbers or not all(0 <= number < 1e6 for number in numbers):
        raise ValueError(wrong("evaluate", argument, "numbers from 0 on, with commas between", repr(text)))
    return numbers


def _split(text: str | None) -> list[str]:
    return [part.strip() for part in (text or "").split(",") if part.strip()]
