"""What is scored and how: structures, metric groups, lesions and their organ."""

from collections.abc import Iterable, Sequence
from typing import Any

from rankseg_rma.checks import require_one_of, wrong
from rankseg_rma.evaluation import protocols
from rankseg_rma.evaluation.options import EvaluationOptions
from rankseg_rma.evaluation.structures import ScorePlan, Structure
from rankseg_rma.metrics import EMPTY_POLICIES, METRIC_GROUPS, find_metric, list_metrics
from rankseg_rma.tables.columns_of_evaluation import MACRO

# Stems, so that tumor and tumour, metastasis and metastases are found alike.
_LESION_WORDS = ("tumo", "lesion", "cyst", "metast", "nodul", "mass", "cancer", "infarct", "hemorrh", "haemorrh")


def make_plan(options: EvaluationOptions, spacings_mm: Iterable[tuple[float, ...]]) -> ScorePlan:
    """Structures and metric groups from the options; ``spacings_mm`` are the voxel sizes of the cohort."""
    protocol = options.protocol
    if protocol is not None:
        require_one_of("evaluate", "protocol", protocol, protocols.PROTOCOLS)
    policy = options.empty_policy or ("nnunet" if protocol == "nnunet" else "kits")
    require_one_of("evaluate", "empty", policy, EMPTY_POLICIES)
    if options.connectivity not in (6, 26):
        raise ValueError(wrong("evaluate", "connectivity", "6 or 26", options.connectivity))
    tolerances = tuple(dict.fromkeys(options.tolerances_mm))
    for tolerance in tolerances:
        # For its error: a tolerance that is none is told before the work.
        find_metric(f"nsd_{tolerance:.12g}mm")
    structures, known = _structures(options, tolerances)
    surface = options.surface or protocol == "kits23"
    groups = tuple(
        group for group in METRIC_GROUPS if (group != "slice" or options.slices) and (group != "surface" or surface)
    )
    if not find_metric(options.metric).better:
        raise ValueError(wrong("evaluate", "metric", "one that has a better direction", options.metric))
    names = [metric.name for metric in list_metrics(groups, structures[0].tolerances_mm if structures else tolerances)]
    require_one_of("evaluate", "metric", options.metric, names)
    used = {tolerance for structure in structures or () for tolerance in structure.tolerances_mm} | set(tolerances)
    return ScorePlan(
        structures=structures, known=known, tolerances_mm=tolerances, groups=groups, empty_policy=policy,
        slice_axis=options.slice_axis, edge_is_inside=options.edge_is_inside,
        connectivity=6 if protocol == "lits" else options.connectivity,
        organ=_organ(options, structures), lits=protocol == "lits",
        areas_mm2=_surface_areas(spacings_mm) if surface and used else {},
    )  # fmt: skip


def _structures(
    options: EvaluationOptions, tolerances: tuple[float, ...]
) -> tuple[tuple[Structure, ...] | None, frozenset[int] | None]:
    """Labels and regions to score, and the labels that may occur; None where the files tell."""
    if options.protocol in ("kits23", "lits"):
        given = [name for name in ("label_names", "regions", "lesions", "organ") if getattr(options, name)]
        if given:
            advice = f"--protocol {options.protocol} sets them itself: leave out --dataset, --labels and the like."
            raise ValueError(wrong("evaluate", "labels", "those of the protocol", ", ".join(given), advice=advice))
        if options.protocol == "kits23":
            return protocols.KITS23_REGIONS, frozenset({1, 2, 3})
        lits = (
            Structure(key, name, members, is_lesion, tolerances)
            for key, name, members, is_lesion in protocols.LITS_STRUCTURES
        )
        return tuple(lits), frozenset({1, 2})
    parts = [(str(label), name, (label,)) for label, name in options.label_names.items()]
    regions = [("+".join(map(str, members)), name, members) for name, members in options.regions.items()]
    if not parts and not regions:
        return None, None
    both = parts + regions
    unnamed = sorted({member for _, _, members in regions for member in members} - set(options.label_names))
    unnamed += sorted(set(options.organ or ()) - set(options.label_names))
    if parts and unnamed:
        expected, got = f"of labels {', '.join(key for key, _, _ in parts)}", ", ".join(map(str, unnamed))
        raise ValueError(wrong("evaluate", "regions and organ", expected, got))
    if MACRO in {name for _, name, _ in both}:
        raise ValueError(wrong("evaluate", "labels and regions", f"not named {MACRO}", MACRO))
    if len({key for key, _, _ in both}) < len(both) or len({name for _, name, _ in both}) < len(both):
        got = ", ".join(f"{name} = {key}" for key, name, _ in both)
        raise ValueError(wrong("evaluate", "labels and regions", "each named once", got))
    names = {name for _, name, _ in both} | {key for key, _, _ in both}
    for lesion in options.lesions or ():
        require_one_of("evaluate", "lesions", lesion, sorted(names))

    def is_lesion(key: str, name: str) -> bool:
        if options.lesions is not None:
            return name in options.lesions or key in options.lesions
        return any(word in name.lower() for word in _LESION_WORDS)

    found = tuple(Structure(key, name, members, is_lesion(key, name), tolerances) for key, name, members in both)
    return found, frozenset(options.label_names) if parts else None


def _organ(options: EvaluationOptions, structures: Sequence[Structure] | None) -> tuple[int, ...]:
    if options.organ is not None:
        return options.organ
    if options.protocol == "lits":
        return (1,)
    plain = [structure for structure in structures or () if len(structure.members) == 1]
    organs = [structure for structure in plain if not structure.is_lesion]
    return organs[0].members if len(organs) == 1 and len(plain) > 1 else ()


def _surface_areas(spacings_mm: Iterable[tuple[float, ...]]) -> dict[tuple[float, ...], Any]:
    """Surface area of each of the 256 neighbourhood codes for every voxel size, in mm2."""
    import numpy as np
    from monai.metrics.utils import create_table_neighbour_code_to_surface_area

    create: Any = create_table_neighbour_code_to_surface_area
    # Once for the cohort: each spacing takes MONAI a pass over 256 neighbourhoods.
    return {spacing: np.asarray(create(spacing)[0]) for spacing in spacings_mm}
