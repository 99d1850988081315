"""Files of scores that other tools read: KiTS23's, nnU-Net's and LiTS's."""

import json
from math import nan

import numpy as np
import pandas
from made_scores import counted

from rankseg_rma.evaluation import foreign_files, protocols
from rankseg_rma.metrics.lits import score_lits_case


def test_kits23_file(tmp_path):
    values = {
        (region.key, metric): (0.5 + 0.1 * k, 1.0)
        for k, region in enumerate(protocols.KITS23_REGIONS)
        for metric in ("dice", f"nsd_{region.tolerances_mm[0]:.12g}mm")
    }
    scores = pandas.DataFrame([
        {"case_id": case_id, "label": label, "metric": metric, "value": pair[k]}
        for (label, metric), pair in values.items() for k, case_id in enumerate(("case_2", "case_1"))
    ])  # fmt: skip
    lines = foreign_files.write_kits23(tmp_path / "evaluation.csv", scores).read_text().splitlines()
    ones, mixed = ",".join(["1.00000000"] * 6), ",".join(["0.50000000", "0.60000000", "0.70000000"] * 2)
    average = ",".join(["0.75000000", "0.80000000", "0.85000000"] * 2)
    assert lines == ["caseID,Dice_kidney,Dice_masses,Dice_tumor,SD_kidney,SD_masses,SD_tumor", f"case_1,{ones}",
                     f"case_2,{mixed}", f"average,{average}"]  # fmt: skip


def test_nnunet_file(tmp_path):
    parts = [("1+2", [("a", 0.5, 6, 4, 2), ("b", nan, 0, 0, 0)]), ("2", [("a", 0.25, 1, 3, 3), ("b", 0.75, 3, 1, 1)])]
    scores = pandas.concat([counted(rows, name, label) for label, rows in parts for name in ("dice", "iou")])
    places = {case_id: tmp_path / f"{case_id}.nii" for case_id in "ab"}
    path = foreign_files.write_nnunet(tmp_path / "summary.json", scores, ("2",), places, places)
    found = json.loads(path.read_text())
    assert list(found["mean"]) == ["(1, 2)", "2"] and found["empty_policy"] == "kits"
    assert found["mean"]["(1, 2)"]["Dice"] == 0.5  # the case without it is left out
    assert found["mean"]["(1, 2)"]["FP"] == 2 and found["mean"]["2"]["Dice"] == 0.5
    assert found["foreground_mean"]["Dice"] == 0.5 and found["foreground_mean"]["FN"] == 2
    (first, _), whole = found["metric_per_case"], "(1, 2)"
    # 100 voxels less 6 + 4 + 2.
    assert first["metrics"][whole] == {"Dice": 0.5, "IoU": 0.5, "FN": 2, "FP": 4, "TN": 88, "TP": 6, "n_pred": 10,
                                       "n_ref": 8}  # fmt: skip
    everything = json.loads(foreign_files.write_nnunet(path, scores, (), places, places).read_text())
    assert everything["foreground_mean"]["FP"] == 2  # both rows: (2 + 2) / 2


def test_lits_files(tmp_path):
    array = np.ones((6, 6, 4), np.uint8)
    array[2, 2, 2] = 2
    case = score_lits_case(array, array, (1.0, 1.0, 1.0))
    for path in foreign_files.write_lits(tmp_path, [case]):
        assert path.is_file()
    found = json.loads((tmp_path / "lits.json").read_text())
    assert found["lesion_precision"] == found["lesion_recall"] == 1 and found["num_cases"] == 1
    assert len(pandas.read_csv(tmp_path / "lits.csv")) == 1
