"""Expected scatter by single-scatter simulation (Watson 2000), for slices that stand for a body continued along z.

An annihilation pair leaves along a line; one photon goes straight to a detector, the other is scattered once at a
point S by the Klein-Nishina law and reaches another detector, in the energy window or not. Summed over scatter
points on a coarse grid, and over heights z above and below the slice, this is the rate of a detector pair. All that
depends on the geometry alone (angles, energies, efficiencies, solid angles, lines) is a table made once; a slice
costs a few sparse products and exponentials. Detectors are a few dozen arcs of the ring in the plane of the slice;
their pairs are an even grid of the (phi, s) plane, from which scatter is interpolated to the beam.

Rates are divided by those that trues would have in the same pair, so scatter is absolute, in the unit of
``attenuation * ideal projection``. Photons scattered more than once are added as a share of the singles, broadened
(:data:`MULTIPLE`). Watson CC 2000, IEEE Trans Nucl Sci 47:1587; Ollinger JM 1996, Phys Med Biol 41:153.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.special import erf

from allpet.errors import AllpetError
from allpet.geometry import ParallelBeam

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    from allpet.scan.scanners import Scanner

ELECTRON_KEV = 511.0
PIXELS = 32
"""Pixels along each side of the images that rays are cast through."""
CELLS = 16
"""Scatter cells along each side; each is a block of pixels."""
DETECTORS = 64
HEIGHTS = 4
RAYS_PER_DETECTOR = 3
MULTIPLE = 0.188
"""Multiple over single scatter, for each unit of optical depth; fitted once to the Monte Carlo reference."""
MULTIPLE_SIGMA_MM = 65.0
"""Broadening of multiple scatter along s (standard deviation of a Gaussian); fitted with it."""


def scattered_kev(cosine: np.ndarray) -> np.ndarray:
    """Energy in keV of an annihilation photon after Compton scatter by an angle of this cosine."""
    return ELECTRON_KEV / (2 - np.asarray(cosine))


def klein_nishina(cosine: np.ndarray, kev: float | np.ndarray = ELECTRON_KEV) -> np.ndarray:
    """Share of Compton scatters per steradian at an angle of this cosine; integrates to 1 over the sphere.

    Klein and Nishina 1929: ``r_e^2 / 2 * P^2 (P + 1/P - sin^2)`` with ``P = E'/E``, over the total.
    """
    energy = np.asarray(kev) / ELECTRON_KEV
    ratio = 1 / (1 + energy * (1 - cosine))
    return 0.5 * ratio**2 * (ratio + 1 / ratio - 1 + np.square(cosine)) / compton_total(kev)


def compton_total(kev: float | np.ndarray) -> np.ndarray:
    """Total Klein-Nishina cross section of an electron, in units of the squared classical electron radius."""
    a = np.asarray(kev) / ELECTRON_KEV
    log = np.log1p(2 * a)
    first = (1 + a) / a**2 * (2 * (1 + a) / (1 + 2 * a) - log / a)
    return np.asarray(2 * math.pi * (first + log / (2 * a) - (1 + 3 * a) / (1 + 2 * a) ** 2))


def window_efficiency(kev: np.ndarray, scanner: Scanner) -> np.ndarray:
    """Share of photons of this energy that are measured in the window; FWHM grows with the root of the energy."""
    kev = np.asarray(kev, float)
    sigma = scanner.energy_resolution * np.sqrt(ELECTRON_KEV * kev) / math.sqrt(8 * math.log(2))
    low, high = ((edge - kev) / (math.sqrt(2) * sigma) for edge in scanner.energy_window_kev)
    return np.asarray((erf(high) - erf(low)) / 2)


@dataclass(frozen=True, eq=False)
class Rays:
    """Lines from the cells to the detectors, in the plane.

    Parameters
    ----------
    block : index of each cell among the blocks of a slice. x, y : their centres in mm; all ``(cells,)``.
    cell_mm : side of a cell.
    length_mm : from cell to detector. cosine : of the incidence on the ring; both ``(cells, detectors)``.
    path : weights in mm, sparse ``(cells * detectors, pixels)``, for integrals along the lines.
    """

    radius_mm: float
    fov_mm: float
    block: np.ndarray
    x: np.ndarray
    y: np.ndarray
    cell_mm: float
    length_mm: np.ndarray
    cosine: np.ndarray
    path: csr_array


@lru_cache(maxsize=8)
def make_rays(fov_mm: float, radius_mm: float) -> Rays:
    """Rays of a field of view within a ring.

    Raises
    ------
    AllpetError : the field of view does not fit in the ring.
    """
    from scipy.sparse import csr_array

    if fov_mm >= 2 * radius_mm:
        raise AllpetError(f"the field of view is {fov_mm:g} mm wide; it must be below the ring's {2 * radius_mm:g} mm")
    cell = fov_mm / CELLS
    centre = (np.arange(CELLS) - (CELLS - 1) / 2) * cell
    x, y = (part.ravel() for part in np.meshgrid(centre, -centre))
    block = np.flatnonzero(np.hypot(x, y) <= fov_mm / 2)
    x, y = x[block], y[block]
    angle = 2 * math.pi / DETECTORS * np.arange(DETECTORS)
    away_x, away_y = radius_mm * np.cos(angle) - x[:, None], radius_mm * np.sin(angle) - y[:, None]
    length = np.hypot(away_x, away_y)
    cosine = (away_x * np.cos(angle) + away_y * np.sin(angle)) / length
    shifts = ((np.arange(RAYS_PER_DETECTOR) + 0.5) / RAYS_PER_DETECTOR - 0.5) * (2 * math.pi / DETECTORS)
    parts = [_path_matrix(x, y, angle + shift, radius_mm, fov_mm) for shift in shifts]
    path = csr_array(sum(parts[1:], parts[0]) / RAYS_PER_DETECTOR, dtype=np.float32)
    return Rays(radius_mm, fov_mm, block, x, y, cell, length, cosine, path)


def _path_matrix(x: np.ndarray, y: np.ndarray, angle: np.ndarray, radius_mm: float, fov_mm: float) -> csr_array:
    """Bilinear samples each half pixel from every cell towards every detector, weighted by the step in mm."""
    from scipy.sparse import coo_array

    pixel = fov_mm / PIXELS
    step = pixel / 2
    away_x, away_y = radius_mm * np.cos(angle) - x[:, None], radius_mm * np.sin(angle) - y[:, None]
    length = np.hypot(away_x, away_y)
    rows, columns, weights = [], [], []
    for k in range(math.ceil(fov_mm / step)):
        along = (k + 0.5) * step / length
        px = (x[:, None] + along * away_x) / pixel + (PIXELS - 1) / 2
        py = (PIXELS - 1) / 2 - (y[:, None] + along * away_y) / pixel
        left, top = np.floor(px).astype(int), np.floor(py).astype(int)
        for across in (0, 1):
            for down in (0, 1):
                column, row = left + across, top + down
                share = np.abs(1 - across - (px - left)) * np.abs(1 - down - (py - top))
                used = (column >= 0) & (column < PIXELS) & (row >= 0) & (row < PIXELS) & (along < 1) & (share > 0)
                rows.append(np.flatnonzero(used))
                columns.append((row * PIXELS + column)[used])
                weights.append(share[used] * step)
    entries = (np.concatenate(weights), (np.concatenate(rows), np.concatenate(columns)))
    return coo_array(entries, shape=(length.size, PIXELS**2)).tocsr()


@lru_cache(maxsize=16)
def _area_shares(size: int, cells: int) -> np.ndarray:
    """Share of each of `size` pixels in each cell, over the cell's width: float32 ``(cells, size)``."""
    edge = np.arange(size + 1) * (cells / size)
    low, high = np.maximum(edge[:-1], np.arange(cells)[:, None]), np.minimum(edge[1:], np.arange(1, cells + 1)[:, None])
    return np.maximum(high - low, 0).astype(np.float32)


