"""Recovered activity: a trunk of ellipses, counted in closed form or by the projector of `allpet.scan.acquire`.

`python tests/recon/quantity.py` prints the tables of docs/recon.md. Nothing here comes from `allpet.project`.
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
FINE_BEAM = ParallelBeam(BEAM.views, BEAM.bins * FINE, BEAM.bin_mm / FINE)


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


def lines(parts: list[tuple[float, Ellipse]], beam: ParallelBeam) -> np.ndarray:
    """Chords through ellipses in closed form at the middle of each bin, float64 ``(views, bins)``."""
    cos, sin = np.cos(beam.angles)[:, None], np.sin(beam.angles)[:, None]
    total = np.zeros(beam.shape)
    for value, e in parts:
        reach = (e.a * cos) ** 2 + (e.b * sin) ** 2
        inside = np.maximum(reach - (beam.radii - e.x * cos - e.y * sin) ** 2, 0)
        total += value * 2 * e.a * e.b * np.sqrt(inside) / reach
    return total


def blurred_lines(parts: list[tuple[float, Ellipse]]) -> np.ndarray:
    """Chords on the fine bins, as the scanner resolves them."""
    sigma = FWHM_MM / FINE_BEAM.bin_mm / math.sqrt(8 * math.log(2))
    return np.asarray(ndimage.gaussian_filter1d(lines(parts, FINE_BEAM), sigma, axis=1))


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
        blurred = blurred_lines(ellipses("activity"))
        through = np.exp(-lines(ellipses("mu"), FINE_BEAM))
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


def noise(image: Image) -> float:
    """Standard deviation over mean in the eroded liver."""
    liver = image.array[0].numpy()[eroded(ORGANS[0])]
    return float(liver.std() / liver.mean())


WAYS = {
    "OSEM": {"iterations": 20, "subsets": 20},
    "OSEM, PSF": {"iterations": 20, "subsets": 20, "psf": True},
    "OSEM, mumap": {"iterations": 20, "subsets": 20, "mumap": True},
    "OSEM, prior": {"iterations": 40, "subsets": 20, "beta": 0.1},
    "OSEM, PSF, prior": {"iterations": 40, "subsets": 20, "psf": True, "beta": 0.1},
}

FEW = 1e6
FEW_SEEDS = range(5)
FEW_WAYS = {
    "OSEM": {"iterations": 2, "subsets": 10},
    "OSEM, Gaussian 6 mm": {"iterations": 6, "subsets": 10, "fwhm_mm": 6.0},
    "OSEM, prior": {"iterations": 20, "subsets": 10, "beta": 0.7},
    "OSEM, PSF": {"iterations": 4, "subsets": 10, "psf": True},
    "OSEM, PSF, Gaussian 8 mm": {"iterations": 10, "subsets": 10, "psf": True, "fwhm_mm": 8.0},
    "OSEM, PSF, prior": {"iterations": 20, "subsets": 10, "psf": True, "beta": 0.5},
}
"""Each tuned for the smallest error on seed 10."""


def error(image: Image) -> float:
    """Root mean square error within the body over the root mean square activity there."""
    plane, truth = image.array[0].numpy(), drawn("activity", GRID)
    body = within(BODY, GRID)
    return float(np.sqrt(np.square(plane - truth)[body].mean() / np.square(truth)[body].mean()))


@lru_cache
def image_of(way: str, source: str = "closed form", **changes: float) -> Image:
    """The slice, reconstructed."""
    how = dict(WAYS[way])
    data = scan(source, **changes)
    if how.pop("mumap", False):
        return reconstruct(replace(data, attenuation=None), mumap=mumap(), **how)
    return reconstruct(data, **how)


def lesion(radius: float, psf: bool) -> tuple[float, float]:
    """A noise-free lesion of 8 in tissue of 2: recovered in its inner part (a resolution from the edge), and in all."""
    disk = Ellipse("lesion", 31, 20, radius, radius, 8.0)
    data = blurred_lines([(2.0, BODY), (6.0, disk)]).reshape(*BEAM.shape, FINE).mean(2)
    ideal = Scan(torch.from_numpy(data.astype(np.float32)), BEAM, unit="kBq/mL*mm", fwhm_mm=FWHM_MM)
    plane = reconstruct(ideal, iterations=20, subsets=20, psf=psf).array[0].numpy()
    return float(plane[eroded(disk)].mean()) / 8, float(plane[within(disk, GRID)].mean()) / 8


def main() -> None:
    """The tables."""
    names = [e.name for e in (*ORGANS, BODY)]
    print("| data | way | " + " | ".join(names) + " | overshoot | noise |")
    for source in ("closed form", "3x projector"):
        for way in WAYS:
            image = image_of(way, source)
            shares = recovered(image)
            cells = [f"{100 * shares[name]:.1f}" for name in names]
            print(f"| {source} | {way} | " + " | ".join(cells), end="")
            print(f" | {100 * overshoot(image):.1f} | {100 * noise(image):.1f} |")
    print("\n| way | error | noise | kidney | lesion | soft tissue |")
    for way, how in FEW_WAYS.items():
        images = [reconstruct(scan(counts=FEW, seed=seed), **how) for seed in FEW_SEEDS]
        errors = [error(image) for image in images]
        shares = [recovered(image) for image in images]
        cells = [f"{np.mean(errors):.3f} ± {np.std(errors, ddof=1):.3f}", f"{100 * np.mean([*map(noise, images)]):.0f}"]
        cells += [f"{100 * np.mean([s[n] for s in shares]):.0f}" for n in ("right kidney", "lesion", "soft tissue")]
        print(f"| {way} | " + " | ".join(cells) + " |")
    print("\n| lesion, mm wide | inner part | inner part, PSF | whole | whole, PSF |")
    for radius in (10.0, 12.0, 14.0, 18.0, 24.0):
        plain, sharp = lesion(radius, False), lesion(radius, True)
        cells = [f"{100 * share:.1f}" for share in (plain[0], sharp[0], plain[1], sharp[1])]
        print(f"| {2 * radius:.0f} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
