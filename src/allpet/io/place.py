"""Folders that several processes may write: one writer at a time, and finished ones put in place whole."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import get_ident
from typing import overload

from allpet.errors import AllpetError
from allpet.io.remote import Place, Remote


def check_target(target: Place) -> None:
    """Raise an AllpetError unless a store may be written here: nothing or an older store, in a folder that exists.

    At a URL an older store cannot step aside for a new one at once, so there nothing may be.
    """
    from allpet.io.mapped import open_store

    if isinstance(target, Remote):
        if (target / "zarr.json").is_file():
            raise AllpetError(f"{target}: exists; a store at a URL is not replaced, delete it or choose another name")
        return
    if target.exists():
        try:
            open_store(target)
        except AllpetError:
            raise AllpetError(f"{target}: exists and is not an allpet dataset store; choose another name") from None
    if not target.parent.is_dir():
        raise AllpetError(f"{target}: the folder {target.parent} does not exist; make it first")


@contextmanager
def locked(target: Place) -> Iterator[None]:
    """Keep other processes from writing the target meanwhile; a process that dies lets go.

    The lock is the file ``.NAME.lock`` beside the target, which is gone afterwards. A URL cannot be locked.

    Raises
    ------
    AllpetError : another process writes it now, or the folder cannot be written.
    """
    if isinstance(target, Remote):
        yield
        return
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


@overload
def hidden(target: Path, what: str) -> Path: ...
@overload
def hidden(target: Remote, what: str) -> Remote: ...
def hidden(target: Place, what: str) -> Place:
    """``.NAME.what`` beside the target."""
    return target.with_name(f".{target.name}.{what}")


def beside(target: Place, suffix: str) -> Place:
    """``NAME-std.zarr`` beside ``NAME.zarr`` for the suffix ``-std``."""
    return target.with_name(target.name.removesuffix(target.suffix) + suffix + target.suffix)


def put_file(data: bytes, path: Place, scratch: Place) -> None:
    """Write a file whole: in the folder `scratch` first (of the same disk), then moved over `path`. At a URL it is put
    in one go.

    Raises
    ------
    AllpetError : the disk is full, or the folder cannot be written.
    """
    if isinstance(path, Remote) or isinstance(scratch, Remote):
        path.write_bytes(data)
        return
    part = scratch / f"{platform.node()}-{os.getpid()}-{get_ident()}.part"  # machines may share the folder
    try:
        scratch.mkdir(exist_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(data)
        os.replace(part, path)
    except OSError as error:
        raise AllpetError(f"{path}: cannot be written ({error.strerror or error})") from None


def remove(folder: Place) -> None:
    """Delete a folder with all that is in it."""
    if isinstance(folder, Remote):
        folder.remove()
    else:
        shutil.rmtree(folder)


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


DATA_OF = {".hs": ".s", ".hv": ".v"}
"""Endings of Interfile headers, and of the data files that are written with them."""


def _data_of(header: Path) -> Path | None:
    """The data file that an Interfile header names."""
    from allpet.io.header import parse_header

    try:
        return header.parent / parse_header(header).text("name of data file", "")
    except AllpetError:
        return None


def not_an_input(out: Place, *inputs: Place | None) -> None:
    """Refuse to write over a file that is read.

    Raises
    ------
    AllpetError : `out` is one of the inputs, under whatever name.
    """
    for one in inputs:
        same = one == out
        if isinstance(one, Path) and isinstance(out, Path) and one.exists() and out.exists():
            same = out.samefile(one)
        if isinstance(one, Path) and isinstance(out, Path) and one.suffix in DATA_OF:
            same = same or _data_of(one) in (out, out.with_suffix(DATA_OF.get(out.suffix, out.suffix)))
        if one is not None and same:
            raise AllpetError(f"{out}: is the input itself; name another output")
