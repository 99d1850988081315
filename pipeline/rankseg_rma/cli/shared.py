"""Options that several commands share are declared once: as the fields of a dataclass."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, TypeVar

R = TypeVar("R")


def spread(command: Callable[..., R]) -> Callable[..., R]:
    """Give a command the options of the dataclasses that it takes: typer sees each field as an option of its own.

    Args:
        command: a function, some of whose parameters are annotated with a dataclass; the annotations and defaults of
            its fields are those of the options, in the place of the parameter.
    """
    parameters, shared = [], {}
    for parameter in inspect.signature(command).parameters.values():
        kind = parameter.annotation
        if isinstance(kind, type) and is_dataclass(kind):
            shared[parameter.name] = kind
            parameters += [_option(field) for field in fields(kind)]
        else:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))

    @functools.wraps(command)
    def run(**given: Any) -> R:
        built = {
            name: kind(**{field.name: given.pop(field.name) for field in fields(kind)}) for name, kind in shared.items()
        }
        return command(**given, **built)

    # What `inspect.signature`, and so typer, finds in the place of the command's own.
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _option(field: Any) -> inspect.Parameter:
    default = inspect.Parameter.empty if field.default is MISSING else field.default
    return inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=field.type)
