"""The "trainaug" part of PASCAL VOC, from the two original downloads: VOC 2012 and SBD.

Hariharan et al. 2011 drew masks for 11,355 images of PASCAL VOC (SBD). The training part that papers use is the train
list of VOC 2012 and both lists of SBD, without VOC's val: 10,582 images. VOC's own mask, which has a void border, is
taken where its train list has the image; SBD's has no void.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rankseg_rma.checks import DatasetError, wrong
from rankseg_rma.datasets.card_kinds import ImageCard
from rankseg_rma.datasets.case import find_folder
from rankseg_rma.files.images import read_classes, write_classes
from rankseg_rma.files.listing import is_there, require_file
from rankseg_rma.files.writing import write_text

ENTRIES = ("prepared.json", "SegmentationClassAug", "ImageSets")
SBD_URL = "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz"
SBD_PARTS = {"train": 8498, "val": 2857}


@dataclass(frozen=True)
class Downloads:
    """The folders of the originals, and their lists by name: VOC's train and val, SBD's sbd_train and sbd_val."""

    voc: Path
    sbd: Path
    lists: dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class MaskTask:
    """A mask to be converted.

    Attributes:
        case_id: name of the image.
        source: VOC's PNG or SBD's .mat.
        image: the photograph.
        target: PNG to write.
        card: of PASCAL VOC.
    """

    case_id: str
    source: Path
    image: Path
    target: Path
    card: ImageCard


def find_downloads(root: Path, sbd: Path | None) -> Downloads:
    """Look up both downloads and read their lists.

    Args:
        root: VOC2012, VOCdevkit, or the folder above it.
        sbd: SBD's benchmark_RELEASE, its folder dataset, or the folder above it.
    Raises:
        FileNotFoundError: a folder or list is missing.
        ValueError: no SBD is given.
    """
    usual = ("VOC2012", "VOCdevkit/VOC2012")
    voc = find_folder(root, "ImageSets/Segmentation", usual, function="prepare", advice="See DATA.md.")
    if sbd is None:
        advice = (
            f"Download {SBD_URL} (1.4 GB), unpack it, and give benchmark_RELEASE as --sbd. For VOC's own train list "
            f"nothing is to be prepared: train with --root {voc}."
        )
        raise ValueError(wrong("prepare", "sbd", "the folder of the Semantic Boundaries Dataset", None, advice=advice))
    usual, advice = ("dataset", "benchmark_RELEASE/dataset"), f"It is made by unpacking {SBD_URL}."
    found = find_folder(sbd, "cls", usual, function="prepare", argument="sbd", advice=advice)
    lists = {part: _read_list(voc / "ImageSets" / "Segmentation" / f"{part}.txt") for part in ("train", "val")}
    lists |= {f"sbd_{part}": _read_list(found / f"{part}.txt") for part in SBD_PARTS}
    return Downloads(voc, found, lists)


def _read_list(path: Path) -> tuple[str, ...]:
    if not path.is_file():
        raise FileNotFoundError(wrong("prepare", "list", "an existing file", path, advice="Unpack the download again."))
    return tuple(name for name in path.read_text(encoding="utf-8-sig").split() if name)


def plan_masks(downloads: Downloads, card: ImageCard, out: Path) -> list[MaskTask]:
    """One task for each image of trainaug, by name."""
    own = set(downloads.lists["train"])
    names = (own | set(downloads.lists["sbd_train"]) | set(downloads.lists["sbd_val"])) - set(downloads.lists["val"])
    return [
        MaskTask(
            name,
            downloads.voc / "SegmentationClass" / f"{name}.png" if name in own else downloads.sbd / f"cls/{name}.mat",
            downloads.voc / "JPEGImages" / f"{name}.jpg",
            out / "SegmentationClassAug" / f"{name}.png",
            card,
        )
        for name in sorted(names)
    ]


def is_converted(task: MaskTask) -> bool:
    """Whether the mask is there and carries the time of its source, which `convert_mask` gives it last."""
    try:
        return task.target.stat().st_mtime_ns == task.source.stat().st_mtime_ns
    except OSError:
        return False


def convert_mask(task: MaskTask) -> None:
    """Write a mask as a palette PNG of class indices.

    Raises:
        FileNotFoundError: the mask or its photograph is missing.
        DatasetError: a file is damaged, has unknown values, or mask and photograph differ in size.
    """
    # Taken before the mask is read: one that changes meanwhile is seen as changed by the next run.
    modified = task.source.stat().st_mtime_ns if task.source.is_file() else 0
    classes = read_sbd_mask(task.source) if task.source.suffix == ".mat" else read_classes(task.source, task.card)
    size = _size_of(task.image)
    if classes.shape != size:
        expected, got = f"of the photograph's size {size}", classes.shape
        raise DatasetError(wrong("prepare", "mask", expected, got, path=task.source))
    if (strange := np.setdiff1d(classes, [*range(task.card.num_classes), 255])).size:
        expected, got = f"of classes 0 to {task.card.num_classes - 1}", strange[:5].tolist()
        raise DatasetError(wrong("prepare", "mask", expected, got, path=task.source))
    write_classes(task.target, classes, task.card)
    # Last: a mask whose conversion was cut short does not carry its source's time.
    os.utime(task.target, ns=(modified, modified))


def read_sbd_mask(path: Path) -> Any:
    """Class indices of a .mat file of SBD's folder cls: (H, W) uint8.

    Raises:
        FileNotFoundError: no such file.
        DatasetError: the file is damaged or another kind of .mat.
    """
    from scipy.io import loadmat

    require_file("prepare", path)
    try:
        classes = loadmat(path, variable_names=["GTcls"])["GTcls"]["Segmentation"][0, 0]
        if classes.ndim != 2 or classes.dtype != np.uint8:
            raise ValueError(f"GTcls.Segmentation of {classes.shape} {classes.dtype}")
    except Exception as error:  # scipy and zlib raise many kinds for a damaged file
        got = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        expected, advice = "a .mat file with GTcls.Segmentation", "The file is damaged: unpack the download again."
        raise DatasetError(wrong("prepare", "mask", expected, got, path=path, advice=advice)) from error
    return classes


def _size_of(image: Path) -> tuple[int, int]:
    """Height and width of a photograph; its pixels are not read."""
    from PIL import Image, UnidentifiedImageError

    if not is_there(image):
        raise FileNotFoundError(wrong("prepare", "mask", "with a photograph", "no such file", path=image))
    require_file("prepare", image)
    try:
        with Image.open(image) as opened:
            return opened.height, opened.width
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError) as error:
        raise DatasetError(wrong("prepare", "photograph", "a readable image", str(error), path=image)) from error


def open_folder(out: Path) -> None:
    """Make a folder ready for masks: until `finish_folder` it is no prepared folder.

    Raises:
        ValueError: it holds something else.
    """
    others = [path.name for path in out.glob("*") if path.name not in ENTRIES and not path.name.startswith(".")]
    # VOC's own folder has ImageSets too; its train.txt tells it apart.
    if others or (out / "ImageSets" / "Segmentation" / "train.txt").is_file():
        got = ", ".join(sorted(others)[:5]) or "an original download"
        advice = "Give an empty folder, or the one of an earlier run."
        raise ValueError(wrong("prepare", "out", "empty or a prepared folder", got, path=out, advice=advice))
    for path in (out / "SegmentationClassAug").glob(".*.partial.*"):
        path.unlink()
    for path in (out / "prepared.json", _list_path(out)):
        path.unlink(missing_ok=True)


def _list_path(out: Path) -> Path:
    return out / "ImageSets" / "Segmentation" / "trainaug.txt"


def finish_folder(out: Path, downloads: Downloads, tasks: list[MaskTask], dataset: str) -> dict[str, int]:
    """Write the list and, last, prepared.json; give back the counts in it."""
    from_sbd = sum(task.source.suffix == ".mat" for task in tasks)
    counts = {
        "training": len(tasks), "from_voc": len(tasks) - from_sbd, "from_sbd": from_sbd,
        "validation": len(downloads.lists["val"]),
    }  # fmt: skip
    write_text(_list_path(out), "".join(f"{task.case_id}\n" for task in tasks))
    # Absolute, because the prepared folder is read from any working directory.
    content = {"dataset": dataset, "source": str(downloads.voc.resolve()), "counts": counts}
    write_text(out / "prepared.json", json.dumps(content, indent=1))
    return counts
