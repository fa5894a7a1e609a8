"""Planes restored one by one and together, cut across the planes: one simulated person as a figure."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from allpet.model import AllPET
from allpet.scan.simulate import simulate
from allpet.study.neighbours import APART, PLANE_MM, TOGETHER, as_seen

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PLANES, FRACTION = 32, 0.05


def figure_of(model: AllPET, seed: int = 0, planes: int = PLANES, region: str = "brain") -> Figure:
    """Truth, one by one, together; above a coronal cut, below a sagittal one, all in one window."""
    import torch
    from matplotlib.figure import Figure

    views, bins = model.beam.shape
    known = dict(slices_per_subject=planes, slice_mm=PLANE_MM, counts=(5e5, 5e5), views=views, bins=bins)
    data = simulate(planes, region=region, task="low-dose", split="test", seed=seed, dose_fraction=FRACTION, **known)  # type: ignore[arg-type]
    scan = replace(data.scan(), plane_mm=PLANE_MM)
    true = as_seen(torch.from_numpy(data["image"]), data.beam.bin_mm).numpy()
    volumes = {"truth": true}
    for name, beside in ((APART, False), (TOGETHER, True)):
        result = model.apply("low-dose", replace(scan, neighbours=beside), samples=0, images=True)
        image = np.asarray(result.extras["-image"].array)  # type: ignore[union-attr]
        volumes[name] = image * (true.sum() / image.sum())
    top, half, deep = float(np.percentile(true[true > 0], 99.5)), data.beam.fov_mm / 2, planes * PLANE_MM / 2
    figure = Figure(figsize=(10.5, 4.2), layout="constrained")
    axes = figure.subplots(2, 3, sharex=True, sharey=True)
    middle = bins // 2
    for column, (name, volume) in enumerate(volumes.items()):
        for row, cut in enumerate((volume[:, middle], volume[:, :, middle + bins // 16])):
            axis = axes[row, column]
            shown = axis.imshow(cut, cmap="gray_r", vmin=0, vmax=top, extent=(-half, half, -deep, deep), aspect="equal")
            axis.set_title(f"{name}, {'sagittal' if row else 'coronal'}", fontsize=9)
            axis.set_ylabel("z (mm)" if column == 0 else "")
            axis.set_xlabel(("y" if row else "x") + " (mm)")
    figure.colorbar(shown, ax=axes, shrink=0.7, label="FDG (kBq/mL)")
    words = f"{planes} planes {PLANE_MM:g} mm apart, 1/{round(1 / FRACTION)} of 500,000 counts a plane, not trained on"
    figure.suptitle(f"A simulated person: {words}", fontsize=10)
    return figure


def draw(path: Path, model: AllPET, seed: int = 0) -> None:
    """Write the figure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure_of(model, seed).savefig(path, dpi=110)
