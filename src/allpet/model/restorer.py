"""The restorer: expected counts from noisy ones, physics first, network second.

1. A short OSEM with the scan's own efficiency and background gives an image.
2. A U-Net in the image plane corrects it: what it returns is projected, so the estimate is a
   sinogram by construction.
3. A small U-Net on the Moebius strip sees what is left of the data and corrects what no
   image explains (model errors, motion, parts M*s).

Everything is scale-free: counts are divided by their mean emission per bin, lengths by the
bin width; the mean number of counts per bin and the pitch are conditions.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

from allpet.geometry import ImageGrid, ParallelBeam
from allpet.model.moebius import CoverConv, PlaneConv, UNet, lift, lower
from allpet.project import Projector
from allpet.recon import osem

BLURS = (1.0, 2.0, 4.0)  # standard deviations in pixels


def gaussian_blur(x: torch.Tensor, sigma: float) -> torch.Tensor:
    """Gaussian smoothing of the last two axes, edges repeated; none where `sigma` is 0."""
    if sigma == 0:
        return x
    reach = max(1, math.ceil(3 * sigma))
    t = torch.arange(-reach, reach + 1, dtype=x.dtype, device=x.device)
    kernel = torch.exp(-0.5 * (t / sigma) ** 2)
    kernel = kernel / kernel.sum()
    shape = x.shape
    x = x.reshape(-1, 1, *shape[-2:])
    x = F.conv2d(F.pad(x, (reach, reach, 0, 0), mode="replicate"), kernel[None, None, None, :])
    x = F.conv2d(F.pad(x, (0, 0, reach, reach), mode="replicate"), kernel[None, None, :, None])
    return x.reshape(shape)


def told_level(counts: torch.Tensor) -> torch.Tensor:
    """Log of mean counts in a bin, as networks are told it: near 0 for a usual scan."""
    return (counts.clamp_min(1e-3).log() - 1) / 2


class Restorer(nn.Module):
    """Expected emission of a noisy sinogram.

    Parameters
    ----------
    views, bins : the grid the network works on (multiples of 8).
    image_widths, strip_widths : channels of the two U-Nets.
    """

    def __init__(
        self,
        views: int = 128,
        bins: int = 128,
        image_widths: tuple[int, ...] = (16, 32, 64, 128),
        strip_widths: tuple[int, ...] = (24, 48),
        n_cond: int = 64,
    ) -> None:
        super().__init__()
        self.config = dict(views=views, bins=bins, image_widths=image_widths, strip_widths=strip_widths, n_cond=n_cond)
        self.projector = Projector(ParallelBeam(views, bins, 1.0), ImageGrid(bins, 1.0))
        self.embed = nn.Sequential(nn.Linear(4, n_cond), nn.SiLU(), nn.Linear(n_cond, n_cond), nn.SiLU())
        coarse = tuple(range(2, len(image_widths)))
        self.image_net = UNet(4 * (1 + len(BLURS)), 4, image_widths, n_cond, PlaneConv, attention=coarse)
        self.strip_net = UNet(16 * 5, 16, strip_widths, n_cond, CoverConv)

    def condition(self, mean_counts: torch.Tensor, bin_mm: torch.Tensor) -> torch.Tensor:
        """Features of log counts per bin and log pitch, ``(n, n_cond)``."""
        level = told_level(mean_counts)
        pitch = torch.log(bin_mm / 4)
        return self.embed(torch.stack([level, level.square() - 1, torch.tanh(level), pitch], dim=1))

    def start(
        self, counts: torch.Tensor, efficiency: torch.Tensor, background: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean emission per bin ``(n,)`` and the first image in units of it, ``(n, bins, bins)``."""
        with torch.no_grad():
            image = osem(counts, self.projector, 2, 8, efficiency, background)
            scale = self.projector(image).mean(dim=(-2, -1)).clamp_min(1e-6)
        return scale, image / scale[:, None, None]

    def forward(
        self,
        counts: torch.Tensor,
        efficiency: torch.Tensor,
        background: torch.Tensor,
        bin_mm: torch.Tensor,
        started: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """Emission lambda such that ``counts ~ Poisson(efficiency * lambda + background)``.

        All sinograms ``(n, views, bins)``, counts; ``bin_mm`` (n,); `started` what :meth:`start` gives of them, where
        it is known already. Returns the same shape, >= 0.
        """
        bins = counts.shape[-1]
        scale, first = started or self.start(counts, efficiency, background)
        cond = self.condition((counts - background).mean(dim=(-2, -1)), bin_mm)
        unit = bins / 2
        smooth = [gaussian_blur(first, sigma) for sigma in BLURS]
        stack = torch.stack([first, *smooth], dim=1) * unit
        stack = torch.sign(stack) * torch.log1p(stack.abs())
        change = F.pixel_shuffle(self.image_net(F.pixel_unshuffle(stack, 2), cond), 2)[:, 0]
        base = smooth[1] * unit
        image = F.relu(base + change * (1 + base)) / unit
        emission = self.projector(image)

        scale = scale[:, None, None]
        expected = efficiency * emission + background / scale
        spread = ((expected + 0.02) / scale).sqrt().detach()
        left = ((counts / scale - expected) / spread).clamp(-4, 4)
        parts = [emission, left, gaussian_blur(left, 1.5) * 4, efficiency, spread]
        strip = F.pixel_unshuffle(lift(torch.stack(parts, dim=1)), 4)
        change = lower(F.pixel_shuffle(self.strip_net(strip, cond), 4))[:, 0]
        return F.relu(emission + 0.1 * change) * scale
