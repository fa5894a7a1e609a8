"""Standardised uptake values: activity concentration over injected activity by body size.

``SUV = C 2^(t/T) size / dose`` with C in kBq/mL as corrected to t after the injection, T the half-life, dose in kBq at
the time of injection and size in g (SUVbw: body weight; SUL: lean body mass) or in cm^2 (body surface). The rules
are those of QIBA's vendor-neutral computation (RSNA QIBA FDG-PET/CT profile): the dose is brought to the time that the
image is corrected to, decay that was not corrected for is undone over the frame, and a scanner's own factor, where the
file has one, is used as it is. Whatever is missing is an error that names it, never a guess.
"""

from __future__ import annotations

import math
from dataclasses import replace

from allpet.errors import AllpetError
from allpet.scan.core import Acquired, Image
from allpet.scan.corrected import ATTENUATION, CORRECTED, corrected_for
from allpet.scan.kinetics import ISOTOPES
from allpet.scan.units import ACTIVITY

UNITS = {"weight": "SUV", "lean": "SUL", "lean-james": "SUL-James", "surface": "SUV-BSA"}
"""Unit of an image by what it is normalised to: g/mL, for ``surface`` cm2/mL."""

HALF_LIFE_S = {
    "11C": 20.385 * 60,
    "13N": 9.965 * 60,
    "15O": 122.24,
    "64Cu": 12.7 * 3600,
    "82Rb": 75.0,
    "89Zr": 78.4 * 3600,
    "124I": 100.2 * 3600,
    **{name: 60 * isotope.half_life_min for name, isotope in ISOTOPES.items()},
}
"""Half-lives in s: those of the project's own tracers as :mod:`allpet.scan.kinetics` has them; C, N, O from the
European Pharmacopoeia 5.7 (2008, after NNDC), 82Rb from the list of the Turku PET Centre, Cu, Zr, I from J Nucl Med
2022;63:649, table 3."""

HALF_LIFE_KEY = "isotope gamma halflife (sec)"
"""Header key of the half-life that a file gives; it goes before the table."""
FACTOR_KEY = "suv factor of the file"
"""Header key of the scanner's own SUVbw in g/mL for 1 kBq/mL."""
CORRECTED_KEY = "corrected image"
"""Header key of the corrections that a file lists, as DICOM's CorrectedImage (0028,0051): ``"DECY, ATTN"``."""
NOTE_KEY = "suv note"
"""Header key of what was found wrong with a fact that SUV needs."""

_TAGS = {
    "injected_mbq": "injected activity (RadionuclideTotalDose 0018,1074)",
    "weight_kg": "weight (PatientWeight 0010,1030)",
    "height_m": "height (PatientSize 0010,1020)",
    "sex": "sex (PatientSex 0010,0040)",
    "start_s": "time from injection to scan (RadiopharmaceuticalStartTime 0018,1072)",
    "duration_s": "length of the frame (ActualFrameDuration 0018,1242)",
    "decay_reference": "time that decay is corrected to (DecayCorrection 0054,1102)",
}


def _text(what: Acquired, key: str) -> str | None:
    """Value of a header key in any case, or None."""
    return next((str(value) for name, value in what.header.items() if str(name).lower() == key), None)


def _number(what: Acquired, key: str) -> float | None:
    text = _text(what, key)
    try:
        value = float(text) if text else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) and value > 0 else None


def _need(what: Acquired, *names: str) -> None:
    for name in names:
        if getattr(what, name) is None:
            note = _text(what, NOTE_KEY)
            raise AllpetError(f"SUV: {_TAGS[name]} is not known{f' ({note})' if note else ''}; it is needed")


def half_life_s(what: Acquired) -> float:
    """Half-life in s: what the file says, else that of the isotope.

    Raises
    ------
    AllpetError : neither is known.
    """
    value = _number(what, HALF_LIFE_KEY) or HALF_LIFE_S.get(what.isotope or "")
    if value is None:
        raise AllpetError(
            f"half-life of isotope '{what.isotope}' (RadionuclideHalfLife 0018,1075) is not known; "
            f"known isotopes are {', '.join(HALF_LIFE_S)}"
        )
    return value


def mean_decay(half_life: float, duration_s: float) -> float:
    """Mean of ``2^(-t/T)`` over a frame from its start: ``(1 - e^(-x))/x`` with ``x = ln 2 duration / T``."""
    x = math.log(2) * duration_s / half_life
    return -math.expm1(-x) / x if x > 0 else 1.0


def to_injection(what: Acquired) -> float:
    """Factor that takes activities from the time they are corrected to back to the injection.

    Raises
    ------
    AllpetError : a time, the reference or the half-life is not known.
    """
    _need(what, "decay_reference")
    if what.decay_reference == "injection":
        return 1.0
    if what.decay_reference not in ("start", "none"):
        raise AllpetError(f"decay reference '{what.decay_reference}' is unknown; known are injection, start, none")
    _need(what, "start_s", *(("duration_s",) if what.decay_reference == "none" else ()))
    half_life = half_life_s(what)
    exponent = (what.start_s or 0.0) / half_life
    if abs(exponent) > 60:
        raise AllpetError(f"SUV: the frame starts {what.start_s:g} s after the injection, which is over 60 half-lives")
    factor = 2.0**exponent
    return factor / mean_decay(half_life, what.duration_s or 0.0) if what.decay_reference == "none" else factor


