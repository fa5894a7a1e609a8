"""Scores of one file: a table on the screen, JSON and a figure beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from allpet.errors import AllpetError
from allpet.geometry import ImageGrid, ParallelBeam
from allpet.io.remote import Place
from allpet.metrics import mirror_seam, moment_residual, nrmse, psnr, range_residual, ssim
from allpet.provenance import provenance
from allpet.report.figures import png, step_lines
from allpet.report.table import plain
from allpet.scan.core import Image, Scan

LABELS = {
    "psnr": "PSNR (dB)",
    "ssim": "SSIM",
    "nrmse": "NRMSE",
    "mirror_seam": "mirror seam",
    "moment_residual": "moment residual",
    "range_residual": "range residual",
}
LARGEST_GRID = 256


def scores(value: Scan | Image, truth: Scan | Image | None, data_range: float | None = None) -> dict[str, torch.Tensor]:
    """Scores per plane, float64 ``(n,)`` by name.

    Parallel-beam scans get the consistency scores; with a truth on the same grid and in the same unit also PSNR,
    SSIM and NRMSE. ``data_range`` as in :func:`allpet.metrics.psnr`.

    Raises
    ------
    AllpetError : the two do not match, or there is nothing to score.
    """
    out: dict[str, torch.Tensor] = {}
    planes = value.sinogram if isinstance(value, Scan) else value.array
    if truth is not None:
        true = truth.sinogram if isinstance(truth, Scan) else truth.array
        if type(value) is not type(truth) or planes.shape != true.shape or value.unit != truth.unit:
            mine, theirs = (f"{tuple(x.shape)} in {y.unit}" for x, y in ((planes, value), (true, truth)))
            raise AllpetError(f"estimate {mine} and truth {theirs} do not match; kind, size and unit must agree")
        _same_grid(value, truth)
        out["psnr"] = psnr(planes, true, data_range)
        out["ssim"] = ssim(planes, true, data_range)
        out["nrmse"] = nrmse(planes, true)
    if isinstance(value, Scan) and isinstance(value.geometry, ParallelBeam):
        out |= consistency(planes, value.geometry)
    if not out:
        raise AllpetError("there is nothing to score: give --truth, or a scan with evenly spaced bins")
    return out


def _same_grid(value: Scan | Image, truth: Scan | Image) -> None:
    """Refuse pixels, bins or planes of different sizes (by more than 1 %)."""
    sizes = [
        (one.geometry.bin_mm if isinstance(one.geometry, ParallelBeam) else 0.0, 0.0)
        if isinstance(one, Scan)
        else (one.grid.pixel_mm, one.plane_mm if len(one.array) > 1 else 0.0)
        for one in (value, truth)
    ]
    if any(abs(a - b) > 0.01 * max(a, b) for a, b in zip(*sizes, strict=True)):
        (mine, apart), (theirs, apart_too) = sizes
        planes = f", planes {apart:g} and {apart_too:g} mm apart" if apart != apart_too else ""
        raise AllpetError(f"estimate and truth have pixels of {mine:g} and {theirs:g} mm{planes}; they must agree")


def consistency(planes: torch.Tensor, beam: ParallelBeam) -> dict[str, torch.Tensor]:
    """Mirror seam, moment residual and range residual per sinogram.

    Raises
    ------
    AllpetError : a single view, which has no neighbour.
    """
    from allpet.project import Projector

    if beam.views < 2:
        raise AllpetError("there is one view; consistency is between views, of which at least 2 are needed")

    size = min(beam.bins, LARGEST_GRID)
    projector = Projector(beam, ImageGrid(size, beam.fov_mm / size))
    return {
        "mirror_seam": mirror_seam(planes),
        "moment_residual": moment_residual(planes, beam),
        "range_residual": range_residual(planes, projector),
    }


def evaluate_file(file: Place, truth: Path | None, data_range: float | None, out: Path | None) -> dict[str, Any]:
    """Score a file, print the table, and write ``evaluate.json`` and ``evaluate.png`` to the folder ``out``."""
    if data_range is not None and truth is None:
        raise AllpetError("--data-range is of PSNR and SSIM against a truth; give --truth with it")
    from rich.console import Console
    from rich.table import Table

    from allpet.io import read

    values = scores(read(file), None if truth is None else _read_truth(truth), data_range)
    table = Table("score", "mean", "sd", "least", "most", title=f"{file}: {len(next(iter(values.values())))} planes")
    summary: dict[str, Any] = {}
    for name, per_plane in values.items():
        facts = {
            "mean": float(per_plane.mean()),
            "sd": _sd(per_plane),
            "min": float(per_plane.min()),
            "max": float(per_plane.max()),
        }
        summary[name] = {**facts, "planes": per_plane.tolist()}
        table.add_row(LABELS[name], *["-" if fact is None else f"{fact:.4g}" for fact in facts.values()])
    Console().print(table)
    result = {
        "file": str(file),
        "truth": None if truth is None else str(truth),
        "data_range": "maximum of each truth plane" if data_range is None else data_range,
        "scores": summary,
        "provenance": provenance(),
    }
    if out is not None:
        _keep(out, result, values)
    return result


def _sd(values: torch.Tensor) -> float | None:
    """Spread over planes; none where some are infinite (PSNR of what is exact) and others not."""
    if bool((values == values[0]).all()):
        return 0.0
    return float(values.std(correction=0)) if bool(values.isfinite().all()) else None


def _read_truth(path: Path) -> Scan | Image:
    """As :func:`allpet.io.read`, but of a store of pairs what is wanted rather than the task's input."""
    from allpet.io import DATASET, kind_of, read

    if kind_of(path) == DATASET:
        from allpet.io.store import open_store

        store = open_store(path)
        if "observed" in store:
            return Scan(torch.from_numpy(store.rows("sinogram")), store.beam, store.unit)
    return read(path)


def _keep(out: Path, result: dict[str, Any], values: dict[str, torch.Tensor]) -> None:
    from matplotlib.ticker import MaxNLocator

    from allpet.io.files import replacing

    out.mkdir(parents=True, exist_ok=True)
    first = next(iter(values))
    numbers = range(1, len(values[first]) + 1)
    figure = step_lines({LABELS[first]: values[first].tolist()}, numbers, ("plane", LABELS[first]))
    figure.axes[0].xaxis.set_major_locator(MaxNLocator(integer=True))
    with replacing(out / "evaluate.json", out / "evaluate.png") as (text, picture):
        text.write_text(json.dumps(plain(result), indent=1), encoding="utf-8")
        picture.write_bytes(png(figure))
