"""Places that a URL names (``s3://bucket/name``, ``memory://name``, any that fsspec knows), used like a path.

Whole objects are put, read, listed and deleted; nothing is renamed, and there are no locks. It is taken for granted
that an object is there whole or not at all, as object stores have it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from allpet.errors import AllpetError

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+(::[A-Za-z0-9+.:/-]+)?://")


@dataclass(frozen=True, order=True)
class Remote:
    """A URL with the few methods of a path that stores need; `url` has no slash at its end."""

    url: str

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, part: str) -> Remote:
        return self.joinpath(part)

    def joinpath(self, *parts: str) -> Remote:
        return Remote("/".join([self.url, *parts]))

    @property
    def name(self) -> str:
        return self.url.rsplit("/", 1)[1]

    @property
    def stem(self) -> str:
        return os.path.splitext(self.name)[0]

    @property
    def suffix(self) -> str:
        return os.path.splitext(self.name)[1]

    @property
    def parent(self) -> Remote:
        return Remote(self.url.rsplit("/", 1)[0])

    def with_name(self, name: str) -> Remote:
        return self.parent / name

    def absolute(self) -> Remote:
        return self

    @property
    def in_this_process(self) -> bool:
        """True where no other process sees what is written."""
        return self.url.startswith("memory://")

    # -- the storage -----------------------------------------------------------------------------------------------

    def _at(self) -> tuple[Any, str]:
        """File system and path in it; how to get there (keys, endpoint) comes from fsspec's configuration.

        Raises
        ------
        AllpetError : fsspec does not know the protocol, or its package is missing.
        """
        from fsspec.core import url_to_fs

        try:
            fs, path = url_to_fs(self.url)
        except (ImportError, ValueError) as error:
            raise AllpetError(f"{self.url}: cannot be reached ({str(error).rstrip('.')})") from None
        return fs, path

    def zarr_store(self) -> Any:
        """The same place as zarr reads it."""
        from zarr.storage import FsspecStore

        self._at()
        return FsspecStore.from_url(self.url, read_only=True)

    def is_file(self) -> bool:
        fs, path = self._at()
        fs.invalidate_cache()
        return bool(self._try(fs.isfile, path))

    def is_dir(self) -> bool:
        fs, path = self._at()
        fs.invalidate_cache()
        return bool(self._try(fs.isdir, path))

    def exists(self) -> bool:
        fs, path = self._at()
        fs.invalidate_cache()
        return bool(self._try(fs.exists, path))

    def size(self) -> int | None:
        """Bytes of an object; None where there is none."""
        fs, path = self._at()
        fs.invalidate_cache()
        try:
            return int(fs.info(path)["size"])
        except FileNotFoundError:
            return None
        except Exception as error:
            raise self._unreachable(error) from error

    def read_bytes(self) -> bytes:
        fs, path = self._at()
        try:
            return bytes(fs.cat_file(path))
        except FileNotFoundError:
            raise
        except Exception as error:  # every storage has its own kinds
            raise self._unreachable(error) from error

    def open(self, mode: str = "rb") -> Any:
        fs, path = self._at()
        return self._try(fs.open, path, mode)

    def write_bytes(self, data: bytes) -> None:
        """Put one object."""
        fs, path = self._at()
        if not getattr(fs, "async_impl", False):  # object stores have no folders to be made
            self._try(fs.makedirs, path.rsplit("/", 1)[0], exist_ok=True)
        self._try(fs.pipe_file, path, data)

    def create(self, data: bytes) -> bool:
        """Put one object unless there is one: False then. Two at once: one wins, where the storage can tell."""
        if self.exists():
            return False
        fs, path = self._at()
        try:
            if not getattr(fs, "async_impl", False):
                fs.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
            fs.pipe_file(path, data, mode="create")
        except FileExistsError:
            return False
        except (TypeError, NotImplementedError, ValueError):  # a storage that knows no such condition
            self.write_bytes(data)
        except Exception as error:
            raise self._unreachable(error) from error
        return True

    def sizes(self) -> dict[str, int]:
        """All objects below, by their path from here, with their bytes: one listing."""
        fs, path = self._at()
        fs.invalidate_cache()
        root = path.rstrip("/") + "/"
        try:
            found: Mapping[str, Any] = fs.find(path, detail=True)
        except FileNotFoundError:
            return {}
        except Exception as error:
            raise self._unreachable(error) from error
        return {name.split(root, 1)[1]: int(facts["size"]) for name, facts in found.items() if root in name}

    def read_many(self, names: Sequence[str]) -> dict[str, bytes]:
        """Some of the objects below, read side by side where the storage can."""
        fs, path = self._at()
        paths = {f"{path.rstrip('/')}/{name}": name for name in names}
        found = self._try(fs.cat, list(paths), on_error="omit") if paths else {}
        return {name: bytes(found[full]) for full, name in paths.items() if full in found}

    def glob(self, pattern: str) -> Iterator[Remote]:
        """Objects right here whose names fit."""
        fs, path = self._at()
        fs.invalidate_cache()
        found = self._try(fs.ls, path, detail=False) if self._try(fs.exists, path) else []
        names = {str(name).rstrip("/").rsplit("/", 1)[1] for name in found}
        return (self / name for name in sorted(names) if fnmatch(name, pattern))

    def remove(self) -> None:
        """Delete everything below."""
        fs, path = self._at()
        fs.invalidate_cache()
        if self._try(fs.exists, path):
            self._try(fs.rm, path, recursive=True)

    def _try(self, call: Any, *arguments: Any, **options: Any) -> Any:
        try:
            return call(*arguments, **options)
        except FileNotFoundError:
            raise
        except Exception as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: Exception) -> AllpetError:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        return AllpetError(f"{self.url}: cannot be reached ({reason})")


Place = Path | Remote


def is_url(text: str) -> bool:
    """True for what is no path of this machine."""
    return bool(_URL.match(text)) and not text.startswith("file://")


def place_of(where: str | os.PathLike[str] | Remote) -> Place:
    """A path, or what a URL names; ``file://`` is a path.

    Raises
    ------
    AllpetError : a URL of another host's files, or one that names nothing.
    """
    if isinstance(where, Remote):
        return where
    text = os.fspath(where)
    if text.startswith("file://"):
        host, slash, path = text.removeprefix("file://").partition("/")
        if host not in ("", "localhost") or not slash:
            raise AllpetError(f"{text}: names a file of another host; write file:///path")
        return Path("/" + unquote(path))
    if not is_url(text):
        return Path(text)
    if not text.split("://", 1)[1].strip("/"):
        raise AllpetError(f"{text}: names no store; write it as protocol://place/NAME.zarr")
    return Remote(text.rstrip("/"))
