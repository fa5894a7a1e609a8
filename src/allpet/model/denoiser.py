"""Second stage: the conditional latent denoiser, a network around the best estimate that needs none.

State: the latents of the positive and the negative part of a sinogram, side by side; their sum is the
whole. For every prompt the augmented training sinograms give each latent a mean and a variance. The
expected clean state under noise is then in closed form, and the network adds a correction in units of
that estimate's error: Karras preconditioning (EDM, arXiv 2206.00364, table 1) element by element, about
a mean. A whole sinogram's negative part has mean and variance 0, hence stays 0 whatever the network says.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from allpet.model.condition import TOLD, Condition
from allpet.model.latent import FirstStage
from allpet.model.moebius import CoverConv, PlaneConv, UNet, lift, lower, positions
from allpet.model.prompt import REGIONS, TASKS, TRACERS
from allpet.model.words import Words, WordTables, known
from allpet.precision import autocast

FLOOR = 0.02
"""Least variance of a latent, as a share of the mean variance over the latents that vary."""
BELIEF = 12
"""A prompt's variance counts as much as its region's when it comes from this many sinograms."""
COARSE = 8.0
"""Noise above which a sample's large traits are decided (body, bladder, glands): where an emphasis counts."""


class Denoiser(WordTables):
    """D(z; sigma, condition): the expected clean latents of both parts.

    Parameters
    ----------
    channels, rows, columns : shape of one part's latents. surface : ``"plane"`` or ``"strip"``.
    sign : parity of the channels under radial reflection, for the strip. widths : of the U-Net's levels.
    n_cond : width of the condition vector. precision : of the network's arithmetic, see
        :mod:`allpet.precision`.
    """

    tables = ("mean", "variance")
    frequencies: torch.Tensor
    mean: torch.Tensor
    variance: torch.Tensor
    sign: torch.Tensor

    def __init__(
        self,
        channels: int = 12,
        rows: int = 16,
        columns: int = 16,
        surface: str = "plane",
        sign: torch.Tensor | None = None,
        widths: tuple[int, ...] = (128, 192, 256),
        n_cond: int = 128,
        precision: str = "auto",
    ) -> None:
        super().__init__()
        self.config = dict(channels=channels, rows=rows, columns=columns, surface=surface, widths=widths, n_cond=n_cond)
        self.shape = (2 * channels, rows, columns)
        self.surface, self.precision = surface, precision
        table = (2, len(TRACERS) + 1, len(REGIONS) + 1, *self.shape)  # split or whole, tracer, region
        self.register_buffer("mean", torch.zeros(table))
        self.register_buffer("variance", torch.ones(table))
        self.register_buffer("sign", torch.ones(channels) if sign is None else sign.clone())
        self.register_buffer("frequencies", torch.exp(torch.linspace(0, math.log(50), 32)), persistent=False)
        sizes = (len(TRACERS) + 1, len(REGIONS) + 1, len(TASKS) + 1, (len(TRACERS) + 1) * (len(REGIONS) + 1))
        self.words = nn.ModuleList([Words(size, n_cond) for size in sizes])
        for word in self.words:
            nn.init.normal_(word.weight, std=0.3)  # type: ignore[arg-type]
        n_told = 2 * len(self.frequencies) + len(TOLD) + 3
        self.embed = nn.Sequential(nn.Linear(n_told, 2 * n_cond), nn.SiLU(), nn.Linear(2 * n_cond, n_cond))
        strip = surface == "strip"
        n_in = 4 * channels + 2 + (4 if strip else 3)
        coarse = tuple(range(1, len(widths)))
        self.unet = UNet(n_in, 2 * channels, widths, n_cond, CoverConv if strip else PlaneConv, attention=coarse)
        self.unet.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @classmethod
    def of(cls, first: FirstStage, **options: object) -> Denoiser:
        """One that fits a first stage's latents."""
        return cls(*first.shape, surface=first.surface, sign=first.basis.sign, **options)  # type: ignore[arg-type]

    @property
    def parameters_count(self) -> int:
        """Weights, without the tables of means and variances."""
        return sum(p.numel() for p in self.parameters())

    def fit(self, state: torch.Tensor, condition: Condition, counts: torch.Tensor) -> Denoiser:
        """Tables of means and variances from clean states ``(m, *shape)`` and what is told of them.

        ``counts`` says from how many sinograms the states of each tracer and region come: variances of few lean on
        those of their region.
        """
        for part in (0, 1):
            mine = condition.whole == part
            for region in range(len(REGIONS) + 1):
                here = mine & ((condition.region == region) | (region == 0))
                if not bool(here.any()):
                    continue
                pooled = _variances(state, condition, here)
                for tracer in range(len(TRACERS) + 1):
                    said = here & ((condition.tracer == tracer) | (tracer == 0))
                    n = int(said.sum())
                    self.mean[part, tracer, region] = state[said if n else here].mean(dim=0)
                    own = state[said].var(dim=0, correction=0) if n and tracer else pooled
                    if tracer == 0:
                        own = state[here].var(dim=0, correction=0)
                    known = float(counts[tracer, region])
                    share = known / (known + BELIEF) if tracer else 1.0
                    value = _smooth(share * own + (1 - share) * pooled)
                    varies = value > 1e-8
                    floor = FLOOR * float(value[varies].mean()) if bool(varies.any()) else 0.0
                    self.variance[part, tracer, region] = torch.where(varies, value + floor, 0.0)
        return self

    def _row(self, c: Condition) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Where the tables of means and variances have each sample."""
        return c.whole.long(), known(c.tracer, self.mean.shape[1]), c.region

    def linear(self, z: torch.Tensor, sigma: torch.Tensor, c: Condition) -> tuple[torch.Tensor, torch.Tensor]:
        """The estimate without a network and its root mean square error, both of z's shape."""
        row = self._row(c)
        mean, variance = self.mean[row], self.variance[row]
        noise = sigma.square()[:, None, None, None]
        gain = variance / (variance + noise)
        return mean + gain * (z - mean), (noise * gain).sqrt()

    def spread(self, c: Condition) -> torch.Tensor:
        """Root mean square standard deviation of the latents, each weighted by its variance, ``(n,)``.

        About that of a prompt's hottest and most variable places, which set the noise that hides everything.
        """
        variance = self.variance.cpu()[self._row(c)].flatten(1)
        return (variance.square().sum(dim=1) / variance.sum(dim=1).clamp_min(1e-12)).sqrt().clamp_min(1.0)

    def correction(self, z: torch.Tensor, base: torch.Tensor, sigma: torch.Tensor, c: Condition) -> torch.Tensor:
        """What the network adds to `base`, in units of its error."""
        row = self._row(c)
        mean, variance = self.mean[row], self.variance[row]
        seen = (z - mean) / (variance + sigma.square()[:, None, None, None]).sqrt() * (variance > 0)
        wave = sigma.log()[:, None] / 4 * self.frequencies
        flags = torch.stack([c.whole, c.mask_told, c.attention_told], dim=1)
        vector = self.embed(torch.cat([wave.sin(), wave.cos(), c.told, flags], dim=1))
        both = c.tracer * (len(REGIONS) + 1) + c.region
        for table, word in zip(self.words, (c.tracer, c.region, c.task, both), strict=True):
            vector = vector + table(word)
        vector = nn.functional.silu(vector)
        stack = torch.cat([seen, base, c.mask, c.attention], dim=1)
        strip = self.surface == "strip"
        if strip:
            place = positions(z.shape[-2], z.shape[-1], c.turn.cpu()).to(z.device)
            even = torch.ones(2, device=z.device)
            stack = lift(stack, torch.cat([self.sign.repeat(4), even]))
        else:
            place = plane_positions(z.shape[-1], c.turn)
        x = torch.cat([stack, place], dim=1).contiguous(memory_format=torch.channels_last)
        with autocast(z.device, self.precision):
            out = self.unet(x, vector)
        out = out.float()
        return lower(out, self.sign.repeat(2)) if strip else out

    def forward(
        self, z: torch.Tensor, sigma: torch.Tensor, condition: Condition, emphasis: float = 1.0
    ) -> torch.Tensor:
        """``z`` (n, 2 * channels, h, w) with noise of standard deviation ``sigma`` (n,): the clean z.

        Parameters
        ----------
        emphasis : factor on the network's correction where the noise is above :data:`COARSE`. A network that was not
            trained to the end stays too near to the estimate without one, and what is drawn varies too little; above 1
            it is led away from that estimate (autoguidance, Karras et al., arXiv 2406.02507, whose weaker model is
            here the closed form and costs no evaluation).
        """
        base, error = self.linear(z, sigma, condition)
        correction = self.correction(z, base, sigma, condition)
        if emphasis != 1:
            correction = correction * torch.where(sigma > COARSE, emphasis, 1.0)[:, None, None, None]
        return base + error * correction

    def loss(self, state: torch.Tensor, noise: torch.Tensor, sigma: torch.Tensor, c: Condition) -> torch.Tensor:
        """Mean square error of the correction, weighted by the linear estimate's error (mean 1 in each sample).

        Latents that are nearly certain beforehand weigh little; every noise level weighs the same.
        """
        noisy = state + noise * sigma[:, None, None, None]
        base, error = self.linear(noisy, sigma, c)
        weight = error.square()
        weight = weight / weight.mean(dim=(1, 2, 3), keepdim=True).clamp_min(1e-12)
        target = torch.where(error > 0, (state - base) / error.clamp_min(1e-6), 0.0)
        left = self.correction(noisy, base, sigma, c) - target
        return (left.square() * weight).mean()


