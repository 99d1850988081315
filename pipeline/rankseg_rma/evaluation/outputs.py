"""What an evaluation writes: tables, files of other programs, provenance, and the report."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pandas

from rankseg_rma import __version__
from rankseg_rma.evaluation import cohort, foreign_files, protocols
from rankseg_rma.evaluation import paired as comparison
from rankseg_rma.evaluation.case import CaseScores
from rankseg_rma.evaluation.cohort import ScoredCohort, tables_of_cases
from rankseg_rma.evaluation.foreign_files import write_monai_files
from rankseg_rma.evaluation.options import EvaluationOptions
from rankseg_rma.files.writing import sha256_of, write_text
from rankseg_rma.report.terminal import describe_scores
from rankseg_rma.runs.manifest import PROVENANCE, command_line, files_of_earlier_run, package_versions
from rankseg_rma.runs.outcome import Outcome, describe_failure
from rankseg_rma.tables.dictionary import COLUMNS
from rankseg_rma.tables.frames import Tables
from rankseg_rma.tables.store import write_csv

_WIDE_KEYS = ["case_id", "label", "label_name", "decoder", "status", "empty_policy", "tp", "fp", "fn", "n_reference",
              "n_prediction"]  # fmt: skip


def write_outputs(scored: ScoredCohort, outcome: Outcome) -> None:
    """Build the tables of the cohort from its cases and write everything to ``outcome.out``.

    The cases are written first: a fault in what is derived from them is reported and costs its own table only.
    """
    options, earlier = scored.options, files_of_earlier_run(outcome.out)
    partial = _why_partial(outcome, options)
    tables = tables_of_cases(scored)
    _write_cases(tables, outcome)
    if not tables.scores.empty:
        tables = _add_cohort_tables(tables, scored, bool(partial), outcome)
        _attempt(outcome, "files of MONAI, nnU-Net and the protocol", lambda: _write_foreign(tables, scored, outcome))
    provenance = _describe_run(scored, partial)
    if partial:
        outcome.notes.append(f"warning: PARTIAL, {partial}")
    outcome.notes += describe_scores(tables)
    if options.report and not tables.scores.empty:
        from rankseg_rma.report.build import ReportInput, write_report

        given = ReportInput(
            scored.files, scored.references, options.images, scored.missing, partial, options.window, options.title
        )
        _attempt(outcome, "report.html", lambda: write_report(tables, given, provenance, outcome))
    written = sorted(str(path.relative_to(outcome.out)) for path in outcome.written)
    write_text(outcome.out / PROVENANCE, json.dumps({**provenance, "files": written}, indent=1))
    outcome.written.append(outcome.out / PROVENANCE)
    for path in earlier - {path.resolve() for path in outcome.written}:
        path.unlink(missing_ok=True)


def _why_partial(outcome: Outcome, options: EvaluationOptions) -> str:
    """Why this is no full run; empty when it is."""
    reasons = [f"{key}: {text}" if len(text) < 60 else key for key, text in outcome.failed.items()]
    if len(reasons) > 3:
        reasons = [*reasons[:3], f"and {len(reasons) - 3} more, listed at the end"]
    reasons += [f"only the first {options.limit} cases were scored (--limit)"] if options.limit else []
    return "; ".join(reasons)


def _attempt(outcome: Outcome, what: str, make: Callable[[], Any]) -> Any:
    """The result, or None with the fault noted: what was scored must not be lost for it."""
    try:
        return make()
    except Exception as error:
        outcome.failed[what] = describe_failure(error, outcome.out)
        return None


def _add_cohort_tables(tables: Tables, scored: ScoredCohort, partial: bool, outcome: Outcome) -> Tables:
    """Derive the tables of the whole cohort and write each."""
    options, scores, names = scored.options, tables.scores, list(scored.arms)
    averaged = protocols.averaged_keys(scored.structures, options.protocol)
    labels = {structure.key: structure.name for structure in scored.structures}
    told = _attempt(outcome, "inference.csv", lambda: cohort.read_expected(scored.arms))
    told = pandas.DataFrame() if told is None else told
    rule = comparison.PairingRule(names, options.cluster, averaged, comparison.optimised_metric(told), partial)
    found: dict[str, pandas.DataFrame] = {"burden": tables.burden}

    def add(name: str, make: Callable[[], Any]) -> None:
        frame = _attempt(outcome, f"{name}.csv", lambda: pandas.DataFrame(make()))
        found[name] = pandas.DataFrame() if frame is None else frame
        _write(outcome, f"{name}.csv", found[name])

    add("summary", lambda: cohort.summary_rows(scores))
    add("paired", lambda: comparison.pair_rows(scores, rule))
    add("strata", lambda: comparison.strata_rows(scores, tables.lesions, told, options.metric, rule))
    add("volumes", lambda: cohort.volume_rows(scores, told, [tables.second, *names], outcome.notes))
    add("agreement", lambda: cohort.agreement_rows(found["volumes"], tables.burden))
    add("detection", lambda: cohort.detection_rows(scored.results, labels))
    add("recist", lambda: cohort.recist_rows(tables.lesions, scored.structures))
    pooled = _attempt(outcome, "calibration", lambda: cohort.pool_calibration(scored.results, outcome.failed)) or {}
    add("calibration", lambda: cohort.calibration_rows(scored.results, pooled))
    add("reliability", lambda: cohort.reliability_rows(pooled, scored.structures))
    add("expected", lambda: cohort.expected_rows(scores, told))
    add("quality", lambda: cohort.quality_rows(found["expected"]))
    return replace(tables, **{name: frame for name, frame in found.items() if name != "recist"})


def _write_cases(tables: Tables, outcome: Outcome) -> None:
    outcome.written.append(write_csv(outcome.out / "cases.csv", tables.scores, COLUMNS["cases.csv"]))
    for name in ("slices", "lesions", "empty_references", "burden"):
        _write(outcome, f"{name}.csv", getattr(tables, name))
    wide = pandas.DataFrame()
    if not tables.scores.empty:
        metrics = list(dict.fromkeys(tables.scores["metric"]))
        wide = tables.scores.pivot(index=_WIDE_KEYS, columns="metric", values="value")[metrics].reset_index()
        place = tables.scores.drop_duplicates(["case_id", "decoder", "label"])[["case_id", "decoder", "label"]]
        wide = place.merge(wide, on=["case_id", "decoder", "label"])[[*_WIDE_KEYS, *metrics]]
    _write(outcome, "cases_wide.csv", wide, list(wide.columns))
    write_text(outcome.out / "columns.json", json.dumps(COLUMNS, indent=1))
    outcome.written.append(outcome.out / "columns.json")


def _write(outcome: Outcome, name: str, frame: pandas.DataFrame, columns: Sequence[str] | None = None) -> None:
    """Write a table when there is anything to write."""
    if frame.empty:
        return
    outcome.written.append(write_csv(outcome.out / name, frame, columns or list(COLUMNS[name])))


def _write_foreign(tables: Tables, scored: ScoredCohort, outcome: Outcome) -> None:
    """MONAI's three files and nnU-Net's summary.json per decoder, and the protocol's own file."""
    averaged = protocols.averaged_keys(scored.structures, scored.options.protocol)
    for name, masks in scored.arms.items():
        folder = outcome.out / name if len(scored.arms) > 1 else outcome.out
        mine = tables.scores[tables.scores["decoder"] == name]
        if mine.empty:
            continue
        single = mine[mine["label"].isin(averaged)] if averaged else mine
        outcome.written += write_monai_files(folder, single, masks)
        summary = folder / "summary.json"
        outcome.written.append(
            foreign_files.write_nnunet(summary, mine, averaged, scored.files[name], scored.references)
        )
        if scored.options.protocol == "kits23":
            outcome.written.append(foreign_files.write_kits23(folder / "evaluation.csv", mine))
        if scored.options.protocol == "lits":
            cases = [case.arms[name].lits for case in scored.results if name in case.arms]
            outcome.written += foreign_files.write_lits(folder, [case for case in cases if case is not None])


