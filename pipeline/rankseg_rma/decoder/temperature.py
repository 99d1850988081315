"""One temperature for probabilities: scaling by it, and fitting it on labelled voxels."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from rankseg_rma.checks import DatasetError, wrong
from rankseg_rma.decoder.geometry import TOLERANCE
from rankseg_rma.decoder.solver import require_case, require_values
from rankseg_rma.decoder.sums import require_sums

TEMPERATURE_RANGE = (0.05, 20.0)
MAX_VOXELS_PER_CASE = 200_000


def scale_probabilities(
    probs: Any, temperature: float, *, multilabel: bool = False, function: str = "scale_probabilities"
) -> Any:
    """Scale the confidence of probabilities: ``p ** (1 / T)``, renormalised; equal to softmax(logits / T).

    Args:
        probs: (class, *spatial) float tensor in [0, 1]; not modified. A single class is paired with its complement.
        temperature: T; 1 gives ``probs`` back as it is, unchecked.
        multilabel: classes are independent, as sigmoid gives them: each is paired with its own complement, which is
            sigmoid(logit / T).
        function: who asks, for the messages.
    Returns:
        Tensor of the same shape and dtype. Voxels that are zero in every class stay so.
    Raises:
        ValueError: no single case, values outside [0, 1], NaN, or classes that do not add up to 1 where they should.
        TypeError: a tensor without values, as inside of vmap.
    Source:
        Guo et al., On Calibration of Modern Neural Networks, ICML 2017.
    """
    if temperature == 1.0:
        return probs
    require_values(function, "img", probs)
    require_case(function, "img", tuple(probs.shape))
    low, high = (float(end) for end in torch.aminmax(probs.detach())) if probs.numel() else (0.0, 1.0)
    if not (low >= -TOLERANCE and high <= 1 + TOLERANCE):  # also when NaN
        advice = "Apply softmax to logits first."
        got = f"values from {low:.4g} to {high:.4g}"
        raise ValueError(wrong(function, "img", "probabilities in [0, 1]", got, advice=advice))
    probs = probs.clamp(0, 1)
    alone = multilabel or len(probs) == 1
    if not alone:
        require_sums(function, "img", probs)
    # Relative to the largest class, so that small powers of many classes do not underflow together.
    largest = torch.maximum(probs, 1 - probs) if alone else probs.amax(dim=0, keepdim=True)
    largest = torch.where(largest > 0, largest, 1)
    scaled = (probs / largest) ** (1 / temperature)
    if alone:
        total = scaled + ((1 - probs) / largest) ** (1 / temperature)
    else:
        total = scaled.sum(dim=0, keepdim=True)
    scaled /= torch.where(total > 0, total, 1)
    return scaled


def sample_log_probs(probs: Any, label: Any, most: int = MAX_VOXELS_PER_CASE) -> tuple[Any, Any]:
    """Log-probabilities and labels of some voxels of a case, drawn with a fixed seed.

    Args:
        probs: (class, *spatial); voxels that are zero in every class (padding) are left out.
        label: (*spatial) integers; voxels whose label is no class (void) are left out.
        most: so many voxels at most.
    Returns:
        (voxel, class) float32 log-probabilities and (voxel,) int64 labels.
    Raises:
        TypeError: the labels are no integers.
    """
    labels = np.asarray(label)
    if labels.dtype.kind not in "iub":
        raise TypeError(wrong("sample_log_probs", "label", "of integers", labels.dtype))
    flat, target = torch.as_tensor(probs).reshape(len(probs), -1), labels.ravel().astype(np.int64)
    places = np.flatnonzero((target >= 0) & (target < len(probs)) & (flat.sum(dim=0) > 0).numpy())
    if places.size > most:
        # Sorted, so that the voxels are gathered in the order of memory.
        places = np.sort(np.random.default_rng(0).choice(places, most, replace=False))
    chosen = flat[:, torch.from_numpy(places)].T.float()
    return chosen.clamp_min(1e-12).log(), torch.from_numpy(target[places])


def fit_temperature(cases: Iterable[tuple[Any, Any]]) -> dict[str, Any]:
    """Temperature that minimises the negative log-likelihood of labelled voxels.

    Args:
        cases: pairs of (voxel, class) log-probabilities or logits and (voxel,) int64 labels.
    Returns:
        temperature, nll_before, nll_after, num_voxels, and mass_ratio: per class, the sum of its scaled probabilities
        over its number of voxels. The temperature is kept within [0.05, 20].
    Raises:
        DatasetError: no voxel is labelled.
    Source:
        Guo et al., On Calibration of Modern Neural Networks, ICML 2017.
    """
    parts = list(cases)
    if not parts or not sum(len(target) for _, target in parts):
        raise DatasetError(wrong("fit_temperature", "validation cases", "at least one labelled case", "none"))
    logits, target = (torch.cat(part) for part in zip(*parts, strict=True))
    # In float32 the loss over millions of voxels rounds before the line search is done.
    logits = logits.double()
    # The logarithm keeps the temperature positive without a bound, and makes halving and doubling equal steps.
    log_temperature = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([log_temperature], lr=0.5, max_iter=60, line_search_fn="strong_wolfe")

    def nll(temperature: Any) -> Any:
        return torch.nn.functional.cross_entropy(logits / temperature, target)

    def closure() -> Any:
        optimizer.zero_grad()
        loss = nll(log_temperature.exp())
        loss.backward()
        return loss.detach()

    before = float(nll(torch.ones(1, dtype=torch.float64)))
    optimizer.step(closure)  # type: ignore[no-untyped-call]
    temperature = float(log_temperature.detach().exp().clamp(*TEMPERATURE_RANGE))
    after = float(nll(torch.tensor(temperature, dtype=torch.float64)))
    # A line search that fails may end above where it began.
    if after > before:
        temperature, after = 1.0, before
    mass = (logits / temperature).softmax(dim=1).sum(dim=0)
    count = torch.bincount(target, minlength=logits.shape[1])
    return {
        "temperature": temperature, "nll_before": before, "nll_after": after, "num_voxels": len(target),
        "mass_ratio": (mass / count).tolist(),
    }  # fmt: skip
