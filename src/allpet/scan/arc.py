"""Arc correction: raw ring sinograms to evenly spaced parallel-beam sinograms.

On a ring the radial bins get closer towards the edge, and lines of odd ``t`` lie half a view before those of even
``t`` (the two crystals' mean position is ``v`` or ``v - 1/2``). Every line is a small cell of the (phi, s) plane: one
view wide, from ``R sin(pi (t - 1/2) / crystals)`` to ``R sin(pi (t + 1/2) / crystals)``. Its counts are shared among
the cells of the new grid by overlapping area, so every count is kept. Data, background, delayeds and efficiency are
shared in the same way; so ``E[y] = efficiency * A x + background`` still holds, a gap lowers the efficiency of the
cells it touches, and a cell that only gaps touch has efficiency 0: missing.

The ring is numbered in the scanner's own sense, in which phi runs from the patient's left towards *posterior* (STIR);
ours runs towards anterior. Arc correction turns the sense: ``phi`` becomes ``-phi``.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch

from allpet.errors import AllpetError
from allpet.geometry import Geometry, ParallelBeam, RingBeam
from allpet.scan.core import Scan
from allpet.scan.randoms import with_randoms

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


def arc_beam(ring: RingBeam) -> ParallelBeam:
    """The default target: same views, the ring's central spacing, an odd number of bins that covers it."""
    bin_mm = math.pi * ring.radius_mm / ring.crystals
    half = ring.radius_mm * math.sin(min(math.pi * (ring.bins // 2 + 0.5) / ring.crystals, math.pi / 2))
    return ParallelBeam(ring.views, 2 * math.ceil(half / bin_mm - 0.5) + 1, bin_mm)


def _overlap(low: np.ndarray, high: np.ndarray, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Share of each interval ``[low, high]`` in each cell between edges: (interval, cell, share), all 1-D.

    Cells before the first and after the last edge are numbered on: -1, -2, ... for an even spacing.
    """
    step = edges[1] - edges[0]
    first = np.floor((low - edges[0]) / step).astype(int)
    last = np.ceil((high - edges[0]) / step).astype(int)
    parts = []
    for k in range(int((last - first).max())):
        cell = first + k
        start, stop = edges[0] + cell * step, edges[0] + (cell + 1) * step
        share = (np.minimum(high, stop) - np.maximum(low, start)) / (high - low)
        some = share > 1e-12
        parts.append((np.flatnonzero(some), cell[some], share[some]))
    interval, cell, share = (np.concatenate(column) for column in zip(*parts, strict=True))
    return interval, cell, share


def line_coordinates(geometry: Geometry) -> tuple[np.ndarray, np.ndarray]:
    """phi in radians and s in mm of every line in this project's sense, each float64 ``(views, bins)``.

    phi of a ring runs below 0: the scanner counts the other way round, and lines of odd t lie half a view before.
    """
    phi, s = np.broadcast_arrays(geometry.angles[:, None], geometry.radii[None, :])
    if isinstance(geometry, RingBeam):
        odd = (np.arange(geometry.bins) - geometry.bins // 2) % 2
        phi = -(phi - 0.5 * odd * (math.pi / geometry.views))
    return phi, s


def _radial_cells(geometry: Geometry) -> tuple[np.ndarray, np.ndarray]:
    """Both edges in mm of every radial bin."""
    if isinstance(geometry, ParallelBeam):
        return geometry.radii - geometry.bin_mm / 2, geometry.radii + geometry.bin_mm / 2
    t = np.arange(geometry.bins) - geometry.bins // 2
    edge = np.clip(np.pi / geometry.crystals * (t[:, None] + np.array([-0.5, 0.5])), -np.pi / 2, np.pi / 2)
    low, high = geometry.radius_mm * np.sin(edge).T
    return low, high


@lru_cache(maxsize=4)
def share_matrix(native: Geometry, beam: ParallelBeam) -> csr_matrix:
    """Shares of every line of a scan in every bin of another grid, sparse ``(views * bins, native bins)``.

    Columns of lines within the new field of view add up to 1.
    """
    from scipy.sparse import csr_matrix

    phi, _ = line_coordinates(native)
    s_edges = (np.arange(2) - beam.bins / 2) * beam.bin_mm
    phi_edges = (np.arange(2) - 0.5) * (np.pi / beam.views)
    s_bin, s_cell, s_share = _overlap(*_radial_cells(native), s_edges)
    rows, columns, shares = [], [], []
    for parity in (0, 1):  # bins of one parity share their angles
        mine = s_bin % 2 == parity
        if not mine.any():
            continue
        centre, view = phi[:, parity], np.pi / native.views
        v, v_cell, v_share = _overlap(centre - view / 2, centre + view / 2, phi_edges)
        cell = np.broadcast_to(s_cell[mine], (len(v), int(mine.sum())))
        turned = (v_cell // beam.views) % 2 == 1  # half a turn further: the other side of the axis
        cell = np.where(turned[:, None], beam.bins - 1 - cell, cell)
        row = (v_cell % beam.views)[:, None] * beam.bins + cell
        column = v[:, None] * native.bins + s_bin[mine]
        share = v_share[:, None] * s_share[mine]
        inside = (cell >= 0) & (cell < beam.bins)
        rows.append(row[inside])
        columns.append(column[inside])
        shares.append(share[inside])
    entries = (np.concatenate(shares), (np.concatenate(rows), np.concatenate(columns)))
    size = (beam.views * beam.bins, native.views * native.bins)
    return csr_matrix(entries, shape=size)


def resample(planes: torch.Tensor, native: Geometry, beam: ParallelBeam) -> torch.Tensor:
    """Share sinograms ``(n, view, radial)`` among the bins of another grid; sums are kept within the field of view."""
    flat = planes.reshape(len(planes), -1).to(torch.float64).numpy()
    out = (share_matrix(native, beam) @ flat.T).T
    return torch.from_numpy(np.ascontiguousarray(out, np.float32)).reshape(len(planes), *beam.shape)


def arc_correct(scan: Scan, beam: ParallelBeam | None = None) -> Scan:
    """Bring a raw ring scan to an evenly spaced parallel-beam grid; every count is kept.

    Parameters
    ----------
    scan : scan on a :class:`RingBeam`; one on a :class:`ParallelBeam` is returned as it is if no beam is given.
    beam : target; default :func:`arc_beam`. Counts beyond its field of view are lost.

    Returns
    -------
    Scan with sinogram, frames, background and delayeds shared by area, ``normalisation`` the shared efficiency of live
    lines (0 where only gaps lie), ``attenuation`` their efficiency-weighted mean. Background is that of the scan, or
    its smoothed delayeds where it has none.

    Raises
    ------
    AllpetError : the scan is arc-corrected already and another grid is asked for.
    """
    if isinstance(scan.geometry, ParallelBeam):
        if beam is None or beam == scan.geometry:
            return scan
        raise AllpetError("the scan is arc-corrected already; resampling to another grid is not arc correction")
    ring = scan.geometry
    beam = arc_beam(ring) if beam is None else beam
    scan = with_randoms(scan)
    live = torch.from_numpy(ring.live())
    efficiency = live.to(torch.float32).expand_as(scan.sinogram)
    if scan.normalisation is not None:
        efficiency = efficiency * scan.normalisation

    def optional(planes: torch.Tensor | None) -> torch.Tensor | None:
        return None if planes is None else resample(planes, ring, beam)

    normalisation = resample(efficiency, ring, beam)
    attenuation = None
    if scan.attenuation is not None:
        weighted = resample(efficiency * scan.attenuation, ring, beam)
        attenuation = torch.where(normalisation > 0, weighted / normalisation.clamp_min(1e-30), 1.0).clamp(max=1.0)
    return replace(
        scan,
        sinogram=resample(scan.sinogram, ring, beam),
        geometry=beam,
        normalisation=normalisation,
        attenuation=attenuation,
        background=optional(scan.background),
        delayeds=optional(scan.delayeds),
        randoms=optional(scan.randoms),
        dynamic=None if scan.dynamic is None else scan.dynamic.changed(lambda planes: resample(planes, ring, beam)),
    )
