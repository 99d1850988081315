"""The data dictionary: every column of every table that the commands write, in order."""

from rankseg_rma.evaluation.lesions import IOU_THRESHOLDS
from rankseg_rma.report.columns_of_tests import COUNTS, TRIAL_COLUMNS

_CASE = {
    "case_id": "case: file name without suffix",
    "label": "label number, or a region such as 1+2+3",
    "label_name": "name of the label or region",
    "decoder": "whose mask: name of the folder, or the name given",
}
_PAIR_KEYS = {
    "label": "label number, region such as 1+2+3, or mean (over labels, case by case)",
    "label_name": "its name",
    "metric": "score compared; see cases.csv",
    "unit": "unit of the score: 1 (a fraction), mm, ml or count",
    "better": "higher or lower: which direction is an improvement",
    "optimised": "whether RMA was told to maximise this score",
    "first": "decoder that is compared with",
    "second": "decoder compared with it; differences are second minus first",
}
_DIFFERENCE = {
    "num_pairs": "cases where both scores are defined",
    "num_left_out": "cases where a score is not defined",
    "num_clusters": "patients among the pairs; whole patients are resampled",
    "mean_first": "mean score of the first decoder over the pairs",
    "mean_second": "mean score of the second",
    "mean": "mean difference",
    "low": "95 % interval of the mean difference (BCa bootstrap of patients, 10,000 resamples, seed 0); empty below 6",
    "high": "its upper end",
    "percentile_low": "percentile bootstrap interval of the mean difference",
    "percentile_high": "its upper end",
    "median": "median difference",
    "median_low": "95 % interval of the median difference (BCa)",
    "median_high": "its upper end",
    "median_percentile_low": "percentile bootstrap interval of the median difference",
    "median_percentile_high": "its upper end",
    "hodges_lehmann": "median of all pairwise means of differences",
    "p_permutation": "two-sided sign-flip permutation test of the mean, whole patients",
    "p_wilcoxon": "Wilcoxon signed-rank test (zeros by Pratt), means of patients",
    "wins": "cases where the second is better",
    "ties": "cases without any difference",
    "losses": "cases where the first is better",
    "improved": "cases better by more than the margin",
    "unchanged": "cases within the margin",
    "worsened": "cases worse by more than the margin",
    "improved_5": "cases better by more than 5 margins (5 points)",
    "worsened_5": "cases worse by more than 5 margins",
    "improved_10": "cases better by more than 10 margins (10 points)",
    "worsened_10": "cases worse by more than 10 margins",
    **{
        f"{name}_q{q:02d}": f"{q} % quantile of the {what}"
        for name, what in (("first", "first score"), ("second", "second score"), ("difference", "difference"))
        for q in (5, 25, 50, 75, 95)
    },
    "smallest": "smallest difference",
    "largest": "largest difference",
    "smallest_case": "case with the smallest difference",
    "largest_case": "case with the largest difference",
    "margin": "one point (0.01) of a fraction, or one mm, mL or lesion",
}
_HOLM = {
    "p_permutation_holm": "p_permutation after Holm's correction over the labels of this metric and pair",
    "p_wilcoxon_holm": "p_wilcoxon after Holm's correction over the labels of this metric and pair",
}
_STATUS = "ok, both_empty, reference_empty or prediction_empty"

