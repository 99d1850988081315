"""The advice: fits never see the patient that they are judged on, and the answer in words."""

from math import log, nan

import numpy as np
import pandas
import pytest
from made_scores import EYE, frame, indexed, two_arms

from rankseg_rma.evaluation import advise, compare
from rankseg_rma.evaluation.options import EvaluationOptions
from rankseg_rma.files.volumes import write_volume
from rankseg_rma.report import advice
from rankseg_rma.runs.outcome import Outcome


def read_case(folder, probs, reference):
    """A case as `advise` keeps it, from files; one class is the foreground."""
    write_volume(folder / "p.nii", probs[0] if len(probs) == 1 else probs, EYE)
    write_volume(folder / "r.nii", reference, EYE)
    outcome = Outcome(folder)
    cases = advise._read_cases({"c_1": folder / "p.nii"}, {"c_1": folder / "r.nii"}, "axial", None, outcome)
    assert not outcome.failed
    return cases[0]


def test_thresholds_are_tuned_by_unit(tmp_path):
    # One slice with the label: two voxels at 0.9, two at 0.395; in the other slice eight at 0.45 are false.
    # Volume: above 0.45 Dice is 4/6, below 0.395 8/16: 0.5 of the best. Slices with reference: all four below 0.395.
    plane, reference = np.zeros((8, 1, 2), np.float32), np.zeros((8, 1, 2), np.uint8)
    plane[:4, 0, 0], plane[:, 0, 1], reference[:4, 0, 0] = (0.9, 0.9, 0.395, 0.395), 0.45, 1
    case = read_case(tmp_path, np.stack([1 - plane, plane]), reference)
    temperature, thresholds = advise._fit([case], "dice")
    assert thresholds == {"volume": (0.5,), "slice": (0.39,)}
    assert 0.05 <= temperature <= 20


@pytest.mark.parametrize("classes", [1, 2])
@pytest.mark.parametrize(("true", "temperature"), [(9, 1), (8, log(9) / log(4)), (5, 20)])
def test_temperature_by_how_many_are_true(tmp_path, classes, true, temperature):
    # Ten voxels at 0.9, odds of 9: nine true are just right; eight have odds of 4 = 9 ** (1 / T); five have none, and T
    # goes as far as it may.
    plane, reference = np.full((10, 1, 1), 0.9, np.float32), (np.arange(10) < true).reshape(10, 1, 1).astype(np.uint8)
    probs = plane[None] if classes == 1 else np.stack([1 - plane, plane])
    found, _ = advise._fit([read_case(tmp_path, probs, reference)], "dice")
    assert found == pytest.approx(temperature, rel=1e-3)


def test_every_arm_of_the_advice(tmp_path):
    # One voxel at 0.9 is true, ten at 0.3 are not. RMA's value 2 S / (tau + mass + 1): at face value the first alone
    # has 1.8 / 5.9, all eleven 7.8 / 15.9. T = 0.2 takes 0.3 to 0.014: 2 / 3.14 for the first alone.
    probs, reference = np.zeros((1, 12, 1, 1), np.float32), np.zeros((12, 1, 1), np.uint8)
    probs[0, 0], probs[0, 1:11], reference[0] = 0.9, 0.3, 1
    case = read_case(tmp_path, probs, reference)
    rows = advise._score(case, 0.2, {"volume": (0.5,), "slice": (0.2,)}, "dice", "axial", ["tumour"])
    found = indexed(rows, "score_over", "decoder")
    poor = 2 / 12  # eleven marked, one true
    values = {"argmax": (1, 1), "rma": (1, 1), "rma_untempered": (poor, poor), "threshold": (1, poor)}
    for arm, pair in values.items():
        assert [found.loc[(unit, arm), "value"] for unit in advise.UNITS] == pytest.approx(list(pair)), arm
        assert set(found.xs(arm, level="decoder")["temperature"]) == {0.2 if arm == "rma" else 1.0}
    assert found.loc["volume", "metric"].eq("dice").all() and found.loc["slice", "metric"].eq("slice_dice").all()
    assert set(found["label_name"]) == {"tumour"} and set(found["label"]) == {"1"}


def test_no_case_is_judged_by_a_fit_that_saw_its_patient(tmp_path, monkeypatch):
    probs, reference = np.zeros((1, 4, 1, 1), np.float32), np.zeros((4, 1, 1), np.uint8)
    probs[0, :2], reference[:2] = 0.9, 1
    ids = [f"c_{k}" for k in range(1, 7)]
    for case_id in ids:
        write_volume(tmp_path / "p" / f"{case_id}.nii", probs[0], EYE)
        write_volume(tmp_path / "r" / f"{case_id}.nii", reference, EYE)
    fits = []

    def fit(cases, metric):
        fits.append({case.case_id for case in cases})
        return 1.0 + len(fits), {"volume": (0.5,), "slice": (0.5,)}

    monkeypatch.setattr(advise, "_fit", fit)
    outcome = advise.advise([tmp_path / "p"], tmp_path / "r", tmp_path / "out", "dice", "axial", "pair", 5)
    assert not outcome.failed and len(fits) == 3  # as many folds as patients
    rows = pandas.read_csv(tmp_path / "out" / "advice_cases.csv")
    seen = rows[rows["decoder"] == "rma"].groupby("case_id")["temperature"].unique()
    for number, case_id in enumerate(ids, 1):
        (temperature,) = seen[case_id]
        twin = f"c_{number + 1 if number % 2 else number - 1}"
        assert fits[int(temperature) - 2] == set(ids) - {case_id, twin}
    assert "6 cases of 3 patients; temperature 2.000 to 4.000" in (tmp_path / "out" / "advice.txt").read_text()


