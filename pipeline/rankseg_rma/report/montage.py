"""One case in three planes: the contours of every mask, and the errors of each decoder; arrays in, figure out."""

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from PIL import Image
from scipy.ndimage import gaussian_filter

from rankseg_rma.checks import wrong
from rankseg_rma.report.palette import COLOURS

# Array axes (across, upward, through) of each plane in RAS+ order, seen as radiologists do: right, front and head
# lie left and up.
PLANES = {"axial": (0, 1, 2), "coronal": (0, 2, 1), "sagittal": (1, 2, 0)}
_LETTERS = ("RL", "AP", "SI")
_OTHER_COLOURS = ("#CC79A7", "#F0E442")
_LINES: tuple[Any, ...] = ("solid", (0, (3.2, 1.6)), (0, (1, 1.1)))
_WIDTHS = (2.8, 1.9, 1.7)
# Okabe and Ito's colours that no contour uses; their lightness differs too.
_ERRORS = {"true positive": "#0072B2", "false positive": "#D55E00", "false negative": "#F0E442"}
_BACKGROUND = 0.28
_DISAGREEMENT_MM = 4.0
_MARGIN_MM = 8.0
_KEY_LETTERS = 66
_DPI = 110


@dataclass(frozen=True)
class MontageCase:
    """One case to look at. Array axes run to the patient's right, front and head (RAS+).

    Attributes:
        title: line above the figure.
        image: (x, y, z) grey values from 0 (black) to 1 (white); None without an image.
        masks: (x, y, z) bool, "reference" first, then one or two decoders.
        spacing_mm: size of a voxel.
        place: voxel that the three planes pass through.
        voxel_ml: volume of a voxel, less than the product of the sizes where the grid is sheared.
        grey: what the grey values are, for the key, for example "window -160 to 240 HU".
    """

    title: str
    image: Any | None
    masks: Mapping[str, Any]
    spacing_mm: tuple[float, float, float]
    place: tuple[int, int, int]
    voxel_ml: float
    grey: str = ""


def mask_colours(names: Any) -> dict[str, str]:
    """Colour of each mask: fixed for the reference, argmax and rma, else by order.

    Example:
        >>> mask_colours(["reference", "argmax", "mine"])
        {'reference': '#009E73', 'argmax': '#E69F00', 'mine': '#CC79A7'}
    """
    others = [name for name in names if name not in COLOURS]
    return {name: COLOURS.get(name) or _OTHER_COLOURS[others.index(name) % 2] for name in names}


def find_place(masks: Mapping[str, Any], spacing_mm: tuple[float, float, float], kind: str) -> tuple[int, int, int]:
    """Voxel where there is most to see.

    Args:
        masks: (x, y, z) bool, "reference" first, then one or two decoders.
        spacing_mm: size of a voxel.
        kind: "changed": where the decoders disagree most; "worst": where the last decoder and the reference disagree
            most; "best": the middle of the reference. Without any such voxel the next of these counts, and the middle
            of the array where all masks are empty.
    """
    reference, *decoders = masks.values()
    last = decoders[-1]
    candidates = {"changed": decoders[0] ^ last, "worst": last ^ reference, "best": reference}
    for name in dict.fromkeys([kind, "worst", "best"]):
        if candidates[name].any():
            return _densest(candidates[name], spacing_mm)
    x, y, z = (size // 2 for size in reference.shape)
    return x, y, z


def _densest(mask: Any, spacing_mm: tuple[float, float, float]) -> tuple[int, int, int]:
    """Voxel of a mask with most of the mask around it."""
    # Filtered in the box of the mask: the whole volume takes many times as long.
    corner, box = zip(*[(low, slice(low, high + 1)) for low, high in map(_ends, _voxels(mask))], strict=True)
    part = mask[box]
    density = gaussian_filter(
        part.astype(np.float32), [_DISAGREEMENT_MM / size for size in spacing_mm], mode="constant"
    )
    # Voxels of the mask alone: a ring is densest in its empty middle.
    best = np.unravel_index(int(np.argmax(np.where(part, density, -1))), part.shape)
    x, y, z = (int(low + place) for low, place in zip(corner, best, strict=True))
    return x, y, z


def _voxels(mask: Any) -> list[Any]:
    """Occupied indices along every axis."""
    return [np.flatnonzero(mask.any(axis=tuple(set(range(mask.ndim)) - {axis}))) for axis in range(mask.ndim)]


def _ends(indices: Any) -> tuple[int, int]:
    return int(indices[0]), int(indices[-1])


def draw_montage(case: MontageCase) -> Figure:
    """Axial, coronal and sagittal plane: all contours above, below them one row of errors per decoder.

    Raises:
        ValueError: masks of different shapes, not 3D, or no decoder.
    """
    shapes = {np.shape(mask) for mask in case.masks.values()}
    if len(shapes) != 1 or len(next(iter(shapes))) != 3 or not 2 <= len(case.masks) <= 3:
        expected = "a reference and one or two decoders, (x, y, z) of one shape"
        raise ValueError(wrong("draw_montage", "masks", expected, {name: m.shape for name, m in case.masks.items()}))
    decoders = list(case.masks)[1:]
    middle_mm, half_mm, is_cut = _view(case)
    rows = 1 + len(decoders)
    layout = ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02, wspace=0.01, hspace=0.01)
    figure = Figure(figsize=(8.4, 2.69 * rows + 1.02), layout=layout, facecolor="white")
    grid = figure.subplots(rows, 3)
    for column, (plane, axes_of_plane) in enumerate(PLANES.items()):
        for row, axes in enumerate(grid[:, column]):
            _show_plane(axes, case, axes_of_plane, middle_mm, half_mm)
            if row == 0:
                axes.set_title(plane, fontsize=11)
                _draw_contours(axes, case, axes_of_plane)
                _draw_scale_bar(axes, half_mm)
            else:
                _draw_errors(axes, case, decoders[row - 1], axes_of_plane)
    for row, text in enumerate(["contours", *(_describe_errors(case, name) for name in decoders)]):
        grid[row, 0].set_ylabel(text, fontsize=10, parse_math=False)
    figure.suptitle(case.title, fontsize=12, parse_math=False)
    _add_key(figure, case, is_cut)
    return figure


