"""Tables of made-up cohorts, as the charts get them."""

from dataclasses import replace

import numpy as np
import pandas

from rankseg_rma.report.charts import CHARTS
from rankseg_rma.statistics.agreement import agree_volumes
from rankseg_rma.tables.frames import Tables

PREDICTED = "prediction_ml"

BINS = ("<0.5 mL", "0.5-2 mL", "2-10 mL", ">=10 mL")


def make_tables(num_cases=20, names=("liver", "tumour"), first="argmax", second="rma", seed=7):
    """Tables of a made-up cohort: the first label is large and easy, later ones smaller and harder."""
    rng = np.random.default_rng(seed)
    arms = list(dict.fromkeys([first, second]))
    rows = {key: [] for key in ("scores", "volumes", "expected", "detection", "reliability")}
    for place, name in enumerate(names):
        label = {"label": str(place + 1), "label_name": name}
        reference = np.exp(rng.normal(7.3 - 2.2 * (place % 4), 0.3 + 0.4 * (place % 4), num_cases))
        if place % 4 and num_cases > 4:
            reference[[1, 3]] = 0
        dice = np.clip(rng.beta(40 - 11 * (place % 4), 2 + place % 4, num_cases), 0, 1)
        for arm in [*arms, "expected"]:
            better = arm == second
            own = np.clip(dice + better * rng.normal(0.012, 0.02, num_cases) * (1 + place % 4), 0, 1)
            prediction = reference * np.exp(rng.normal(0.06 if better else -0.12, 0.12 + 0.1 * (place % 4), num_cases))
            if place % 4 and num_cases > 4:
                prediction[[3, 4]] = (0.3, 0) if arm != "expected" else (0.4, 0.02)
            for k in range(num_cases):
                case = {"case_id": f"case_{k:03d}", **label, "decoder": arm}
                rows["volumes"].append({
                    **case, "reference_ml": reference[k], "prediction_ml": prediction[k],
                    "difference_ml": prediction[k] - reference[k], "difference_percent": 0.0, "expected_ml": np.nan,
                })  # fmt: skip
                if arm == "expected":
                    continue
                forecast = np.clip(own[k] + rng.normal(0.03, 0.05), 0, 1)
                rows["expected"].append({
                    **case, "expected_score": forecast, "real_score": own[k], "expected_volume_ml": reference[k],
                })  # fmt: skip
                distance = np.nan if reference[k] == 0 else 60 * (1 - own[k])
                for metric, value, unit in (("dice", own[k], "1"), ("hd95_mm", distance, "mm")):
                    status = "ok" if reference[k] else "reference_empty"
                    rows["scores"].append({**case, "metric": metric, "value": value, "unit": unit, "status": status})
            if arm == "expected":
                continue
            for threshold in (0.0, 0.1, 0.25, 0.5):
                for size, bin_name in enumerate((*BINS, "all")):
                    recall = min(1.0, 0.3 + 0.2 * size + 0.05 * better) * (1 - threshold / 2)
                    rows["detection"].append({
                        **label, "decoder": arm, "iou_threshold": threshold, "volume_bin": bin_name,
                        "num_cases": num_cases, "n_reference": 40 if bin_name == "all" else (16, 12, 12, 0)[size],
                        "recall": np.nan if bin_name == ">=10 mL" else recall,
                        "false_positives_per_case": 0.45 + 0.3 * better if bin_name == "all" else np.nan,
                    })  # fmt: skip
        for key, bend in (("none", 1.6), ("stored", 1.05)):
            for k in range(15):
                middle = (k + 0.5) / 15
                rows["reliability"].append({
                    **label, "temperature_name": key, "bin": k, "low": k / 15, "high": (k + 1) / 15,
                    "count": int(10 ** (3 + 3 * abs(middle - 0.5))) if k != 7 else 0,
                    "confidence": middle if k != 7 else np.nan, "frequency": middle**bend if k != 7 else np.nan,
                })  # fmt: skip
    frames = {key: pandas.DataFrame(value) for key, value in rows.items()}
    label_rows = [{"label": str(k + 1), "label_name": name} for k, name in enumerate(names)]
    both = [*label_rows, {"label": "mean", "label_name": "mean"}]
    volumes = frames["volumes"].groupby(["label", "label_name", "decoder"], sort=False)
    agreement = [
        dict(zip(("label", "label_name", "decoder"), key, strict=True))
        | vars(agree_volumes(rows["reference_ml"], rows[PREDICTED]))
        for key, rows in volumes
    ]
    strata = [
        {"stratum_by": by, "stratum": stratum, **label, "metric": "dice", "first": first, "second": second,
         "num_pairs": 4 + 3 * k, "mean": 0.004 * (k - 1), "low": 0.004 * (k - 1) - 0.01 if k else np.nan,
         "high": 0.004 * (k - 1) + 0.01 if k else np.nan}
        for by, strata in (("volume", ("<0.5 mL", "0.5-2 mL", ">=2 mL")), ("scanner", ("A", "B")))
        for k, stratum in enumerate(strata) for label in both
    ]  # fmt: skip
    quality = [
        {**label, "decoder": arm, "mae": 0.031 + 0.02 * k, "spearman": 0.8 - 0.5 * k, "aurc": 0.06 + 0.01 * k}
        for label in label_rows for k, arm in enumerate(arms)
    ]  # fmt: skip
    calibration = [
        {"scope": "pooled", "case_id": "", "temperature": key, "measure": measure, "value": value}
        for key, values in (("none", (0.0081, 0.093, 0.2)), ("stored", (0.0012, 0.047, 0.1)))
        for measure, value in zip(("ece", "foreground_ece", "nll"), values, strict=True)
    ]  # fmt: skip
    paired = [{"metric": "dice", "label": "1", "label_name": names[0], "margin": 0.01, "better": "higher"}]
    return Tables(
        first, second, "dice", paired=pandas.DataFrame(paired), strata=pandas.DataFrame(strata),
        agreement=pandas.DataFrame(agreement), quality=pandas.DataFrame(quality),
        calibration=pandas.DataFrame(calibration), **frames,
    )  # fmt: skip


