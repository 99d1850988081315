"""Miniature trees of every data set: true names and file formats, tiny content that a network can learn.

Each function writes below ``root`` and returns the folder to give to ``--root``. The same call gives the same files.
In images a class is a colour, in volumes an intensity.
"""

import colorsys
import json

import numpy as np
from PIL import Image

from rankseg_rma.files.volumes import write_volume

CAMVID_COLOURS = [
    (128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (60, 40, 222), (128, 128, 0), (192, 128, 128),
    (64, 64, 128), (64, 0, 128), (64, 64, 0), (0, 128, 192),
]  # fmt: skip
KITS_HU = {0: -100, 1: 150, 2: 40, 3: 0}
LITS_HU = {0: -100, 1: 110, 2: 30}
SHAPE = (48, 64)


def make_lits(root, cases=6):
    """LiTS: volume-N.nii and segmentation-N.nii in two batch folders; of six or more cases the last has no tumour."""
    for number in range(cases):
        batch = root / ("Training Batch 1" if number < cases // 3 else "Training Batch 2")
        tumour = not (number == cases - 1 and cases > 5)
        image, label = _abdomen(np.random.default_rng([1, number]), (24, 20, 8), LITS_HU, {1, 2} if tumour else {1})
        affine = np.diag([-0.8, -0.8, 1.0 + number % 3, 1.0])
        write_volume(batch / f"volume-{number}.nii", image, affine)
        write_volume(batch / f"segmentation-{number}.nii", label, affine)
    return root


def make_kits(root, cases=6, year=19):
    """KiTS: case_XXXXX folders of arrays in z, y, x; KiTS23 has cysts, KiTS19 case 210 is of its unlabelled test."""
    folder, numbers = (root / "data", range(cases)) if year == 19 else (root / "dataset", _kits23_numbers(cases))
    for place, number in enumerate(numbers):
        rng = np.random.default_rng([year, number])
        shape = (28, 24, 8) if place == 1 else (24, 20, 8)
        present = {1, 2, 3} if year == 23 and place % 2 == 0 else {1, 2}
        image, label = _abdomen(rng, shape, KITS_HU, present)
        affine = np.zeros((4, 4))
        affine[[0, 1, 2, 3], [2, 1, 0, 3]] = -0.8, -0.8, -(2.0 + place % 3), 1
        case = folder / f"case_{number:05d}"
        write_volume(case / "imaging.nii.gz", image.T.astype(np.float64 if year == 19 else np.float32), affine)
        write_volume(case / "segmentation.nii.gz", label.T, affine)
    if year == 19:
        write_volume(folder / "case_00210" / "imaging.nii.gz", image.T.astype(np.float64), affine)
    records = [{"case_id": f"case_{number:05d}"} for number in numbers]
    (folder / f"kits{'23' if year == 23 else ''}.json").write_text(json.dumps(records))
    return root


def _kits23_numbers(cases):
    """The true numbers leave a gap: 0 to 299, then 400 to 588; so does the tree."""
    return [*range(cases - 1), 400]


def make_msd(root, cases=16, task="hippocampus", labels=("Anterior", "Posterior"), modality="MRI"):
    """Medical Segmentation Decathlon: dataset.json, imagesTr and labelsTr; case ids 2k - 1 and 2k in a row."""
    training = []
    for number in range(1, cases + 1):
        rng = np.random.default_rng([3, number])
        values = {0: 20, **{value: 20 + 60 * value for value in range(1, len(labels) + 1)}}
        image, label = _abdomen(rng, (24, 20 + number % 3, 10), values, set(range(1, len(labels) + 1)))
        affine = np.eye(4)
        affine[:3, 3] = 1
        write_volume(root / "imagesTr" / f"{task}_{number:03d}.nii.gz", image.astype(np.float32), affine)
        write_volume(root / "labelsTr" / f"{task}_{number:03d}.nii.gz", label, affine)
        training.append({part: f"./{part}sTr/{task}_{number:03d}.nii.gz" for part in ("image", "label")})
    content = {
        "name": task.capitalize(),
        "modality": {"0": modality},
        "labels": {"0": "background", **{str(value): name for value, name in enumerate(labels, 1)}},
        "numTraining": cases, "numTest": 0, "training": training, "test": [],
    }  # fmt: skip
    (root / "dataset.json").write_text(json.dumps(content))
    return root


def _abdomen(rng, shape, hu, present):
    """Volume int16 (x, y, z) and label uint8: an ellipse of class 1 in all inner slices, the others inside of it."""
    x, y = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape[:2]], indexing="ij")
    label = np.zeros(shape, np.uint8)
    for z in range(1, shape[2] - 1):
        label[..., z][(x / 0.8) ** 2 + (y / 0.7) ** 2 < 1] = 1
    for value in sorted(present - {1}):
        cx, cy = (-0.25, 0.1) if value == 2 else (0.4, -0.1)
        cx, cy = cx + rng.uniform(-0.1, 0.1), cy + rng.uniform(-0.1, 0.1)
        # The cyst reaches one slice further than the tumour: a slice with cyst and without tumour.
        last = shape[2] - 3 if value == 2 else shape[2] - 2
        label[(x - cx) ** 2 + (y - cy) ** 2 < 0.09, 2:last] = value
    table = np.array([hu.get(value, 0) for value in range(max(hu) + 1)])
    return np.rint(table[label] + rng.normal(0, 8, shape)).astype(np.int16), label


