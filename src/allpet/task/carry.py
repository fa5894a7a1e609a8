"""Between a scan's own grid and the model's: counts go down, the estimate comes back up.

Down shares every measured bin among the model's bins by overlapping area, so no count is lost
inside the field of view; efficiency and background go the same way, and
``E[y] = efficiency * emission + background`` still holds. Up interpolates the smooth estimate
at the scan's own lines, so the scan keeps its own resolution and its own gaps.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

from allpet.geometry import Geometry, ParallelBeam, RingBeam
from allpet.scan.arc import arc_matrix

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


@lru_cache(maxsize=4)
def _parallel_matrix(native: ParallelBeam, model: ParallelBeam) -> csr_matrix:
    """As :func:`allpet.scan.arc.arc_matrix`, from another parallel-beam grid."""
    from scipy.sparse import csr_matrix

    step = math.pi / native.views
    view, view_cell, view_share = _pairs(native.angles, step, -math.pi / model.views / 2, math.pi / model.views)
    s, s_cell, s_share = _pairs(native.radii, native.bin_mm, -model.fov_mm / 2, model.bin_mm)
    row_view, row_s = np.broadcast_arrays(view_cell[:, None], s_cell[None, :])
    turned = (row_view // model.views) % 2 == 1
    row_s = np.where(turned, model.bins - 1 - row_s, row_s)
    row = (row_view % model.views) * model.bins + row_s
    column = view[:, None] * native.bins + s[None, :]
    share = view_share[:, None] * s_share[None, :]
    inside = (row_s >= 0) & (row_s < model.bins)
    shape = (model.views * model.bins, native.views * native.bins)
    return csr_matrix((share[inside], (row[inside], column[inside])), shape=shape)


def _pairs(centre: np.ndarray, width: float, start: float, cell_width: float) -> tuple[np.ndarray, ...]:
    """Which cell covers what share of each interval: (interval, cell, share), flat."""
    low = (centre - width / 2 - start) / cell_width
    high = low + width / cell_width
    first = np.floor(low + 1e-9).astype(int)
    found = []
    for k in range(math.ceil(width / cell_width) + 1):
        cell = first + k
        share = (np.minimum(high, cell + 1) - np.maximum(low, cell)) / (high - low)
        some = share > 1e-6
        found.append((np.flatnonzero(some), cell[some], share[some]))
    interval, cell, share = (np.concatenate(column) for column in zip(*found, strict=True))
    return interval, cell, share


def line_coordinates(geometry: Geometry) -> tuple[np.ndarray, np.ndarray]:
    """phi in radians and s in mm of every line, each float64 ``(views, bins)``, in this project's sense."""
    phi, s = np.broadcast_arrays(geometry.angles[:, None], geometry.radii[None, :])
    if isinstance(geometry, RingBeam):  # the scanner counts the other way round; odd lines lie half a view before
        odd = (np.arange(geometry.bins) - geometry.bins // 2) % 2
        phi = -(phi - 0.5 * odd * math.pi / geometry.views)
    return phi, s


class Carrier:
    """Down to the model's grid and up again.

    Parameters
    ----------
    native : the scan's geometry. model : the parallel-beam grid that the model works on.
    """

    def __init__(self, native: Geometry, model: ParallelBeam) -> None:
        self.native, self.model = native, model

    def down(self, sinogram: torch.Tensor) -> torch.Tensor:
        """Share counts (or efficiency) among the model's bins: ``(n, *native) -> (n, views, bins)``."""
        if self.native == self.model:
            return sinogram
        make = arc_matrix if isinstance(self.native, RingBeam) else _parallel_matrix
        matrix = make(self.native, self.model)  # type: ignore[arg-type]
        out = matrix @ sinogram.flatten(1).double().numpy().T
        return torch.from_numpy(np.ascontiguousarray(out.T)).float().reshape(-1, *self.model.shape)

    def up(self, sinogram: torch.Tensor) -> torch.Tensor:
        """Interpolate (cubic) at the scan's lines, ``(n, views, bins) -> (n, *native)``; zero outside its grid."""
        if self.native == self.model:
            return sinogram
        phi, s = line_coordinates(self.native)
        views, bins = self.model.shape
        row = torch.from_numpy(phi * (views / math.pi)) % (2 * views)
        column = torch.from_numpy(s / self.model.bin_mm + (bins - 1) / 2)
        pad = 3
        cover = torch.cat([sinogram, sinogram.flip(-1)], dim=-2)
        cover = torch.cat([cover[:, -pad:], cover, cover[:, :pad]], dim=1)
        x = column / (bins - 1) * 2 - 1
        y = (row + pad) / (cover.shape[1] - 1) * 2 - 1
        where = torch.stack([x, y], dim=-1).float()[None].expand(len(sinogram), -1, -1, -1)
        out = F.grid_sample(cover[:, None], where, mode="bicubic", padding_mode="zeros", align_corners=True)
        return out[:, 0].clamp_min(0)
