"""The page's tables, one function per section: from the frames of an evaluation to headings and cells."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas

from rankseg_rma.report.wording import (
    MEAN,
    NONE,
    Cell,
    Interval,
    Row,
    Score,
    Table,
    build,
    count_of,
    describe_doubt,
    describe_score,
    left,
    number,
    plain_of,
    quantity_of,
    right,
    score_of,
    share_of,
    text_of,
    write_count,
    write_interval,
    write_p,
    write_plain,
    write_quantity,
)
from rankseg_rma.tables.frames import Tables


def pairs_of(tables: Tables, metric: str | None = None) -> pandas.DataFrame:
    """Rows of paired.csv of one metric (or all), the page's own comparison first."""
    paired = tables.paired
    if paired.empty:
        return paired
    if metric is not None:
        paired = paired[paired["metric"] == metric]
    own = (paired["first"] == tables.first) & (paired["second"] == tables.second)
    return pandas.concat([paired[own], paired[~own]])


def main_pair(tables: Tables) -> Row | None:
    """The row of the verdict: the mean over labels where there is one, else the first label."""
    rows = pairs_of(tables, tables.metric)
    if rows.empty:
        return None
    rows = rows[(rows["first"] == tables.first) & (rows["second"] == tables.second)]
    mean = rows[rows["label"].astype(str) == MEAN]
    found = (mean if len(mean) else rows).to_dict("records")
    return found[0] if found else None


def compare_labels(tables: Tables) -> Table | None:
    """The page's score per label: both decoders, difference with its interval, and the cases that moved."""
    score, rows = describe_score(tables), pairs_of(tables, tables.metric)
    if rows.empty:
        return None
    ends = rows[["low", "high", "mean"]].to_numpy(np.float64, na_value=np.nan)
    # Above 0 where all differences are 0, because places are divided by it.
    limit = float(np.nanmax(np.abs(ends), initial=1e-9))
    several = len(rows[["first", "second"]].drop_duplicates()) > 1
    unit = score.unit_text
    return build(rows, [
        left("label", text_of("label_name")),
        *([left("compared", lambda row: f"{row['second']} with {row['first']}")] if several else []),
        right("first" if several else tables.first, quantity_of("mean_first", score.unit)),
        right("second" if several else tables.second, quantity_of("mean_second", score.unit)),
        right("difference", lambda row: Cell(score.text(number(row, "mean"), True), "mark")),
        right("95 % interval (BCa)", lambda row: write_interval(number(row, "low"), number(row, "high"), score.unit)),
        left("no difference in the middle", lambda row: _draw_interval(row, score, limit)),
        right("improved / unchanged / worsened", _moved),
        right(f"worst to best case, {unit}", lambda row: _extremes(row, score)),
        right("cases", count_of("num_pairs")),
    ])  # fmt: skip


def _moved(row: Row) -> str:
    return " / ".join(write_count(number(row, key)) for key in ("improved", "unchanged", "worsened"))


def _extremes(row: Row, score: Score) -> str:
    ends = [number(row, "smallest"), number(row, "largest")]
    ends = ends[::-1] if score.better == "lower" else ends
    return " to ".join(score.text(value, True) for value in ends)


def _difference(row: Row, score: Score) -> Cell:
    """A mean difference, coloured where its interval leaves out no difference."""
    look = "" if describe_doubt(row) else score.look_of_interval(number(row, "low"), number(row, "high"))
    return Cell(score.text(number(row, "mean"), True), look)


def _draw_interval(row: Row, score: Score, limit: float) -> Interval:
    mean, low, high = (number(row, key) for key in ("mean", "low", "high"))
    text = write_interval(low, high, score.unit)
    look = score.look_of_interval(low, high)
    mean, low, high = ((value / limit + 1) / 2 for value in (mean, low, high))
    return Interval(text, mean, low, high, look)


