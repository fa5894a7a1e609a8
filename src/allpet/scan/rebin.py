"""Oblique planes to direct planes: single-slice rebinning (SSRB).

Span-1 planes are stored by segment of ring difference 0, +1, -1, +2, -2, ...; segment d has ``rings - |d|`` planes.
Plane m of segment d lies midway between its two rings, at ``m + |d| / 2`` ring distances, so it adds to direct plane
``2 m + |d|`` (Daube-Witherspoon and Muehllehner 1987, J Nucl Med 28:1717).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from allpet.errors import AllpetError
from allpet.scan.core import Scan
from allpet.scan.units import COUNTS

SEGMENTED = (
    "planes per segment",
    "minimum ring difference per segment",
    "maximum ring difference per segment",
    "number of rings",
)
"""Header keys of a scan whose planes lie in several segments."""


def segments(max_difference: int) -> list[int]:
    """Ring differences in storage order: 0, 1, -1, 2, -2, ..."""
    return [0] + [sign * d for d in range(1, max_difference + 1) for sign in (1, -1)]


def direct_plane_of(rings: int, max_difference: int) -> np.ndarray:
    """Direct plane that each span-1 plane adds to, int64 ``(planes,)``.

    Raises
    ------
    AllpetError : a ring difference the scanner does not have.
    """
    if not 0 <= max_difference < rings:
        raise AllpetError(f"ring difference {max_difference} is not possible with {rings} rings; use 0..{rings - 1}")
    return np.concatenate([2 * np.arange(rings - abs(d)) + abs(d) for d in segments(max_difference)])


def ring_pairs(rings: int, max_difference: int) -> np.ndarray:
    """Ring pairs that add to each direct plane, int64 ``(2 * rings - 1,)``."""
    return np.bincount(direct_plane_of(rings, max_difference), minlength=2 * rings - 1)


def ssrb(planes: np.ndarray, rings: int, max_difference: int) -> np.ndarray:
    """Sum span-1 planes into direct planes; every count is kept.

    Parameters
    ----------
    planes : ``(span-1 planes, view, radial)``, any numeric type (a memory map is read plane by plane).
    rings, max_difference : the scanner's rings and the largest ring difference stored.

    Returns
    -------
    float32 ``(2 * rings - 1, view, radial)``.

    Raises
    ------
    AllpetError : the number of planes does not fit.
    """
    target = direct_plane_of(rings, max_difference)
    if len(planes) != len(target):
        raise AllpetError(
            f"{len(planes)} planes do not fit span 1 with {rings} rings and ring differences up to {max_difference}; "
            f"that makes {len(target)} planes"
        )
    out = np.zeros((2 * rings - 1, *planes.shape[1:]), np.float32)
    for plane, k in zip(planes, target, strict=True):
        out[k] += plane
    return out


def pairs_of_planes(planes: int, lowest: int, highest: int, rings: int) -> np.ndarray:
    """Ring pairs that are summed in each plane of a segment of ring differences `lowest` to `highest`, int64
    ``(planes,)``. Planes lie half a ring distance apart where there are several differences, else a whole one."""
    where = direct_planes_of(planes, lowest, highest, rings)
    most = np.minimum(where, 2 * (rings - 1) - where)  # of the difference of two rings with their middle there
    low, high = np.maximum(max(lowest, -rings), -most), np.minimum(min(highest, rings), most)
    odd = where % 2  # so is the difference, then
    return np.maximum((high - odd) // 2 + (odd - low) // 2 + 1, 0)


def direct_planes_of(planes: int, lowest: int, highest: int, rings: int) -> np.ndarray:
    """Direct plane at which each plane of a segment has its middle, int64 ``(planes,)``.

    Raises
    ------
    AllpetError : a segment that reaches beyond the rings.
    """
    step = 2 if lowest == highest else 1
    twice = step * (2 * np.arange(planes) - (planes - 1)) + 2 * (rings - 1)
    where = twice // 2
    if where.min(initial=0) < 0 or where.max(initial=0) > 2 * rings - 2:
        raise AllpetError(f"a segment has more planes than {rings} rings make; its header does not fit its data")
    return where


def segments_of_header(scan: Scan) -> tuple[list[tuple[int, int, int]], int] | None:
    """Planes, lowest and highest ring difference of each segment, and the scanner's rings; None where planes lie in one
    segment or the header does not fit."""
    try:
        lists = [[int(part) for part in str(scan.header[key]).strip("{} ").split(",")] for key in SEGMENTED]
    except (KeyError, ValueError):
        return None
    planes, lowest, highest, (rings, *_) = lists
    if not len(planes) == len(lowest) == len(highest) > 1 or sum(planes) != len(scan):
        return None
    return list(zip(planes, lowest, highest, strict=True)), rings


def at_one_scale(scan: Scan, efficiency: torch.Tensor) -> tuple[torch.Tensor, float | torch.Tensor | None]:
    """Efficiencies that hold what the planes' calibrations differ in, and the calibration that they then share."""
    scale = scan.counts_per_unit
    if not torch.is_tensor(scale):
        return efficiency, scale
    return efficiency * (scale / scale.mean())[:, None, None].float(), float(scale.mean())


