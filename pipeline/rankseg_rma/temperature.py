"""One temperature, fitted on validation cases when a training ends."""

import json
from collections.abc import Iterable
from math import ceil, isfinite
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rankseg_rma.bundles import TEMPERATURE_FILE, find_card, open_bundle
from rankseg_rma.checks import DatasetError, wrong
from rankseg_rma.inference import predict_entry
from rankseg_rma.training import items_of
from rankseg_rma.transforms import TEMPERATURE_RANGE
from rankseg_rma.volumes import write_text

_MAX_VOXELS_PER_CASE = 200_000
# Log-probabilities that a fit holds at most, in float64; many cases give fewer voxels each.
_MAX_VALUES = 60_000_000
# More cases than this make no better fit of one number: evenly spaced ones are taken.
_MAX_CASES = 200


def fit_run_temperature(bundle_root: str | Path, dataset_dir: str | Path) -> dict[str, Any]:
    """Fit one temperature on the validation cases of a finished run and store it in the bundle.

    The probabilities are taken on the native grid, where masks are decoded.

    Args:
        bundle_root: run folder with models/model.pt and configs/datalist.json.
        dataset_dir: folder that the paths in the data list are relative to.
    Returns:
        What is stored in models/temperature.json: temperature, nll_before and nll_after (mean negative log-likelihood
        of a voxel, in nats), case_ids, num_voxels, and per label expected_volume_ratio (expected over true volume).
    """
    root = Path(bundle_root)
    entries = items_of(root / "configs" / "datalist.json", "validation", dataset_dir)
    entries = entries[:: max(1, ceil(len(entries) / _MAX_CASES))]
    bundle = open_bundle(root)
    card = find_card(root)

    def log_probs_of_cases() -> Iterable[tuple[Any, Any]]:
        for entry in entries:
            probs, label = predict_entry(bundle, entry, card)
            most = min(_MAX_VOXELS_PER_CASE, _MAX_VALUES // (len(probs) * len(entries)))
            yield sample_log_probs(probs, label, most)

    found = fit_temperature(log_probs_of_cases())
    found["expected_volume_ratio"] = dict(
        zip(bundle.label_names, found.pop("mass_ratio")[-len(bundle.label_names) :], strict=True)
    )
    # A class that no sampled voxel has.
    ratios = found["expected_volume_ratio"]
    found["expected_volume_ratio"] = {name: ratio if isfinite(ratio) else None for name, ratio in ratios.items()}
    found["case_ids"] = sorted({entry["case_id"] for entry in entries})
    write_text(root / TEMPERATURE_FILE, json.dumps(found, indent=1))
    return found


def sample_log_probs(probs: Any, label: Any, most: int = _MAX_VOXELS_PER_CASE) -> tuple[Any, Any]:
    """Log-probabilities and labels of some voxels of a case, drawn with a fixed seed.

    Args:
        probs: (class, *spatial); voxels that are zero in every class (padding) are left out.
        label: (*spatial) integers; voxels whose label is no class (void) are left out.
        most: so many voxels at most.
    Returns:
        (voxel, class) float32 log-probabilities and (voxel,) int64 labels.
    """
    flat, target = torch.as_tensor(probs).reshape(len(probs), -1), np.asarray(label).ravel().astype(np.int64)
    places = np.flatnonzero((target >= 0) & (target < len(probs)) & (flat.sum(dim=0) > 0).numpy())
    if places.size > most:
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
    logits = logits.double()
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
    optimizer.step(closure)
    temperature = float(log_temperature.detach().exp().clamp(*TEMPERATURE_RANGE))
    after = float(nll(torch.tensor(temperature, dtype=torch.float64)))
    if after > before:
        temperature, after = 1.0, before
    mass = (logits / temperature).softmax(dim=1).sum(dim=0)
    count = torch.bincount(target, minlength=logits.shape[1])
    return {
        "temperature": temperature, "nll_before": before, "nll_after": after, "num_voxels": len(target),
        "mass_ratio": (mass / count).tolist(),
    }  # fmt: skip
