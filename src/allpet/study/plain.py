"""The rival on the tasks: a plain U-Net from sinogram to sinogram, on the same pairs and for the same time.

It is told the same words and numbers as the translator and has about as many weights, but knows no physics: it sees
counts, background, attenuation and dynamic frames as channels and returns expected trues.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from allpet.model.moebius import PlaneConv, UNet
from allpet.model.prompt import REGIONS, TASKS, TRACERS
from allpet.model.restorer import Restorer, gaussian_blur
from allpet.model.translator import FRAMES, TOLD, Ask, ask
from allpet.precision import autocast
from allpet.scan.dataset import Dataset
from allpet.train.augment import turn
from allpet.train.muon import muon
from allpet.train.pairs import Pairs, facts_of, rows_of
from allpet.train.samples import apart


@dataclass(frozen=True)
class PlainPairs(Pairs):
    """Pairs as sinograms over their mean trues.

    Parameters
    ----------
    stack : counts less background, background, depth of attenuation and frames, ``(n, 9, views, bins)``, float16.
    target : expected trues of both results ``(n, 2, views, bins)``, float16. unit : mean trues in a bin ``(n,)``.
    """

    @classmethod
    def from_dataset(cls, data: Dataset, restorer: Restorer, name: str = "the data set") -> PlainPairs:
        """All pairs of a data set."""
        facts = facts_of(data, restorer, name)
        some = slice(0, len(data))
        observed, background = (rows_of(data, key, some) for key in ("observed", "background"))
        n, column = len(observed), (slice(None), None, None)
        share = (rows_of(data, "dose_fraction", some) if "dose_fraction" in data else torch.ones(n))[column]
        blind = facts["task"] == "attenuation"
        depth = torch.zeros_like(observed)
        if not blind:
            depth = -rows_of(data, "attenuation", some).clamp_min(1e-6).log()
        net = observed - background * share
        unit = net.mean(dim=(-2, -1)).clamp_min(1e-3)
        moving = torch.zeros(n, FRAMES, *observed.shape[1:])
        if "length" in facts:
            seen = rows_of(data, "frames", some) - rows_of(data, "frames_background", some)
            moving = seen / (facts["length"][None, :, None, None] * unit[:, None, None, None])
        first = rows_of(data, "sinogram", some)
        if facts["task"] == "low-dose":
            first = (first - background).clamp_min(0)
        second = rows_of(data, "second", some) if "second" in data else torch.zeros_like(first)
        target = torch.stack([first * (1.0 if blind else share), second], dim=1) / unit[:, None, None, None]
        stack = torch.stack([net / unit[column], background * share / unit[column], depth], dim=1)
        words = {key: facts.get(key) for key in ("task", "tracer", "region", "to", "delay_minutes")}
        question = ask(
            n,
            **words,  # type: ignore[arg-type]
            level=unit,
            bin_mm=data.beam.bin_mm,
            decay=facts.get("decay", 1.0),
            has_mu=not blind,
            has_frames="length" in facts,
        )
        subject = torch.from_numpy(np.asarray(data["subject"])).long()
        stack = torch.cat([stack, moving], dim=1).clamp(-6e4, 6e4)
        return cls(stack.half(), target.clamp_max(6e4).half(), question, subject, unit)


class PlainNet(nn.Module):
    """The U-Net: ``(n, 9, views, bins)`` to trues of both results ``(n, 2, views, bins)``, >= 0."""

    def __init__(self, widths: tuple[int, ...] = (24, 48, 80, 112), n_cond: int = 96) -> None:
        super().__init__()
        sizes = (len(TASKS) + 1, len(TRACERS) + 1, len(TRACERS) + 1, len(REGIONS) + 1)
        self.words = nn.ModuleList([nn.Embedding(size, n_cond) for size in sizes])
        self.embed = nn.Sequential(nn.Linear(len(TOLD), n_cond), nn.SiLU(), nn.Linear(n_cond, n_cond))
        self.unet = UNet(4 * (4 + FRAMES), 8, widths, n_cond, PlaneConv, attention=(len(widths) - 1,))
        self.unet.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.precision = "auto"

    def forward(self, stack: torch.Tensor, question: Ask) -> torch.Tensor:
        smooth = gaussian_blur(stack[:, 0], 1.5).clamp_min(0)
        seen = torch.cat([stack, smooth[:, None]], dim=1)
        x = F.pixel_unshuffle(torch.sign(seen) * torch.log1p(seen.abs()), 2)
        vector = self.embed(question.told)
        for table, name in zip(self.words, ("task", "tracer", "to", "region"), strict=True):
            vector = vector + table(getattr(question, name))
        with autocast(x.device, self.precision):
            out = self.unet(x.contiguous(memory_format=torch.channels_last), F.silu(vector))
        change = F.pixel_shuffle(out.float(), 2)
        base = smooth[:, None]
        return F.relu(base + change * (1 + base))


class Plain:
    """Recipe ``plain``: the U-Net, with the loss and the optimiser of the translator."""

    rate, ema, batch = 2e-3, 0.998, 16
    precision = "fp32"
    progress = 0.0

    def __init__(self, data: PlainPairs, folder: Path, seed: int) -> None:
        self.data, self.folder, self.seed = data, folder, seed
        self.rows, kept = apart(data.subject, 1 / 20, seed)
        self.kept = data[kept]
        torch.manual_seed(seed)
        self.network = PlainNet()

    def optimizer(self, network: PlainNet) -> torch.optim.Optimizer:
        """Muon inside of the U-Net."""
        return muon(network, network.unet, self.rate)

    def loss(self, network: PlainNet, rng: torch.Generator) -> torch.Tensor:
        """Mean log relative square error and relative absolute error."""
        network.precision = self.precision
        pick = self.rows[torch.randint(len(self.rows), (self.batch,), generator=rng)]
        part = self.data[pick]
        both = torch.cat([part.stack, part.target], dim=1).float()
        views = both.shape[-2]
        steps = torch.randint(-(views // 22), views // 22 + 1, (len(both),), generator=rng)
        both = torch.stack([turn(x, int(k)) for x, k in zip(both, steps, strict=True)])
        return self._error(network, both[:, : part.stack.shape[1]], both[:, part.stack.shape[1] :], part.question)

    def _error(self, network: PlainNet, stack: torch.Tensor, target: torch.Tensor, question: Ask) -> torch.Tensor:
        error = network(stack, question) - target
        asked = target.amax(dim=(-2, -1)) > 0
        square = error.square().mean(dim=(-2, -1)) / target.square().mean(dim=(-2, -1)).clamp_min(1e-6)
        relative = (error.abs() / (target + 0.3)).mean(dim=(-2, -1))
        return ((square + 1e-4).log() + relative)[asked].mean()

    def held_out(self, network: PlainNet, rng: torch.Generator) -> float | None:
        """The same on subjects kept apart."""
        if not len(self.kept):
            return None
        parts = [self.kept[slice(k, k + 32)] for k in range(0, min(len(self.kept), 256), 32)]
        each = [float(self._error(network, p.stack.float(), p.target.float(), p.question)) * len(p) for p in parts]
        return sum(each) / sum(map(len, parts))

    def export(self, network: PlainNet, record: dict[str, Any]) -> None:
        from safetensors.torch import save

        from allpet.io.files import replacing

        with replacing(self.folder / "plain.safetensors") as (part,):
            part.write_bytes(save({k: v.contiguous() for k, v in network.state_dict().items()}))


def load_plain(folder: Path) -> PlainNet:
    """A trained rival."""
    from safetensors.torch import load_file

    network = PlainNet()
    network.load_state_dict(load_file(folder / "plain.safetensors"))
    return network.eval()


def train_plain(stores: Sequence[Path], out: Path, minutes: float, seed: int = 0) -> None:
    """Train the U-Net on stores of pairs; an interrupted call goes on."""
    from allpet.model import AllPET
    from allpet.train import train

    data = PlainPairs.load(stores, AllPET.from_pretrained().need("restorer"))
    train(data, out, Plain, minutes, seed=seed, clock="cpu", tensorboard=False)
