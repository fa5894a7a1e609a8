"""The samplers by name, and one call for all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from allpet.diffusion.ddbm import ddbm
from allpet.diffusion.ddim import ddim
from allpet.diffusion.ddpm import ddpm
from allpet.diffusion.edm import dpm, euler, heun
from allpet.diffusion.noise import Denoise, Noise, seeded_noise
from allpet.diffusion.sde import sde
from allpet.errors import AllpetError

Run = Callable[[Denoise, Noise, torch.Tensor, float, int], torch.Tensor]
"""``run(denoise, noise, mean, sigma_data, steps) -> (n, *shape)``; mean is ``(n or 1, *shape)``."""


@dataclass(frozen=True)
class Sampler:
    """A way from noise to data.

    Parameters
    ----------
    name, about : for `--sampler` and its help. steps : by default. evaluations : of the denoiser, given the steps.
    """

    name: str
    about: str
    steps: int
    evaluations: Callable[[int], int]
    run: Run


def _as_many(steps: int) -> int:
    return steps


def _twice_but_last(steps: int) -> int:
    return 2 * steps - 1


DEFAULT = "sde"
SAMPLERS: dict[str, Sampler] = {
    s.name: s
    for s in (
        Sampler("sde", "stochastic second-order DPM-Solver++ (the default)", 10, _as_many, sde),
        Sampler("dpm", "second-order DPM-Solver++, along the probability flow", 10, _as_many, dpm),
        Sampler("euler", "Euler's method", 50, _as_many, euler),
        Sampler("heun", "Heun's method, two evaluations a step", 18, _twice_but_last, heun),
        Sampler("ddpm", "ancestral sampling, stochastic", 200, _as_many, ddpm),
        Sampler("ddim", "deterministic, first order", 50, _as_many, ddim),
        Sampler("ddbm", "second-order bridge from the expected sinogram", 10, _as_many, ddbm),
    )
}


def sampler_of(name: str) -> Sampler:
    """The sampler of that name.

    Raises
    ------
    AllpetError : unknown name; the message lists the known.
    """
    if name not in SAMPLERS:
        raise AllpetError(f"sampler '{name}' is unknown; known: {', '.join(SAMPLERS)}")
    return SAMPLERS[name]


@torch.no_grad()
def sample(
    denoise: Denoise,
    shape: Sequence[int],
    seed: int,
    indices: Sequence[int],
    sampler: str = DEFAULT,
    steps: int | None = None,
    sigma_data: float = 1.0,
    mean: torch.Tensor | None = None,
    device: str | torch.device = "cpu",
) -> torch.Tensor:
    """Clean states from noise, float32 ``(len(indices), *shape)``.

    Parameters
    ----------
    denoise : expected clean state given ``z = clean + sigma * noise``; z ``(n, *shape)``, sigma ``(n,)``.
    shape : of one state. seed, indices : sample i of a seed is the same, to the bit, in any batch (as far as the
        denoiser itself treats each row alike), for stochastic samplers too.
    sampler, steps : see :data:`SAMPLERS`; by default the sampler's own number of steps.
    sigma_data : spread of the clean states about the mean, the unit of the noise levels.
    mean : expected clean state, ``(n or 1, *shape)``, 0 by default: the noise starts around it, a bridge at it.

    Raises
    ------
    AllpetError : unknown sampler, numbers or shapes out of range, or a denoiser whose states are not finite.
    """
    chosen = sampler_of(sampler)
    steps = chosen.steps if steps is None else steps
    if steps < 1:
        raise AllpetError(f"steps is {steps}; it must be at least 1")
    if not 0 < sigma_data < float("inf"):
        raise AllpetError(f"sigma_data is {sigma_data}; it must be positive")
    n, shape = len(indices), tuple(shape)
    center = torch.zeros(1, *shape, device=device) if mean is None else mean.to(device, torch.float32)
    if tuple(center.shape) not in {(1, *shape), (n, *shape)}:
        raise AllpetError(f"mean has shape {tuple(center.shape)}; it must be {(n, *shape)} or {(1, *shape)}")

    def noise(stream: int) -> torch.Tensor:
        return seeded_noise(shape, seed, indices, stream, device)

    def checked(z: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        clean = denoise(z, sigma)
        if clean.shape != z.shape:
            raise AllpetError(
                f"the denoiser answers {tuple(z.shape)} with {tuple(clean.shape)}; it must keep the shape"
            )
        return clean

    z = chosen.run(checked, noise, center, float(sigma_data), steps)
    if not bool(torch.isfinite(z).all()):
        raise AllpetError(f"sampler '{sampler}' ended in states that are not finite; the denoiser's answers are not")
    return z
