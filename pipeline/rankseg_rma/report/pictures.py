"""Cases to look at: which ones, and what the page shows of them. Volumes are read one case at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rankseg_rma.grid import spacing_of, voxel_volume_ml
from rankseg_rma.report.examples import Choice, CohortFiles, decoders_of, read_example
from rankseg_rma.report.page import PagePicture, ViewerCase
from rankseg_rma.report.viewer import pack_for_viewer
from rankseg_rma.report.wording import describe_score
from rankseg_rma.runs.outcome import describe_failure
from rankseg_rma.tables.frames import Tables


@dataclass(frozen=True)
class Pictures:
    """Montages, cases for the viewer, and a note for whatever had to be left out."""

    montages: list[PagePicture]
    viewer_cases: list[ViewerCase]
    notes: list[str]


def find_pictures(
    tables: Tables,
    choices: Sequence[Choice],
    files: CohortFiles,
    *,
    window: tuple[float, float] | None = None,
    num_viewer_cases: int = 4,
) -> Pictures:
    """Draw a montage of every chosen case, and pack the first of them for the viewer.

    Args:
        tables: names the decoders and their scores.
        choices: from `choose_cases`.
        files: a missing or damaged image, or one on another grid, is left out of its case; a missing or damaged mask
            costs its case only. Both leave a note.
        window: grey values shown as black and white. None: soft tissue for CT, which is known by its air, else the
            1st and 99th percentile of each image.
        num_viewer_cases: how many cases the viewer gets; 0 for none.
    """
    from rankseg_rma.report.montage import MontageCase, draw_montage, find_place, montage_url

    pictures = Pictures([], [], [])
    for choice in choices:
        try:
            example = read_example(choice, tables, files, window, pictures.notes)
            title, spacing_mm = _title(tables, choice), spacing_of(example.affine)
            voxel_ml = voxel_volume_ml(example.affine)
            place = find_place(example.masks, spacing_mm, choice.kind)
            montage = MontageCase(title, example.image, example.masks, spacing_mm, place, voxel_ml, example.grey)
            alt = f"Axial, coronal and sagittal plane of {title}: contours of {', '.join(example.masks)}, and errors"
            pictures.montages.append(PagePicture(title, choice.kind, montage_url(draw_montage(montage)), alt))
            if len(pictures.viewer_cases) < num_viewer_cases:
                pictures.viewer_cases.append(pack_for_viewer(choice, title, example, place))
        except Exception as error:  # one bad file must not cost the page
            reason = describe_failure(error, files.references.get(choice.case_id, Path(choice.case_id)))
            pictures.notes.append(f"{choice.case_id} is not shown: {reason}")
    return pictures


def _title(tables: Tables, choice: Choice) -> str:
    """For example "case_007, tumour: Dice 61.2 with argmax, 66.0 with rma"."""
    rows = tables.scores[
        (tables.scores["metric"] == tables.metric)
        & (tables.scores["case_id"] == choice.case_id)
        & (tables.scores["label"].astype(str) == choice.label)
    ].set_index("decoder")
    score = describe_score(tables)
    values = [
        f"{score.text(rows.loc[name, 'value'])} with {name}" for name in decoders_of(tables) if name in rows.index
    ]
    return f"{choice.case_id}, {rows['label_name'].iloc[0]}: {score.title} {', '.join(values)}{score.suffix}"
