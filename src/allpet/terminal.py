"""What commands share: options that were given, progress bars, files of the right kind."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from allpet.errors import AllpetError


def given(**options: Any) -> dict[str, Any]:
    """The options that were given, so that defaults stand in one place only: the function called."""
    return {name: value for name, value in options.items() if value is not None}


def ending(path: Path) -> str:
    """The file's ending, ``.nii.gz`` whole."""
    return ".nii.gz" if path.name.endswith(".nii.gz") else path.suffix


def beside_name(path: Path, suffix: str, kind: str | None = None) -> Path:
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


def as_scan(path: Path, value: Any) -> Any:
    from allpet.scan import Scan

    if not isinstance(value, Scan):
        raise AllpetError(f"{path}: is an image; give a sinogram (.hs, .l.hdr or .zarr)")
    return value


def as_image(path: Path, value: Any) -> Any:
    from allpet.scan import Image

    if not isinstance(value, Image):
        raise AllpetError(f"{path}: is a sinogram; give an image (.nii.gz or .hv)")
    return value
