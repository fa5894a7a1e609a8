"""The projector pair beside ASTRA (CPU, linear) and scikit-image. float32; ours with one thread is the base of the
ratios.

ASTRA computes the same line integrals. scikit-image rotates the image, half a pixel off centre: it is comparable in
purpose, not to the digit. Both take one image at a time, so their time for 64 is 64 times that for one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from peers import Astra, difference, difference_inside, phantom

from allpet.geometry import ImageGrid, ParallelBeam
from allpet.project import Projector

SIZES = {64: (90, 93), 128: (180, 185), 256: (360, 367)}
"""Pixels along a side: views, bins."""
TINY = {32: (24, 47)}
TOLERANCE = {"ASTRA": 0.01, "scikit-image": 0.2}
"""Largest relative L2 difference; scikit-image's is measured and told."""


def _case(size: int, tiny: bool) -> tuple[ParallelBeam, ImageGrid, torch.Tensor]:
    if tiny:
        size = 32
    views, bins = (TINY if tiny else SIZES)[size]
    return ParallelBeam(views, bins, 1.0), ImageGrid(size, 1.0), torch.from_numpy(phantom(size))


def _job(way: str, beam: ParallelBeam, grid: ImageGrid) -> str:
    return f"{way}, image {grid.size} x {grid.size}, {beam.views} views x {beam.bins} bins"


def _middle(sinogram: np.ndarray, bins: int) -> np.ndarray:
    """So many bins about the central one, 0 where there are none."""
    wide = np.pad(sinogram, ((0, 0), (bins, bins)))
    first = bins + sinogram.shape[1] // 2 - bins // 2
    return wide[:, first : first + bins]


@pytest.mark.parametrize("way", ["project", "back-project"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("batch, threads", [(1, 1), (1, None), (16, 1), (16, None), (64, None)])
def time_ours(clock: Any, tiny: bool, size: int, batch: int, threads: int | None, way: str) -> None:
    """Ours, one image and several at once, on one thread and on all."""
    if (size == 256 and batch > 16) or (tiny and (size != 128 or batch > 16)):
        pytest.skip("not timed")
    beam, grid, image = _case(size, tiny)
    A = Projector(beam, grid)
    many = image.expand(batch, -1, -1).contiguous()
    if way == "back-project":
        many = A(many)
    work = A if way == "project" else A.adjoint
    name = "allpet" if (batch, threads) == (1, 1) else f"allpet, {batch} at once"
    if batch == 1 and threads is None:
        name = "allpet, all threads"
    elif threads is None:
        name += ", all threads"
    clock(lambda: work(many), _job(way, beam, grid), name, batch, threads=threads, size=size)


@pytest.mark.parametrize("way", ["project", "back-project"])
@pytest.mark.parametrize("size", SIZES)
def time_astra(clock: Any, tiny: bool, size: int, way: str) -> None:
    """ASTRA, compared with ours before it is timed."""
    if tiny and size != 128:
        pytest.skip("not timed")
    beam, grid, image = _case(size, tiny)
    A, tool = Projector(beam, grid), Astra(beam, grid)
    sinogram = A(image)
    if way == "project":
        tool.image[:] = image.numpy()
        work = tool.step("FP")
        work()
        apart = difference(tool.sinogram, sinogram)
    else:
        tool.sinogram[:] = sinogram.numpy()
        work = tool.step("BP")
        work()
        apart = difference(tool.image, A.adjoint(sinogram))
    assert apart < (0.02 if tiny else TOLERANCE["ASTRA"])
    clock(work, _job(way, beam, grid), "ASTRA, linear", threads=1, size=size, difference=apart)


@pytest.mark.parametrize("way", ["project", "back-project"])
@pytest.mark.parametrize("size", SIZES)
def time_scikit_image(clock: Any, tiny: bool, size: int, way: str) -> None:
    """scikit-image's radon, and its iradon without a filter."""
    transform = pytest.importorskip("skimage.transform")
    if tiny and size != 128:
        pytest.skip("not timed")
    beam, grid, image = _case(size, tiny)
    A = Projector(beam, grid)
    sinogram = A(image)
    angles = np.arange(beam.views) * 180 / beam.views
    if way == "project":

        def work() -> np.ndarray:
            return transform.radon(image.numpy(), angles, circle=False)

        apart = difference(_middle(work().T, beam.bins), sinogram)
    else:
        columns = np.ascontiguousarray(sinogram.numpy().T)

        def work() -> np.ndarray:
            return transform.iradon(columns, angles, output_size=grid.size, filter_name=None, circle=False)

        apart = difference_inside(work() * (2 * beam.views / np.pi), A.adjoint(sinogram))
    assert apart < (0.3 if tiny else TOLERANCE["scikit-image"])
    clock(work, _job(way, beam, grid), "scikit-image", threads=1, size=size, difference=apart)
