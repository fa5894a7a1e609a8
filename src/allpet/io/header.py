"""Interfile header text: keys in any order, case and spacing, values as text until somebody asks for a number.

:mod:`allpet.io.acquired` has what the keys of an acquisition mean.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from pathlib import Path

from allpet.errors import AllpetError

MAX_BYTES = 1 << 20
OWN = "allpet "
"""Prefix of our own keys, written as comments (``; allpet unit := counts``) that other readers skip."""
THINNING = "thinning"
"""Key of what a lower dose is: "activity" (randoms go with its square), else time."""
NOTES = (
    THINNING,
    "corrected for",
    "provenance",
    "list mode note",
    "padded to a square from",
    "position note",
    "plane distance note",
    "petsird note",
    "nifti centre (mm)",
)
"""Keys of a Scan's or Image's header that no other program knows: written as comments, read back as header keys."""


def standard_key(key: str) -> str:
    """Key without ``!``, in lower case, with single spaces and no space before an index: ``"matrix size[1]"``."""
    key = re.sub(r"[\s_]+", " ", key.strip().lstrip("!").strip()).lower()
    return re.sub(r"\s*\[\s*(\d+)\s*\]$", r"[\1]", key)


@dataclass
class Header:
    """Parsed header: ``values`` by standard key, ``spelling`` the key as it stood in the file."""

    path: Path
    values: dict[str, str] = field(default_factory=dict)
    spelling: dict[str, str] = field(default_factory=dict)

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def fail(self, message: str) -> AllpetError:
        """The error to raise, with the file's name in front."""
        return AllpetError(f"{self.path}: {message}")

    def text(self, key: str, default: str | None = None) -> str:
        """Value of a key; of ``key[1]`` where the plain key is missing.

        Raises
        ------
        AllpetError : the key is missing and there is no default.
        """
        for name in (key, f"{key}[1]"):
            if self.values.get(name):
                return self.values[name]
        if default is None:
            raise self.fail(f"has no key '{key}'; the header must give it")
        return default

    def decimal(self, key: str, default: str | None = None) -> Decimal:
        """Value as an exact decimal number.

        Raises
        ------
        AllpetError : missing, or not a finite number.
        """
        text = self.text(key, default)
        number = as_decimal(text)
        if not number.is_finite() or not math.isfinite(float(number)):
            raise self.fail(f"'{key}' is '{text}'; it must be a number")
        return number

    def number(self, key: str, default: float | None = None) -> float:
        """Value as a float; errors as :meth:`decimal`."""
        return float(self.decimal(key, None if default is None else repr(default)))

    def integer(self, key: str, default: int | None = None, low: int = 0, high: int = 2**40) -> int:
        """Value as an integer in ``low..high``; errors as :meth:`decimal`."""
        number = self.decimal(key, None if default is None else str(default))
        if not low <= number <= high or number != int(number):
            raise self.fail(f"'{key}' is {number}; it must be a whole number from {low} to {high}")
        return int(number)

    def integers(self, key: str, low: int = -(2**20), high: int = 2**20, default: list[int] | None = None) -> list[int]:
        """Values of a list ``{ a, b, c }`` (or of a single number)."""
        if default is not None and not self.text(key, ""):
            return default
        text = self.text(key)
        try:
            numbers = [int(part) for part in text.strip().strip("{}").split(",")]
        except ValueError:
            raise self.fail(f"'{key}' is '{text}'; it must be a list of whole numbers") from None
        if not all(low <= number <= high for number in numbers):
            raise self.fail(f"'{key}' is '{text}'; every number must lie from {low} to {high}")
        return numbers

    def words(self, key: str, default: str = "") -> list[str]:
        """Words of a list ``{a, b}`` in lower case, with single spaces."""
        text = self.text(key, default).strip().strip("{}")
        return [re.sub(r"\s+", " ", part.strip()).lower() for part in text.split(",") if part.strip()]

    def indexed(self, key: str, k: int) -> str | None:
        """Value of ``key[k]``, or None where it is missing or empty."""
        return self.values.get(f"{key}[{k}]") or None

    def own(self, key: str) -> str | None:
        """Value of one of our own comment keys, or None."""
        return self.values.get(OWN + key)

    def own_number(self, key: str) -> float | None:
        """Value of one of our own comment keys as a float, or None."""
        return None if self.own(key) is None else self.number(OWN + key)

    def own_scale(self, key: str, planes: int) -> list[float] | None:
        """Value of one of our own comment keys: a number, or a list ``{ a, b }`` of one for each plane; None without.

        Raises
        ------
        AllpetError : a number that is none or not positive, or a list of another length.
        """
        text = self.own(key)
        if text is None:
            return None
        try:
            numbers = [float(part) for part in text.strip("{} ").split(",")]
        except ValueError:
            numbers = []
        if len(numbers) not in (1, planes) or not all(math.isfinite(number) and number > 0 for number in numbers):
            raise self.fail(f"'{OWN}{key}' must be a positive number, or {planes} in braces, one for each plane")
        return numbers

    def rest(self, known: set[str]) -> dict[str, str]:
        """Keys nobody asked for, in their own spelling, without section titles; of our own keys only the notes."""
        foreign = {
            self.spelling[key]: value
            for key, value in self.values.items()
            if value and not key.startswith(OWN) and re.sub(r"\[\d+\]$", "", key) not in known
        }
        return foreign | {note: text for note in NOTES if (text := self.own(note))}


