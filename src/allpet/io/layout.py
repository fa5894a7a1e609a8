"""Header of an Interfile sinogram: from text to geometry and segments, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from allpet.geometry import Geometry, ParallelBeam, RingBeam
from allpet.io import rawdata
from allpet.io.acquired import UNKNOWN_SCANNER, closing_text, opening_lines
from allpet.io.header import OWN, Header, centimetres, millimetres, standard_key
from allpet.scan.core import Scan
from allpet.scan.corrected import APPLIED, listed
from allpet.scan.rebin import SEGMENTED, segments
from allpet.scan.scanners import Scanner, find_scanner

INNER_AXES = ("axial coordinate", "view", "tangential coordinate")

KNOWN = rawdata.KEYS | {
    APPLIED,
    "average depth of interaction (cm)",
    "default bin size (cm)",
    "default number of arc-corrected bins",
    "distance between rings (cm)",
    "effective central bin size (cm)",
    "imaging modality",
    "inner ring diameter (cm)",
    "matrix axis label",
    "matrix size",
    "maximum number of non-arc-corrected bins",
    "maximum ring difference per segment",
    "minimum ring difference per segment",
    "number of detectors per ring",
    "number of dimensions",
    "number of rings",
    "pet data type",
    "scanner type",
    "type of data",
    "version of keys",
    "view offset (degrees)",
}


@dataclass(frozen=True)
class Segments:
    """Planes and ring differences of each segment in file order, and the scanner's rings."""

    planes: tuple[int, ...]
    lowest: tuple[int, ...]
    highest: tuple[int, ...]
    rings: int

    @property
    def plane_spacing(self) -> float:
        """Distance between planes over that between rings: a half where direct and cross planes alternate."""
        return 0.5 if self.lowest[0] != self.highest[0] else 1.0

    def as_header(self) -> dict[str, str]:
        """The keys that describe several segments, for the header of a Scan."""
        values = (_braces(self.planes), _braces(self.lowest), _braces(self.highest), str(self.rings))
        return dict(zip(SEGMENTED, values, strict=True))


def span1_segments(rings: int, max_difference: int) -> Segments:
    """One segment for each ring difference 0, +1, -1, ..."""
    differences = tuple(segments(max_difference))
    return Segments(tuple(rings - abs(d) for d in differences), differences, differences, rings)


def layout(header: Header) -> tuple[Geometry, Segments]:
    """Geometry of a sinogram and its segments.

    Raises
    ------
    AllpetError : the header describes something else, or nothing that can be.
    """
    sizes = axes(header)
    views, bins = sizes["view"][0], sizes["tangential coordinate"][0]
    planes = tuple(sizes["axial coordinate"])
    lowest, highest = (
        tuple(header.integers(f"{end} ring difference per segment", default=[0] if len(planes) == 1 else None))
        for end in ("minimum", "maximum")
    )
    if not len(lowest) == len(highest) == len(planes):
        raise header.fail(f"has {len(planes)} segments but {len(lowest)} ring differences; give one for each segment")
    scanner = find_scanner(header.text("originating system", ""))
    stored = Segments(planes, lowest, highest, header.integer("number of rings", _rings(planes, lowest, highest), 1))
    corrections = header.words("applied corrections", "arc correction")
    if "arc correction" in corrections or "arc corrected" in corrections:
        key = "effective central bin size (cm)"
        width = millimetres(header, key if key in header else "default bin size (cm)")
        if width <= 0:
            raise header.fail(f"'{key}' is {width / 10}; it must be positive")
        return ParallelBeam(views, bins, width), stored
    detectors = header.integer("number of detectors per ring", 2 * (scanner.views if scanner else views))
    if detectors != 2 * views:
        raise header.fail(f"has {views} views of {detectors} detectors, not arc-corrected; it must be unmashed")
    diameter = header.decimal("inner ring diameter (cm)", str(scanner.inner_radius_mm / 5) if scanner else None)
    depth = header.decimal("average depth of interaction (cm)", str(scanner.depth_mm / 10) if scanner else "0")
    radius = float((diameter / 2 + depth).scaleb(1))
    if radius <= 0 or bins >= 2 * views:
        raise header.fail(f"has {bins} bins on a ring of {detectors} detectors, {radius} mm in radius; that cannot be")
    block = header.integer(OWN + "block", scanner.block if scanner else 0, high=detectors)
    return RingBeam(views, bins, radius, block), stored


