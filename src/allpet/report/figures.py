"""Figures of sinograms and images: axes in mm and degrees, colour bars with units, stated windows.

Activity is shown in inverse grey (dark = more), signed differences in red and blue round zero. What is compared
takes the same window; :func:`draw` never rescales by itself.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from allpet.errors import AllpetError
from allpet.geometry import ImageGrid, ParallelBeam

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

ACTIVITY_MAP = "gray_r"
DIFFERENCE_MAP = "RdBu_r"
SPREAD_MAP = "magma_r"
WEIGHT_MAP = "viridis"


@dataclass(frozen=True)
class Panel:
    """One plane ready to be drawn.

    Parameters
    ----------
    values : float ``(rows, columns)``. title : above it. unit : on the colour bar.
    extent : left, right, bottom, top in the axes' units. axes : labels of the horizontal and vertical axis.
    window : least and most value shown. colours : matplotlib colour map. square : equal scales on both axes.
    """

    values: np.ndarray
    title: str
    unit: str
    extent: tuple[float, float, float, float]
    axes: tuple[str, str]
    window: tuple[float, float]
    colours: str = ACTIVITY_MAP
    square: bool = True


def window_of(*planes: torch.Tensor, share: float = 0.999) -> tuple[float, float]:
    """0 to a high quantile of all planes together: one window for what is compared."""
    values = torch.cat([p.detach().flatten().float().cpu() for p in planes]).numpy()
    top = float(np.quantile(values, share))
    return 0.0, top if top > 0 else 1.0


def difference_window(*planes: torch.Tensor, share: float = 0.999) -> tuple[float, float]:
    """A window symmetric round zero for signed differences."""
    top = window_of(*[p.abs() for p in planes], share=share)[1]
    return -top, top


def sinogram_panel(
    plane: torch.Tensor,
    beam: ParallelBeam,
    title: str,
    unit: str,
    window: tuple[float, float] | None = None,
    colours: str = ACTIVITY_MAP,
) -> Panel:
    """A sinogram ``(views, bins)``: s in mm to the right, phi in degrees downwards."""
    _check_shape(plane, beam.shape, title)
    half = beam.fov_mm / 2
    extent = (-half, half, 180 - 90 / beam.views, -90 / beam.views)
    values = plane.detach().cpu().float().numpy()
    return Panel(values, title, unit, extent, ("s (mm)", "φ (°)"), window or window_of(plane), colours, square=False)


def image_panel(
    plane: torch.Tensor,
    grid: ImageGrid,
    title: str,
    unit: str,
    window: tuple[float, float] | None = None,
    colours: str = ACTIVITY_MAP,
) -> Panel:
    """An image ``(n, n)``: x in mm to the right (the patient's left), y in mm upwards (anterior)."""
    _check_shape(plane, grid.shape, title)
    half = grid.size * grid.pixel_mm / 2
    values = plane.detach().cpu().float().numpy()
    return Panel(
        values, title, unit, (-half, half, -half, half), ("x (mm)", "y (mm)"), window or window_of(plane), colours
    )


def _check_shape(plane: torch.Tensor, shape: tuple[int, int], title: str) -> None:
    if tuple(plane.shape) != shape:
        raise AllpetError(f"plane '{title}' has shape {tuple(plane.shape)}; its geometry says {shape}")


def draw(rows: Sequence[Sequence[Panel]], width: float = 2.6) -> Figure:
    """Panels in rows, each with its axes and colour bar.

    Parameters
    ----------
    rows : rows may differ in length. width : of one panel in inches.
    """
    from matplotlib.figure import Figure

    columns = max(len(row) for row in rows)
    figure = Figure(figsize=(width * columns, 0.95 * width * len(rows)), layout="constrained", dpi=110)
    cells = figure.subplots(len(rows), columns, squeeze=False)
    for row, line in zip(rows, cells, strict=True):
        for column, axes in enumerate(line):
            if column < len(row):
                _draw_panel(figure, axes, row[column], outer=column == 0)
            else:
                axes.set_axis_off()
    return figure


def _draw_panel(figure: Figure, axes: Axes, panel: Panel, outer: bool) -> None:
    shown = axes.imshow(
        panel.values,
        cmap=panel.colours,
        vmin=panel.window[0],
        vmax=panel.window[1],
        extent=panel.extent,
        aspect="equal" if panel.square else "auto",
        interpolation="nearest",
    )
    axes.set_title(panel.title, fontsize=8)
    axes.set_xlabel(panel.axes[0], fontsize=7)
    if outer:
        axes.set_ylabel(panel.axes[1], fontsize=7)
    axes.tick_params(labelsize=6)
    if not panel.square:
        axes.set_yticks([0, 45, 90, 135, 180])
    bar = figure.colorbar(shown, ax=axes, fraction=0.046, pad=0.02)
    bar.set_label(panel.unit, fontsize=7)
    bar.ax.tick_params(labelsize=6)
    bar.formatter.set_powerlimits((-3, 4))  # type: ignore[attr-defined]
    bar.ax.yaxis.get_offset_text().set_fontsize(6)


def step_lines(
    values: dict[str, Sequence[float]], x: Sequence[float], labels: tuple[str, str], logarithmic: bool = False
) -> Figure:
    """Lines over a common axis, e.g. a score per plane; ``labels`` name the two axes with their units."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.2), layout="constrained", dpi=110)
    axes = figure.subplots()
    for name, line in values.items():
        axes.plot(x, line, marker="o", markersize=3, linewidth=1, label=name)
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])
    if logarithmic:
        axes.set_yscale("log")
    if len(values) > 1:
        axes.legend(fontsize=8, frameon=False)
    axes.grid(alpha=0.3)
    return figure


def png(figure: Figure) -> bytes:
    """The figure as a PNG file, without a display and without global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = io.BytesIO()
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # the layout knows the width of a colour bar's numbers only after they were drawn once
    canvas.print_figure(buffer, format="png", dpi=figure.dpi, bbox_inches=_whole(figure, canvas))
    return buffer.getvalue()


def _whole(figure: Figure, canvas: FigureCanvasAgg) -> Bbox:
    """The figure and, in inches, what sticks out of it: layouts are a few pixels off where a colour bar is short."""
    from matplotlib.transforms import Bbox

    own = Bbox.from_bounds(0, 0, *figure.get_size_inches())
    return Bbox.union([own, figure.get_tightbbox(canvas.get_renderer()).padded(0.02)])
