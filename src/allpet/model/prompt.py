"""Prompts: ``[isotope-]TRACER REGION`` in free text, and their conditions."""

from __future__ import annotations

import re
from dataclasses import dataclass

from allpet.errors import AllpetError
from allpet.scan.plan import REGIONS
from allpet.scan.tracers import TRACERS as KNOWN_TRACERS

ISOTOPES = {name: tracer.isotope.name for name, tracer in KNOWN_TRACERS.items()}
TRACERS = tuple(ISOTOPES)
TASKS = ("generate", "low-dose", "attenuation", "delayed", "convert", "separate")
_ALIASES = {"fdopa": "dopa", "f-dopa": "dopa", "thorax": "chest", "head": "brain", "head&neck": "head-neck"}


@dataclass(frozen=True)
class Prompt:
    """What is wanted: None stands for "not said"."""

    tracer: str | None = None
    region: str | None = None
    isotope: str | None = None

    def __str__(self) -> str:
        label = f"{self.isotope}-{self.tracer}" if self.isotope else (self.tracer or "")
        return " ".join(part for part in (label, self.region) if part)


def _isotope(word: str) -> str | None:
    match = re.fullmatch(r"(?:(\d{1,3})([a-z]{1,2})|([a-z]{1,2})-?(\d{1,3}))", word, re.IGNORECASE)
    if not match:
        return None
    mass, symbol = match[1] or match[4], match[2] or match[3]
    return mass + symbol.capitalize()


def parse_prompt(text: str, tracers: tuple[str, ...] = TRACERS, regions: tuple[str, ...] = REGIONS) -> Prompt:
    """Read a prompt such as ``"18F-FDG brain"`` or ``"F-18 FDG, chest"``.

    Parameters
    ----------
    tracers, regions : the words the model was trained on.

    Raises
    ------
    AllpetError : a word that is not known, a second tracer or region, an isotope that the
        tracer does not carry; the message lists what is known.
    """
    known = f"known tracers: {', '.join(tracers)}; known regions: {', '.join(regions)}"
    found: dict[str, str] = {}
    for word in re.split(r"[\s,;/]+", text.strip()):
        if not word:
            continue
        pieces = [word]
        match = re.fullmatch(r"(\d{1,3}[A-Za-z]{1,2})-(.+)", word) or re.fullmatch(
            r"([A-Za-z]{1,2}-?\d{1,3})-(.+)", word
        )
        if match and _isotope(match[1]):
            pieces = [match[1], match[2]]
        for piece in pieces:
            name = _ALIASES.get(piece.lower(), piece.lower())
            tracer = next((t for t in tracers if t.lower() == name), None)
            region = next((r for r in regions if r.lower() == name), None)
            kind = "tracer" if tracer else "region" if region else "isotope"
            value = tracer or region or _isotope(piece)
            if value is None:
                raise AllpetError(f"prompt '{text}': '{piece}' is unknown; {known}")
            if kind in found:
                raise AllpetError(f"prompt '{text}': two words for the {kind} ('{found[kind]}', '{value}'); give one")
            found[kind] = value
    isotope, tracer = found.get("isotope"), found.get("tracer")
    if tracer is None or "region" not in found:
        raise AllpetError(f"prompt '{text}': it must name a tracer and a region; {known}")
    if isotope and isotope != ISOTOPES[tracer]:
        raise AllpetError(f"prompt '{text}': {tracer} is labelled with {ISOTOPES[tracer]} here, not {isotope}")
    return Prompt(tracer, found["region"], ISOTOPES[tracer])
