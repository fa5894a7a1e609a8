"""What commands share: options that were given, progress bars, files of the right kind."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from tyro.constructors import PrimitiveConstructorSpec

from allpet.errors import AllpetError
from allpet.io.remote import Place, Remote, place_of

StorePath = Annotated[
    Place,
    PrimitiveConstructorSpec(
        nargs=1,
        metavar="PATH|URL",
        instance_from_str=lambda words: place_of(words[0]),
        is_instance=lambda value: isinstance(value, Path | Remote),
        str_from_instance=lambda value: [str(value)],
    ),
]
"""A path, or the URL of a dataset store (``s3://...``), as an option."""


def in_blocks(workers: int | None, scheduler: str | None, default: int | None = None) -> dict[str, Any]:
    """The two options that say who does the work, together; `default` workers where nobody is named.

    Raises
    ------
    AllpetError : both were given, and the cluster has workers of its own.
    """
    from allpet.dist.cluster import LOCAL

    if workers is not None and scheduler not in (None, LOCAL):
        raise AllpetError(f"--workers is for this machine; the cluster at {scheduler} has its own, leave it out")
    return {"workers": default if workers is None and scheduler is None else workers, "scheduler": scheduler}


def by_blocks(out: Place, workers: int | None, scheduler: str | None) -> bool:
    """Whether an output is made block by block: somebody was named to do so, or it lies at a URL.

    Raises
    ------
    AllpetError : somebody was named, and the output is no dataset store.
    """
    wanted = workers is not None or scheduler is not None
    if wanted and ending(out) != ".zarr":
        raise AllpetError(
            f"{out}: only a dataset store (.zarr) is made block by block; leave out --workers, --scheduler"
        )
    return wanted or isinstance(out, Remote)


def stated(seed: int, model_hash: str) -> dict[str, Any]:
    """What a store of ours states of where it comes from."""
    from allpet.provenance import provenance

    return {"provenance": provenance(seed=seed, model_hash=model_hash), "seed": seed}


def given(**options: Any) -> dict[str, Any]:
    """The options that were given, so that defaults stand in one place only: the function called."""
    return {name: value for name, value in options.items() if value is not None}


def ending(path: Place) -> str:
    """The file's ending, ``.nii.gz`` whole."""
    return ".nii.gz" if path.name.endswith(".nii.gz") else path.suffix


def beside_name(path: Place, suffix: str, kind: str | None = None) -> Place:
    """``scan.hs``, ``-std`` -> ``scan-std.hs``; with another ending, `kind`, where one is given."""
    return path.with_name(path.name[: len(path.name) - len(ending(path))] + suffix + (kind or ending(path)))


@contextmanager
def planes_done(label: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar with an estimate, moved by ``(planes done, planes in all)``; silent without a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
        step = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(step, completed=done, total=total)


@contextmanager
def about(path: Place) -> Iterator[None]:
    """Errors of what is done with a file name the file."""
    try:
        yield
    except AllpetError as error:
        text = str(error)
        raise AllpetError(text if str(path) in text else f"{path}: {text}") from None


def as_scan(path: Place, value: Any) -> Any:
    from allpet.scan import Scan

    if not isinstance(value, Scan):
        raise AllpetError(f"{path}: is an image; give a sinogram (.hs, .l.hdr or .zarr)")
    return value


def as_image(path: Place, value: Any) -> Any:
    from allpet.scan import Image

    if not isinstance(value, Image):
        raise AllpetError(f"{path}: is a sinogram; give an image (.nii.gz or .hv)")
    return value
