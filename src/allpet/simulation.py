"""The ``allpet simulate`` command: thin, like all of the command line."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from allpet.evaluation import Count
from allpet.io import writable
from allpet.terminal import StorePath, in_blocks

Out = Positional[Annotated[StorePath, arg(metavar="OUT")]]


@dataclass
class Simulate:
    """Simulated sinograms with their truth, as a dataset store; killed at any moment, the same command goes on."""

    out: Out
    """The store to write (.zarr): a path, or a URL such as s3://bucket/NAME.zarr."""
    tracer: str = "FDG"
    """FDG, DOPA or PSMA, with or without isotope; for separate two, as in "FDG + PSMA"."""
    region: str = "brain"
    """brain, head-neck, chest, abdomen or pelvis."""
    n: Count = 8
    """Number of sinograms."""
    views: int = 128
    """Views over 180 degrees."""
    bins: int = 128
    """Radial bins."""
    bin_mm: float | None = None
    """Radial pitch in mm; default: the region's field of view over the bins."""
    task: str | None = None
    """Task to make pairs for: low-dose, attenuation, delayed, convert, separate; default: ideal projections."""
    dose_fraction: float | None = None
    """Share of the full dose in the task's input; default: drawn for low-dose, else 1."""
    counts: float = 500_000.0
    """Expected prompts of a slice at full dose."""
    thinning: Literal["time", "activity"] = "time"
    """What a low dose is: a shorter time, or less activity, which makes fewer randoms yet."""
    scanner: str | None = None
    """mMR, Vision600, uEXPLORER, DiscoveryMI or a TOML file; default: 4.5 mm resolution, no gaps."""
    background: Literal["simulated", "quick"] = "simulated"
    """Single-scatter simulation and randoms from singles, or smooth stand-ins for both."""
    to: str | None = None
    """convert: the other tracer."""
    delay_minutes: float | None = None
    """delayed: from the first frame to the delayed one; default: what is usual for the tracer."""
    stagger_minutes: float | None = None
    """separate: from the first injection to the second; default: 20."""
    ratio: float | None = None
    """separate: second over first activity; default: drawn from 1/2 to 2."""
    slices_per_subject: int = 4
    """Slices of each subject."""
    slice_mm: float | None = None
    """Distance between neighbouring slices; default: spread over the region."""
    labels: Path | None = None
    """Labelled volume (.nii.gz, .hv) to scan instead of simulated bodies."""
    table: Path | None = None
    """Its table (.csv): label, tissue, and maybe name, gain, mu."""
    ct: Path | None = None
    """CT of the same grid in HU, which gives mu."""
    seed: int = 0
    """Seed of bodies and noise."""
    split: Literal["train", "validation", "test"] = "train"
    """Which subjects; the three never share one."""
    workers: int | None = None
    """Processes on this machine, each on one thread; default: one for each core, one in all for a few samples. Samples
    do not depend on it."""
    scheduler: str | None = None
    """Dask scheduler whose workers do the work instead: tcp://HOST:PORT, its scheduler file (.json), or local for
    --workers Dask workers on this machine."""

    def run(self) -> None:
        writable(self.out, ("dataset",))

        from allpet.provenance import provenance
        from allpet.scan.simulate import simulate_store

        options = {
            name: value for name, value in vars(self).items() if name not in ("out", "n", "workers", "scheduler")
        }
        extra = {"provenance": provenance(seed=self.seed)}
        how = in_blocks(self.workers, self.scheduler)
        simulate_store(self.out, self.n, progress=sys.stderr.isatty(), extra=extra, **how, **options)
        print(self.out)
