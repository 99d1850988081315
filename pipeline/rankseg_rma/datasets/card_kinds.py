"""What a dataset card holds, for volumes and for images."""

from dataclasses import dataclass

from rankseg_rma.checks import DatasetError, wrong


@dataclass(frozen=True)
class Intensity:
    """How intensities are brought to the network: a fixed window (CT, in HU) or standardised per image (MRI)."""

    kind: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Splits:
    """How cases are divided; always by group, so that one patient is never on both sides.

    Attributes:
        group: "case" (every case alone) or "pair" (ids 2k - 1 and 2k are one subject).
        test_fraction: share of the groups kept aside for the final table.
        folds: number of folds of the rest; fold K is validation, the others are training.
        seed: seed of the shuffle of groups.
        order: "shuffled", or "number": folds are contiguous blocks by case number, the last takes the rest.
        case_ids: the ids that are divided where a folder lists only some of them (a slice store leaves out cases
            without a kept slice); not an entry of a card.
    """

    group: str
    test_fraction: float
    folds: int
    seed: int
    order: str = "shuffled"
    case_ids: tuple[str, ...] | None = None


@dataclass(frozen=True)
class SliceRule:
    """How a store of 2D slices is made from volumes.

    Attributes:
        labels: stored labels of each class of the store (1, 2, ...); all others are class 0.
        names: names of the classes 1, 2, ...
        keep: "labelled" keeps the axial slices that contain one of these classes, "all" keeps every slice.
        size: (height, width) that other slices are resized to (image linear, label nearest); None leaves them.
        crop_size: (height, width) of the training crop; validation is centre-cropped to it when there is a ``size``.
    """

    labels: dict[int, tuple[int, ...]]
    names: tuple[str, ...]
    keep: str
    size: tuple[int, int] | None
    crop_size: tuple[int, int]


@dataclass(frozen=True)
class DatasetCard:
    """Facts of a data set of volumes.

    Attributes:
        labels: name of each foreground label, by its value; None when the data set's own files tell (msd).
        spacing_mm: voxel size to resample to, in RAS axes; None keeps the native grid.
        roi_size: patch for training and sliding window, in voxels.
        foreground_crop: crop volumes to their body before training.
        num_cases: cases of the complete data set.
        first_unlabelled: case number from which on a case without a label is of the challenge's test, and left out.
        slices: how a store of 2D slices is made; None: not at all.
        num_slices: slices of the complete store.
        fold_slices: slices of the complete store in each fold.
        regions: the challenge's regions and the labels that each unites.
    """

    name: str
    title: str
    task: str
    modality: str | None
    labels: dict[int, str] | None
    spacing_mm: tuple[float, ...] | None
    intensity: Intensity
    roi_size: tuple[int, ...]
    licence: str
    source: str
    layout: str
    splits: Splits
    foreground_crop: bool = False
    num_cases: int | None = None
    first_unlabelled: int | None = None
    slices: SliceRule | None = None
    num_slices: int | None = None
    fold_slices: tuple[int, ...] | None = None
    regions: dict[str, tuple[int, ...]] | None = None

    @property
    def kind(self) -> str:
        """What a case is: a volume."""
        return "volume"

    @property
    def num_channels(self) -> int:
        """Channels of an image: the modality names them, with commas between."""
        return len((self.modality or "image").split(","))


@dataclass(frozen=True)
class ImageCard:
    """Facts of a data set of photographs with one class per pixel.

    Attributes:
        classes: name of each class, by the value stored in the label files. The class index, which is what networks and
            metrics see, is the position in ascending stored value; there is no background.
        void: stored values that mean "not annotated".
        colours: (red, green, blue) by stored value, for labels stored as colours and to paint masks; None: not known.
        crop_size: (height, width) of the training crop.
        mean: of each channel on the scale 0 to 255, for the network; so is ``std``.
        parts: number of images of the complete data set in "training", "validation" and "test".
        prepared_parts: the numbers that differ after ``data prepare``.
    """

    name: str
    title: str
    task: str
    classes: dict[int, str]
    void: tuple[int, ...]
    colours: dict[int, tuple[int, int, int]] | None
    crop_size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    parts: dict[str, int]
    licence: str
    source: str
    layout: str
    modality: str = "RGB"
    prepared_parts: dict[str, int] | None = None

    @property
    def kind(self) -> str:
        """What a case is: an image."""
        return "image"

    @property
    def num_classes(self) -> int:
        """Number of classes; void is none."""
        return len(self.classes)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names by class index."""
        return tuple(self.classes.values())


Card = DatasetCard | ImageCard


def class_names_of(card: Card, kind: str) -> tuple[str, ...]:
    """Names of all classes that a network of a kind tells apart, class 0 too.

    Raises:
        DatasetError: the data set has no such classes: images for a network of volumes, or no rule for slices.
    """
    if isinstance(card, ImageCard) and kind == "image":
        return card.class_names
    if isinstance(card, ImageCard) or kind == "image":
        raise DatasetError(wrong("test", "dataset", f"of the kind of the run, {kind!r}", f"{card.name}, {card.kind!r}"))
    if kind != "slices":
        return ("background", *(card.labels or {}).values())
    if card.slices is None:
        raise DatasetError(wrong("test", "dataset", "one whose card has slices", card.name))
    return ("background", *card.slices.names)
