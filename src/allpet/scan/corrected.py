"""What counts have been corrected for already, as their header says."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from allpet.scan.core import Acquired, Scan

ATTENUATION, BACKGROUND = "attenuation", "background"
CORRECTED = "corrected for"
"""Header key of results that state counts without attenuation or without background."""
APPLIED = "applied corrections"
"""Interfile's key for the same; arc correction among them is a matter of geometry."""


def corrected_for(what: Acquired) -> frozenset[str]:
    """Words such as ``"attenuation"``, ``"scatter"``, ``"randoms"``, ``"background"``; arc correction left out."""
    found: set[str] = set()
    for key, text in what.header.items():
        if " ".join(key.strip("! ").lower().split()) in (CORRECTED, APPLIED):
            found |= {_plain(word) for word in listed(str(text))}
    return frozenset(found)


def listed(text: str) -> list[str]:
    """Words of a list ``{a, b}`` as they are spelled, without those for none and for arc correction."""
    words = [word.strip() for word in text.strip("{} ").split(",")]
    return [word for word in words if _plain(word) not in ("", "none", "arc")]


def _plain(word: str) -> str:
    """``"Scatter correction"`` or ``"scatter corrected"`` as ``"scatter"``."""
    return re.sub(r"\s+correct(ion|ed)$", "", re.sub(r"\s+", " ", word.strip().lower()))


def lacks_no_background(what: Acquired) -> bool:
    """Whether it says that its background, or scatter and randoms, are taken off already."""
    found = corrected_for(what)
    return BACKGROUND in found or "scatter" in found


def header_of_corrected(what: Acquired, *words: str) -> dict[str, Any]:
    """Its header, which says that it is corrected for these, too; "none" where it is for nothing."""
    every = sorted({*corrected_for(what), *words})
    return {**what.header, CORRECTED: ", ".join(every) or "none"}


def mark_corrected(scan: Scan, *words: str) -> Scan:
    """The scan whose header says that it is corrected for these, too."""
    return replace(scan, header=header_of_corrected(scan, *words))
