"""Entry points that torch.compile runs as they are: the search ends by the data, its kernels are compiled."""

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def untraced(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Run a function eagerly, and all that it calls, under torch.compile too; the graph breaks where it is called.

    Torch is not loaded for it, nor its compiler, which takes a second: nothing is traced before both are there.
    """
    disabled: list[Callable[..., Any]] = []

    @wraps(function)
    def entry(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        if "torch._dynamo" not in sys.modules:
            return function(*args, **kwargs)
        if not disabled:
            import torch

            disabled.append(torch.compiler.disable(function))  # type: ignore[no-untyped-call]
        result: Result = disabled[0](*args, **kwargs)
        return result

    return entry
