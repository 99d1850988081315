"""The files beside a run, saved again by an editor: `test` reads a byte-order mark and names a wrong encoding."""

import json

import pytest
from test_score_run import scenes as scenes
from test_score_run import trial

from rankseg_rma.files.temperature import read_temperature


@pytest.mark.parametrize("fitted_on", ["z9", "a0"])
def test_a_temperature_with_a_byte_order_mark(scenes, fitted_on):
    path = scenes / "run" / "models" / "temperature.json"
    path.write_text(json.dumps({"temperature": 1.5, "case_ids": [fitted_on]}), encoding="utf-8-sig")
    assert read_temperature(path) == 1.5
    said = trial(scenes)
    assert ("no temperature is used" in said) == (fitted_on == "a0")


def test_a_data_list_in_latin_1(scenes):
    path = scenes / "run" / "configs" / "datalist.json"
    path.write_text(path.read_text(encoding="utf-8").replace("a0.png", "ä0.png"), encoding="latin-1")
    said = trial(scenes, code=2)
    assert "UnicodeDecodeError" in said and str(path) in said
    assert not (scenes / "out").exists()