def _rings(planes: tuple[int, ...], lowest: tuple[int, ...], highest: tuple[int, ...]) -> int:
    """Rings of a scanner whose longest segment has so many planes."""
    k = planes.index(max(planes))
    near = 0 if lowest[k] <= 0 <= highest[k] else min(abs(lowest[k]), abs(highest[k]))
    return planes[k] + near if lowest[k] == highest[k] else (planes[k] + 1) // 2 + near


def axes(header: Header) -> dict[str, list[int]]:
    """Sizes by axis label; the axial one has a size for each segment."""
    dimensions = header.integer("number of dimensions", 4, 3, 5)
    sizes: dict[str, list[int]] = {}
    for k in range(1, dimensions + 1):
        label = " ".join(header.text(f"matrix axis label[{k}]").lower().split())
        sizes[label] = header.integers(f"matrix size[{k}]", 1, 2**24)
    missing = [label for label in INNER_AXES if label not in sizes]
    if missing or len(sizes) != dimensions:
        raise header.fail(f"has axes {', '.join(sizes)}; a sinogram needs {', '.join(INNER_AXES)} once each")
    if any(sizes.get(label, [1]) != [1] for label in ("timing positions", "timing position")):
        raise header.fail("holds time-of-flight bins; sum them first, data without time of flight are needed")
    if any(len(sizes[label]) != 1 for label in ("view", "tangential coordinate")):
        raise header.fail("has several sizes for views or bins; only the axial size may differ between segments")
    known = {*INNER_AXES, "segment", "timing positions", "timing position"}
    if set(sizes) - known:
        raise header.fail(f"has axes {', '.join(sizes)}; known are {', '.join(sorted(known))}")
    axial = sizes["axial coordinate"]
    if sizes.get("segment", [len(axial)]) != [len(axial)]:
        raise header.fail(f"has {sizes['segment'][0]} segments but {len(axial)} axial sizes; give one for each segment")
    if len(axial) > 1 and list(sizes).index("segment") < 3:
        raise header.fail("stores segments inside other axes; 'segment' must be the slowest axis but timing")
    return sizes


def sinogram_header(scan: Scan, n: int, data_name: str, own: dict[str, Any] | None = None, dtype: str = "<f4") -> str:
    """Text of the header of a scan whose ``n`` planes stand in ``data_name``.

    Parameters
    ----------
    own : more of our comment keys. dtype : little-endian type of the numbers in the file.
    """
    facts = {standard_key(key): value for key, value in scan.header.items()}
    scanner = find_scanner(str(scan.scanner or facts.get("originating system", "")))
    stored = segments_of(n, facts, scanner)
    if scanner is not None and (stored.rings, scan.geometry.views) != (scanner.rings, scanner.views):
        scanner = None  # its tables in STIR do not fit what is left
    parallel = isinstance(scan.geometry, ParallelBeam)
    lines = [
        *opening_lines(
            data_name,
            facts,
            scanner.name if scanner else UNKNOWN_SCANNER,
            "Emission",
            (APPLIED, _applied(facts.get(APPLIED), parallel)),
            dtype,
        ),
        *_matrix_lines(scan.geometry, stored),
        *_scanner_lines(scan, stored, scanner, facts.get("view offset (degrees)", 0)),
    ]
    notes = {
        "unit": scan.unit,
        "neighbours": None if scan.neighbours or n == 1 else "no",
        "counts per unit": _scale(scan.counts_per_unit),
        "dose fractions": _scale(scan.dose_fractions),
        "radial resolution (mm)": scan.fwhm_mm,
        "block": getattr(scan.geometry, "block", None),
    }
    return closing_text(scan, lines, KNOWN | {"planes per segment"}, notes | (own or {}))


