"""The commands ``allpet apply``, ``allpet attend`` and ``allpet adapt``: thin, like all of the command line."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from allpet.errors import AllpetError
from allpet.generation import SCAN_KINDS
from allpet.io import writable
from allpet.io.place import not_an_input
from allpet.io.remote import Place
from allpet.terminal import (
    StorePath,
    as_image,
    as_scan,
    beside_name,
    by_blocks,
    ending,
    given,
    in_blocks,
    planes_done,
    stated,
)

In = Positional[Annotated[StorePath, arg(metavar="IN")]]
Task = Positional[Annotated[str, arg(metavar="TASK")]]
REGION_FILES = (("-regions", ".json"), ("-audit", ".jsonl"))
IMAGES = ("-mumap", "-retention", "-image", "-image-std", "-image-change")
BESIDE = (("-std", None), ("-second", None), *((suffix, ".nii.gz") for suffix in IMAGES))
"""What a task may write beside its result, and the ending where it is another."""


def regions_for(path: Path, scan: Any) -> Any:
    """Regions in a file, on the grid of the scan's images."""
    import torch

    from allpet.io.regions import read_regions
    from allpet.recon.whole import image_grid_of
    from allpet.scan import Image

    grid = image_grid_of(scan.geometry)[1]
    return read_regions(path, Image(torch.zeros(()).expand(len(scan), *grid.shape), grid, plane_mm=scan.plane_mm))


@dataclass
class Apply:
    """Restore or translate a scan; the standard deviation, and what else a task gives, lie beside the result."""

    task: Task
    """low-dose, attenuation, delayed, convert or separate."""
    source: In
    """Scan to read."""
    out: StorePath
    """File to write; beside it -std (all tasks), -second (separate), -mumap.nii.gz (attenuation), -retention.nii.gz
    (delayed), -regions.json and -audit.jsonl (with --roi)."""
    prompt: str | None = None
    """[isotope-]TRACER REGION, for separate "A + B REGION"; default: what the header says, else none."""
    dose_fraction: float | None = None
    """low-dose: share of the full dose in the input; default: what the header says."""
    delay_minutes: float | None = None
    """delayed: from the start of this frame to that of the later one; default: what is usual for the tracer."""
    to: str | None = None
    """convert: the tracer wanted."""
    ct: Path | None = None
    """attenuation: mu map in 1/mm (allpet convert CT MU --to-mu) to use instead of a predicted one."""
    samples: int | None = None
    """Draws behind the standard deviation; 0 for none."""
    roi: Path | None = None
    """Regions to attend to: a label map (.nii.gz) or shapes (.json); their uptake before and after is written, too."""
    images: bool = False
    """Write the image behind the result and its standard deviation, too: -image.nii.gz, -image-std.nii.gz, and with
    --roi what attention changed: -image-change.nii.gz."""
    neighbours: bool | None = None
    """Restore planes together with those beside them; default: yes for the planes of one scan, no for a store of
    slices."""
    seed: int = 0
    """Seed."""
    model: Path | None = None
    """Model folder; default: the shipped weights."""
    workers: int | None = None
    """From .zarr to .zarr block by block in so many processes on this machine, each on one thread: memory for
    blocks only, and the same command goes on after a kill. Default: all at once in this process."""
    scheduler: str | None = None
    """From .zarr to .zarr block by block in the workers of a Dask scheduler: tcp://HOST:PORT, its scheduler
    file (.json), or local for --workers Dask workers on this machine."""

    def run(self) -> None:
        from allpet.task import TASKS

        if self.task not in TASKS:
            raise AllpetError(f"task '{self.task}' is unknown; known: {', '.join(TASKS)}")
        writable(self.out, SCAN_KINDS)

        from allpet.io import DATASET, kind_of, read
        from allpet.io.acquired import check_position
        from allpet.model import AllPET
        from allpet.save import check_storable, save
        from allpet.scan import Image

        beside = [beside_name(self.out, suffix, kind) for suffix, kind in (*BESIDE, *REGION_FILES)]
        for path in (self.out, *beside):
            not_an_input(path, self.source, self.ct, self.roi)
        how = in_blocks(self.workers, self.scheduler, default=1)
        known = given(
            dose_fraction=self.dose_fraction,
            delay_minutes=self.delay_minutes,
            to=self.to,
            samples=self.samples,
            prompt=self.prompt,
            images=self.images,
        )
        if by_blocks(self.out, self.workers, self.scheduler):
            self._run_in_blocks(known, how)
            return
        scan = as_scan(self.source, read(self.source))
        if kind_of(self.out) == DATASET:
            check_storable(scan, self.out)
        if self.images or self.task in ("attenuation", "delayed"):  # these write NIfTI
            check_position(scan, self.source)
        if self.neighbours is not None:
            scan = replace(scan, neighbours=self.neighbours)
        if self.ct is not None:
            known["ct"] = as_image(self.ct, read(self.ct))
        if self.roi is not None:
            known["roi"] = regions_for(self.roi, scan)
        model = AllPET.from_pretrained(self.model)
        with planes_done(self.task) as progress:
            result = model.apply(self.task, scan, seed=self.seed, progress=progress, **known)
        for note in result.notes:
            print(f"note: {note}", file=sys.stderr)
        model_hash = model.hash
        outputs = {"": result.expected, "-std": result.std, **result.extras}
        written = []
        for suffix, value in outputs.items():
            if value is None:
                continue
            path = beside_name(self.out, suffix, ".nii.gz" if isinstance(value, Image) else None)
            save(value, path, self.seed, model_hash)
            print(path)
            written.append(path)
        self._remove_older(written)
        if self.roi is not None:
            from allpet.report.attended import write_region_table

            table, log = (Path(str(beside_name(self.out, suffix, kind))) for suffix, kind in REGION_FILES)
            write_region_table(table, log, self.task, result, known["roi"], self.seed, model_hash)
            print(table, log, sep="\n")

    def _remove_older(self, written: Iterable[Place]) -> None:
        """Remove what an earlier call has left beside what this one has written."""
        from allpet.save import remove_outdated

        new = set(map(str, written))
        beside = (beside_name(self.out, *one) for one in BESIDE)
        remove_outdated([path for path in beside if str(path) not in new], "allpet apply")

    def _run_in_blocks(self, known: dict[str, Any], how: dict[str, Any]) -> None:
        from allpet.dist.applied import apply_stores
        from allpet.model import AllPET

        if ending(self.source) != ".zarr":
            raise AllpetError(
                f"{self.source}: only a dataset store (.zarr) is worked on block by block; convert it first"
            )
        for name in ("ct", "roi", "neighbours"):
            if getattr(self, name):
                raise AllpetError(f"--{name} looks at all planes together; leave out --workers and --scheduler with it")
        model = AllPET.from_pretrained(self.model)
        extra = stated(self.seed, model.hash)
        paths, notes = apply_stores(
            self.source, self.out, self.task, model, self.seed, known, extra, progress=sys.stderr.isatty(), **how
        )
        self._remove_older(paths)
        for note in notes:
            print(f"note: {note}", file=sys.stderr)
        print(*paths, sep="\n")


