"""What one case is scored by: structures, plan and files."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Structure:
    """A label, or a region of several labels, that is scored as one mask.

    Attributes:
        key: "2", or "1+2+3" for a region; the column ``label``.
        name: the column ``label_name``.
        members: labels that make it up.
        is_lesion: its connected components are lesions.
        tolerances_mm: tolerances of surface Dice.
    """

    key: str
    name: str
    members: tuple[int, ...]
    is_lesion: bool
    tolerances_mm: tuple[float, ...]


@dataclass(frozen=True)
class ScorePlan:
    """What is scored of every case.

    Attributes:
        structures: labels and regions; None scores every label that occurs, under its number.
        known: labels that a file may hold; None allows all.
        tolerances_mm: tolerances of surface Dice where ``structures`` is None.
        groups: metric groups, see `Metric.group`.
        empty_policy: key of `EMPTY_POLICIES`.
        slice_axis: plane or array axis of the slices; slices are scored when "slice" is among the groups.
        edge_is_inside: a mask has no surface where it touches the volume's edge.
        connectivity: 26 or 6, of lesions.
        organ: labels of the organ that the lesions lie in, for the tumour burden; may be empty.
        areas_mm2: surface area of each of the 256 neighbourhood codes, by spacing in mm; see `surface_dice`.
        lits: also score as the LiTS challenge does.
    """

    structures: tuple[Structure, ...] | None
    known: frozenset[int] | None
    tolerances_mm: tuple[float, ...]
    groups: tuple[str, ...]
    empty_policy: str
    slice_axis: str | int
    edge_is_inside: bool
    connectivity: int
    organ: tuple[int, ...]
    areas_mm2: Mapping[tuple[float, ...], Any] = field(repr=False)
    lits: bool


@dataclass(frozen=True)
class CaseFiles:
    """Files of a case: the reference, a prediction per decoder, and its probabilities where they are judged too."""

    case_id: str
    reference: Path
    predictions: Mapping[str, Path]
    probabilities: Path | None
    temperature: float | None
