"""The command that trains."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from rankseg_rma.checks import DatasetError, wrong
from rankseg_rma.datasets import Card, Case, list_cards, list_cases, load_card
from rankseg_rma.datasets.check import require_good_cases
from rankseg_rma.datasets.datalist import divide_cases, kind_of_part, make_datalist
from rankseg_rma.files.json_files import read_json
from rankseg_rma.networks import network_config, spatial_dims_of
from rankseg_rma.runs.outcome import Outcome, causes, describe_failure
from rankseg_rma.runs.progress import progress_bar
from rankseg_rma.training.losses import loss_config
from rankseg_rma.training.settings import NOT_ENTRIES, RENAMED, settings_of

_DEFAULT_NETWORK = {"volume": "unet3d", "image": "segresnet2d_small", "slices": "unet2d"}


def train_network(
    root: Path,
    out: Path,
    *,
    dataset: str | None,
    recipe: str | None,
    network: str | None,
    loss: str | None,
    fold: int,
    entries: Mapping[str, Any],
) -> Outcome:
    """Write the run's bundle and train it; an existing run goes on from its latest checkpoint.

    Args:
        root: the data set's folder, a slice store or what `data prepare` wrote.
        out: run folder.
        dataset: name or path of a dataset card; None takes the recipe's.
        recipe: name or YAML file of a recipe; what is given beside it wins.
        network: name or YAML file of a network definition; None takes the recipe's, or a small one.
        loss: a key of `losses.LOSSES`; None takes the recipe's, or cross-entropy.
        fold: which fold is validation.
        entries: entries of the train config to replace, such as max_epochs; None keeps the config's value.
    Raises:
        DatasetError: a case of the run has a fault, all such cases are named and nothing is trained; or a loss or
            weight is not finite, and nothing of that state is saved.
        ValueError, FileNotFoundError: a setting is wrong, or a file missing.
    """
    from rankseg_rma.training.distributed import is_first_process, share_cores

    settings = settings_of(recipe)
    dataset = dataset or settings.pop("dataset", None)
    if dataset is None:
        raise ValueError(wrong("train", "dataset", "given by --dataset or --recipe", "neither"))
    criterion = loss_config(loss or settings.get("loss", "ce"))
    given = {key: value for key, value in entries.items() if value is not None}
    if "max_epochs" in given and "max_iterations" in given:
        raise ValueError(wrong("train", "length", "given by either --epochs or --iterations", "both"))
    if "max_epochs" in given:
        # Iterations, here the recipe's, would win over the epochs that are asked for.
        settings.pop("max_iterations", None)
    if str(given.get("encoder_weights", "")).lower() == "none":
        # Put in behind the filter above, for which None is what was not given.
        given["encoder_weights"] = settings["encoder_weights"] = None
    card, cases = list_cases(load_card(dataset), root)
    parts = divide_cases(card, cases, fold, root)
    kind = kind_of_part(card, cases)
    network = network or settings.get("network") or _DEFAULT_NETWORK[kind]
    definition = network_config(network)
    _require_dimensions(definition, network, kind)
    chosen = {key: value for key, value in settings.items() if key not in NOT_ENTRIES and value is not None}
    chosen = {RENAMED.get(key, key): value for key, value in chosen.items()}
    chosen |= {"network_def": definition, "loss": criterion, **given}
    threads = share_cores()
    remarks = _train(out, root, dataset, card, parts, chosen)
    if not is_first_process():
        return Outcome(out)
    outcome = _report(out, parts)
    outcome.notes += [*remarks, *([threads] if threads else [])]
    return outcome


def _require_dimensions(definition: dict[str, Any], network: str, kind: str) -> None:
    wanted, found = 3 if kind == "volume" else 2, spatial_dims_of(definition)
    if found not in (wanted, None):
        advice = "Volumes become 2D slices by `rankseg-rma data prepare`." if found == 2 else ""
        expected = f"a {wanted}D network, since the data set holds {kind if kind == 'slices' else kind + 's'}"
        raise ValueError(wrong("train", "network", expected, f"{network!r}, which is {found}D", advice=advice))


def _train(
    out: Path, root: Path, dataset: str, card: Card, parts: Mapping[str, Sequence[Case]], chosen: dict[str, Any]
) -> list[str]:
    """Write the bundle, check every case of the run, train; returns remarks on the data."""
    from rankseg_rma.bundles.write import write_bundle
    from rankseg_rma.training import distributed

    advice = f"Mend them or leave them out; `rankseg-rma data check {dataset} --root {root}` looks at all cases."
    is_first = distributed.is_first_process()
    remarks: list[str] = []

    def begin() -> None:
        # First what needs no reading of the data: a run of other settings is refused at once.
        write_bundle(out, card, make_datalist(parts, root), chosen, list_cards().get(dataset, Path(dataset)))
        remarks.extend(require_good_cases(card, [*parts["training"], *parts["validation"]], advice))

    with distributed.joined():
        distributed.on_first_process(begin)
        with progress_bar() if is_first else nullcontext() as progress:
            _run(out, root, progress, advice)
    return remarks


def _run(out: Path, root: Path, progress: Any, advice: str) -> None:
    """Train, with progress shown where it is not None, and word what goes wrong with a case."""
    from rankseg_rma.training.engine import run_training

    task = None if progress is None else progress.add_task("training", total=None)

    def on_epoch(epoch: int, last: int, loss_value: float) -> None:
        progress.update(task, completed=epoch, total=last, description=f"training, loss {loss_value:.4f}")

    try:
        run_training(out, root.resolve(), on_epoch)
    except RuntimeError as error:
        if not any("applying transform" in str(cause) for cause in causes(error)):
            # MONAI wraps what a network or card of ours says; the reader wants that, not the wrapping.
            said = [cause for cause in causes(error) if isinstance(cause, ValueError | OSError | ImportError)]
            if said:
                raise said[-1] from None
            raise
        got = describe_failure(error, out)
        raise DatasetError(wrong("train", "every case", "readable", got, advice=advice)) from error


def _report(out: Path, parts: Mapping[str, Sequence[Case]]) -> Outcome:
    from rankseg_rma.bundles.open import TEMPERATURE_FILE, find_kind

    found = read_json("train", out / TEMPERATURE_FILE)
    note = (
        f"temperature {found['temperature']:.3f} fitted on {len(found['case_ids'])} validation cases: "
        f"negative log-likelihood {found['nll_before']:.5f} -> {found['nll_after']:.5f}"
    )
    tested = "test" if parts["test"] else "validation"
    notes = [note, f"{len(parts[tested])} {tested} items are named in {out}/configs/datalist.json"]
    for name, ratio in found["expected_volume_ratio"].items():
        if find_kind(out) != "image" and ratio is not None and not 0.67 < ratio < 1.5:
            notes.append(
                f"warning: on the validation cases the expected volume of {name} is {ratio:.2f} times the true one. "
                "The probabilities are not calibrated: train longer, or keep argmax."
            )
    far = {name: ratio for name, ratio in found["expected_volume_ratio"].items() if ratio and not 1 / 3 < ratio < 3}
    if find_kind(out) == "image" and far:
        told = ", ".join(f"{name} {ratio:.1f}" for name, ratio in far.items())
        notes.append(
            "warning: on the validation images the expected area of these classes is so many times the true one: "
            f"{told}. RMA's masks of them will be poor: train longer, or keep argmax."
        )
    return Outcome(out, notes)
