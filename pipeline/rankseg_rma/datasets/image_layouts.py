"""Layouts of images on disk: PASCAL VOC, Cityscapes, ADE20K, and CamVid, which also serves own images."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from rankseg_rma.checks import DatasetError, wrong
from rankseg_rma.datasets.card_kinds import ImageCard
from rankseg_rma.datasets.case import Case, find_folder, inside, listed_file
from rankseg_rma.files.json_files import read_json
from rankseg_rma.files.listing import is_dangling, is_there, refuse_dangling
from rankseg_rma.files.names import compose

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")


def read_voc(card: ImageCard, root: Path) -> tuple[ImageCard, list[Case]]:
    """PASCAL VOC 2012: lists, JPEGImages and SegmentationClass; or the folder that `data prepare` made of them."""
    if (root / "prepared.json").is_file():
        source = _prepared_source(root)
        training = _voc_part(source, root / "SegmentationClassAug", _lists(root) / "trainaug.txt", "training")
        card = replace(card, parts={**card.parts, **(card.prepared_parts or {})})
    else:
        source = _find(root, "ImageSets/Segmentation", ("VOC2012", "VOCdevkit/VOC2012"))
        training = _voc_part(source, source / "SegmentationClass", _lists(source) / "train.txt", "training")
    validation = _voc_part(source, source / "SegmentationClass", _lists(source) / "val.txt", "validation")
    return card, training + validation


def _lists(folder: Path) -> Path:
    return folder / "ImageSets" / "Segmentation"


def _voc_part(source: Path, masks: Path, names: Path, part: str) -> list[Case]:
    images = source / "JPEGImages"
    return [
        Case(name, inside(images, f"{name}.jpg"), inside(masks, f"{name}.png"), part)
        for (name, *_) in _read_lines(names)
    ]


def _prepared_source(root: Path) -> Path:
    path, expected = root / "prepared.json", "JSON with a source"
    content = read_json("list_cases", path, expected)
    try:
        source = Path(content["source"])
    except (KeyError, TypeError) as error:
        got = f"{type(error).__name__}: {error}"
        raise DatasetError(wrong("list_cases", path.name, expected, got, path=path)) from error
    if not source.is_dir():
        advice = "Was it moved? Run `data prepare` again."
        raise DatasetError(wrong("list_cases", "source", "the folder VOC2012", source, path=path, advice=advice))
    return source


def read_cityscapes(card: ImageCard, root: Path) -> tuple[ImageCard, list[Case]]:
    """Cityscapes: leftImg8bit and gtFine by part and city; the masks of the test are dummies and left out."""
    root = _find(root, "leftImg8bit", ("cityscapes",))
    cases = []
    for part, folder in (("training", "train"), ("validation", "val"), ("test", "test")):
        images = _in_cities(root / "leftImg8bit" / folder, "_leftImg8bit")
        labels = _in_cities(root / "gtFine" / folder, "_gtFine_labelIds")
        for name in sorted(set(images) | (set(labels) if part != "test" else set())):
            city = name.split("_")[0]
            image = images.get(name, root / "leftImg8bit" / folder / city / f"{name}_leftImg8bit.png")
            label = labels.get(name, root / "gtFine" / folder / city / f"{name}_gtFine_labelIds.png")
            cases.append(Case(name, image, None if part == "test" else label, part))
    return card, cases


def _in_cities(folder: Path, ending: str) -> dict[str, Path]:
    """Files by name without the ending; a city that is a link to nowhere stands for itself, and reading it says so."""
    refuse_dangling("list_cases", [folder])
    cities = [path for path in folder.glob("*") if is_dangling(path)]
    return _by_stem([*folder.glob(f"*/*{ending}.png"), *cities], ending)


def read_ade20k(card: ImageCard, root: Path) -> tuple[ImageCard, list[Case]]:
    """ADE20K, scene parsing release: images and annotations, each with training and validation."""
    root = _find(root, "annotations", ("ADEChallengeData2016",))
    cases = []
    for part in ("training", "validation"):
        cases += _paired(root / "images" / part, root / "annotations" / part, part)
    return card, cases


def read_camvid(card: ImageCard, root: Path) -> tuple[ImageCard, list[Case]]:
    """CamVid and own images: train/ and trainannot/, val/, test/; train.txt and its kin choose, where they exist."""
    root = _find(root, "train", ("CamVid", "camvid"))
    cases = []
    for part, folder in (("training", "train"), ("validation", "val"), ("test", "test")):
        names = root / f"{folder}.txt"
        if is_there(names):
            cases += [_listed(root, columns, names, part) for columns in _read_lines(names)]
        else:
            labels = root / f"{folder}annot"
            is_unlabelled = part == "test" and not is_there(labels)
            found = _paired(root / folder, labels, part)
            cases += [replace(case, label=None) for case in found] if is_unlabelled else found
    return card, cases


def _listed(root: Path, columns: list[str], names: Path, part: str) -> Case:
    """A line of image and label; of the paths, which start with somebody's folder, the last two names count."""
    if len(columns) != 2:
        raise DatasetError(wrong("list_cases", "line", "an image and a label", " ".join(columns), path=names))
    # Lists made on Windows have backslashes, which are part of a name elsewhere.
    image, label = (listed_file(inside(root, Path(*Path(column.replace("\\", "/")).parts[-2:]))) for column in columns)
    return Case(compose(image.stem), image, label, part)


def _paired(images: Path, labels: Path, part: str) -> list[Case]:
    """Images and labels of the same name; a partner that is missing is listed where it should be."""
    refuse_dangling("list_cases", [images, labels])
    found = _by_stem(path for path in images.glob("*") if path.suffix.lower() in SUFFIXES)
    masks = _by_stem(path for path in labels.glob("*") if path.suffix.lower() in SUFFIXES)
    return [
        Case(name, found.get(name, images / f"{name}.jpg"), masks.get(name, labels / f"{name}.png"), part)
        for name in sorted({*found, *masks})
    ]


def _by_stem(paths: Iterable[Path], ending: str = "") -> dict[str, Path]:
    """Paths by file name without suffix and ``ending``; hidden files are left out."""
    found: dict[str, Path] = {}
    for path in sorted(paths):
        if path.name.startswith("."):
            continue
        name = compose(path.stem).removesuffix(ending)
        if name in found:
            got = f"{found[name].name} and {path.name}"
            raise DatasetError(wrong("list_cases", "file names", "unique", got, path=path.parent))
        found[name] = path
    return found


def _read_lines(path: Path) -> list[list[str]]:
    """Columns of each line that is not empty."""
    if not path.is_file():
        raise FileNotFoundError(wrong("list_cases", "list", "an existing file", path, advice="See DATA.md."))
    # Lists written on Windows may begin with a byte-order mark.
    lines = [line.split() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    return [columns for columns in lines if columns]


def _find(root: Path, marker: str, below: tuple[str, ...]) -> Path:
    return find_folder(root, marker, below, function="list_cases", advice="See DATA.md for the folders.")


# By the name that a card gives as its layout; cards and readers know no other list.
IMAGE_LAYOUTS: dict[str, Callable[[ImageCard, Path], tuple[ImageCard, list[Case]]]] = {
    "voc": read_voc,
    "cityscapes": read_cityscapes,
    "ade20k": read_ade20k,
    "camvid": read_camvid,
}
