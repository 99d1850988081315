"""The demonstration: the main job on the built-in cohort, with the weights that are shipped."""

from pathlib import Path

from rankseg_rma.datasets import load_card
from rankseg_rma.workflows.data import make_phantom_cohort
from rankseg_rma.workflows.evaluation import evaluate_masks, find_arms
from rankseg_rma.workflows.inference import infer_cases
from rankseg_rma.workflows.outcome import DECODERS, Outcome

DEMO_BUNDLE = Path(__file__).parents[1] / "demo_bundle"
# The demonstration's cases; the shipped weights were trained on a cohort of another seed.
DEMO_SEED = 2026


def make_demo(out: Path, num_cases: int) -> Outcome:
    """The main job on the built-in cohort: phantom, shipped weights, argmax and RMA masks, CSVs and a page."""
    from rankseg_rma.inference import DecodeOptions
    from rankseg_rma.report.page import write_page

    data, masks = out / "phantom", out / "predictions"
    make_phantom_cohort(data, num_cases, seed=DEMO_SEED)
    outcome = infer_cases(DEMO_BUNDLE, [data / "imagesTr"], masks, DECODERS, DecodeOptions(), None, False, "cpu")
    names = load_card("phantom").labels or {}
    scored = evaluate_masks([str(masks)], data / "labelsTr", out / "evaluation", names, None, None)
    outcome.failed |= scored.failed
    page = write_page(
        out / "index.html", title="RankSEG-RMA on the phantom cohort", images=data / "imagesTr",
        references=data / "labelsTr", arms=find_arms([str(masks)]), evaluation=out / "evaluation",
        inference=masks / "inference.csv", failed=outcome.failed, window=(-60.0, 240.0),
    )  # fmt: skip
    outcome.out, outcome.written = out, [*outcome.written, *scored.written, page]
    return outcome
