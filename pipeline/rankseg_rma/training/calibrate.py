"""The temperature of a run, fitted on its validation cases at the end of training."""

import json
from collections.abc import Iterable
from math import ceil, isfinite
from pathlib import Path
from typing import Any

from rankseg_rma.bundles.open import TEMPERATURE_FILE, find_card, open_bundle, require_exclusive
from rankseg_rma.datasets.datalist import items_of
from rankseg_rma.decoder.temperature import MAX_VOXELS_PER_CASE, fit_temperature, sample_log_probs
from rankseg_rma.files.writing import write_text
from rankseg_rma.prediction.predict import predict_entry

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
    require_exclusive("fit_run_temperature", bundle)
    card = find_card(root)

    def log_probs_of_cases() -> Iterable[tuple[Any, Any]]:
        for entry in entries:
            probs, label = predict_entry(bundle, entry, card)
            most = min(MAX_VOXELS_PER_CASE, _MAX_VALUES // (len(probs) * len(entries)))
            yield sample_log_probs(probs, label, most)

    found = fit_temperature(log_probs_of_cases())
    # The last ones: the ratios begin with the background where there is one, the names do not.
    found["expected_volume_ratio"] = dict(
        zip(bundle.label_names, found.pop("mass_ratio")[-len(bundle.label_names) :], strict=True)
    )
    # A class that no sampled voxel has.
    ratios = found["expected_volume_ratio"]
    found["expected_volume_ratio"] = {name: ratio if isfinite(ratio) else None for name, ratio in ratios.items()}
    found["case_ids"] = sorted({entry["case_id"] for entry in entries})
    write_text(root / TEMPERATURE_FILE, json.dumps(found, indent=1))
    return found
