"""The rules of `test` about voxels that no class claims and classes that are left out."""

import json

import numpy as np
import pytest
import yaml
from PIL import Image
from pretended_runs import indexed, pretend, write_datalist
from test_score_run import CARD, trial

# Probabilities in 255ths: class 0 once, a pixel that no class claims, class 1 all the rest, which is sure to .984.
PIXELS = [[255, 0, 0], [85, 85, 85], *[[4, 251, 0]] * 6]
LABELS = [0, 1, 1, 1, 1, 1, 1, 3]


@pytest.fixture
def scene(tmp_path, monkeypatch):
    entry = {"case_id": "a", "image": "test/a.png", "label": "testannot/a.png"}
    for key, array in (("image", [PIXELS]), ("label", [LABELS])):
        path = tmp_path / "data" / entry[key]
        path.parent.mkdir(parents=True)
        Image.fromarray(np.array(array, np.uint8)).save(path)
    (tmp_path / "data" / "train").mkdir()
    write_datalist(tmp_path / "run", {"training": [], "validation": [], "test": [entry]})
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(CARD))
    pretend(monkeypatch, tmp_path / "run", "image", lambda image: image / np.float32(255))
    return tmp_path


@pytest.mark.parametrize(
    ("unassigned", "label", "iou"), [("max_score", 1, 1.0), ("background", 0, 5 / 6), ("void", 255, 5 / 6)]
)
def test_unclaimed_pixels_of_a_test(scene, unassigned, label, iou):
    trial(scene, "--unassigned", unassigned, "--metric", "iou", "--save-masks")
    with Image.open(scene / "out" / "masks" / "rma" / "a.png") as mask:
        assert np.asarray(mask)[0, :3].tolist() == [0, label, 1]
    # Void is in no class: missed by class 1, and no false pixel of class 0, as background is.
    other = {"max_score": 1.0, "background": 1 / 2, "void": 1.0}[unassigned]
    classes = indexed(scene / "out", "classes.csv", ("decoder", "label"))
    assert classes.loc[("rma", "1"), "iou"] == pytest.approx(iou)
    assert classes.loc[("rma", "0"), "iou"] == pytest.approx(other)
    record = json.loads((scene / "out" / "test.json").read_text())
    assert (record["unassigned"], record["pruning_prob"]) == (unassigned, 0.5)


def test_a_class_below_the_pruning_probability_is_left_out(scene):
    trial(scene, "--pruning-prob", 0.99, "--save-masks")
    with Image.open(scene / "out" / "masks" / "rma" / "a.png") as mask:
        assert 1 not in np.asarray(mask)
    assert json.loads((scene / "out" / "test.json").read_text())["pruning_prob"] == 0.99


def test_a_run_of_overlapping_classes_is_refused(scene):
    from rankseg_rma.paper import score_run

    # The bundle that the scene pretends, which the command will get too.
    found = score_run.open_bundle(scene, None, {})
    found.multilabel = True
    assert "bundle must be one of classes that exclude each other" in trial(scene, code=2)
