"""The SHA-256 of every file of a dataset store: written with the store, compared when a file is first read.

Each array's folder holds ``sha256-XXXXXXXXXXXX.txt``, a line for each of its files in the format of ``sha256sum`` (so
``sha256sum -c`` in that folder checks it without this package); its name is the start of its own hash. The group's
attribute `sha256` names these lists in full and ends in a hash of all attributes, so that one number stands for the
store. An append puts the new list beside the old one before it moves any data: a file may be as either of them says
until the append is over, and a store whose append was killed stays valid.

A hash tells that nothing has changed, not who wrote it: whoever can write the store can also write its hashes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from allpet.errors import AllpetError
from allpet.io.remote import Place

KEY = "sha256"
"""The group's attribute."""
ARRAY = "zarr.json"
_LISTS = "sha256-*.txt"

Files = dict[str, str]
"""Hex digits by path in an array's folder."""


def digest(data: bytes) -> str:
    """SHA-256 in hex digits."""
    return hashlib.sha256(data).hexdigest()


def list_of(files: Mapping[str, str]) -> tuple[str, bytes]:
    """Name and content of an array's list of hashes; the same files give the same, in whatever order they come."""
    lines = [f"{files[path]}  {path}\n" for path in sorted(files, key=_order)]
    data = "".join(lines).encode()
    return _name(digest(data)), data


def _order(path: str) -> tuple[bool, list[int]]:
    return path == ARRAY, [int(part) for part in path.split("/") if part.isdigit()]


def _name(hexadecimal: str) -> str:
    return f"sha256-{hexadecimal[:12]}.txt"


def sealed(attributes: Mapping[str, Any], files: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """The group's attributes with `sha256`.

    Parameters
    ----------
    files : array name -> path in its folder -> hash.
    """
    plain = {name: value for name, value in attributes.items() if name != KEY}
    lists = {name: digest(list_of(own)[1]) for name, own in sorted(files.items())}
    return {**plain, KEY: {"arrays": lists, "attributes": _of_attributes(plain, lists)}}


def _of_attributes(plain: Mapping[str, Any], lists: Mapping[str, str]) -> str:
    return digest(json.dumps([plain, lists], sort_keys=True).encode())


def hashes_of(path: Place, attributes: Mapping[str, Any]) -> Hashes | None:
    """The hashes that attributes speak of; None where there are none (an older store, or another program's).

    Raises
    ------
    AllpetError : the attributes are not as they were written.
    """
    if KEY not in attributes:
        return None
    return Hashes(path, _checked(path, attributes))


def _checked(path: Place, attributes: Mapping[str, Any]) -> dict[str, str]:
    """Array name -> hash of its list."""
    plain = {name: value for name, value in attributes.items() if name != KEY}
    known = attributes[KEY]
    lists = known.get("arrays") if isinstance(known, dict) else None
    if not isinstance(lists, dict) or _of_attributes(plain, lists) != known.get("attributes"):
        raise AllpetError(
            f"{path / ARRAY}: does not match its sha256, it was changed after it was written; write the store again"
        )
    return lists


class Hashes:
    """What the files of an open store should be; lists are read when they are first needed, a file is read once.

    Parameters
    ----------
    path : the store. lists : array name -> hash of its list.
    """

    def __init__(self, path: Place, lists: Mapping[str, str]) -> None:
        self.path, self.lists = path, dict(lists)
        self._known: dict[str, tuple[Files, ...]] = {}
        self._seen: set[tuple[str, str]] = set()

    def files(self, name: str) -> Files:
        """The hashes of an array's files, ``zarr.json`` included, as the store states them."""
        return dict(self._of(name)[0])

    def check(self, name: str, paths: Iterable[str]) -> int:
        """Compare files of an array with their hashes unless that has been done; returns how many were read.

        Raises
        ------
        AllpetError : a file is missing or is not what was written; the message names it.
        """
        read = 0
        for path in (ARRAY, *paths):
            if (name, path) in self._seen:
                continue
            file = self.path.joinpath(name, path)
            try:
                with file.open("rb") as handle:
                    found = hashlib.file_digest(handle, "sha256").hexdigest()
            except OSError as error:
                raise AllpetError(f"{file}: cannot be read ({error.strerror or error})") from None
            if not self._is(name, path, found):
                self._known.pop(name, None)  # an append may have put a list beside it meanwhile
                if not self._is(name, path, found):
                    raise AllpetError(
                        f"{file}: does not match its sha256, it was changed after it was written; write the store "
                        "again (open_store(path, hashes=False) reads it all the same)"
                    )
            self._seen.add((name, path))
            read += 1
        return read

    def _is(self, name: str, path: str, found: str) -> bool:
        return any(files.get(path) == found for files in self._of(name))

    def _of(self, name: str) -> tuple[Files, ...]:
        """The list of an array that the store names, then those that an append put beside it."""
        if name not in self._known:
            wanted = self.lists.get(name)
            if wanted is None:
                raise AllpetError(
                    f"{self.path}: array {name!r} has no sha256; it was added after the store was written"
                )
            own = self.path / name / _name(wanted)
            if not own.is_file():  # appended to since it was opened
                wanted = _checked(self.path, self._attributes()).get(name, wanted)
                own = self.path / name / _name(wanted)
            others = sorted(place for place in own.parent.glob(_LISTS) if place != own)
            self._known[name] = (_read(own, wanted), *(files for place in others if (files := _other(place))))
        return self._known[name]

    def _attributes(self) -> dict[str, Any]:
        try:
            return dict(json.loads((self.path / ARRAY).read_bytes())["attributes"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise AllpetError(f"{self.path / ARRAY}: cannot be read ({type(error).__name__})") from None


def clear_others(path: Path, files: Mapping[str, Mapping[str, str]]) -> None:
    """Take away all lists of a store but those of `files`: an append is over."""
    for name, own in files.items():
        for place in (path / name).glob(_LISTS):
            if place.name != list_of(own)[0]:
                place.unlink(missing_ok=True)


def _other(path: Place) -> Files | None:
    try:
        return _read(path)
    except AllpetError:
        return None


def _read(path: Place, wanted: str | None = None) -> Files:
    """A list of hashes.

    Raises
    ------
    AllpetError : it is missing, or not what its name or the store says.
    """
    try:
        data = path.read_bytes()
        found = digest(data)
        if path.name != _name(found) or wanted not in (None, found):
            raise ValueError
        return {line[66:]: line[:64] for line in data.decode().splitlines()}
    except OSError as error:
        raise AllpetError(f"{path}: cannot be read ({error.strerror or error}); write the store again") from None
    except ValueError:
        raise AllpetError(f"{path}: does not match its sha256, it was changed; write the store again") from None
