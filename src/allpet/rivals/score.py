"""Score model on the sinogram itself (NCSN++, Song et al., arXiv 2011.13456), with the preconditioning and the
sampler of Karras et al. (arXiv 2206.00364): 25 steps of Heun's method, 49 evaluations."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

from allpet.model.moebius import PlaneConv, UNet
from allpet.rivals.common import Network, Noise, RivalRecipe, Words

N_COND, STEPS = 128, 25
SIGMA_DATA = 1.0
"""Root mean square of a sinogram of mean 1 about its prompt's mean is 0.6 to 2."""


class ScoreNetwork(Network):
    """A U-Net; blocks of 2 x 2 bins come in and go out as channels, for speed."""

    evaluations = 2 * STEPS - 1
    widths = (48, 96, 160, 224)
    frequencies: torch.Tensor

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__(size)
        self.words, self.level = Words(N_COND), nn.Linear(64, N_COND)
        self.register_buffer("frequencies", torch.exp(torch.linspace(0, math.log(50), 32)), persistent=False)
        self.unet = UNet(12, 4, self.widths, N_COND, PlaneConv, attention=(2, 3))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, z: torch.Tensor, sigma: torch.Tensor, label: dict[str, torch.Tensor]) -> torch.Tensor:
        """The expected clean sinogram, ``(n, 1, views, bins)``."""
        s = sigma[:, None, None, None]
        total = (s.square() + SIGMA_DATA**2).sqrt()
        wave = sigma.log()[:, None] / 4 * self.frequencies
        cond = F.silu(self.words(label) + self.level(torch.cat([wave.sin(), wave.cos()], dim=1)))
        views, bins = z.shape[-2:]
        place = torch.stack(torch.meshgrid(torch.linspace(-1, 1, views), torch.linspace(-1, 1, bins), indexing="ij"))
        x = torch.cat([z / total, place.expand(len(z), -1, -1, -1)], dim=1)
        x = F.pixel_unshuffle(x, 2).contiguous(memory_format=torch.channels_last)
        out = F.pixel_shuffle(self.unet(x, cond).float(), 2)
        return SIGMA_DATA**2 / total.square() * z + s * SIGMA_DATA / total * out

    def draw(self, noise: Noise, label: dict[str, torch.Tensor]) -> torch.Tensor:
        from allpet.diffusion.edm import heun

        z = heun(
            lambda z, sigma: self(z, sigma, label),
            lambda stream: noise((1, *self.size), stream),
            torch.zeros(1, 1, *self.size),
            SIGMA_DATA,
            STEPS,
        )
        return z[:, 0]


class Score(RivalRecipe):
    """Train the score model."""

    kind = "score"
    batch = 16

    def loss(self, network: ScoreNetwork, rng: torch.Generator) -> torch.Tensor:
        """Weighted denoising error (EDM); noise levels as wide as ours."""
        s, label = self.draw(rng)
        sigma = SIGMA_DATA * torch.exp(1.6 * torch.randn(len(s), generator=rng))
        noisy = s + sigma[:, None, None, None] * torch.randn(s.shape, generator=rng)
        with self.cast():
            clean = network(noisy, sigma, label)
        weight = (sigma.square() + SIGMA_DATA**2) / (sigma * SIGMA_DATA).square()
        return ((clean - s).square().mean(dim=(1, 2, 3)) * weight).mean()
