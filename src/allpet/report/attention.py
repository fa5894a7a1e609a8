"""One page on attention: regions on the image, their weights, the emphasised scan, runs, and the audit."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from allpet.geometry import Geometry, ParallelBeam
from allpet.mask.region import planes_words
from allpet.metrics.region import uptake
from allpet.provenance import provenance
from allpet.report.figures import ACTIVITY_MAP, WEIGHT_MAP, Panel, draw, image_panel, sinogram_panel, window_of
from allpet.report.page import Section, Table, write_page

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from allpet.mask.attend import Attended
    from allpet.mask.region import Region

SHOWN = 3
"""Planes in the figure: those with most of the regions."""
COLOURS = ("tab:red", "tab:blue", "tab:orange", "tab:green", "tab:purple", "tab:brown", "tab:pink", "tab:cyan")
LATEST = 500
"""Lines of the audit that are shown."""


def write_attention_report(
    path: Path, attended: Attended, audit: list[dict[str, Any]], results: Sequence[dict[str, Any]] = ()
) -> None:
    """Write the page in one piece.

    Parameters
    ----------
    path : file to write. attended : scan, regions and weights. audit : its lines, see :mod:`allpet.audit`.
    results : of tasks run with these regions, see :func:`result_rows`.

    Raises
    ------
    AllpetError : the folder cannot be written.
    """
    planes = shown_planes(attended.regions, len(attended.image))
    lead = [
        f"{len(attended.regions)} regions on {len(attended.image)} planes; weights from "
        f"{float(attended.weights.amin()):.4g} to {float(attended.weights.amax()):.4g}.",
        "Every line of the sinogram is multiplied by W = 1 + Σ strength · A m / max(A m): A m is the line's length in "
        "a region m, weighted by it, and the maximum is over all planes. Nothing in it is learned.",
        "To undo it, divide emphasised.hs by attention.hs, bin by bin: that gives the scan back to the rounding of "
        "float32.",
    ]
    hold = int((_load(attended.regions, len(attended.image)) > 0).sum())
    left = f" Of {hold} planes with regions the {len(planes)} that hold most are shown." if hold > len(planes) else ""
    caption = (
        f"Each row a plane.{left} The quick image with the regions outlined; their weights W; the scan as it was "
        "measured and with the emphasis, both in the same window."
    )
    present = {region.hash for region in attended.regions}
    sections = [
        Section("Regions", (), [(figure_of(attended, planes), caption)], [_regions(attended)]),
        Section("Runs", (), (), [result_table(one, present) for one in results])
        if results
        else Section("Runs", ["No task was run with these regions."]),
        Section("Audit", (), (), [_audit(audit)]),
    ]
    write_page(path, "Attention", lead, sections, provenance())


def shown_planes(regions: Sequence[Region], planes: int) -> list[int]:
    """The planes that hold most of the regions, in order; the middle one where there is no region."""
    load = _load(regions, planes)
    best = np.argsort(-load, kind="stable")[:SHOWN]
    return sorted(int(k) for k in best if load[k] > 0) or [planes // 2]


def _load(regions: Sequence[Region], planes: int) -> np.ndarray:
    """How much of the regions each plane holds, ``(planes,)``."""
    load = np.zeros(planes)
    for region in regions:
        load[region.box[0]] += region.levels.sum(axis=(1, 2), dtype=np.int64)
    return load


def figure_of(attended: Attended, planes: Sequence[int]) -> Figure:
    """A row for each plane: image with outlines, weights, scan, emphasised scan."""
    image, grid, scan = attended.image, attended.image.grid, attended.emphasised
    before = attended.undone()
    pick = list(planes)
    window = window_of(scan.sinogram[pick], before.sinogram[pick])
    low, high = float(attended.weights.amin()), float(attended.weights.amax())
    weights = (min(low, 1.0), high if high > low else low + 1)
    shown = window_of(image.array[pick])
    rows = []
    for k in planes:
        rows.append(
            [
                image_panel(image.array[k], grid, f"image, plane {k + 1}", image.unit, shown),
                _sinogram(attended.weights[k], scan.geometry, f"W, plane {k + 1}", "weight", weights, WEIGHT_MAP),
                _sinogram(before.sinogram[k], scan.geometry, "scan", scan.unit, window),
                _sinogram(scan.sinogram[k], scan.geometry, "W · scan", scan.unit, window),
            ]
        )
    figure = draw(rows, 2.7)
    for axes, k in zip(figure.axes[: 4 * len(rows) : 4], planes, strict=True):
        for number, region in enumerate(attended.regions):
            mask = region.plane(k, grid.shape)
            if mask.max() >= 0.5:
                colour = COLOURS[number % len(COLOURS)]
                axes.contour(grid.x, grid.y, mask, levels=[0.5], colors=[colour], linewidths=0.8)
                row, column = np.unravel_index(int(mask.argmax()), mask.shape)
                axes.annotate(str(number + 1), (grid.x[column], grid.y[row]), color=colour, fontsize=6)
    return figure


def _sinogram(
    plane: torch.Tensor,
    geometry: Geometry,
    title: str,
    unit: str,
    window: tuple[float, float],
    colours: str = ACTIVITY_MAP,
) -> Panel:
    if isinstance(geometry, ParallelBeam):
        return sinogram_panel(plane, geometry, title, unit, window, colours)
    views, bins = geometry.shape
    return Panel(plane.numpy(), title, unit, (0, bins, views, 0), ("radial bin", "view"), window, colours, square=False)


def _regions(attended: Attended) -> Table:
    image = attended.image
    rows = []
    for number, region in enumerate(attended.regions, 1):
        together = attended.emphasised.neighbours
        found = uptake(image.array.numpy(), region, image.grid, image.plane_mm, neighbours=together)
        rows.append(
            [
                f"{number} {region.name}",
                region.kind,
                f"{region.strength:g}",
                planes_words(region.planes.start, region.planes.stop - 1).split(" ", 1)[1],
                f"{region.voxels:.1f}",
                f"{found.volume_ml:.2f}",
                *(f"{value:.4g}" for value in (found.mean, found.maximum, found.peak)),
                region.hash,
                region.why,
            ]
        )
    unit = image.unit
    heads = ["region", "kind", "strength", "planes", "voxels", "mL", f"mean ({unit})", "max", "peak", "hash", "why"]
    caption = (
        "Uptake in the quick image. Peak: largest mean of a sphere of 1 mL. The hash changes with voxels and strength."
    )
    return Table(caption, heads, rows)


def result_table(result: dict[str, Any], present: Collection[str] | None = None) -> Table:
    """A run: ``task``, ``planes``, ``unit``, ``notes``, ``seed``, ``model_hash``, and ``regions`` with ``name``,
    ``before``, ``without``, ``after`` and maybe ``truth`` (each ``mean``, ``max``, ``peak``), ``std`` and ``hash``. It
    says which regions are not as they were: those whose hash is not in `present`, where that is given."""
    rows = []
    for region in result.get("regions", ()):
        values = [_value(region.get(name)) for name in ("before", "without", "after")]
        name, own = str(region.get("name", "")), region.get("hash")
        if own and present is not None and own not in present:
            name += " (changed or removed since this run)"
        rows.append([name, *values, f"{region.get('std', 0):.3g}", _value(region.get("truth"))])
    notes = "; ".join(str(note) for note in result.get("notes", ()))
    planes = planes_words(*result["planes"]) if result.get("planes") else "no plane"
    caption = (
        f"{result.get('task')}, {planes}, seed {result.get('seed')}, weights {result.get('model_hash')}. Mean "
        f"(maximum) in {result.get('unit')}: in the quick image before; after the task without attention; with it; ± "
        f"is one standard deviation of the mean with it. {notes}"
    )
    return Table(caption, ["region", "before", "without attention", "with attention", "±", "truth"], rows)


def _value(found: dict[str, float] | None) -> str:
    return "" if found is None else f"{found['mean']:.4g} ({found['max']:.4g})"


def _audit(audit: Sequence[dict[str, Any]]) -> Table:
    rows = []
    for one in audit[-LATEST:]:
        known = ("what", "when", "regions", "allpet_version", "seed", "model_hash", "command")
        details = {key: value for key, value in one.items() if key not in known and value not in (None, [], {})}
        regions = one.get("regions") if isinstance(one.get("regions"), list) else []
        hashes = ", ".join(f"{r.get('name')} {r.get('hash')}" for r in regions or () if isinstance(r, dict))
        facts = (one.get("allpet_version"), one.get("seed", ""), one.get("model_hash", ""))
        rows.append(
            [str(one.get("what")), str(one.get("when")), *map(str, facts), hashes[:500], json.dumps(details)[:500]]
        )
    left = f"; the first {len(audit) - LATEST} are left out" if len(audit) > LATEST else ""
    caption = f"Every edit and run, the oldest first{left}. All of it is in audit.jsonl."
    return Table(caption, ["what", "when (UTC)", "version", "seed", "weights", "regions", "details"], rows)