def coarsen(images: np.ndarray, cells: int) -> np.ndarray:
    """Block means of images ``(n, size, size)`` on a grid of `cells` a side; float32."""
    share = _area_shares(images.shape[-1], cells)
    return share @ (np.asarray(images, np.float32) @ share.T)


@dataclass(frozen=True, eq=False)
class Cast:
    """A batch of slices seen along the rays.

    Parameters
    ----------
    rays : the lines. cells : the cells with matter or activity, indices into those of the rays.
    activity, mu : means over these cells, float32 ``(n, cells)``.
    activity_path, mu_path : integrals from cell to detector, float32 ``(n, cells, detectors)``.
    """

    rays: Rays
    cells: np.ndarray
    activity: np.ndarray
    mu: np.ndarray
    activity_path: np.ndarray
    mu_path: np.ndarray


def cast(activity: np.ndarray, mu: np.ndarray, beam: ParallelBeam, scanner: Scanner) -> Cast:
    """Integrals of activity and mu ``(n, size, size)`` from every cell to every detector.

    Raises
    ------
    AllpetError : the shapes differ or are not square, or the field of view does not fit in the ring.
    """
    if activity.shape != mu.shape or activity.ndim != 3 or activity.shape[1] != activity.shape[2]:
        raise AllpetError(f"activity is {activity.shape} and mu {mu.shape}; both must be (n, size, size)")
    rays = make_rays(beam.fov_mm, scanner.beam.radius_mm)
    n = len(activity)
    pair = np.concatenate((coarsen(activity, PIXELS), coarsen(mu, PIXELS)))
    factor = PIXELS // CELLS
    blocks = pair.reshape(2 * n, CELLS, factor, CELLS, factor).mean(axis=(2, 4), dtype=np.float32)
    mean = blocks.reshape(2 * n, -1)[:, rays.block]
    used = np.flatnonzero((mean > 0).any(axis=0))
    line = _rows_of(rays, used) @ np.ascontiguousarray(pair.reshape(2 * n, -1).T)
    line = np.ascontiguousarray(line.T, np.float32).reshape(2 * n, len(used), DETECTORS)
    return Cast(rays, used, mean[:n, used], mean[n:, used], line[:n], line[n:])