def describe_arms(tables: Tables) -> Table | None:
    """The page's score per label and decoder, where there is nothing to compare."""
    score, part = describe_score(tables), tables.scores
    if part.empty:
        return None
    part, rows = part[part["metric"] == tables.metric], []
    for (_, name, decoder), group in part.groupby(["label", "label_name", "decoder"], sort=False):
        values = group["value"].dropna().to_numpy(np.float64)
        if len(values):
            keys = ("mean", "smallest", "quarter", "median", "three_quarters", "largest")
            numbers = [values.mean(), *np.quantile(values, [0, 0.25, 0.5, 0.75, 1])]
            rows.append({"label_name": name, "decoder": decoder, "cases": len(values), **dict(zip(keys, numbers,
                        strict=True))})  # fmt: skip
    return build(rows, [
        left("label", text_of("label_name")), left("decoder", text_of("decoder")),
        right("mean", lambda row: Cell(score.text(row["mean"]), "mark")),
        right("median", quantity_of("median", score.unit)),
        right("middle half", lambda row: f"{score.text(row['quarter'])} to {score.text(row['three_quarters'])}"),
        right("lowest to highest", lambda row: f"{score.text(row['smallest'])} to {score.text(row['largest'])}"),
        right("cases", count_of("cases")),
    ])  # fmt: skip


def list_summary(tables: Tables) -> Table | None:
    """Every score of every decoder and label over the cases, each in its unit."""

    def quantity(key: str) -> Callable[[Row], str]:
        return lambda row: score_of(str(row["metric"])).text(number(row, key))

    return build(tables.summary, [
        left("score", lambda row: score_of(str(row["metric"])).title), left("label", text_of("label_name")),
        left("decoder", text_of("decoder")), left("unit", lambda row: score_of(str(row["metric"])).unit_text),
        *[right(key.replace("q05", "5 %").replace("q95", "95 %"), quantity(key))
          for key in ("mean", "sd", "median", "q05", "q95", "smallest", "largest")],
        right("cases", count_of("num_cases")), right("not defined", count_of("num_undefined")),
    ])  # fmt: skip


def compare_metrics(tables: Tables) -> Table | None:
    """Every metric of paired.csv, each in its unit."""
    rows = pairs_of(tables)
    if rows.empty:
        return None

    def quantity(key: str, signed: bool = False) -> Callable[[Row], str]:
        return lambda row: score_of(str(row["metric"])).text(number(row, key), signed)

    def title(row: Row) -> Cell:
        optimised = str(row.get("optimised")) == "True"
        return Cell(score_of(str(row["metric"])).title + (" ★" if optimised else ""), "mark" if optimised else "")

    return build(rows, [
        left("metric", title), left("label", text_of("label_name")),
        left("unit", lambda row: score_of(str(row["metric"])).unit_text),
        left("compared", lambda row: f"{row['second']} with {row['first']}"),
        left("better", text_of("better")),
        right("first", quantity("mean_first")), right("second", quantity("mean_second")),
        right("difference", lambda row: _difference(row, score_of(str(row["metric"])))),
        right("95 % interval (BCa)", lambda row: write_interval(
            number(row, "low"), number(row, "high"), score_of(str(row["metric"])).unit)),
        right("median difference", quantity("median", True)),
        right("improved / unchanged / worsened", _moved),
        right("p, permutation (Holm)", lambda row: write_p(number(row, "p_permutation_holm"))),
        right("p, Wilcoxon (Holm)", lambda row: write_p(number(row, "p_wilcoxon_holm"))),
        right("cases", count_of("num_pairs")), right("left out", count_of("num_left_out")),
    ])  # fmt: skip


def list_costs(tables: Tables) -> Table | None:
    """What the second decoder costs: cases that lose, the worst case, and the bias of the volume."""
    score, rows = describe_score(tables), pairs_of(tables, tables.metric)
    if rows.empty:
        return None
    rows = rows[(rows["first"] == tables.first) & (rows["second"] == tables.second)]
    targets = {text: place for place, text in enumerate(case_keys(tables))}

    def worst(row: Row) -> Cell:
        value = number(row, "largest" if score.better == "lower" else "smallest")
        return Cell(score.text(value, True), score.look(value))

    def worst_id(row: Row) -> Any:
        key = _worst_case(tables, score, str(row["label"]))
        return Cell(key[0], "", f"case-{targets[key]}") if key in targets else NONE

    def bias(decoder: str) -> Callable[[Row], str]:
        return lambda row: _write_bias(tables.agreement, str(row["label"]), decoder)

    counts = [("worsened", "worse"), ("improved", "better")]
    return build(rows, [
        left("label", text_of("label_name")),
        *(right(f"{word} by more than {size} {score.unit_text}", count_of(word if size == 1 else f"{word}_{size}"))
          for word, _ in counts for size in (1, 5, 10)),
        right("worst change of a case", worst), left("which", worst_id),
        *([right(f"volume bias, {name}", bias(name)) for name in (tables.first, tables.second)]
          if not tables.agreement.empty else []),
    ])  # fmt: skip


