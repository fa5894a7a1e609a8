"""A whole scan to an image: randoms, arc correction and attenuation first, then plane by plane in bounded memory."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch

from allpet.errors import AllpetError
from allpet.geometry import Geometry, ImageGrid, ParallelBeam, RingBeam
from allpet.project import Projector
from allpet.recon.fbp import fbp
from allpet.recon.mumap import SAME, check_mumap, resample_mumap
from allpet.recon.osem import RELAXATION, mlem, osem
from allpet.recon.prior import RelativeDifference
from allpet.recon.psf import check_fwhm
from allpet.scan.arc import arc_beam
from allpet.scan.core import Image, Scan
from allpet.scan.corrected import ATTENUATION, BACKGROUND, corrected_for, header_of_corrected, lacks_no_background
from allpet.scan.randoms import with_randoms
from allpet.scan.rebin import added, at_one_scale
from allpet.scan.units import ACTIVITY, COUNTS, UNCALIBRATED, sigma_of

METHODS = ("fbp", "mlem", "osem")
PLANES_AT_ONCE = 16
LARGEST_GRID = 256
SMALL = 0.01
"""Default epsilon of the prior over the activity that all counts give if spread evenly; chosen: far below tissue."""


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
    psf: bool | float = False,
    beta: float = 0.0,
    gamma: float = 2.0,
    epsilon: float | None = None,
    across: bool = False,
    relaxation: float = RELAXATION,
) -> Image:
    """Reconstruct every plane of a scan.

    Parameters
    ----------
    scan : counts with what factors are known, or ideal projections. Missing bins (normalisation 0) carry no
        weight; FBP fills them from the projection of a short OSEM. A background that is not known is the scan's
        randoms, else its smoothed delayeds, else 0. Ring sinograms are arc-corrected.
    method : ``"fbp"``, ``"mlem"`` or ``"osem"``.
    mumap : attenuation in 1/mm at 511 keV; replaces the scan's own attenuation. The same number of planes, one
        plane for all, or any other number with the same middle and its own plane distance.
    size : pixels along a side over the radial field of view; default one a bin, at most 256.
    iterations : of ``mlem`` (default 50) or ``osem`` (default 10). subsets : of ``osem``.
    group : sum so many neighbouring planes first (few counts); see :func:`sum_planes`. Not with a mumap.
    fwhm_mm : width of a Gaussian filter of each finished plane (full width at half maximum); 0 for none.
    progress : show a progress bar.
    psf : model the resolution: True for the scan's own ``fwhm_mm``, a number for another width in mm. Not the default:
        it sharpens edges but overshoots at them and makes noise coarse, and images are then not comparable with
        ones made without it.
    beta : weight of the relative difference prior in mm, whatever the image's unit; 0 for none. See
        :class:`~allpet.recon.prior.RelativeDifference`, and :func:`osem` for what is minimised.
    gamma, epsilon : of the prior, `epsilon` in the image's unit (default: far below tissue, from the counts).
    across : let the prior see neighbours in other planes too; all planes are then worked on at once.
    relaxation : see :func:`osem`.

    Returns
    -------
    Image in kBq/mL (counts/mm over ``counts_per_unit``), or in counts/mm where the scan is not calibrated; as
    corrected for decay, or not, as the scan.

    Raises
    ------
    AllpetError : unknown method, a mumap that cannot be one, an option that the method does not have.

    Notes
    -----
    Memory beside the scan's, apart from the system matrix: the image, and for 16 planes at a time (all of them with
    `across`) about ``10 + subsets`` images and 6 sinograms. A ring scan's background from delayeds is worked out
    for all planes before. Measured in docs/recon.md.
    """
    how = _how(scan, method, iterations, subsets, psf, relaxation)
    if size is not None and size < 1:
        raise AllpetError(f"size is {size}; it must be at least 1 pixel")
    if not (math.isfinite(fwhm_mm) and fwhm_mm >= 0):
        raise AllpetError(f"filter width is {fwhm_mm} mm; it must be 0 or more")
    if mumap is not None and scan.unit != COUNTS:
        raise AllpetError(f"scan in {scan.unit} has no attenuation to correct; leave the mumap out")
    if mumap is not None:
        check_mumap(mumap)
        if ATTENUATION in corrected_for(scan):
            raise AllpetError("scan is corrected for attenuation already, as its header says; leave the mumap out")
    if group != 1 and mumap is not None:
        raise AllpetError("planes cannot be summed before a mumap is known for each; leave out group or mumap")
    if group > len(scan):
        raise AllpetError(f"group is {group}; the scan has {len(scan)} planes")
    if epsilon is not None and epsilon < 0:
        raise AllpetError(f"epsilon is {epsilon:g}; it must be 0 or more")
    if across and beta == 0:
        raise AllpetError("neighbours across planes are for the prior; give a beta above 0")
    attenuated = scan.attenuation is not None
    scan = _with_background(scan if group == 1 else sum_planes(scan, group))
    beam, grid = image_grid_of(scan.geometry, size)
    projector = Projector(beam, grid)
    unit, scale = ACTIVITY, torch.ones(())
    if scan.unit == COUNTS and scan.counts_per_unit is None:
        unit = UNCALIBRATED
    elif scan.unit == COUNTS:
        scale = torch.as_tensor(scan.counts_per_unit).to(torch.float32)
    if beta != 0:
        small = SMALL * _even_level(scan, beam) if epsilon is None else epsilon * float(scale.mean())
        how = replace(
            how, prior=RelativeDifference(beta, gamma, small, scan.plane_mm / grid.pixel_mm if across else None)
        )
        if method == "fbp":
            raise AllpetError("fbp has no prior; leave beta out, or take method mlem or osem")
    out = torch.empty(len(scan), *grid.shape)
    at_once = len(scan) if across else PLANES_AT_ONCE
    for start in _bar(range(0, len(scan), at_once), f"{method} of {len(scan)} planes", progress):
        some = slice(start, start + at_once)
        part = _parallel(scan.planes(some))
        if mumap is not None:
            mu = resample_mumap(mumap, grid, len(scan), scan.plane_mm, some, stacked=scan.neighbours)
            part = replace(part, attenuation=_attenuation(mu, projector, how.subsets))
        out[some] = smooth(
            _planes(part, projector, how).div_(scale[some, None, None] if scale.ndim else scale),
            fwhm_mm / grid.pixel_mm,
        )
    known = scan.acquired()
    if scan.unit == COUNTS:
        done = {ATTENUATION: mumap is not None or attenuated, BACKGROUND: scan.background is not None}
        known["header"] = header_of_corrected(scan, *(word for word, was in done.items() if was))
    return Image(out, grid, unit, scan.plane_mm, **known)


def missing_factors(scan: Scan, mumap: Image | None = None) -> list[str]:
    """What measured counts come without, and what that does to an image of them: a line each, none for other scans."""
    if scan.unit != COUNTS:
        return []
    lines = []
    if scan.attenuation is None and mumap is None and ATTENUATION not in corrected_for(scan):
        lines.append("the scan states no attenuation: activity deep in a body comes out too low; give a mumap")
    if mumap is not None and len(mumap) > 1 and scan.neighbours and _short(mumap, scan):
        lines.append("the mumap does not reach over all planes: those beyond it come out without attenuation")
    if scan.background is None and not lacks_no_background(scan):
        lines.append("the scan states no scatter, and none is taken off: activity comes out too high")
    return lines


def _short(mumap: Image, scan: Scan) -> bool:
    """Whether planes of the scan lie beyond the mu map's."""
    same = len(mumap) == len(scan) and abs(mumap.plane_mm / scan.plane_mm - 1) <= SAME
    return not same and (len(scan) - 1) * scan.plane_mm > (len(mumap) + 2e-6) * mumap.plane_mm


