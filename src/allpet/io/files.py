"""What every reader and writer needs: whole files or none, finite values, known names."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from allpet.errors import AllpetError

MAX_ASPECT = 4
"""Planes are padded to a square; one side may be this many times the other."""
PADDED = "padded to a square from"
"""Header key of the sides before, rows x columns."""


def part_of(target: Path) -> str:
    """How the name of a temporary file or folder beside a target begins: the target, the machine and this process.

    What processes that are no more (killed in the middle of writing) left beside the target is removed.
    """
    machine = hashlib.sha256(platform.node().encode()).hexdigest()[:6]
    begin = f".{target.name}.{machine}-"
    with suppress(OSError):
        for old in [*target.parent.iterdir()]:
            if old.name.startswith(begin) and old.suffix == ".part" and not _alive(old.name.removeprefix(begin)):
                shutil.rmtree(old) if old.is_dir() else old.unlink()
    return f"{begin}{os.getpid()}."


def _alive(rest: str) -> bool:
    """Whether the process whose number begins the text may still run."""
    number = rest.partition(".")[0]
    try:
        os.kill(int(number), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except (ValueError, OSError):
        return True
    return True


@contextmanager
def replacing(*targets: Path, headers: bool = False) -> Iterator[list[Path]]:
    """Temporary files beside the targets that take their places, in order, when the block ends without an error.

    Parameters
    ----------
    headers : the targets are pairs of data and the header that tells what they are. Older headers go first, so that no
        kill leaves an old header with new data.

    Raises
    ------
    AllpetError : the folder does not exist, cannot be written or is full.
    """
    temporary: list[Path] = []
    try:
        for target in targets:
            if not target.parent.is_dir():
                raise AllpetError(f"{target}: folder '{target.parent}' does not exist; create it first")
            if target.is_dir():
                raise AllpetError(f"{target}: is a folder; name a file")
            handle, name = tempfile.mkstemp(prefix=part_of(target), suffix=".part", dir=target.parent)
            os.close(handle)
            temporary.append(Path(name))
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        for header in targets[1::2] if headers else ():
            header.unlink(missing_ok=True)
        for part, target in zip(temporary, targets, strict=True):
            os.chmod(part, 0o666 & ~umask)
            os.replace(part, target)
    except OSError as error:
        raise AllpetError(f"{targets[-1]}: cannot be written ({error.strerror or error})") from None
    finally:
        for part in temporary:
            part.unlink(missing_ok=True)


def check_finite(path: Path, array: np.ndarray) -> None:
    """Raise an AllpetError that names the file where the array holds NaN or infinite values."""
    for k, plane in enumerate(array.reshape(len(array), -1)):
        bad = int(plane.size - np.count_nonzero(np.isfinite(plane)))
        if bad:
            raise AllpetError(f"{path}: plane {k} holds {bad} NaN or infinite values; every value must be finite")


def file_size(path: Path) -> int:
    """Size in bytes.

    Raises
    ------
    AllpetError : no such file.
    """
    if not path.is_file():
        raise AllpetError(f"{path}: does not exist; give an existing file")
    return path.stat().st_size


def square(path: Path, array: np.ndarray) -> tuple[np.ndarray, dict[str, str]]:
    """Pad planes to a square about their centre, and a note of it for the header.

    The border is 0, or the array's minimum where that is negative (air in Hounsfield units). Where the two sides
    differ by an odd number the image moves by half a pixel; see :func:`centre_of_square`.

    Parameters
    ----------
    array : ``(n, row, column)``.

    Raises
    ------
    AllpetError : one side is more than :data:`MAX_ASPECT` times the other.
    """
    rows, columns = array.shape[1:]
    n = max(rows, columns)
    if rows == columns:
        return array, {}
    check_aspect(path, rows, columns)
    top, left = ((n - side) // 2 for side in (rows, columns))
    padded = np.full((len(array), n, n), min(0.0, float(array.min())), array.dtype)
    padded[:, top : top + rows, left : left + columns] = array
    return padded, {PADDED: f"{rows} x {columns}"}


def centre_of_square(rows: int, columns: int) -> tuple[float, float]:
    """Pixels, down and to the right, from the centre of planes to that of the square that they are padded to."""
    n = max(rows, columns)
    return (n - rows) % 2 / 2, (n - columns) % 2 / 2


def check_aspect(path: Path, rows: int, columns: int) -> None:
    """Raise an AllpetError where padding to a square would make most of the image border."""
    if max(rows, columns) > MAX_ASPECT * min(rows, columns):
        raise AllpetError(
            f"{path}: has planes of {rows} x {columns} pixels; one side may be at most {MAX_ASPECT} times the other"
        )
