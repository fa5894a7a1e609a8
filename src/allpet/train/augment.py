"""Geometry of the object: turn, mirror, shift and scale, exact on its sinogram; smooth warps of its image."""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F


def turn(sinogram: torch.Tensor, views: int) -> torch.Tensor:
    """Turn the object by ``views * pi / n_views``: a cyclic shift with mirrored wrap, exact."""
    n = sinogram.shape[-2]
    cover = torch.cat([sinogram, sinogram.flip(-1)], dim=-2)
    return cover.roll(views, dims=-2)[..., :n, :]


def mirror(sinogram: torch.Tensor) -> torch.Tensor:
    """Mirror the object left to right: ``p'(phi, s) = p(pi - phi, s)``, view 0 taking view 0 mirrored; exact."""
    first = sinogram[..., :1, :]
    return torch.cat([first.flip(-1), sinogram[..., 1:, :].flip(-2)], dim=-2)


def place(sinogram: torch.Tensor, shift: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Scale the object by `scale` and move it by `shift`: ``a * p(phi, (s - t . n(phi)) / a)``.

    Parameters
    ----------
    sinogram : ``(n, channel, view, radial)``. shift : ``(n, 2)``, x and y in bins. scale : ``(n,)``.

    Notes
    -----
    Radial interpolation is cubic; beyond the edge the sinogram is zero.
    """
    n, _, views, bins = sinogram.shape
    phi = torch.arange(views) * (math.pi / views)
    s = torch.arange(bins) - (bins - 1) / 2
    moved = shift[:, :1] * phi.cos() + shift[:, 1:] * phi.sin()
    where = (s[None, None, :] - moved[:, :, None]) / scale[:, None, None] / ((bins - 1) / 2)
    rows = torch.linspace(-1, 1, views)[None, :, None].expand(n, views, bins)
    grid = torch.stack([where, rows], dim=-1)
    out = F.grid_sample(sinogram, grid, mode="bicubic", padding_mode="zeros", align_corners=True)
    return out * scale[:, None, None, None]


def elastic(image: torch.Tensor, size: torch.Tensor, rng: torch.Generator, knots: int = 6) -> torch.Tensor:
    """Warp images ``(n, rows, columns)`` by a smooth random field.

    Parameters
    ----------
    size : root mean square displacement at the knots in pixels ``(n,)``. knots : of the field along a side; between
        them it is bicubic.
    """
    n, rows, columns = image.shape
    field = torch.randn(n, 2, knots, knots, generator=rng) * (size * 2 / columns)[:, None, None, None]
    field = F.interpolate(field, (rows, columns), mode="bicubic", align_corners=True).permute(0, 2, 3, 1)
    y, x = torch.meshgrid(torch.linspace(-1, 1, rows), torch.linspace(-1, 1, columns), indexing="ij")
    grid = torch.stack([x, y], dim=-1) + field
    return F.grid_sample(image[:, None], grid, mode="bicubic", padding_mode="zeros", align_corners=True)[:, 0]
