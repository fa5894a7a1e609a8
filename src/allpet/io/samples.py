"""Samples as a scan: what the scanner measured, with every factor at the dose of the data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from allpet.geometry import ParallelBeam
from allpet.io.header import THINNING
from allpet.io.schema import ACQUISITION, BLOCK, FRAME_TIMES, PROMPT
from allpet.scan.units import COUNTS

if TYPE_CHECKING:
    import torch

    from allpet.scan.core import Scan

Index = int | slice | Sequence[int] | np.ndarray

_PER_SAMPLE = ("injected_mbq", "weight_kg", "start_s", "duration_s", "fwhm_mm")


class Samples(Protocol):
    """Rows by array name and what they mean: a data set in memory, or an open store."""

    @property
    def beam(self) -> ParallelBeam:
        """Geometry of the sinograms."""
        ...

    @property
    def attributes(self) -> dict[str, Any]:
        """Units, prompt, acquisition and more."""
        ...

    def __contains__(self, name: str) -> bool:
        """True if there is such an array."""
        ...

    def rows(self, name: str, index: Index | None = None) -> np.ndarray:
        """Some rows of an array, all by default."""
        ...


def as_scan(samples: Samples, index: Index | None = None, facts: dict[str, Any] | None = None) -> Scan:
    """`observed` if there is one, else `sinogram`, as a scan.

    The factors belong to the data returned: background, randoms and counts per unit are scaled to its dose fraction
    (randoms by its square where attribute `thinning` is "activity"); without `background` it is the sum of `randoms`
    and `scatter`. Dynamic frames come along where they are counts with times that all samples share. Duration and
    injected activity stay those of the full dose. Counts per unit and dose fractions are one for
    each plane where the samples differ in them; anything else that they differ in is None.

    Parameters
    ----------
    index : a sample number, a slice or a list of them; all by default.
    facts : what the scan shall state as common to its samples; default: what those chosen have in common. The samples
        of a part of a store may have more in common than all of it (:func:`common_facts`).
    """
    from allpet.scan.core import Scan

    name = "observed" if "observed" in samples else "sinogram"
    units, prompt = samples.attributes["units"], samples.attributes.get("prompt", {})
    unit = str(units.get(name, units["sinogram"]))
    known: dict[str, Any] = {key: prompt.get(key) for key in PROMPT}
    known["header"] = dict(samples.attributes.get("header", {}))
    if samples.attributes.get(THINNING) == "activity":
        known["header"][THINNING] = "activity"
    known |= {key: value for key, value in samples.attributes.get("acquisition", {}).items() if key in ACQUISITION}
    if (shares := known.get("dose_fractions")) is not None:
        known["dose_fractions"] = np.asarray(shares) if index is None else np.asarray(shares)[index]
    if unit == COUNTS:
        known |= _factors(samples, index, dose=name == "observed")
        known["dynamic"] = _dynamic(samples, index)
    known |= {key: _common(samples.rows(key, index)) for key in _stated(samples)} if facts is None else facts
    if known.get("dose_fraction") is not None:
        known.pop("dose_fractions", None)
    data = samples.rows(name, index)
    return Scan(_tensor(data), samples.beam, unit=unit, **known)


def common_facts(samples: Samples, count: int, at_once: int = BLOCK) -> dict[str, Any]:
    """What all samples have in common of that which is stated sample by sample, None where they differ.

    Parameters
    ----------
    count : number of samples. at_once : rows read at a time.
    """
    return {key: _common_to_all(samples, key, count, at_once) for key in _stated(samples)}


def _common_to_all(samples: Samples, key: str, count: int, at_once: int) -> float | None:
    start = samples.rows(key, slice(0, at_once))
    for first in range(at_once, count, at_once):
        if _common(start) is None:
            return None
        start = np.concatenate([start[:1], samples.rows(key, slice(first, first + at_once))])
    return _common(start)


def _stated(samples: Samples) -> list[str]:
    """Arrays of one number a sample that a scan states once, where all samples share it."""
    units = samples.attributes["units"]
    dose = "observed" in samples and str(units.get("observed", units["sinogram"])) == COUNTS
    return [key for key in (*_PER_SAMPLE, *(["dose_fraction"] if dose else [])) if key in samples]


def _factors(samples: Samples, index: Index | None, dose: bool) -> dict[str, Any]:
    """Factors and calibration of the chosen samples."""
    out: dict[str, Any] = {}
    fraction = samples.rows("dose_fraction", index) if dose and "dose_fraction" in samples else None
    share = np.float32(1.0) if fraction is None else fraction
    for name in ("attenuation", "normalisation", "delayeds"):
        if name in samples:
            out[name] = _tensor(samples.rows(name, index))
    if fraction is not None:
        out["dose_fractions"] = fraction
    background = background_at(samples, index, np.reshape(share, (-1, 1, 1)))
    out |= {name: _tensor(values) for name, values in background.items()}
    if "counts_per_unit" in samples:
        out["counts_per_unit"] = samples.rows("counts_per_unit", index) * share
    return out


def _dynamic(samples: Samples, index: Index | None) -> Any:
    """Frames in counts with their times; None without."""
    from allpet.scan.dynamic import Dynamic

    units, known = samples.attributes["units"], [samples.attributes.get(name) for name in FRAME_TIMES]
    times = [time for time in known if time is not None]
    if "frames" not in samples or units.get("frames") != COUNTS or len(times) != 2:
        return None
    counts = samples.rows("frames", index)
    extra = samples.rows("frames_background", index) if "frames_background" in samples else np.zeros_like(counts)
    return Dynamic(_tensor(counts), _tensor(extra), *(tuple(map(float, time)) for time in times))


def background_at(samples: Samples, index: Index | None, share: np.ndarray) -> dict[str, np.ndarray]:
    """Randoms, and randoms + scatter, at a share of the full dose; of these what is known."""
    full = {name: samples.rows(name, index) for name in ("background", "randoms", "scatter") if name in samples}
    randoms = full.get("randoms", np.float32(0))
    if "background" not in full and "scatter" in full:
        full["background"] = full["scatter"] + randoms
    fewer = share if samples.attributes.get(THINNING) == "activity" else np.ones_like(share)
    out = {"randoms": randoms * (share * fewer)} if "randoms" in full else {}
    if "background" in full:
        out["background"] = full["background"] * share - randoms * (share * (1 - fewer))
    return out


def _tensor(values: np.ndarray) -> torch.Tensor:
    import torch

    return torch.from_numpy(values.astype(np.float32))


def _common(values: np.ndarray) -> float | None:
    return float(values[0]) if len(values) and np.ptp(values) == 0 else None
