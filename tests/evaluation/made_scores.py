"""Made-up scores of a cohort, and the plan of its evaluation."""

from collections.abc import Mapping

import numpy as np
import pandas

from rankseg_rma.evaluation.options import EvaluationOptions
from rankseg_rma.evaluation.paired import PairingRule
from rankseg_rma.evaluation.plan import make_plan

NAMES = {"1": "liver", "2": "tumour", "3": "cyst", "1+2": "whole"}

EYE = np.eye(4)


def frame(values: Mapping[tuple[str, str], Mapping[str, float]], metric="dice", unit="1", **more) -> pandas.DataFrame:
    """Rows as of cases.csv from {(label, decoder): {case: value}}."""
    same = {"metric": metric, "unit": unit, "status": "ok", "empty_policy": "kits", "voxel_ml": 0.5, "n_reference": 1,
            "n_prediction": 1, "tp": 1, "fp": 0, "fn": 0, "n_voxels": 100, **more}  # fmt: skip
    return pandas.DataFrame([
        {"case_id": case_id, "decoder": decoder, "label": label, "label_name": NAMES[label], "value": value, **same}
        for (label, decoder), column in values.items()
        for case_id, value in column.items()
    ])  # fmt: skip


def two_arms(differences, label="1", **more) -> pandas.DataFrame:
    """Argmax at one half in every case and RMA by so much above it; NaN where neither mask nor reference has any."""
    cases = {f"c_{k + 1:02d}": 0.5 + value for k, value in enumerate(differences)}
    half = {case_id: value if np.isnan(value) else 0.5 for case_id, value in cases.items()}
    scores = frame({(label, "argmax"): half, (label, "rma"): cases}, **more)
    return scores.assign(n_reference=scores["value"].notna().astype(int))


def rule(*, arms=("argmax", "rma"), cluster=None, averaged=(), optimised="", partial=False) -> PairingRule:
    return PairingRule(arms, cluster, averaged, optimised, partial)


def indexed(rows, *keys):
    return pandas.DataFrame(rows).set_index(list(keys))


def counted(rows, metric="dice", label="2", decoder="rma"):
    """Rows from (case, value, tp, fp, fn)."""
    parts = [
        frame({(label, decoder): {case: value}}, metric, tp=tp, fp=fp, fn=fn, n_reference=tp + fn, n_prediction=tp + fp)
        for case, value, tp, fp, fn in rows
    ]
    return pandas.concat(parts, ignore_index=True)


def expected_table(arm, volumes, scores=(0.9, 0.8), metric="dice", unit="volume"):
    return pandas.DataFrame([
        {"case_id": case_id, "label": "2", "decoder": arm, "expected_score": score, "expected_volume_ml": volume,
         "metric": metric, "score_over": unit, "temperature": 1.0}
        for case_id, volume, score in zip("ab", volumes, scores, strict=True)
    ])  # fmt: skip


def plan_of(**options):
    return make_plan(EvaluationOptions(**{"surface": False, **options}), [])
