"""From an image to probabilities on its own grid."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from rankseg_rma.bundles.open import Bundle
from rankseg_rma.checks import DatasetError, wrong
from rankseg_rma.datasets.card_kinds import Card
from rankseg_rma.datasets.datalist import read_tested
from rankseg_rma.files.finite import require_finite, require_finite_volume
from rankseg_rma.files.labels import read_labels
from rankseg_rma.files.names import case_id_of
from rankseg_rma.files.probabilities import Probabilities
from rankseg_rma.files.volumes import Volume, read_grid, read_volume, write_volume
from rankseg_rma.grid import Grid, require_same_grid, same_grid
from rankseg_rma.prediction.multiscale import resize_probs


def predict_probabilities(bundle: Bundle, image: str | Path, *channels: Path) -> Probabilities:
    """Preprocess, run the sliding window, and bring the probabilities back onto the volume's own grid.

    Args:
        bundle: opened bundle of a 3D network, or of a 2D network for axial slices, which are stacked.
        image: path of the volume, or of its first channel.
        channels: paths of further channels that are files of their own, for a 3D network.
    Returns:
        Probabilities whose spatial shape and affine are the volume's.
    Raises:
        ValueError: voxels are NaN or infinite, what comes back does not lie on the volume's grid (a transform cannot
            be inverted), or the bundle is one for photographs.
    """
    if bundle.kind == "image":
        expected = "one for volumes; this one is for photographs"
        raise ValueError(wrong("predict_probabilities", "bundle", expected, bundle.root, path=image))
    if bundle.kind == "slices":
        return _predict_slices(bundle, image)
    return _predict_volume(bundle, [Path(image), *channels])


def _predict_volume(bundle: Bundle, channels: Sequence[Path]) -> Probabilities:
    from monai.transforms import Invertd
    from monai.utils import convert_to_dst_type

    for path in channels:
        require_finite_volume("predict_probabilities", path)
    image = channels[0]
    grid = read_grid(image)
    _require_channels(bundle, grid.num_channels if len(channels) == 1 else len(channels), image)
    with _as_nifti(channels, grid) as readable:
        item = bundle.preprocessing({"image": str(readable)})
    with torch.inference_mode(), torch.autocast(bundle.device.type, enabled=bundle.device.type == "cuda"):
        logits = bundle.inferer(item["image"].as_subclass(torch.Tensor)[None], bundle.network)[0]
    item["pred"] = convert_to_dst_type(_activate(bundle, logits), item["image"])[0]
    # The inversion needs room for probabilities on two grids.
    del logits
    # Linear: by default MONAI inverts with the nearest neighbour, which leaves steps in probabilities.
    invert = Invertd("pred", bundle.preprocessing, orig_keys="image", nearest_interp=False, to_tensor=True)
    pred = invert(item)["pred"]
    fault = same_grid(pred.shape[1:], pred.affine.numpy(), grid.shape, grid.affine)
    if fault:
        expected = "on the image's own grid after inversion"
        raise ValueError(wrong("predict_probabilities", "probabilities", expected, fault, path=image))
    # Interpolation may leave [0, 1] by rounding.
    probs = pred.as_subclass(torch.Tensor).float().clamp_(0, 1)
    if len(probs) > 1 and not bundle.multilabel:
        # Resampling at the edge of a crop mixes probabilities with its zeros; voxels of zeros alone stay so.
        total = probs.sum(dim=0, keepdim=True)
        probs /= torch.where(total > 0, total, 1)
    return Probabilities(probs, grid.affine, grid.header, bundle.multilabel)


def _predict_slices(bundle: Bundle, image: str | Path) -> Probabilities:
    """Every axial slice by itself, as the slice store presents them; then stacked on the volume's own grid."""
    from rankseg_rma.datasets.axial import from_axial, resize_image, to_axial

    volume = read_volume(image)
    require_finite("predict_probabilities", volume.array, image)
    _require_channels(bundle, 1 if volume.array.ndim == 3 else len(volume.array), image)
    stack = to_axial(volume.array, volume.affine).astype(np.float32)  # (slice, row, column)
    probs = None
    for place, plane in enumerate(stack):
        found = predict_image(bundle, resize_image(plane, bundle.slice_size)[None])
        found = resize_probs(found, plane.shape)
        if probs is None:
            # Filled in place: a list of slices would be copied once more to be stacked.
            probs = torch.empty((len(found), *stack.shape), dtype=torch.float32)
        probs[:, place] = found
    assert probs is not None
    return Probabilities(from_axial(probs, volume.affine), volume.affine, volume.header, bundle.multilabel)