def _rows_of(rays: Rays, used: np.ndarray) -> csr_array:
    """Rows of the path matrix that start in these cells."""
    if len(used) == len(rays.x):
        return rays.path
    return rays.path[(used[:, None] * DETECTORS + np.arange(DETECTORS)).ravel()]


@dataclass(frozen=True, eq=False)
class ScatterTables:
    """What single scatter needs of the geometry.

    Parameters
    ----------
    stretch : length of a line to a scatter point at height z over its length in the plane, ``(z, cells, detectors)``.
    weight : rate of a pair relative to a true's, per mu of the cell, ``(steps, z, cells, detectors)``.
    hardness : mu at the scattered energy over mu at 511 keV, same shape.
    """

    stretch: np.ndarray
    weight: np.ndarray
    hardness: np.ndarray


def pair_steps(fov_mm: float, radius_mm: float) -> int:
    """Steps t = 0, 1, ... of detector pairs (i, i + N/2 - t) that cover the field of view and one more."""
    return min(math.ceil(DETECTORS / math.pi * math.asin(fov_mm / 2 / radius_mm)) + 2, DETECTORS // 2)


@lru_cache(maxsize=8)
def scatter_tables(fov_mm: float, scanner: Scanner) -> ScatterTables:
    """Tables of a field of view in a scanner."""
    radius = scanner.beam.radius_mm
    rays = make_rays(fov_mm, radius)
    node, share = np.polynomial.legendre.leggauss(HEIGHTS)
    top = radius * math.tan(math.acos(max(_lowest_cosine(scanner), -1)) / 2)
    height, dz = (node + 1) / 2 * top, share * top  # both signs of z
    z = height[:, None, None]
    far = np.sqrt(rays.length_mm**2 + z**2)
    angle = 2 * math.pi / DETECTORS * np.arange(DETECTORS)
    ux = (radius * np.cos(angle) - rays.x[:, None]) / far
    uy = (radius * np.sin(angle) - rays.y[:, None]) / far
    uz = z / far
    solid = rays.cosine * rays.length_mm / far**3
    weight, hardness = [], []
    for t in range(pair_steps(fov_mm, radius)):
        other = (np.arange(DETECTORS) + DETECTORS // 2 - t) % DETECTORS
        cosine = -(ux * ux[..., other] + uy * uy[..., other] + uz * uz[..., other])
        kev = scattered_kev(cosine)
        seen = window_efficiency(kev, scanner) / window_efficiency(np.array(ELECTRON_KEV), scanner)
        volume = rays.cell_mm**2 * dz[:, None, None]
        weight.append(4 * radius**2 * volume * klein_nishina(cosine) * seen * solid * solid[..., other])
        hardness.append(compton_total(kev) / compton_total(ELECTRON_KEV))
    stretch = far / rays.length_mm
    return ScatterTables(*(np.asarray(part, np.float32) for part in (stretch, weight, hardness)))


def _lowest_cosine(scanner: Scanner) -> float:
    """Cosine of the angle beyond which less than 1 % of the scattered photons are in the energy window."""
    cosine = np.linspace(1, -1, 2001)
    seen = window_efficiency(scattered_kev(cosine), scanner)
    return float(cosine[np.argmax(seen < 0.01)]) if (seen < 0.01).any() else -1.0


def single_scatter(seen: Cast, tables: ScatterTables) -> np.ndarray:
    """Single scatter of detector pairs (i, i + N/2 - t): float32 ``(n, t, i)``, unit of activity*mm."""
    n = len(seen.activity)
    stretch = tables.stretch[:, seen.cells]
    rows = stretch.shape[0] * len(seen.cells)
    mu_path = (seen.mu_path[:, None] * stretch).reshape(n, rows, DETECTORS)
    source = (seen.activity_path * seen.mu[..., None])[:, None] * stretch
    source = source.reshape(n, rows, DETECTORS) * np.exp(-mu_path)
    mu_path, source = (np.concatenate((part, part), axis=-1) for part in (mu_path, source))
    steps = len(tables.weight)
    out = np.empty((n, steps, DETECTORS), np.float32)
    for t in range(steps):
        other = slice(DETECTORS // 2 - t, DETECTORS // 2 - t + DETECTORS)
        weight = tables.weight[t][:, seen.cells].reshape(rows, DETECTORS)
        hard = -tables.hardness[t][:, seen.cells].reshape(rows, DETECTORS)
        both = source[..., :DETECTORS] * np.exp(hard * mu_path[..., other])
        both += source[..., other] * np.exp(hard * mu_path[..., :DETECTORS])
        out[:, t] = np.einsum("si,nsi->ni", weight, both)
    return out


@dataclass(frozen=True, eq=False)
class ToBeam:
    """Interpolation from detector pairs to a beam: along phi (band-limited), then along s (cubic spline)."""

    turn: np.ndarray
    radial: np.ndarray
    broad: np.ndarray


@lru_cache(maxsize=16)
def to_beam(beam: ParallelBeam, radius_mm: float) -> ToBeam:
    """Interpolation of pairs of a ring to a beam.

    Pair (i, i + N/2 - t) is the line at ``phi = 2 pi i / N + pi/2 - pi t / N``, ``s = R sin(pi t / N)``; with phi
    over the whole turn, t >= 0 is every line once. Negative s is the line half a turn further.
    """
    steps = pair_steps(beam.fov_mm, radius_mm)
    t = np.arange(steps)
    first = math.pi / 2 - math.pi / DETECTORS * t  # phi of pair 0
    lag = beam.angles[:, None] - first[:, None, None] - 2 * math.pi / DETECTORS * np.arange(DETECTORS)
    turn = [_dirichlet(lag + side) for side in (0.0, math.pi)]  # s >= 0, and s < 0
    s = radius_mm * np.sin(math.pi * t / DETECTORS)
    nodes = np.concatenate((-s[:0:-1], s))
    radial = CubicSpline(nodes, np.eye(len(nodes)), axis=0)(beam.radii)
    broad = _broadening(beam)
    both = np.concatenate((turn[1][:0:-1], turn[0]))
    return ToBeam(*(np.ascontiguousarray(part, np.float32) for part in (both, radial.T, (broad @ radial).T)))


def _dirichlet(lag: np.ndarray) -> np.ndarray:
    """Weight of one of the `DETECTORS` samples of a turn at this angle from it: band-limited interpolation."""
    lag = (lag + math.pi) % (2 * math.pi) - math.pi
    near = np.abs(lag) < 1e-7
    safe = np.where(near, 1.0, lag)
    peak = DETECTORS - 1
    return np.where(near, peak, np.sin(peak * safe / 2) / np.sin(safe / 2)) / DETECTORS


def _broadening(beam: ParallelBeam) -> np.ndarray:
    """Gaussian along s; beyond the edges a profile goes on point-mirrored. Matrix ``(bins, bins)``."""
    last = beam.bins - 1
    reach = min(math.ceil(3 * MULTIPLE_SIGMA_MM / beam.bin_mm), last)
    step = np.arange(-reach, reach + 1)
    kernel = np.exp(-0.5 * (step * beam.bin_mm / MULTIPLE_SIGMA_MM) ** 2)
    kernel /= kernel.sum()
    out = np.zeros((beam.bins, beam.bins))
    row = np.arange(beam.bins)
    for k, share in zip(step, kernel, strict=True):
        at = row + k
        edge = np.clip(at, 0, last)
        beyond = at != edge
        np.add.at(out, (row, 2 * edge - at), np.where(beyond, -share, share))
        np.add.at(out, (row, edge), np.where(beyond, 2 * share, 0))
    return out


def pairs_to_beam(pairs: np.ndarray, table: ToBeam, radial: np.ndarray) -> np.ndarray:
    """Values of pairs ``(n, t, i)`` on the beam, not below 0: float32 ``(n, views, bins)``."""
    unfolded = np.concatenate((pairs[:, :0:-1], pairs), axis=1)
    lines = table.turn @ unfolded[..., None]  # (n, 2t - 1, views, 1)
    return np.maximum(np.swapaxes(lines[..., 0], 1, 2) @ radial, 0)


def optical_depth(seen: Cast) -> np.ndarray:
    """Mean integral of mu from where photons scatter to the outside, float32 ``(n,)``."""
    mean = np.einsum("nc,ncd->n", seen.mu, seen.mu_path) / DETECTORS
    return np.asarray(mean / np.maximum(seen.mu.sum(axis=1), 1e-30))


def scatter_of(seen: Cast, beam: ParallelBeam, scanner: Scanner) -> np.ndarray:
    """Scatter of slices that were cast already; see :func:`scatter_estimate`."""
    if not len(seen.cells):
        return np.zeros((len(seen.activity), *beam.shape), np.float32)
    pairs = single_scatter(seen, scatter_tables(beam.fov_mm, scanner))
    table = to_beam(beam, scanner.beam.radius_mm)
    single, broad = (pairs_to_beam(pairs, table, radial) for radial in (table.radial, table.broad))
    ratio = single.sum(axis=(1, 2)) / np.maximum(broad.sum(axis=(1, 2)), 1e-30)
    return single + (MULTIPLE * optical_depth(seen) * ratio)[:, None, None] * broad


def scatter_estimate(activity: np.ndarray, mu: np.ndarray, beam: ParallelBeam, scanner: Scanner) -> np.ndarray:
    """Expected scatter of slices, in the unit of the trues ``attenuation * ideal projection``.

    Absolute: it is not scaled to the tails of any data.

    Parameters
    ----------
    activity, mu : ``(n, size, size)`` in kBq/mL and 1/mm at 511 keV, over the field of view of the beam.

    Returns
    -------
    float32 ``(n, views, bins)`` in kBq/mL*mm, 0 or more.

    Raises
    ------
    AllpetError : the shapes differ or are not square, or the field of view does not fit in the ring.
    """
    return scatter_of(cast(activity, mu, beam, scanner), beam, scanner)
