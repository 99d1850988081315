"""Inference of 2D networks as the paper tests them: sliding window, several scales, mirrored images."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.inferers import Inferer, sliding_window_inference
from torch.nn.functional import interpolate

from rankseg_rma.checks import require_number, wrong


class MultiScaleInferer(Inferer):
    """Average of the probabilities over windows, scales and mirror images.

    Args:
        roi_size: (height, width) of the window, as in training; a smaller image is padded.
        ratios: scales of the image; probabilities come back to the image's own size.
        flip: add the mirror image of each scale.
        stride_rate: step between windows over their size, in (0, 1].
        fill: value of the padding.
        sw_batch_size: windows at a time.
        multilabel: classes may overlap: each is a sigmoid, as is a single class.
    Raises:
        ValueError: a ratio is not positive, or the stride is not in (0, 1].
    """

    def __init__(
        self,
        roi_size: Sequence[int],
        ratios: Sequence[float] = (1.0,),
        flip: bool = False,
        stride_rate: float = 0.6667,
        fill: float = 0.0,
        sw_batch_size: int = 4,
        multilabel: bool = False,
    ) -> None:
        super().__init__()
        if not ratios or min(ratios) <= 0:
            raise ValueError(wrong("MultiScaleInferer", "ratios", "positive numbers", list(ratios)))
        self.stride_rate = require_number("MultiScaleInferer", "stride_rate", stride_rate, 0.01, 1)
        self.roi_size, self.ratios, self.flip = tuple(roi_size), tuple(ratios), flip
        self.fill, self.sw_batch_size, self.multilabel = fill, sw_batch_size, multilabel

    def __call__(self, inputs: torch.Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> torch.Tensor:
        """Log of the averaged probabilities (batch, class, H, W), so that a softmax gives the average itself.

        Where classes stand by themselves it is the logit, so that a sigmoid does.
        """
        views = [(ratio, mirror) for ratio in self.ratios for mirror in ((False, True) if self.flip else (False,))]
        total = sum(self._probs_of(inputs, network, ratio, mirror) for ratio, mirror in views)
        mean = total / len(views)
        # Finite also for a probability of 0; behind the softmax, 1e-30 is as good as 0.
        logits: torch.Tensor = mean.logit() if self._alone(mean) else mean.clamp_min(1e-30).log()
        return logits

    def _alone(self, maps: torch.Tensor) -> bool:
        return self.multilabel or maps.shape[1] == 1

    def _activate(self, logits: torch.Tensor) -> torch.Tensor:
        return logits.float().sigmoid() if self._alone(logits) else logits.float().softmax(dim=1)

    def _probs_of(self, inputs: torch.Tensor, network: Callable[..., Any], ratio: float, mirror: bool) -> Any:
        size = tuple(inputs.shape[2:])
        scaled = tuple(max(1, round(length * ratio)) for length in size)
        image = inputs if scaled == size else _resize(inputs, scaled)
        probs: Any = sliding_window_inference(
            image.flip(-1) if mirror else image, self.roi_size, self.sw_batch_size,
            # Before the windows are averaged: a mean of logits is another thing than one of probabilities.
            lambda window: self._activate(network(window)),
            overlap=1 - self.stride_rate, mode="constant", padding_mode="constant", cval=self.fill,
        )  # fmt: skip
        probs = probs.flip(-1) if mirror else probs
        return probs if scaled == size else _resize(probs, size)


def _resize(images: Any, size: tuple[int, ...]) -> Any:
    # Edges, not pixel centres, lie on each other, as in `resize_image`.
    return interpolate(images, size, mode="bilinear", align_corners=False)


def resize_probs(probs: Any, size: tuple[int, ...]) -> Any:
    """Probabilities (class, H, W) on another grid of the same field of view; they still add up to 1.

    Args:
        probs: torch tensor.
        size: (height, width) wanted.
    """
    return probs if tuple(probs.shape[1:]) == tuple(size) else _resize(probs[None], tuple(size))[0]