def parse_header(path: Path) -> Header:
    """Read an Interfile header.

    A key may be spelled with any case and spacing and a leading ``!``; ``;`` starts a comment; a key given twice
    keeps its last value.

    Raises
    ------
    AllpetError : no such file, unreadable, too long to be a header, or not beginning with ``!INTERFILE :=``.
    """
    try:
        with open(path, "rb") as handle:
            raw = handle.read(MAX_BYTES + 1)
    except OSError as error:
        raise AllpetError(f"{path}: cannot be read ({error.strerror}); give an Interfile header") from None
    if len(raw) > MAX_BYTES or b"\0" in raw:
        raise AllpetError(f"{path}: is not a text header; give the Interfile header, not its data file")
    header = Header(path)
    started = False
    for line in raw.decode("utf-8", "replace").splitlines():
        line = line.strip()
        own = re.match(r";\s*allpet ", line)
        if line.startswith(";"):
            if not own:
                continue
            line = line.lstrip("; ")
        elif ":=" in line:
            line = re.sub(r"\s;.*$", "", line)
        key, separator, value = line.partition(":=")
        if not separator:
            continue
        name = standard_key(key)
        if name == "end of interfile":
            break
        if name == "interfile":
            started = True
            continue
        header.values[name] = value.strip()
        header.spelling[name] = key.strip().lstrip("!").strip()
    if not started:
        raise AllpetError(f"{path}: does not begin with '!INTERFILE :='; give an Interfile header")
    return header


def as_decimal(text: str) -> Decimal:
    """A number as an exact decimal, NaN where it is none; also Fortran's ``2.0D+01`` and ``+2.000000+01``."""
    text = re.sub(r"^([+-]?\d*\.\d*)[dD]?([+-]\d+)$", r"\1E\2", text.strip("{} \t"))
    try:
        return Decimal(text)
    except InvalidOperation:
        return Decimal("nan")


def header_line(key: str, value: object) -> str:
    """One line of a header; white space in the value becomes one space, none before a ``;`` (it would be a comment)."""
    text = " ".join(str(value).split()).replace(" ;", ";")
    return f"{' '.join(str(key).split())} := {text}\n"


def millimetres(header: Header, key: str, default: str | None = None) -> float:
    """A length given in cm, in mm; the decimal point is moved, so nothing is rounded twice."""
    return float(header.decimal(key, default).scaleb(1))


def centimetres(mm: float) -> str:
    """A length in mm as the text of its value in cm that :func:`millimetres` reads back exactly."""
    return format(Decimal(repr(float(mm))).scaleb(-1), "f")