def added(scan: Scan, total: Callable[[torch.Tensor], torch.Tensor], **known: Any) -> Scan:
    """All that counts of a scan, added up over planes by `total`; `known`: what else becomes of it."""

    def summed(planes: torch.Tensor | None) -> torch.Tensor | None:
        return None if planes is None else total(planes)

    return replace(
        scan,
        sinogram=total(scan.sinogram),
        background=summed(scan.background),
        delayeds=summed(scan.delayeds),
        randoms=summed(scan.randoms),
        dynamic=None if scan.dynamic is None else scan.dynamic.changed(total),
        dose_fractions=None,
        **known,
    )


def rebinned(scan: Scan) -> Scan:
    """A scan of several segments as one of direct planes (SSRB); any other as it is.

    Counts, background and efficiencies of all planes that have their middle at a direct plane add up there, so that an
    image of it is the mean activity that these lines see; planes that are no counts are averaged, and so is
    attenuation, by efficiency. Planes without a normalisation count as often as ring pairs are summed in them.

    Raises
    ------
    AllpetError : a segment that reaches beyond the rings.
    """
    found = segments_of_header(scan)
    if found is None:
        return scan
    parts, rings = found
    direct = 2 * rings - 1
    where = torch.from_numpy(np.concatenate([direct_planes_of(*part, rings) for part in parts]))
    counts = scan.unit == COUNTS

    def total(planes: torch.Tensor) -> torch.Tensor:
        return torch.zeros(direct, *planes.shape[1:]).index_add_(0, where, planes.float())

    live = scan.normalisation
    if live is None:
        pairs = np.concatenate([pairs_of_planes(*part, rings) for part in parts])
        live = torch.from_numpy(pairs).float()[:, None, None].expand_as(scan.sinogram)
    live, scale = at_one_scale(scan, live)
    normalisation, attenuation = total(live), scan.attenuation
    if attenuation is not None:
        attenuation = torch.where(normalisation > 0, total(live * attenuation) / normalisation.clamp_min(1e-30), 1.0)
    number = torch.bincount(where, minlength=direct).clamp_min(1)
    whole = added(
        scan,
        total,
        normalisation=normalisation if counts else None,
        attenuation=attenuation if counts else None,
        counts_per_unit=scale,
        plane_mm=scan.plane_mm / (2 if parts[0][1] == parts[0][2] else 1),
        neighbours=True,
        header={key: value for key, value in scan.header.items() if key not in SEGMENTED},
    )
    return whole if counts else replace(whole, sinogram=whole.sinogram / number[:, None, None])
