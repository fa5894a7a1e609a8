"""Attention: from a scan of 8 planes of 128 x 128 to its image, suggested regions, weights, and back. No other package
does it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from people import shipped, task_scan

from allpet.mask import Lines, attention_of, emphasise, undo
from allpet.mask.attend import attend, likely_regions, quick_image


@pytest.fixture(scope="module")
def case(tiny: bool) -> dict[str, Any]:
    """A scan, its quick image, and its likely regions."""
    scan = task_scan("attenuation", 1 if tiny else 8, tiny)
    image = quick_image(scan)
    return dict(scan=scan, image=image, regions=likely_regions(scan, image))


@pytest.mark.parametrize("step", ["quick image", "regions suggested", "weights", "emphasised and undone", "all of it"])
def time_attend(clock: Any, case: dict[str, Any], step: str) -> None:
    """Each step and `attend` as a whole."""
    scan, image, regions = case["scan"], case["image"], case["regions"]
    weights = attention_of(regions, Lines(scan.geometry), len(scan))
    back = undo(emphasise(scan.sinogram, weights), weights)
    assert torch.allclose(back, scan.sinogram, rtol=1e-5, atol=1e-5)
    works = {
        "quick image": lambda: quick_image(scan),
        "regions suggested": lambda: likely_regions(scan, image),
        "weights": lambda: attention_of(regions, Lines(scan.geometry), len(scan)),
        "emphasised and undone": lambda: undo(emphasise(scan.sinogram, weights), weights),
        "all of it": lambda: attend(scan),
    }
    clock(works[step], f"attend: {step}, a plane", count=len(scan), unit="plane", regions=len(regions))


def time_second_look(clock: Any, case: dict[str, Any], tiny: bool) -> None:
    """A low-dose scan restored with a region marked: the task and the second look."""
    scan = task_scan("low-dose", 1 if tiny else 8, tiny)
    image = quick_image(scan)
    regions = likely_regions(scan, image)[:1]
    if not regions:
        pytest.skip("no region is suggested")
    model = shipped()
    clock(
        lambda: model.apply("low-dose", scan, seed=0, samples=0, roi=regions),
        "low-dose with one region marked, a plane",
        count=len(scan),
        unit="plane",
    )