def _worst_case(tables: Tables, score: Score, label: str) -> tuple[str, str] | None:
    part = tables.scores[(tables.scores["metric"] == tables.metric) & (tables.scores["label"].astype(str) == label)]
    wide = part.pivot(index="case_id", columns="decoder", values="value")
    if not {tables.first, tables.second} <= set(wide):
        return None
    # Turned so that the worst change is the smallest, whichever direction is better.
    change = score.gain(1) * (wide[tables.second] - wide[tables.first]).dropna()
    return (str(change.idxmin()), label) if len(change) else None


def _write_bias(agreement: pandas.DataFrame, label: str, decoder: str) -> str:
    rows = agreement[(agreement["label"].astype(str) == label) & (agreement["decoder"] == decoder)]
    if rows.empty:
        return NONE
    row = rows.iloc[0]
    return f"{write_quantity(row['bias_ml'], 'ml', True)} mL ({write_plain(row.get('bias_percent', np.nan), 1)} %)"


def case_keys(tables: Tables) -> list[tuple[str, str]]:
    """(case id, label) of the rows of the table of cases, in its order."""
    if tables.scores.empty:
        return []
    part = tables.scores[tables.scores["label"].astype(str) != MEAN]
    return list(dict.fromkeys(zip(part["case_id"].astype(str), part["label"].astype(str), strict=True)))


def list_volumes(tables: Tables) -> Table | None:
    """Agreement of the volumes with the reference, per label and decoder."""
    rows = tables.agreement
    if rows.empty:
        return None
    with_burden = "burden_bias" in rows and rows["burden_bias"].notna().any()
    return build(_by_label(rows), [
        left("label", text_of("label_name")), left("decoder", _decoder_name),
        right("bias, mL", quantity_of("bias_ml", "ml", True)),
        right("limits of agreement, mL", _limits("loa_low_ml", "loa_high_ml", "ml")),
        right("bias, %", plain_of("bias_percent", 1)),
        right("limits of agreement, %", _limits("loa_low_percent", "loa_high_percent", "%")),
        right("ICC, agreement", plain_of("icc_agreement")), right("ICC, consistency", plain_of("icc_consistency")),
        right("CCC", plain_of("ccc")), right("cases", count_of("num_cases")),
        *([right("tumour burden, bias, points", quantity_of("burden_bias", "1", True)),
           right("tumour burden, RMSE, points", quantity_of("burden_rmse", "1"))] if with_burden else []),
    ])  # fmt: skip


def _decoder_name(row: Row) -> str:
    return "sum of probabilities" if row["decoder"] == "expected" else str(row["decoder"])


def _limits(low: str, high: str, unit: str) -> Callable[[Row], str]:
    def write(row: Row) -> str:
        ends = (number(row, low), number(row, high))
        texts = [write_quantity(v, unit, True) if unit == "ml" else write_plain(v, 1) for v in ends]
        return NONE if NONE in texts else " to ".join(texts)

    return write


def list_detection(tables: Tables) -> Table | None:
    """Lesions found and false ones, pooled over cases."""
    rows = tables.detection
    rows = _by_label(rows[rows["volume_bin"] == "all"], "iou_threshold") if not rows.empty else rows
    return build(rows, [
        left("label", text_of("label_name")), left("decoder", text_of("decoder")),
        right("IoU above", plain_of("iou_threshold", 2)),
        right("lesions in the reference", count_of("n_reference")), right("predicted", count_of("n_prediction")),
        right("found", count_of("tp")), right("missed", count_of("fn")), right("false", count_of("fp")),
        right("recall, %", share_of("recall")), right("precision, %", share_of("precision")),
        right("F1, %", share_of("f1")), right("false per case", plain_of("false_positives_per_case", 2)),
        right("cases", count_of("num_cases")),
    ])  # fmt: skip


