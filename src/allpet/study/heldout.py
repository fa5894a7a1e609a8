"""Real counts without a truth: how likely is one half of a list-mode scan, given what a method makes of the other?

Both halves are Poisson with the same mean, so the better the estimate of that mean from one half, the more likely the
other. Log-likelihood a count, relative to what the same total spread like the smoothed background would have.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from allpet.io.listmode import read_listmode
from allpet.model import AllPET
from allpet.project import Projector
from allpet.recon import osem
from allpet.scan.carry import Carrier
from allpet.scan.core import Scan
from allpet.scan.randoms import with_randoms
from allpet.task.baselines import gaussian_strip
from allpet.task.planes import working_beam
from allpet.train.watch import peak_mib

WIDTHS = (1.0, 2.0, 4.0, 8.0, 12.0, 16.0, 24.0)
DEPTHS = (0.0, 1.0, 2.0, 4.0)
"""Standard deviations of the Gaussian in bins, and across planes in planes."""


def log_likelihood(counts: torch.Tensor, expected: torch.Tensor, live: torch.Tensor) -> float:
    """Poisson log-likelihood without the factorials, ``sum(y log m - m)``, over bins that were measured."""
    y, m = counts[live].double(), expected[live].double().clamp_min(1e-6)
    return float((y * m.log() - m).sum())


def halves(path: Path, middle_s: float) -> tuple[Scan, Scan]:
    """Counts before and after a moment, randoms estimated from each half's delayeds."""
    return with_randoms(read_listmode(path, None, middle_s)), with_randoms(read_listmode(path, middle_s, None))


def judge(
    model: AllPET, path: Path, middle_s: float, planes: slice | None = None
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """A row for each method, with the gain in log-likelihood a count over smoothed randoms alone; and the cost.

    The mean of the second half is the estimate from the first, scaled to the second's total.
    """
    first, second = (part.planes(planes or slice(None)) for part in halves(path, middle_s))
    live = second.live
    assert first.background is not None
    begun = time.monotonic()
    restored = model.apply("low-dose", first, dose_fraction=1.0, samples=0).expected.sinogram
    cost = dict(planes=float(len(first)), seconds=time.monotonic() - begun, peak_gib=peak_mib() / 1024)
    alone = model.apply("low-dose", replace(first, neighbours=False), dose_fraction=1.0, samples=0).expected.sinogram
    net = first.sinogram - first.background
    normal = torch.ones_like(net) if first.normalisation is None else first.normalisation
    estimates = {"randoms alone": first.background, "input": first.sinogram}
    for depth in DEPTHS:
        thick = [across(x, depth) for x in (net, normal)]
        for width in WIDTHS:
            smooth = gaussian_strip(thick[0], width) / gaussian_strip(thick[1], width).clamp_min(1e-3)
            name = f"Gaussian, {width:g} bins" + (f", {depth:g} planes" if depth else "")
            estimates[name] = smooth.clamp_min(0) * normal + first.background
    estimates["OSEM, 2 iterations"] = _reprojected(model, first) + first.background
    estimates["allpet, planes one by one"] = alone
    estimates["allpet"] = restored
    total = float(second.sinogram[live].sum())
    rows: list[dict[str, Any]] = []
    for name, mean in estimates.items():
        mean = mean * live
        mean = mean * (total / float(mean.sum()))
        rows.append(dict(method=name, log_likelihood=log_likelihood(second.sinogram, mean, live) / total))
    start = rows[0]["log_likelihood"]
    for row in rows:
        row["gain"] = row["log_likelihood"] - start
    return rows, cost


def across(planes: torch.Tensor, sigma: float) -> torch.Tensor:
    """Gaussian smoothing across planes, sigma in planes; at the ends over those that there are."""
    if sigma == 0:
        return planes
    place = torch.arange(len(planes))
    weights = (-0.5 * ((place[:, None] - place) / sigma).square()).exp()
    return torch.einsum("kj,jvb->kvb", weights / weights.sum(dim=1, keepdim=True), planes)


def _reprojected(model: AllPET, scan: Scan) -> torch.Tensor:
    """OSEM (2 iterations, 8 subsets) on the model's grid, projected and carried to the scan's lines."""
    beam = working_beam(scan, *model.beam.shape)
    carrier, projector = Carrier(scan.geometry, beam), Projector(beam, beam.image_grid())
    out = []
    for k in range(0, len(scan), 8):
        part = scan.planes(slice(k, k + 8))
        assert part.background is not None
        down = [carrier.down(x) for x in (part.sinogram, part.efficiency, part.background)]
        peak = float(down[1].amax())
        image = osem(down[0], projector, 2, 8, down[1] / peak, down[2])
        out.append(part.efficiency * carrier.up(projector(image) / peak))
    return torch.cat(out)


def markdown(rows: list[dict[str, Any]], cost: dict[str, float]) -> str:
    """The rows as a Markdown table, and the cost below."""
    lines = ["| estimate from the first half | log-likelihood of the second, a count | gain |", "|---|---|---|"]
    lines += [f"| {r['method']} | {r['log_likelihood']:.4f} | {r['gain']:+.4f} |" for r in rows]
    text = f"{cost['planes']:.0f} planes restored in {cost['seconds']:.0f} s, peak memory {cost['peak_gib']:.2f} GiB."
    return "\n".join([*lines, "", text])
