"""From an image to probabilities on its own grid, and from probabilities to masks with their expected scores."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from rankseg_rma.bundles import Bundle
from rankseg_rma.checks import DatasetError, wrong
from rankseg_rma.decoder import RMADecoder, expected_score
from rankseg_rma.multiscale import resize_probs
from rankseg_rma.probabilities import Probabilities
from rankseg_rma.samples import read_tested
from rankseg_rma.transforms import ScaleTemperature
from rankseg_rma.volumes import (
    NIFTI_SUFFIXES,
    case_id_of,
    find_slice_axis,
    read_grid,
    read_volume,
    same_grid,
    voxel_volume_ml,
    write_volume,
)


@dataclass(frozen=True)
class DecodeOptions:
    """How probabilities become masks; see `RMADecoder`. ``temperature`` None means 1."""

    metric: str = "dice"
    unit: str = "volume"
    slice_axis: str | int = "axial"
    pruning_prob: float = 0.5
    unassigned: str = "max_score"
    temperature: float | None = None


def predict_probabilities(bundle: Bundle, image: str | Path) -> Probabilities:
    """Preprocess, run the sliding window, and bring softmax probabilities back onto the volume's own grid.

    Args:
        bundle: opened bundle of a 3D network, or of a 2D network for axial slices, which are stacked.
        image: path of the volume.
    Returns:
        Probabilities whose spatial shape and affine are the volume's.
    Raises:
        ValueError: what comes back does not lie on the volume's grid (a transform cannot be inverted), or the bundle
            is one for photographs.
    """
    if bundle.kind == "image":
        expected = "one for volumes; this one is for photographs"
        raise ValueError(wrong("predict_probabilities", "bundle", expected, bundle.root, path=image))
    return _predict_slices(bundle, image) if bundle.kind == "slices" else _predict_volume(bundle, image)


def _predict_volume(bundle: Bundle, image: str | Path) -> Probabilities:
    from monai.transforms import Invertd
    from monai.utils import convert_to_dst_type

    grid = read_grid(image)
    with _as_nifti(Path(image)) as readable:
        item = bundle.preprocessing({"image": str(readable)})
    with torch.inference_mode(), torch.autocast(bundle.device.type, enabled=bundle.device.type == "cuda"):
        logits = bundle.inferer(item["image"].as_subclass(torch.Tensor)[None], bundle.network)[0]
    item["pred"] = convert_to_dst_type(logits.float().softmax(dim=0), item["image"])[0]
    del logits
    invert = Invertd("pred", bundle.preprocessing, orig_keys="image", nearest_interp=False, to_tensor=True)
    pred = invert(item)["pred"]
    fault = same_grid(pred.shape[1:], pred.affine.numpy(), grid.shape, grid.affine)
    if fault:
        expected = "on the image's own grid after inversion"
        raise ValueError(wrong("predict_probabilities", "probabilities", expected, fault, path=image))
    probs = pred.as_subclass(torch.Tensor).float().clamp_(0, 1)
    if len(probs) > 1:
        # Resampling at the edge of a crop mixes probabilities with its zeros; voxels of zeros alone stay so.
        total = probs.sum(dim=0, keepdim=True)
        probs /= torch.where(total > 0, total, 1)
    return Probabilities(probs, grid.affine, grid.header)


def _predict_slices(bundle: Bundle, image: str | Path) -> Probabilities:
    """Every axial slice by itself, as the slice store presents them; then stacked on the volume's own grid."""
    from rankseg_rma.datasets.slices import from_axial, resize_image, to_axial

    volume = read_volume(image)
    if volume.array.ndim != 3:
        raise ValueError(wrong("predict_probabilities", "volume", "of 3 axes", volume.array.shape, path=image))
    stack = to_axial(volume.array, volume.affine).astype(np.float32)  # (slice, row, column)
    probs = None
    for place, plane in enumerate(stack):
        found = predict_image(bundle, resize_image(plane, bundle.slice_size)[None])
        found = resize_probs(found, plane.shape)
        if probs is None:
            probs = torch.empty((len(found), *stack.shape), dtype=torch.float32)
        probs[:, place] = found
    assert probs is not None
    return Probabilities(from_axial(probs, volume.affine), volume.affine, volume.header)


def predict_image(bundle: Bundle, image: Any) -> Any:
    """Probabilities of one photograph or axial slice.

    Args:
        bundle: opened bundle of a 2D network.
        image: (channel, H, W) as stored: RGB 0 to 255, or intensities such as HU; numpy array or tensor.
    Returns:
        (class, H, W) float32 tensor on the CPU, summing to 1 over classes.
    """
    tensor = torch.as_tensor(np.ascontiguousarray(image), dtype=torch.float32)
    ready = bundle.preprocessing({"image": tensor})["image"]
    ready = torch.as_tensor(ready, dtype=torch.float32).as_subclass(torch.Tensor).to(bundle.device)
    with torch.inference_mode(), torch.autocast(bundle.device.type, enabled=bundle.device.type == "cuda"):
        logits = bundle.inferer(ready[None], bundle.network)[0]
    return logits.float().softmax(dim=0).clamp_(0, 1).cpu()


def predict_entry(bundle: Bundle, entry: Mapping[str, Any], card: Any) -> tuple[Any, Any]:
    """Probabilities and reference of an entry of a data list, on the reference's grid.

    Args:
        bundle: opened bundle.
        entry: paths "image" and "label"; see `samples.read_tested`.
        card: of the data set; not needed for volumes.
    Returns:
        (class, *spatial) float32 tensor and (*spatial) integers, 255 where nothing is annotated in 2D.
    """
    if bundle.kind == "volume":
        return predict_probabilities(bundle, entry["image"]).probs, read_volume(entry["label"]).array
    image, label = read_tested(entry, card)
    return predict_sample(bundle, image, label, entry["label"]), label


