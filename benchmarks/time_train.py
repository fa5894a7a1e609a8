"""A training step: batch, forward and backward pass, clipping, optimiser and moving average, as the loop does it.

Beside the `base` recipe (8.1 M weights, latents of 12 x 16 x 16): the denoiser's step of a plain `diffusers` latent
diffusion model (`allpet.rivals.ldm`, 11.8 M weights, its own augmentation and latents of 4 x 16 x 16), and that of
`denoising-diffusion-pytorch` with as many weights as ours on latents of our shape and on 128 x 128 sinograms, with
random data in its batch and Adam. All in the precision that the machine computes in natively. Per sample.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peers import diffusion_model, weights
from people import recipe_named, training_data, training_run

from allpet.precision import autocast

STEP = "a training step, a sample"
BASE = f"{STEP}, generator"


@pytest.mark.parametrize("recipe", ["base", "low-dose", "tasks"])
def time_step(clock: Any, tiny: bool, recipe: str) -> None:
    """Ours."""
    job = recipe_named(recipe, tiny)
    run = training_run(job)
    clock(
        run.one_step,
        BASE if recipe == "base" else f"{STEP}, recipe {recipe}",
        count=job.batch,
        unit="sample",
        seconds=4,
        weights=weights(job.network),
        batch=job.batch,
    )
    assert run.at.skipped == 0 and run.at.losses


def time_ldm(clock: Any, tiny: bool) -> None:
    """The denoiser's step of the plain latent diffusion model."""
    if tiny:
        pytest.skip("takes sizes of 128")
    from allpet.rivals.ldm import LDM

    job = LDM(training_data(64), Path("unused"), 0)
    job.batch = 64
    run = training_run(job)
    run.limits = _Late(run)
    clock(
        run.one_step,
        BASE,
        "diffusers LDM",
        job.batch,
        "sample",
        seconds=4,
        weights=weights(job.network),
        batch=job.batch,
    )


class _Late:
    """Limits under which the autoencoder's phase is over."""

    def __init__(self, run: Any) -> None:
        self.max_steps, self.seconds = 2, run.limits.seconds
        run.at.step = 1


@pytest.mark.parametrize("where", ["latents", "sinograms"])
def time_denoising_diffusion(clock: Any, tiny: bool, where: str) -> None:
    """The step of denoising-diffusion-pytorch's own training loop: loss, backward, clipping, Adam, average."""
    size, latent = ((32, 32), (12, 8, 8)) if tiny else ((128, 128), (12, 16, 16))
    model = diffusion_model(latent if where == "latents" else None, size, tiny)
    batch = 64 if where == "latents" and not tiny else 2
    data = torch.rand(batch, *(latent if where == "latents" else (1, *size)))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, betas=(0.9, 0.99))
    average = [p.detach().clone() for p in model.parameters()]

    def step() -> None:
        with autocast("cpu", "auto"):
            loss = model(data)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            torch._foreach_lerp_(average, list(model.parameters()), 0.005)

    clock(
        step,
        BASE,
        f"denoising-diffusion-pytorch, {where}",
        batch,
        "sample",
        seconds=4,
        least=2,
        weights=weights(model),
        batch=batch,
    )
    assert all(bool(torch.isfinite(p).all()) for p in model.parameters())
