"""How far apart are expert annotators? KiTS23's annotators against each other, in the challenge's own protocol.

    python benchmarks/annotators.py KITS23_DATASET --out runs/annotators

reads ``case_*/instances/<class>_instance-<i>_annotation-<r>.nii.gz`` (https://github.com/neheller/kits23), puts the
instances of annotator r together (tumour over cyst over kidney), evaluates every pair of annotators with
``--protocol kits23`` and prints mean Dice and surface Dice.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas

from rankseg_rma.evaluation.evaluate import evaluate_masks
from rankseg_rma.evaluation.options import EvaluationOptions
from rankseg_rma.files.volumes import read_volume, write_volume

CLASSES = {"kidney": 1, "cyst": 3, "tumor": 2}  # later ones cover earlier ones
ANNOTATORS = (1, 2, 3)
PAIRS = ((1, 2), (1, 3), (2, 3))


def put_together(case: Path, annotator: int, path: Path) -> None:
    """Write the label map of one annotator."""
    labels, volume = None, None
    for name, label in CLASSES.items():
        for file in sorted(case.glob(f"instances/{name}_instance-*_annotation-{annotator}.nii.gz")):
            volume = read_volume(file)
            labels = np.zeros(volume.array.shape, np.uint8) if labels is None else labels
            labels[volume.array > 0] = label
    write_volume(path, labels, volume.affine, volume.header)


def compare_annotators(root: Path, out: Path) -> pandas.DataFrame:
    """Dice and surface Dice of every region, by pair of annotators and case."""
    cases = [folder for folder in sorted(root.glob("case_*")) if (folder / "instances").is_dir()]
    for annotator in ANNOTATORS:
        for case in cases:
            put_together(case, annotator, out / f"annotator_{annotator}" / f"{case.name}.nii.gz")
    tables = {}
    for first, second in PAIRS:
        folder = out / f"{first}_and_{second}"
        options = EvaluationOptions(protocol="kits23", title=f"Annotator {second} against annotator {first}")
        outcome = evaluate_masks([str(out / f"annotator_{second}")], out / f"annotator_{first}", folder, options)
        if outcome.failed:
            raise SystemExit(f"failed: {outcome.failed}")
        tables[f"{first} and {second}"] = pandas.read_csv(folder / "evaluation.csv", index_col=0).drop("average")
    return pandas.concat(tables, names=["annotators", "case"])


def change_of_reference(table: pandas.DataFrame) -> pandas.Series:
    """How much a score of the same mask moves when another expert draws the reference: mean over masks and cases.

    Annotator 1's mask is scored against 2 and against 3, and so on: the difference of the two pairs that it is in.
    """
    scores = [table.loc[f"{first} and {second}"] for first, second in PAIRS]
    moves = [(scores[i] - scores[j]).abs() for i, j in ((0, 1), (0, 2), (1, 2))]
    return pandas.concat(moves).mean()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/annotators"))
    arguments = parser.parse_args()
    table = compare_annotators(arguments.root, arguments.out)
    summary = table.groupby("annotators").mean()
    summary.loc["mean of pairs"] = summary.mean()
    summary.loc["lowest case"] = table.min()
    summary.loc["moved by another reference"] = change_of_reference(table)
    print((100 * summary).round(2).to_string())


if __name__ == "__main__":
    main()
