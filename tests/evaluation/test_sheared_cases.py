"""Cases on sheared grids (a tilted gantry): right distances, no surface Dice, and a warning that names them."""

from math import radians, tan

import nibabel
import numpy as np
import pandas
import pytest

from rankseg_rma.evaluation.evaluate import evaluate_masks
from rankseg_rma.evaluation.options import EvaluationOptions

TILTED = np.diag([1.0, 1.0, 3.0, 1.0])
TILTED[1, 2] = 3 * tan(radians(25))


def write(folder, case_id, array, affine):
    folder.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array.astype(np.uint8), affine), folder / f"{case_id}.nii.gz")


@pytest.fixture
def folders(tmp_path):
    """One case on a tilted grid and one on a straight grid: a ball, and the same two slices on."""
    index = np.moveaxis(np.indices((25, 25, 15)), 0, -1)
    reference = (((index - [12, 12, 5]) * [1, 1, 3]) ** 2).sum(axis=-1) <= 81
    for case_id, affine in (("straight", np.diag([1.0, 1.0, 3.0, 1.0])), ("tilted", TILTED)):
        write(tmp_path / "references", case_id, reference, affine)
        write(tmp_path / "rma", case_id, np.roll(reference, 2, axis=2), affine)
    return tmp_path


def scores_of(folder, case_id):
    rows = pandas.read_csv(folder / "cases.csv")
    return rows[rows["case_id"] == case_id].set_index("metric")["value"]


def score(folders, **options):
    given = EvaluationOptions(**{"label_names": {1: "tumour"}, "tolerances_mm": (2.0,), "report": False, **options})
    return evaluate_masks([str(folders / "rma")], folders / "references", folders / "out", given)


def test_a_tilted_case_is_scored_by_its_whole_matrix_and_named(folders):
    outcome = score(folders)
    assert not outcome.failed
    tilted, straight = (scores_of(folders / "out", case_id) for case_id in ("tilted", "straight"))
    assert tilted["hd95_mm"] == pytest.approx(6.135, abs=5e-4)
    assert tilted["assd_mm"] == pytest.approx(3.296, abs=5e-4)
    assert np.isnan(tilted["nsd_2mm"]) and 0 < straight["nsd_2mm"] < 1
    (note,) = [note for note in outcome.notes if "sheared" in note]
    assert note.startswith("warning: ") and "tilted (25 degrees)" in note and "straight" not in note
    assert "surface Dice is not defined there and left empty" in note
    lesions = pandas.read_csv(folders / "out" / "lesions.csv").drop_duplicates("case_id").set_index("case_id")
    # Shear moves slices, and adds nothing to them.
    assert lesions.loc["tilted", "volume_ml"] == pytest.approx(lesions.loc["straight", "volume_ml"])


def test_the_warning_says_nothing_of_scores_that_nobody_asked_for(folders):
    (note,) = [note for note in score(folders, surface=False).notes if "sheared" in note]
    assert "tilted (25 degrees)" in note and "surface Dice" not in note


def test_the_challenge_protocols_keep_their_files(folders):
    for protocol, name in (("kits23", "evaluation.csv"), ("lits", "summary.json")):
        outcome = score(folders, protocol=protocol, label_names={})
        assert not outcome.failed and (folders / "out" / name).is_file()


def test_straight_cases_carry_no_warning(folders):
    outcome = score(folders, only={"straight"})
    assert not outcome.failed and not [note for note in outcome.notes if "sheared" in note]