def predict_sample(bundle: Bundle, image: Any, label: Any, path: str | Path) -> Any:
    """Probabilities of an image, bilinearly brought to the size of its label.

    Args:
        bundle: opened bundle of a 2D network.
        image: (channel, H, W) as stored.
        label: (height, width); each side may be a pixel off the image's aspect.
        path: file of the label, for the message.
    Returns:
        (class, height, width) float32 tensor.
    Raises:
        DatasetError: the aspect differs.
    """
    have, wanted = image.shape[1:], label.shape
    # h W = w H, but for a pixel of rounding on either side.
    if abs(have[0] * wanted[1] - have[1] * wanted[0]) > max(sum(have), sum(wanted)):
        expected = f"of the aspect of the image, {have[0]} x {have[1]}"
        raise DatasetError(wrong("test", "label", expected, f"{wanted[0]} x {wanted[1]}", path=path))
    return resize_probs(predict_image(bundle, image), wanted)


@contextmanager
def _as_nifti(path: Path) -> Iterator[Path]:
    """A NIfTI copy of a volume in another format: without the large itk package MONAI reads no other."""
    if path.name.lower().endswith(NIFTI_SUFFIXES):
        yield path
        return
    volume = read_volume(path)
    with TemporaryDirectory() as folder:
        copy = Path(folder) / f"{case_id_of(path)}.nii"
        write_volume(copy, volume.array, volume.affine)
        yield copy


def decode(
    probabilities: Probabilities, decoders: tuple[str, ...], options: DecodeOptions
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Label maps of each decoder, and what each mask is expected to score.

    Args:
        probabilities: native-grid probabilities before temperature.
        decoders: some of "argmax" and "rma".
        options: metric, unit and temperature; the temperature does not touch argmax's mask.
    Returns:
        uint8 (or wider) label maps (*spatial) by decoder, and one row per foreground label: label, mass of its
        probabilities and each decoder's expected score and volume. Scores of both masks are taken under the same,
        scaled probabilities; with unit="slice" they are means over the slices where the class is to be expected.
    """
    probs = ScaleTemperature(options.temperature)(probabilities.probs).as_subclass(torch.Tensor)
    axis = find_slice_axis(probabilities.affine, options.slice_axis) if options.unit == "slice" else -1
    masks, decoding = make_masks(probabilities.probs, probs, decoders, options, axis)
    unit_mass = decoding.mass if decoding else sum_classes(probs, axis if options.unit == "slice" else None)
    voxel_ml = voxel_volume_ml(probabilities.affine)
    mass = unit_mass.reshape(-1, len(probs)).sum(axis=0)
    scores = {
        name: expected_score(probs, mask, options.metric, unit=options.unit, slice_axis=axis)
        for name, mask in masks.items()
    }
    rows = []
    first = 0 if len(probs) == 1 else 1
    for index in range(first, len(probs)):
        label = index + 1 - first
        row: dict[str, Any] = {"label": label, "expected_volume_ml": mass[index] * voxel_ml}
        for name, mask in masks.items():
            score = scores[name]
            if options.unit == "slice":
                score = _mean_over_slices(score, unit_mass)
            row[f"expected_score_{name}"] = float(score[index])
            row[f"volume_{name}_ml"] = np.count_nonzero(mask == label) * voxel_ml
        rows.append(row)
    return masks, rows


def make_masks(
    probs: Any, scaled: Any, decoders: tuple[str, ...], options: DecodeOptions, axis: int
) -> tuple[dict[str, Any], Any]:
    """Label maps (*spatial) of each decoder, uint8 or wider, and RMA's `Decoding`; None without RMA.

    Args:
        probs: (class, *spatial) tensor before temperature, which argmax sees.
        scaled: the same after it, which RMA sees.
        decoders: some of "argmax" and "rma".
        options: metric, unit and rules; their temperature is not looked at.
        axis: spatial axis of the slices, for unit="slice".
    """
    masks, decoding = {}, None
    if "argmax" in decoders:
        masks["argmax"] = argmax_labels(probs).astype(np.uint8 if len(probs) <= 256 else np.int16)
    if "rma" in decoders:
        decoder = RMADecoder(
            metric=options.metric, unit=options.unit, slice_axis=axis, pruning_prob=options.pruning_prob,
            unassigned=options.unassigned,
        )  # fmt: skip
        decoding = decoder(scaled)
        masks["rma"] = decoding.labels.numpy()
    return masks, decoding


def argmax_labels(probs: Any) -> Any:
    """Argmax over classes; a single class is compared with one half. Faster than torch.argmax along axis 0."""
    return (probs[0] > 0.5).numpy() if len(probs) == 1 else torch.max(probs, dim=0).indices.numpy()


def sum_classes(probs: Any, axis: int | None) -> Any:
    """Sum of probabilities (class,), or (slice, class) along an axis of the space, in float64."""
    kept = None if axis is None else 1 + axis % (probs.ndim - 1)
    spatial = tuple(place for place in range(1, probs.ndim) if place != kept)
    return probs.sum(dim=spatial, dtype=torch.float64).numpy().T


def _mean_over_slices(score: Any, mass: Any) -> Any:
    """Mean of (unit, class) scores over the slices whose mass of the class rounds to a voxel: the same for any mask."""
    present = mass >= 0.5
    return np.where(present, score, 0).sum(axis=0) / np.maximum(present.sum(axis=0), 1)
