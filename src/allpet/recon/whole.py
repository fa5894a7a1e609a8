"""A whole scan to an image: randoms, arc correction and attenuation first, then plane by plane in bounded memory."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import torch

from allpet.errors import AllpetError
from allpet.geometry import ImageGrid, ParallelBeam, RingBeam
from allpet.project import Projector
from allpet.recon.fbp import fbp
from allpet.recon.osem import mlem, osem
from allpet.scan.core import ACTIVITY, COUNTS, Image, Scan

METHODS = ("fbp", "mlem", "osem")
PLANES_AT_ONCE = 16
LARGEST_GRID = 256
LARGEST_MU = 0.05


def reconstruct(
    scan: Scan,
    method: str = "osem",
    mumap: Image | None = None,
    size: int | None = None,
    iterations: int | None = None,
    subsets: int = 8,
    group: int = 1,
    fwhm_mm: float = 0.0,
    progress: bool = False,
) -> Image:
    """Reconstruct every plane of a scan.

    Parameters
    ----------
    scan : counts with what factors are known, or ideal projections. Missing bins (normalisation 0) carry no
        weight; FBP fills them from the projection of a short OSEM. Ring sinograms are arc-corrected first, with
        randoms from smoothed delayeds; elsewhere delayeds stand in for a background that is not known.
    method : ``"fbp"``, ``"mlem"`` or ``"osem"``.
    mumap : attenuation in 1/mm at 511 keV; replaces the scan's own attenuation. The same number of planes, one
        plane for all, or any other number with the same middle and its own plane distance.
    size : pixels along a side over the radial field of view; default one a bin, at most 256.
    iterations : of ``mlem`` (default 50) or ``osem`` (default 10). subsets : of ``osem``.
    group : sum so many neighbouring planes first (few counts); see :func:`sum_planes`. Not with a mumap.
    fwhm_mm : width of a Gaussian filter of each finished plane (full width at half maximum); 0 for none.
    progress : show a progress bar.

    Returns
    -------
    Image in kBq/mL, or in counts/mm where the scan is not calibrated.

    Raises
    ------
    AllpetError : unknown method, or a mumap that cannot be one.
    """
    if method not in METHODS:
        raise AllpetError(f"method '{method}' is unknown; known: {', '.join(METHODS)}")
    if size is not None and size < 1:
        raise AllpetError(f"size is {size}; it must be at least 1 pixel")
    if not (math.isfinite(fwhm_mm) and fwhm_mm >= 0):
        raise AllpetError(f"filter width is {fwhm_mm} mm; it must be 0 or more")
    if mumap is not None and scan.unit != COUNTS:
        raise AllpetError(f"scan in {scan.unit} has no attenuation to correct; leave the mumap out")
    if group != 1 and mumap is not None:
        raise AllpetError("planes cannot be summed before a mumap is known for each; leave out group or mumap")
    scan = _parallel(scan if group == 1 else sum_planes(scan, group))
    beam = scan.geometry
    assert isinstance(beam, ParallelBeam)
    grid = beam.image_grid(min(beam.bins, LARGEST_GRID) if size is None else size)
    projector = Projector(beam, grid)
    mu = None if mumap is None else resample_mumap(mumap, grid, len(scan), scan.plane_mm)
    out = torch.empty(len(scan), *grid.shape)
    starts = range(0, len(scan), PLANES_AT_ONCE)
    for start in _bar(starts, f"{method} of {len(scan)} planes", progress):
        some = slice(start, start + PLANES_AT_ONCE)
        part = scan.planes(some)
        if mu is not None:
            part = replace(part, attenuation=torch.exp(-projector(mu[some])))
        out[some] = _planes(part, projector, method, iterations, min(subsets, beam.views))
    unit = ACTIVITY
    if scan.unit == COUNTS and scan.counts_per_unit is None:
        unit = "counts/mm"
    elif scan.unit == COUNTS:
        out = out / float(scan.counts_per_unit or 1)
    return Image(smooth(out, fwhm_mm / grid.pixel_mm), grid, unit, scan.plane_mm, **scan.acquired())


def smooth(planes: torch.Tensor, fwhm: float) -> torch.Tensor:
    """Gaussian filter of each plane, full width at half maximum in pixels; 0 leaves it as it is."""
    from scipy.ndimage import gaussian_filter

    sigma = fwhm / math.sqrt(8 * math.log(2))
    return torch.from_numpy(gaussian_filter(planes.numpy(), (0, sigma, sigma))) if sigma > 0 else planes


def _parallel(scan: Scan) -> Scan:
    """The scan with its randoms, on evenly spaced bins."""
    if isinstance(scan.geometry, RingBeam):
        from allpet.scan.arc import arc_correct

        return arc_correct(scan)
    if scan.background is None and scan.delayeds is not None:
        return replace(scan, background=scan.delayeds)
    return scan


def sum_planes(scan: Scan, group: int) -> Scan:
    """Neighbouring planes summed in groups: counts and background add up, and so do the efficiencies.

    The image of a sum is the mean activity of its planes; the last group may be smaller.

    Parameters
    ----------
    scan : in counts. group : planes in each sum, at least 1.

    Raises
    ------
    AllpetError : a group below 1, or a scan that is not in counts.
    """
    if group < 1:
        raise AllpetError(f"group is {group}; it must be at least 1 plane")
    if scan.unit != COUNTS:
        raise AllpetError(f"scan in {scan.unit} cannot be summed over planes; that is for counts")

    def summed(planes: torch.Tensor | None) -> torch.Tensor | None:
        return None if planes is None else torch.stack([part.sum(dim=0) for part in planes.split(group)])

    sinogram, normalisation = summed(scan.sinogram), summed(scan.efficiency)
    assert sinogram is not None
    return replace(
        scan,
        sinogram=sinogram,
        normalisation=normalisation,
        attenuation=None,
        background=summed(scan.background),
        delayeds=summed(scan.delayeds),
        plane_mm=scan.plane_mm * group,
    )


def _planes(scan: Scan, A: Projector, method: str, iterations: int | None, subsets: int) -> torch.Tensor:
    """One group of planes by one method."""
    counts = scan.unit == COUNTS
    efficiency = scan.efficiency if counts else None
    background = scan.background if counts else None
    y = scan.sinogram if counts else scan.sinogram.clamp_min(0)
    if method == "mlem":
        return mlem(y, A, iterations or 50, efficiency, background)
    if method == "osem":
        return osem(y, A, iterations or 10, subsets, efficiency, background)
    corrected = scan.sinogram if background is None else scan.sinogram - background
    if efficiency is not None:
        live = efficiency > 0
        corrected = torch.where(live, corrected / efficiency.clamp_min(1e-6), torch.zeros_like(corrected))
        if not bool(live.all()):
            corrected = torch.where(live, corrected, A(osem(y, A, 2, subsets, efficiency, background)))
    return fbp(corrected, A)


def resample_mumap(mumap: Image, grid: ImageGrid, planes: int, plane_mm: float) -> torch.Tensor:
    """The attenuation image on another grid with the same centre, linear, 0 outside, ``(planes, n, n)`` in 1/mm.

    Raises
    ------
    AllpetError : values that are no attenuation in 1/mm.
    """
    from scipy.ndimage import map_coordinates

    low, high = float(mumap.array.min()), float(mumap.array.max())
    if low < -1e-6 or high > LARGEST_MU or high <= 0:
        raise AllpetError(
            f"mumap ranges from {low:.3g} to {high:.3g}; in 1/mm at 511 keV it must be 0 in air and below {LARGEST_MU} "
            "(water 0.0096; 1/cm are ten times that)"
        )
    own = mumap.grid
    columns = grid.x / own.pixel_mm + (own.size - 1) / 2
    rows = (own.size - 1) / 2 - grid.y / own.pixel_mm
    if len(mumap) == 1:
        levels: np.ndarray = np.zeros(planes)
    elif len(mumap) == planes:
        levels = np.arange(planes, dtype=float)
    else:
        levels = (np.arange(planes) - (planes - 1) / 2) * plane_mm / mumap.plane_mm + (len(mumap) - 1) / 2
    where = np.meshgrid(levels, rows, columns, indexing="ij")
    values = map_coordinates(mumap.array.numpy(), where, order=1, mode="constant", cval=0.0)
    return torch.from_numpy(values.astype(np.float32)).clamp_min(0)


def _bar(steps: range, label: str, show: bool) -> Iterable[int]:
    from rich.console import Console
    from rich.progress import track

    return track(steps, label, console=Console(stderr=True), disable=not show)
