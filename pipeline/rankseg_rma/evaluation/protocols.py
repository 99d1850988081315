"""Challenge protocols and the files of other programs: KiTS23, LiTS, nnU-Net, MONAI."""

from collections.abc import Sequence

from rankseg_rma.evaluation.structures import Structure

# Hierarchical evaluation classes with the challenge's tolerances of surface Dice (kits23/configuration/labels.py).
KITS23_REGIONS = (
    Structure("1+2+3", "kidney", (1, 2, 3), False, (1.0330772532390826,)),
    Structure("2+3", "masses", (2, 3), True, (1.1328796488598762,)),
    Structure("2", "tumor", (2,), True, (1.1498198361434828,)),
)
# The tumour comes first: it is what the challenge, and so the report, is about.
LITS_STRUCTURES = (("2", "tumour", (2,), True), ("1+2", "liver", (1, 2), False))
PROTOCOLS = ("kits23", "lits", "nnunet")


def averaged_keys(structures: Sequence[Structure], protocol: str | None) -> tuple[str, ...]:
    """Labels and regions whose mean is a case's overall score; empty where there is none.

    The three regions of KiTS23; nothing of LiTS; else the single labels, or the regions where there is nothing else.
    """
    if protocol == "lits":
        return ()
    keys = tuple(structure.key for structure in structures)
    single = tuple(structure.key for structure in structures if len(structure.members) == 1)
    return keys if protocol == "kits23" or not single else single
