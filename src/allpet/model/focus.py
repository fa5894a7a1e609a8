"""The second look: a region that somebody points at, seen again with all that the data say of it.

The region's projection is a matched filter. With the expected counts y_hat of the present estimate, the change of the
region's uptake that the counts ask for, and its standard error, are (maximum likelihood, one Fisher step)

    alpha = <A m, (y - y_hat) / y_hat> / <A m, A m / y_hat>,    error = <A m, A m / y_hat>^(-1/2)

A small network sees the present estimate, the restored and the raw image, the pixels' own Fisher step, the region and
these two numbers in a window about the region, and answers with a change inside of it. What lies outside of the
region's soft edge is not touched. A strength above 1 moves the region's mean further, towards what the counts ask for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from allpet.model.moebius import PlaneConv, UNet
from allpet.model.restorer import gaussian_blur, told_level
from allpet.precision import autocast
from allpet.project import Projector

CHANNELS = 7
KINDS = {"hot": 1.0, "cold": -1.0}
EDGE = 1.0
"""Standard deviation in pixels of the region's soft edge."""
WINDOW = 40
"""Smallest side in pixels of the window about a region, and that of training."""
MARGIN = 8
"""Pixels about a region that the network sees."""
STEP_BLUR = 1.5
"""Standard deviation in pixels of the smoothing of the Fisher step."""
SPREAD = 0.05
"""Standard deviation that an untrained network states, in units of the scan."""


@dataclass(frozen=True)
class Sight:
    """What the network sees of n regions.

    Parameters
    ----------
    stack : present estimate, restored, raw, Fisher step, gate, alpha and its error in the gate, ``(n, 7, rows,
    columns)`` in units of the scan. alpha, error : of the gate, and of the outline itself, ``(n, 2)``. told : log
    level, its square, log pitch, whether the region is said to be hot (1) or cold (-1), and whether a person drew it
    (1) or it was suggested (0), ``(n, 5)``.
    """

    stack: torch.Tensor
    alpha: torch.Tensor
    error: torch.Tensor
    told: torch.Tensor


def gate_of(mask: torch.Tensor) -> torch.Tensor:
    """The region with a soft edge in [0, 1], ``(n, rows, columns)``; next to 0 three pixels outside."""
    wide = F.max_pool2d(mask[:, None], 3, 1, 1)[:, 0]
    return gaussian_blur(wide, EDGE).clamp(0, 1)


def told_of(level: torch.Tensor, bin_mm: torch.Tensor, kind: str, drawn: bool) -> torch.Tensor:
    """Mean trues in a bin and pitch in mm, each ``(n,)``, the regions' kind and whether a person drew them, as numbers
    for the network."""
    x = told_level(level)
    said = [torch.full_like(x, value) for value in (KINDS.get(kind, 0.0), float(drawn))]
    return torch.stack([x, x.square() - 1, torch.log(bin_mm / 4), *said], dim=1)


def matched(
    gate: torch.Tensor, residual: torch.Tensor, information: torch.Tensor, projector: Projector
) -> tuple[torch.Tensor, torch.Tensor]:
    """alpha and its error, ``(n,)`` each, see the module's head.

    Parameters
    ----------
    gate : ``(n, rows, columns)``. residual : ``(y - y_hat) / y_hat`` times counts per image value. information : counts
    per image value squared over y_hat; both ``(n, view, radial)``.
    """
    lines = projector(gate)
    inside = (lines.square() * information).sum(dim=(-2, -1)).clamp_min(1e-12)
    return (lines * residual).sum(dim=(-2, -1)) / inside, inside.rsqrt()


def fisher(counts: torch.Tensor, expected: torch.Tensor, per_value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """`residual` and `information` of :func:`matched`.

    Parameters
    ----------
    counts, expected : ``(n, view, radial)``. per_value : counts that an image value of 1 adds for every mm of a line.
    """
    expected = expected + 0.01 * expected.mean(dim=(-2, -1), keepdim=True) + 1e-6
    return per_value * (counts - expected) / expected, per_value.square() / expected


def fisher_step(residual: torch.Tensor, information: torch.Tensor, projector: Projector) -> torch.Tensor:
    """The pixels' own step, smoothed, ``(n, rows, columns)``: gradient over curvature of the likelihood."""
    gradient = projector.adjoint(residual)
    curvature = projector.adjoint(information * projector(torch.ones_like(gradient)))
    return gaussian_blur(gradient / curvature.clamp_min(1e-9) * gradient.shape[-1] ** 0.5, STEP_BLUR)


class Focus(nn.Module):
    """The network.

    Parameters
    ----------
    widths : channels of the U-Net's levels, at half, quarter, ... of the image. n_cond : width of the condition.
    precision : of its arithmetic, see :mod:`allpet.precision`.
    """

    def __init__(self, widths: tuple[int, ...] = (24, 32, 32), n_cond: int = 32, precision: str = "auto") -> None:
        super().__init__()
        self.config = dict(widths=widths, n_cond=n_cond)
        self.precision = precision
        self.embed = nn.Sequential(nn.Linear(9, n_cond), nn.SiLU(), nn.Linear(n_cond, n_cond), nn.SiLU())
        self.unet = UNet(4 * CHANNELS, 8, widths, n_cond, PlaneConv)

    def forward(self, sight: Sight) -> tuple[torch.Tensor, torch.Tensor]:
        """New image and standard deviation in the windows, ``(n, rows, columns)`` each, in units of the scan."""
        stack = sight.stack
        now, gate = stack[:, 0], stack[:, 4]
        numbers = torch.cat([sight.alpha, sight.error], dim=1)
        numbers = torch.sign(numbers) * torch.log1p(4 * numbers.abs())
        cond = self.embed(torch.cat([sight.told, numbers], dim=1))
        x = F.pixel_unshuffle(torch.sign(stack) * torch.log1p(2 * stack.abs()), 2)
        with autocast(x.device, self.precision):
            out = self.unet(x, cond)
        change, spread = F.pixel_shuffle(out.float(), 2).unbind(1)
        image = F.relu(now + gate * change * (1 + now))
        return image, spread.clamp(-6, 6).exp() * SPREAD * (0.2 + image.detach().sqrt())


def window(mask: torch.Tensor, largest: int | None = None, multiple: int = 8) -> tuple[slice, slice]:
    """Rows and columns of a mask ``(rows, columns)`` with a margin, sides a multiple that fits the network, at least
    :data:`WINDOW`; of a mask that is larger than `largest`, its middle."""
    rows, columns = (torch.nonzero(mask.amax(dim=axis)).flatten() for axis in (1, 0))

    def span(where: torch.Tensor, size: int) -> slice:
        low, high = int(where[0]) - MARGIN, int(where[-1]) + 1 + MARGIN
        side = min(max(math.ceil((high - low) / multiple) * multiple, WINDOW), largest or size, size)
        start = min(max((low + high - side) // 2, 0), size - side)
        return slice(start, start + side)

    return span(rows, mask.shape[0]), span(columns, mask.shape[1])
