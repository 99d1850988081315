"""One self-contained HTML page: what changed, by how much, what it costs, and what it looks like."""

import base64
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from rankseg_rma.report import sections
from rankseg_rma.report.case_table import list_cases
from rankseg_rma.report.montage import mask_colours
from rankseg_rma.report.wording import MEAN, Table, describe_doubt, describe_score, number, write_interval, write_policy
from rankseg_rma.tables.frames import Tables

_HALF_PAGE = 760
# What is said of each kind of picture.
PICTURE_KINDS = {"changed": "Changed most", "worst": "Lowest scores", "best": "Highest scores"}


@dataclass(frozen=True)
class PageChart:
    """A chart: its name, heading, how to read it, and the picture as a data URL."""

    name: str
    title: str
    caption: str
    url: str


@dataclass(frozen=True)
class PagePicture:
    """A montage of one case.

    Attributes:
        title: the case, its label and scores.
        kind: "worst", "best" or "changed".
        url: the picture as a data URL.
        alt: what it shows, for those who cannot see it.
    """

    title: str
    kind: str
    url: str
    alt: str


@dataclass(frozen=True)
class ViewerCase:
    """A case for the interactive viewer.

    Attributes:
        case_id: name in the list of cases.
        title: the case, its label and scores.
        image: .nii.gz, uint8 grey values; None without an image.
        masks: .nii.gz, uint8 0 or 1, by name: "reference" first, then the decoders; all on the image's grid.
        label: label that the masks show, "1+2" for a region.
        place: where the planes cross at first, as fractions of the volume.
    """

    case_id: str
    title: str
    image: bytes | None
    masks: Mapping[str, bytes]
    label: str
    place: tuple[float, float, float] = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class PageContent:
    """What a page shows.

    Attributes:
        title: heading.
        tables: everything that was measured.
        charts: in the order of the page.
        montages: pictures of single cases.
        viewer_cases: cases of the interactive viewer.
        viewer_script: from `load_viewer`; None where it was not built.
        failed: what failed, with the reason.
        missing: per decoder the cases that it has no prediction for; per "reference" those without a reference.
        partial: why this is not the whole cohort; empty when it is.
        empty_policy: how empty masks count: a name of `EMPTY_POLICIES`, or any words.
        notes: remarks of the run.
        provenance: how the page was made: texts, numbers, lists, and mappings of them.
    """

    title: str
    tables: Tables
    charts: Sequence[PageChart] = ()
    montages: Sequence[PagePicture] = ()
    viewer_cases: Sequence[ViewerCase] = ()
    viewer_script: str | None = None
    failed: Mapping[str, str] = field(default_factory=dict)
    missing: Mapping[str, Sequence[str]] = field(default_factory=dict)
    partial: str = ""
    empty_policy: str = ""
    notes: Sequence[str] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """The page's first line: a judgement, the numbers, and the cases that moved (None for a single decoder)."""

    judgement: str
    text: str
    look: str = ""
    moved: tuple[int, int, int] | None = None


# Sections that are one table: id, and the function that builds it.
_TABLES: dict[str, Callable[[Tables], Table | None]] = {
    "summary": sections.list_summary,
    "metrics": sections.compare_metrics,
    "costs": sections.list_costs,
    "volumes": sections.list_volumes,
    "detection": sections.list_detection,
    "recall_by_size": sections.list_recall_by_size,
    "empty_references": sections.list_empty_references,
    "strata": sections.list_strata,
    "calibration": sections.list_calibration,
    "quality": sections.list_quality,
    "cases": list_cases,
}


