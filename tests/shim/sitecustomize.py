"""For the tests only: lets torchvision be imported beside a CPU build of torch.

torchvision's wheel links CUDA, so its operators do not load there and its import fails. When torchvision is first
imported, and only then, its library is tried; where that does not load, the two operators that the import needs are
declared. With a matching pair of torch and torchvision nothing is declared.

`tests/conftest.py` installs it in its own process; a subprocess finds it as `sitecustomize` through PYTHONPATH.
"""

import importlib.util
import sys
from pathlib import Path

_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_declared = []  # a fragment that is collected takes its operators along


class BeforeTorchvision:
    """Import hook that finds nothing itself: it declares what is missing and leaves the finding to the others."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name != "torchvision":
            return
        sys.meta_path.remove(BeforeTorchvision)
        found = importlib.util.find_spec(name)
        if found is not None:
            declare_missing_operators(Path(found.origin).parent / "_C.so")


def declare_missing_operators(library):
    """Declare nms and qnms where torchvision's library does not load."""
    import torch

    try:
        torch.ops.load_library(str(library))
    except OSError:
        fragment = torch.library.Library("torchvision", "FRAGMENT")
        for operator in ("nms", "qnms"):
            fragment.define(operator + _SCHEMA)
        _declared.append(fragment)


def install():
    """Put the hook in front, unless this process has it already, perhaps from another import of this file."""
    names = [getattr(finder, "__name__", "") for finder in sys.meta_path]
    if "torchvision" not in sys.modules and BeforeTorchvision.__name__ not in names:
        sys.meta_path.insert(0, BeforeTorchvision)


install()
