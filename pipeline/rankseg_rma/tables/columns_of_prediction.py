"""The data dictionary of predictions."""

from rankseg_rma.tables.columns import Column, declare

_SCORES = ("expected_score_argmax", "expected_score_rma", "expected_gain")

# Columns of a decoder that was not asked for are empty.
PREDICTION_TABLES: dict[str, tuple[Column, ...]] = {
    "inference.csv": declare({
        "case_id": "case: file name without suffix",
        "label": "label number",
        "label_name": "its name",
        "metric": "score that RMA was told to maximise",
        "score_over": "what one score is computed over: volume or slice",
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
    }, optional=(*_SCORES, "volume_argmax_ml", "volume_rma_ml")),
    "inference_images.csv": declare({
        "case_id": "image: file name without suffix",
        "class": "class index; class_name is its name",
        "class_name": "its name",
        "metric": "score that RMA was told to maximise",
        "score_over": "what one score is computed over: image",
        "expected_pixels": "sum of the probabilities",
        **{f"pixels_{name}": f"pixels of {name}'s mask" for name in ("argmax", "rma")},
        **{f"expected_score_{name}": f"score implied for {name}'s mask" for name in ("argmax", "rma")},
        "expected_gain": "rma's expected score minus argmax's",
        "temperature": "temperature of the probabilities that RMA and the expected scores saw; 1 is none",
        "temperature_source": "stored (with the model), given or none",
        "seconds": "time for the image",
        "peak_memory_bytes": "peak resident memory during the image",
    }, optional=(*_SCORES, "pixels_argmax", "pixels_rma")),
}  # fmt: skip
