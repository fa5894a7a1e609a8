"""Recovered activity: a trunk of ellipses, counted in closed form or by the projector of `allpet.scan.acquire`.

`python tests/recon/quantity.py` prints the table of docs/recon.md. Nothing here comes from `allpet.project`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from scipy import ndimage

from allpet.geometry import ImageGrid, ParallelBeam
from allpet.recon import reconstruct
from allpet.scan import Image, Scan
from allpet.scan.acquire import attenuation_factors, ideal_projection

BEAM = ParallelBeam(views=180, bins=144, bin_mm=3.0)
GRID = BEAM.image_grid()
FWHM_MM = 6.0
COUNTS = 1e9
SEED = 0
FINE = 9


@dataclass(frozen=True)
class Ellipse:
    """Centre and half axes in mm; activity in kBq/mL and attenuation in 1/mm that it has in the end."""

    name: str
    x: float
    y: float
    a: float
    b: float
    activity: float
    mu: float = 0.0096


BODY = Ellipse("soft tissue", 0, 0, 185, 125, 2.0)
ORGANS = (
    Ellipse("liver", -85, 25, 70, 60, 6.0),
    Ellipse("spleen", 105, -25, 30, 24, 5.0),
    Ellipse("right kidney", -75, -65, 26, 20, 20.0),
    Ellipse("left kidney", 55, -70, 26, 20, 16.0),
    Ellipse("heart", 20, -5, 30, 24, 4.0),
    Ellipse("vertebra", -5, -75, 22, 20, 4.0, 0.0125),
    Ellipse("stomach, cold", 75, 45, 38, 28, 1.0),
    Ellipse("lesion", 10, 70, 18, 18, 24.0),
)


def ellipses(name: str) -> list[tuple[float, Ellipse]]:
    """Values to add up: the body's, and each organ's above the body's."""
    return [(getattr(BODY, name), BODY)] + [(getattr(o, name) - getattr(BODY, name), o) for o in ORGANS]


def lines(name: str, beam: ParallelBeam) -> np.ndarray:
    """Chords through the ellipses in closed form at the middle of each bin, float64 ``(views, bins)``."""
    cos, sin = np.cos(beam.angles)[:, None], np.sin(beam.angles)[:, None]
    total = np.zeros(beam.shape)
    for value, e in ellipses(name):
        reach = (e.a * cos) ** 2 + (e.b * sin) ** 2
        inside = np.maximum(reach - (beam.radii - e.x * cos - e.y * sin) ** 2, 0)
        total += value * 2 * e.a * e.b * np.sqrt(inside) / reach
    return total


def drawn(name: str, grid: ImageGrid, over: int = 4) -> np.ndarray:
    """The ellipses on a grid, each pixel the mean of ``over^2`` points, float32 ``(n, n)``."""
    fine = ImageGrid(grid.size * over, grid.pixel_mm / over)
    total = np.zeros(fine.shape, np.float32)
    for value, e in ellipses(name):
        total += value * within(e, fine)
    return total.reshape(grid.size, over, grid.size, over).mean((1, 3))


def within(e: Ellipse, grid: ImageGrid) -> np.ndarray:
    """True in the ellipse, bool ``(n, n)``."""
    return ((grid.x[None, :] - e.x) / e.a) ** 2 + ((grid.y[:, None] - e.y) / e.b) ** 2 <= 1


def eroded(e: Ellipse) -> np.ndarray:
    """Pixels of the ellipse at least one resolution from its edge; of the body, from the organs too."""
    region = within(e, GRID)
    if e is BODY:
        region &= ~np.any([within(o, GRID) for o in ORGANS], axis=0)
    return np.asarray(ndimage.distance_transform_edt(region) * GRID.pixel_mm > FWHM_MM + GRID.pixel_mm / 2)


