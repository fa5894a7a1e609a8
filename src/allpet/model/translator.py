"""The translator: from what a scan shows to what a task asks for, in the image, with its standard deviation.

One network for all tasks. It sees the restored image of the scan (and, where there are any, its attenuation and its
dynamic frames), is told the task, the tracers, the region, the counts, the pitch and the delay, and answers in the
form that the task's physics has:

====================== ==================================================================================
low-dose               the same image, corrected
delayed, convert       another image >= 0: this one, decayed exactly, times a ratio, and what the ratio cannot give
attenuation            a mu map >= 0
separate               two images >= 0 whose sum is the image that was given
====================== ==================================================================================

Images are in units of the scan: divided by the mean of the restored sinogram over its bins, times half the bins, so
that tissue is about 1. Attenuation is in units of water's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch import nn
from torch.nn import functional as F

from allpet.model.denoiser import plane_positions
from allpet.model.moebius import PlaneConv, UNet
from allpet.model.prompt import REGIONS, TASKS, TRACERS
from allpet.model.restorer import told_level
from allpet.model.words import Words
from allpet.precision import autocast

FRAMES = 6
"""Dynamic frames that the network takes; others are brought to as many."""
TOLD = ("level", "level2", "log_pitch", "log_delay", "has_mu", "has_frames")
SECOND = ("separate",)
"""Tasks with a second result."""
ROOM = 12
"""Rows of the table of tasks: some are free for new ones."""
SPREAD = 0.05
"""Standard deviation that an untrained network states, in units of the scan."""


@dataclass(frozen=True)
class Ask:
    """What is asked about n planes: words as index + 1 (0: not said) and numbers.

    Parameters
    ----------
    task, tracer, to, region : int64 ``(n,)``; `to` is the tracer wanted, or the second one.
    told : numbers in the order of :data:`TOLD`, ``(n, 6)``. decay : share of the activity left at the time asked for.
    """

    task: torch.Tensor
    tracer: torch.Tensor
    to: torch.Tensor
    region: torch.Tensor
    told: torch.Tensor
    decay: torch.Tensor

    def __len__(self) -> int:
        return len(self.task)

    @property
    def log_level(self) -> torch.Tensor:
        """Logarithm of the mean trues in a bin ``(n,)``."""
        return 2 * self.told[:, 0] + 1

    @property
    def has_frames(self) -> torch.Tensor:
        """Whether there are dynamic frames, bool ``(n,)``."""
        return self.told[:, TOLD.index("has_frames")] > 0

    def __getitem__(self, index: torch.Tensor | slice) -> Ask:
        return Ask(*(getattr(self, f.name)[index] for f in fields(self)))


def ask(
    n: int,
    task: str,
    tracer: str | None,
    region: str | None,
    level: torch.Tensor,
    bin_mm: torch.Tensor | float,
    to: str | None = None,
    delay_minutes: float | None = None,
    decay: float = 1.0,
    has_mu: bool = True,
    has_frames: bool = False,
) -> Ask:
    """The same question about n planes.

    Parameters
    ----------
    level : mean trues in a bin ``(n,)``. bin_mm : pitch. decay : see :class:`Ask`. Unknown words count as not said.
    """

    def word(value: str | None, known: tuple[str, ...]) -> torch.Tensor:
        return torch.full((n,), known.index(value) + 1 if value in known else 0)

    x = told_level(level)
    pitch = torch.as_tensor(bin_mm, dtype=torch.float32).expand(n)
    delay = 0.0 if delay_minutes is None else math.log(max(delay_minutes, 1.0) / 60)
    flat = [torch.full((n,), float(value)) for value in (delay, has_mu, has_frames)]
    told = torch.stack([x, x.square() - 1, torch.log(pitch / 4), *flat], dim=1)
    return Ask(
        word(task, TASKS),
        word(tracer, TRACERS),
        word(to, TRACERS),
        word(region, REGIONS),
        told,
        torch.full((n,), float(decay)),
    )


@dataclass(frozen=True)
class Views:
    """What the network sees of n planes, in units of the scan.

    Parameters
    ----------
    image : restored, >= 0, ``(n, bins, bins)``. raw : a short OSEM, smoothed by one pixel, likewise.
    mu : attenuation in units of water, 0 where unknown. frames : a short OSEM of the dynamic ones, smoothed, in the
        unit of the image, ``(n, 6, bins, bins)``, 0 where there are none.
    """

    image: torch.Tensor
    raw: torch.Tensor
    mu: torch.Tensor
    frames: torch.Tensor

    def __len__(self) -> int:
        return len(self.image)

    def __getitem__(self, index: torch.Tensor | slice) -> Views:
        return Views(*(getattr(self, f.name)[index] for f in fields(self)))

    def stack(self) -> torch.Tensor:
        """All of it, ``(n, 9, bins, bins)``."""
        return torch.cat([torch.stack([self.image, self.raw, self.mu], dim=1), self.frames], dim=1)

    @classmethod
    def unstack(cls, stack: torch.Tensor) -> Views:
        """The other way round."""
        return cls(stack[:, 0], stack[:, 1], stack[:, 2], stack[:, 3:])


class Translator(nn.Module):
    """The network.

    Parameters
    ----------
    widths : channels of the U-Net's levels, at half, quarter, ... of the image. n_cond : width of the condition.
    precision : of its arithmetic, see :mod:`allpet.precision`.
    """

    def __init__(self, widths: tuple[int, ...] = (24, 48, 80, 112), n_cond: int = 96, precision: str = "auto") -> None:
        super().__init__()
        self.config = dict(widths=widths, n_cond=n_cond)
        self.precision = precision
        sizes = (ROOM, len(TRACERS) + 1, len(TRACERS) + 1, len(REGIONS) + 1)
        self.words = nn.ModuleList([Words(size, n_cond) for size in sizes])
        for word in self.words:
            nn.init.normal_(word.weight, std=0.3)  # type: ignore[arg-type]
        self.embed = nn.Sequential(nn.Linear(len(TOLD), n_cond), nn.SiLU(), nn.Linear(n_cond, n_cond))
        coarse = (len(widths) - 1,)
        self.unet = UNet(4 * (3 + FRAMES) + 3, 16, widths, n_cond, PlaneConv, attention=coarse)
        self.unet.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def parameters_count(self) -> int:
        """Weights."""
        return sum(p.numel() for p in self.parameters())

    def condition(self, numbers: torch.Tensor, question: Ask) -> torch.Tensor:
        """Numbers ``(n, k)`` and the words of a question as a vector ``(n, n_cond)``."""
        vector: torch.Tensor = self.embed(numbers)
        for table, name in zip(self.words, ("task", "tracer", "to", "region"), strict=True):
            vector = vector + table(getattr(question, name))
        return vector

    def forward(self, views: Views, question: Ask) -> tuple[torch.Tensor, torch.Tensor]:
        """Both results and their standard deviations, each ``(n, 2, bins, bins)``, >= 0, in units of the scan.

        The second result is 0 but for tasks in :data:`SECOND`; attenuation's first is in units of water.
        """
        seen = views.stack()
        x = F.pixel_unshuffle(torch.sign(seen) * torch.log1p(seen.abs()), 2)
        place = plane_positions(x.shape[-1], x.new_zeros(len(x)))
        vector = self.condition(question.told, question)
        x = torch.cat([x, place], dim=1).contiguous(memory_format=torch.channels_last)
        with autocast(x.device, self.precision):
            out = self.unet(x, F.silu(vector))
        change, more, first, second = F.pixel_shuffle(out.float(), 2).unbind(1)
        mean = answer(views.image, change, more, question)
        spread = torch.stack([first, second], dim=1).clamp(-6, 6).exp() * SPREAD * (0.2 + mean.detach().sqrt())
        return mean, spread * torch.stack([torch.ones_like(first), mean[:, 1].detach() > 0], dim=1)


def answer(image: torch.Tensor, change: torch.Tensor, more: torch.Tensor, question: Ask) -> torch.Tensor:
    """The network's two numbers in every pixel, as the task's physics has them, ``(n, 2, bins, bins)``."""
    column = (slice(None), None, None)
    task = question.task[column]
    corrected = F.relu(image + change * (1 + image))
    added = F.softplus(4 * more - 6) / 4  # next to nothing from an untrained network
    other = image * question.decay[column] * change.clamp(-6, 4).exp() + added
    mu = F.softplus(4 * change - 1) / 4
    share = torch.sigmoid(change)
    low, attenuation, separate = (task == TASKS.index(name) + 1 for name in ("low-dose", "attenuation", "separate"))
    first = torch.where(low, corrected, torch.where(attenuation, mu, torch.where(separate, share * image, other)))
    return torch.stack([first, torch.where(separate, image - share * image, 0.0)], dim=1)
