"""Keys of an Interfile header that sinograms and images share: the opening lines and what is known of an acquisition.

Standard keys (Interfile 3.3, STIR, Siemens) where there are some, comments of our own (``; allpet region := brain``)
for the rest. Numbers are written in full and moved by powers of ten only, so they come back to the bit.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from allpet.errors import AllpetError
from allpet.io.header import NOTES, OWN, Header, header_line, standard_key
from allpet.scan.core import Acquired

ACTIVITY = "tracer activity at time of injection (Bq)"
DURATION = "image duration (sec)"
INJECTION = "relative time of tracer injection (sec)"
START = "image relative start time (sec)"
UNKNOWN_SCANNER = "Userdefined"
"""STIR's name for a scanner it has no table of."""

_SEXES = {"f": "F", "female": "F", "m": "M", "male": "M", "o": "O", "other": "O"}
_ELEMENTS = {
    "carbon": "C",
    "copper": "Cu",
    "fluorine": "F",
    "gallium": "Ga",
    "iodine": "I",
    "nitrogen": "N",
    "oxygen": "O",
    "rubidium": "Rb",
    "zirconium": "Zr",
}


def acquired(header: Header) -> tuple[dict[str, Any], set[str]]:
    """Fields of :class:`Acquired` that the header gives (all but ``header``), and the standard keys they stand for.

    Raises
    ------
    AllpetError : a value that must be a number is none.
    """
    used = {"radiopharmaceutical", "isotope name", "radionuclide name", "originating system", DURATION}
    duration = header.number(DURATION, 0.0)
    system = header.own("scanner") or header.text("originating system", UNKNOWN_SCANNER)
    known: dict[str, Any] = {
        "tracer": header.text("radiopharmaceutical", "") or None,
        "isotope": mass_first(header.text("isotope name", header.text("radionuclide name", ""))),
        "region": header.own("region"),
        "scanner": None if system == UNKNOWN_SCANNER else system,
        "weight_kg": header.own_number("patient weight (kg)"),
        "height_m": header.own_number("patient height (m)"),
        "sex": _SEXES.get(header.text("patient sex", "").lower()),
        "duration_s": duration if duration > 0 else None,
        "decay_reference": header.own("decay reference"),
        "dose_fraction": header.own_number("dose fraction"),
    }
    if (activity := standard_key(ACTIVITY)) in header:
        known["injected_mbq"] = float(header.decimal(activity).scaleb(-6))
        used.add(activity)
    start = header.decimal(START, "0")
    if INJECTION in header:  # the two are given from the same zero
        known["start_s"] = float(start - header.decimal(INJECTION))
        used |= {INJECTION, START}
    elif start == 0:
        used.add(START)
    if known["sex"]:
        used.add("patient sex")
    return known, used


def check_position(what: Acquired, path: object) -> None:
    """Refuse a format that states left, right, head and feet for a patient who does not lie head first, supine.

    Raises
    ------
    AllpetError : the header says feet first, prone or on a side.
    """
    lies = [str(what.header.get(key, "")).lower() for key in ("patient orientation", "patient rotation")]
    if lies[0].startswith("feet") or lies[1] in ("prone", "left", "right"):
        raise AllpetError(
            f"{path}: the patient lies {', '.join(filter(None, lies))}; this format says where left and head are, and "
            "images of sinograms are taken for head-first supine: write .hv, which keeps the position as words"
        )


def opening_lines(
    data_name: str, facts: Mapping[str, object], system: str, data_type: str, process: tuple[str, str], dtype: str
) -> list[tuple[str, object]]:
    """The first lines of a header, up to the number format.

    Parameters
    ----------
    facts : the header kept in memory, by standard key. system : "originating system". data_type : "PET data type".
    process : the line that says what was done to the data. dtype : little-endian type of the numbers in the file.
    """
    return [
        ("!INTERFILE", ""),
        ("!imaging modality", "PT"),
        ("name of data file", data_name),
        ("originating system", system),
        ("!version of keys", "STIR3.0"),
        ("!GENERAL DATA", ""),
        ("!GENERAL IMAGE DATA", ""),
        ("!type of data", "PET"),
        ("patient orientation", facts.get("patient orientation", "head_in")),
        ("patient rotation", facts.get("patient rotation", "supine")),
        ("imagedata byte order", "LITTLEENDIAN"),
        ("!PET STUDY (General)", ""),
        ("!PET data type", data_type),
        process,
        ("!number format", "float" if "f" in dtype else "unsigned integer"),
        ("!number of bytes per pixel", int(dtype[-1])),
    ]


def closing_text(
    what: Acquired, lines: list[tuple[str, object]], known: Iterable[str], own: Mapping[str, object]
) -> str:
    """The whole header: ``lines``, what is known of the acquisition, the keys kept from another file, our own comments.

    Parameters
    ----------
    known : standard keys that are written from fields, never from the header in memory.
    own : more of our own keys; those with the value None are left out.
    """
    system = next(value for key, value in lines if key == "originating system")
    lines = [*lines, ("number of time frames", 1)]
    if what.duration_s:
        lines.append((f"{DURATION}[1]", repr(float(what.duration_s))))
    if what.start_s is not None:
        lines += [(f"{START}[1]", repr(float(what.start_s))), (INJECTION, 0)]
    elif what.duration_s and START not in map(_plain, what.header):
        lines.append((f"{START}[1]", 0))
    if what.tracer:
        lines.append(("radiopharmaceutical", what.tracer))
    if what.isotope:
        lines.append(("isotope name", mass_last(what.isotope)))
    if what.injected_mbq is not None:
        lines.append((ACTIVITY, format(Decimal(repr(float(what.injected_mbq))).scaleb(6), "f")))
    if what.sex:
        lines.append(("patient sex", what.sex))
    written = {*known, *NOTES, *(_plain(key) for key, _ in lines)}
    lines += [(key, value) for key, value in what.header.items() if _plain(key) not in written]
    notes = {
        "scanner": None if what.scanner in (None, system) else what.scanner,
        "region": what.region,
        "patient weight (kg)": what.weight_kg,
        "patient height (m)": what.height_m,
        "decay reference": what.decay_reference,
        "dose fraction": what.dose_fraction,
        **own,
        **{note: what.header[note] for note in NOTES if note in what.header},
    }
    lines += [(f"; {OWN}{key}", value) for key, value in notes.items() if value is not None]
    return "".join(header_line(key, value) for key, value in [*lines, ("!END OF INTERFILE", "")])


def _plain(key: str) -> str:
    """Standard key without its index."""
    return re.sub(r"\[\d+\]$", "", standard_key(key))


def mass_first(isotope: str) -> str | None:
    """``"F-18"`` or STIR's ``"^18^Fluorine"`` as ``"18F"``; any other name unchanged, None for an empty one."""
    isotope = isotope.strip()
    if match := re.fullmatch(r"\^(\d+)\^(\w+)", isotope):
        return f"{match[1]}{_ELEMENTS.get(match[2].lower(), match[2])}"
    match = re.fullmatch(r"([A-Za-z]{1,2})-?(\d+)", isotope)
    return f"{match[2]}{match[1]}" if match else isotope or None


def mass_last(isotope: str) -> str:
    """``"18F"`` as ``"F-18"``; any other name unchanged."""
    match = re.fullmatch(r"(\d+)([A-Za-z]{1,2})", isotope)
    return f"{match[2]}-{match[1]}" if match else isotope