def image_grid_of(geometry: Geometry, size: int | None = None) -> tuple[ParallelBeam, ImageGrid]:
    """The evenly spaced grid that a scan is reconstructed from, and the grid of its images: the one on which regions
    of the scan are drawn.

    Parameters
    ----------
    size : pixels along a side; default one a bin, at most :data:`LARGEST_GRID`.
    """
    beam = arc_beam(geometry) if isinstance(geometry, RingBeam) else geometry
    assert isinstance(beam, ParallelBeam)
    return beam, beam.image_grid(min(beam.bins, LARGEST_GRID) if size is None else size)


@dataclass(frozen=True)
class _How:
    """What is done to each group of planes."""

    method: str
    iterations: int
    subsets: int
    psf_mm: float
    relaxation: float
    prior: RelativeDifference | None = None


def _how(scan: Scan, method: str, iterations: int | None, subsets: int, psf: bool | float, relaxation: float) -> _How:
    """The options that do not depend on the grid, checked."""
    if method not in METHODS:
        raise AllpetError(f"method '{method}' is unknown; known: {', '.join(METHODS)}")
    if psf is True:
        if scan.fwhm_mm is None:
            raise AllpetError("psf: the scan does not say its resolution (fwhm_mm); give a width in mm")
        psf = scan.fwhm_mm
    psf_mm = float(psf)
    check_fwhm(psf_mm)
    if method == "fbp" and psf_mm > 0:
        raise AllpetError("fbp does not model the resolution; leave psf out, or take method mlem or osem")
    if iterations is None:
        iterations = 50 if method == "mlem" else 10
    subsets = min(subsets, scan.geometry.views) if method == "osem" else 1
    return _How(method, iterations, subsets, psf_mm, relaxation)


