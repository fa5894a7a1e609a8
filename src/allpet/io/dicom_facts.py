"""What a DICOM series says of an acquisition: a whitelist of technical facts, times by QIBA's rules, units.

Nothing else of a file's header gets out of here: no names, numbers, dates, descriptions or identifiers. Times become
seconds after the injection.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from allpet.io.images import UNKNOWN_UNIT
from allpet.scan.suv import CORRECTED_KEY, FACTOR_KEY, HALF_LIFE_KEY, HALF_LIFE_S, NOTE_KEY, UNITS, mean_decay
from allpet.scan.units import ACTIVITY, COUNTS, HU, MU, UNCALIBRATED

ISOTOPE_CODES = {
    "11C": ("40565003", "C-105A1", "^11^Carbon"),
    "13N": ("21576001", "C-107A1", "^13^Nitrogen"),
    "15O": ("129504001", "C-B1038", "^15^Oxygen"),
    "18F": ("77004003", "C-111A1", "^18^Fluorine"),
    "64Cu": ("3932008", "C-127A2", "^64^Copper"),
    "68Ga": ("35337001", "C-131A3", "^68^Gallium"),
    "82Rb": ("79197006", "C-159A2", "^82^Rubidium"),
    "89Zr": ("63360001", "C-168A4", "^89^Zirconium"),
    "124I": ("40937006", "C-114A5", "^124^Iodine"),
}
"""Codes of DICOM's context group 4020: SNOMED CT, SNOMED RT, meaning."""

TRACERS = {
    "FDG": r"fdg|fluorodeoxyglucose|fludeoxyglucose|35321007|C-B1031",
    "DOPA": r"f-?dopa|fluoro-?l?-?dopa|\bdopa\b|5811000122108|C-E0241",
    "PSMA": r"psma|C118961|126759|126758|piflufolastat",
    "DOTATATE": r"dotatate|724025002",
    "DOTATOC": r"dotatoc|edotreotide",
    "DOTANOC": r"dotanoc",
    "NaF": r"\bnaf\b|sodium fluoride|129501009|C-B1032",
    "FLT": r"\bflt\b|fluorothymidine",
    "FET": r"\bfet\b|fluoro-?ethyl-?tyrosin",
    "FES": r"\bfes\b|fluoroestradiol",
    "choline": r"choline",
    "florbetapir": r"florbetapir|\bav-?45\b",
    "florbetaben": r"florbetaben",
    "flutemetamol": r"flutemetamol",
    "flortaucipir": r"flortaucipir|\bav-?1451\b|\bt807\b",
    "PiB": r"\bpib\b|pittsburgh",
    "methionine": r"methionine",
    "ammonia": r"ammonia|\bnh3\b",
    "water": r"water|\bh2o\b",
    "rubidium": r"rubidium",
    "FAPI": r"fapi",
}
"""Tracer names and what a file may call them (text, code meaning, code); a text that fits none is not taken over."""

VOLTAGE_KEY = "tube voltage (kv)"
"""Header key of a CT's tube voltage."""

_REGIONS = {
    "BRAIN": "brain",
    "HEAD": "brain",
    "SKULL": "brain",
    "HEADNECK": "head-neck",
    "NECK": "head-neck",
    "CHEST": "chest",
    "THORAX": "chest",
    "ABDOMEN": "abdomen",
    "PELVIS": "pelvis",
}
_SUV_TYPES = {None: "weight", "BW": "weight", "LBMJANMA": "lean", "LBMJAMES128": "lean-james", "BSA": "surface"}
_PHILIPS, _GE = "Philips PET Private Group", "GEMS_PETD_01"
_BEFORE_S = 1800.0  # a scan may start before the injection by so much (chosen: a dynamic scan starts minutes before)


@dataclass
class Facts:
    """Fields of :class:`allpet.scan.core.Acquired`, and what to multiply the values by to correct them as they say."""

    known: dict[str, Any] = field(default_factory=dict)
    factor: float = 1.0
    notes: list[str] = field(default_factory=list)


def number(data: Any, name: str) -> float | None:
    """A finite number, or None where the attribute is missing, empty or no number."""
    value = data.get(name)
    value = getattr(value, "value", value)
    try:
        out = float(value)
    except (TypeError, ValueError):
        return None
    return out if math.isfinite(out) else None


