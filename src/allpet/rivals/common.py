"""What the rivals share: words, batches, files, and drawing by prompt.

All work on sinograms of mean 1, get the same exact geometric augmentation as ours, told to the network as ours is,
and say the same words: tracer, region, and both together.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from allpet.diffusion import seeded_noise
from allpet.errors import AllpetError
from allpet.geometry import ParallelBeam
from allpet.io.files import replacing
from allpet.model.condition import TOLD
from allpet.model.prompt import REGIONS, TRACERS, parse_prompt
from allpet.precision import autocast
from allpet.scan.core import Scan
from allpet.scan.units import ACTIVITY_MM
from allpet.train.samples import TrainingSet, vary

GROUP = 16
CONFIG, WEIGHTS = "rival.json", "rival.safetensors"
Noise = Callable[[tuple[int, ...], int], torch.Tensor]
"""``noise(shape, stream) -> (n, *shape)``, standard normal."""


class Words(nn.Module):
    """Tracer, region and what is told of the augmentation, as one vector ``(n, width)``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.both = nn.Embedding((len(TRACERS) + 1) * (len(REGIONS) + 1), width)
        self.tracer, self.region = nn.Embedding(len(TRACERS) + 1, width), nn.Embedding(len(REGIONS) + 1, width)
        self.told = nn.Linear(len(TOLD) + 1, width)

    def forward(self, label: dict[str, torch.Tensor]) -> torch.Tensor:
        """Label: int64 `tracer` and `region` ``(n,)``, `told` ``(n, 6)`` and `turn` ``(n,)`` in radians."""
        tracer, region = label["tracer"], label["region"]
        words = self.both(tracer * (len(REGIONS) + 1) + region) + self.tracer(tracer) + self.region(region)
        return words + self.told(torch.cat([label["told"], 5 * label["turn"][:, None]], dim=1))


class Network(nn.Module):
    """A generator: `size` is that of its sinograms."""

    evaluations = 1
    kind = ""

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        if size[0] % 16 or size[1] % 16:
            raise AllpetError(f"sinograms are {size[0]} x {size[1]}; a rival needs multiples of 16")
        self.size = size

    def draw(self, noise: Noise, label: dict[str, torch.Tensor]) -> torch.Tensor:
        """Sinograms ``(n, views, bins)``, of any scale."""
        raise NotImplementedError


