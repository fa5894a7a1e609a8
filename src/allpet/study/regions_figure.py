"""Examples of the coarse segmentation as one figure: image, true outline and what is suggested."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from allpet.mask.region import Region
from allpet.mask.suggest import suggest
from allpet.study.regions import Case, patients, simulated

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = 5
"""Suggestions that are drawn of each slice."""
COLOURS = {"hot": "#d62728", "cold": "#1f77b4"}
PATIENTS = ("STS_009", "STS_011")
"""Chosen for their necrotic centres, among those that no weight was changed on."""


def examples(seed: int, data: Path | None) -> list[tuple[str, Case, list[Region]]]:
    """First simulated test slices with a lesion in brain, head-neck, chest and abdomen, and two patients."""
    out: list[tuple[str, Case, list[Region]]] = []
    for region, tracer in (("brain", "FDG"), ("head-neck", "PSMA"), ("chest", "FDG"), ("abdomen", "DOPA")):
        for case in simulated(4, seed, 1.0, "test", 128, 4, region, tracer):
            if any(sort in ("hot", "cold") for sort, _ in case.truths):
                out.append((f"{tracer}, {region} (simulated)", case, suggest(case.image, limit=SHOWN)))
                break
    if data is not None:
        for some in patients(data / "sts_fdg", PATIENTS):
            best = max(some, key=lambda c: sum(mask.sum() for sort, mask in c.truths if sort == "centre"))
            out.append((f"FDG, {best.person} (patient)", best, suggest(best.image, limit=SHOWN)))
    return out


def figure_of(seed: int, data: Path | None) -> Figure:
    """The figure."""
    from matplotlib.figure import Figure

    cases = examples(seed, data)
    rows = (len(cases) + 2) // 3
    figure = Figure(figsize=(10.5, 3.7 * rows), layout="constrained")
    axes = np.atleast_1d(figure.subplots(rows, 3)).ravel()
    for axis in axes:
        axis.set_axis_off()
    for axis, (title, case, regions) in zip(axes, cases, strict=False):
        plane, pixel = case.plane, case.image.grid.pixel_mm
        top = float(np.percentile(plane[plane > 0], 99.5))
        half = plane.shape[0] * pixel / 2
        shown = axis.imshow(plane, cmap="gray_r", vmin=0, vmax=top, extent=(-half, half, -half, half))
        figure.colorbar(shown, ax=axis, shrink=0.8, label="SUV")
        _outline(axis, case.lesions, half, colors="#2ca02c", linewidths=2.2)
        for number, region in enumerate(regions, 1):
            mask = region.on((1, *plane.shape))[0] > 0.5
            dashed = "dashed" if region.name.startswith("cold centre") else "solid"
            _outline(axis, mask, half, colors=COLOURS[region.kind], linewidths=1.0, linestyles=dashed)
            _number(axis, region, number, half, pixel)
        reach = _reach(plane, case.lesions, pixel)
        axis.set_xlim(-reach, reach)
        axis.set_ylim(-reach, reach)
        axis.set_title(title, fontsize=10)
    figure.suptitle(
        f"True outline of the lesion: green. The first {SHOWN} suggestions: red hot, blue cold, dashed cold centre.",
        fontsize=10,
    )
    return figure


def draw(path: Path, seed: int, data: Path | None) -> None:
    """Write the figure as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from allpet.io.files import replacing

    figure = figure_of(seed, data)
    FigureCanvasAgg(figure)
    with replacing(path) as (file,):
        figure.savefig(file, format="png", dpi=72, metadata={"Software": None}, pil_kwargs={"optimize": True})


def _outline(axis: object, mask: np.ndarray, half: float, **style: object) -> None:
    if mask.any():
        axis.contour(  # type: ignore[attr-defined]
            mask.astype(float), [0.5], extent=(-half, half, half, -half), **style
        )


def _number(axis: object, region: Region, number: int, half: float, pixel: float) -> None:
    x = (region.box[2].stop + 0.5) * pixel - half
    y = half - (region.box[1].start - 0.5) * pixel
    axis.text(x, y, str(number), color=COLOURS[region.kind], fontsize=9)  # type: ignore[attr-defined]


def _reach(plane: np.ndarray, lesions: np.ndarray, pixel: float) -> float:
    """Half the side of a square about the middle that holds the body, in mm."""
    smooth = plane > 0.05 * np.percentile(plane[plane > 0], 95)
    rows, columns = np.nonzero(smooth | lesions)
    middle = (plane.shape[0] - 1) / 2
    far: Sequence[float] = (np.abs(rows - middle).max(), np.abs(columns - middle).max())
    return min(float(max(far)) + 4, middle + 0.5) * pixel
