"""Time of the projector pair beside ASTRA (CPU, linear) and scikit-image, in one run on one machine.

    python benchmarks/bench_projector.py [--quick] [--json FILE]

A 128 x 128 image, 180 views x 185 bins, float32. Times are medians in ms per image; ASTRA's objects are made before
the clock starts. Ratios are theirs over ours: above 1 means that ours is faster. Run it on idle cores.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from allpet import __version__
from allpet.geometry import ImageGrid, ParallelBeam
from allpet.project import Projector

Operator = Callable[[], object]


@dataclass(frozen=True)
class Case:
    """What is timed: sizes, batches, and for how long each."""

    size: int
    views: int
    bins: int
    batches: tuple[int, ...]
    seconds: float


FULL = Case(128, 180, 185, (1, 64), 2.0)
QUICK = Case(32, 24, 47, (1, 4), 0.02)


def phantom(case: Case) -> np.ndarray:
    """A lopsided object: an ellipse with a hot disk, float32 ``(size, size)``."""
    axis = np.linspace(1, -1, case.size)
    y, x = axis[:, None], -axis[None, :]
    body = ((x / 0.7) ** 2 + (y / 0.85) ** 2 < 1) * 1.0 + (((x - 0.3) ** 2 + (y - 0.2) ** 2) < 0.02) * 3.0
    return body.astype(np.float32)


def ours(case: Case, batch: int) -> tuple[Operator, Operator]:
    """Forward and back projection of the whole batch by allpet."""
    projector = Projector(ParallelBeam(case.views, case.bins, 1.0), ImageGrid(case.size, 1.0))
    image = torch.from_numpy(np.repeat(phantom(case)[None], batch, axis=0))
    sinogram = projector(image)
    return lambda: projector(image), lambda: projector.adjoint(sinogram)


def astra_linear(case: Case, batch: int) -> tuple[Operator, Operator]:
    """The same by ASTRA's CPU projector 'linear', image by image (it has no batches)."""
    import astra

    volume = astra.create_vol_geom(case.size, case.size)
    angles = np.arange(case.views) * np.pi / case.views
    rays = astra.create_proj_geom("parallel", 1.0, case.bins, angles)
    projector = astra.create_projector("linear", rays, volume)
    image = phantom(case)
    number, sinogram = astra.create_sino(image, projector)
    steps = {}
    for name, settings in (
        ("FP", {"VolumeDataId": astra.data2d.create("-vol", volume, image), "ProjectionDataId": number}),
        ("BP", {"ReconstructionDataId": astra.data2d.create("-vol", volume, 0.0), "ProjectionDataId": number}),
    ):
        config = astra.astra_dict(name)
        config.update(settings, ProjectorId=projector)
        steps[name] = astra.algorithm.create(config)

    def run(name: str) -> np.ndarray:
        for _ in range(batch):
            astra.algorithm.run(steps[name])
        return sinogram

    return lambda: run("FP"), lambda: run("BP")


def scikit_image(case: Case, batch: int) -> tuple[Operator, Operator]:
    """The same by scikit-image's radon and unfiltered iradon, image by image."""
    from skimage.transform import iradon, radon

    angles = np.arange(case.views) * 180 / case.views
    image = phantom(case)
    sinogram = radon(image, angles, circle=False)

    def forward() -> None:
        for _ in range(batch):
            radon(image, angles, circle=False)

    def back() -> None:
        for _ in range(batch):
            iradon(sinogram, angles, output_size=case.size, filter_name=None, circle=False)

    return forward, back


TOOLS = {"allpet": ours, "astra linear": astra_linear, "scikit-image": scikit_image}


def milliseconds(operator: Operator, batch: int, seconds: float) -> float:
    """Median ms per image over repeats that fill the time (at least 3), after one unmeasured call."""
    operator()
    times: list[float] = []
    while len(times) < 3 or sum(times) < seconds:
        start = time.perf_counter()
        operator()
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times) / batch


def agreement(case: Case) -> float:
    """Relative L2 difference of our sinogram from ASTRA's: both compute the same line integrals."""
    forward, _ = ours(case, 1)
    theirs = np.asarray(astra_linear(case, 1)[0]())
    own = np.asarray(forward())[0]
    return float(np.linalg.norm(own - theirs) / np.linalg.norm(theirs))


def measure(case: Case) -> dict[str, object]:
    """All tools, batches and directions, with ratios to ours."""
    rows = []
    for batch in case.batches:
        for tool, make in TOOLS.items():
            forward, back = make(case, batch)
            rows.append(
                {
                    "tool": tool,
                    "batch": batch,
                    "forward_ms": milliseconds(forward, batch, case.seconds),
                    "back_ms": milliseconds(back, batch, case.seconds),
                }
            )
    own = {row["batch"]: row for row in rows if row["tool"] == "allpet"}
    for row in rows:
        for way in ("forward", "back"):
            row[f"{way}_ratio"] = row[f"{way}_ms"] / own[row["batch"]][f"{way}_ms"]
    return {
        "image": case.size,
        "views": case.views,
        "bins": case.bins,
        "difference_from_astra": agreement(case),
        "machine": machine(),
        "results": rows,
    }


def machine() -> dict[str, object]:
    """What the times hold for."""
    import astra
    import skimage

    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_before": os.getloadavg()[0],
        "python": platform.python_version(),
        "allpet": __version__,
        "torch": torch.__version__,
        "astra": astra.__version__,
        "scikit-image": skimage.__version__,
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def main() -> None:
    """Measure, print a table, keep JSON."""
    parser = argparse.ArgumentParser(description="Projector times beside ASTRA and scikit-image.")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that it runs, not how fast")
    parser.add_argument("--json", type=Path, help="file to keep the numbers in")
    options = parser.parse_args()
    result = measure(QUICK if options.quick else FULL)
    print(f"{'tool':<14}{'batch':>6}{'forward ms':>12}{'ratio':>8}{'back ms':>10}{'ratio':>8}")
    for row in result["results"]:  # type: ignore[attr-defined]
        print(
            f"{row['tool']:<14}{row['batch']:>6}{row['forward_ms']:>12.3f}{row['forward_ratio']:>8.1f}"
            f"{row['back_ms']:>10.3f}{row['back_ratio']:>8.1f}"
        )
    print(f"relative difference from ASTRA: {result['difference_from_astra']:.4f}; {result['machine']}")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