class RivalRecipe:
    """Base of the recipes: data, batches, export."""

    rate, ema, batch = 5e-4, 0.998, 32
    precision = "fp32"
    progress = 0.0
    kind = ""

    def __init__(self, data: TrainingSet, folder: Path, seed: int) -> None:
        self.data, self.folder, self.seed = data, folder, seed
        torch.manual_seed(seed)
        self.network: Any = NETWORKS()[self.kind]((data.sinogram.shape[-2], data.sinogram.shape[-1]))

    def draw(self, rng: torch.Generator) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Sinograms ``(n, 1, views, bins)`` of mean 1, and what is told of them."""
        _, s, told = vary(self.data, self.batch, rng)
        return s[:, None].contiguous(memory_format=torch.channels_last), told

    def cast(self) -> Any:
        """The context in which the network runs."""
        return autocast("cpu", self.precision)

    def export(self, network: Network, record: dict[str, Any]) -> None:
        """Write the rival as float16 safetensors and its config."""
        from safetensors.torch import save

        config = {"kind": self.kind, "size": list(network.size), "record": record, **self.data.facts()}
        state = {k: v.half().contiguous() for k, v in network.state_dict().items()}
        with replacing(self.folder / WEIGHTS) as (part,):
            part.write_bytes(save(state))
        with replacing(self.folder / CONFIG) as (part,):
            part.write_text(json.dumps(config, indent=1), encoding="utf-8")


def NETWORKS() -> dict[str, type[Network]]:
    """Networks by kind; imported when asked for, since they import this module."""
    from allpet.rivals.gan import GANNetwork
    from allpet.rivals.ldm import LDMNetwork
    from allpet.rivals.score import ScoreNetwork
    from allpet.rivals.vae import VAENetwork

    return {"vae": VAENetwork, "gan": GANNetwork, "score": ScoreNetwork, "ldm": LDMNetwork}


class Rival:
    """A trained rival."""

    def __init__(self, network: Network, config: dict[str, Any]) -> None:
        self.network, self.config = network.eval().requires_grad_(False), config

    @property
    def parameters(self) -> int:
        """Weights in all."""
        return sum(p.numel() for p in self.network.parameters())

    @property
    def evaluations(self) -> int:
        """Network evaluations behind one sample."""
        return self.network.evaluations

    @torch.no_grad()
    def generate(self, prompt: str, n: int = 1, seed: int = 0) -> Scan:
        """Draw sinograms for a prompt, in kBq/mL*mm, >= 0; sample i of a seed depends on i alone."""
        wanted = parse_prompt(prompt, tuple(self.config["tracers"]), tuple(self.config["regions"]))
        tracer, region = str(wanted.tracer), str(wanted.region)
        views, bins = self.network.size
        bin_mm = float(self.config["field_of_view_mm"][region]) / bins
        told = torch.zeros(GROUP, len(TOLD))
        told[:, TOLD.index("log_pitch")] = torch.tensor(bin_mm / 4).log()
        label = dict(
            tracer=torch.full((GROUP,), TRACERS.index(tracer) + 1),
            region=torch.full((GROUP,), REGIONS.index(region) + 1),
            told=told,
            turn=torch.zeros(GROUP),
        )
        center, spread = self.config["log_mean"][f"{tracer} {region}"]
        out = []
        for first in range(0, n, GROUP):
            rows = range(first, first + GROUP)

            def noise(shape: tuple[int, ...], stream: int, rows: range = rows) -> torch.Tensor:
                return seeded_noise(shape, seed, rows, stream)

            with autocast("cpu", "auto"):
                s = self.network.draw(noise, label).float().clamp_min(0)
            amplitude = torch.exp(center + spread * seeded_noise((), seed, rows, 1))
            s = s * (amplitude / s.mean(dim=(-2, -1)).clamp_min(1e-6))[:, None, None]
            out.append(s[: n - first])
        scan = Scan(torch.cat(out), ParallelBeam(views, bins, bin_mm), unit=ACTIVITY_MM)
        return replace(scan, tracer=wanted.tracer, isotope=wanted.isotope, region=wanted.region)


def load_rival(folder: str | Path) -> Rival:
    """Load a rival's run folder.

    Raises
    ------
    AllpetError : no such folder, or weights that do not fit.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = Path(folder)
    try:
        config = json.loads((path / CONFIG).read_text(encoding="utf-8"))
        network = NETWORKS()[config["kind"]](tuple(config["size"]))
        network.load_state_dict({k: v.float() for k, v in load_file(path / WEIGHTS).items()})
    except (OSError, SafetensorError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise AllpetError(f"{path}: holds no rival ({str(error).splitlines()[0]}); train one first") from None
    return Rival(network, config)


class Film(nn.Module):
    """Normalise, scale and shift by the condition, SiLU, 3x3 convolution (after doubling the size, if `up`)."""

    def __init__(self, n_in: int, n_out: int, n_cond: int, up: bool = False) -> None:
        super().__init__()
        self.norm, self.cond = nn.GroupNorm(min(8, n_in // 4), n_in), nn.Linear(n_cond, 2 * n_in)
        self.conv, self.up = nn.Conv2d(n_in, n_out, 3, padding=1), up

    def forward(self, x: torch.Tensor, cond: torch.Tensor) -> torch.Tensor:
        scale, shift = self.cond(cond)[..., None, None].chunk(2, dim=1)
        x = F.silu(self.norm(x) * (1 + scale) + shift)
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest") if self.up else x)


class Decoder(nn.Module):
    """A vector and a condition to a sinogram: four doublings from a sixteenth by FiLM convolutions."""

    widths = (256, 256, 160, 80, 32)

    def __init__(self, size: tuple[int, int], n_latent: int, n_cond: int) -> None:
        super().__init__()
        self.start = (size[0] // 16, size[1] // 16)
        self.first = nn.Linear(n_latent + n_cond, self.widths[0] * self.start[0] * self.start[1])
        pairs = list(zip(self.widths[:-1], self.widths[1:], strict=True))
        self.up = nn.ModuleList([Film(a, b, n_latent + n_cond, up=True) for a, b in pairs])
        self.same = nn.ModuleList([Film(b, b, n_latent + n_cond) for _, b in pairs[:-1]])
        self.last = nn.Conv2d(self.widths[-1], 1, 3, padding=1)

    def forward(self, z: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        """``(n, n_latent), (n, n_cond) -> (n, 1, views, bins)``, >= 0."""
        cond = torch.cat([z, words], dim=1)
        x = self.first(cond).reshape(len(z), -1, *self.start).contiguous(memory_format=torch.channels_last)
        for up, same in zip(self.up, self.same, strict=False):
            x = up(x, cond)
            x = x + same(x, cond)
        x = self.up[-1](x, cond)
        return F.softplus(self.last(F.silu(x)).float())


class Encoder(nn.Module):
    """A sinogram to a vector: strided convolutions down to a sixteenth."""

    widths = (32, 80, 160, 256)

    def __init__(self, size: tuple[int, int], n_out: int, n_cond: int = 0, norm: bool = True) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = 1
        for wide in self.widths:
            layers.append(nn.Conv2d(width, wide, 4, stride=2, padding=1))
            if norm:
                layers.append(nn.GroupNorm(8, wide))
            layers.append(nn.LeakyReLU(0.2))
            width = wide
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(width * (size[0] // 16) * (size[1] // 16) + n_cond, n_out)

    def forward(self, x: torch.Tensor, words: torch.Tensor | None = None) -> torch.Tensor:
        """``(n, 1, views, bins) -> (n, n_out)``."""
        h = self.body(x).flatten(1)
        return self.head(h if words is None else torch.cat([h, words.to(h.dtype)], dim=1)).float()