def smooth(planes: torch.Tensor, fwhm: float) -> torch.Tensor:
    """Gaussian filter of each plane, full width at half maximum in pixels; 0 leaves it as it is."""
    from scipy.ndimage import gaussian_filter

    sigma = sigma_of(fwhm)
    return torch.from_numpy(gaussian_filter(planes.numpy(), (0, sigma, sigma))) if sigma > 0 else planes


def _with_background(scan: Scan) -> Scan:
    """The scan with what is known of its background in one array: background, else randoms, else smoothed delayeds."""
    return replace(with_randoms(scan), randoms=None, delayeds=None)


def _parallel(scan: Scan) -> Scan:
    """The scan on evenly spaced bins."""
    if isinstance(scan.geometry, RingBeam):
        from allpet.scan.arc import arc_correct

        return arc_correct(scan)
    return scan


def _attenuation(mu: torch.Tensor, A: Projector, subsets: int) -> torch.Tensor:
    """exp(-A mu), subset by subset: the same parts of the matrix as in OSEM, so that none is made for this alone."""
    lines = torch.empty(len(mu), *A.beam.shape)
    for k in range(subsets):
        lines[:, k::subsets] = Projector(A.beam, A.grid, (k, subsets))(mu)
    return lines.neg_().exp_()


def _even_level(scan: Scan, beam: ParallelBeam) -> float:
    """Counts/mm (or the scan's unit/mm) of a field of view filled evenly, unattenuated, with all that was measured.

    In planes that were summed the normalisation holds their attenuation, and so does the level.
    """
    efficiency = 1.0 if scan.normalisation is None else float(scan.normalisation.mean(dtype=torch.float64))
    per_plane = beam.views * math.pi * beam.fov_mm**2 / 4 / beam.bin_mm * efficiency
    return float(scan.sinogram.sum(dtype=torch.float64).clamp_min(0)) / max(len(scan) * per_plane, 1e-30)


def sum_planes(scan: Scan, group: int) -> Scan:
    """Neighbouring planes summed in groups: counts and background add up, and so do the efficiencies.

    The image of a sum is the mean activity of its planes; the last group may be smaller. The header gets the place of
    the middle, so that the image lies where that of the single planes would.

    Parameters
    ----------
    scan : in counts. group : planes in each sum, at least 1.

    Raises
    ------
    AllpetError : a group below 1, or a scan that is not in counts.
    """
    from allpet.io.images import OFFSET_Z
    from allpet.io.nifti import CENTRE, default_centre

    if group < 1:
        raise AllpetError(f"group is {group}; it must be at least 1 plane")
    if scan.unit != COUNTS:
        raise AllpetError(f"scan in {scan.unit} cannot be summed over planes; that is for counts")

    def total(planes: torch.Tensor) -> torch.Tensor:
        return torch.stack([part.sum(dim=0) for part in planes.split(group)])

    efficiency, scale = at_one_scale(scan, scan.efficiency)
    normalisation = total(efficiency)
    x, y, z = default_centre(len(normalisation), scan.plane_mm * group)
    shift = (group - 1) / 2 * scan.plane_mm
    centre = f"{x!r}, {y!r}, {z - shift!r}"
    return added(
        scan,
        total,
        normalisation=normalisation,
        attenuation=None,
        counts_per_unit=scale,
        plane_mm=scan.plane_mm * group,
        header=scan.header if group == 1 else {**scan.header, CENTRE: centre, OFFSET_Z: repr(shift)},
    )


def _planes(scan: Scan, A: Projector, how: _How) -> torch.Tensor:
    """One group of planes by one method."""
    counts = scan.unit == COUNTS
    efficiency = scan.efficiency if counts else None
    background = scan.background if counts else None
    y = scan.sinogram if counts else scan.sinogram.clamp_min(0)
    if how.method == "mlem":
        return mlem(y, A, how.iterations, efficiency, background, None, how.psf_mm, how.prior)
    if how.method == "osem":
        return osem(
            y, A, how.iterations, how.subsets, efficiency, background, None, how.psf_mm, how.prior, how.relaxation
        )
    corrected = scan.sinogram if background is None else scan.sinogram - background
    if efficiency is not None:
        live = efficiency > 0
        corrected = torch.where(live, corrected / efficiency.clamp_min(1e-6), torch.zeros_like(corrected))
        if not bool(live.all()):
            corrected = torch.where(live, corrected, A(osem(y, A, 2, min(8, A.beam.views), efficiency, background)))
    return fbp(corrected, A)


def _bar(steps: range, label: str, show: bool) -> Iterable[int]:
    from rich.console import Console
    from rich.progress import track

    return track(steps, label, console=Console(stderr=True), disable=not show)
