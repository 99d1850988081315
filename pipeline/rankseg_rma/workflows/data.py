"""Commands on data sets: check one, make the phantom."""

from pathlib import Path

from rankseg_rma.checks import wrong
from rankseg_rma.datasets import Case, list_cases, load_card
from rankseg_rma.volumes import read_volume, same_grid
from rankseg_rma.workflows.outcome import Outcome, progress_bar, track


def check_dataset(name: str, root: Path) -> tuple[int, list[dict[str, str]]]:
    """Read every case of a data set and list what is wrong.

    Returns:
        The number of cases and one row (case_id, file, problem) per fault.
    """
    import numpy as np

    from rankseg_rma.evaluation import as_label_map

    card, cases = list_cases(load_card(name), root)
    highest = max(card.labels or {0: ""})
    faults: list[dict[str, str]] = []

    def fault(case: Case, path: Path | None, problem: str) -> None:
        faults.append({"case_id": case.case_id, "file": path.name if path else "", "problem": problem})

    for case in track(cases, f"checking {card.name}", len(cases)):
        volumes = {}
        for part, path in (("image", case.image), ("label", case.label)):
            try:
                volumes[part] = read_volume(path) if path else None
            except (FileNotFoundError, ValueError) as error:
                fault(case, path, str(error))
        image, label = volumes.get("image"), volumes.get("label")
        if image is not None and not np.isfinite(image.array).all():
            fault(case, case.image, "the image has NaN or infinite voxels")
        if label is not None:
            try:
                values = np.unique(as_label_map("label", label.array))
            except ValueError as error:
                fault(case, case.label, str(error))
            else:
                strange = [str(value) for value in values.tolist() if value > highest]
                if strange:
                    fault(case, case.label, f"labels outside 0 to {highest}: {', '.join(strange[:5])}")
        if image is not None and label is not None:
            difference = same_grid(image.array.shape[-3:], image.affine, label.array.shape[-3:], label.affine)
            if difference:
                fault(case, case.label, f"image and label differ in {difference}")
    return len(cases), faults


def make_phantom_cohort(out: Path, num_cases: int, seed: int) -> Outcome:
    """Write the synthetic cohort."""
    from rankseg_rma.datasets.phantom import make_phantom

    if num_cases < 1:
        raise ValueError(wrong("make_phantom_cohort", "cases", "at least 1", num_cases))
    with progress_bar() as progress:
        task = progress.add_task("making phantom", total=num_cases)
        make_phantom(out, num_cases, seed, lambda case_id: progress.advance(task))
    return Outcome(out, [f"{num_cases} cases in {out}"])
