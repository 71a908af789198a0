"""The pictures of an evaluation: who is taken for whom.

>>> save(alluvial_figure(matrix, ("no", "yes"), title="kws, test split"), pathlib.Path("a.png"))

Matrices are int [labels, labels], clips by [truth, prediction], as `evaluate.confusion_matrix`
makes them. Figures are made without pyplot: no window, no global state, any thread.
"""

from __future__ import annotations

import dataclasses
import math
import os
import pathlib
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path
from numpy.typing import NDArray

Matrix = NDArray[np.int64]

RIGHT, WRONG, BAR, INK = "#6baed6", "#f768a1", "#525252", "#252525"
DOTS_PER_INCH = 150


def save(figure: Figure, path: pathlib.Path) -> None:
    """Writes a PNG, whole or not at all."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    FigureCanvasAgg(figure)
    figure.savefig(unfinished, format="png", dpi=DOTS_PER_INCH, bbox_inches="tight", pad_inches=0.2)
    os.replace(unfinished, path)


# ------------------------------------------------------------------------------ confusion matrix


def confusion_figure(matrix: Matrix, labels: Sequence[str], *, title: str) -> Figure:
    """The confusion matrix: a row per truth, colour by the part of the row, counts in the cells."""
    count = len(labels)
    cell_inches = 0.55 if count <= 12 else 0.34
    side = cell_inches * count
    figure = Figure(figsize=(side + 2.2, side + 1.4))
    axes = figure.add_subplot()
    parts = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)  # [truth, prediction]
    # A square root: errors are a few per cent of a row, and white on a linear scale.
    image = axes.imshow(parts, cmap="Blues", norm=PowerNorm(0.5, vmin=0, vmax=1))
    axes.set_xticks(range(count), labels, rotation=90 if count > 6 else 0)
    axes.set_yticks(range(count), labels)
    axes.set_xlabel("prediction")
    axes.set_ylabel("truth")
    axes.set_title(title, loc="left", fontsize=11, pad=10)
    axes.tick_params(length=0)
    axes.set_xticks(np.arange(count + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(count + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="#e6e6e6", linewidth=0.5)
    axes.tick_params(which="minor", length=0)
    axes.spines[:].set_visible(False)
    _write_counts(axes, matrix, parts, cell_points=cell_inches * 72)
    bar = figure.colorbar(image, ax=axes, shrink=0.6, aspect=25, pad=0.03)
    bar.set_label("part of the truth's clips")
    bar.outline.set_visible(False)
    return figure


def _write_counts(axes: Axes, matrix: Matrix, parts: NDArray, *, cell_points: float) -> None:
    """Every count but zero, in a size at which the longest fits its cell; none if that is tiny."""
    digits = len(str(matrix.max(initial=0)))
    size = min(10.0, 0.8 * cell_points / (0.65 * digits))  # a digit is 0.65 as wide as its size
    if size < 5:
        return
    for row, column in np.argwhere(matrix):
        color = "white" if parts[row, column] > 0.35 else INK
        text = str(matrix[row, column])
        axes.text(column, row, text, ha="center", va="center", color=color, fontsize=size)


# ---------------------------------------------------------------------------------- alluvial


@dataclasses.dataclass(frozen=True)
class Flow:
    """Clips of one truth with one prediction, and where their ribbon begins and ends (its top)."""

    truth: int
    prediction: int
    clips: int
    left: float
    right: float


def alluvial_figure(matrix: Matrix, labels: Sequence[str], *, title: str) -> Figure:
    """Flows from the truth (left) to the prediction (right): right ones blue, wrong ones pink.

    Bars stand for all clips of a label. Flows under `threshold` are not drawn, and the picture says
    how many clips they are.
    """
    total = max(int(matrix.sum()), 1)
    # A gap as high as a line of text keeps labels apart, however few clips a bar stands for.
    count = len(labels)
    line_inches, bars_inches = 0.19, max(5.0, 0.22 * count)
    gap = total * line_inches / bars_inches
    height_inches = bars_inches + count * line_inches
    figure = Figure(figsize=(7.5, height_inches))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(-0.25, 1.25)
    axes.set_ylim(total + (count - 1) * gap, -gap)
    least = threshold(total)
    shown = [flow for flow in flows(matrix, gap=gap) if flow.clips >= least]
    # Wrong ones on top, the thinnest last.
    for flow in sorted(shown, key=lambda flow: (flow.truth != flow.prediction, -flow.clips)):
        axes.add_patch(_ribbon(flow))
    _draw_bars(axes, matrix.sum(axis=1), labels, gap=gap, x=-0.02, align="right")
    _draw_bars(axes, matrix.sum(axis=0), labels, gap=gap, x=1.0, align="left")
    figure.text(0.5, 1 + 0.3 / height_inches, title, ha="center", fontsize=12, va="bottom")
    figure.text(0.5, 1, "blue: right   pink: wrong", ha="center", fontsize=9, va="bottom")
    figure.text(1 / 6, 1, "truth", ha="right", weight="bold", va="bottom")
    figure.text(5 / 6, 1, "prediction", ha="left", weight="bold", va="bottom")
    hidden = int(matrix.sum()) - sum(flow.clips for flow in shown)
    note = f"hidden: {hidden:,} clips in flows of fewer than {least}"
    figure.text(0.5, -0.1 / height_inches, note, ha="center", fontsize=9, va="top")
    return figure


def threshold(total: int) -> int:
    """The fewest clips of a flow that is drawn: a thousandth of all, as in the tutorial, or 2."""
    return max(2, math.ceil(total / 1000))


def flows(matrix: Matrix, *, gap: float) -> list[Flow]:
    """Every flow, stacked on either side in the order of the other side's labels."""
    left = _tops(matrix.sum(axis=1), gap=gap)[:, None] + np.cumsum(matrix, axis=1) - matrix
    right = _tops(matrix.sum(axis=0), gap=gap)[None, :] + np.cumsum(matrix, axis=0) - matrix
    return [
        Flow(int(row), int(column), int(matrix[row, column]), left[row, column], right[row, column])
        for row, column in np.argwhere(matrix)
    ]


