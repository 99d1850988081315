"""Images and label images on disk: photographs, class masks of several kinds, and the slices of a slice store."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image, UnidentifiedImageError

from rankseg_rma.checks import DatasetError, wrong
from rankseg_rma.files.listing import require_file
from rankseg_rma.files.writing import replacing

# The label value "not annotated" everywhere inside: it has no part in loss, decoding statistics or metrics.
VOID = 255
_UNKNOWN = -1


class ClassCard(Protocol):
    """What label images need of a data set's card, which lives above the files: `datasets.ImageCard`.

    Attributes:
        classes: name of each class by stored value, in ascending order; its position is the class index.
        void: stored values that mean "not annotated".
        colours: (red, green, blue) by stored value; None: not known.
    """

    @property
    def classes(self) -> Mapping[int, str]: ...
    @property
    def void(self) -> Sequence[int]: ...
    @property
    def colours(self) -> Mapping[int, tuple[int, int, int]] | None: ...


def read_image(path: str | Path) -> Any:
    """Read a photograph.

    Grey, palette, CMYK and 16-bit images become 8-bit RGB; a 16-bit value is divided by 257; transparency is dropped.
    The orientation tag is not followed, for labels are drawn on the stored pixels.

    Args:
        path: any format that Pillow reads.
    Returns:
        (3, H, W) uint8, red, green, blue.
    Raises:
        FileNotFoundError: no such file.
        DatasetError: the file is damaged or no image.
    """
    image = _open("read_image", Path(path))
    # Pillow's own conversion to RGB clips 16-bit values at 255 instead of scaling them.
    if image.mode.startswith(("I", "F")):
        return np.repeat(_to_8_bit(image, Path(path))[None], 3, axis=0)
    # Through RGBA, or Pillow warns of palettes with a transparency for each colour.
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return np.ascontiguousarray(np.asarray(image.convert("RGB")).transpose(2, 0, 1))


def _to_8_bit(image: Image.Image, path: Path) -> Any:
    array = np.asarray(image)
    if array.dtype.kind == "f" or array.min() < 0 or array.max() > 65535:
        expected, got = "of 8 or 16 bits", f"mode {image.mode}, {array.min()} to {array.max()}"
        raise DatasetError(wrong("read_image", "image", expected, got, path=path))
    # Half of 257 before the division rounds to the nearest instead of down.
    return ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)


def read_stored_label(path: str | Path) -> Any:
    """Read a label image as it is stored: no palette is applied, no colour mixed to grey.

    Returns:
        (H, W) integers: the indices of a palette image, the values of a grey one of 8 or 16 bits; or (H, W, 3) uint8 of
        a colour image.
    Raises:
        FileNotFoundError: no such file.
        DatasetError: the file is damaged, no image, or compressed with loss.
    """
    path = Path(path)
    image = _open("read_stored_label", path)
    if image.format == "JPEG":
        advice = "JPEG changes values at borders: store labels as PNG."
        raise DatasetError(wrong("read_stored_label", "label", "stored without loss", "JPEG", path=path, advice=advice))
    if image.mode in ("LA", "La", "PA"):
        return np.asarray(image)[..., 0]
    if image.mode in ("RGBA", "RGBa", "RGBX"):
        return np.asarray(image)[..., :3]
    if image.mode in ("1", "L", "P", "RGB") or image.mode.startswith("I"):
        array = np.asarray(image)
        return array.astype(np.uint8) if array.dtype == np.bool_ else array
    expected = "of whole numbers or RGB"
    raise DatasetError(wrong("read_stored_label", "label", expected, f"mode {image.mode}", path=path))


def _open(function: str, path: Path) -> Image.Image:
    """Open and decode, so that a truncated file is found here."""
    require_file(function, path)
    try:
        with path.open("rb") as file:
            image = Image.open(file)
            image.load()
    # SyntaxError and zlib's errors come from broken PNG chunks.
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        got = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        advice = "The file is damaged or no image: copy it again."
        raise DatasetError(wrong(function, "file", "a readable image", got, path=path, advice=advice)) from error
    return image


@dataclass(frozen=True)
class ClassMap:
    """From stored values, or stored colours, to class indices; see `class_map`.

    Attributes:
        table: (65536,) int16 class index by stored value; VOID for void, -1 for a value that the card does not know.
        codes: (n,) colours as one number, ascending, and
        code_classes: (n,) int16 their class indices; both empty when the card has no colours.
        luminances: grey levels that the card's colours have when somebody saves them as grey.
    """

    table: Any
    codes: Any
    code_classes: Any
    luminances: frozenset[int]

    def apply(self, stored: Any) -> Any:
        """Class index per pixel.

        Args:
            stored: (H, W) integers or (H, W, 3) uint8 colours.
        Returns:
            (H, W) int16: class index, VOID, or -1 where the card does not know the value.
        """
        if stored.ndim == 3:
            return self._apply_to_colours(stored)
        # A negative value would index the table from its end.
        inside = (stored >= 0) & (stored < len(self.table))
        return np.where(inside, self.table[np.where(inside, stored, 0)], _UNKNOWN).astype(np.int16)

    def _apply_to_colours(self, stored: Any) -> Any:
        found = np.full(stored.shape[:2], _UNKNOWN, np.int16)
        if len(self.codes):
            pixels = _pack(stored)
            # Behind the largest colour, searchsorted gives the place after the end.
            place = np.minimum(np.searchsorted(self.codes, pixels), len(self.codes) - 1)
            found = np.where(self.codes[place] == pixels, self.code_classes[place], _UNKNOWN).astype(np.int16)
        # Class values are also stored in three equal channels.
        if (found == _UNKNOWN).any() and (stored == stored[..., :1]).all():
            return self.apply(stored[..., 0])
        return found


def class_map(card: ClassCard) -> ClassMap:
    """Lookup of a card's stored values and colours.

    Args:
        card: whose classes, such as `datasets.ImageCard`.
    """
    indices = {value: place for place, value in enumerate(card.classes)} | dict.fromkeys(card.void, VOID)
    # Signed and wider than uint8, so that -1 has room beside void, 255.
    table = np.full(2**16, _UNKNOWN, np.int16)
    table[list(indices)] = list(indices.values())
    colours = card.colours or {}
    packed = sorted((int(_pack(np.array(colour))), indices[value]) for value, colour in colours.items())
    codes = np.array([code for code, _ in packed], np.int64)
    classes = np.array([index for _, index in packed], np.int16)
    # The weights of ITU-R 601, with which Pillow, OpenCV and MATLAB make grey of colour.
    grey = frozenset(round(0.299 * red + 0.587 * green + 0.114 * blue) for red, green, blue in colours.values())
    return ClassMap(table, codes, classes, grey)


def _pack(colours: Any) -> Any:
    # In int64: three bytes in one number do not fit the uint8 of the pixels.
    return np.asarray(colours, np.int64) @ np.array([65536, 256, 1])


def read_classes(path: str | Path, card: ClassCard) -> Any:
    """Read a label image as class indices.

    Args:
        path: palette, grey (8 or 16 bits) or RGB-coded image.
        card: whose classes.
    Returns:
        (H, W) uint8: class index, or VOID.
    Raises:
        FileNotFoundError: no such file.
        DatasetError: the file is damaged, or holds a value that is neither a class nor void.
    """
    stored, lookup = read_stored_label(path), class_map(card)
    classes = lookup.apply(stored)
    unknown = classes == _UNKNOWN
    if unknown.any():
        raise DatasetError(_word_unknown(stored, unknown, lookup, Path(path)))
    return classes.astype(np.uint8)


def _word_unknown(stored: Any, unknown: Any, lookup: ClassMap, path: Path) -> str:
    values, counts = np.unique(stored[unknown], axis=0, return_counts=True)
    shown = [f"{tuple(v.tolist()) if v.ndim else int(v)} ({n} pixels)" for v, n in zip(values, counts, strict=True)]
    got = ", ".join(shown[:5]) + (", ..." if len(shown) > 5 else "")
    advice = ""
    if stored.ndim == 2 and lookup.luminances and set(np.unique(stored).tolist()) <= lookup.luminances:
        advice = (
            "These are the grey levels of the class colours: a palette image was read as luminance and saved again. "
            "Take the original."
        )
    elif stored.ndim == 3:
        advice = "A label image in colour needs the card's exact colours: no resizing, no JPEG."
    return wrong("read_classes", "label", "of the card's classes and void values", got, path=path, advice=advice)


def write_classes(path: str | Path, classes: Any, card: ClassCard) -> None:
    """Write class indices as a palette PNG, under a temporary name that is then renamed.

    Args:
        path: a .png file.
        classes: (H, W) integers, class index or VOID; the stored values of the file are these.
        card: whose classes; its colours make the palette; other indices get generated ones.
    Raises:
        ValueError: another shape, or a value that is neither a class index nor VOID.
    """
    array = np.asarray(classes)
    if array.ndim != 2 or array.dtype.kind not in "iub":
        raise ValueError(wrong("write_classes", "classes", "(H, W) integers", f"{array.shape} {array.dtype}"))
    num_classes = len(card.classes)
    strange = np.setdiff1d(array, [*range(num_classes), VOID])
    if len(strange):
        expected = f"0 to {num_classes - 1} or {VOID}"
        raise ValueError(wrong("write_classes", "classes", expected, strange[:5].tolist(), path=path))
    image = Image.fromarray(array.astype(np.uint8))
    image.putpalette(palette_of(card).tobytes())
    with replacing(path) as temporary:
        image.save(temporary, format="PNG", optimize=False)


def palette_of(card: ClassCard) -> Any:
    """Colours of the class indices and of VOID, (256, 3) uint8; generated where the card has none."""
    colours = _spread_colours()
    known = card.colours or {}
    for place, value in enumerate(card.classes):
        colours[place] = known.get(value, colours[place])
    void = [known[value] for value in card.void if value in known]
    colours[VOID] = void[0] if void else colours[VOID]
    return colours


def _spread_colours() -> Any:
    """256 distinct colours as in PASCAL VOC: the bits of the index, three by three, are high bits of the channels."""
    index = np.arange(256)[:, None]
    colours = np.zeros((256, 3), np.int64)
    for bit in range(8):
        colours |= ((index >> (3 * bit + np.arange(3))) & 1) << (7 - bit)
    return colours.astype(np.uint8)