def arms_of(rma=(0.0, -0.1, 0.1), plain=(0.0, -0.1, 0.1), threshold=(0.0, -0.1, 0.1), p=0.01) -> pandas.DataFrame:
    """Mean, low and high of the difference to argmax of every arm."""
    given = {"rma": rma, "rma_untempered": plain, "threshold": threshold}
    table = pandas.DataFrame.from_dict(given, orient="index", columns=["mean", "low", "high"])
    return table.assign(p_permutation=p)


@pytest.mark.parametrize(
    ("arms", "start", "parts", "absent"),
    [
        (arms_of((-0.02, -0.03, -0.01)), "keep argmax: RMA loses (-2.00 points", [], ["confirm"]),
        (arms_of((-0.02, -0.03, -0.01), p=0.2), "keep argmax unless", ["no clear difference", "p = 0.20"], ["loses"]),
        (arms_of((0.02, -0.01, 0.05)), "keep argmax unless", ["no clear difference"], ["confirm"]),
        (arms_of((0.02, 0.01, 0.05), p=0.2), "keep argmax unless", ["no clear difference", "p = 0.20"], ["use RMA"]),
        (arms_of((0.02, 0.01, 0.05)), "use RMA with the temperature (+2.00 points", [], ["threshold", "would lose"]),
        (arms_of((0.02, 0.01, 0.05), threshold=(0.03, 0.01, 0.06)), "use RMA", ["ahead of it (+3.00"], ["would lose"]),
        (arms_of((0.02, 0.01, 0.05), (-0.04, -0.06, -0.01)), "use RMA", ["RMA would lose (-4.00)"], ["ahead"]),
        (arms_of((0.02, nan, nan)), "too few patients for an answer (+2.00 points", [], ["use RMA"]),
    ],
)  # fmt: skip
def test_verdicts(arms, start, parts, absent):
    text = advice._verdict(arms, "volume")
    assert text.startswith(start) and all(part in text for part in parts)
    assert not any(part in text for part in absent)


@pytest.mark.parametrize(
    ("gains", "words"),
    [
        ([-0.05] * 8, "volume: keep argmax: RMA loses (-5.00 points"),
        ([0.05] * 8, "volume: use RMA with the temperature (+5.00 points"),
        (
            [0.05, -0.05, 0.04, -0.04, 0.03, -0.03, 0.02, -0.02],
            "volume: keep argmax unless you have other reasons: no clear difference (+0.00 points",
        ),
        ([0.05] * 5, "volume: too few patients for an answer (+5.00 points"),
    ],
)
def test_answer_in_words(gains, words):
    cases = {f"c_{k}": 0.5 + gain for k, gain in enumerate(gains)}
    same = dict.fromkeys(cases, 0.5)
    arms = {"argmax": same, "rma": cases, "rma_untempered": same, "threshold": same}
    scores = frame({("1", arm): column for arm, column in arms.items()}).assign(score_over="volume")
    rows = advise._compare(scores, "dice", None, False)
    assert [row["arm"] for row in rows] == ["rma", "rma_untempered", "threshold"]
    assert all(row["score_over"] == "volume" and row["unit"] == "1" and row["optimised"] for row in rows)
    lines = advice.word_advice(pandas.DataFrame(rows), scores, [0.8, 1.25], "dice", len(cases))
    assert any(line.startswith(words) for line in lines)
    assert lines[0].startswith(f"{len(cases)} cases of {len(cases)} patients; temperature 0.800 to 1.250")
    num_lost = sum(gain < 0 for gain in gains)
    expected = f"  {num_lost} lose more than a point, most: " if num_lost else "  no case loses more than a point"
    assert lines[-1].startswith(expected)


def test_losers_are_the_worst_first():
    scores = two_arms([0.3, -0.005, -0.02, -0.4, nan, -0.1])
    expected = "  3 lose more than a point, most: c_04 liver -40.0, c_06 liver -10.0, c_03 liver -2.0"
    assert advice._losers(scores, "dice") == [expected]


def test_validation_patients_must_be_others(tmp_path, monkeypatch):
    for name in ("one/c_2", "two/c_2", "references/c_1", "references/c_2", "validation/c_1", "probabilities/c_2"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.nii").touch()

    def run(**options):
        given = EvaluationOptions(probabilities=tmp_path / "probabilities", **options)
        folders = [str(tmp_path / name) for name in ("one", "two")]
        return compare.compare_folders(
            folders, tmp_path / "references", tmp_path / "out", tmp_path / "validation", given
        )

    with pytest.raises(ValueError, match="1 patients in both, for example 1"):
        run(cluster="pair")
    assert not (tmp_path / "out").exists()
    # Without a rule these are other patients, and c_1 is tuned on, not judged.
    monkeypatch.setattr(compare, "_write_threshold_masks", lambda tuning, outcome: None)
    monkeypatch.setattr(compare, "evaluate_masks", lambda arms, references, out, options, outcome: (arms, options.only))
    arms, only = run()
    assert list(arms) == ["one", "two", "threshold"] and only == {"c_2"}
    (tmp_path / "probabilities" / "c_1.nii").touch()
    with pytest.raises(ValueError, match="for example c_1"):
        run()