def draw(tables, name):
    figure = CHARTS[name].draw(tables)
    assert figure is not None, name
    return figure


def legend_texts(owner):
    legend = owner.get_legend() if hasattr(owner, "get_legend") else owner.legends[0]
    return [text.get_text() for text in legend.get_texts()]


ORGANS = (
    "spleen", "right kidney", "left kidney", "gallbladder", "oesophagus", "liver", "stomach", "aorta",
    "inferior vena cava", "pancreas", "right adrenal gland", "left adrenal gland", "duodenum", "bladder",
    "prostate/uterus",
)  # fmt: skip


def all_equal():
    tables = make_tables(8)
    return replace(
        tables,
        scores=tables.scores.assign(value=1.0),
        volumes=tables.volumes.assign(reference_ml=1234.5, prediction_ml=1234.5),
        expected=tables.expected.assign(expected_score=1.0, real_score=1.0),
    )


def all_zero():
    tables = make_tables(8)
    return replace(
        tables,
        scores=tables.scores.assign(value=0.0),
        volumes=tables.volumes.assign(reference_ml=0.0, prediction_ml=0.0),
        expected=tables.expected.assign(expected_score=0.0, real_score=0.0),
        detection=tables.detection.assign(recall=0.0, false_positives_per_case=0.0),
    )


def with_gaps():
    """Every third value is missing, in every table; infinite where a distance could be."""
    tables = make_tables(20)

    def pierce(frame, *columns):
        holes = {column: frame[column].where(np.arange(len(frame)) % 3 > 0) for column in columns}
        return frame.assign(**holes)

    scores = pierce(tables.scores, "value")
    scores.loc[scores.index[1::7], "value"] = np.inf
    return replace(
        tables,
        scores=scores,
        volumes=pierce(tables.volumes, "prediction_ml"),
        agreement=pierce(tables.agreement, "ccc", "bias_ml", "loa_low_ml", "loa_high_percent"),
        detection=pierce(tables.detection, "recall"),
        reliability=pierce(tables.reliability, "frequency"),
        expected=pierce(tables.expected, "expected_score", "real_score"),
        quality=pierce(tables.quality, "mae", "spearman"),
        calibration=pierce(tables.calibration, "value"),
        strata=pierce(tables.strata, "mean", "low"),
    )


def three_arms():
    """Another decoder beside the pair, of which one label is missing."""
    tables = make_tables(12)
    extra = {}
    for name in ("scores", "volumes", "detection", "expected", "quality", "agreement"):
        frame = getattr(tables, name)
        other = frame[(frame["decoder"] == "rma") & (frame["label"] == "1")].assign(decoder="threshold 0.3")
        extra[name] = pandas.concat([frame, other], ignore_index=True)
    return replace(tables, **extra)


def five_arms():
    """The most decoders that a panel holds, "expected" among them."""
    tables, extra = make_tables(12), {}
    for name in ("scores", "volumes", "detection", "expected", "quality", "agreement"):
        frame = getattr(tables, name)
        others = [frame[frame["decoder"] == "rma"].assign(decoder=decoder) for decoder in ("rma_untempered", "tuned")]
        extra[name] = pandas.concat([frame, *others], ignore_index=True)
    return replace(tables, **extra)


STRANGE_NAMES = ("<script>alert('$x$')</script>", "a$b_$ 肝臓\nzwei", "\x00\x1b[0m%s{}--")

COHORTS = {
    "full": make_tables,
    "one case": lambda: make_tables(1, names=("liver",)),
    "two cases": lambda: make_tables(2),
    "one decoder": lambda: make_tables(12, first="rma"),
    "15 labels": lambda: make_tables(15, names=ORGANS),
    "500 cases": lambda: make_tables(500),
    "strange names": lambda: make_tables(
        12, STRANGE_NAMES, "nnunet$_3d_fullres_fold0_argmax_$x", "nnunet_3d_fullres_fold0_<b>rma</b>"
    ),
    "all equal": all_equal,
    "all zero": all_zero,
    "gaps": with_gaps,
    "three decoders": three_arms,
    "five decoders": five_arms,
    "distances": lambda: replace(
        make_tables(12), metric="hd95_mm", strata=make_tables(12).strata.assign(metric="hd95_mm")
    ),
}
