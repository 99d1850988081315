"""What an evaluation writes: tables, files of other programs, provenance, and the report."""

import json
from collections.abc import Iterable
from typing import Any

from rankseg_rma import __version__
from rankseg_rma.evaluation import foreign_files, paired, protocols
from rankseg_rma.evaluation.case import CaseScores
from rankseg_rma.evaluation.cohort import (
    COHORT_TABLES,
    ScoredCohort,
    add_cohort_tables,
    tables_of_cases,
    widen_scores,
)
from rankseg_rma.evaluation.foreign_files import write_monai_files
from rankseg_rma.evaluation.options import EvaluationOptions
from rankseg_rma.files.writing import sha256_of, write_text
from rankseg_rma.report.terminal import describe_scores
from rankseg_rma.runs.manifest import PROVENANCE, command_line, files_of_earlier_run, package_versions
from rankseg_rma.runs.outcome import Outcome
from rankseg_rma.tables.dictionary import COLUMNS
from rankseg_rma.tables.frames import Tables
from rankseg_rma.tables.store import write_table


def write_outputs(scored: ScoredCohort, outcome: Outcome) -> None:
    """Write everything that the cases of a cohort hold, and what is derived from them, to ``outcome.out``.

    The cases are written first: a fault in what is derived from them is reported and costs its own table only.
    """
    options, earlier = scored.options, files_of_earlier_run(outcome.out)
    partial = _why_partial(outcome, options)
    tables = tables_of_cases(scored)
    _write_cases(tables, outcome)
    if not tables.scores.empty:
        tables = add_cohort_tables(tables, scored, bool(partial), outcome)
        _write_tables(tables, COHORT_TABLES, outcome)
        outcome.attempt("files of MONAI, nnU-Net and the protocol", lambda: _write_foreign(tables, scored, outcome))
    provenance = _describe_run(scored, partial)
    if partial:
        outcome.notes.append(f"warning: PARTIAL, {partial}")
    outcome.notes += describe_scores(tables)
    if options.report and not tables.scores.empty:
        from rankseg_rma.report.build import ReportInput, write_report

        given = ReportInput(
            scored.files, scored.references, options.images, scored.missing, partial, options.window, options.title
        )
        outcome.attempt("report.html", lambda: write_report(tables, given, provenance, outcome))
    # Last, when all that was written is known.
    written = sorted(str(path.relative_to(outcome.out)) for path in outcome.written)
    write_text(outcome.out / PROVENANCE, json.dumps({**provenance, "files": written}, indent=1))
    outcome.written.append(outcome.out / PROVENANCE)
    # A table of an earlier run that this one did not write would pass for one of this run.
    for path in earlier - {path.resolve() for path in outcome.written}:
        path.unlink(missing_ok=True)


def _why_partial(outcome: Outcome, options: EvaluationOptions) -> str:
    """Why this is no full run; empty when it is."""
    reasons = [f"{key}: {text}" if len(text) < 60 else key for key, text in outcome.failed.items()]
    if len(reasons) > 3:
        reasons = [*reasons[:3], f"and {len(reasons) - 3} more, listed at the end"]
    reasons += [f"only the first {options.limit} cases were scored (--limit)"] if options.limit else []
    return "; ".join(reasons)


def _write_tables(tables: Tables, names: Iterable[str], outcome: Outcome) -> None:
    """Write the tables that have a row."""
    for name in names:
        frame = getattr(tables, name)
        if not frame.empty:
            outcome.written.append(write_table(outcome.out / f"{name}.csv", frame))


def _write_cases(tables: Tables, outcome: Outcome) -> None:
    """What single cases hold; cases.csv also without a row, so that a reader finds it."""
    outcome.written.append(write_table(outcome.out / "cases.csv", tables.scores))
    _write_tables(tables, ("slices", "lesions", "empty_references", "burden"), outcome)
    wide = widen_scores(tables.scores)
    if not wide.empty:
        outcome.written.append(write_table(outcome.out / "cases_wide.csv", wide))
    write_text(outcome.out / "columns.json", json.dumps(COLUMNS, indent=1))
    outcome.written.append(outcome.out / "columns.json")


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
        "bootstrap_resamples": paired.NUM_RESAMPLES, "seed": paired.SEED,
        "packages": package_versions(),
        "predictions": {name: str(folder) for name, folder in scored.arms.items()},
        # Decoders of one run share the file.
        "inference": {str(path): sha256_of(path) for path in dict.fromkeys(told) if path.is_file()},
        "sha256": {case.case_id: _digests(case) for case in scored.results},
    }  # fmt: skip


def _digests(case: CaseScores) -> dict[str, str]:
    found = {"reference": case.reference_sha256, "probabilities": case.probabilities_sha256}
    found |= {name: arm.sha256 for name, arm in case.arms.items()}
    return {name: digest for name, digest in found.items() if digest}
