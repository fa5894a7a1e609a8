"""Do the warnings tell what is unlike the training people? Wrong tracers, cut-off scans, a phantom of rods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from allpet.model import AllPET
from allpet.model.familiar import DOUBT, LIMIT
from allpet.model.prompt import REGIONS, TRACERS
from allpet.project import Projector
from allpet.scan.core import Scan
from allpet.scan.simulate import simulate

COUNTS = 500_000.0
FRACTION = 0.25
CUT = 0.2
"""Share of the body's width that a cut-off scan lacks on either side."""
RODS_MM, RADIUS_MM = 12.0, 100.0
"""Distance of the phantom's rods (square, half as wide), and its radius."""


def auc(usual: torch.Tensor, strange: torch.Tensor) -> float:
    """Chance that a strange scan scores higher than a usual one."""
    above = (strange[:, None] > usual[None]).float() + 0.5 * (strange[:, None] == usual[None]).float()
    return float(above.mean())


def cut_off(scan: Scan) -> Scan:
    """The same scan without the outer bins on both sides."""
    net = scan.sinogram if scan.background is None else scan.sinogram - scan.background
    profile = net.mean(dim=(0, 1))
    seen = torch.nonzero(profile > 0.05 * profile.max()).flatten()
    first, last = int(seen[0]), int(seen[-1])
    less = round(CUT * (last - first))
    keep = torch.zeros_like(scan.sinogram)
    keep[..., first + less : last + 1 - less] = 1
    background = None if scan.background is None else scan.background * keep
    return scan.with_sinogram(scan.sinogram * keep, background=background)


def rods(scan: Scan, seed: int = 0) -> Scan:
    """A grid of rods on the scan's geometry with as many counts a plane."""
    beam = scan.geometry
    grid = beam.image_grid()  # type: ignore[union-attr]
    x, y = np.meshgrid(grid.x, grid.y)
    inside = (np.hypot(x, y) < RADIUS_MM) & (x % RODS_MM < RODS_MM / 2) & (y % RODS_MM < RODS_MM / 2)
    lines = Projector(beam, grid)(torch.from_numpy(inside.astype(np.float32)))  # type: ignore[arg-type]
    expected = lines * (float(scan.sinogram[0].sum()) / float(lines.sum()))
    counts = torch.poisson(expected[None], generator=torch.Generator().manual_seed(seed))
    return replace(scan.planes(slice(0, 1)), sinogram=counts, attenuation=None, background=None)


def judge(model: AllPET, people: int = 16, seed: int = 31, regions: Sequence[str] = REGIONS) -> list[dict[str, Any]]:
    """A row for each region and tracer: areas under the curve, and shares of scans of people that get a warning."""
    rows = []
    for region in regions:
        scans = {}
        for tracer in TRACERS:
            known = dict(tracer=tracer, region=region, task="low-dose", dose_fraction=FRACTION, counts=COUNTS)
            known |= dict(views=model.beam.views, bins=model.beam.bins)
            data = simulate(people, split="test", seed=seed, slices_per_subject=1, **known)  # type: ignore[arg-type]
            scans[tracer] = data.scan()
        for tracer, scan in scans.items():
            usual = _verdict(model, scan, tracer)
            row: dict[str, Any] = dict(region=region, tracer=tracer, n=people)
            wrong = [_verdict(model, other, tracer)[1] for name, other in scans.items() if name != tracer]
            row["wrong_tracer"] = float(np.mean([auc(usual[1], w) for w in wrong]))
            row["cut_off"] = auc(usual[0], _verdict(model, cut_off(scan), tracer)[0])
            row["rods"] = auc(usual[0], _verdict(model, rods(scan), tracer)[0])
            row["false_strange"] = float((usual[0] > LIMIT).float().mean())
            row["false_doubt"] = float((usual[1] > DOUBT).float().mean())
            rows.append(row)
    return rows


def _verdict(model: AllPET, scan: Scan, tracer: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Strangeness and contradiction of every plane of a scan that is said to be of this tracer."""
    from allpet.task.gather import Gather
    from allpet.task.planes import Words, parts

    gather = Gather(model, "low-dose", Words(tracer, None, scan.region), scan, images=False)
    for part in parts(model, scan, scan.attenuation):
        gather.look(part)
    contradiction = [v.contradiction for v in gather.verdicts]
    assert gather.strangeness is not None
    return gather.strangeness, torch.cat([c for c in contradiction if c is not None])


def markdown(rows: list[dict[str, Any]]) -> str:
    """The rows as a Markdown table."""
    heads = [
        "region",
        "tracer",
        "wrong tracer (AUC)",
        "cut off (AUC)",
        "rods (AUC)",
        "usual ones called strange",
        "doubted",
    ]
    lines = ["| " + " | ".join(heads) + " | n |", "|---" * (len(heads) + 1) + "|"]
    for row in rows:
        values = [f"{row[key]:.2f}" for key in ("wrong_tracer", "cut_off", "rods", "false_strange", "false_doubt")]
        lines.append(f"| {row['region']} | {row['tracer']} | {' | '.join(values)} | {row['n']} |")
    keys = ("wrong_tracer", "cut_off", "rods", "false_strange", "false_doubt")
    means = [f"{np.mean([row[key] for row in rows]):.3f}" for key in keys]
    lines.append(f"| mean | | {' | '.join(means)} | {sum(row['n'] for row in rows)} |")
    return "\n".join(lines)
