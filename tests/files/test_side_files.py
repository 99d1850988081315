"""labels.json and temperature.json of other tools and people: read, or refused once with the path."""

import json

import pytest

from rankseg_rma.checks import DatasetError
from rankseg_rma.files.json_files import values_by_name
from rankseg_rma.files.probabilities import read_label_names
from rankseg_rma.files.temperature import read_temperature


@pytest.mark.parametrize(
    "content",
    [
        ["liver", "tumour"],
        {"1": "liver", "2": "tumour"},
        {"2": "tumour", "0": "background", "1": "liver"},
        {"background": 0, "liver": 1, "tumour": 2},
        {"labels": {"0": "background", "1": "liver", "2": "tumour"}},
    ],
)
def test_names_of_labels(tmp_path, content):
    (tmp_path / "labels.json").write_text("\ufeff" + json.dumps(content), encoding="utf-8")
    assert read_label_names([tmp_path]) == ["liver", "tumour"]
    assert read_label_names([tmp_path, tmp_path / "without"]) == []


@pytest.mark.parametrize(
    "text",
    ["null", "{", "", "3", "[1, 2]", '[""]', '{"1": "liver", "3": "tumour"}', '{"liver": true}', '{"labels": ["a"]}',
     '{"0": "background"}', "{}", '{"1": "liver", "2": "liver"}', "\udcff"],
)  # fmt: skip
def test_labels_that_are_refused(tmp_path, text):
    path = tmp_path / "labels.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(DatasetError, match=r"read_label_names: labels\.json must be a list of the names") as caught:
        read_label_names([tmp_path])
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("labels", [{"a": -1}, {"a": []}, {"a": [1, "2"]}, {"a": 1.5}, {"a": None}, {"": 1}])
def test_values_that_labels_cannot_have(labels):
    with pytest.raises(ValueError, match="label "):
        values_by_name(labels)


@pytest.mark.parametrize("text", ['{"temperature": 1.5}', '{"temperature": 20}', '\ufeff{"temperature": 0.05}'])
def test_temperatures(tmp_path, text):
    path = tmp_path / "t.json"
    path.write_text(text, encoding="utf-8")
    assert 0.05 <= read_temperature(path) <= 20


@pytest.mark.parametrize(
    "value", ["true", "NaN", "Infinity", "0.04", "20.1", "0", "-1", "null", '"1.5"', "[1.5]", "{}", "1" + 400 * "0"]
)
def test_temperatures_that_are_refused(tmp_path, value):
    path = tmp_path / "temperature.json"
    path.write_text(f'{{"temperature": {value}}}', encoding="utf-8")
    with pytest.raises(DatasetError, match=r"a number 'temperature' in \[0\.05, 20\]; got") as caught:
        read_temperature(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("text", ["1.5", "null", "{}", "[]", "{", ""])
def test_files_without_a_temperature(tmp_path, text):
    path = tmp_path / "temperature.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DatasetError, match="a number 'temperature'") as caught:
        read_temperature(path)
    assert str(path) in str(caught.value)
