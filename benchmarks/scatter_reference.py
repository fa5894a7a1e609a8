"""Monte Carlo reference for :mod:`allpet.scan.scatter` and :mod:`allpet.scan.singles`.

Photon pairs are followed one Compton scatter after the other (Woodcock tracking, Klein-Nishina angles by rejection,
mu scaled with the total cross section) through elliptic cylinders, to a black ring with an energy window. It shares
nothing with the simulation under test but the energy window's efficiency and the Klein-Nishina total, which tests
compare with closed forms. Bodies and ring are endless along z: every pair is counted in the plane it belongs to,
whatever the height, if the two ends are not further apart along z than the largest ring difference.

    nice python benchmarks/scatter_reference.py            # writes benchmarks/results/scatter.json, about 6 minutes
    nice python benchmarks/scatter_reference.py --share 0.05 --out quick.json
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from allpet import __version__
from allpet.geometry import ParallelBeam
from allpet.scan.acquire import attenuation_factors, ideal_projection
from allpet.scan.scanners import Scanner, presets, scanner
from allpet.scan.scatter import (
    cast,
    compton_total,
    optical_depth,
    pairs_to_beam,
    scatter_of,
    scatter_tables,
    single_scatter,
    to_beam,
    window_efficiency,
)
from allpet.scan.singles import HALF_LENGTH_MM, singles_of

KEV = 511.0
LOWEST_KEV = 250.0
BATCH = 400_000
WATER = 0.0096
POLYETHYLENE = 0.0095  # density 0.96, Z/A 0.570 against 0.555
OUT = Path(__file__).parent / "results" / "scatter.json"


@dataclass(frozen=True)
class Ellipse:
    """Part of a body: centre and half axes in mm, mu in 1/mm, activity in kBq/mL; later parts replace earlier ones."""

    x: float
    y: float
    a: float
    b: float
    mu: float
    activity: float

    def holds(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.asarray(((x - self.x) / self.a) ** 2 + ((y - self.y) / self.b) ** 2 <= 1)


Body = tuple[Ellipse, ...]

BODIES: dict[str, tuple[float, int, Body]] = {
    # field of view in mm, decays in millions, parts
    "cylinder of 20 cm": (256.0, 24, (Ellipse(0, 0, 100, 100, WATER, 1.0),)),
    "head with a hot spot": (
        256.0,
        24,
        (
            Ellipse(0, 0, 75, 95, 0.0151, 0.2),
            Ellipse(0, 0, 69, 89, 0.0099, 1.0),
            Ellipse(-30, 25, 12, 12, 0.0099, 6.0),
        ),
    ),
    "cylinder of 35 cm": (512.0, 48, (Ellipse(0, 0, 175, 175, WATER, 1.0),)),
    "chest with lungs and a hot spot": (
        512.0,
        60,
        (
            Ellipse(0, 0, 180, 120, 0.0097, 1.0),
            Ellipse(-85, 10, 60, 80, 0.0028, 0.4),
            Ellipse(85, 10, 60, 80, 0.0028, 0.4),
            Ellipse(0, -80, 14, 14, 0.0125, 0.6),
            Ellipse(30, 45, 18, 18, 0.0100, 10.0),
        ),
    ),
    "NEMA scatter phantom": (
        256.0,
        24,
        (Ellipse(0, 0, 101.5, 101.5, POLYETHYLENE, 0.0), Ellipse(0, -45, 2.3, 2.3, POLYETHYLENE, 1.0)),
    ),
}


def paint(body: Body, x: np.ndarray, y: np.ndarray, name: str) -> np.ndarray:
    """Value of mu or activity at points."""
    out = np.zeros(np.broadcast(x, y).shape)
    for part in body:
        out = np.where(part.holds(x, y), getattr(part, name), out)
    return out


def draw_points(body: Body, count: int, rng: np.random.Generator) -> np.ndarray:
    """Points of annihilation ``(2, count)``: each ellipse's area weighted by the highest activity, then rejected."""
    weight = np.array([part.a * part.b * part.activity for part in body])
    points = np.empty((2, 0))
    while points.shape[1] < count:
        which = rng.choice(len(body), size=count, p=weight / weight.sum())
        radius, angle = np.sqrt(rng.random(count)), rng.uniform(0, 2 * np.pi, count)
        centre, half = (np.array([(getattr(p, u), getattr(p, v)) for p in body]) for u, v in (("x", "y"), ("a", "b")))
        x, y = centre[which].T + half[which].T * radius * np.array([np.cos(angle), np.sin(angle)])
        top = np.zeros(count, int)
        for k, part in enumerate(body):
            top = np.where(part.holds(x, y), k, top)
        points = np.concatenate((points, np.array([x, y])[:, top == which]), axis=1)
    return points[:, :count]