COLUMNS: dict[str, dict[str, str]] = {
    "inference.csv": {
        "case_id": _CASE["case_id"],
        "label": "label number",
        "label_name": "its name",
        "metric": "score that RMA was told to maximise",
        "unit": "what one score is computed over: volume or slice",
        "expected_score_argmax": "score of argmax's mask that the network's own probabilities imply",
        "expected_score_rma": "the same of RMA's mask",
        "expected_gain": "the second minus the first",
        "expected_volume_ml": "sum of the probabilities",
        "volume_argmax_ml": "volume of argmax's mask",
        "volume_rma_ml": "volume of RMA's mask",
        "temperature": "temperature of the probabilities that RMA and the expected scores saw; 1 is none",
        "temperature_source": "stored (with the model or probabilities), given or none",
        "seconds": "time for the case",
        "peak_memory_bytes": "peak resident memory during the case",
    },
    "inference_images.csv": {
        "case_id": "image: file name without suffix",
        "class": "class index; class_name is its name",
        "class_name": "its name",
        "metric": "score that RMA was told to maximise",
        "expected_pixels": "sum of the probabilities",
        **{f"pixels_{name}": f"pixels of {name}'s mask" for name in ("argmax", "rma")},
        **{f"expected_score_{name}": f"score implied for {name}'s mask" for name in ("argmax", "rma")},
        "temperature": "temperature of the probabilities that RMA and the expected scores saw; 1 is none",
    },
    "cases.csv": {
        **_CASE,
        "metric": "name of the score; the metrics are listed below",
        "value": "the score; empty where it is not defined",
        "unit": "1 (a fraction), mm, ml or count",
        "status": _STATUS,
        "empty_policy": "how empty masks count: kits (both empty 1, one empty 0), nnunet (both empty undefined, one "
        "empty 0) or monai (empty reference undefined, empty prediction 0)",
        **COUNTS,
        "n_reference": "voxels of the reference",
        "n_prediction": "voxels of the prediction",
        "n_voxels": "voxels of the volume",
        "voxel_ml": "volume of a voxel in mL",
        "spacing_1_mm": "voxel size along the file's first axis",
        "spacing_2_mm": "along the second",
        "spacing_3_mm": "along the third",
    },
    "cases_wide.csv": {
        **_CASE,
        "status": _STATUS,
        "empty_policy": "as in cases.csv",
        **COUNTS,
        "n_reference": "voxels of the reference",
        "n_prediction": "voxels of the prediction",
        "*": "one column per metric, named as in cases.csv",
    },
    "summary.csv": {
        "label": _CASE["label"],
        "label_name": _CASE["label_name"],
        "decoder": _CASE["decoder"],
        "metric": "score; dice_global and iou_global pool the voxels of all cases",
        "unit": "unit of the score",
        "num_cases": "cases where it is defined",
        "num_undefined": "cases where it is not",
        "mean": "mean over cases",
        "sd": "standard deviation (n - 1)",
        "median": "median",
        **{f"q{q:02d}": f"{q} % quantile" for q in (5, 25, 75, 95)},
        "smallest": "smallest value",
        "largest": "largest value",
        "empty_policy": "as in cases.csv",
    },
    "slices.csv": {
        **_CASE,
        "slice": "index of the slice along the slice axis; slices empty in both masks are left out",
        "status": _STATUS,
        **COUNTS,
        "dice": "Dice of the slice",
        "iou": "IoU of the slice",
    },
    "lesions.csv": {
        **_CASE,
        "side": "reference or prediction: whose lesion",
        "lesion": "number of the connected component in its mask",
        "voxels": "its voxels",
        "volume_ml": "its volume",
        "diameter_mm": "its longest axial diameter between pixel corners",
        "x_mm": "centroid, RAS+ mm (towards the right)",
        "y_mm": "centroid (towards the front)",
        "z_mm": "centroid (upwards)",
        "best_iou": "largest IoU with a lesion of the other mask",
        "partner": "number of that lesion; 0 without any",
        **{f"matched_{t:g}": f"1 when matched one to one at IoU > {t:g}" for t in IOU_THRESHOLDS},
    },
    "empty_references.csv": {
        **_CASE,
        "false_positive_voxels": "voxels predicted where the reference has none of the label",
        "false_positive_ml": "their volume",
        "components": "their connected components",
    },
    "volumes.csv": {
        **_CASE,
        "reference_ml": "volume of the reference",
        "prediction_ml": "volume of the prediction; of decoder expected: the sum of the probabilities",
        "difference_ml": "prediction minus reference",
        "difference_percent": "in percent of the reference; empty without a reference",
    },
    "agreement.csv": {
        "label": _CASE["label"],
        "label_name": _CASE["label_name"],
        "decoder": "whose volumes; expected: the sum of the probabilities",
        "num_cases": "cases",
        "num_left_out": "cases without both volumes",
        "bias_ml": "mean of prediction minus reference",
        "sd_ml": "standard deviation of the differences",
        "loa_low_ml": "lower limit of agreement (bias - 1.96 sd)",
        "loa_high_ml": "upper limit of agreement",
        "bias_percent": "mean difference in percent of the mean of both volumes",
        "sd_percent": "its standard deviation",
        "loa_low_percent": "lower limit of agreement in percent",
        "loa_high_percent": "upper limit of agreement in percent",
        "mae_ml": "mean absolute difference",
        "icc_agreement": "ICC(A,1): a systematic difference lowers it",
        "icc_consistency": "ICC(C,1): a systematic difference does not",
        "ccc": "Lin's concordance correlation coefficient",
        "pearson": "correlation",
        "num_percent": "cases behind the figures in percent: not both volumes 0",
        "burden_num_cases": "cases with a tumour burden (tumour / organ)",
        "burden_bias": "mean difference of the burden",
        "burden_rmse": "root mean square error of the burden",
        "burden_largest": "largest absolute error",
        "burden_largest_signed": "largest signed difference, as LiTS reports it",
    },
    "burden.csv": {
        **_CASE,
        "organ_reference_voxels": "organ and lesions of the reference",
        "organ_prediction_voxels": "organ and lesions of the prediction",
        "burden_reference": "share of the organ that is lesion, in the reference",
        "burden_prediction": "in the prediction",
        "burden_difference": "prediction minus reference",
    },
    "recist.csv": {
        "case_id": _CASE["case_id"],
        "decoder": _CASE["decoder"],
        "reference_mm": "sum of the longest axial diameters of the largest lesions (5 at most, 2 per label)",
        "prediction_mm": "of the prediction",
        "difference_mm": "prediction minus reference",
        "difference_percent": "in percent of the reference",
    },
    "detection.csv": {
        "label": _CASE["label"],
        "label_name": _CASE["label_name"],
        "decoder": _CASE["decoder"],
        "iou_threshold": "a lesion is found when its IoU with its partner is above this",
        "volume_bin": "all, or the volume of the reference's lesions",
        "num_cases": "cases",
        "n_reference": "lesions of the references",
        "n_prediction": "lesions of the predictions",
        "tp": "lesions found",
        "fp": "lesions predicted without a partner",
        "fn": "lesions missed",
        "precision": "tp / n_prediction",
        "recall": "tp / n_reference",
        "f1": "2 tp / (n_prediction + n_reference)",
        "false_positives_per_case": "fp / num_cases",
    },
    "paired.csv": {**_PAIR_KEYS, **_DIFFERENCE, **_HOLM, "empty_policy": "as in cases.csv",
                   "partial": "True when cases are missing, failed or left out"},
    "strata.csv": {
        "stratum_by": "what divides the cohort into thirds",
        "stratum": "low, middle or high third, none in the reference, or empty mask",
        "from": "smallest value in it",
        "to": "largest value in it",
        **{name: _PAIR_KEYS[name] for name in ("label", "label_name", "metric", "first", "second")},
        **_DIFFERENCE,
        "empty_policy": "as in cases.csv",
    },
    "calibration.csv": {
        "scope": "pooled (all voxels of all cases) or case",
        "case_id": "case; empty when pooled",
        "temperature": "none (probabilities as they are) or stored (scaled by the temperature beside them)",
        "measure": "ece, foreground_ece, class_ece, brier or nll",
        "value": "its value",
    },
    "reliability.csv": {
        "label": "label number",
        "label_name": "its name",
        "temperature": "none or stored",
        "bin": "number of the probability bin",
        "low": "its lower end",
        "high": "its upper end",
        "count": "voxels in it",
        "confidence": "their mean probability",
        "frequency": "share of them that have the label",
    },
    "expected.csv": {
        **_CASE,
        "metric": "score that was expected and measured",
        "expected_score": "what the network's own probabilities imply for this mask, without a reference; empty for an "
        "empty mask",
        "real_score": "the score against the reference",
        "expected_volume_ml": "sum of the probabilities",
        "temperature": "temperature of the probabilities",
    },
    "quality.csv": {
        "label": _CASE["label"],
        "label_name": _CASE["label_name"],
        "decoder": _CASE["decoder"],
        "num_cases": "cases with an expected and a real score",
        "num_left_out": "cases without",
        "mae": "mean absolute difference of expected and real score",
        "bias": "mean of expected minus real: above 0 is optimistic",
        "pearson": "correlation",
        "spearman": "rank correlation",
        "auroc": "how well a low expected score finds cases below failure_below",
        "aurc": "area under the risk-coverage curve of expected scores",
        "aurc_best": "the same if cases were ordered by their real score",
        "aurc_random": "the same for a random order",
        "failure_below": "real score that counts as a failure",
    },
    **TRIAL_COLUMNS,
    "advice_cases.csv": {
        "case_id": _CASE["case_id"],
        "label": "label number",
        "label_name": "its name",
        "unit": "unit that was decoded and scored: volume or slice",
        "decoder": "argmax, rma (with a temperature of other cases), rma_untempered, or threshold (tuned on others)",
        "metric": "name of the score",
        "value": "the score",
        "status": _STATUS,
        "empty_policy": "as in cases.csv",
        "temperature": "temperature that decoded it",
    },
    "advice.csv": {
        "unit": "unit that was decoded and scored: volume or slice",
        "arm": "rma (temperature fitted on other cases), rma_untempered, or threshold (tuned on other cases)",
        "score_unit": "unit of the score: 1, a fraction",
        **{name: text for name, text in _PAIR_KEYS.items() if name != "unit"}, **_DIFFERENCE, **_HOLM,
    },
}  # fmt: skip