def render_page(content: PageContent) -> str:
    """The page as HTML: text from files is escaped, pictures, volumes and scripts lie inside; nothing is fetched."""
    environment = Environment(
        loader=PackageLoader("rankseg_rma.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.policies["json.dumps_kwargs"] = {}  # masks keep their order
    environment.filters["is_broad"] = _is_broad
    tables = content.tables
    load = environment.loader.get_source  # type: ignore[union-attr]
    script = Markup(load(environment, "page.js")[0])
    viewer = content.viewer_script if content.viewer_cases else None
    viewer = None if viewer is None else Markup(_as_script(viewer))
    comparing = sections.compare_labels(tables)
    return environment.get_template("page.html").render(
        content=content,
        tables=tables,
        score=describe_score(tables),
        verdict=make_verdict(tables),
        labels=comparing or sections.describe_arms(tables),
        is_compared=comparing is not None,
        table={name: build(tables) for name, build in _TABLES.items()},
        statuses=_statuses(tables),
        pictures={
            heading: found
            for kind, heading in PICTURE_KINDS.items()
            if (found := [picture for picture in content.montages if picture.kind == kind])
        },
        empty_policy=write_policy(content.empty_policy),
        viewer_data=_viewer_data(content),
        viewer_script=viewer,
        style=Markup(load(environment, "page.css")[0]),
        script=script,
        policy=_security_policy([str(script), *([str(viewer)] if viewer else [])]),
    )


def make_verdict(tables: Tables) -> Verdict:
    """The result in one line: of the mean over labels where there are several."""
    score, row = describe_score(tables), sections.main_pair(tables)
    if row is None:
        return _verdict_of_one(tables)
    first, second = tables.first, tables.second
    low, high = row["low"], row["high"]
    look, includes_none = score.look_of_interval(low, high), score.as_written(low) <= 0 <= score.as_written(high)
    doubt = describe_doubt(row) if look else ""
    if not np.isfinite([low, high]).all():
        judgement = "Too few patients to tell."
    elif look and not doubt:
        size = f"{score.text(abs(row['mean']))} {score.unit_text}"
        judgement = f"{second} is {look} than {first} on average, by {size}."
    else:
        judgement = f"No clear difference between {first} and {second}."
    interval = write_interval(low, high, score.unit)
    interval = f"95 % interval {interval}" if np.isfinite(low) else f"{interval} for an interval"
    interval += ", which includes no difference" if includes_none else doubt
    what = f"Mean {score.title} over labels" if str(row["label"]) == MEAN else f"{score.title} of {row['label_name']}"
    moved = (int(row["improved"]), int(row["unchanged"]), int(row["worsened"]))
    cases = int(row["num_pairs"])
    limit = {"points": "one point", "lesions": "one lesion"}.get(score.unit_text, f"1 {score.unit_text}")
    text = (
        f"{what}: {score.text(row['mean_first'])} with {first}, {score.text(row['mean_second'])} with {second}; "
        f"difference {score.text(row['mean'], True)} {score.unit_text} ({interval}). Of {cases} "
        f"{'case' if cases == 1 else 'cases'}, {moved[0]} improved, {moved[1]} unchanged and {moved[2]} worsened "
        f"by more than {limit}."
    )
    left_out = int(row["num_left_out"]) if np.isfinite(number(row, "num_left_out")) else 0
    if left_out:
        text += f" {left_out} more are left out: the score is not defined there, as for an empty mask."
    if len(set(sections.pairs_of(tables)["second"])) > 1:
        text += " The other decoders are in the table below."
    return Verdict(judgement, text, "" if doubt else look, moved)


def _verdict_of_one(tables: Tables) -> Verdict:
    """Mean score per label of a single decoder, or that nothing could be compared."""
    score = describe_score(tables)
    part = tables.scores
    part = part[(part["metric"] == tables.metric) & (part["decoder"] == tables.second)] if len(part) else part
    if part.empty:
        return Verdict("Nothing to judge.", f"No case has a {score.title}.")
    means = part.groupby(["label", "label_name"], sort=False)["value"].agg(["mean", "count"]).reset_index()
    found = [
        f"{row['label_name']} {score.text(row['mean'])}{score.suffix} ({row['count']} cases)"
        for row in means.to_dict("records")
    ]
    judgement = "No case was scored with both decoders." if tables.is_pair else ""
    return Verdict(judgement, f"Mean {score.title} with {tables.second}: {', '.join(found)}.")


def _statuses(tables: Tables) -> list[str]:
    """Statuses that occur, for the filter of the table of cases."""
    part = tables.scores[tables.scores["metric"] == tables.metric] if len(tables.scores) else tables.scores
    return sorted({str(status).replace("_", " ") for status in part.get("status", ())})


def _is_broad(url: str) -> bool:
    """Whether a PNG inside a data URL is much wider than high, so that half the page would be too little for it."""
    _, found, data = url.partition("data:image/png;base64,")
    head = base64.b64decode(data[:32]) if found else b""
    # Width and height stand at the same bytes of every PNG: nothing is decoded.
    width, height = int.from_bytes(head[16:20]), int.from_bytes(head[20:24])
    return width > _HALF_PAGE and width > 1.5 * height


def _viewer_data(content: PageContent) -> dict[str, Any]:
    """What the page's script needs to fill the viewer; binary files as base64."""

    def encode(data: bytes) -> str:
        return base64.b64encode(data).decode("ascii")

    names = list(dict.fromkeys(name for case in content.viewer_cases for name in case.masks))
    cases = [
        {
            "title": case.title,
            "place": list(case.place),
            "image": None if case.image is None else encode(case.image),
            "masks": {name: encode(data) for name, data in case.masks.items()},
        }
        for case in content.viewer_cases
    ]
    return {"colours": mask_colours(names), "cases": cases} if content.viewer_script else {"colours": {}, "cases": []}


def _as_script(text: str) -> str:
    """JavaScript that no end of a script element is found in, with line ends as a browser reads them."""
    # A browser turns line ends into \n before it takes the hash that the policy allows.
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return re.sub(r"<(?=/script|!--)", r"\\x3c", text, flags=re.IGNORECASE)


def _security_policy(scripts: Sequence[str]) -> str:
    """Only the page's own scripts run, known by their hash, and nothing is fetched from anywhere."""
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii") for text in scripts]
    allowed = " ".join(f"'sha256-{value}'" for value in hashes)
    return (
        f"default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src {allowed}; "
        "font-src data:; base-uri 'none'; form-action 'none'"
    )
