"""Samplers and schedules of the latent diffusion, one a file; all of them work on one denoiser.

``denoise(z, sigma) -> clean`` with ``z = clean + sigma * noise`` (variance exploding, the convention of Karras et
al., arXiv 2206.00364).
"""

from typing import Any

from allpet.diffusion.ddbm import bridge_sample
from allpet.diffusion.edm import RHO, SIGMA_MAX, SIGMA_MIN
from allpet.diffusion.guidance import guided
from allpet.diffusion.noise import Denoise, seeded_noise
from allpet.diffusion.sampling import DEFAULT, SAMPLERS, Sampler, sample, sampler_of

__all__ = [
    "DEFAULT",
    "RHO",
    "SAMPLERS",
    "SIGMA_MAX",
    "SIGMA_MIN",
    "BridgeScheduler",
    "Denoise",
    "Sampler",
    "bridge_sample",
    "guided",
    "sample",
    "sampler_of",
    "seeded_noise",
]


def __getattr__(name: str) -> Any:
    if name == "BridgeScheduler":  # it needs diffusers, whose import takes a second
        from allpet.diffusion.bridge import BridgeScheduler

        return BridgeScheduler
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