@dataclass
class Attend:
    """Emphasise regions of a scan in its sinogram: visible, adjustable, and undone by dividing."""

    source: In
    """Scan to read."""
    out: Path
    """Folder for image.nii.gz, roi.nii.gz, regions.json, attention.hs, emphasised.hs, audit.jsonl and report.html."""
    roi: Path | None = None
    """Regions: a label map (.nii.gz) or shapes (.json); default: hot and cold regions that the image suggests."""
    strength: float | None = None
    """Of all regions, above -1: 1 doubles the line that runs through a region the longest; default: each region's own,
    else 1."""

    def run(self) -> None:
        from allpet.io import read
        from allpet.io.regions import read_regions
        from allpet.mask.attend import attend, quick_image
        from allpet.mask.region import check_strength
        from allpet.report.attended import write_attended

        if self.strength is not None:
            check_strength(self.strength)
        if self.out.exists() and not self.out.is_dir():
            raise AllpetError(f"{self.out}: is a file; name a folder")
        scan = as_scan(self.source, read(self.source))
        image = quick_image(scan)
        regions = None if self.roi is None else read_regions(self.roi, image)
        attended = attend(scan, regions, self.strength, image)
        if not attended.regions:
            print("note: no hot or cold region was found; give one with --roi", file=sys.stderr)
        for path in write_attended(self.out, attended):
            print(path)


@dataclass
class Adapt:
    """Fit a task to your own pairs: a small adapter on the frozen base, in minutes."""

    task: Task
    """low-dose, attenuation, delayed, convert or separate."""
    pairs: tuple[Path, ...]
    """Stores of pairs (allpet simulate --task TASK, or your own with the same arrays); for low-dose and attenuation
    also scans, a file a subject, of which pairs are made."""
    out: Path
    """Model folder to write; --model takes it."""
    max_minutes: float = 5.0
    """Stop after this long."""
    max_steps: int | None = None
    """Stop after this many steps."""
    attention: float = 0.0
    """Strength with which hot and cold regions of the truth weigh more in the loss; 1 doubles their weight."""
    model: Path | None = None
    """Model to start from; default: the shipped weights."""
    seed: int = 0
    """Seed."""

    def run(self) -> None:
        from allpet.train.adapt import adapt, gain

        adapt(
            self.task,
            self.pairs,
            self.out,
            self.max_minutes,
            self.max_steps,
            model=self.model,
            seed=self.seed,
            progress=sys.stderr.isatty(),
            attention=self.attention,
        )
        for line in gain(self.out, self.task):
            print(f"note: {line}", file=sys.stderr)
        print(self.out)
