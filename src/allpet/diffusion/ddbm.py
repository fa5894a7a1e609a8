"""DDBM: sampling along a bridge, for an ordinary denoiser and for a network that is told the endpoint.

The bridge and its rule are in :mod:`allpet.diffusion.bridge`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from allpet.diffusion.edm import RHO, SIGMA_MAX, SIGMA_MIN, clean_at
from allpet.diffusion.noise import START, STEPS, Denoise, Noise, seeded_noise
from allpet.errors import AllpetError

BridgeDenoise = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""``denoise(x, t, y) -> clean``: expected x0 given the bridge's state at time t ``(n,)`` and its endpoint y."""


def ddbm(denoise: Denoise, noise: Noise, mean: torch.Tensor, sigma_data: float, steps: int) -> torch.Tensor:
    """From the expected clean state to a clean one along a bridge, with an ordinary denoiser.

    The endpoint is one for all draws of a prompt, so it says nothing about a draw: the denoiser sees
    ``(x_t - w y) / (1 - w)`` at the bridge's effective noise level (see :mod:`allpet.diffusion.bridge`). What is
    expected at t = T, where that is infinite, is the endpoint itself: the first of steps + 1 costs no evaluation.
    Second order, deterministic after its start.
    """
    from allpet.diffusion.bridge import BridgeScheduler

    low, high = SIGMA_MIN * sigma_data, SIGMA_MAX * sigma_data
    solver = BridgeScheduler(sigma_min=low, sigma_max=high, rho=RHO, eta=0.0, solver_order=2)
    solver.set_timesteps(steps + 1)
    start = noise(START)
    x = y = mean.expand_as(start)
    for k, t in enumerate(solver.timesteps.tolist()):
        w = solver.weight(t)
        clean = y if k == 0 else clean_at(denoise, (x - w * y) / (1 - w), solver.effective_sigma(t))
        x = solver.step(clean, t, x, y, noise=start).prev_sample
    return x


@torch.no_grad()
def bridge_sample(
    denoise: BridgeDenoise,
    endpoint: torch.Tensor,
    seed: int,
    indices: Sequence[int],
    steps: int = 10,
    eta: float = 0.0,
    order: int = 2,
    sigma_data: float = 1.0,
    sigma_max: float | None = None,
) -> torch.Tensor:
    """Clean states from endpoints that say something about them, such as an observation; ``(n, *shape)``.

    Parameters
    ----------
    denoise : told the endpoint; it is asked at t = T, too, where the state is the endpoint.
    endpoint : y, ``(n, *shape)``, a row for each index. seed, indices : sample i of a seed is the same in any batch.
    steps : evaluations of the network. eta, order : see :class:`allpet.diffusion.bridge.BridgeScheduler`.
    sigma_data : spread of the data, the unit of the noise levels. sigma_max : T, as in training; by default
        ``SIGMA_MAX * sigma_data``.

    Raises
    ------
    AllpetError : numbers out of range, or not one endpoint for each index.
    """
    from allpet.diffusion.bridge import BridgeScheduler

    if len(endpoint) != len(indices):
        raise AllpetError(f"{len(endpoint)} endpoints for {len(indices)} indices; give one for each")
    high = SIGMA_MAX * sigma_data if sigma_max is None else sigma_max
    solver = BridgeScheduler(sigma_min=SIGMA_MIN * sigma_data, sigma_max=high, rho=RHO, eta=eta, solver_order=order)
    solver.set_timesteps(steps)

    def noise(stream: int) -> torch.Tensor:
        return seeded_noise(endpoint.shape[1:], seed, indices, stream, endpoint.device)

    x = endpoint
    for k, t in enumerate(solver.timesteps.tolist()):
        clean = denoise(x, torch.full((len(x),), t, dtype=x.dtype, device=x.device), endpoint)
        drawn = noise(START) if k == 0 else noise(STEPS + k) if eta > 0 and k < steps - 1 else None
        x = solver.step(clean, t, x, endpoint, noise=drawn).prev_sample
    return x
