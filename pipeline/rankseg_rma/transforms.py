"""MONAI transforms: RMA decoding in the place of AsDiscrete(argmax=True), and temperature scaling of probabilities."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor, get_track_meta
from monai.networks import one_hot
from monai.transforms import MapTransform, Transform
from monai.utils import (
    TransformBackends,
    convert_to_dst_type,
    convert_to_tensor,
    ensure_tuple_rep,
    get_equivalent_dtype,
)

from rankseg_rma.checks import require_number, wrong
from rankseg_rma.decoder import Decoding, RMADecoder
from rankseg_rma.decoder.solver import largest_label
from rankseg_rma.decoder.sums import require_sums
from rankseg_rma.decoder.temperature import TEMPERATURE_RANGE, scale_probabilities
from rankseg_rma.decoder.untraced import untraced
from rankseg_rma.grid import find_slice_axis

_NEUTRAL = {"dim": 0, "keepdim": True, "threshold": None, "rounding": None}
_LABEL_DTYPES = (torch.uint8, torch.int16, torch.int32)
SUMMARY_FIELDS = ("cutoff", "num_selected", "mass", "value")


def require_exact(function: str, dtype: Any, largest: int) -> None:
    """Refuse an output dtype that cannot hold every label up to ``largest``.

    Args:
        function: who asks, for the message.
        dtype: as MONAI takes it, of torch or numpy; None is not known yet.
        largest: largest label.
    Raises:
        ValueError: names the smallest dtype that fits.
    """
    if dtype is None or _largest_exact(dtype) >= largest:
        return
    fitting = next(str(one) for one in _LABEL_DTYPES if _largest_exact(one) >= largest)
    raise ValueError(wrong(function, "dtype", f"one that holds the labels 0 to {largest}, as {fitting}", dtype))


def _largest_exact(dtype: Any) -> int:
    """Largest whole number up to which a dtype of torch or numpy holds all."""
    one = get_equivalent_dtype(dtype, torch.Tensor)  # type: ignore[no-untyped-call]
    if one == torch.bool:
        return 1
    # A float of precision eps holds whole numbers up to 2 / eps.
    return int(2 / torch.finfo(one).eps) if one.is_floating_point else int(torch.iinfo(one).max)


class AsDiscreteRMA(Transform):
    """Decode probabilities for Dice or IoU; a drop-in for ``AsDiscrete(argmax=True)``.

    Args:
        argmax: accepted and ignored, so that a config can change ``_target_`` alone; so are AsDiscrete's ``dim=0``,
            ``keepdim=True``, ``threshold=None`` and ``rounding=None``.
        to_onehot: number of channels of a one-hot output, at least one for each class; default: one channel of labels.
        softmax: the input is logits: apply softmax first.
        sigmoid: the input is logits: apply sigmoid first.
        multilabel: classes may overlap: output one mask per class. Without it the classes must add up to 1.
        metric: "dice" or "iou", the score to maximise.
        unit: "volume" ("image") or "slice": what one score is computed over.
        slice_axis: "axial", "coronal" or "sagittal", found from the affine (RAS order where there is none), or an axis
            of the spatial shape.
        pruning_prob: a class whose largest probability is not above this selects nothing.
        unassigned: "max_score", "background" or "void", for voxels above no cutoff.
        dtype: output dtype, which must hold every label; default float32, as AsDiscrete.
        void_index: label that "void" writes.
        smooth: smoothing of the score.
        backend: "auto", "numba" or "torch".
        asdiscrete: other keywords of AsDiscrete, at the values above; anything else is refused.

    Raises:
        ValueError, TypeError: as `RMADecoder`; also softmax and sigmoid together, labels that ``dtype`` or
            ``to_onehot`` cannot hold, and classes that do not add up to 1 without ``multilabel``.
    Example:
        >>> AsDiscreteRMA(pruning_prob=0.3)(torch.tensor([[0.55, 0.9, 0.6], [0.45, 0.1, 0.4]])).tolist()
        [[1.0, 0.0, 1.0]]
    """

    backend = [TransformBackends.TORCH]  # noqa: RUF012 - as MONAI's transforms declare it

    @untraced
    def __init__(
        self,
        argmax: Any = None,
        to_onehot: int | None = None,
        *,
        softmax: bool = False,
        sigmoid: bool = False,
        multilabel: bool = False,
        metric: str = "dice",
        unit: str = "volume",
        slice_axis: str | int = "axial",
        pruning_prob: float = 0.5,
        unassigned: str = "max_score",
        dtype: Any = torch.float,
        void_index: int = 255,
        smooth: float = 0.0,
        backend: str = "auto",
        **asdiscrete: Any,
    ) -> None:
        for name, value in asdiscrete.items():
            if name not in _NEUTRAL:
                raise TypeError(wrong("AsDiscreteRMA", "keywords", "those of its documentation", repr(name)))
            if value != _NEUTRAL[name]:
                raise ValueError(wrong("AsDiscreteRMA", name, repr(_NEUTRAL[name]), repr(value)))
        if softmax and sigmoid:
            raise ValueError(wrong("AsDiscreteRMA", "softmax and sigmoid", "not both true", "both true"))
        if isinstance(to_onehot, bool) or not isinstance(to_onehot, int | None):
            raise ValueError(wrong("AsDiscreteRMA", "to_onehot", "a number of classes or None", repr(to_onehot)))
        self.to_onehot, self.softmax, self.sigmoid, self.dtype = to_onehot, softmax, sigmoid, dtype
        self.slice_axis = slice_axis
        self.options: dict[str, Any] = {
            "metric": metric, "unit": unit, "multilabel": multilabel, "pruning_prob": pruning_prob,
            "unassigned": unassigned, "void_index": void_index, "smooth": smooth, "backend": backend,
        }  # fmt: skip
        # Built and thrown away, so that a wrong option is an error here and not at the first image.
        RMADecoder(**self.options)
        find_slice_axis(None, slice_axis)
        self._require_room(1)

    @untraced
    def decode(self, img: Any) -> tuple[torch.Tensor, Decoding]:
        """Decode and return the discrete image with the decoder's findings; see ``__call__``."""
        img = convert_to_tensor(img, track_meta=get_track_meta())
        probs = img.as_subclass(torch.Tensor) if isinstance(img, torch.Tensor) else img
        if self.softmax:
            # In float32: half precision has steps of 0.0005 below 1.
            probs = torch.softmax(probs.float(), dim=0)
        if self.sigmoid:
            probs = torch.sigmoid(probs.float())
        self._require_room(len(probs), probs.dtype)
        axis = -1
        if self.options["unit"] == "slice":
            affine = img.affine.cpu().numpy() if isinstance(img, MetaTensor) else None
            axis = find_slice_axis(affine, self.slice_axis, probs.ndim - 1)
        decoding = RMADecoder(slice_axis=axis, **self.options)(probs)
        # After the decoder, which has words of its own for NaN, ranges and shapes.
        if not self.options["multilabel"]:
            require_sums("AsDiscreteRMA", "img", probs)
        labels = decoding.labels if self.options["multilabel"] else decoding.labels[None]
        if self.to_onehot is not None and not self.options["multilabel"]:
            labels = self._onehot(labels, self.to_onehot)
        return convert_to_dst_type(labels.contiguous(), img, dtype=self.dtype)[0], decoding

    def _require_room(self, num_classes: int, given: Any = None) -> None:
        """Refuse a dtype or a number of channels that the labels do not fit; without one the ``given`` dtype stays."""
        if self.options["multilabel"]:
            return
        largest = largest_label(num_classes, self.options["unassigned"], self.options["void_index"])
        if self.to_onehot is None:
            require_exact("AsDiscreteRMA", given if self.dtype is None else self.dtype, largest)
        elif self.to_onehot < max(num_classes, 2):
            expected = f"at least {max(num_classes, 2)}, the number of classes"
            raise ValueError(wrong("AsDiscreteRMA", "to_onehot", expected, self.to_onehot))

    def _onehot(self, labels: torch.Tensor, num_classes: int) -> torch.Tensor:
        """One channel per class; a void voxel is in none of them."""
        void = labels == self.options["void_index"] if self.options["unassigned"] == "void" else None
        # `one_hot` takes no label beyond the classes: void goes to class 0 and is taken out again.
        inside = labels if void is None else torch.where(void, 0, labels)
        hot = one_hot(inside.long(), num_classes=num_classes, dim=0, dtype=torch.bool)
        return hot if void is None else hot & ~void

    @untraced
    def __call__(self, img: Any) -> torch.Tensor:
        """Decode one item.

        Args:
            img: (class, *spatial) probabilities, or logits with softmax / sigmoid; a MetaTensor keeps its meta data.
        Returns:
            (1, *spatial) labels, (to_onehot, *spatial) one-hot, or (class, *spatial) masks when multilabel.
        """
        return self.decode(img)[0]


