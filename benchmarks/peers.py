"""The others: ASTRA's and scikit-image's operators, reconstruction on ASTRA's projector, and
`denoising-diffusion-pytorch`.

Each computes what ours computes, or says where it does not. ASTRA's and scikit-image's CPU code takes one thread and
one image at a time.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from allpet.geometry import ImageGrid, ParallelBeam


def phantom(size: int) -> np.ndarray:
    """A lopsided object: an ellipse with a hot disk, float32 ``(size, size)``."""
    axis = np.linspace(1, -1, size)
    y, x = axis[:, None], -axis[None, :]
    body = ((x / 0.7) ** 2 + (y / 0.85) ** 2 < 1) * 1.0 + (((x - 0.3) ** 2 + (y - 0.2) ** 2) < 0.02) * 3.0
    return body.astype(np.float32)


def difference(theirs: Any, ours: Any) -> float:
    """Relative L2 difference."""
    a, b = np.asarray(theirs, np.float64), np.asarray(ours, np.float64)
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def difference_inside(theirs: Any, ours: Any) -> float:
    """The same inside the circle that every view sees, less a margin of 2 pixels."""
    n = np.asarray(ours).shape[-1]
    axis = np.arange(n) - (n - 1) / 2
    inside = np.hypot(axis[:, None], axis[None, :]) < n / 2 - 2
    return difference(np.asarray(theirs)[..., inside], np.asarray(ours)[..., inside])


class Astra:
    """ASTRA's CPU projector "linear" on our geometry, lengths in pixels; its objects are made before any timing."""

    def __init__(self, beam: ParallelBeam, grid: ImageGrid, views: slice = slice(None)) -> None:
        self.astra = pytest.importorskip("astra")
        if beam.bin_mm != 1 or grid.pixel_mm != 1:
            raise ValueError("the comparison is in units of pixels")
        volume = self.astra.create_vol_geom(grid.size, grid.size)
        angles = (np.arange(beam.views) * np.pi / beam.views)[views]
        rays = self.astra.create_proj_geom("parallel", 1.0, beam.bins, angles)
        self.projector = self.astra.create_projector("linear", rays, volume)
        self.image = np.zeros(grid.shape, np.float32)
        self.sinogram = np.zeros((len(angles), beam.bins), np.float32)
        link = self.astra.data2d.link  # ASTRA works on these arrays in place
        self.ids = dict(image=link("-vol", volume, self.image), sinogram=link("-sino", rays, self.sinogram))

    def step(self, algorithm: str, **options: Any) -> Callable[..., None]:
        """An algorithm of ASTRA's between the two arrays, as a function of nothing (or of iterations)."""
        config = self.astra.astra_dict(algorithm)
        config["ProjectorId"] = self.projector
        names = {"FP": ("VolumeDataId", "ProjectionDataId")}.get(
            algorithm, ("ReconstructionDataId", "ProjectionDataId")
        )
        config.update(dict(zip(names, (self.ids["image"], self.ids["sinogram"]), strict=True)))
        config["option"] = options
        number = self.astra.algorithm.create(config)
        return lambda *iterations: self.astra.algorithm.run(number, *iterations)


class Subset:
    """Forward and back projection of every k-th view by ASTRA, for OSEM."""

    def __init__(self, beam: ParallelBeam, grid: ImageGrid, k: int, subsets: int) -> None:
        self.tool = Astra(beam, grid, slice(k, None, subsets))
        self.forward_step, self.back_step = self.tool.step("FP"), self.tool.step("BP")

    def forward(self, image: np.ndarray) -> np.ndarray:
        self.tool.image[:] = image
        self.forward_step()
        return self.tool.sinogram

    def back(self, sinogram: np.ndarray) -> np.ndarray:
        self.tool.sinogram[:] = sinogram
        self.back_step()
        return self.tool.image


def astra_osem(parts: list[Subset], counts: np.ndarray, seen: np.ndarray, order: list[int], iterations: int) -> Any:
    """OSEM (with one part MLEM) as ours, in numpy on ASTRA's projector: ASTRA itself has EM on a GPU only."""
    subsets = len(parts)
    image = seen.copy()
    views = [counts[k::subsets] for k in range(subsets)]
    sensitivity = [part.back(np.ones_like(y)).copy() for part, y in zip(parts, views, strict=True)]
    for _ in range(iterations):
        for k in order:
            expected = parts[k].forward(image)
            ratio = np.where(expected > 0, views[k] / np.maximum(expected, 1e-12), 0)
            back = parts[k].back(ratio)
            image = np.where(sensitivity[k] > 0, image * back / np.maximum(sensitivity[k], 1e-12), image)
    return image


# -- denoising-diffusion-pytorch ---------------------------------------------------------------------------------------


def denoising_diffusion() -> tuple[Any, Any]:
    """`GaussianDiffusion` and `Unet` of denoising-diffusion-pytorch, or skip.

    The package imports torchvision and pytorch-fid at its head, for its trainer's image folders and FID alone. There is
    no torchvision that loads beside a CPU build of torch from another index, so empty stand-ins take their places while
    it is imported; what is timed here (network, loss, sampling) uses none of it.
    """
    stand_ins = {}
    for name, attributes in {
        "torchvision": ("transforms", "utils"),
        "torchvision.transforms": (),
        "torchvision.utils": (),
        "pytorch_fid": (),
        "pytorch_fid.fid_score": ("calculate_frechet_distance",),
        "pytorch_fid.inception": ("InceptionV3",),
    }.items():
        if name not in sys.modules:
            stand_ins[name] = ModuleType(name)
            for attribute in attributes:
                setattr(stand_ins[name], attribute, None)
    sys.modules.update(stand_ins)
    try:
        module = pytest.importorskip(
            "denoising_diffusion_pytorch.denoising_diffusion_pytorch",
            reason="make bench installs denoising-diffusion-pytorch",
            exc_type=ImportError,
        )
    finally:
        for name in stand_ins:
            sys.modules.pop(name, None)
    return module.GaussianDiffusion, module.Unet


PIXEL = dict(dim=30, dim_mults=(1, 2, 4, 8))
"""Of the package's default shape, 8.1 M weights, as many as ours."""
LATENT = dict(dim=58, dim_mults=(1, 2, 4))
"""8.2 M weights on latents of 16 x 16, which leave room for three levels."""


def diffusion_model(latent: tuple[int, int, int] | None, size: tuple[int, int], tiny: bool, steps: int = 50) -> Any:
    """Their DDIM with 50 steps: in sinograms of one channel, or in latents of our first stage's shape."""
    diffusion, unet = denoising_diffusion()
    channels, shape = (1, size) if latent is None else (latent[0], latent[1:])
    options = dict(PIXEL if latent is None else LATENT)
    if tiny:
        options["dim"] = 8
    torch.manual_seed(0)
    network = unet(channels=channels, **options).to(memory_format=torch.channels_last)
    return diffusion(network, image_size=tuple(shape), sampling_timesteps=steps, timesteps=1000)


def weights(module: torch.nn.Module) -> int:
    """Number of weights."""
    return sum(p.numel() for p in module.parameters())