@lru_cache
def scan(source: str = "closed form", counts: float = COUNTS, seed: int = SEED) -> Scan:
    """One slice: resolution, attenuation, normalisation with gaps, scatter-like background and randoms, Poisson.

    Parameters
    ----------
    source : ``"closed form"`` or ``"3x projector"``. counts : expected prompts.
    """
    rng = np.random.default_rng(seed)
    if source == "closed form":
        fine = ParallelBeam(BEAM.views, BEAM.bins * FINE, BEAM.bin_mm / FINE)
        sigma = FWHM_MM / fine.bin_mm / math.sqrt(8 * math.log(2))
        blurred = ndimage.gaussian_filter1d(lines("activity", fine), sigma, axis=1)
        through = np.exp(-lines("mu", fine))
        trues = (blurred * through).reshape(*BEAM.shape, FINE).mean(2)
        attenuation = through.reshape(*BEAM.shape, FINE).mean(2)
    else:
        third = ImageGrid(BEAM.bins * 3, BEAM.bin_mm / 3)
        attenuation = attenuation_factors(drawn("mu", third)[None], BEAM)[0].astype(float)
        trues = ideal_projection(drawn("activity", third)[None], BEAM, FWHM_MM)[0] * attenuation
    crystals = rng.normal(1, 0.1, (2, 1, BEAM.bins)) * rng.normal(1, 0.1, (2, BEAM.views, 1))
    view, bin_ = np.indices(BEAM.shape)
    normalisation = crystals.prod(0) * ((view + bin_) % 13 != 0) * ((view - bin_) % 13 != 0)
    scatter = ndimage.gaussian_filter(trues, (18, 25), mode=("wrap", "constant"))
    background = normalisation * (0.5 * scatter * trues.sum() / scatter.sum() + 0.4 * trues.mean())
    scale = counts / (normalisation * trues + background).sum()
    expected = scale * (normalisation * trues + background)
    known = {"attenuation": attenuation, "background": scale * background, "normalisation": normalisation}
    return Scan(
        torch.from_numpy(rng.poisson(expected).astype(np.float32)),
        BEAM,
        **{name: torch.from_numpy(array.astype(np.float32)) for name, array in known.items()},
        counts_per_unit=float(scale),
        plane_mm=3.0,
        fwhm_mm=FWHM_MM,
    )


def mumap() -> Image:
    """Attenuation in 1/mm, drawn on a grid of its own."""
    return Image(torch.from_numpy(drawn("mu", ImageGrid(200, 2.1))), ImageGrid(200, 2.1), "1/mm")


def recovered(image: Image) -> dict[str, float]:
    """Mean in each eroded organ over its activity."""
    plane = image.array[0].numpy()
    return {e.name: float(plane[eroded(e)].mean()) / e.activity for e in (*ORGANS, BODY)}


def overshoot(image: Image) -> float:
    """Largest mean of a ring one pixel wide just inside the liver's edge, over the liver's activity, minus 1."""
    liver = ORGANS[0]
    depth = ndimage.distance_transform_edt(within(liver, GRID)) * GRID.pixel_mm
    plane = image.array[0].numpy()
    rings = [plane[(depth > d) & (depth <= d + GRID.pixel_mm)].mean() for d in np.arange(0, 15, GRID.pixel_mm)]
    return float(max(rings)) / liver.activity - 1


WAYS = {
    "OSEM": {"iterations": 20, "subsets": 20},
    "OSEM, PSF": {"iterations": 20, "subsets": 20, "psf": True},
    "OSEM, mumap": {"iterations": 20, "subsets": 20, "mumap": True},
    "OSEM, prior": {"iterations": 40, "subsets": 20, "beta": 0.1},
    "OSEM, PSF, prior": {"iterations": 40, "subsets": 20, "psf": True, "beta": 0.1},
}


@lru_cache
def image_of(way: str, source: str = "closed form", **changes: float) -> Image:
    """The slice, reconstructed."""
    how = dict(WAYS[way])
    data = scan(source, **changes)
    if how.pop("mumap", False):
        return reconstruct(replace(data, attenuation=None), mumap=mumap(), **how)
    return reconstruct(data, **how)


def main() -> None:
    """The table."""
    names = [e.name for e in (*ORGANS, BODY)]
    print("| data | way | " + " | ".join(names) + " | overshoot | noise |")
    for source in ("closed form", "3x projector"):
        for way in WAYS:
            image = image_of(way, source)
            shares = recovered(image)
            liver = image.array[0].numpy()[eroded(ORGANS[0])]
            cells = [f"{100 * shares[name]:.1f}" for name in names]
            print(f"| {source} | {way} | " + " | ".join(cells), end="")
            print(f" | {100 * overshoot(image):.1f} | {100 * liver.std() / liver.mean():.1f} |")


if __name__ == "__main__":
    main()
