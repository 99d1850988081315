"""Runs whose network is a function of the image."""

import json
from types import SimpleNamespace

import torch

from rankseg_rma.tables.store import read_rows


def write_datalist(folder, datalist, **temperature):
    for name in ("configs", "models"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "configs" / "datalist.json").write_text(json.dumps(datalist))
    if temperature:
        (folder / "models" / "temperature.json").write_text(json.dumps(temperature))


def pretend(monkeypatch, run_folder, kind, predict):
    """A bundle whose network is a function of the array that it is given."""
    path = run_folder / "models" / "temperature.json"
    stored = json.loads(path.read_text())["temperature"] if path.is_file() else None
    bundle = SimpleNamespace(
        root=run_folder, kind=kind, temperature=stored, device="cpu", label_names=(), notes=(), multilabel=False
    )
    monkeypatch.setattr("rankseg_rma.paper.score_run.open_bundle", lambda root, device, entries: bundle)
    monkeypatch.setattr(
        "rankseg_rma.prediction.predict.predict_image", lambda given, image: torch.from_numpy(predict(image))
    )


def indexed(folder, name="test_summary.csv", keys=("score_over", "decoder", "score")):
    table = read_rows(folder / name)
    return table[table["decoder"].notna()].set_index(list(keys))
