"""Sinograms for a prompt straight into dataset stores, a block at a time."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from allpet.dist.model import Weights
from allpet.errors import AllpetError
from allpet.io.build import block_for, build_stores
from allpet.io.job import Job
from allpet.io.remote import Place, place_of
from allpet.save import as_dataset
from allpet.scan.core import Scan

if TYPE_CHECKING:
    import torch

    from allpet.model import AllPET
    from allpet.model.generate import Progress

PARTS = ("-positive", "-negative", "-mask")
"""Suffixes of what lies beside the whole."""


@dataclass(frozen=True)
class Draw:
    """What is drawn.

    Parameters
    ----------
    parts : whether the parts are, too. chart : weights ``(size, size)``, or one image a sample: of the mask with parts,
    else of where it shall be hot. options : of :func:`allpet.model.generate.generate`.
    """

    prompt: str
    seed: int
    parts: bool = False
    chart: torch.Tensor | None = None
    options: dict[str, Any] = field(default_factory=dict)


def drawn(model: AllPET, draw: Draw, n: int, first: int = 0, progress: Progress | None = None) -> dict[str, Scan]:
    """Samples `first` to `first` + n - 1 as scans: by the suffix of their file, ``""`` the whole.

    Raises
    ------
    AllpetError : as :func:`allpet.model.generate.generate`.
    """
    known: dict[str, Any] = {**draw.options, "seed": draw.seed, "first": first}
    if not draw.parts:
        return {"": model.generate(draw.prompt, n, attention=draw.chart, progress=progress, **known)}
    parts = model.generate_parts(draw.prompt, n, mask=draw.chart, **known)
    arrays = dict(zip(PARTS, (parts.positive, parts.negative, parts.mask), strict=True))
    beside = {suffix: parts.whole.with_sinogram(array) for suffix, array in arrays.items()}
    return {"": parts.whole, **beside, "-mask": replace(beside["-mask"], unit="1")}


def generate_stores(
    out: Place,
    model: AllPET,
    draw: Draw,
    n: int,
    extra: dict[str, Any],
    workers: int | None = 1,
    scheduler: str | None = None,
    progress: bool = False,
) -> list[Place]:
    """Draw `n` samples into a store, and with parts into those beside it; killed at any moment, the same call goes on.

    Parameters
    ----------
    out : the store to write (.zarr), a path or a URL. extra : more attributes (provenance, seed).
    workers, scheduler : as :func:`allpet.io.build.build_store`.

    Returns
    -------
    the stores, the whole first.

    Raises
    ------
    AllpetError : as :func:`drawn` and :func:`allpet.io.build.build_store`.
    """
    from allpet.model.generate import GROUP

    if draw.chart is not None and draw.chart.ndim == 3:
        raise AllpetError(
            f"{out}: an image of several planes goes with all samples at once; give one plane for all, or leave out "
            "--workers and --scheduler"
        )
    steps = min(1, draw.options.get("steps", 1))
    one = drawn(model, replace(draw, options={**draw.options, "steps": steps}), 1)  # wrong options are found here
    beam = one[""].geometry
    facts = {side: as_dataset(scan, place_of(out), extra).attributes for side, scan in one.items()}
    make = partial(make_rows, Weights.of(model), draw)
    sides = tuple(side for side in one if side)
    job = Job(place_of(out).absolute(), n, beam, make, block_for(n, GROUP), sides)  # type: ignore[arg-type]
    key = {
        **{"generate": draw.prompt, "seed": draw.seed, "parts": draw.parts, "model": model.hash, **draw.options},
        "chart": None if draw.chart is None else _hash(draw.chart.numpy()),
    }
    build_stores(job, facts, workers, progress, resume_key=key, scheduler=scheduler)
    return [job.outputs[""], *(job.outputs[side] for side in sides)]


def make_rows(weights: Weights, draw: Draw, first: int, stop: int) -> dict[str, np.ndarray]:
    """Samples `first` to `stop` - 1: array name -> rows, as :class:`allpet.io.job.Job` has them."""
    made = drawn(weights.load(), draw, stop - first, first)
    return {f"{side}/sinogram" if side else "sinogram": scan.sinogram.numpy() for side, scan in made.items()}


def _hash(array: np.ndarray) -> str:
    from allpet.io.hashes import digest

    return digest(np.ascontiguousarray(array).tobytes())
