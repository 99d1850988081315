"""Weights on disk, and which of them are those of a network: under other people's nests and prefixes too."""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rankseg_rma.checks import DatasetError, wrong

# Where training code of others, and our own checkpoints, keep the tensors of the network.
NESTS = ("model", "state_dict", "network")
# What parallel and compiled training, and classes around a network, put before its names.
WRAPPERS = ("module.", "_orig_mod.", "net.", "network.", "backbone.", "model.")
# Old files lack the counters of batch norm; nothing depends on them.
_COUNTER = "num_batches_tracked"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fit:
    """How tensors of a file fit a network under one rule.

    Attributes:
        tensors: of the file, by the network's own names.
        rule: what was taken off, put on or opened, in words; empty when the names are the network's own.
        faults: names by what is wrong with them; empty lists when the rule explains all.
    """

    tensors: dict[str, torch.Tensor]
    rule: str
    faults: dict[str, list[str]]

    @property
    def num_faults(self) -> int:
        """Names that the rule leaves unexplained."""
        return sum(map(len, self.faults.values()))


def read_weights(path: Path, *, function: str, argument: str) -> Any:
    """Content of a file of weights; nothing in it is run.

    Args:
        path: .safetensors, or what `torch.save` writes.
        function: who asks, for the messages.
        argument: what they call the file.
    Raises:
        DatasetError: the file is torn, of another kind, or needs code to be run.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        # On the CPU first: weights saved on a GPU must open on a machine without one.
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a torn or foreign file raises many kinds of error
        got = f"{type(error).__name__}: {' '.join(str(error).split())[:150]}"
        raise DatasetError(wrong(function, argument, "a readable file", got, path=path)) from error


def find_states(content: Any, depth: int = 2) -> Iterator[tuple[str, dict[str, torch.Tensor]]]:
    """Tensors by their names, with the nest that they lie in: the content itself, or an entry of `NESTS`."""
    if not isinstance(content, Mapping):
        return
    if content and all(isinstance(value, torch.Tensor) for value in content.values()):
        yield "", dict(content)
    for name in NESTS if depth else ():
        for inner, state in find_states(content.get(name), depth - 1):
            yield f"{name}.{inner}" if inner else name, state


def fit_weights(
    content: Any,
    own: Mapping[str, torch.Tensor],
    *,
    select: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]] = dict,
    plain: Callable[[str], str] = str,
    adapt: Callable[[torch.Tensor, torch.Size], torch.Tensor] = lambda tensor, shape: tensor,
) -> Fit | None:
    """The one nest and the one prefix under which a file explains most of a network; all of it, if all goes well.

    Args:
        content: of the file, from `read_weights`.
        own: the network's tensors by its own names.
        select: which tensors of a nest are looked at.
        plain: names are the same when this makes them the same.
        adapt: a tensor of the file for the shape that the network wants.
    Returns:
        The fit with the fewest faults; None when there are no tensors by names in the file.
    """
    best: Fit | None = None
    for nest, state in find_states(content):
        found = _fit(nest, select(state), own, plain, adapt)
        best = found if best is None or found.num_faults < best.num_faults else best
    return best


def _fit(
    nest: str,
    state: Mapping[str, torch.Tensor],
    own: Mapping[str, torch.Tensor],
    plain: Callable[[str], str],
    adapt: Callable[[torch.Tensor, torch.Size], torch.Tensor],
) -> Fit:
    taken, added, count = _find_prefix(state, own, plain)
    names = {plain(name.removeprefix(added)): name for name in own if name.startswith(added)}
    tensors, unknown, reshaped = {}, [], []
    for key, tensor in state.items():
        name = names.get(plain(key.removeprefix(taken))) if key.startswith(taken) else None
        if name is None:
            unknown.append(key)
            continue
        fitting, shape = adapt(tensor, own[name].shape), own[name].shape
        if fitting.shape != shape:
            reshaped.append(f"{key} {tuple(tensor.shape)} for {tuple(shape)}")
        tensors[name] = fitting
    missing = [name for name in own if name not in tensors and not name.endswith(_COUNTER)]
    words = [f"out of the entry {nest!r}"] if nest else []
    words += [f"with the prefix {taken!r} taken off"] if taken else []
    words += [f"with the prefix {added!r} put on"] if added else []
    faults = {"missing": missing, "unknown": unknown, "of another shape": reshaped}
    if words and any(faults.values()):
        words.append(f"which explains {count} of {len(state)} names")
    return Fit(tensors, ", ".join(words), faults)


def _find_prefix(
    state: Mapping[str, Any], own: Mapping[str, Any], plain: Callable[[str], str]
) -> tuple[str, str, int]:  # fmt: skip
    """Prefix of the file that the network lacks, prefix of the network that the file lacks, and names explained."""
    best = "", "", -1
    for taken in ("", _most_common(state, set(map(plain, own)), plain), _wrappers_of(state)):
        theirs = {plain(name.removeprefix(taken)) for name in state if name.startswith(taken)}
        for added in ("", _most_common(own, theirs, plain)):
            ours = {plain(name.removeprefix(added)) for name in own if name.startswith(added)}
            # The plainest of the rules that explain as much.
            if len(theirs & ours) > best[2]:
                best = taken, added, len(theirs & ours)
    return best


def _most_common(names: Mapping[str, Any], wanted: set[str], plain: Callable[[str], str]) -> str:
    """The prefix without which most names are wanted ones; empty when none is."""
    found: Counter[str] = Counter()
    for name in names:
        pieces = name.split(".")
        for place in range(1, len(pieces)):
            if plain(".".join(pieces[place:])) in wanted:
                found[".".join(pieces[:place]) + "."] += 1
    # Of equal counts the first, which is the shortest prefix of the earliest name.
    return max(found, key=lambda prefix: found[prefix], default="")


def _wrappers_of(names: Mapping[str, Any]) -> str:
    """What wraps all of the names, such as ``module._orig_mod.``."""
    prefix = ""
    while names and (step := next((word for word in WRAPPERS if next(iter(names)).startswith(prefix + word)), "")):
        if not all(name.startswith(prefix + step) for name in names):
            break
        prefix += step
    return prefix


def unwrapped(name: str) -> str:
    """A name without what wraps it.

    Example:
        >>> unwrapped("module._orig_mod.net.conv1.weight")
        'conv1.weight'
    """
    while name.startswith(WRAPPERS):
        name = name.split(".", 1)[1]
    return name


def require_fit(fit: Fit | None, *, function: str, argument: str, expected: str, path: Path) -> Fit:
    """The fit, if it explains every name; what rule it needed is said in the log.

    Raises:
        DatasetError: it does not; the message has the rule that came closest and some names, the log has all of them.
    """
    if fit is None:
        raise DatasetError(wrong(function, argument, "tensors by their names", "something else", path=path))
    if not fit.num_faults:
        if fit.rule:
            _log.info("%s: loaded %s", path, fit.rule)
        return fit
    for word, names in fit.faults.items():
        if names:
            _log.warning("%s: %d %s: %s", path, len(names), word, ", ".join(names))
    got = "; ".join(f"{word}: {_shortly(names)}" for word, names in fit.faults.items() if names)
    rule = f"{fit.rule}: " if fit.rule else ""
    raise DatasetError(wrong(function, argument, expected, rule + got, path=path, advice="The log has all names."))


def _shortly(keys: list[str]) -> str:
    return ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")


def require_no_nan(tensors: Mapping[str, torch.Tensor], *, function: str, path: Path) -> None:
    """Refuse weights of a training that had diverged.

    Raises:
        DatasetError: a tensor has NaN; infinities may be meant, as in masks of attention.
    """
    bad = [name for name, tensor in tensors.items() if tensor.is_floating_point() and tensor.isnan().any()]
    if bad:
        got = f"NaN in {len(bad)} of {len(tensors)} tensors, {_shortly(bad)}"
        advice = "The training had diverged: train again from a checkpoint before that."
        raise DatasetError(wrong(function, "weights", "numbers", got, path=path, advice=advice))
