"""Folders that several processes may write: one writer at a time, and finished ones put in place whole."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from allpet.errors import AllpetError


def check_target(target: Path) -> None:
    """Raise an AllpetError unless a store may be written here: nothing or an older store, in a folder that exists."""
    from allpet.io.mapped import open_store

    if target.exists():
        try:
            open_store(target)
        except AllpetError:
            raise AllpetError(f"{target}: exists and is not an allpet dataset store; choose another name") from None
    if not target.parent.is_dir():
        raise AllpetError(f"{target}: the folder {target.parent} does not exist; make it first")


@contextmanager
def locked(target: Path) -> Iterator[None]:
    """Keep other processes from writing the target meanwhile; a process that dies lets go.

    The lock is the file ``.NAME.lock`` beside the target, which is gone afterwards.

    Raises
    ------
    AllpetError : another process writes it now, or the folder cannot be written.
    """
    path = hidden(target, "lock")
    while True:
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise AllpetError(f"{target}: cannot be written ({error.strerror})") from None
        if not _lock(handle):
            os.close(handle)
            raise AllpetError(
                f"{target}: another process is writing it; wait until it has ended or choose another name"
            )
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), os.stat(path)):
                break
        os.close(handle)  # the one before us took the file away between our two steps
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)


def hidden(target: Path, what: str) -> Path:
    """``.NAME.what`` beside the target."""
    return target.with_name(f".{target.name}.{what}")


def put_file(data: bytes, path: Path, scratch: Path) -> None:
    """Write a file whole: in the folder `scratch` first (of the same disk), then moved over `path`.

    Raises
    ------
    AllpetError : the disk is full, or the folder cannot be written.
    """
    part = scratch / f"{os.getpid()}.part"
    try:
        scratch.mkdir(exist_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(data)
        os.replace(part, path)
    except OSError as error:
        raise AllpetError(f"{path}: cannot be written ({error.strerror or error})") from None


def move_files(folder: Path, target: Path) -> None:
    """Move every file over the one of the same name in another folder: all others first, ``zarr.json`` last.

    Raises
    ------
    AllpetError : the folder cannot be written.
    """
    files = [file for file in folder.rglob("*") if file.is_file()]
    for file in sorted(files, key=lambda file: (file.name == "zarr.json", file)):
        place = target / file.relative_to(folder)
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            os.replace(file, place)
        except OSError as error:
            raise AllpetError(f"{place}: cannot be written ({error.strerror or error})") from None


def put_folder(folder: Path, target: Path, old: Path) -> None:
    """Put a finished folder in place; what stood there steps aside to `old` first and goes when the new one stands."""
    if not target.exists():
        os.replace(folder, target)
        return
    shutil.rmtree(old, ignore_errors=True)
    os.replace(target, old)
    try:
        os.replace(folder, target)
    except OSError:
        os.replace(old, target)
        raise
    shutil.rmtree(old)


def _lock(handle: int) -> bool:
    """False if another process holds the lock; True also where a system or disk knows no locks."""
    try:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):
        return True
    return True
