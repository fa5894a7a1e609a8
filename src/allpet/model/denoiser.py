"""Second stage: the conditional latent denoiser with Karras (EDM) preconditioning.

State: the latents of the positive and the negative part of a sinogram, side by side; their sum
is the whole. Conditions: the projected mask (given, or to be made up), an observed sinogram
(for restoring), the prompt, pitch and dose, and where on the strip each position lies.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import nn

from allpet.model.moebius import CoverConv, UNet, lift, lower, positions
from allpet.model.prompt import REGIONS, TASKS, TRACERS


@dataclass
class Condition:
    """Everything the denoiser is told about n samples.

    Parameters
    ----------
    tracer, region, task : int64 ``(n,)``, index into the vocabulary + 1; 0 is "not said".
    log_pitch : log(bin_mm / 4) ``(n,)``. log_counts : log of mean counts per bin, 0 if none.
    mask, observed : latents ``(n, channels, h, w)``; zero where not given.
    given : ``(n, 2)``, 1 where the mask and the observed sinogram are given.
    turn : radians by which the object was turned ``(n,)``. mirrored : 1 where mirrored ``(n,)``.
    """

    tracer: torch.Tensor
    region: torch.Tensor
    task: torch.Tensor
    log_pitch: torch.Tensor
    log_counts: torch.Tensor
    mask: torch.Tensor
    observed: torch.Tensor
    given: torch.Tensor
    turn: torch.Tensor
    mirrored: torch.Tensor

    @classmethod
    def blank(cls, n: int, channels: int, height: int, width: int) -> Condition:
        """n samples of which nothing is said."""
        word, number = torch.zeros(n, dtype=torch.long), torch.zeros(n)
        latent = torch.zeros(n, channels, height, width)
        return cls(word, word, word, number, number, latent, latent, torch.zeros(n, 2), number, number)

    def without_prompt(self, drop: torch.Tensor | None = None) -> Condition:
        """The same with tracer and region unsaid (where `drop` (n,) is true)."""
        keep = torch.zeros_like(self.tracer) if drop is None else (~drop).long()
        return replace(self, tracer=self.tracer * keep, region=self.region * keep)

    def join(self, other: Condition) -> Condition:
        """These samples and then those."""
        return Condition(**{name: torch.cat([value, getattr(other, name)]) for name, value in vars(self).items()})


class Denoiser(nn.Module):
    """D(z; sigma, condition): the expected clean latents.

    Parameters
    ----------
    channels : latent channels of one part. widths, blocks, attention : of the U-Net.
    sigma_data : standard deviation of the latents (EDM, arXiv 2206.00364, table 1).
    """

    sign: torch.Tensor
    frequencies: torch.Tensor

    def __init__(
        self,
        channels: int = 12,
        widths: tuple[int, ...] = (64, 128, 192),
        blocks: int = 1,
        attention: tuple[int, ...] = (1, 2),
        n_cond: int = 128,
        sigma_data: float = 1.0,
    ) -> None:
        super().__init__()
        self.config = dict(
            channels=channels, widths=widths, blocks=blocks, attention=attention, n_cond=n_cond, sigma_data=sigma_data
        )
        self.channels, self.sigma_data = channels, sigma_data
        self.register_buffer("sign", torch.ones(channels))
        self.words = nn.ModuleList([nn.Embedding(len(v) + 1, n_cond) for v in (TRACERS, REGIONS, TASKS)])
        self.register_buffer("frequencies", torch.exp(torch.linspace(0, math.log(100), 32)))
        self.embed = nn.Sequential(nn.Linear(64 + 5, n_cond), nn.SiLU(), nn.Linear(n_cond, n_cond))
        self.unet = UNet(4 * channels + 4, 2 * channels, widths, n_cond, CoverConv, blocks, attention)

    def forward(self, z: torch.Tensor, sigma: torch.Tensor, condition: Condition) -> torch.Tensor:
        """``z`` (n, 2 * channels, h, w) with noise of standard deviation ``sigma`` (n,): the clean z."""
        sd = self.sigma_data
        sigma = sigma[:, None, None, None]
        c_skip = sd**2 / (sigma**2 + sd**2)
        c_out = sigma * sd / (sigma**2 + sd**2).sqrt()
        c_in = 1 / (sigma**2 + sd**2).sqrt()
        return c_skip * z + c_out * self.network(c_in * z, sigma.flatten().log() / 4, condition)

    def network(self, z: torch.Tensor, noise: torch.Tensor, c: Condition) -> torch.Tensor:
        """The raw network F on scaled input."""
        wave = noise[:, None] * self.frequencies
        told = torch.stack([c.log_pitch, c.log_counts / 3, c.given[:, 0], c.given[:, 1], c.mirrored], dim=1)
        vector = self.embed(torch.cat([wave.sin(), wave.cos(), told], dim=1))
        for table, word in zip(self.words, (c.tracer, c.region, c.task), strict=True):
            vector = vector + table(word)
        stack = torch.cat([z, c.mask, c.observed], dim=1)
        place = positions(z.shape[-2], z.shape[-1], c.turn).to(z.device)
        x = torch.cat([lift(stack, self.sign.repeat(4)), place], dim=1)
        return lower(self.unet(x, nn.functional.silu(vector)), self.sign.repeat(2))
