"""Mean uptake of organs: what a reconstruction recovers of the truth, away from the organs' edges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from allpet.errors import AllpetError


@dataclass(frozen=True)
class Recovery:
    """One organ of one image: pixels compared, true mean in the image's unit, and bias relative to it."""

    organ: str
    pixels: int
    truth: float
    bias: float


def away_from_edges(there: np.ndarray, pixel_mm: float, erode_mm: float) -> np.ndarray:
    """What is left of an organ ``(rows, columns)`` without the pixels closer than `erode_mm` to its edge."""
    from scipy.ndimage import distance_transform_edt

    return np.asarray(distance_transform_edt(there) * pixel_mm > erode_mm + pixel_mm / 2)


def organ_recovery(
    image: np.ndarray,
    truth: np.ndarray,
    labels: np.ndarray,
    names: Sequence[str],
    pixel_mm: float,
    erode_mm: float,
    least_pixels: int = 1,
) -> list[Recovery]:
    """Bias of the mean in every organ, eroded so that neighbours do not spill into it.

    Parameters
    ----------
    image, truth : ``(rows, columns)`` in the same unit. labels : integers, the same shape; 0 is left out.
    names : of the label values. erode_mm : pixels closer to the organ's edge than this are left out, usually one
        FWHM of the resolution. least_pixels : organs with fewer pixels left are not reported.

    Raises
    ------
    AllpetError : the shapes differ.
    """
    if not image.shape == truth.shape == labels.shape:
        shapes = f"{image.shape}, {truth.shape} and {labels.shape}"
        raise AllpetError(f"image, truth and labels have shapes {shapes}; they must be the same")
    out = []
    for value in np.unique(labels[labels > 0]):
        inside = away_from_edges(labels == value, pixel_mm, erode_mm)
        count = int(inside.sum())
        mean = float(truth[inside].mean()) if count else 0.0
        if count >= max(least_pixels, 1) and mean > 0:
            out.append(Recovery(names[value], count, mean, float(image[inside].mean()) / mean - 1))
    return out
