"""Pairs out of a user's own scans, for adapting to a scanner: the scans have to bring everything themselves.

``low-dose``: a share of the counts, drawn by binomial thinning, stands for the scan at a lower dose, and what is left
of them for the truth. Both parts have noise of their own, so that the network cannot learn the truth's (Noise2Noise,
Lehtinen et al., arXiv 1803.04189). ``attenuation``: the map is reconstructed from the factors that the scan brings.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from allpet.errors import AllpetError
from allpet.geometry import ParallelBeam
from allpet.project import Projector
from allpet.recon import fbp
from allpet.recon.whole import reconstruct
from allpet.scan.carry import Carrier
from allpet.scan.core import Scan
from allpet.scan.dataset import Dataset
from allpet.scan.plan import DOSE_RANGE
from allpet.scan.randoms import with_randoms
from allpet.scan.units import ACTIVITY, COUNTS, MU
from allpet.task.neighbours import events, half_of
from allpet.task.planes import in_touch, working_beam

TASKS = ("low-dose", "attenuation")
"""Tasks whose pairs a single scan holds."""
LEAST = 1000
"""Planes with fewer counts above the background are left out: they say nothing."""
KEPT = 500
"""Counts above the background that thinning leaves in a plane, at least: far below, a restored plane has no scale."""
DRAWS, ENOUGH = 4, 24
"""Shares of the counts that are drawn of a scan of neighbouring planes: at most so many, and for so many pairs."""
ITERATIONS = 4
Ready = dict[int, tuple[Scan, torch.Tensor]]
"""Scans by their number, and of each the planes that hold counts enough."""


def own_pairs(
    task: str,
    scans: Sequence[Scan],
    size: tuple[int, int] = (128, 128),
    dose_fraction: float | None = None,
    seed: int = 0,
) -> Dataset:
    """A data set of pairs on one grid of the model's size; every scan is a subject.

    The grid is that of the scan that needs the widest one; see :func:`own_sets` for grids as wide as each scan needs.

    Parameters
    ----------
    scans : counts of one tracer and region, with background (or delayeds) and attenuation where they are known.
    size : views and bins of the model. dose_fraction : share of the counts that is left in; default: one a plane,
        log-uniform in [1/100, 1/2], and never fewer than :data:`KEPT` counts above the background.
    seed : of shares and thinning.

    Raises
    ------
    AllpetError : a task that needs a second scan, no counts, scans of several tracers or regions, scans without
        attenuation for ``attenuation``.
    """
    ready = _ready(task, scans, dose_fraction)
    beam = ParallelBeam(*size, max(working_beam(scan, *size).bin_mm for scan, _ in ready.values()))
    return _data(task, ready, beam, dose_fraction, seed)


def own_sets(task: str, scans: Sequence[Scan], size: tuple[int, int] = (128, 128), seed: int = 0) -> list[Dataset]:
    """The same, one data set or several a scan, each as a task sees it when it is applied to the scan.

    Each is on the grid that the task works on: on a wider one people look smaller than the adapted network is going to
    see them. Planes that are going to be restored together with their neighbours are so in pairs of ``low-dose``, too:
    all of a data set are at one share of the counts, and it holds half of them (``half``).
    """
    sets = []
    for k, (scan, some) in _ready(task, scans, None).items():
        beam, one = working_beam(scan, *size), {k: (scan, some)}
        if task != "low-dose" or not in_touch(scan) or len(some) < len(scan):
            sets.append(_data(task, one, beam, None, seed))
            continue
        rng, (low, high) = np.random.default_rng([seed, k, len(some)]), DOSE_RANGE
        least = np.log(np.clip(KEPT / float(_net(scan).min()), low, high))
        for draw in range(max(1, min(DRAWS, ENOUGH // len(some)))):
            share = float(np.exp(rng.uniform(least, np.log(high))))
            sets.append(_data(task, one, beam, share, seed + 1000 * draw, half=True))
    return sets


def _ready(task: str, scans: Sequence[Scan], dose_fraction: float | None) -> Ready:
    """The scans that hold counts enough, checked; errors as :func:`own_pairs`."""
    if task not in TASKS:
        raise AllpetError(
            f"pairs of {task} need two scans of the same person; put them in a store (docs/store.md). "
            f"From single scans: {', '.join(TASKS)}"
        )
    if dose_fraction is not None and not 0 < dose_fraction < 1:
        raise AllpetError(f"dose fraction is {dose_fraction}; it must lie between 0 and 1")
    words = {(scan.tracer, scan.region) for scan in scans}
    if len(words) != 1:
        raise AllpetError(f"scans of {len(words)} tracers and regions; adapt to one of them at a time")
    checked = [_checked(task, scan) for scan in scans]
    ready = {k: (scan, some) for k, scan in enumerate(checked) if len(some := _full(scan))}
    if not ready:
        raise AllpetError(f"no plane has {LEAST} counts above the background; give scans with more counts")
    return ready


def _data(task: str, ready: Ready, beam: ParallelBeam, share: float | None, seed: int, half: bool = False) -> Dataset:
    """Pairs of scans by their number, on one grid; `half`: with half of the counts that are seen."""
    rows = [
        _rows(task, scan, some, beam, share, np.random.default_rng([seed, k]), k, half)
        for k, (scan, some) in ready.items()
    ]
    arrays = {name: np.concatenate([part[name] for part in rows]) for name in rows[0]}
    first, _ = next(iter(ready.values()))
    units = dict(sinogram=COUNTS, observed=COUNTS, background=COUNTS, image=ACTIVITY, mumap=MU, attenuation="1")
    fwhm = float(first.fwhm_mm or 4.5)
    attributes: dict[str, Any] = {
        "units": units,
        "prompt": {"tracer": first.tracer, "region": first.region, "task": task},
        "acquisition": {"fwhm_mm": fwhm},
        "image_fwhm_mm": fwhm,  # reconstructed from what the scanner resolves
    }
    return Dataset(arrays, beam, attributes)


def _checked(task: str, scan: Scan) -> Scan:
    """The scan with its background, ready for pairs."""
    if scan.unit != COUNTS:
        raise AllpetError(f"pairs are made of measured counts; this scan is in {scan.unit}")
    if task == "attenuation" and scan.attenuation is None:
        raise AllpetError("pairs of attenuation need scans that bring their attenuation factors (X-attenuation.hs)")
    return with_randoms(scan)


def _full(scan: Scan) -> torch.Tensor:
    """Numbers of the planes that hold enough counts."""
    return torch.nonzero(_net(scan) >= LEAST).flatten()


def _net(scan: Scan) -> torch.Tensor:
    """Counts of each plane above the background, ``(n,)``."""
    net = scan.sinogram if scan.background is None else scan.sinogram - scan.background
    return net.sum(dim=(-2, -1))


def _rows(
    task: str,
    scan: Scan,
    some: torch.Tensor,
    beam: ParallelBeam,
    share: float | None,
    rng: np.random.Generator,
    subject: int,
    half: bool,
) -> dict[str, np.ndarray]:
    """The pairs of some planes of one scan."""
    carrier = Carrier(scan.geometry, beam)
    one = torch.ones_like(scan.sinogram)
    background = torch.zeros_like(one) if scan.background is None else scan.background
    full = torch.from_numpy(events(scan.sinogram.numpy(), rng)).float()
    n = len(some)
    if task == "low-dose":
        low, high = DOSE_RANGE
        least = np.log(np.clip(KEPT / _net(scan)[some].numpy(), low, high))
        shares = np.exp(rng.uniform(least, np.log(high), n)) if share is None else np.full(n, share)
        kept = torch.from_numpy(rng.binomial(full[some].numpy().astype(np.int64), shares[:, None, None])).float()
        rest = (full[some] - kept) / torch.from_numpy(1 - shares).float()[:, None, None]
    else:
        shares, kept, rest = np.ones(n), full[some], full[some]
    normal = (one if scan.normalisation is None else scan.normalisation)[some]
    factors = (one if scan.attenuation is None else scan.attenuation)[some]
    whole, live = carrier.down(normal), carrier.down(normal * factors)
    peak = float(whole.amax())
    attenuation = torch.where(whole > 1e-3 * peak, live / whole.clamp_min(1e-9), 1.0).clamp(1e-6, 1.0)
    seen, truth, back = (carrier.down(x) for x in (kept, rest, background[some]))
    normalisation = whole / peak
    rebinned = Scan(truth, beam, background=back, attenuation=attenuation, normalisation=normalisation)
    image = reconstruct(rebinned, "osem", iterations=ITERATIONS).array
    rows = {
        "observed": seen,
        "sinogram": truth,
        "background": back,
        "attenuation": attenuation,
        "normalisation": normalisation,
        "image": image,
        "subject": torch.full((n,), subject),
        "dose_fraction": torch.from_numpy(shares).float(),
    }
    if half:
        rows["half"] = carrier.down(half_of(kept, 0))
    if task == "attenuation":
        rows["mumap"] = fbp(-attenuation.log(), Projector(beam, beam.image_grid())).clamp_min(0)
        rows["sinogram"] = (truth - back).clamp_min(0) / attenuation
    return {name: value.numpy() for name, value in rows.items()}
