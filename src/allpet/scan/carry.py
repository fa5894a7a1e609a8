"""Between a scan's own grid and the model's: counts go down, the estimate comes back up.

Down shares every measured bin among the model's bins by overlapping area, so no count is lost
inside the field of view; efficiency and background go the same way, and
``E[y] = efficiency * emission + background`` still holds. Up interpolates the smooth estimate
at the scan's own lines, so the scan keeps its own resolution and its own gaps.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch.nn import functional as F

from allpet.geometry import Geometry, ParallelBeam
from allpet.scan.arc import line_coordinates, resample


class Carrier:
    """Down to the model's grid and up again.

    Parameters
    ----------
    native : the scan's geometry. model : the parallel-beam grid that the model works on. order : of the interpolation
    on the way up; "bilinear" never leaves the range of its neighbours.
    """

    def __init__(
        self, native: Geometry, model: ParallelBeam, order: Literal["bicubic", "bilinear"] = "bicubic"
    ) -> None:
        self.native, self.model, self.order = native, model, order

    def down(self, sinogram: torch.Tensor) -> torch.Tensor:
        """Share counts (or efficiency) among the model's bins: ``(n, *native) -> (n, views, bins)``."""
        if self.native == self.model:
            return sinogram
        return resample(sinogram, self.native, self.model)

    def up(self, sinogram: torch.Tensor) -> torch.Tensor:
        """Interpolate at the scan's lines, ``(n, views, bins) -> (n, *native)``; zero outside its grid."""
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
        out = F.grid_sample(cover[:, None], where, mode=self.order, padding_mode="zeros", align_corners=True)
        return out[:, 0].clamp_min(0)
