"""The RMA objectives: the value of a mask, the cutoff that a value implies, and what one more voxel is worth.

Within one unit (image, slice, volume) a class has the mass ``mu = sum(probs)``. A mask that selects ``count`` voxels
whose probabilities add up to ``total`` has the value ``(2 S + g) / (tau + mu + 1 + g)`` (Dice) or
``(S + g) / (tau + mu - S + g)`` (IoU), where tau is the count, S the total and g the smoothing.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
METRICS = ("dice", "iou")


@dataclass(frozen=True)
class Gain:
    """What adding a voxel of probability p to a class's mask adds to its value: ``(a p - b) / (d - e p)``.

    All fields have the shape (unit, class).
    """

    slope: Floats
    offset: Floats
    base: Floats
    shrink: Floats


@dataclass(frozen=True)
class Objective:
    """RMA Dice or IoU with optional smoothing.

    Source:
        Wang and Dai, NeurIPS 2025 (arXiv 2510.15362): the RMA objective and the gain of one voxel. The implied cutoff
        is Dinkelbach's condition for a ratio of sums.
    Example:
        >>> dice = Objective("dice", smooth=0.0)
        >>> float(dice.value(np.array(2), np.array(1.5), np.array(2.0)))
        0.6
        >>> float(dice.cutoff(np.array(0.6)))
        0.3
    """

    metric: str
    smooth: float

    def value(self, count: Counts, total: Floats, mass: Floats) -> Floats:
        """Value of a mask, elementwise; 0 where the class has neither mass, voxels nor smoothing."""
        if self.metric == "dice":
            return (2 * total + self.smooth) / (count + mass + 1 + self.smooth)
        union = count + mass - total + self.smooth
        return np.divide(total + self.smooth, union, out=np.zeros_like(union), where=union > 0)

    def cutoff(self, value: Floats) -> Floats:
        """Probability above which a voxel raises a mask of this value (strictly above, at most one half)."""
        return value / 2 if self.metric == "dice" else value / (1 + value)

    def gain(self, count: Counts, total: Floats, mass: Floats) -> Gain:
        """Gain of one more voxel, in the form that does not subtract nearly equal numbers."""
        ones = np.ones_like(total)
        if self.metric == "dice":
            denominator = count + mass + 1 + self.smooth
            return Gain(2 * ones, (2 * total + self.smooth) / denominator, denominator + 1, 0 * ones)
        denominator = count + mass - total + self.smooth
        ratio = np.divide(total + self.smooth, denominator, out=np.zeros_like(ones), where=denominator > 0)
        return Gain(1 + ratio, ratio, denominator + 1, ones)
