"""The demonstration: the main job on the built-in cohort, with the weights that are shipped."""

import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from rankseg_rma.bundles.open import MODEL, TEMPERATURE_FILE
from rankseg_rma.datasets import list_cases, load_card
from rankseg_rma.datasets.phantom import make_phantom_cohort
from rankseg_rma.decoder.arms import DECODERS
from rankseg_rma.evaluation.evaluate import evaluate_masks
from rankseg_rma.evaluation.options import EvaluationOptions
from rankseg_rma.files.writing import write_text
from rankseg_rma.prediction.infer import infer_cases
from rankseg_rma.prediction.policy import DecodeOptions
from rankseg_rma.runs.outcome import Outcome
from rankseg_rma.tables.store import read_rows

DEMO_BUNDLE = Path(__file__).with_name("demo_bundle")
# The demonstration's cases; the shipped weights were trained on a cohort of another seed.
DEMO_SEED = 2026
# The case whose Dice is recorded with the weights.
RECORD_SEED = 5
CT_WINDOW = (-60.0, 240.0)


def make_demo(out: Path, num_cases: int) -> Outcome:
    """The main job on the built-in cohort: phantom, shipped weights, argmax and RMA masks, CSVs and a page."""
    data, masks = out / "phantom", out / "predictions"
    make_phantom_cohort(data, num_cases, seed=DEMO_SEED)
    card, cases = list_cases(load_card("phantom"), data)
    images = [case.image for case in cases]
    outcome = infer_cases(DEMO_BUNDLE, images, masks, DECODERS, DecodeOptions(), None, True, "cpu")
    options = EvaluationOptions(
        label_names=card.labels or {}, only={case.case_id for case in cases}, images=data / "imagesTr", report=True,
        probabilities=masks / "probabilities", window=CT_WINDOW, title="RankSEG-RMA on the phantom cohort",
    )  # fmt: skip
    scored = evaluate_masks([str(masks)], data / "labelsTr", out / "evaluation", options)
    outcome.failed |= scored.failed
    outcome.notes += scored.notes
    outcome.out, outcome.last = out, scored.last
    outcome.written += [path for path in scored.written if path.parent.name != "figures"]
    return outcome


def ship_weights(run: Path) -> None:
    """Put a finished run into the package as the demonstration's bundle, and record its Dice on one case."""
    for name in ("configs/inference.yaml", "configs/metadata.json", "configs/logging.conf", "docs/README.md", "LICENSE",
                 MODEL, TEMPERATURE_FILE):  # fmt: skip
        (DEMO_BUNDLE / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(run / name, DEMO_BUNDLE / name)
    with TemporaryDirectory() as folder:
        data, masks, scores = (Path(folder) / name for name in ("data", "masks", "scores"))
        make_phantom_cohort(data, 1, RECORD_SEED)
        infer_cases(DEMO_BUNDLE, [data / "imagesTr"], masks, DECODERS, DecodeOptions(), None, False, "cpu")
        evaluate_masks([str(masks)], data / "labelsTr", scores, EvaluationOptions(surface=False))
        table = read_rows(scores / "cases.csv").query("metric == 'dice'")
    dice = {name: part.sort_values("label")["value"].round(6).tolist() for name, part in table.groupby("decoder")}
    content = {"case": f"phantom_000 of seed {RECORD_SEED}", "labels": ["liver", "tumour"], "dice": dice}
    write_text(DEMO_BUNDLE / "docs" / "recorded_dice.json", json.dumps(content, indent=1))
