"""`Scan` (sinograms with all that is needed to use them) and `Image` (planes in mm)."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import torch

from allpet.errors import AllpetError
from allpet.geometry import Geometry, ImageGrid, ParallelBeam
from allpet.scan.dynamic import Dynamic
from allpet.scan.units import ACTIVITY, COUNTS, UNCALIBRATED

FACTORS = ("attenuation", "background", "normalisation", "delayeds", "randoms")
"""Arrays of a scan that lie beside its sinogram, same shape."""


def as_float32(name: str, value: Any) -> torch.Tensor:
    """Numbers as a float32 tensor, however they lie in memory: reversed, big endian, read-only.

    Raises
    ------
    AllpetError : no real numbers.
    """
    if torch.is_tensor(value) and not value.is_complex():
        return value.to(torch.float32)
    try:
        array = np.asarray(value)
        if array.dtype.kind not in "biuf":
            raise TypeError
        return torch.from_numpy(np.ascontiguousarray(array, np.float32))
    except (TypeError, ValueError):
        raise AllpetError(f"{name} holds no real numbers; give an array of them") from None


def _as_planes(name: str, value: Any, shape: tuple[int, ...] | None = None) -> torch.Tensor:
    array = as_float32(name, value)
    if array.ndim == 2:
        array = array[None]
    if array.ndim != 3:
        raise AllpetError(f"{name} has shape {tuple(array.shape)}; it must be (n, view, radial)")
    if shape is not None:
        try:
            array = array.expand(shape)
        except RuntimeError:
            raise AllpetError(f"{name} has shape {tuple(array.shape)}; it must fit the sinogram's {shape}") from None
    if not bool(torch.isfinite(array).all()):
        raise AllpetError(f"{name} holds NaN or infinite values; every value must be finite")
    return array


def _scale(name: str, value: Any, planes: int) -> float | torch.Tensor:
    """One positive number, or one for each plane."""
    scale = torch.as_tensor(value, dtype=torch.float64).reshape(-1)
    if scale.numel() not in (1, planes) or not bool((torch.isfinite(scale) & (scale > 0)).all()):
        shown = value if scale.numel() < 4 else f"{scale.numel()} numbers"
        raise AllpetError(f"{name} is {shown}; it must be a positive number, or one for each of {planes} planes")
    return float(scale[0]) if bool((scale == scale[0]).all()) else scale


@dataclass(kw_only=True)
class Acquired:
    """What is known of an acquisition, the same for its sinograms and its images; None where nothing is known.

    Parameters
    ----------
    tracer, isotope, region : prompt words ("FDG", "18F", "brain").
    scanner : name of the preset in :mod:`allpet.scan.scanners`, or what the file calls it.
    injected_mbq : activity at the time of injection in MBq. weight_kg : of the patient.
    height_m, sex : of the patient; sex is "F", "M" or "O".
    start_s : start of the frame after the injection in s. duration_s : length of the frame in s.
    decay_reference : time that activities are corrected for decay to: "injection", "start" (of the frame) or "none"
        (mean over the frame, as it was).
    dose_fraction : share of the full dose that these counts hold.
    header : keys of a file's header that no field stands for, kept for writing.
    """

    tracer: str | None = None
    isotope: str | None = None
    region: str | None = None
    scanner: str | None = None
    injected_mbq: float | None = None
    weight_kg: float | None = None
    height_m: float | None = None
    sex: str | None = None
    start_s: float | None = None
    duration_s: float | None = None
    decay_reference: str | None = None
    dose_fraction: float | None = None
    header: dict[str, Any] = field(default_factory=dict)

    def acquired(self) -> dict[str, Any]:
        """These facts by name, to be handed on: ``Image(..., **scan.acquired())``."""
        return {part.name: getattr(self, part.name) for part in fields(Acquired)}


@dataclass
class Scan(Acquired):
    """Planes of sinograms with geometry, unit, factors and what is known of the acquisition (:class:`Acquired`).

    Expected data are ``normalisation * attenuation * counts_per_unit * A(activity) + background``
    in counts; an ideal projection (unit ``kBq/mL*mm``) has none of the factors.

    Parameters
    ----------
    sinogram : float32 ``(n, view, radial)``, in ``unit``.
    geometry : the planes' geometry.
    unit : ``"counts"`` or ``"kBq/mL*mm"``.
    attenuation : factors exp(-A mu) in (0, 1], same shape, or None if unknown.
    background : expected randoms + scatter in counts, same shape, or None if none.
    randoms : the part of `background` that is randoms, in counts, same shape, or None if not known apart.
    normalisation : bin efficiencies >= 0 (0 marks missing data: a detector gap), same shape, or None for 1.
    delayeds : measured delayed coincidences in counts, same shape, or None.
    counts_per_unit : counts per kBq/mL*mm at efficiency 1: a number, one for each plane where they differ (float64
        ``(n,)``), or None if uncalibrated.
    plane_mm : distance between planes in mm.
    neighbours : whether each plane lies next to the one before it in the same body, as those of one scan do and the
        samples of a data set do not.
    fwhm_mm : resolution along the radial axis (full width at half maximum of a Gaussian) in mm, or None.
    dynamic : frames in counts that go with the scan, or None.
    dose_fractions : one for each plane where they differ (float64 ``(n,)``), beside a `dose_fraction` of None.
    """

    sinogram: torch.Tensor
    geometry: Geometry
    unit: str = COUNTS
    attenuation: torch.Tensor | None = None
    background: torch.Tensor | None = None
    normalisation: torch.Tensor | None = None
    delayeds: torch.Tensor | None = None
    randoms: torch.Tensor | None = None
    counts_per_unit: float | torch.Tensor | None = None
    plane_mm: float = 1.0
    neighbours: bool = False
    fwhm_mm: float | None = None
    dynamic: Dynamic | None = None
    dose_fractions: torch.Tensor | None = None

    def __post_init__(self) -> None:
        self.sinogram = _as_planes("sinogram", self.sinogram)
        shape = tuple(self.sinogram.shape)
        if shape[1:] != self.geometry.shape:
            views, bins = self.geometry.shape
            raise AllpetError(f"sinogram has shape {shape}; its geometry says (n, {views}, {bins})")
        for name in FACTORS:
            value = getattr(self, name)
            if value is not None:
                setattr(self, name, _as_planes(name, value, shape))

        if self.counts_per_unit is not None:
            self.counts_per_unit = _scale("counts per unit", self.counts_per_unit, shape[0])
        if self.dose_fractions is not None:
            shares = torch.as_tensor(_scale("dose fraction", self.dose_fractions, shape[0]), dtype=torch.float64)
            self.dose_fractions = shares.expand(shape[0])
        if self.dynamic is not None and self.dynamic.counts[:, 0].shape != self.sinogram.shape:
            frames = tuple(self.dynamic.counts.shape)
            raise AllpetError(f"dynamic frames have shape {frames}; planes must be those of the sinogram, {shape}")

    @classmethod
    def from_array(cls, sinogram: Any, bin_mm: float, **known: Any) -> Scan:
        """A scan from an array ``(view, radial)`` or ``(n, view, radial)`` on a parallel-beam grid.

        Raises
        ------
        AllpetError : wrong number of axes, NaN, or a factor that does not fit.
        """
        planes = _as_planes("sinogram", sinogram)
        return cls(planes, ParallelBeam(planes.shape[1], planes.shape[2], bin_mm), **known)

    def __len__(self) -> int:
        return int(self.sinogram.shape[0])

    @property
    def efficiency(self) -> torch.Tensor:
        """``normalisation * attenuation`` with 1 for what is unknown, float32 ``(n, view, radial)``."""
        out = torch.ones_like(self.sinogram)
        for factor in (self.normalisation, self.attenuation):
            if factor is not None:
                out = out * factor
        return out

    @property
    def live(self) -> torch.Tensor:
        """True where the bin was measured, bool ``(n, view, radial)``."""
        if self.normalisation is None:
            return torch.ones_like(self.sinogram, dtype=torch.bool)
        return self.normalisation > 0

    @property
    def image_unit(self) -> str:
        """Of an image of the activity behind it: kBq/mL, or counts/mm where the scan is not calibrated."""
        return UNCALIBRATED if self.counts_per_unit is None else ACTIVITY

    def planes(self, index: slice) -> Scan:
        """The same scan restricted to some planes."""
        cut = {name: getattr(self, name)[index] for name in ("sinogram", *FACTORS) if getattr(self, name) is not None}
        if torch.is_tensor(self.counts_per_unit):
            cut["counts_per_unit"] = self.counts_per_unit[index]
        if self.dose_fractions is not None:
            cut["dose_fractions"] = self.dose_fractions[index]
        if self.dynamic is not None:
            cut["dynamic"] = self.dynamic[index]
        return replace(self, **cut)

    def with_sinogram(self, sinogram: torch.Tensor, **changes: Any) -> Scan:
        """The same scan with other data (and other fields, if named)."""
        return replace(self, sinogram=sinogram, **changes)


@dataclass
class Image(Acquired):
    """Planes of an image: float32 ``(n, row, column)`` in ``unit`` on ``grid``, ``plane_mm`` apart, and what is known
    of the acquisition (:class:`Acquired`)."""

    array: torch.Tensor
    grid: ImageGrid
    unit: str = ACTIVITY
    plane_mm: float = 1.0

    def __post_init__(self) -> None:
        array = as_float32("image", self.array)
        self.array = array[None] if array.ndim == 2 else array
        if tuple(self.array.shape[1:]) != self.grid.shape:
            size = self.grid.size
            raise AllpetError(f"image has shape {tuple(self.array.shape)}; its grid says (n, {size}, {size})")

    def __len__(self) -> int:
        return int(self.array.shape[0])
