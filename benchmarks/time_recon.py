"""Reconstruction: FBP beside ASTRA and scikit-image, MLEM and OSEM an iteration beside the same on ASTRA's projector.

ASTRA has expectation maximisation on a GPU only; on the CPU its projector is put into the same update, in numpy. Its
SIRT is another algorithm with one projection and one back-projection an iteration, as MLEM has: for orientation. One
plane of 128 x 128, 180 views x 185 bins, float32; setting up (sensitivities) is part of the time, and is spread over 10
iterations.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from peers import Astra, Subset, astra_osem, difference_inside, phantom

from allpet.geometry import ImageGrid, ParallelBeam
from allpet.project import Projector
from allpet.recon import RelativeDifference, fbp, osem
from allpet.recon.fbp import field_of_view

ITERATIONS, SUBSETS = 10, {"MLEM": 1, "OSEM, 8 subsets": 8}
ORDER = {1: [0], 8: [0, 4, 2, 6, 1, 5, 3, 7]}


@pytest.fixture(scope="module")
def case(tiny: bool) -> tuple[Projector, torch.Tensor]:
    """Projector and counts ``(views, bins)``, about 500,000 in all."""
    size, views, bins = (32, 24, 47) if tiny else (128, 180, 185)
    A = Projector(ParallelBeam(views, bins, 1.0), ImageGrid(size, 1.0))
    mean = A(torch.from_numpy(phantom(size)))
    return A, torch.poisson(mean * (5e5 / mean.sum()), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("planes, threads", [(1, 1), (16, None)])
def time_fbp(clock: Any, case: Any, planes: int, threads: int | None) -> None:
    """Filtered back-projection."""
    A, counts = case
    many = counts.expand(planes, -1, -1).contiguous()
    name = "allpet" if planes == 1 else f"allpet, {planes} at once, all threads"
    clock(lambda: fbp(many, A), "FBP", name, planes, threads=threads)


def time_fbp_astra(clock: Any, case: Any) -> None:
    """ASTRA's FBP on the CPU with its default filter, Ram-Lak."""
    A, counts = case
    tool = Astra(A.beam, A.grid)
    tool.sinogram[:] = counts.numpy()
    work = tool.step("FBP")
    work()
    apart = difference_inside(tool.image, fbp(counts, A))
    assert apart < 0.1
    clock(work, "FBP", "ASTRA, linear", threads=1, difference=apart)


def time_fbp_scikit_image(clock: Any, case: Any, tiny: bool) -> None:
    """scikit-image's iradon with the ramp filter."""
    transform = pytest.importorskip("skimage.transform")
    A, counts = case
    angles = np.arange(A.beam.views) * 180 / A.beam.views
    columns = np.ascontiguousarray(counts.numpy().T)

    def work() -> np.ndarray:
        return transform.iradon(columns, angles, output_size=A.grid.size, filter_name="ramp", circle=False)

    smooth = A(torch.from_numpy(phantom(A.grid.size)))  # its half a pixel makes all the difference in noise
    shifted = transform.iradon(smooth.numpy().T, angles, output_size=A.grid.size, filter_name="ramp", circle=False)
    apart = difference_inside(shifted, fbp(smooth, A))
    assert apart < 0.4
    clock(work, "FBP", "scikit-image", threads=1, difference=apart)


@pytest.mark.parametrize("method", SUBSETS)
@pytest.mark.parametrize("planes, threads", [(1, 1), (1, None), (16, None)])
def time_em(clock: Any, case: Any, method: str, planes: int, threads: int | None) -> None:
    """MLEM and OSEM, an iteration of a plane."""
    A, counts = case
    many = counts.expand(planes, -1, -1).contiguous()
    name = "allpet" if planes == 1 else f"allpet, {planes} at once"
    work = ITERATIONS * planes
    clock(
        lambda: osem(many, A, ITERATIONS, SUBSETS[method]),
        f"{method}, an iteration",
        name if threads else f"{name}, all threads",
        work,
        "iteration",
        threads,
    )


@pytest.mark.parametrize("method", SUBSETS)
def time_em_astra(clock: Any, case: Any, method: str) -> None:
    """The same update on ASTRA's projector."""
    A, counts = case
    subsets = SUBSETS[method]
    parts = [Subset(A.beam, A.grid, k, subsets) for k in range(subsets)]
    y, seen = counts.numpy(), field_of_view(A, torch.float32).numpy()

    def work(iterations: int = ITERATIONS) -> np.ndarray:
        return astra_osem(parts, y, seen, ORDER[subsets], iterations)

    apart = difference_inside(work(2), osem(counts, A, 2, subsets))
    assert apart < 0.03
    clock(
        work, f"{method}, an iteration", "numpy on ASTRA, linear", ITERATIONS, "iteration", threads=1, difference=apart
    )


def time_sirt_astra(clock: Any, case: Any) -> None:
    """ASTRA's SIRT, which is not MLEM."""
    A, counts = case
    tool = Astra(A.beam, A.grid)
    tool.sinogram[:] = counts.numpy()
    work = tool.step("SIRT")
    name = "ASTRA, linear: SIRT (another algorithm)"
    clock(lambda: work(ITERATIONS), "MLEM, an iteration", name, ITERATIONS, "iteration", threads=1)


@pytest.mark.parametrize("extra", ["resolution", "prior"])
def time_osem_with(clock: Any, case: Any, extra: str) -> None:
    """OSEM with the resolution modelled, and with the relative difference prior: 16 planes."""
    A, counts = case
    many = counts.expand(16, -1, -1).contiguous()
    more: dict[str, Any] = dict(psf_mm=4.0) if extra == "resolution" else dict(prior=RelativeDifference(0.3, 2.0, 0.01))
    clock(
        lambda: osem(many, A, ITERATIONS, 8, **more),
        "OSEM, 8 subsets, an iteration",
        f"allpet with {extra}, 16 at once, all threads",
        16 * ITERATIONS,
        "iteration",
    )