class AsDiscreteRMAd(MapTransform):
    """Dictionary twin of `AsDiscreteRMA`, a drop-in for ``AsDiscreted(argmax=True)``.

    Args:
        keys: items to decode.
        argmax: as for AsDiscreted, one or one per key. A key whose entry is False beside a True one, as in
            ``argmax=[True, False]`` for prediction and label, is not decoded, only turned to one-hot where asked.
            Otherwise ignored: every key is decoded.
        to_onehot, softmax, sigmoid, multilabel: one, or one per key.
        keep_summary: leave cutoff, num_selected, mass and value in the item, under ``<key>_rma``.
        allow_missing_keys: do not raise when a key is missing.
        options: further arguments of `AsDiscreteRMA`.
    """

    backend = AsDiscreteRMA.backend

    @untraced
    def __init__(
        self,
        keys: KeysCollection,
        argmax: Sequence[bool] | bool | None = None,
        to_onehot: Sequence[int | None] | int | None = None,
        *,
        softmax: Sequence[bool] | bool = False,
        sigmoid: Sequence[bool] | bool = False,
        multilabel: Sequence[bool] | bool = False,
        keep_summary: bool = False,
        allow_missing_keys: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        size = len(self.keys)
        several = isinstance(argmax, Sequence) and any(argmax)
        self.decoded = ensure_tuple_rep(argmax if several else True, size)
        self.keep_summary = keep_summary
        per_key = [ensure_tuple_rep(value, size) for value in (to_onehot, softmax, sigmoid, multilabel)]
        per_key += [ensure_tuple_rep(value, size) for value in options.values()]
        names = ("to_onehot", "softmax", "sigmoid", "multilabel", *options)
        self.converters = [
            AsDiscreteRMA(**dict(zip(names, values, strict=True))) for values in zip(*per_key, strict=True)
        ]

    @untraced
    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key, decoded, converter in self.key_iterator(d, self.decoded, self.converters):
            if not decoded:
                plain = convert_to_tensor(d[key], track_meta=get_track_meta())
                if converter.to_onehot is not None:
                    hot = one_hot(plain.as_subclass(torch.Tensor), num_classes=converter.to_onehot, dim=0)
                else:
                    hot = plain
                if not bool(torch.isfinite(hot).all()):
                    raise ValueError(
                        wrong("AsDiscreteRMAd", str(key), "labels, as it is not decoded", "NaN or infinite")
                    )
                if hot.numel():
                    require_exact("AsDiscreteRMAd", converter.dtype, int(hot.max()))
                d[key] = convert_to_dst_type(hot, plain, dtype=converter.dtype)[0]
                continue
            d[key], decoding = converter.decode(d[key])
            if self.keep_summary:
                d[f"{key}_rma"] = {name: getattr(decoding, name) for name in SUMMARY_FIELDS}
        return d


class ScaleTemperature(Transform):
    """Scale the confidence of probabilities: ``p ** (1 / T)``, renormalised; equal to softmax(logits / T).

    T > 1 softens, T < 1 sharpens. The order of the classes, so argmax, stays as it is. RMA believes the probabilities;
    this is where a temperature fitted on validation cases enters.

    Args:
        temperature: T, in [0.05, 20]; 1 or None changes nothing.
        multilabel: classes may overlap, as sigmoid gives them: each is scaled by itself, sigmoid(logit / T).

    Raises:
        ValueError: no probabilities, or classes that do not add up to 1 without ``multilabel``.
    Source:
        Guo et al., On Calibration of Modern Neural Networks, ICML 2017.
    Example:
        >>> ScaleTemperature(0.5)(torch.tensor([[0.75], [0.25]], dtype=torch.float64)).round(decimals=6).tolist()
        [[0.9], [0.1]]
    """

    backend = [TransformBackends.TORCH]  # noqa: RUF012 - as MONAI's transforms declare it

    def __init__(self, temperature: float | None, multilabel: bool = False) -> None:
        self.multilabel = multilabel
        given = 1.0 if temperature is None else temperature
        self.temperature = require_number("ScaleTemperature", "temperature", given, *TEMPERATURE_RANGE)

    @untraced
    def __call__(self, img: Any) -> torch.Tensor:
        """Return (class, *spatial) probabilities; a single class is paired with its complement, zeros stay zeros."""
        held: torch.Tensor = convert_to_tensor(img, track_meta=get_track_meta())
        if self.temperature == 1.0:
            return held
        probs = held.as_subclass(torch.Tensor)
        scaled = scale_probabilities(probs, self.temperature, multilabel=self.multilabel, function="ScaleTemperature")
        found: torch.Tensor = convert_to_dst_type(scaled, held)[0]
        return found


class ScaleTemperatured(MapTransform):
    """Dictionary twin of `ScaleTemperature`: put it before `AsDiscreteRMAd`."""

    backend = ScaleTemperature.backend

    def __init__(
        self,
        keys: KeysCollection,
        temperature: float | None,
        allow_missing_keys: bool = False,
        multilabel: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.converter = ScaleTemperature(temperature, multilabel)

    @untraced
    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.converter(d[key])
        return d


AsDiscreteRMAD = AsDiscreteRMADict = AsDiscreteRMAd
ScaleTemperatureD = ScaleTemperatureDict = ScaleTemperatured