def montage_url(figure: Figure) -> str:
    """The figure as a PNG of 256 colours inside a data URL: noisy images take a third of the bytes."""
    full, small = io.BytesIO(), io.BytesIO()
    figure.savefig(full, format="png", dpi=_DPI)
    _reduce_colours(Image.open(full).convert("RGB")).save(small, format="png", optimize=True)
    return "data:image/png;base64," + base64.b64encode(small.getvalue()).decode("ascii")


def _reduce_colours(picture: Image.Image) -> Image.Image:
    """128 greys without any tint, and 128 colours that cover those of masks and key, however small their areas."""
    # A product with 127 does not fit uint8.
    array = np.asarray(picture).astype(np.int64)
    index, is_colour = (array[..., 1] * 127 + 127) // 255, np.ptp(array, axis=2) > 4
    palette = [round(grey * 255 / 127) for grey in range(128) for _ in "rgb"]
    if is_colour.any():
        # Coloured pixels alone: a palette for all would go to the many greys.
        strip = Image.fromarray(array[is_colour][None].astype(np.uint8))
        reduced = strip.quantize(128, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        index[is_colour] = 128 + np.asarray(reduced)[0]
        palette += (reduced.getpalette() or [])[: 3 * 128]
    result = Image.fromarray(index.astype(np.uint8))
    result.putpalette(palette)
    return result


def _view(case: MontageCase) -> tuple[Any, float, bool]:
    """Middle (3,) and half width in mm of the cube that is shown, and whether it leaves out a part of some mask.

    The cube holds the reference and the place; far-away false positives are left out, so that the structure stays
    large enough to be seen.
    """
    union = np.any(list(case.masks.values()), axis=0)
    reference = next(iter(case.masks.values()))
    shown = reference if reference.any() else union
    spacing = np.asarray(case.spacing_mm)
    ends = [_ends(found) if found.size else (p, p) for found, p in zip(_voxels(shown), case.place, strict=True)]
    low = np.minimum([e[0] for e in ends], case.place) * spacing
    high = np.maximum([e[1] for e in ends], case.place) * spacing
    middle, half = (low + high) / 2, float((high - low).max() / 2)
    half += max(_MARGIN_MM, 0.18 * half)
    whole = [_ends(found) for found in _voxels(union)] if union.any() else ends
    cut = any(
        e[0] * size < m - half or e[1] * size > m + half for e, size, m in zip(whole, spacing, middle, strict=True)
    )
    return middle, half, cut


def _cut(volume: Any, place: tuple[int, int, int], axes_of_plane: tuple[int, int, int]) -> Any:
    """A plane with rows upward and columns across."""
    across, upward, through = axes_of_plane
    plane = np.take(volume, place[through], axis=through)
    return plane.T if across < upward else plane


def _extent(case: MontageCase, axes_of_plane: tuple[int, int, int]) -> tuple[float, float, float, float]:
    """Edges of a plane's outermost voxels in mm, where voxel 0 has its centre at 0."""
    shape = next(iter(case.masks.values())).shape
    edges = [(-0.5 * case.spacing_mm[a], (shape[a] - 0.5) * case.spacing_mm[a]) for a in axes_of_plane[:2]]
    return (*edges[0], *edges[1])


def _show_plane(axes: Axes, case: MontageCase, axes_of_plane: tuple[int, int, int], middle: Any, half: float) -> None:
    across, upward, _ = axes_of_plane
    plane = next(iter(case.masks.values())) if case.image is None else case.image
    plane = _cut(plane, case.place, axes_of_plane)
    if case.image is None:
        plane = np.full(plane.shape, _BACKGROUND)
    axes.imshow(plane, cmap="gray", vmin=0, vmax=1, origin="lower", extent=_extent(case, axes_of_plane),
                interpolation="nearest")  # fmt: skip
    axes.set(xlim=(middle[across] + half, middle[across] - half), ylim=(middle[upward] - half, middle[upward] + half))
    axes.set(xticks=[], yticks=[], facecolor="black", aspect="equal")
    for text, x, y in zip(_LETTERS[across] + _LETTERS[upward], (0.035, 0.965, 0.5, 0.5), (0.5, 0.5, 0.955, 0.045),
                          strict=True):  # fmt: skip
        axes.text(x, y, text, transform=axes.transAxes, color="white", fontsize=11, fontweight="bold", ha="center",
                  va="center", path_effects=_halo())  # fmt: skip


def _halo() -> list[Any]:
    return [patheffects.withStroke(linewidth=2, foreground="black")]


def _draw_contours(axes: Axes, case: MontageCase, axes_of_plane: tuple[int, int, int]) -> None:
    """Outlines along the edges of voxels: every voxel is cut into smaller ones, and those are contoured."""
    colours = mask_colours(case.masks)
    left, right, low, high = _extent(case, axes_of_plane)
    for (name, mask), line, width in zip(case.masks.items(), _LINES, _WIDTHS, strict=False):
        # A mask at the edge of the array has a closed contour only with nothing around it.
        plane = np.pad(_cut(mask, case.place, axes_of_plane), 1)
        if not plane.any():
            continue
        parts = int(np.clip(1200 // max(plane.shape), 2, 12))
        fine = plane.repeat(parts, axis=0).repeat(parts, axis=1)
        edges = [(left, right, plane.shape[1] - 2), (low, high, plane.shape[0] - 2)]
        x, y = (
            start + (stop - start) / size * ((np.arange((size + 2) * parts) + 0.5) / parts - 1)
            for start, stop, size in edges
        )
        axes.contour(x, y, fine, levels=[0.5], colors=[colours[name]], linewidths=width, linestyles=[line])


def _draw_errors(axes: Axes, case: MontageCase, name: str, axes_of_plane: tuple[int, int, int]) -> None:
    reference = _cut(next(iter(case.masks.values())), case.place, axes_of_plane)
    prediction = _cut(case.masks[name], case.place, axes_of_plane)
    parts = (reference & prediction, prediction & ~reference, reference & ~prediction)
    layer = np.zeros((*reference.shape, 4))
    # True positives are pale, so that the image is still seen.
    for part, colour, strength in zip(parts, _ERRORS.values(), (0.45, 0.9, 0.9), strict=True):
        layer[part] = [*(int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)), strength]
    axes.imshow(layer, origin="lower", extent=_extent(case, axes_of_plane), interpolation="nearest")


def _draw_scale_bar(axes: Axes, half_mm: float) -> None:
    length = max([size for size in (10, 20, 50) if size <= 0.7 * half_mm], default=10)
    (right, left), (low, _) = axes.get_xlim(), axes.get_ylim()
    start, level = left + (right - left) * 0.96, low + 2 * half_mm * 0.09
    axes.plot([start, start - length], [level, level], color="white", linewidth=2.4, solid_capstyle="butt",
              path_effects=[patheffects.withStroke(linewidth=4, foreground="black")])  # fmt: skip
    axes.text(start - length / 2, level + 2 * half_mm * 0.02, f"{length} mm", color="white", fontsize=9.5, ha="center",
              va="bottom", path_effects=_halo())  # fmt: skip


def _describe_errors(case: MontageCase, name: str) -> str:
    reference, prediction = next(iter(case.masks.values())), case.masks[name]
    too_much, missed = ((part.sum() * case.voxel_ml) for part in (prediction & ~reference, reference & ~prediction))
    return f"errors of {_shorten(name)}\n{too_much:.3g} mL too much, {missed:.3g} mL missed"


def _shorten(name: str) -> str:
    return name if len(name) <= 24 else f"{name[:11]}…{name[-12:]}"


def _add_key(figure: Figure, case: MontageCase, is_cut: bool) -> None:
    colours = mask_colours(case.masks)
    handles: list[Any] = [
        Line2D([], [], color=colours[name], linewidth=width + 0.4, linestyle=line)
        for name, line, width in zip(case.masks, _LINES, _WIDTHS, strict=False)
    ]
    handles += [Patch(facecolor=colour, edgecolor="0.3", linewidth=0.5) for colour in _ERRORS.values()]
    notes = ["radiological view: the patient's right is on the left", case.grey]
    notes += ["no image given"] if case.image is None else []
    notes += ["a mask goes on outside the view"] if is_cut else []
    names = [_shorten(name) for name in (*case.masks, *_ERRORS)]
    columns = len(names) if sum(map(len, names)) < _KEY_LETTERS else 3
    legend = figure.legend(
        handles, names, loc="outside lower center", ncols=columns, frameon=False, fontsize=9.5, handlelength=2.0,
        columnspacing=1.1, title="; ".join(filter(None, notes)), title_fontsize=9,
    )  # fmt: skip
    for text in (*legend.get_texts(), legend.get_title()):
        text.set_parse_math(False)
