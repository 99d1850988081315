"""The data dictionary of tests and of the paper's rows."""

from rankseg_rma.tables.columns import Column, declare
from rankseg_rma.tables.columns_of_evaluation import COUNTS

_TRIAL_DECODER = (
    "argmax, rma, or for slices rma_slice and rma_volume: RMA for each slice, or for a case: all its stored slices"
)
_TRIAL_TEMPERATURE = "none, stored (with the run) or given"
_ITEM = {
    "case_id": "image, volume, or case of the slices",
    "slice_index": "of a slice, along the axial axis of the file; empty else",
    "score_over": "what one score is computed over: image, slice, or volume; of a slice store a volume is a case's "
    "stored slices, which need not be all that the scan has",
}

PAPER_TABLES: dict[str, tuple[Column, ...]] = {
    "items.csv": declare({
        **_ITEM,
        "decoder": _TRIAL_DECODER,
        "pixel_accuracy": "share of the annotated pixels whose class is right",
        "num_classes": "classes that the two means are over",
        "miou": "mean IoU over the classes that count: those in its label, of slices and volumes without the "
        "background (a single foreground class always, 1 where it is in neither map)",
        "mdice": "mean Dice likewise",
        "num_voxels": "annotated pixels or voxels",
        "num_void": "those that nobody annotated; in no score",
        "seconds": "time to decode the image or the whole case, without prediction; empty for a slice",
    }),
    "classes.csv": declare({
        **_ITEM,
        "decoder": _TRIAL_DECODER,
        "label": "class number",
        "label_name": "its name",
        "counted": "whether the means of items.csv count it; only classes in either map are listed",
        **COUNTS,
        "iou": "IoU of the class",
        "dice": "Dice of the class",
    }),
    "probabilities.csv": declare({
        **_ITEM,
        "temperature": _TRIAL_TEMPERATURE,
        "num_voxels": "pixels judged: annotated ones",
        "ece": "expected calibration error of the most probable class, 15 bins",
        "class_ece": "class-wise calibration error (textbook: right where the label is the class), mean over classes",
        "brier": "Brier score, summed over classes",
        "nll": "negative log-likelihood in nats per pixel",
    }),
    "test_summary.csv": declare({
        "score_over": _ITEM["score_over"],
        "decoder": f"{_TRIAL_DECODER}; empty for calibration, which decoders share",
        "temperature": f"{_TRIAL_TEMPERATURE}; of the probabilities that were decoded or judged",
        "score": "miou_i, miou_c, miou_d (mdice_ likewise): classes of an image first, images of a class first, or all "
        "pixels pooled; miou_worst5 the mean over the 5 % worst images or cases, miou_worst_mean the mean of those "
        "over the 10, 20 to 100 % worst; pixel_accuracy, ece, class_ece, brier and nll of the pooled pixels; ece_image "
        "the mean over images. Slices: the slices of a case first, then cases",
        "value": "its value, a fraction",
        "low": "95 % percentile interval (bootstrap of images, or of patients, 2,000 resamples, seed 0); empty below 6",
        "high": "its upper end",
        "difference": "value minus argmax's; empty for argmax",
        "difference_low": "95 % interval of the difference, the same resamples for both",
        "difference_high": "its upper end",
        "interval": "how the difference's interval is made: bca for miou_i and mdice_i, percentile else",
        "num_images": "images or slices with a value (form I)",
        "num_images_left_out": "those without: nothing annotated, or no class that counts",
        "num_cases": "cases that means over cases average",
        "num_cases_left_out": "cases without a value",
        "num_classes": "classes that forms C and D average",
        "num_classes_left_out": "classes that no image counts (C), or in neither map of any image (D)",
        "num_patients": "images or patients that are resampled",
        # Calibration has no decoder and is no mean over classes; argmax has no difference to itself.
    }, optional=(
        "decoder", "difference", "difference_low", "difference_high", "interval", "num_images", "num_images_left_out",
        "num_classes", "num_classes_left_out",
    )),
    "reproduce.csv": declare({
        "row": "row of the paper's tables, as configs/reproduce.yaml names it",
        "folds": "folds whose cases are averaged as one data set; empty where the parts are official",
        "quantity": "argmax, rma, or difference: rma minus argmax",
        "score_over": _ITEM["score_over"],
        "score": "as in test_summary.csv",
        "value": "our value, a fraction",
        "low": "95 % interval, as in test_summary.csv",
        "high": "its upper end",
        "published": "the paper's value; empty for single folds",
        "from_published": "value minus published",
        "num_images": "images or slices with a value",
        "num_images_left_out": "those without",
        "num_images_expected": "images or slices in these folds of the complete data set; empty when not known",
        "num_cases": "cases or images that the mean is over",
    }),
}  # fmt: skip
