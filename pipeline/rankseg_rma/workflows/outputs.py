"""What an evaluation writes: tables, files of other programs, provenance, and the report."""

import json
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas

from rankseg_rma import __version__
from rankseg_rma.report.columns import COLUMNS
from rankseg_rma.report.content import Tables
from rankseg_rma.report.tables import describe_scores, write_monai_files
from rankseg_rma.volumes import write_text
from rankseg_rma.workflows import cohort, comparison, protocols
from rankseg_rma.workflows.outcome import Outcome, write_csv
from rankseg_rma.workflows.scoring import CaseScores, ScorePlan, Structure

_PACKAGES = ("numpy", "scipy", "pandas", "nibabel", "connected-components-3d", "monai", "torch", "numba")
PROVENANCE = "provenance.json"
_PROGRAMS = ("rankseg-rma", "rankseg-rma.exe", "__main__.py")
_WIDE_KEYS = ["case_id", "label", "label_name", "decoder", "status", "empty_policy", "tp", "fp", "fn", "n_reference",
              "n_prediction"]  # fmt: skip


def write_outputs(
    results: Sequence[CaseScores],
    structures: Sequence[Structure],
    arms: Mapping[str, Path],
    files: Mapping[str, Mapping[str, Path]],
    reference_files: Mapping[str, Path],
    missing: Mapping[str, Sequence[str]],
    options: Any,
    plan: ScorePlan,
    outcome: Outcome,
) -> None:
    """Build the tables of the cohort from its cases and write everything to ``outcome.out``."""
    partial, earlier = _why_partial(results, missing, options), _files_of_earlier_run(outcome.out)
    tables = build_tables(results, structures, arms, options, bool(partial))
    _write_tables(tables, outcome)
    extra = {"burden.csv": _rows(case.burden for case in results), "recist.csv": _recist_rows(tables.lesions)}
    for name, frame in extra.items():
        _write(outcome, name, frame)
    _write_foreign(tables, arms, files, reference_files, results, options, outcome)
    provenance = _describe_run(results, arms, options, plan, partial)
    if partial:
        outcome.notes.append(f"warning: PARTIAL, {partial}")
    outcome.notes += describe_scores(tables)
    if options.report and not tables.scores.empty:
        from rankseg_rma.workflows.reporting import ReportInput, write_report

        given = ReportInput(files, reference_files, options.images, missing, partial, options.window, options.title)
        write_report(tables, given, provenance, outcome)
    written = sorted(str(path.relative_to(outcome.out)) for path in outcome.written)
    write_text(outcome.out / PROVENANCE, json.dumps({**provenance, "files": written}, indent=1))
    outcome.written.append(outcome.out / PROVENANCE)
    for path in earlier - {path.resolve() for path in outcome.written}:
        path.unlink(missing_ok=True)


def _files_of_earlier_run(out: Path) -> set[Path]:
    """What an earlier evaluation wrote into the same folder, by its own record; nothing else is ever removed."""
    try:
        names = json.loads((out / PROVENANCE).read_text(encoding="utf-8"))["files"]
        paths = {(out / name).resolve() for name in names}
    except (OSError, ValueError, KeyError, TypeError):
        return set()
    return {path for path in paths if path.is_relative_to(out.resolve())}


def _why_partial(results: Sequence[CaseScores], missing: Mapping[str, Sequence[str]], options: Any) -> str:
    """Why this is no full run; empty when it is."""
    reasons = [f"{len(set(ids))} cases of {place}" for place, ids in missing.items()]
    failed = sum(bool(case.failed) for case in results)
    reasons += [f"{failed} cases failed"] if failed else []
    reasons += [f"only the first {options.limit} cases were scored (--limit)"] if options.limit else []
    return "; ".join(reasons)


def _rows(parts: Iterable[Sequence[Mapping[str, Any]]]) -> pandas.DataFrame:
    return pandas.DataFrame([row for part in parts for row in part])


def build_tables(
    results: Sequence[CaseScores],
    structures: Sequence[Structure],
    arms: Mapping[str, Path],
    options: Any,
    partial: bool,
) -> Tables:
    """The tables of a cohort; rows in the order of cases, decoders and labels."""
    scores = _ordered(_rows(case.rows for case in results), arms, structures)
    lesions = _rows(case.lesions for case in results)
    names = list(arms)
    first, second = names[0], names[1] if len(names) > 1 else names[0]
    told = cohort.read_expected(arms)
    if scores.empty:
        return Tables(first, second, options.metric, scores)
    volumes = cohort.volume_rows(scores, told)
    expected = cohort.expected_rows(scores, told)
    label_names = {structure.key: structure.name for structure in structures}
    plain = [structure.name for structure in structures if len(structure.members) == 1]
    calibration, reliability = cohort.calibration_rows(results, plain)
    optimised = comparison.optimised_metric(told)
    return Tables(
        first=first, second=second, metric=options.metric, scores=scores,
        summary=pandas.DataFrame(cohort.summary_rows(scores)),
        paired=pandas.DataFrame(comparison.pair_rows(scores, names, options.cluster, optimised, partial)),
        strata=pandas.DataFrame(
            comparison.strata_rows(scores, lesions, told, names, options.metric, options.cluster)
        ),
        empty_references=_rows(case.empty_references for case in results),
        volumes=volumes,
        agreement=pandas.DataFrame(cohort.agreement_rows(volumes, _rows(case.burden for case in results))),
        lesions=lesions,
        detection=pandas.DataFrame(cohort.detection_rows(results, label_names)),
        slices=_rows(case.slices for case in results),
        calibration=pandas.DataFrame(calibration), reliability=pandas.DataFrame(reliability),
        expected=expected, quality=pandas.DataFrame(cohort.quality_rows(expected) if not expected.empty else []),
    )  # fmt: skip