def _variances(state: torch.Tensor, condition: Condition, here: torch.Tensor) -> torch.Tensor:
    """Variance within a region about each tracer's own mean."""
    total, count = torch.zeros(state.shape[1:]), 0
    for tracer in condition.tracer[here].unique():
        mine = state[here & (condition.tracer == tracer)]
        total = total + (mine - mine.mean(dim=0)).square().sum(dim=0)
        count += len(mine)
    return total / count


def _smooth(value: torch.Tensor) -> torch.Tensor:
    """3 x 3 mean over neighbours."""
    padded = nn.functional.pad(value[None], (1, 1, 1, 1), mode="replicate")
    return nn.functional.avg_pool2d(padded, 3, 1)[0]


def plane_positions(size: int, turn: torch.Tensor) -> torch.Tensor:
    """x, y and radius of every pixel in the object's own, turned axes, ``(n, 3, size, size)`` in [-1, 1]."""
    axis = (torch.arange(size, device=turn.device) - (size - 1) / 2) * (2 / size)
    x, y = axis[None, None, :], -axis[None, :, None]
    cos, sin = turn.cos()[:, None, None], turn.sin()[:, None, None]
    radius = (x.square() + y.square()).sqrt().expand(len(turn), -1, -1)
    return torch.stack([x * cos + y * sin, y * cos - x * sin, radius], dim=1)