def text(data: Any, name: str) -> str:
    """Text on one line, "" where the attribute is missing; several values with ``\\`` between."""
    value = data.get(name)
    if value is None:
        return ""
    parts = [value] if isinstance(value, str) or not isinstance(value, Sequence) else value
    return " ".join("\\".join(str(part) for part in parts).split())


def private_value(data: Any, group: int, creator: str, element: int) -> str:
    """Text of a private element, "" where it is missing; found also where its creator was stripped."""
    try:
        value = data.private_block(group, creator)[element].value
    except KeyError:
        plain = data.get((group, 0x1000 + element))
        value = None if plain is None else plain.value
    if isinstance(value, bytes):
        value = value.decode("ascii", "ignore")
    return "" if value is None else str(value).strip(" \0")


def _positive(value: str) -> float | None:
    try:
        out = float(value)
    except ValueError:
        return None
    return out if math.isfinite(out) and out > 0 else None


def unit_of(data: Any) -> tuple[str, float, dict[str, Any]]:
    """Unit, what to multiply rescaled values by to be in it, and header keys that go with it.

    Counts become kBq/mL or SUV by the factors of Philips, (7053,1009) in Bq/mL and (7053,1000) in g/mL, and stay
    counts without them.
    """
    if text(data, "Modality") == "CT":
        return HU, 1.0, {}
    units, kind = text(data, "Units"), text(data, "SUVType") or None
    if units == "BQML":
        return ACTIVITY, 1e-3, {}
    if units in ("GML", "CM2ML"):
        by = "surface" if units == "CM2ML" else _SUV_TYPES.get(kind)
        return UNITS[by] if by else f"SUV by {kind}", 1.0, {}
    if units == "CNTS":
        suv = _positive(private_value(data, 0x7053, _PHILIPS, 0x00))
        activity = _positive(private_value(data, 0x7053, _PHILIPS, 0x09))
        if activity:
            return ACTIVITY, activity * 1e-3, {FACTOR_KEY: repr(suv / activity * 1e3)} if suv else {}
        return (UNITS["weight"], suv, {}) if suv else (COUNTS, 1.0, {})
    if units == "PROPCNTS":
        return UNCALIBRATED, 1.0, {}
    if units == "1CM":
        return MU, 0.1, {}
    return (UNKNOWN_UNIT if units in ("", "NONE") else f"DICOM {units}"), 1.0, {}


def moment(date: str, time: str) -> datetime | None:
    """DICOM date and time; a day of the year 1 where the date is missing."""
    digits = re.sub(r"[:\s]", "", time)
    match = re.fullmatch(r"(\d{2})(\d{2})?(\d{2})?(?:\.(\d{1,6})\d*)?", digits)
    day = re.sub(r"[.\-\s]", "", date)
    if not match:
        return None
    try:
        start = datetime.strptime(day, "%Y%m%d") if len(day) == 8 else datetime(1, 1, 2)
    except ValueError:
        start = datetime(1, 1, 2)
    hour, minute, second = (int(match[k] or 0) for k in (1, 2, 3))
    if hour > 23 or minute > 59 or second > 60:
        return None
    micro = int((match[4] or "0").ljust(6, "0"))
    return start + timedelta(hours=hour, minutes=minute, seconds=second, microseconds=micro)


def _of(data: Any, stem: str) -> datetime | None:
    date = text(data, f"{stem}Date") or text(data, "SeriesDate") or text(data, "StudyDate")
    return moment(date, text(data, f"{stem}Time"))


def _datetime(value: str) -> datetime | None:
    value = re.sub(r"[+-]\d{4}$", "", value)
    return moment(value[:8], value[8:]) if len(value) >= 10 else None


def _elapsed(item: Any, then: datetime, half_life: float | None, notes: list[str]) -> float | None:
    """Seconds from the injection to `then`; over midnight where only times of day can be trusted."""
    limit = 15 * half_life if half_life else 86400.0
    injected = _datetime(text(item, "RadiopharmaceuticalStartDateTime"))
    clock = moment("", text(item, "RadiopharmaceuticalStartTime"))
    if injected is not None and then.year > 1:
        seconds = (then - injected).total_seconds()
        if -_BEFORE_S <= seconds <= limit:
            return seconds
        notes.append("dates of injection and scan do not fit; times of day used")
    clock = injected if clock is None else clock
    if clock is None:
        return None
    seconds = (then - datetime.combine(then.date(), clock.time())).total_seconds() % 86400
    return seconds - 86400 if seconds > 86400 - _BEFORE_S else seconds