def scatter_cosine(kev: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Cosine of the scatter angle, by rejection from a uniform one."""
    out = np.empty(len(kev))
    left = np.arange(len(kev))
    while len(left):
        cosine = rng.uniform(-1, 1, len(left))
        ratio = 1 / (1 + kev[left] / KEV * (1 - cosine))
        keep = 2 * rng.random(len(left)) < ratio**2 * (ratio + 1 / ratio - 1 + cosine**2)
        out[left[keep]] = cosine[keep]
        left = left[~keep]
    return out


def turned(direction: np.ndarray, cosine: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Directions ``(3, n)`` turned by an angle of this cosine, evenly around."""
    helper = np.where(np.abs(direction[2]) < 0.9, np.array([[0.0], [0], [1]]), np.array([[1.0], [0], [0]]))
    first = np.cross(direction.T, helper.T)
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    second = np.cross(direction.T, first)
    around = rng.uniform(0, 2 * np.pi, len(cosine))
    across = first.T * np.cos(around) + second.T * np.sin(around)
    return direction * cosine + across * np.sqrt(1 - cosine**2)


def follow(
    body: Body, place: np.ndarray, direction: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Photons until they are outside: place and direction there ``(3, n)``, keV (0: lost), number of scatters."""
    n = place.shape[1]
    kev, scatters = np.full(n, KEV), np.zeros(n, int)
    place, direction = place.copy(), direction.copy()
    most = max(part.mu for part in body)
    bound = max(np.hypot(part.x, part.y) + max(part.a, part.b) for part in body)
    alive = np.arange(n)
    while len(alive):
        scale = compton_total(kev[alive]) / compton_total(KEV)
        step = rng.exponential(1 / (most * scale))
        place[:, alive] += direction[:, alive] * step
        alive = alive[place[0, alive] ** 2 + place[1, alive] ** 2 < bound**2]
        hit = alive[rng.random(len(alive)) * most < paint(body, place[0, alive], place[1, alive], "mu")]
        cosine = scatter_cosine(kev[hit], rng)
        kev[hit] /= 1 + kev[hit] / KEV * (1 - cosine)
        direction[:, hit] = turned(direction[:, hit], cosine, rng)
        scatters[hit] += 1
        kev[hit[kev[hit] < LOWEST_KEV]] = 0
        alive = alive[kev[alive] > 0]
    return place, direction, kev, scatters


def ring_hit(place: np.ndarray, direction: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Angle and height at which rays from within cross the ring."""
    (x, y, z), (dx, dy, dz) = place, direction
    across = dx**2 + dy**2
    middle = x * dx + y * dy
    along = (-middle + np.sqrt(middle**2 + across * (radius**2 - x**2 - y**2))) / across
    return np.arctan2(y + along * dy, x + along * dx), z + along * dz


@dataclass
class Tally:
    """Weighted counts: true, single and multiple scatter ``(3, views, bins)`` within each of two axial differences,
    squared weights of the wider, and photons around the ring, unscattered and scattered ``(2, angles)``."""

    wide: np.ndarray
    near: np.ndarray
    squares: np.ndarray
    ring: np.ndarray
    decays: int = 0


def simulate(
    body: Body, beam: ParallelBeam, made: Scanner, decays: int, rng: np.random.Generator, near_mm: float, half_mm: float
) -> Tally:
    """Follow `decays` annihilations.

    Parameters
    ----------
    near_mm : axial difference of "direct" pairs. half_mm : reach along z of the photons counted around the ring.
    """
    radius = made.beam.radius_mm
    wide_mm = made.max_ring_difference * made.ring_mm
    tally = Tally(*(np.zeros((3, *beam.shape)) for _ in range(3)), ring=np.zeros((2, 64)))
    full = float(window_efficiency(np.array(KEV), made))
    while tally.decays < decays:
        count = min(BATCH, decays - tally.decays)
        tally.decays += count
        place = np.concatenate((draw_points(body, count, rng), np.zeros((1, count))))
        up = rng.uniform(-1, 1, count)
        around = rng.uniform(0, 2 * np.pi, count)
        flat = np.sqrt(1 - up**2)
        direction = np.array([flat * np.cos(around), flat * np.sin(around), up])
        one = follow(body, place, direction, rng)
        first, z1 = ring_hit(one[0], one[1], radius)
        seen1 = np.where(one[2] > 0, window_efficiency(np.maximum(one[2], 1), made) / full, 0)
        at = (np.floor(first / (2 * np.pi) * 64).astype(int)) % 64
        for k, group in enumerate((one[3] == 0, one[3] > 0)):
            some = group & (np.abs(z1) <= half_mm)
            tally.ring[k] += np.bincount(at[some], seen1[some], 64)
        keep = np.flatnonzero(seen1 > 1e-4)
        two = follow(body, place[:, keep], -direction[:, keep], rng)
        second, z2 = ring_hit(two[0], two[1], radius)
        weight = np.where(two[2] > 0, window_efficiency(np.maximum(two[2], 1), made) / full, 0) * seen1[keep]
        apart = np.abs(z1[keep] - z2)
        kind = np.minimum(one[3][keep] + two[3], 2)
        weight *= np.abs(np.sin((first[keep] - second) / 2))  # shorter chords reach further along z
        phi, s = (first[keep] + second) / 2, radius * np.cos((first[keep] - second) / 2)
        half_turns = np.floor(phi / np.pi + 0.5 / beam.views).astype(int)
        view = np.floor((phi - half_turns * np.pi) / np.pi * beam.views + 0.5).astype(int)
        bins = np.floor(np.where(half_turns % 2, -s, s) / beam.bin_mm + beam.bins / 2).astype(int)
        ok = (bins >= 0) & (bins < beam.bins) & (apart <= wide_mm) & (weight > 0)
        index = (kind * beam.views + view) * beam.bins + bins
        size = 3 * beam.views * beam.bins
        shape = (3, *beam.shape)
        tally.wide += np.bincount(index[ok], weight[ok], size).reshape(shape)
        tally.squares += np.bincount(index[ok], weight[ok] ** 2, size).reshape(shape)
        ok &= apart <= near_mm
        tally.near += np.bincount(index[ok], weight[ok], size).reshape(shape)
    return tally


def images(body: Body, beam: ParallelBeam) -> tuple[np.ndarray, np.ndarray]:
    """Activity and mu ``(1, 3 bins, 3 bins)``, each pixel the mean of nine points."""
    grid = beam.image_grid(9 * beam.bins)
    fine = [paint(body, grid.x[None, :], grid.y[:, None], name) for name in ("activity", "mu")]
    size = 3 * beam.bins
    activity, mu = (part.reshape(size, 3, size, 3).mean(axis=(1, 3)).astype(np.float32) for part in fine)
    return activity[None], mu[None]


def blocks(sinogram: np.ndarray) -> np.ndarray:
    """Sums over 4 views x 4 bins: enough photons in each to compare shapes."""
    views, bins = sinogram.shape
    return np.asarray(sinogram.reshape(views // 4, 4, bins // 4, 4).sum(axis=(1, 3)))


def shape_error(estimate: np.ndarray, reference: np.ndarray) -> float:
    """Root mean square difference of block sums after scaling to the same total, over the reference's maximum."""
    ours, right = blocks(estimate), blocks(reference)
    ours = ours * (right.sum() / ours.sum())
    return float(np.sqrt(np.mean((ours - right) ** 2)) / right.max())


def compare(body: Body, beam: ParallelBeam, made: Scanner, decays: int, seed: int) -> dict[str, float]:
    """Reference and simulation of one body in one scanner, side by side."""
    start = time.process_time()
    tally = simulate(body, beam, made, decays, np.random.default_rng(seed), 60.0, HALF_LENGTH_MM)
    seconds = time.process_time() - start
    activity, mu = images(body, beam)
    trues = (ideal_projection(activity, beam, 0.01) * attenuation_factors(mu, beam))[0]
    seen = cast(activity, mu, beam, made)
    table = to_beam(beam, made.beam.radius_mm)
    pairs = single_scatter(seen, scatter_tables(beam.fov_mm, made))
    single = pairs_to_beam(pairs, table, table.radial)[0]
    scatter = scatter_of(seen, beam, made)[0]
    ring = singles_of(seen)[0]
    true, once, more = tally.wide
    near = tally.near.sum(axis=(1, 2))
    noise = np.sqrt(blocks(tally.squares[1:].sum(axis=0)).mean()) / blocks(once + more).max()
    arc = 2 * np.pi * made.beam.radius_mm / tally.ring.shape[1]
    unit = 4 * np.pi * activity.sum() * (beam.bin_mm / 3) ** 2 / tally.decays / arc
    right = unit * tally.ring.sum(axis=0)
    result = {
        "decays": tally.decays,
        "seconds": seconds,
        "single over true, reference": once.sum() / true.sum(),
        "single over true, reference, pairs of nearly one plane": near[1] / near[0],
        "single over true": single.sum() / trues.sum(),
        "multiple over single, reference": more.sum() / once.sum(),
        "multiple over single over optical depth, reference": more.sum() / once.sum() / float(optical_depth(seen)[0]),
        "scatter over true, reference": (once + more).sum() / true.sum(),
        "scatter over true": scatter.sum() / trues.sum(),
        "scatter fraction, reference": (once + more).sum() / tally.wide.sum(),
        "scatter fraction": scatter.sum() / (scatter.sum() + trues.sum()),
        "shape error of single scatter": shape_error(single, once),
        "shape error": shape_error(scatter, once + more),
        "noise of the reference": float(noise),
        "scattered over unscattered photons, reference": tally.ring[1].sum() / tally.ring[0].sum(),
        "photons around the ring over reference": ring.mean() / right.mean(),
        "their shape error": float(
            np.sqrt(np.mean((ring / ring.mean() - right / right.mean()) ** 2)) * right.mean() / right.max()
        ),
    }
    return {name: round(float(value), 5) for name, value in result.items()}


def main() -> None:
    """Run, print, keep JSON."""
    parser = argparse.ArgumentParser(description="Scatter and singles against Monte Carlo.")
    parser.add_argument("--share", type=float, default=1.0, help="share of the decays; 1 takes about 6 minutes")
    parser.add_argument("--out", type=Path, default=OUT, help="file to keep the numbers in")
    options = parser.parse_args()
    table: dict[str, dict[str, dict[str, float]]] = {}
    for preset in presets():
        for seed, (name, (fov_mm, millions, body)) in enumerate(BODIES.items()):
            if preset != "mMR" and not name.startswith(("cylinder", "NEMA")):
                continue
            decays = int(millions * 1e6 * options.share * (1 if preset == "mMR" else 0.25))
            row = compare(body, ParallelBeam(32, 64, fov_mm / 64), scanner(preset), decays, seed)
            if name.startswith("NEMA"):
                row["scatter fraction, published measurement"] = scanner(preset).scatter_fraction
            table.setdefault(preset, {})[name] = row
            print(
                f"{preset}, {name}: scatter/true {row['scatter over true']:.3f} "
                f"(reference {row['scatter over true, reference']:.3f}), shape {100 * row['shape error']:.1f} % "
                f"(noise {100 * row['noise of the reference']:.1f} %), {row['seconds']:.0f} s",
                flush=True,
            )
    about = {"allpet": __version__, "command": f"scatter_reference.py --share {options.share:g}", "results": table}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