def voc_colours():
    """The 256 colours of PASCAL VOC: bit k of each channel, from the highest, is a bit of the index."""
    colours = np.zeros((256, 3), np.uint8)
    for index in range(256):
        for bit in range(8):
            for channel in range(3):
                colours[index, channel] |= ((index >> (3 * bit + channel)) & 1) << (7 - bit)
    return colours


VOC_TRAIN = [f"2007_{number:06d}" for number in (32, 39, 63, 68, 121, 170)]
VOC_VAL = [f"2007_{number:06d}" for number in (33, 42, 61)]
VOC_EXTRA = [f"2008_{number:06d}" for number in (2, 3, 7, 8)]


def make_voc(root):
    """PASCAL VOC 2012; JPEGImages holds the images of SBD too, of which VOC has no masks."""
    folder = root / "VOCdevkit" / "VOC2012"
    lists = folder / "ImageSets" / "Segmentation"
    for name in [*VOC_TRAIN, *VOC_VAL, *VOC_EXTRA]:
        image, label = _voc_scene(name)
        _save(folder / "JPEGImages" / f"{name}.jpg", image)
        if name not in VOC_EXTRA:
            _save(folder / "SegmentationClass" / f"{name}.png", label, voc_colours())
    lists.mkdir(parents=True)
    for part, names in (("train", VOC_TRAIN), ("val", VOC_VAL), ("trainval", sorted(VOC_TRAIN + VOC_VAL))):
        (lists / f"{part}.txt").write_text("".join(f"{name}\n" for name in names))
    return folder


def make_sbd(root):
    """Semantic Boundaries Dataset: it shares images with VOC's train and val, and has no void."""
    from scipy.io import savemat
    from scipy.sparse import csc_matrix

    folder = root / "benchmark_RELEASE" / "dataset"
    parts = {"train": [*VOC_TRAIN[:2], *VOC_VAL[:1], *VOC_EXTRA[:2]], "val": [*VOC_VAL[1:2], *VOC_EXTRA[2:]]}
    for part, names in parts.items():
        for name in names:
            image, label = _voc_scene(name)
            label[label == 255] = 0
            _save(folder / "img" / f"{name}.jpg", image)
            boundaries = np.empty((20, 1), object)
            for place in range(20):
                boundaries[place, 0] = csc_matrix(label.shape, dtype=bool)
            present = np.setdiff1d(np.unique(label), [0])[:, None]
            (folder / "cls").mkdir(parents=True, exist_ok=True)
            content = {"Boundaries": boundaries, "Segmentation": label, "CategoriesPresent": present}
            savemat(folder / "cls" / f"{name}.mat", {"GTcls": content})
        (folder / f"{part}.txt").write_text("".join(f"{name}\n" for name in names))
    return root / "benchmark_RELEASE"