def scan_start(headers: Sequence[Any], half_life: float | None) -> datetime | None:
    """Time that DecayCorrection START refers to, by QIBA's rules.

    The series' time where no image was acquired before it (a series made by post-processing has a later one), else
    GE's private scan time, else back from the time of the mean count rate of the earliest frame, else the earliest
    acquisition.
    """
    frames = [(then, data) for data in headers if (then := _of(data, "Acquisition"))]
    series = _of(headers[0], "Series")
    if not frames:
        return series
    first, data = min(frames, key=lambda frame: frame[0])
    if series and series <= first:
        return series
    own = _datetime(private_value(headers[0], 0x0009, _GE, 0x0D))
    if own:
        return own
    reference, duration = number(data, "FrameReferenceTime"), number(data, "ActualFrameDuration")
    if reference and duration and half_life and reference > 0 and duration > 0:
        rate = math.log(2) / half_life
        mean_s = -math.log(mean_decay(half_life, duration / 1e3)) / rate
        back = first - timedelta(seconds=reference / 1e3) + timedelta(seconds=mean_s)
        if timedelta(0) <= first - back + timedelta(seconds=1) <= timedelta(hours=12):
            return back
    return first


def _isotope(item: Any) -> str | None:
    for code in item.get("RadionuclideCodeSequence") or []:
        value, meaning = text(code, "CodeValue"), text(code, "CodeMeaning")
        for name, (sct, srt, _) in ISOTOPE_CODES.items():
            if value in (sct, srt) or _names(meaning, name):
                return name
    label = text(item, "Radiopharmaceutical")
    return next((name for name in ISOTOPE_CODES if _names(label, name)), None)


def _names(label: str, isotope: str) -> bool:
    """Whether a text names an isotope: 18F, F-18, F18, [18F]FDG, ^18^Fluorine, Fluorine 18."""
    mass, symbol = re.fullmatch(r"(\d+)(\w+)", isotope).groups()  # type: ignore[union-attr]
    word = ISOTOPE_CODES[isotope][2].split("^")[-1]
    name = f"(?:{symbol}|{word})"
    pattern = rf"(?<!\d)\^?{mass}\^?-?{name}(?![a-z])|(?<![a-z]){name}[-\s]?\^?{mass}(?!\d)"
    return re.search(pattern, label, re.IGNORECASE) is not None or label.lower() == word.lower()


def _tracer(item: Any) -> str | None:
    labels = [text(item, "Radiopharmaceutical")]
    for code in item.get("RadiopharmaceuticalCodeSequence") or []:
        labels += [text(code, "CodeMeaning"), text(code, "CodeValue")]
    return named_tracer(labels)


def named_tracer(labels: Sequence[str]) -> str | None:
    """The tracer that one of these texts names, None where none does."""
    for name, pattern in TRACERS.items():
        if any(re.search(pattern, label, re.IGNORECASE) for label in labels):
            return name
    return None


def _patient(data: Any, facts: Facts) -> None:
    weight, height = number(data, "PatientWeight"), number(data, "PatientSize")
    sex = text(data, "PatientSex").upper()
    if weight is not None and not 0 < weight < 1000:
        facts.notes.append(f"PatientWeight (0010,1030) is {weight:g}; it must be in kg")
    elif weight is not None:
        facts.known["weight_kg"] = weight
    if height is not None and height >= 3:
        facts.notes.append(f"PatientSize (0010,1020) is {height:g}; it must be in m")
    elif height is not None and height > 0:
        facts.known["height_m"] = height
    if sex in ("F", "M", "O"):
        facts.known["sex"] = sex


def _dose(item: Any, facts: Facts) -> None:
    dose = number(item, "RadionuclideTotalDose")
    if dose is None or dose <= 0:
        return
    # chosen: nobody of over 10 kg is given under 1 MBq, and no animal under 0.01 MBq
    if dose < 1e4 or (dose < 1e6 and facts.known.get("weight_kg", 0) > 10):
        facts.notes.append(f"RadionuclideTotalDose (0018,1074) is {dose:g}, too little in Bq; is it in MBq or kBq?")
        return
    facts.known["injected_mbq"] = dose / 1e6