def _activate(bundle: Bundle, logits: Any) -> Any:
    """Probabilities of logits (class, *spatial): a sigmoid each where classes may overlap or there is only one."""
    alone = bundle.multilabel or len(logits) == 1
    # In float32: half precision, as autocast gives it, has steps of 0.0005 below 1.
    return logits.float().sigmoid() if alone else logits.float().softmax(dim=0)


def _require_channels(bundle: Bundle, num_channels: int, path: str | Path) -> None:
    wanted = 1 if bundle.kind == "slices" else bundle.in_channels
    if wanted is not None and num_channels != wanted:
        expected = f"of {wanted} channel{'' if wanted == 1 else 's'}, as the bundle takes"
        raise ValueError(wrong("predict_probabilities", "image", expected, num_channels, path=path))


def predict_image(bundle: Bundle, image: Any) -> Any:
    """Probabilities of one photograph or axial slice.

    Args:
        bundle: opened bundle of a 2D network.
        image: (channel, H, W) as stored: RGB 0 to 255, or intensities such as HU; numpy array or tensor.
    Returns:
        (class, H, W) float32 tensor on the CPU, summing to 1 over classes unless they may overlap.
    Raises:
        ValueError: pixels are NaN or infinite.
    """
    require_finite("predict_image", image)
    # A flipped view has negative strides, which torch does not take.
    tensor = torch.as_tensor(np.ascontiguousarray(image), dtype=torch.float32)
    ready = bundle.preprocessing({"image": tensor})["image"]
    ready = torch.as_tensor(ready, dtype=torch.float32).as_subclass(torch.Tensor).to(bundle.device)
    with torch.inference_mode(), torch.autocast(bundle.device.type, enabled=bundle.device.type == "cuda"):
        logits = bundle.inferer(ready[None], bundle.network)[0]
    return _activate(bundle, logits).clamp_(0, 1).cpu()


def predict_entry(bundle: Bundle, entry: Mapping[str, Any], card: Card | None) -> tuple[Any, Any]:
    """Probabilities and reference of an entry of a data list, on the reference's grid.

    Args:
        bundle: opened bundle.
        entry: paths "image" and "label"; see `datalist.read_tested`.
        card: of the data set; not needed for volumes.
    Returns:
        (class, *spatial) float32 tensor and (*spatial) integers, 255 where nothing is annotated in 2D.
    """
    if bundle.kind == "volume":
        return predict_probabilities(bundle, entry["image"]).probs, read_labels(entry["label"]).array
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
def _as_nifti(channels: Sequence[Path], grid: Grid) -> Iterator[Path]:
    """One NIfTI file in millimetres: a copy where channels are files of their own, or a file says it otherwise.

    A bundle reads the file by itself: MONAI knows no other unit, and without the large itk package no other format.
    """
    path = channels[0]
    if len(channels) == 1 and not grid.is_converted:
        yield path
        return
    volume = read_volume(path) if len(channels) == 1 else _stack(channels)
    with TemporaryDirectory() as folder:
        # Not packed: it is read once and thrown away.
        copy = Path(folder) / f"{case_id_of(path)}.nii"
        write_volume(copy, volume.array, volume.affine)
        yield copy


def _stack(channels: Sequence[Path]) -> Volume:
    """Volume (channel, *spatial) of files with a channel each.

    Raises:
        ValueError: a file has channels of its own, or they do not lie on one grid.
    """
    volumes = [read_volume(path) for path in channels]
    for path, volume in zip(channels, volumes, strict=True):
        if volume.array.ndim != 3:
            raise ValueError(wrong("predict_probabilities", "channel", "of 3 axes", volume.array.shape, path=path))
        advice = f"Its first channel is {channels[0]}."
        require_same_grid(
            "predict_probabilities", "channel", volume.array.shape, volume.affine, volumes[0], path, advice
        )
    return Volume(np.stack([volume.array for volume in volumes]), volumes[0].affine)
