"""One self-contained HTML page: what changed, by how much, and what it looks like."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas
from jinja2 import Environment, PackageLoader

from rankseg_rma import __version__
from rankseg_rma.report.figures import COLOURS, SlicePicture, add_key, draw_paired, draw_slices, to_data_url
from rankseg_rma.report.tables import format_paired
from rankseg_rma.volumes import find_slice_axis, list_volumes, read_volume, replacing

_MAX_PICTURES = 6


def write_page(
    path: Path, *, title: str, images: Path, references: Path, arms: Mapping[str, Path], evaluation: Path,
    inference: Path, failed: Mapping[str, str], window: tuple[float, float],
) -> Path:  # fmt: skip
    """Write the page, and beside it figures/changed.png, the cases that changed most.

    Args:
        path: HTML file to write.
        title: heading.
        images: folder of images, by case id.
        references: folder of reference label maps, by case id.
        arms: folder of masks by decoder; the first two are compared.
        evaluation: folder with cases.csv and paired.csv.
        inference: inference.csv, for the expected scores and volumes.
        failed: cases that failed, with the reason.
        window: grey values shown as black and white.
    """
    scores = pandas.read_csv(evaluation / "cases.csv", dtype={"case_id": str, "label_name": str})
    expected = pandas.read_csv(inference, dtype={"case_id": str, "label_name": str})
    first, second = list(arms)[:2]
    paired = pandas.read_csv(evaluation / "paired.csv", dtype={"label_name": str})
    environment = Environment(loader=PackageLoader("rankseg_rma.report"), autoescape=True)
    pictures = _pictures(scores, images, references, arms)
    montage = draw_slices(pictures, window, columns=3)
    add_key(montage, ["reference", first, second])
    with replacing(path.parent / "figures" / "changed.png") as temporary:
        montage.savefig(temporary, format="png", dpi=90)
    content = environment.get_template("page.html").render(
        title=title,
        version=__version__,
        first=first,
        second=second,
        verdict=_verdict(paired, first, second),
        comparison=format_paired(paired, ["dice", "iou"]),
        scatter=to_data_url(draw_paired(scores, first, second, "dice")),
        pictures=[
            {"title": picture.title, "url": to_data_url(draw_slices([picture], window, columns=1))}
            for picture in pictures
        ],
        cases=_case_rows(scores, expected, first, second),
        failed=failed,
        colours=COLOURS,
        temperature=_temperature(expected),
    )
    with replacing(path) as temporary:
        temporary.write_text(content, encoding="utf-8")
    return path


def _verdict(paired: pandas.DataFrame, first: str, second: str) -> str:
    row = paired[(paired["metric"] == "dice") & (paired["label"] == 0) & (paired["second"] == second)].iloc[0]
    means = f"{100 * row['mean_first']:.1f} with {first}, {100 * row['mean_second']:.1f} with {second}"
    interval = f"95 % interval {100 * row['low']:+.2f} to {100 * row['high']:+.2f}"
    moved = f"{row['improved']} improved, {row['unchanged']} unchanged, {row['worsened']} worsened"
    return (
        f"Mean Dice over labels: {means}; difference {100 * row['mean']:+.2f} points ({interval}). "
        f"Of {row['num_pairs']} cases {moved} by more than a point."
    )


def _temperature(expected: pandas.DataFrame) -> str:
    if expected.empty or (expected["temperature_source"] == "none").all():
        return "Probabilities were taken as they are: no temperature is known."
    row = expected.iloc[0]
    source = row["temperature_source"]
    return f"RMA decoded at temperature {row['temperature']:.3f} ({source}); argmax does not depend on it."


def _case_rows(scores: pandas.DataFrame, expected: pandas.DataFrame, first: str, second: str) -> list[dict[str, Any]]:
    """One row per case and label: Dice of both decoders, expected Dice, volumes."""
    dice = scores[scores["metric"] == "dice"]
    table = dice.pivot(index=["case_id", "label", "label_name"], columns="decoder", values="value").reset_index()
    status = dice[dice["decoder"] == second].set_index(["case_id", "label"])["status"]
    reference = dice.drop_duplicates(["case_id", "label"]).set_index(["case_id", "label"])["n_reference"]
    table = table.merge(expected.drop(columns="label_name"), on=["case_id", "label"], how="left")
    rows = []
    for row in table.to_dict("records"):
        key = (row["case_id"], row["label"])
        voxels = max((row.get(f"volume_{name}_ml") or 0 for name in (first, second)), default=0)
        rows.append({
            "case_id": row["case_id"], "label": row["label_name"], "first": row.get(first), "second": row.get(second),
            "difference": (row.get(second, np.nan) - row.get(first, np.nan)) * 100,
            "expected": row.get(f"expected_score_{second}"), "volume_first": row.get(f"volume_{first}_ml"),
            "volume_second": row.get(f"volume_{second}_ml"), "volume_expected": row.get("expected_volume_ml"),
            "status": status.get(key, ""), "empty": not reference.get(key, 0) and not voxels,
        })  # fmt: skip
    return rows


def _pictures(scores: pandas.DataFrame, images: Path, references: Path, arms: Mapping[str, Path]) -> list[SlicePicture]:
    """The cases and labels that changed most between the first two decoders: gains first, then losses."""
    first, second = list(arms)[:2]
    table = scores[scores["metric"] == "dice"].pivot(
        index=["case_id", "label", "label_name"], columns="decoder", values="value"
    )
    difference = (table[second] - table[first]).dropna().sort_values()
    half = _MAX_PICTURES // 2
    chosen = list(dict.fromkeys([*difference.index[::-1][:half], *difference.index[:half]]))
    folders = {"reference": list_volumes(references), **{name: list_volumes(folder) for name, folder in arms.items()}}
    files = list_volumes(images)
    pictures = []
    for case_id, label, label_name in chosen:
        volume = read_volume(files[case_id])
        axis = find_slice_axis(volume.affine, "axial")
        masks = {
            name: read_volume(found[case_id]).array == label for name, found in folders.items() if case_id in found
        }
        place = _most_different(masks, first, second, axis)
        spacing = [size for other, size in enumerate(volume.spacing_mm) if other != axis]
        row = table.loc[(case_id, label, label_name)]
        title = f"{case_id}, slice {place}, {label_name}: {first} {row[first]:.3f}, {second} {row[second]:.3f}"
        cut = {name: np.take(mask, place, axis).T for name, mask in masks.items()}
        window = _around(np.any(list(cut.values()), axis=0))
        cut = {name: mask[window] for name, mask in cut.items()}
        image = np.take(volume.array, place, axis).T[window]
        pictures.append(SlicePicture(image, cut, spacing[1] / spacing[0], title))
    return pictures


def _around(mask: Any) -> tuple[slice, ...]:
    """The part of a slice around a mask, with a margin; at least a third of the slice."""
    part = []
    for axis, size in enumerate(mask.shape):
        found = np.flatnonzero(mask.any(axis=1 - axis))
        low, high = (found[0], found[-1]) if found.size else (size // 2, size // 2)
        half = max((high - low) / 2 + 8, size / 6)
        middle = min(max((low + high) / 2, half), size - half)
        part.append(slice(max(int(middle - half), 0), int(middle + half) + 1))
    return tuple(part)


def _most_different(masks: Mapping[str, Any], first: str, second: str, axis: int) -> int:
    """Slice where the two decoders differ most; where they agree, the slice with most of the reference."""
    other = tuple(place for place in range(3) if place != axis)
    difference = (masks[first] != masks[second]).sum(axis=other)
    return int(np.argmax(difference if difference.any() else masks["reference"].sum(axis=other)))
