"""Train on synthetic, test on real: does a low-dose network gain from generated sinograms, and how much?

A plain U-Net restores 1/20 of 500,000 counts. It is trained for the same processor time on few real sinograms as they
are, on these with exact geometric augmentation, and on these and generated ones with the same augmentation; it is
tested on people that neither it nor the generator saw.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from allpet.metrics import psnr
from allpet.model import AllPET
from allpet.model.moebius import PlaneConv, UNet
from allpet.precision import autocast
from allpet.study.data import training_set, unseen
from allpet.train.augment import mirror, place, turn
from allpet.train.samples import chance, uniform

COUNTS = 25_000.0
"""Expected counts of a sinogram: 1/20 of the 500,000 of a full dose."""


class Restorer(nn.Module):
    """A U-Net on blocks of 2 x 2 bins; square roots of counts come in, expected counts go out."""

    def __init__(self) -> None:
        super().__init__()
        self.unet = UNet(4, 4, (32, 64, 96), 8, PlaneConv)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, counts: torch.Tensor) -> torch.Tensor:
        """``(n, views, bins) -> (n, views, bins)``, >= 0."""
        smooth = F.avg_pool2d(counts[:, None], 5, 1, 2)
        x = F.pixel_unshuffle((counts[:, None] + 0.375).sqrt(), 2).contiguous(memory_format=torch.channels_last)
        out = self.unet(x, torch.zeros(len(counts), 8))
        return ((smooth + 0.375).sqrt() + F.pixel_shuffle(out.float(), 2))[:, 0].clamp_min(0).square()


def noisy(s: torch.Tensor, rng: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Counts and expected counts of sinograms ``(n, views, bins)`` of mean 1."""
    expected = s * (COUNTS / (s.shape[-1] * s.shape[-2]))
    return torch.poisson(expected, generator=rng), expected


def varied(s: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Turned any way round, mirrored, moved and scaled."""
    n, views, bins = s.shape
    steps = torch.randint(2 * views, (n,), generator=rng)
    s = torch.stack([turn(x, int(k)) for x, k in zip(s, steps, strict=True)])
    s = torch.where(chance(n, 0.5, rng)[:, None, None], mirror(s), s)
    shift = torch.randn(n, 2, generator=rng) * (0.03 * bins)
    s = place(s[:, None], shift, torch.exp(uniform(n, -0.15, 0.15, rng)))[:, 0].clamp_min(0)
    return s / s.mean(dim=(-2, -1), keepdim=True).clamp_min(1e-6)


def fit(sinograms: torch.Tensor, augment: bool, minutes: float, seed: int, batch: int = 16) -> Restorer:
    """Train for so many minutes of processor time; the rate follows a cosine to 0."""
    torch.manual_seed(seed)
    network = Restorer()
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3)
    begun, rng, done = time.process_time(), torch.Generator().manual_seed(seed), 0.0
    while done < 1:
        pick = sinograms[torch.randint(len(sinograms), (batch,), generator=rng)]
        counts, expected = noisy(varied(pick, rng) if augment else pick, rng)
        with autocast("cpu", "auto"):
            out = network(counts)
        error = (out.float() - expected).square().mean(dim=(1, 2)) / expected.square().mean(dim=(1, 2))
        optimiser.zero_grad()
        error.log().mean().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        done = (time.process_time() - begun) / (60 * minutes)
        for group in optimiser.param_groups:
            group["lr"] = 2e-3 * 0.5 * (1 + torch.cos(torch.tensor(min(done, 1.0) * torch.pi)).item())
    return network.eval()


@torch.no_grad()
def judge(network: Restorer, people: torch.Tensor, seed: int) -> torch.Tensor:
    """PSNR of each restored sinogram (dB, to its own maximum)."""
    counts, expected = noisy(people, torch.Generator().manual_seed(seed))
    out = torch.cat([network(part) for part in counts.split(16)])
    return psnr(out, expected)


def compare(
    data: Path,
    model: Path | None,
    real: int = 100,
    synthetic: int = 900,
    minutes: float = 5.0,
    seeds: tuple[int, ...] = (0, 1, 2),
    people: int = 12,
) -> list[dict[str, Any]]:
    """A row for each arm and seed: mean PSNR over `people` unseen sinograms of every prompt and its standard error."""
    few = training_set(data, real)
    generator = AllPET.from_pretrained(model)
    prompts = list(generator.config["log_mean"])
    each = -(-synthetic // len(prompts))
    made = torch.cat([generator.generate(prompt, each, seed=100 + k).sinogram for k, prompt in enumerate(prompts)])
    made = made / made.mean(dim=(-2, -1), keepdim=True)
    views, bins = few.sinogram.shape[-2:]
    words = [prompt.split() for prompt in prompts]
    test = torch.cat([unseen(data, tracer, region, people, views, bins) for tracer, region in words])
    test = test / test.mean(dim=(-2, -1), keepdim=True)
    arms = {
        "real only": (few.sinogram, False),
        "real, exact geometry": (few.sinogram, True),
        "real and synthetic, exact geometry": (torch.cat([few.sinogram, made]), True),
        "synthetic only, exact geometry": (made, True),
    }
    rows = []
    for seed in seeds:
        for name, (sinograms, augment) in arms.items():
            scores = judge(fit(sinograms, augment, minutes, seed), test, seed)
            error = float(scores.std() / len(scores) ** 0.5)
            facts = dict(arm=name, seed=seed, sinograms=len(sinograms), n=len(scores), psnr=float(scores.mean()))
            rows.append(dict(**facts, standard_error=error, minutes=minutes))
    return rows


def markdown(rows: list[dict[str, Any]]) -> str:
    """Means over seeds, plus or minus half their range."""
    lines = ["| trained on | sinograms | PSNR (dB) | seeds | n |", "|---|---|---|---|---|"]
    for name in dict.fromkeys(row["arm"] for row in rows):
        mine = [row for row in rows if row["arm"] == name]
        values = [row["psnr"] for row in mine]
        spread = (max(values) - min(values)) / 2
        text = f"{sum(values) / len(values):.2f} ± {spread:.2f}"
        lines.append(f"| {name} | {mine[0]['sinograms']} | {text} | {len(mine)} | {mine[0]['n']} |")
    return "\n".join(lines)
