"""The command that trains."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rankseg_rma.checks import DatasetError, require_one_of, wrong
from rankseg_rma.datasets import Case, list_cases, load_card, split_cases
from rankseg_rma.workflows.outcome import Outcome, causes, describe_failure, progress_bar


def train_network(
    dataset: str, root: Path, out: Path, network: str, loss: str, fold: int, entries: Mapping[str, Any]
) -> Outcome:
    """Write the run's bundle and train it; an existing run goes on from its latest checkpoint.

    Args:
        dataset: name or path of a dataset card.
        root: the data set's folder.
        out: run folder.
        network: name or YAML file of a network definition.
        loss: a key of `networks.LOSSES`.
        fold: which fold is validation.
        entries: entries of the train config to replace, such as max_epochs; None keeps the config's value.
    """
    from rankseg_rma.bundles import write_bundle
    from rankseg_rma.networks import LOSSES, network_config

    require_one_of("train", "loss", loss, LOSSES)
    given = {key: value for key, value in entries.items() if value is not None}
    chosen = {"network_def": network_config(network), "loss": LOSSES[loss], **given}
    card, cases = list_cases(load_card(dataset), root)
    by_id = {case.case_id: case for case in cases if case.label is not None}
    parts = split_cases(card, list(by_id), fold)
    datalist = {part: [_relative(by_id[case_id], root) for case_id in ids] for part, ids in parts.items()}
    write_bundle(out, card, datalist, chosen)

    from rankseg_rma.bundles import TEMPERATURE_FILE
    from rankseg_rma.training import run_training

    with progress_bar() as progress:
        task = progress.add_task("training", total=None)

        def on_epoch(epoch: int, last: int, loss_value: float) -> None:
            progress.update(task, completed=epoch, total=last, description=f"training, loss {loss_value:.4f}")

        try:
            run_training(out, root.resolve(), on_epoch)
        except RuntimeError as error:
            if not any("applying transform" in str(cause) for cause in causes(error)):
                raise
            advice = f"Run `rankseg-rma data check {dataset} --root {root}` to find all damaged cases."
            raise DatasetError(
                wrong("train", "every case", "readable", describe_failure(error, out), advice=advice)
            ) from error
    found = json.loads((out / TEMPERATURE_FILE).read_text(encoding="utf-8"))
    note = (
        f"temperature {found['temperature']:.3f} fitted on {len(found['case_ids'])} validation cases: "
        f"negative log-likelihood {found['nll_before']:.5f} -> {found['nll_after']:.5f}"
    )
    notes = [note, f"{len(parts['test'])} test cases are named in {out}/configs/datalist.json"]
    for name, ratio in found["expected_volume_ratio"].items():
        if not 0.67 < ratio < 1.5:
            notes.append(
                f"warning: on the validation cases the expected volume of {name} is {ratio:.2f} times the true one. "
                "The probabilities are not calibrated: train longer, or keep argmax."
            )
    return Outcome(out, notes)


def _relative(case: Case, root: Path) -> dict[str, str]:
    return {"image": str(case.image.relative_to(root)), "label": str(case.label.relative_to(root))}  # type: ignore[union-attr]
