"""`test` reads the labels of volumes as every other command does."""

import json

import numpy as np
import torch
from pretended_runs import indexed, pretend, write_datalist

from conftest import run
from rankseg_rma.files.probabilities import Probabilities
from rankseg_rma.files.volumes import write_volume


def test_labels_are_rounded_and_said_once(tmp_path, monkeypatch):
    data = tmp_path / "data"
    label = np.zeros((2, 2, 1))
    label[0] = 1
    content = {"labels": {"0": "background", "1": "organ"}, "modality": {"0": "CT"}, "training": []}
    for number in range(3):
        files = {key: f"{key}sTr/p_{number}.nii.gz" for key in ("image", "label")}
        write_volume(data / files["image"], np.zeros((2, 2, 1), np.int16), np.eye(4))
        write_volume(data / files["label"], label * (1 if number == 0 else 0.9961), np.eye(4))
        content["training"].append(files)
    (data / "dataset.json").write_text(json.dumps(content))
    write_datalist(tmp_path / "run", {"training": [], "validation": content["training"]})
    pretend(monkeypatch, tmp_path / "run", "volume", None)
    monkeypatch.setattr(
        "rankseg_rma.prediction.predict.predict_probabilities",
        lambda bundle, path: Probabilities(torch.tensor(np.stack([1 - label, label]), dtype=torch.float32), np.eye(4)),
    )
    command = ("test", "--dataset", "msd", "--root", data, "--bundle", tmp_path / "run", "--out", tmp_path / "out")
    said = run(*command)
    assert said.count("2 label files hold values that are not quite whole numbers") == 1
    assert set(indexed(tmp_path / "out").loc["volume"].loc["rma"].loc[["miou_i", "miou_c"], "value"]) == {1.0}
