"""Sinograms generated: the shipped model and its samplers beside a plain latent diffusion model and another library.

`allpet.rivals.ldm` is `diffusers`' U-Net on an autoencoder's latents with its DDIM scheduler, 50 steps (11.8 M
weights). `denoising-diffusion-pytorch` gets as many weights as ours and DDIM with 50 steps, on latents of our shape
(without a decoder, so its whole cost is the network's) and on sinograms of 128 x 128 as it comes. Neither is trained
here, which does not change its speed; what the LDM draws after the same training is in results.md. All in the same
precision.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peers import diffusion_model, weights
from people import shipped

from allpet.precision import autocast

JOB = "generate a sinogram, 128 x 128"
PROMPT = "FDG brain"


def _draw(clock: Any, tool: str, n: int, job: str = JOB, **options: Any) -> None:
    model = shipped()
    evaluations = model.evaluations(options.get("sampler"))
    if clock.tiny:
        n, options = 1, options | {"steps": 1}

    def draw() -> None:
        found = model.generate(PROMPT, n, seed=0, **options).sinogram
        assert bool(torch.isfinite(found).all()) and float(found.min()) >= 0

    clock(
        draw,
        job,
        tool,
        n,
        "sinogram",
        least=1 if evaluations > 100 else 2,
        evaluations=evaluations,
        weights=model.parameters,
    )


def time_default(clock: Any) -> None:
    """The default: stochastic DPM-Solver++, 10 evaluations."""
    _draw(clock, "allpet", 32)


@pytest.mark.parametrize("sampler", ["dpm", "euler", "heun", "ddpm", "ddim", "ddbm"])
def time_sampler(clock: Any, sampler: str) -> None:
    """The other samplers, each with its own number of evaluations."""
    _draw(clock, f"allpet, sampler {sampler}", 16, sampler=sampler)


@pytest.mark.parametrize("size", [64, 256])
def time_size(clock: Any, tiny: bool, size: int) -> None:
    """Other sizes than the model's own: the image is drawn as before, refined and projected."""
    if tiny and size != 64:
        pytest.skip("not timed")
    _draw(clock, "allpet", 16, f"generate a sinogram, {size} x {size}", views=size, bins=size)


def time_parts(clock: Any, tiny: bool) -> None:
    """A sinogram with both of its parts."""
    model, n, options = (shipped(), 1, {"steps": 1}) if tiny else (shipped(), 16, {})

    def draw() -> None:
        parts = model.generate_parts(PROMPT, n, seed=0, **options)
        assert torch.equal(parts.positive + parts.negative, parts.whole.sinogram)

    clock(draw, JOB, "allpet, with both parts", n, "sinogram", least=2)


def time_ldm(clock: Any, tiny: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plain latent diffusion model, DDIM 50."""
    if tiny:
        monkeypatch.setattr("allpet.rivals.ldm.STEPS", 1)
    from allpet.rivals.common import NETWORKS, Rival

    model = shipped()
    torch.manual_seed(0)
    shape = (32, 32) if tiny else model.beam.shape
    rival = Rival(NETWORKS()["ldm"](shape), model.config)
    n = 1 if tiny else 16

    def check() -> None:
        found = rival.generate(PROMPT, n, seed=0).sinogram
        assert found.shape == (n, *shape) and bool(torch.isfinite(found).all())

    clock(
        check,
        JOB,
        "diffusers LDM, DDIM",
        n,
        "sinogram",
        least=2,
        evaluations=rival.evaluations,
        weights=rival.parameters,
    )


@pytest.mark.parametrize("where", ["latents", "sinograms"])
def time_denoising_diffusion(clock: Any, tiny: bool, where: str) -> None:
    """denoising-diffusion-pytorch, DDIM 50."""
    size, latent = ((32, 32), (12, 8, 8)) if tiny else ((128, 128), (12, 16, 16))
    shape = latent if where == "latents" else (1, *size)
    model = diffusion_model(latent if where == "latents" else None, size, tiny, steps=1 if tiny else 50).eval()
    n = 1 if tiny or where == "sinograms" else 16

    def draw() -> torch.Tensor:
        with autocast("cpu", "auto"):
            return model.sample(batch_size=n)

    def one_evaluation() -> None:
        with torch.no_grad(), autocast("cpu", "auto"):
            model.model(torch.randn(n, *shape), torch.zeros(n, dtype=torch.long))

    assert model.is_ddim_sampling and tuple(model.image_size) == shape[1:]
    clock(
        draw,
        JOB,
        f"denoising-diffusion-pytorch, DDIM, {where}",
        n,
        "sinogram",
        least=2 if where == "latents" else 1,
        warm=one_evaluation,
        evaluations=50,
        weights=weights(model),
    )
