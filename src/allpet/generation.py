"""The ``allpet generate`` command: thin, like all of the command line."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from allpet.errors import AllpetError
from allpet.evaluation import Count
from allpet.io import writable
from allpet.terminal import StorePath, as_image, beside_name, by_blocks, given, in_blocks, planes_done, stated

if TYPE_CHECKING:
    import torch

    from allpet.dist.generated import Draw
    from allpet.model import AllPET

SCAN_KINDS = ("sinogram", "dataset")


@dataclass
class Generate:
    """Sinograms for a prompt such as "18F-FDG brain"."""

    prompt: str
    """[isotope-]TRACER REGION."""
    out: StorePath
    """File to write: .hs (Interfile) or .zarr (dataset store, also at a URL)."""
    n: Count = 1
    """Number of sinograms; sample i of a seed depends neither on this nor on the batch."""
    views: int | None = None
    """Views over 180 degrees, 32 to 512 (default 128)."""
    bins: int | None = None
    """Radial bins, 32 to 512 (default 128)."""
    bin_mm: float | None = None
    """Radial pitch in mm; default: the region's field of view over the bins."""
    sampler: str | None = None
    """sde, dpm, euler, heun, ddpm, ddim or ddbm; default: sde, 10 steps."""
    steps: int | None = None
    """Steps of the sampler; default: its own number."""
    guidance: float | None = None
    """Above 1 exaggerates the prompt, at twice the cost; default: what the model was tuned to."""
    roi: Path | None = None
    """Image whose values above 0 mark where it shall be hot: one plane, or n."""
    parts: bool = False
    """Write the positive and the negative part beside, as -positive and -negative, and their mask as -mask."""
    mask: Path | None = None
    """With parts: image of the mask that splits, one plane or n; default: the model draws it."""
    seed: int = 0
    """Seed."""
    model: Path | None = None
    """Model folder; default: the shipped weights."""
    workers: int | None = None
    """Make a .zarr block by block in so many processes on this machine, each on one thread: memory for
    blocks only, and the same command goes on after a kill. Default: all at once in this process."""
    scheduler: str | None = None
    """Make a .zarr block by block in the workers of a Dask scheduler: tcp://HOST:PORT, its scheduler
    file (.json), or local for --workers Dask workers on this machine."""

    def run(self) -> None:
        writable(self.out, SCAN_KINDS)

        from allpet.dist.generated import Draw, drawn
        from allpet.model import AllPET
        from allpet.save import save

        if self.mask is not None and not self.parts:
            raise AllpetError("--mask splits a sinogram into parts; give --parts with it")
        if self.roi is not None and self.parts:
            raise AllpetError("--roi and --parts do not go together; give one")
        how = in_blocks(self.workers, self.scheduler, default=1)
        model = AllPET.from_pretrained(self.model)
        wanted = given(views=self.views, bins=self.bins, bin_mm=self.bin_mm, sampler=self.sampler, steps=self.steps)
        wanted |= given(guidance=self.guidance)
        image = self.mask if self.parts else self.roi
        chart = None if image is None else _weights(image, model, self.prompt)
        draw = Draw(self.prompt, self.seed, self.parts, chart, wanted)
        if by_blocks(self.out, self.workers, self.scheduler):
            self._run_in_blocks(model, draw, how)
            return
        with planes_done("generate") as progress:
            outputs = drawn(model, draw, self.n, progress=progress)
        for suffix, value in outputs.items():
            path = beside_name(self.out, suffix) if suffix else self.out
            save(value, path, self.seed, model.hash)
            print(path)

    def _run_in_blocks(self, model: AllPET, draw: Draw, how: dict[str, Any]) -> None:
        from allpet.dist.generated import generate_stores

        extra = stated(self.seed, model.hash)
        for path in generate_stores(self.out, model, draw, self.n, extra, progress=sys.stderr.isatty(), **how):
            print(path)


def _weights(path: Path, model: AllPET, prompt: str) -> torch.Tensor:
    """An image's values over the prompt's field of view, ``(n, size, size)``, or ``(size, size)`` for one plane."""
    from allpet.geometry import ImageGrid
    from allpet.io import read
    from allpet.model.regrid import regrid

    image = as_image(path, read(path))
    size, fov_mm = model.beam.bins, float(model.config["field_of_view_mm"][str(model.parse(prompt).region)])
    weights = regrid(image.array.clamp_min(0), image.grid, ImageGrid(size, fov_mm / size)).clamp_min(0)
    if float(image.array.amax()) <= 0 or float(weights.amax()) <= 0:
        raise AllpetError(f"{path}: marks nothing inside of the field of view of {fov_mm:g} mm; values above 0 must")
    return weights[0] if len(weights) == 1 else weights
