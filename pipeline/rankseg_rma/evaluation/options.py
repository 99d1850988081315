"""What a user may ask of an evaluation."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class EvaluationOptions:
    """What to score and how.

    Attributes:
        label_names: names of all labels; another label in a file is an error. Empty: every label that occurs is
            scored under its number.
        regions: unions of labels by name, scored beside the labels.
        lesions: names or numbers of the labels and regions whose components are lesions; None takes those with a
            name like tumour, lesion or cyst, and all where labels have no names.
        organ: labels of the organ of the tumour burden; None takes the only named label that is no lesion.
        surface: score surfaces.
        slices: score slices too.
        slice_axis: "axial", "coronal", "sagittal" or an array axis: of slices, and of the axial diameter.
        tolerances_mm: tolerances of surface Dice.
        edge_is_inside: a mask has no surface where it touches the volume's edge (CHAOS); MONAI and medpy count one.
        connectivity: of lesions, 26 or 6.
        empty_policy: key of `EMPTY_POLICIES`; None takes the protocol's, else "kits".
        protocol: None, "kits23", "lits" or "nnunet".
        metric: score that the report is about.
        cluster: regular expression whose first group in a case id names the patient, or "pair"; None: every case alone.
        only: case ids of the cohort; None takes all references.
        limit: score the first so many cases only; the result is marked partial.
        probabilities: folder of probability volumes to judge the calibration of.
        images: folder of images, for the pictures of the report.
        workers: processes; None takes one per core for large cohorts. More than one need the calling script to guard
            its main part with ``if __name__ == "__main__"``, as Python's multiprocessing does.
        report: write report.html and figures.
        window: grey values shown as black and white in its pictures; None chooses.
        title: its heading.
    """

    label_names: Mapping[int, str] = field(default_factory=dict)
    regions: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    lesions: Sequence[str] | None = None
    organ: tuple[int, ...] | None = None
    surface: bool = True
    slices: bool = False
    slice_axis: str | int = "axial"
    tolerances_mm: tuple[float, ...] = (1.0, 2.0)
    edge_is_inside: bool = False
    connectivity: int = 26
    empty_policy: str | None = None
    protocol: str | None = None
    metric: str = "dice"
    cluster: str | None = None
    only: Collection[str] | None = None
    limit: int | None = None
    probabilities: Path | None = None
    images: Path | None = None
    workers: int | None = 1
    report: bool = False
    window: tuple[float, float] | None = None
    title: str = "Masks against references"
