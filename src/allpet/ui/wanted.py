"""Values out of a request's JSON, checked: what is missing, of another type or out of range is refused in one line."""

from __future__ import annotations

import json
import math
from typing import Any

from allpet.errors import AllpetError

MAX_NAME = 80


def parse(data: bytes) -> dict[str, Any]:
    """An object from JSON; nothing is the empty object.

    Raises
    ------
    AllpetError : not JSON, not an object, numbers that are none, nested too deeply.
    """
    try:
        found = json.loads(data or b"{}", parse_constant=_refuse)
    except RecursionError:
        raise AllpetError("the body is nested too deeply") from None
    except ValueError as error:
        raise AllpetError(f"the body is not JSON ({str(error)[:80]})") from None
    if not isinstance(found, dict):
        raise AllpetError("the body must be a JSON object")
    return found


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is no number")


def text(body: dict[str, Any], name: str, default: str | None = None, longest: int = MAX_NAME) -> str:
    """A word or line; what cannot be printed is left out."""
    value = body.get(name, default)
    if not isinstance(value, str):
        raise AllpetError(f"{name} is {short(value)}; it must be text")
    clean = "".join(letter for letter in value if letter.isprintable()).strip()
    if not 0 < len(clean) <= longest:
        raise AllpetError(f"{name} has {len(clean)} letters; it must have 1 to {longest}")
    return clean


def number(body: dict[str, Any], name: str, default: float | None = None) -> float:
    """A finite number."""
    value = body.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < math.inf:
        raise AllpetError(f"{name} is {short(value)}; it must be a number")
    try:
        return float(value)
    except OverflowError:
        raise AllpetError(f"{name} is {short(value)}; it is too large") from None


def whole(body: dict[str, Any], name: str, least: int, most: int, default: int | None = None) -> int:
    """A whole number from `least` to `most`."""
    value = body.get(name, default)
    if type(value) is not int or not least <= value <= most:
        raise AllpetError(f"{name} is {short(value)}; it must be a whole number from {least} to {most}")
    return value


def flag(body: dict[str, Any], name: str) -> bool:
    """True or false, false by default."""
    value = body.get(name, False)
    if not isinstance(value, bool):
        raise AllpetError(f"{name} is {short(value)}; it must be true or false")
    return value


def span(body: dict[str, Any], count: int) -> tuple[int, int]:
    """First and last plane; all by default."""
    value = body.get("planes", [0, count - 1])
    if isinstance(value, list) and len(value) == 2 and all(type(k) is int for k in value):
        first, last = value
        if 0 <= first <= last < count:
            return first, last
    raise AllpetError(f"planes is {short(value)}; it must be first and last, from 0 to {count - 1}")


def short(value: Any) -> str:
    """A value as it is shown in a message."""
    if isinstance(value, list | dict):
        return f"{'a list' if isinstance(value, list) else 'an object'} of {len(value)}"
    if type(value) is int and abs(value) > 10**12:
        return "a huge number"
    return "missing" if value is None else repr(value)[:40]
