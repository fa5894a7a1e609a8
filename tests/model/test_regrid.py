"""Images on another grid: exact on smooth ones, no folding, nothing invented outside."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from allpet.errors import AllpetError
from allpet.geometry import ImageGrid
from allpet.model.regrid import regrid


def gaussian(grid: ImageGrid, x0: float = 12.0, y0: float = -20.0, sd: float = 14.0) -> torch.Tensor:
    x = torch.from_numpy((torch.arange(grid.size).numpy() - (grid.size - 1) / 2) * grid.pixel_mm).float()
    return torch.exp(-((x[None, :] - x0) ** 2 + (-x[:, None] - y0) ** 2) / (2 * sd**2))


@settings(max_examples=25)
@given(st.integers(32, 160), st.floats(1.0, 6.0))
def test_a_smooth_image_is_the_same_on_any_grid_that_holds_it(size, pixel_mm):
    source, target = ImageGrid(96, 2.5), ImageGrid(size, pixel_mm)
    out = regrid(gaussian(source)[None], source, target)[0]
    truth = gaussian(target)
    axis = (torch.arange(size) - (size - 1) / 2).abs() * pixel_mm
    inside = (axis[:, None] < 115) & (axis[None, :] < 115)
    assert float((out - truth)[inside].abs().max()) < 0.02
    if float(axis.max()) > 130:
        assert float(out[axis > 130].abs().max()) < 1e-6


def test_what_a_coarse_grid_cannot_hold_does_not_fold_back():
    source, target = ImageGrid(128, 1.0), ImageGrid(32, 4.0)
    stripes = (torch.arange(128) % 3 == 0).float()[None, :].expand(128, 128)  # period 3 mm, below 8
    out = regrid(stripes, source, target)[8:-8, 8:-8]
    assert float(out.std()) < 0.02 and float(out.mean()) == pytest.approx(1 / 3, abs=0.02)


def test_the_same_grid_and_wrong_shapes():
    grid = ImageGrid(32, 2.0)
    x = torch.rand(2, 32, 32)
    assert regrid(x, grid, grid) is x
    with pytest.raises(AllpetError, match="it must be 32 x 32"):
        regrid(x[..., :30], grid, ImageGrid(16, 4.0))