def body_size(what: Acquired, by: str = "weight") -> float:
    """Body weight in kg, lean body mass in kg or surface in m^2.

    Parameters
    ----------
    by : ``"weight"``; ``"lean"``, by Janmahasatian et al. 2005 (Clin Pharmacokinet 44:1051): 9270 W / (6680 + 216 BMI)
        for men, 9270 W / (8780 + 244 BMI) for women; ``"lean-james"``, by James 1976: 1.10 W - 128 (W/H)^2 for men,
        1.07 W - 148 (W/H)^2 for women, which fails for the obese; ``"surface"``, by Du Bois and Du Bois 1916:
        0.007184 W^0.425 H^0.725. W in kg, H in cm, BMI in kg/m^2.

    Raises
    ------
    AllpetError : an unknown `by`, a fact that is not known or impossible.
    """
    if by not in UNITS:
        raise AllpetError(f"SUV by '{by}' is unknown; known are {', '.join(UNITS)}")
    _need(what, "weight_kg")
    weight = what.weight_kg or 0.0
    if not 0 < weight < 1000:
        raise AllpetError(f"SUV: weight {weight:g} kg (PatientWeight 0010,1030) is impossible; it must be in kg")
    if by == "weight":
        return weight
    _need(what, "height_m")
    height = what.height_m or 0.0
    if not 0 < height < 3:
        raise AllpetError(f"SUV: height {height:g} m (PatientSize 0010,1020) is impossible; it must be in m")
    if by == "surface":
        return 0.007184 * weight**0.425 * (100 * height) ** 0.725
    if what.sex not in ("F", "M"):
        raise AllpetError(f"SUV: lean body mass needs the sex F or M (PatientSex 0010,0040); it is {what.sex}")
    male = what.sex == "M"
    if by == "lean":
        bmi = weight / height**2
        return 9270 * weight / (6680 + 216 * bmi if male else 8780 + 244 * bmi)
    ratio = (weight / (100 * height)) ** 2
    mass = 1.10 * weight - 128 * ratio if male else 1.07 * weight - 148 * ratio
    if mass <= 0:
        raise AllpetError(f"SUV: James's lean mass of {weight:g} kg and {height:g} m is not positive; use by='lean'")
    return mass


def suv_factor(what: Acquired, by: str = "weight") -> float:
    """What to multiply kBq/mL by to get SUV.

    Parameters
    ----------
    what : facts of the scan or image; see :class:`allpet.scan.core.Acquired`.
    by : ``"weight"`` (SUVbw, g/mL), ``"lean"`` or ``"lean-james"`` (SUL, g/mL), ``"surface"`` (cm2/mL); see
        :func:`body_size`.

    Raises
    ------
    AllpetError : a fact that is missing or impossible, by name and DICOM tag; no attenuation or decay correction.
    """
    corrected = _text(what, CORRECTED_KEY)
    if corrected is not None and "ATTN" not in corrected.upper():
        raise AllpetError("SUV: the image is not corrected for attenuation (CorrectedImage 0028,0051 lacks ATTN)")
    if corrected is None and CORRECTED in what.header and ATTENUATION not in corrected_for(what):
        raise AllpetError("SUV: the image is not corrected for attenuation, as its header says")
    own = _number(what, FACTOR_KEY)
    if own is not None:
        size = 1.0 if by == "weight" else body_size(what, by) / body_size(what)
        return own * size * (10 if by == "surface" else 1)
    _need(what, "injected_mbq")
    dose = what.injected_mbq or 0.0
    if not (math.isfinite(dose) and dose > 0):
        raise AllpetError(f"SUV: injected activity {dose:g} MBq (RadionuclideTotalDose 0018,1074) must be positive")
    # kg/MBq = g/kBq; m^2/MBq = 10 cm^2/kBq
    return body_size(what, by) / dose * to_injection(what) * (10 if by == "surface" else 1)


def to_suv(image: Image, by: str = "weight") -> Image:
    """The image in SUV; one that is in it already comes back as it is.

    Parameters
    ----------
    image : in kBq/mL. by : see :func:`suv_factor`.

    Raises
    ------
    AllpetError : another unit, or as :func:`suv_factor`.
    """
    if by in UNITS and image.unit == UNITS[by]:
        return image
    if image.unit != ACTIVITY:
        raise AllpetError(f"an image in '{image.unit}' cannot be turned into SUV; it must be in {ACTIVITY}")
    factor = suv_factor(image, by)
    return replace(image, array=image.array * factor, unit=UNITS[by])


def from_suv(image: Image) -> Image:
    """The image in kBq/mL, corrected for decay as its ``decay_reference`` says: the inverse of :func:`to_suv`.

    Raises
    ------
    AllpetError : another unit than those of :data:`UNITS`, or as :func:`suv_factor`.
    """
    if image.unit == ACTIVITY:
        return image
    by = next((by for by, unit in UNITS.items() if unit == image.unit), None)
    if by is None:
        raise AllpetError(f"an image in '{image.unit}' is no SUV; known units are {', '.join(UNITS.values())}")
    return replace(image, array=image.array / suv_factor(image, by), unit=ACTIVITY)
