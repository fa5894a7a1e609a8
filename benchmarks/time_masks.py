"""Masked samples: random masks (RMAS, DMM) drawn, projected and split on the fly. No other package draws them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from allpet.geometry import ParallelBeam
from allpet.mask import MaskedSinograms, MaskFamily, split

FAMILIES = {
    "RMAS (one shape)": MaskFamily(counts=(1, 1), layouts=("uniform",), hollow=0.0, weights=(1.0, 1.0)),
    "RMAS and DMM (number, size, weight and layout vary)": MaskFamily(),
}


def _sizes(tiny: bool) -> tuple[int, int, int]:
    return (8, 32, 16) if tiny else (500, 128, 128)


@pytest.mark.parametrize("family", FAMILIES)
def time_samples(clock: Any, tiny: bool, family: str) -> None:
    """Whole samples of the virtual data set: sinogram, mask and both parts."""
    n, size, batch = _sizes(tiny)
    data = MaskedSinograms(torch.rand(n, size, size), ParallelBeam(size, size, 4.0), family=FAMILIES[family])
    begun = [0]

    def work() -> None:
        begun[0] = (begun[0] + batch) % (len(data) - batch)
        data.batch(range(begun[0], begun[0] + batch))

    clock(work, f"masked samples, {size} x {size}: {family}", count=batch, unit="sample", **_variety(data, batch))


@pytest.mark.parametrize("what", ["masks drawn", "masks drawn and projected", "sinograms split"])
def time_steps(clock: Any, tiny: bool, what: str) -> None:
    """Where the time goes."""
    n, size, batch = _sizes(tiny)
    data = MaskedSinograms(torch.rand(n, size, size), ParallelBeam(size, size, 4.0))
    whole = data.batch(range(batch))
    works = {
        "masks drawn": lambda: data.image_masks(range(batch)),
        "masks drawn and projected": lambda: data.masks(range(batch)),
        "sinograms split": lambda: split(whole.sinogram, whole.mask),
    }
    clock(works[what], f"{what}, {size} x {size}", count=batch, unit="sample")


def _variety(data: MaskedSinograms, count: int) -> dict[str, float]:
    """How different projected masks are: mean absolute correlation, participation ratio of principal components."""
    masks = data.batch(range(count)).mask.flatten(1)
    centred = masks - masks.mean(dim=1, keepdim=True)
    centred = centred / centred.norm(dim=1, keepdim=True).clamp_min(1e-9)
    correlation = (centred @ centred.T)[~torch.eye(len(masks), dtype=torch.bool)]
    values = torch.linalg.svdvals(masks - masks.mean(dim=0)).square()
    return {
        "samples": len(data),
        "mean_absolute_correlation": round(float(correlation.abs().mean()), 3),
        "participation_ratio": round(float(values.sum() ** 2 / values.square().sum()), 1),
    }