def describe_columns() -> str:
    """docs/columns.md: the dictionary as tables, and the metrics."""
    from rankseg_rma.evaluation import list_metrics

    text = [
        "# Columns", "",
        "Every column of the tables that `rankseg-rma infer`, `decode`, `evaluate`, `compare`, `advise`, `test` and "
        "`reproduce` write; `columns.json` beside the scores holds the same. Empty cells mean: not defined. Fractions "
        "run from 0 to 1; a point is 0.01. Files of other programs (MONAI's, nnU-Net's, KiTS23's, LiTS') hold what "
        "those say. This file "
        "is made by `python -m rankseg_rma.report.columns > docs/columns.md`.", "",
    ]  # fmt: skip
    for name, columns in COLUMNS.items():
        text += [f"## {name}", "", "| column | meaning |", "|---|---|"]
        text += [f"| {column} | {meaning} |" for column, meaning in columns.items()]
        text += [""]
    text += ["## Metrics", "", "| metric | unit | better | empty masks | meaning |", "|---|---|---|---|---|"]
    rule = {"score": "by the policy", "loss": "1 minus the policy's value", "own": "see meaning"}
    for metric in list_metrics(("overlap", "volume", "slice", "surface", "lesion", "size"), (1.0,)):
        meaning = " ".join((metric.compute.__doc__ or metric.title).split()).replace("|", "\\|")
        text.append(f"| {metric.name} | {metric.unit} | {metric.better or '-'} | {rule[metric.empty]} | {meaning} |")
    return "\n".join(text) + "\n"


if __name__ == "__main__":
    print(describe_columns(), end="")
