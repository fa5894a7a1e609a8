"""Contact sheets: ten simulated subjects of a tracer and region side by side, to be looked at.

``python -m allpet.report.contact_sheet --out docs/gallery`` makes the fifteen that stand in the documentation.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from allpet.scan.tracers import TRACERS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PEOPLE = 10
WINDOW_SUV = {
    ("FDG", "brain"): 12.0,
    ("FDG", "head-neck"): 6.0,
    ("DOPA", "brain"): 3.0,
    ("DOPA", "head-neck"): 4.0,
    ("DOPA", "pelvis"): 8.0,
    ("PSMA", "brain"): 2.5,
    ("PSMA", "head-neck"): 15.0,
    ("PSMA", "abdomen"): 15.0,
    ("PSMA", "pelvis"): 10.0,
}
"""Highest SUV shown; 6 where nothing is said, as such scans are usually read."""


def contact_sheet(tracer: str, region: str, people: int = PEOPLE, seed: int = 0) -> Figure:
    """Activity (SUV), mu map and sinogram of one slice each of `people` subjects; one window a row.

    Parameters
    ----------
    tracer, region : words of :func:`allpet.scan.simulate.make_plan`. seed : of the subjects.
    """
    from matplotlib.figure import Figure

    from allpet.scan.simulate import simulate

    data = simulate(people, tracer=tracer, region=region, slices_per_subject=1, seed=seed)
    decay = float(TRACERS[tracer].isotope.decay(TRACERS[tracer].first_s[0]))
    suv = data.image * (data.weight_kg / data.injected_mbq / decay)[:, None, None]
    top = WINDOW_SUV.get((tracer, region), 6.0)
    half = data.beam.fov_mm / 2
    rows = (
        ("activity", suv, "SUV (g/mL)", "gray_r", top, (-half, half, -half, half)),
        ("attenuation", data.mumap * 10, "mu (1/cm)", "gray", 0.17, (-half, half, -half, half)),
        ("sinogram", data.sinogram / 1000, "MBq/mL*mm", "gray_r", None, (-half, half, 180, 0)),
    )
    figure = Figure(figsize=(1.25 * people + 0.9, 4.5), layout="constrained")
    axes = figure.subplots(len(rows), people, squeeze=False)
    for line, (name, planes, unit, colours, limit, extent) in zip(axes, rows, strict=True):
        square = (extent[1] - extent[0]) / abs(extent[3] - extent[2])
        most = float(np.quantile(planes, 0.999)) if limit is None else limit
        for axis, plane in zip(line, planes, strict=True):
            drawn = axis.imshow(plane, cmap=colours, vmin=0, vmax=most, extent=extent, aspect=square)
            axis.set_xticks([])
            axis.set_yticks([])
        line[0].set_ylabel(f"{name}\n{'0 to 180 deg' if name == 'sinogram' else f'{2 * half:.0f} mm'}", fontsize=7)
        bar = figure.colorbar(drawn, ax=line.tolist(), fraction=0.02, pad=0.01)
        bar.set_label(unit, fontsize=7)
        bar.ax.tick_params(labelsize=6)
    isotope = TRACERS[tracer].isotope.name
    figure.suptitle(
        f"{isotope}-{tracer}, {region}: {people} simulated subjects, one slice each (seed {seed})", fontsize=9
    )
    return figure


def main() -> None:
    """Write every sheet as PNG."""
    from allpet.scan.plan import REGIONS

    parser = argparse.ArgumentParser(description="Contact sheets of simulated subjects.")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--people", type=int, default=PEOPLE, help="subjects on each sheet")
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    for tracer in TRACERS:
        for region in REGIONS:
            path = chosen.out / f"{tracer.lower()}-{region}.png"
            contact_sheet(tracer, region, chosen.people).savefig(path, dpi=80)
            print(path)


if __name__ == "__main__":
    main()
