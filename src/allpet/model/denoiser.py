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

from allpet.geometry import ImageGrid, ParallelBeam
from allpet.model.latent import PatchBasis
from allpet.model.moebius import CoverConv, PlaneConv, UNet, lift, lower, positions
from allpet.model.prompt import REGIONS, TASKS, TRACERS
from allpet.project import Projector
from allpet.recon.fbp import ramp_filter


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


class PlaneBridge(nn.Module):
    """Latents to the image plane and back, by a pair of operators that nearly undo each other.

    To the plane: decode, filter with the square root of the ramp, back-project. Back: project, filter,
    encode. With the square root of the ramp on either side the pair is nearly orthonormal: white noise
    stays white, and a network in the plane is as well conditioned as one in the latents. What the
    plane says comes back as the latents of a sinogram in the projector's range.
    """

    half_ramp: torch.Tensor

    def __init__(self, basis: PatchBasis, views: int, bins: int) -> None:
        super().__init__()
        self._shared = (basis,)  # not a part of this module: saved and loaded on its own
        self.projector = Projector(ParallelBeam(views, bins, 1.0), ImageGrid(bins // 2, 2.0))
        self.register_buffer("half_ramp", ramp_filter(bins, 1.0).clamp_min(0).sqrt(), persistent=False)
        self.gain = math.sqrt(math.pi / views) / 2

    @property
    def basis(self) -> PatchBasis:
        """The first stage."""
        return self._shared[0]

    def _filter(self, s: torch.Tensor) -> torch.Tensor:
        n = 2 * (len(self.half_ramp) - 1)
        return torch.fft.irfft(torch.fft.rfft(s, n=n) * self.half_ramp, n=n)[..., : s.shape[-1]]

    def to_plane(self, z: torch.Tensor) -> torch.Tensor:
        """``(n, parts * channels, h, w) -> (n, parts, bins / 2, bins / 2)``."""
        parts = z.shape[1] // self.basis.channels
        s = self.basis.decode(z.reshape(-1, self.basis.channels, *z.shape[-2:]))
        image = self.projector.adjoint(self._filter(s)) * self.gain
        return image.reshape(len(z), parts, *image.shape[-2:])

    def to_latent(self, image: torch.Tensor) -> torch.Tensor:
        """``(n, parts, bins / 2, bins / 2) -> (n, parts * channels, h, w)``."""
        s = self._filter(self.projector(image.flatten(0, 1))) * self.gain
        z = self.basis.encode(s)
        return z.reshape(len(image), -1, *z.shape[-2:])


class Denoiser(nn.Module):
    """D(z; sigma, condition): the expected clean latents.

    The raw network is the sum of two: one in the image plane, whose answer is projected and so is
    a sinogram by construction, and one on the Moebius strip for what no image explains (noise out of
    the projector's range, parts M*s).

    Parameters
    ----------
    basis : the first stage. views, bins : size of the sinograms.
    plane_widths, strip_widths : channels of the two U-Nets.
    sigma_data : standard deviation of the latents (EDM, arXiv 2206.00364, table 1).
    """

    frequencies: torch.Tensor

    def __init__(
        self,
        basis: PatchBasis,
        views: int = 128,
        bins: int = 128,
        plane_widths: tuple[int, ...] = (80, 160),
        strip_widths: tuple[int, ...] = (16, 32, 64),
        n_cond: int = 128,
        sigma_data: float = 1.0,
    ) -> None:
        super().__init__()
        self.config = dict(
            views=views,
            bins=bins,
            plane_widths=plane_widths,
            strip_widths=strip_widths,
            n_cond=n_cond,
            sigma_data=sigma_data,
        )
        self.bridge = PlaneBridge(basis, views, bins)
        self.channels, self.sigma_data = basis.channels, sigma_data
        self.words = nn.ModuleList([nn.Embedding(len(v) + 1, n_cond) for v in (TRACERS, REGIONS, TASKS)])
        self.register_buffer("frequencies", torch.exp(torch.linspace(0, math.log(100), 32)), persistent=False)
        self.embed = nn.Sequential(nn.Linear(64 + 5, n_cond), nn.SiLU(), nn.Linear(n_cond, n_cond))
        every = tuple(range(len(plane_widths)))
        self.plane = UNet(16 * 7, 16 * 2, plane_widths, n_cond, PlaneConv, attention=every)
        coarse = tuple(range(1, len(strip_widths)))
        n_in, n_out = 4 * self.channels + 4, 2 * self.channels
        self.strip = UNet(n_in, n_out, strip_widths, n_cond, CoverConv, attention=coarse)

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
        vector = nn.functional.silu(vector)
        stack = torch.cat([z, c.mask, c.observed], dim=1)
        sign = self.bridge.basis.sign
        place = positions(z.shape[-2], z.shape[-1], c.turn).to(z.device)
        strip = lower(self.strip(torch.cat([lift(stack, sign.repeat(4)), place], dim=1), vector), sign.repeat(2))
        seen = self.bridge.to_plane(stack)
        seen = nn.functional.pixel_unshuffle(torch.cat([seen, plane_positions(seen.shape[-1], c.turn)], dim=1), 4)
        image = nn.functional.pixel_shuffle(self.plane(seen, vector), 4)
        return strip + self.bridge.to_latent(image)


def plane_positions(size: int, turn: torch.Tensor) -> torch.Tensor:
    """x, y and radius of every pixel in the object's own, turned axes, ``(n, 3, size, size)`` in [-1, 1]."""
    axis = (torch.arange(size) - (size - 1) / 2) * (2 / size)
    x, y = axis[None, None, :], -axis[None, :, None]
    cos, sin = turn.cos()[:, None, None], turn.sin()[:, None, None]
    radius = (x.square() + y.square()).sqrt().expand(len(turn), -1, -1)
    return torch.stack([x * cos + y * sin, y * cos - x * sin, radius], dim=1)
