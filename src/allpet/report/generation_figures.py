"""Generated beside real: sinograms and reconstructions of every prompt in one window a row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from allpet.geometry import ParallelBeam
from allpet.report.figures import ACTIVITY_MAP, window_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EACH = 3
"""Samples of each kind in a row."""


KINDS = ("sinogram", "image")


def beside(
    generated: dict[str, torch.Tensor],
    real: dict[str, torch.Tensor],
    beams: dict[str, ParallelBeam],
    shown: Sequence[str] = KINDS,
) -> Figure:
    """A row a prompt: three generated and three real sinograms, three generated and three real reconstructions.

    Parameters
    ----------
    generated, real : ``(n, views, bins)`` for each prompt, n at least 3, any unit: shown over their mean. shown : of
    :data:`KINDS`.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    from allpet.project import Projector
    from allpet.recon import fbp

    wide = 2 * EACH * len(shown)
    figure = Figure(figsize=(wide * 1.25 + 1.25 * len(shown), 1.45 * len(generated) + 0.6), layout="constrained")
    grid = figure.subplots(len(generated), wide, squeeze=False)
    for number, (prompt, made) in enumerate(generated.items()):
        row = grid[number]
        beam = beams[prompt]
        pair = [s[:EACH] / s[:EACH].mean(dim=(-2, -1), keepdim=True) for s in (made, real[prompt])]
        half = beam.fov_mm / 2
        projector = Projector(beam, beam.image_grid())
        images = [fbp(s, projector).clamp_min(0) * beam.fov_mm for s in pair]
        kinds = {
            "sinogram": (pair, (-half, half, 180.0, 0.0), "sinogram / mean", ("s (mm)", "φ (°)")),
            "image": (images, (-half, half, -half, half), "FBP × width / mean", ("x (mm)", "y (mm)")),
        }
        for block, kind in enumerate(shown):
            sets, extent, unit, labels = kinds[kind]
            window = window_of(*sets, share=0.995)
            for k, plane in enumerate(torch.cat(sets)):
                axes = row[block * 2 * EACH + k]
                drawn = axes.imshow(
                    plane.numpy(), cmap=ACTIVITY_MAP, vmin=window[0], vmax=window[1], extent=extent, aspect="auto"
                )
                if kind == "image":
                    axes.set_aspect("equal")
                axes.tick_params(labelsize=5, length=2)
                if number == 0 and k % EACH == 1:
                    axes.set_title("generated" if k < EACH else "people never seen", fontsize=9)
                if number == len(grid) - 1:
                    axes.set_xlabel(labels[0], fontsize=6)
                else:
                    axes.set_xticklabels([])
                if k == 0:
                    axes.set_ylabel(f"{prompt}\n{labels[1]}" if block == 0 else labels[1], fontsize=6)
                else:
                    axes.set_yticklabels([])
            bar = figure.colorbar(drawn, ax=list(row[block * 2 * EACH : (block + 1) * 2 * EACH]), pad=0.01)
            bar.set_label(unit, fontsize=6)
            bar.ax.tick_params(labelsize=5)
    return figure