def _voc_scene(name):
    """Image and mask of a VOC image: background, two objects out of four classes, void around them."""
    number = int(name.replace("_", ""))
    rng = np.random.default_rng([4, number])
    shape = SHAPE[::-1] if number % 7 == 0 else SHAPE
    label = np.zeros(shape, np.uint8)
    for value, (left, right) in zip(rng.permutation([1, 7, 15, 20])[:2], ((0.05, 0.45), (0.55, 0.95)), strict=True):
        rows, columns = slice(shape[0] // 4, 3 * shape[0] // 4), slice(int(left * shape[1]), int(right * shape[1]))
        label[rows, columns] = 255
        label[rows.start + 1 : rows.stop - 1, columns.start + 1 : columns.stop - 1] = value
    return _paint(rng, label, voc_colours()), label


CITY_TRAIN = [f"aachen_{number:06d}_000019" for number in range(4)] + ["bochum_000000_000313", "bochum_000000_000600"]
CITY_VAL = ["frankfurt_000000_000294", "frankfurt_000000_000576", "lindau_000000_000019"]
CITY_TEST = ["berlin_000000_000019"]


def make_cityscapes(root):
    """Cityscapes: labelIds with void ids; the masks of the test part are dummies, as in the download."""
    for part, names in (("train", CITY_TRAIN), ("val", CITY_VAL), ("test", CITY_TEST)):
        for place, name in enumerate(names):
            rng = np.random.default_rng([5, place, len(part)])
            label = _bands(rng, SHAPE, (23, 11, 26, 7), {0: 4, 1: 1, 5: 24})
            city = name.split("_")[0]
            _save(root / "leftImg8bit" / part / city / f"{name}_leftImg8bit.png", _paint(rng, label))
            label = np.where(label == 1, 1, 0).astype(np.uint8) if part == "test" else label
            folder = root / "gtFine" / part / city
            _save(folder / f"{name}_gtFine_labelIds.png", label)
            _save(folder / f"{name}_gtFine_instanceIds.png", label.astype(np.uint16))
            _save(folder / f"{name}_gtFine_color.png", _paint(rng, label))
            (folder / f"{name}_gtFine_polygons.json").write_text("{}")
    return root


def make_ade20k(root):
    """ADE20K, scene parsing release: 0 is void, 1 to 150 are classes; images of several sizes."""
    folder = root / "ADEChallengeData2016"
    for part, short, number in (("training", "train", 6), ("validation", "val", 3)):
        for place in range(1, number + 1):
            rng = np.random.default_rng([6, place, number])
            shape = SHAPE[::-1] if place == 2 else SHAPE
            label = _bands(rng, shape, (3, 2, 5, 150 if place % 2 else 10), {0: 0})
            name = f"ADE_{short}_{place:08d}"
            _save(folder / "images" / part / f"{name}.jpg", _paint(rng, label))
            _save(folder / "annotations" / part / f"{name}.png", label)
    (folder / "sceneCategories.txt").write_text("ADE_train_00000001 street\n")
    return folder


CAMVID_NAMES = {
    "train": ["0001TP_006690", "0001TP_006720", "0006R0_f00930", "0006R0_f00960", "0016E5_00390", "0016E5_00420"],
    "val": ["0016E5_07959", "0016E5_07961", "0016E5_07963"],
    "test": ["0001TP_008550", "0001TP_008580", "Seq05VD_f00000"],
}


def make_camvid(root):
    """CamVid: class ids 0 to 10, 11 is void; lists of image and mask, as in the SegNet tutorial."""
    for part, names in CAMVID_NAMES.items():
        lines = []
        for place, name in enumerate(names):
            rng = np.random.default_rng([7, place, len(part)])
            label = _bands(rng, SHAPE, (0, 1, 8, 3), {0: 11, 20: 2})
            _save(root / part / f"{name}.png", _paint(rng, label, np.array([*CAMVID_COLOURS, (0, 0, 0)])))
            _save(root / f"{part}annot" / f"{name}.png", label)
            lines.append(f"/SegNet/CamVid/{part}/{name}.png /SegNet/CamVid/{part}annot/{name}.png\n")
        (root / f"{part}.txt").write_text("".join(lines))
    return root


def _bands(rng, shape, values, columns):
    """Horizontal bands of classes with a random border between them, and columns of further values, two wide."""
    label = np.zeros(shape, np.uint8)
    borders = np.linspace(0, shape[0], len(values) + 1).round().astype(int)
    borders[1:-1] += rng.integers(-3, 4, len(values) - 1)
    for value, start, stop in zip(values, borders[:-1], borders[1:], strict=True):
        label[start:stop] = value
    for place, value in columns.items():
        label[shape[0] // 3 :, 2 * place : 2 * place + 2] = value
    return label


def _paint(rng, label, colours=None):
    """RGB uint8 (H, W, 3): every value in its colour, with noise; without ``colours``, hues far apart."""
    if colours is None:
        hues = [colorsys.hsv_to_rgb(value * 0.618034 % 1, 0.7, 0.4 + 0.5 * (value % 2)) for value in range(256)]
        colours = np.array(hues) * 255
    return np.clip(np.asarray(colours, float)[label] + rng.normal(0, 6, (*label.shape, 3)), 0, 255).astype(np.uint8)


def _save(path, array, palette=None):
    """Write an image; a palette makes it a palette PNG whose indices are the array."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(array)
    if palette is not None:
        image.putpalette(palette.tobytes())
    image.save(path, **({"quality": 95} if path.suffix == ".jpg" else {}))
