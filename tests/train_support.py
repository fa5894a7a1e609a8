"""A recipe small enough to train hundreds of steps in a second, and a command that trains it: the loop's own tests.

``python train_support.py OUT --steps K [--pause S] [--save-seconds S] [--micro M] [--report K]``
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import nn

from allpet.errors import AllpetError
from allpet.io.files import replacing
from allpet.precision import autocast
from allpet.train import train
from allpet.train.samples import TrainingSet


def toy_set(n: int = 12) -> TrainingSet:
    """Disks' sinograms, so to say: a smooth bump of random width."""
    rng = torch.Generator().manual_seed(5)
    x = torch.linspace(-1, 1, 16)
    width = 0.2 + 0.6 * torch.rand(n, 1, 1, generator=rng)
    s = torch.exp(-0.5 * (x / width) ** 2).expand(n, 16, 16).clone()
    s /= s.mean(dim=(1, 2), keepdim=True)
    ones = torch.ones(n)
    return TrainingSet(s, torch.zeros_like(s), s.clone(), ones, ones, ones.long(), ones.long(), torch.arange(n))


class Toy:
    """Denoise bumps, with everything that must survive a kill: dropout, buffers that change, held-out loss."""

    rate, ema, batch, progress, precision = 1e-2, 0.9, 4, 0.0, "fp32"

    def __init__(self, data: TrainingSet, folder: Path, seed: int) -> None:
        self.data, self.folder, self.seed = data, folder, seed
        layers = (nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.GELU(), nn.Dropout(0.1), nn.Conv2d(8, 1, 1))
        self.network = nn.Sequential(*layers)

    def loss(self, network: nn.Module, rng: torch.Generator) -> torch.Tensor:
        rows = torch.randint(8, (self.batch,), generator=rng)
        return self._error(network, self.data.sinogram[rows, None], rng)

    def _error(self, network: nn.Module, clean: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        noisy = clean + 0.5 * torch.randn(clean.shape, generator=rng)
        with autocast("cpu", self.precision):
            guess = network(noisy)
        return (guess.float() - clean).square().mean()

    def held_out(self, network: nn.Module, rng: torch.Generator) -> float | None:
        return float(self._error(network, self.data.sinogram[8:, None], rng))

    def pictures(self, network: nn.Module) -> torch.Tensor | None:
        return network(self.data.sinogram[:5, None])[:, 0].clamp_min(0)

    def export(self, network: nn.Module, record: dict[str, Any]) -> None:
        with replacing(self.folder / "toy.safetensors", self.folder / "toy.json") as (weights, facts):
            weights.write_bytes(save(network.state_dict()))
            facts.write_text(json.dumps(record))


class PlainToy(Toy):
    """Without layers that see more than one sample: processes and micro-batches must not matter."""

    def __init__(self, data: TrainingSet, folder: Path, seed: int) -> None:
        super().__init__(data, folder, seed)
        self.network = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.GELU(), nn.Conv2d(8, 1, 1))


def state(folder: Path, name: str = "Toy") -> dict[str, torch.Tensor]:
    """All tensors of a run's checkpoint."""
    return load_file(folder / f"checkpoint-{name}.safetensors")


def lines(folder: Path) -> list[dict[str, Any]]:
    """The run's reports."""
    return [json.loads(line) for line in (folder / "stats.jsonl").read_text().splitlines()]


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    """Whether two sets of tensors are alike, bit for bit."""
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--pause", type=float, default=0.0, help="seconds that every step sleeps")
    parser.add_argument("--save-seconds", type=float, default=30.0)
    parser.add_argument("--micro", type=int, default=1)
    parser.add_argument("--report", type=int, default=None)
    parser.add_argument("--plain", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    toy = PlainToy if given.plain else Toy

    class Paused(toy):  # type: ignore[valid-type, misc]
        name = toy.__name__

        def loss(self, network: nn.Module, rng: torch.Generator) -> torch.Tensor:
            time.sleep(given.pause)
            return super().loss(network, rng)

    how = dict(save_seconds=given.save_seconds, micro_batches=given.micro, report_steps=given.report)
    try:
        train(toy_set(), given.out, Paused, max_steps=given.steps, tensorboard=False, **how)
    except AllpetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