def _timing(headers: Sequence[Any], item: Any, half_life: float | None, facts: Facts) -> None:
    """start_s, duration_s, decay_reference; one frame that starts later than the time its values are corrected to has
    them taken on to the injection."""
    known = facts.known
    durations = {number(data, "ActualFrameDuration") for data in headers}
    duration = next(iter(durations)) if len(durations) == 1 else None
    if duration and duration > 0:
        known["duration_s"] = duration / 1e3
    starts = sorted({then for data in headers if (then := _of(data, "Acquisition"))})
    first = starts[0] if starts else _of(headers[0], "Series")
    reference = {"START": "start", "ADMIN": "injection", "NONE": "none"}.get(text(headers[0], "DecayCorrection"))
    corrected = text(headers[0], "CorrectedImage")
    if corrected and "DECY" not in corrected and reference in ("start", "injection"):
        facts.notes.append("DecayCorrection (0054,1102) says corrected, CorrectedImage (0028,0051) lacks DECY")
        reference = None
    if reference == "none" and len(starts) > 1:
        facts.notes.append("bed positions are not corrected for decay between them")
        reference = None
    known["decay_reference"] = reference
    if first is None:
        return
    known["start_s"] = _elapsed(item, first, half_life, facts.notes)
    origin = scan_start(headers, half_life) if reference == "start" else None
    seconds = None if origin is None else _elapsed(item, origin, half_life, facts.notes)
    if seconds is None or known["start_s"] is None or abs(known["start_s"] - seconds) <= 1:
        return
    if len(starts) > 1:
        known["start_s"] = seconds
    elif half_life:
        known["decay_reference"] = "injection"
        if unit_of(headers[0])[0] == ACTIVITY:
            facts.factor = 2.0 ** (seconds / half_life)
            own = known["header"].get(FACTOR_KEY)
            known["header"] |= {FACTOR_KEY: repr(float(own) / facts.factor)} if own else {}
    else:
        known["decay_reference"] = None


def facts_of(headers: Sequence[Any]) -> Facts:
    """The facts of one series' images.

    Parameters
    ----------
    headers : datasets of its images, at least one.
    """
    from allpet.scan.scanners import find_scanner

    data, facts = headers[0], Facts()
    model = text(data, "ManufacturerModelName")
    preset = find_scanner(model) if model else None
    label = " ".join(part for part in (text(data, "Manufacturer"), model) if part)
    facts.known["scanner"] = preset.name if preset else label or None
    facts.known["region"] = _REGIONS.get(text(data, "BodyPartExamined").upper())
    header: dict[str, Any] = {}
    for key, attribute in (("reconstruction", "ReconstructionMethod"), ("convolution kernel", "ConvolutionKernel")):
        if text(data, attribute):
            header[key] = text(data, attribute)[:64]
    facts.known["header"] = header
    if text(data, "Modality") == "CT" and (voltage := number(data, "KVP")):
        header[VOLTAGE_KEY] = f"{voltage:g}"
    if text(data, "Modality") != "PT":
        return facts
    header |= unit_of(data)[2]
    if text(data, "CorrectedImage"):
        header[CORRECTED_KEY] = text(data, "CorrectedImage").replace("\\", ", ")[:128]
    _patient(data, facts)
    items = data.get("RadiopharmaceuticalInformationSequence") or []
    if len(items) > 1:
        facts.notes.append("RadiopharmaceuticalInformationSequence (0054,0016) holds more than one injection")
    if len(items) == 1:
        item = items[0]
        isotope = _isotope(item)
        facts.known |= {"isotope": isotope, "tracer": _tracer(item)}
        half_life, table = number(item, "RadionuclideHalfLife"), HALF_LIFE_S.get(isotope or "")
        if half_life is not None and (half_life <= 0 or (table and abs(half_life / table - 1) > 0.05)):
            facts.notes.append(f"RadionuclideHalfLife (0018,1075) is {half_life:g} s, which does not fit {isotope}")
            half_life = None
        if half_life is not None:
            header[HALF_LIFE_KEY] = repr(half_life)
        _dose(item, facts)
        _timing(headers, item, half_life or table, facts)
    if facts.notes:
        header[NOTE_KEY] = "; ".join(dict.fromkeys(facts.notes))
    return facts
