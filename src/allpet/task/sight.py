"""What the second look sees of a region of a restored plane."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from allpet.model.focus import EDGE, Sight, fisher, fisher_step, gate_of, matched, told_of, window
from allpet.model.restorer import gaussian_blur
from allpet.task.seen import Counts, Seen

if TYPE_CHECKING:
    from allpet.model.allpet import AllPET


def sight_of(
    model: AllPET,
    mask: torch.Tensor,
    present: torch.Tensor,
    seen: Seen,
    scan: Counts,
    kind: str = "roi",
    drawn: bool = True,
    largest: int | None = None,
) -> tuple[Sight, tuple[slice, slice]]:
    """What the network sees of one region, and where.

    Parameters
    ----------
    mask : weights ``(1, rows, columns)``. present : the estimate so far, in units of the scan, likewise. seen, scan :
    of that plane. kind : hot, cold or roi: not said. drawn : by a person, not
    suggested. largest : side of the window.
    """
    projector = model.need("restorer").projector
    gate = gate_of(mask)
    unit = seen.unit[:, None, None]
    expected = scan.efficiency * seen.corrected(present, projector) + scan.background
    residual, information = fisher(scan.counts, expected, scan.efficiency * unit)
    found = [matched(m, residual, information, projector) for m in (gate, gaussian_blur(mask, EDGE))]
    alpha, error = (torch.stack(pair, dim=1) for pair in zip(*found, strict=True))
    step = fisher_step(residual, information, projector)
    scaled = [gate * value[:, None, None] for value in (alpha[:, 0], error[:, 0])]
    stack = torch.stack([present, seen.views.image, seen.views.raw, step, gate, *scaled], dim=1)
    rows, columns = window(mask[0], largest)
    return Sight(stack[:, :, rows, columns], alpha, error, told_of(seen.level, scan.bin_mm, kind, drawn)), (
        rows,
        columns,
    )
