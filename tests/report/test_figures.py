"""Figures state units and windows, and put row 0 and view 0 where the geometry says."""

from __future__ import annotations

import io

import matplotlib.image
import numpy as np
import pytest
import torch

from allpet.errors import AllpetError
from allpet.geometry import ImageGrid, ParallelBeam
from allpet.report import draw, image_panel, sinogram_panel, step_lines
from allpet.report.figures import difference_window, png, window_of

BEAM, GRID = ParallelBeam(12, 16, 4.0), ImageGrid(16, 4.0)


def test_axes_are_in_millimetres_and_degrees():
    s = sinogram_panel(torch.rand(BEAM.shape), BEAM, "s", "counts")
    assert s.extent[:2] == (-32, 32) and s.extent[2:] == (180 - 7.5, -7.5)
    x = image_panel(torch.rand(GRID.shape), GRID, "x", "kBq/mL")
    assert x.extent == (-32, 32, -32, 32)
    axes = draw([[s, x], [x]]).axes
    assert [axes[0].get_xlabel(), axes[0].get_ylabel()] == ["s (mm)", "φ (°)"]
    assert {"counts", "kBq/mL"} <= {a.get_ylabel() for a in axes}


def test_row_zero_is_on_top():
    plane = torch.zeros(GRID.shape)
    plane[0] = 1
    axes = draw([[image_panel(plane, GRID, "x", "kBq/mL")]]).axes[0]
    assert axes.get_ylim() == (-32, 32)
    assert axes.images[0].origin == "upper"


def test_one_window_for_what_is_compared():
    a, b = torch.rand(8, 8), 5 * torch.rand(8, 8)
    assert window_of(a, b) == window_of(b, a)
    assert window_of(a, b)[1] > 4
    low, high = difference_window(a - b)
    assert low == -high < 0
    assert window_of(torch.zeros(3, 3)) == (0.0, 1.0)


def test_png_is_a_picture():
    from matplotlib.image import imread

    data = png(step_lines({"a": [1.0, 2.0], "b": [2.0, 1.0]}, [0, 1], ("plane", "PSNR (dB)")))
    picture = imread(io.BytesIO(data), format="png")
    assert picture.shape[0] > 100 and np.ptp(picture) > 0


def test_a_plane_that_does_not_fit_is_named():
    with pytest.raises(AllpetError, match="plane 'head'"):
        sinogram_panel(torch.rand(3, 3), BEAM, "head", "counts")


def test_a_unit_beside_the_last_colour_bar_is_not_cut():
    """Where the bar is short and its numbers are long, the layout alone ends the figure within the unit."""
    grid = ImageGrid(64, 8.0)
    panels = [image_panel(torch.rand(grid.shape) * 20.7, grid, "with attention", "kBq/mL", (0.0, 20.7))] * 3
    drawn = matplotlib.image.imread(io.BytesIO(png(draw([panels]))))[..., :3]
    edge = np.concatenate([drawn[:, -1], drawn[:, 0], drawn[0], drawn[-1]])
    assert np.all(edge == 1)  # nothing but paper