def _by_label(rows: pandas.DataFrame, *keys: str) -> pandas.DataFrame:
    """Rows that differ in their decoder only come to lie one below the other; the order of the keys' values stays."""
    order = [
        rows[key].map({value: place for place, value in enumerate(rows[key].unique())}) for key in ("label", *keys)
    ]
    # lexsort sorts by its last key first.
    return rows.iloc[np.lexsort([part.to_numpy() for part in reversed(order)])]


def list_recall_by_size(tables: Tables) -> Table | None:
    """Recall of lesions by their volume in the reference."""
    rows = tables.detection
    rows = _by_label(rows[rows["volume_bin"] != "all"], "iou_threshold", "volume_bin") if not rows.empty else rows
    return build(rows, [
        left("label", text_of("label_name")), left("decoder", text_of("decoder")),
        right("IoU above", plain_of("iou_threshold", 2)), left("lesion volume", text_of("volume_bin")),
        right("lesions in the reference", count_of("n_reference")), right("found", count_of("tp")),
        right("recall, %", share_of("recall")),
    ])  # fmt: skip


def list_empty_references(tables: Tables) -> Table | None:
    """Cases whose reference lacks a label that was predicted."""
    return build(tables.empty_references, [
        left("case", text_of("case_id")), left("label", text_of("label_name")), left("decoder", text_of("decoder")),
        right("false voxels", count_of("false_positive_voxels")),
        right("false volume, mL", quantity_of("false_positive_ml", "ml")), right("in pieces", count_of("components")),
    ])  # fmt: skip


def list_strata(tables: Tables) -> Table | None:
    """The comparison within groups of alike cases."""
    score, rows = describe_score(tables), tables.strata
    if not rows.empty:
        rows = rows[(rows["first"] == tables.first) & (rows["second"] == tables.second)]
    return build(rows, [
        left("divided by", text_of("stratum_by")), left("label", text_of("label_name")),
        left("third", text_of("stratum")),
        right("from", lambda row: f"{number(row, 'from'):.3g}"), right("to", lambda row: f"{number(row, 'to'):.3g}"),
        right(tables.first, quantity_of("mean_first", score.unit)),
        right(tables.second, quantity_of("mean_second", score.unit)),
        right("difference", lambda row: _difference(row, score)),
        right("95 % interval (BCa)", lambda row: write_interval(number(row, "low"), number(row, "high"), score.unit)),
        right("improved / unchanged / worsened", _moved), right("cases", count_of("num_pairs")),
    ])  # fmt: skip


_CALIBRATION = {
    "ece": "expected calibration error, all voxels", "foreground_ece": "expected calibration error, foreground",
    "class_ece": "expected calibration error, mean over classes", "brier": "Brier score",
    "nll": "negative log likelihood",
}  # fmt: skip


def list_calibration(tables: Tables) -> Table | None:
    """Calibration of the probabilities pooled over cases, as they are and at the stored temperature."""
    rows = tables.calibration
    if rows.empty:
        return None
    pooled = rows[rows["scope"] == "pooled"]
    measures = list(dict.fromkeys(pooled["measure"]))
    values = {(row["measure"], row["temperature"]): row["value"] for row in pooled.to_dict("records")}
    found = [
        {"name": _CALIBRATION.get(name, name), **{t: values.get((name, t)) for t in ("none", "stored")}}
        for name in measures
    ]
    columns = [left("measure", text_of("name"))]
    for name, heading in (("none", "probabilities as they are"), ("stored", "at the stored temperature")):
        if any(row[name] is not None for row in found):
            columns.append(right(heading, plain_of(name, 4)))
    return build(found, columns)


def list_quality(tables: Tables) -> Table | None:
    """How well the score that the probabilities imply foretells the real one."""
    return build(tables.quality, [
        left("label", text_of("label_name")), left("decoder", text_of("decoder")),
        right("mean error, points", quantity_of("mae", "1")), right("bias, points", quantity_of("bias", "1", True)),
        right("Pearson r", plain_of("pearson")), right("Spearman rho", plain_of("spearman")),
        right("AUROC for failures", plain_of("auroc")),
        right("failure: below, points", quantity_of("failure_below", "1")),
        right("AURC", plain_of("aurc")), right("AURC, random order", plain_of("aurc_random")),
        right("cases", count_of("num_cases")),
    ])  # fmt: skip