def _ordered(scores: pandas.DataFrame, arms: Mapping[str, Path], structures: Sequence[Structure]) -> pandas.DataFrame:
    if scores.empty:
        return scores
    place = {structure.key: number for number, structure in enumerate(structures)}
    arm = {name: number for number, name in enumerate(arms)}
    order = pandas.DataFrame({
        "case": scores["case_id"], "arm": scores["decoder"].map(arm), "label": scores["label"].map(place),
    })  # fmt: skip
    return scores.loc[order.sort_values(["case", "arm", "label"], kind="stable").index].reset_index(drop=True)


def _recist_rows(lesions: pandas.DataFrame) -> pandas.DataFrame:
    """Sum of the largest axial diameters per case and decoder, every label taken for an organ of its own."""
    from rankseg_rma.evaluation import recist_sum_mm

    rows = []
    for (case_id, decoder), part in lesions.groupby(["case_id", "decoder"], sort=False) if len(lesions) else ():
        sums = [
            recist_sum_mm(mine["diameter_mm"].to_numpy(), mine["label"].tolist())
            for mine in (part[part["side"] == "reference"], part[part["side"] == "prediction"])
        ]
        percent = 100 * (sums[1] - sums[0]) / sums[0] if sums[0] else float("nan")
        rows.append({"case_id": case_id, "decoder": decoder, "reference_mm": sums[0], "prediction_mm": sums[1],
                     "difference_mm": sums[1] - sums[0], "difference_percent": percent})  # fmt: skip
    return pandas.DataFrame(rows)


def _write_tables(tables: Tables, outcome: Outcome) -> None:
    outcome.written.append(write_csv(outcome.out / "cases.csv", tables.scores, COLUMNS["cases.csv"]))
    wide = pandas.DataFrame()
    if not tables.scores.empty:
        metrics = list(dict.fromkeys(tables.scores["metric"]))
        wide = tables.scores.pivot(index=_WIDE_KEYS, columns="metric", values="value")[metrics].reset_index()
        place = tables.scores.drop_duplicates(["case_id", "decoder", "label"])[["case_id", "decoder", "label"]]
        wide = place.merge(wide, on=["case_id", "decoder", "label"])[[*_WIDE_KEYS, *metrics]]
    _write(outcome, "cases_wide.csv", wide, list(wide.columns))
    frames = {name: getattr(tables, name) for name in (
        "summary", "slices", "lesions", "empty_references", "volumes", "agreement", "detection", "paired", "strata",
        "calibration", "reliability", "expected", "quality",
    )}  # fmt: skip
    for name, frame in frames.items():
        _write(outcome, f"{name}.csv", frame)
    write_text(outcome.out / "columns.json", json.dumps(COLUMNS, indent=1))
    outcome.written.append(outcome.out / "columns.json")


def _write(outcome: Outcome, name: str, frame: pandas.DataFrame, columns: Sequence[str] | None = None) -> None:
    """Write a table when there is anything to write."""
    if frame.empty:
        return
    outcome.written.append(write_csv(outcome.out / name, frame, columns or list(COLUMNS[name])))


def _write_foreign(
    tables: Tables,
    arms: Mapping[str, Path],
    files: Mapping[str, Mapping[str, Path]],
    reference_files: Mapping[str, Path],
    results: Sequence[CaseScores],
    options: Any,
    outcome: Outcome,
) -> None:
    """MONAI's three files and nnU-Net's summary.json per decoder, and the protocol's own file."""
    for name in arms:
        folder = outcome.out / name if len(arms) > 1 else outcome.out
        if tables.scores.empty or not (tables.scores["decoder"] == name).any():
            continue
        mine = tables.scores[tables.scores["decoder"] == name]
        outcome.written += write_monai_files(folder, mine, arms[name])
        outcome.written.append(protocols.write_nnunet(folder / "summary.json", mine, files[name], reference_files))
        if options.protocol == "kits23":
            outcome.written.append(protocols.write_kits23(folder / "evaluation.csv", mine))
        if options.protocol == "lits":
            outcome.written += protocols.write_lits(folder, [case.lits[name] for case in results if name in case.lits])


def _describe_run(
    results: Sequence[CaseScores], arms: Mapping[str, Path], options: Any, plan: ScorePlan, partial: str
) -> dict[str, Any]:
    """What went in: inputs with their sha256, versions, seeds and policy."""
    return {
        "program": f"rankseg-rma {__version__}",
        "command": _command_line(),
        "partial": partial, "empty_policy": plan.empty_policy, "protocol": options.protocol or "",
        "metric_groups": list(plan.groups), "connectivity": plan.connectivity,
        "bootstrap_resamples": comparison.NUM_RESAMPLES, "seed": comparison.SEED, "cluster": options.cluster or "case",
        "packages": {name: metadata.version(name) for name in _PACKAGES},
        "predictions": {name: str(folder) for name, folder in arms.items()},
        "sha256": {case.case_id: case.sha256 for case in results},
    }  # fmt: skip


def _command_line() -> str:
    """The command as it was typed, or that there was none."""
    if Path(sys.argv[0]).name not in _PROGRAMS:
        return "called from Python"
    return shlex.join(["rankseg-rma", *sys.argv[1:]])