def _tops(sizes: NDArray[np.int64], *, gap: float) -> NDArray[np.float64]:
    """Where each bar begins when they are stacked with gaps between them."""
    return np.cumsum(sizes) - sizes + gap * np.arange(len(sizes))


def _ribbon(flow: Flow) -> PathPatch:
    """A band that leaves and arrives level."""
    left, right, size = flow.left, flow.right, flow.clips
    corners = [
        (0, left), (0.45, left), (0.55, right), (1, right),
        (1, right + size), (0.55, right + size), (0.45, left + size), (0, left + size),
        (0, left),
    ]  # fmt: skip
    curve = [Path.CURVE4] * 3
    path = Path(corners, [Path.MOVETO, *curve, Path.LINETO, *curve, Path.CLOSEPOLY])
    is_right = flow.truth == flow.prediction
    return PathPatch(
        path,
        color=RIGHT if is_right else WRONG,
        alpha=0.6 if is_right else 0.8,
        linewidth=0 if is_right else 0.5,  # a steep band is thin, and this keeps it visible
    )


def _draw_bars(
    axes: Axes, sizes: NDArray[np.int64], labels: Sequence[str], *, gap: float, x: float, align: str
) -> None:
    """One side's bars with label and count; `align` is the side of the text."""
    text_x = x - 0.015 if align == "right" else x + 0.035
    for top, size, label in zip(_tops(sizes, gap=gap), sizes, labels, strict=True):
        axes.add_patch(Rectangle((x, top), 0.02, size, facecolor=BAR, linewidth=0))
        axes.text(text_x, top + size / 2, f"{label}  {size:,}", ha=align, va="center", color=INK)
