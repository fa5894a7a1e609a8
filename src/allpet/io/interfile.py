"""Interfile sinograms (``.hs/.s``) in STIR's dialect.

How the axes map
----------------
STIR's x axis points to the patient's left and its y axis *down* (posterior; head first, supine), and its line is
``s = x cos(phi) + y sin(phi)`` in those axes. Our y axis points *up*, so STIR's line at ``phi`` is ours at ``-phi``:

    file[view 0, s] = ours[view 0, s],    file[view k, s] = ours[view (views - k), -s]   for k > 0

:func:`stir_views` does this when a :class:`ParallelBeam` sinogram is read and when it is written (it undoes itself and
moves values without changing them). Images need no change: STIR's first row is anterior, its first column the
patient's right. A :class:`RingBeam` sinogram is the scanner's own raw order and goes through untouched;
:func:`allpet.scan.arc.arc_correct` turns it.

STIR puts s = 0 on bin ``bins // 2``, we put it midway between the outermost bins. These agree for an odd number of
bins; for an even number STIR's axis lies half a bin from ours. Values and bin numbers are kept as they are.

Planes
------
n direct planes are one segment: ``2 * rings - 1`` planes of a known scanner with all its ring differences, anything
else n rings of ring difference 0. We write ``segment, axial, view, tangential`` (slowest to fastest; STIR's "by
sinogram") and read every order of the inner three axes.

Factors lie beside ``X.hs`` in ``X-attenuation.hs``, ``X-background.hs``, ``X-normalisation.hs``, ``X-delayeds.hs`` and
``X-randoms.hs``; where another program made them, ``X_randoms.hs`` will do. What Interfile has no key for stands in
comments (``; allpet unit := counts``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from allpet.errors import AllpetError
from allpet.geometry import Geometry, ParallelBeam, RingBeam
from allpet.io import rawdata
from allpet.io.acquired import acquired
from allpet.io.files import check_finite, replacing
from allpet.io.header import Header, millimetres, parse_header
from allpet.io.layout import INNER_AXES, KNOWN, Segments, axes, layout, segments_of, sinogram_header
from allpet.scan.core import FACTORS, Scan
from allpet.scan.corrected import APPLIED, listed
from allpet.scan.rebin import pairs_of_planes
from allpet.scan.scanners import Scanner, find_scanner
from allpet.scan.units import COUNTS

_IN_COUNTS = ("background", "delayeds", "randoms")


def stir_views(planes: np.ndarray) -> np.ndarray:
    """Turn parallel-beam sinograms from our axes to STIR's, or back: it is its own inverse.

    Parameters
    ----------
    planes : ``(..., view, radial)``.
    """
    return np.concatenate([planes[..., :1, :], planes[..., :0:-1, ::-1]], axis=-2)


MOST = 1.001
"""Largest attenuation factor, for rounding."""


def read_sinogram(path: Path | str) -> Scan:
    """Read an Interfile sinogram with the factors beside it.

    Data that are not arc-corrected come on a :class:`RingBeam`; where such a file has no normalisation beside it, the
    detector gaps of a known scanner are marked as missing.

    Raises
    ------
    AllpetError : no such file, a key missing or impossible, data missing or of the wrong size, NaN.
    """
    path = Path(path)
    header = parse_header(path)
    geometry, stored = layout(header)
    planes = sum(stored.planes)
    sinogram = _read_planes(header, geometry, planes)
    factors: dict[str, Any] = {}
    for name in FACTORS:
        beside = next((file for mark in "-_" if (file := companion(path, name, mark)).is_file()), None)
        if beside:
            other = parse_header(beside)
            if layout(other) != (geometry, stored):
                raise AllpetError(
                    f"{beside}: its size or geometry differs from that of {path.name}; it must be the same"
                )
            factors[name] = _read_planes(other, geometry, planes)
            if name == "attenuation" and (most := float(factors[name].max())) > MOST:
                raise AllpetError(
                    f"{beside}: attenuation reaches {most:.4g}; factors exp(-A mu) are at most 1 (STIR's "
                    "correction factors are 1 over these)"
                )
    known, used = acquired(header)
    scanner = find_scanner(known["scanner"] or "")
    if "normalisation" not in factors and isinstance(geometry, RingBeam) and geometry.block:
        try:
            factors["normalisation"] = torch.from_numpy(_missing(geometry, stored))
        except AllpetError as error:
            raise header.fail(f"cannot be: {error}") from None
    rest = header.rest(KNOWN | used)
    if len(stored.planes) > 1 or stored != segments_of(planes, {}, scanner):
        rest |= stored.as_header()
    if listed(header.text(APPLIED, "")):
        rest[header.spelling[APPLIED]] = header.text(APPLIED)
    if turned := header.number("view offset (degrees)", 0.0):
        rest["view offset (degrees)"] = header.text("view offset (degrees)")
        rest["position note"] = f"view 0 stands at {turned:g} degrees; it is taken for 0 here"
    scale, shares = (header.own_scale(key, planes) for key in ("counts per unit", "dose fractions"))
    return Scan(
        sinogram,
        geometry,
        header.own("unit") or COUNTS,
        **factors,
        counts_per_unit=None if scale is None else torch.tensor(scale, dtype=torch.float64),
        dose_fractions=None if shares is None else torch.tensor(shares, dtype=torch.float64),
        plane_mm=_plane_mm(header, stored, scanner),
        neighbours=planes > 1 and len(stored.planes) == 1 and header.own("neighbours") != "no",
        fwhm_mm=header.own_number("radial resolution (mm)"),
        header=rest,
        **known,
    )


def _plane_mm(header: Header, stored: Segments, scanner: Scanner | None) -> float:
    usual = "0.1" if scanner is None else repr(scanner.ring_mm / 10)
    plane_mm = millimetres(header, "distance between rings (cm)", usual) * stored.plane_spacing
    if plane_mm <= 0:
        raise header.fail(f"has planes {plane_mm} mm apart; the distance must be positive")
    return plane_mm


def part_of(path: Path) -> Path | None:
    """``X.hs``, if it exists, of a path such as ``X-attenuation.hs`` or ``X_randoms.hs``, which is read with it."""
    for name in FACTORS:
        if path.stem.endswith((f"-{name}", f"_{name}")):
            whole = path.with_name(path.stem[: -len(name) - 1] + path.suffix)
            return whole if whole.is_file() else None
    return None


def foreign_part(path: Path) -> Path | None:
    """A file such as ``X-attenuation.hs`` that would be read with ``X.hs`` but was not written with one."""
    besides = (companion(path, name, mark) for name in FACTORS for mark in "-_")
    return next((beside for beside in besides if beside.is_file() and not _written_with(beside, path)), None)


def _written_with(beside: Path, path: Path) -> bool:
    """Whether a file beside ``X.hs`` says that it was written as a part of it."""
    try:
        return parse_header(beside).own("part of") == path.name
    except AllpetError:
        return False


def companion(path: Path, name: str, mark: str = "-") -> Path:
    """``X-name.hs`` beside ``X.hs``."""
    return path.with_name(f"{path.stem}{mark}{name}{path.suffix}")


def _read_planes(header: Header, geometry: Geometry, planes: int) -> torch.Tensor:
    """The planes in our axes, float32 ``(n, view, radial)``."""
    sizes = axes(header)
    views, bins = geometry.shape
    data = rawdata.map_data(header, planes * views * bins)
    turn = stir_views if isinstance(geometry, ParallelBeam) else np.asarray
    factor = rawdata.scale_factor(header)
    order = [label for label in reversed(sizes) if label in INNER_AXES]  # slowest first
    out = np.empty((planes, views, bins), np.float32)
    start = 0
    for count in sizes["axial coordinate"]:
        shape = {"axial coordinate": count, "view": views, "tangential coordinate": bins}
        block = data[start * views * bins : (start + count) * views * bins].reshape([shape[label] for label in order])
        block = block.transpose([order.index(label) for label in INNER_AXES])
        for k, plane in enumerate(block, start):
            out[k] = turn(rawdata.to_float32(plane, factor))
        start += count
    check_finite(header.path, out)
    return torch.from_numpy(out)


def _missing(beam: RingBeam, stored: Segments) -> np.ndarray:
    """0 in the detector gaps; elsewhere the ring pairs of a plane."""
    live = beam.live().astype(np.float32)[None]
    parts = zip(stored.planes, stored.lowest, stored.highest, strict=True)
    pairs = np.concatenate([pairs_of_planes(*part, stored.rings) for part in parts])
    return pairs.astype(np.float32)[:, None, None] * live


def write_sinogram(scan: Scan, path: Path | str) -> None:
    """Write a scan and its factors as Interfile sinograms in float32; nothing is left where it fails.

    Factors of an earlier scan of the same name are removed. See the module's head for axes and planes.

    Raises
    ------
    AllpetError : the folder does not exist or cannot be written.
    """
    path = Path(path)
    names = ["sinogram", *(name for name in FACTORS if getattr(scan, name) is not None)]
    parts = [(companion(path, name) if name in FACTORS else path, getattr(scan, name)) for name in names]
    targets = [target for part, _ in parts for target in (part.with_suffix(".s"), part)]
    with replacing(*targets, headers=True) as temporary:
        for k, (part, planes) in enumerate(parts):
            array = planes.detach().cpu().numpy()
            with open(temporary[2 * k], "wb") as handle:
                for plane in array:
                    turned = stir_views(plane) if isinstance(scan.geometry, ParallelBeam) else plane
                    handle.write(np.ascontiguousarray(turned, "<f4").tobytes())
            own = {"part of": path.name, "unit": COUNTS if names[k] in _IN_COUNTS else "1"}
            text = sinogram_header(scan, len(scan), part.with_suffix(".s").name, own if k else {})
            temporary[2 * k + 1].write_text(text, "utf-8")
    _remove_stale(path, {part for part, _ in parts})


def _remove_stale(path: Path, kept: set[Path]) -> None:
    for name in FACTORS:
        old = companion(path, name)
        if old not in kept and old.is_file() and _written_with(old, path):
            old.unlink()
            old.with_suffix(".s").unlink(missing_ok=True)