def _describe_run(scored: ScoredCohort, partial: str) -> dict[str, Any]:
    """What went in: every input with its sha256, settings, versions and seeds."""
    options, plan = scored.options, scored.plan
    told = [folder.resolve().parent / "inference.csv" for folder in scored.arms.values()]
    return {
        "program": f"rankseg-rma {__version__}", "command": command_line(), "partial": partial,
        "empty_policy": plan.empty_policy, "protocol": options.protocol or "",
        "labels": {one.key: one.name for one in scored.structures},
        "lesions": [one.key for one in scored.structures if one.is_lesion], "organ": list(plan.organ),
        "metric_groups": list(plan.groups), "connectivity": plan.connectivity, "slice_axis": plan.slice_axis,
        "tolerances_mm": {one.key: list(one.tolerances_mm) for one in scored.structures},
        "edge_is_inside": plan.edge_is_inside, "cluster": options.cluster or "case",
        "bootstrap_resamples": comparison.NUM_RESAMPLES, "seed": comparison.SEED,
        "packages": package_versions(),
        "predictions": {name: str(folder) for name, folder in scored.arms.items()},
        "inference": {str(path): sha256_of(path) for path in dict.fromkeys(told) if path.is_file()},
        "sha256": {case.case_id: _digests(case) for case in scored.results},
    }  # fmt: skip


def _digests(case: CaseScores) -> dict[str, str]:
    found = {"reference": case.reference_sha256, "probabilities": case.probabilities_sha256}
    found |= {name: arm.sha256 for name, arm in case.arms.items()}
    return {name: digest for name, digest in found.items() if digest}