def _applied(kept: Any, parallel: bool) -> str:
    """What was done to the data, as a list: what the header remembers, and whether bins are evenly spaced."""
    words = [*(["arc correction"] if parallel else []), *listed(str(kept or ""))]
    return "{" + ", ".join(words or ["None"]) + "}"


def _scale(value: float | torch.Tensor | None) -> float | str | None:
    """Counts per unit or dose fractions as text: one number, or one for each plane in braces."""
    if value is None or isinstance(value, float):
        return value
    return "{ " + ", ".join(repr(float(number)) for number in value) + " }"


def segments_of(n: int, facts: dict[str, Any], scanner: Scanner | None) -> Segments:
    """Segments to write: those the header remembers, all ring differences of a known scanner's direct planes, or one
    segment of ring difference 0."""
    try:
        planes, lowest, highest = (
            tuple(int(part) for part in str(facts[key]).strip("{} ").split(",")) for key in SEGMENTED[:3]
        )
        if sum(planes) == n and len(planes) == len(lowest) == len(highest):
            return Segments(planes, lowest, highest, int(facts[SEGMENTED[3]]))
    except (KeyError, ValueError):
        pass
    if scanner is not None and n == scanner.direct_planes:
        return Segments((n,), (-scanner.max_ring_difference,), (scanner.max_ring_difference,), scanner.rings)
    return Segments((n,), (0,), (0,), n)


def _matrix_lines(geometry: Geometry, stored: Segments) -> list[tuple[str, Any]]:
    lines: list[tuple[str, Any]] = [("number of dimensions", 4)]
    for k, (label, size) in {
        4: ("segment", len(stored.planes)),
        3: ("axial coordinate", _braces(stored.planes)),
        2: ("view", geometry.views),
        1: ("tangential coordinate", geometry.bins),
    }.items():
        lines += [(f"matrix axis label [{k}]", label), (f"!matrix size [{k}]", size)]
    return [
        *lines,
        ("minimum ring difference per segment", _braces(stored.lowest)),
        ("maximum ring difference per segment", _braces(stored.highest)),
    ]


def _braces(numbers: tuple[int, ...]) -> str:
    return "{ " + ",".join(map(str, numbers)) + " }"


def _scanner_lines(scan: Scan, stored: Segments, scanner: Scanner | None, turned: Any) -> list[tuple[str, Any]]:
    """Scanner parameters and bin size; a ring just outside the field of view where the scanner is unknown."""
    geometry = scan.geometry
    if isinstance(geometry, ParallelBeam):
        bin_mm, radius, depth = geometry.bin_mm, float(np.ceil(0.6 * geometry.fov_mm)), 0.0
    else:
        bin_mm, radius, depth = geometry.radius_mm * np.pi / geometry.crystals, geometry.radius_mm, 0.0
    if scanner is not None and (radius == scanner.beam.radius_mm or isinstance(geometry, ParallelBeam)):
        radius, depth = scanner.inner_radius_mm, scanner.depth_mm
    return [
        ("Scanner parameters", ""),
        ("Scanner type", scanner.name if scanner else UNKNOWN_SCANNER),
        ("Number of rings", stored.rings),
        ("Number of detectors per ring", 2 * geometry.views),
        ("Inner ring diameter (cm)", centimetres(2 * radius)),
        ("Average depth of interaction (cm)", centimetres(depth)),
        ("Distance between rings (cm)", centimetres(scan.plane_mm / stored.plane_spacing)),
        ("Default bin size (cm)", centimetres(bin_mm)),
        ("View offset (degrees)", turned),
        ("Maximum number of non-arc-corrected bins", geometry.bins),
        ("Default number of arc-corrected bins", geometry.bins),
        ("end scanner parameters", ""),
        ("effective central bin size (cm)", centimetres(bin_mm)),
    ]
