"""Second stage: the conditional latent denoiser, a network around the best linear one.

State: the latents of the positive and the negative part of a sinogram, side by side; their sum
is the whole. The expected clean state is that of the linear prior (or, when restoring, the
observation drawn a little towards the state), split by the mask, plus a network's correction in
units of that estimate's known error: Karras preconditioning (EDM, arXiv 2206.00364) with a
full covariance in place of one number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import nn

from allpet.geometry import ImageGrid, ParallelBeam
from allpet.model.latent import PatchBasis
from allpet.model.moebius import CoverConv, PlaneConv, UNet, lift, lower, positions
from allpet.model.prior import LinearPrior
from allpet.model.prompt import REGIONS, TASKS, TRACERS
from allpet.project import Projector
from allpet.recon.fbp import ramp_filter


@dataclass
class Condition:
    """Everything the denoiser is told about n samples.

    Parameters
    ----------
    tracer, region, task : int64 ``(n,)``, index into the vocabulary + 1; 0 is "not said".
    log_pitch : log(bin_mm / 4) ``(n,)``. log_counts : log of mean counts per bin, 0 if none ``(n,)``.
    mask : projected mask M ``(n, views, bins)``. whole : 1 where M is 1 everywhere: no negative part ``(n,)``.
    observed : latents of the restored observation ``(n, channels, h, w)``. restoring : 1 where it is given ``(n,)``.
    turn : radians by which the object was turned ``(n,)``. mirrored : 1 where mirrored ``(n,)``.
    """

    tracer: torch.Tensor
    region: torch.Tensor
    task: torch.Tensor
    log_pitch: torch.Tensor
    log_counts: torch.Tensor
    mask: torch.Tensor
    whole: torch.Tensor
    observed: torch.Tensor
    restoring: torch.Tensor
    turn: torch.Tensor
    mirrored: torch.Tensor

    @classmethod
    def blank(cls, n: int, basis: PatchBasis, views: int, bins: int) -> Condition:
        """n whole sinograms of which nothing is said."""
        word, number, one = torch.zeros(n, dtype=torch.long), torch.zeros(n), torch.ones(n)
        latent = torch.zeros(n, basis.channels, views // basis.patch, bins // basis.patch)
        mask = torch.ones(n, views, bins)
        return cls(word, word, word, number, number, mask, one, latent, number, number, number)

    def without_prompt(self, drop: torch.Tensor | None = None) -> Condition:
        """The same with tracer and region unsaid (where `drop` (n,) is true)."""
        keep = torch.zeros_like(self.tracer) if drop is None else (~drop).long()
        return replace(self, tracer=self.tracer * keep, region=self.region * keep)

    def join(self, other: Condition) -> Condition:
        """These samples and then those."""
        return Condition(**{name: torch.cat([value, getattr(other, name)]) for name, value in vars(self).items()})


TAIL = 1e-3
"""Share of the variance outside the prior's eigenvectors that is believed in use; all of it only speckles a draw."""


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
    """D(z; sigma, condition): the expected clean latents of both parts.

    The correction is the sum of two networks: one in the image plane, whose answer is projected and
    so is a sinogram by construction, and one on the Moebius strip for what no image explains.

    Parameters
    ----------
    basis : the first stage. prior : the linear prior. views, bins : size of the sinograms.
    plane_widths, strip_widths : channels of the two U-Nets.
    sigma_data : standard deviation of the latents; the unit of noise levels.
    trust : (a, b) such that ``exp(a + b * log_counts)`` is the root mean square error of a restored
        observation's latents.
    """

    frequencies: torch.Tensor

    def __init__(
        self,
        basis: PatchBasis,
        prior: LinearPrior,
        views: int = 128,
        bins: int = 128,
        plane_widths: tuple[int, ...] = (80, 160),
        strip_widths: tuple[int, ...] = (16, 32, 64),
        n_cond: int = 128,
        sigma_data: float = 1.0,
        trust: tuple[float, float] = (-1.0, 0.0),
    ) -> None:
        super().__init__()
        self.config = dict(
            views=views,
            bins=bins,
            plane_widths=plane_widths,
            strip_widths=strip_widths,
            n_cond=n_cond,
            sigma_data=sigma_data,
            trust=trust,
        )
        self.bridge = PlaneBridge(basis, views, bins)
        self._prior = (prior,)  # saved and loaded on its own, like the first stage
        self.channels, self.sigma_data, self.trust = basis.channels, sigma_data, trust
        self.words = nn.ModuleList([nn.Embedding(len(v) + 1, n_cond) for v in (TRACERS, REGIONS, TASKS)])
        self.register_buffer("frequencies", torch.exp(torch.linspace(0, math.log(100), 32)), persistent=False)
        self.embed = nn.Sequential(nn.Linear(64 + 5, n_cond), nn.SiLU(), nn.Linear(n_cond, n_cond))
        every, coarse = tuple(range(len(plane_widths))), tuple(range(1, len(strip_widths)))
        self.plane = UNet(16 * 9, 16 * 2, plane_widths, n_cond, PlaneConv, attention=every)
        n_in, n_out = 6 * self.channels + 4, 2 * self.channels
        self.strip = UNet(n_in, n_out, strip_widths, n_cond, CoverConv, attention=coarse)

    def forward(self, z: torch.Tensor, sigma: torch.Tensor, condition: Condition) -> torch.Tensor:
        """``z`` (n, 2 * channels, h, w) with noise of standard deviation ``sigma`` (n,): the clean z."""
        base, error = self.linear(z, sigma, condition)
        return base + error[:, None, None, None] * self.correction(z, base, sigma, condition)

    def linear(self, z: torch.Tensor, sigma: torch.Tensor, c: Condition) -> tuple[torch.Tensor, torch.Tensor]:
        """The estimate without a network, and its root mean square error ``(n,)``."""
        basis = self.bridge.basis
        positive, negative = z.chunk(2, dim=1)
        tail = 1.0 if self.training else TAIL
        whole, restoring = c.whole[:, None, None, None], c.restoring[:, None, None, None]
        mean, error = self._prior[0](positive + (1 - whole) * negative, sigma * (2 - c.whole).sqrt(), c.region, tail)
        doubt = torch.exp(self.trust[0] + self.trust[1] * c.log_counts)
        pull = doubt.square() / (doubt.square() + sigma.square())
        near = c.observed + pull[:, None, None, None] * (positive - c.observed)
        mean = torch.where(restoring > 0, near, mean)
        error = torch.where(c.restoring > 0, sigma * pull.sqrt(), error)
        part = basis.encode(c.mask * basis.decode(mean))
        part = torch.where(whole > 0, mean, part)
        return torch.cat([part, mean - part], dim=1), error

    def correction(self, z: torch.Tensor, base: torch.Tensor, sigma: torch.Tensor, c: Condition) -> torch.Tensor:
        """What the networks add, in units of the linear estimate's error; no negative part where there is none."""
        basis, sd = self.bridge.basis, self.sigma_data
        wave = sigma.log()[:, None] / 4 * self.frequencies
        told = torch.stack([c.log_pitch, c.log_counts / 3, c.restoring, c.whole, c.mirrored], dim=1)
        vector = self.embed(torch.cat([wave.sin(), wave.cos(), told], dim=1))
        for table, word in zip(self.words, (c.tracer, c.region, c.task), strict=True):
            vector = vector + table(word)
        vector = nn.functional.silu(vector)
        scaled = z / (sigma.square() + sd**2).sqrt()[:, None, None, None]
        stack = torch.cat([scaled, base / sd, basis.encode(c.mask), c.observed / sd], dim=1)
        place = positions(z.shape[-2], z.shape[-1], c.turn).to(z.device)
        lifted = torch.cat([lift(stack, basis.sign.repeat(6)), place], dim=1)
        strip = lower(self.strip(lifted, vector), basis.sign.repeat(2))
        seen = self.bridge.to_plane(stack)
        seen = nn.functional.pixel_unshuffle(torch.cat([seen, plane_positions(seen.shape[-1], c.turn)], dim=1), 4)
        image = nn.functional.pixel_shuffle(self.plane(seen, vector), 4)
        positive, negative = (strip + self.bridge.to_latent(image)).chunk(2, dim=1)
        return torch.cat([positive, negative * (1 - c.whole)[:, None, None, None]], dim=1)


def plane_positions(size: int, turn: torch.Tensor) -> torch.Tensor:
    """x, y and radius of every pixel in the object's own, turned axes, ``(n, 3, size, size)`` in [-1, 1]."""
    axis = (torch.arange(size) - (size - 1) / 2) * (2 / size)
    x, y = axis[None, None, :], -axis[None, :, None]
    cos, sin = turn.cos()[:, None, None], turn.sin()[:, None, None]
    radius = (x.square() + y.square()).sqrt().expand(len(turn), -1, -1)
    return torch.stack([x * cos + y * sin, y * cos - x * sin, radius], dim=1)
