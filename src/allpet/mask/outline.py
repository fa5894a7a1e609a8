"""Regions that a person draws: ellipses, rectangles, polygons and pen strokes in mm, and growing from a point.

Every outline covers a voxel by the share of it that lies inside, from :data:`FINE` times :data:`FINE` points.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from allpet.errors import AllpetError
from allpet.geometry import ImageGrid

FINE = 4
"""Points along each side of a pixel."""
LARGEST_MM = 5000.0
MAX_POINTS = 10_000
SHAPES = ("ellipse", "rectangle", "polygon", "pen")


def draw(shape: dict[str, Any], grid: ImageGrid) -> np.ndarray:
    """Share of every pixel that a shape covers, float32 ``(n, n)`` in [0, 1].

    Parameters
    ----------
    shape : ``type`` is a name of :data:`SHAPES`. ellipse, rectangle: ``centre_mm`` (x, y), ``axes_mm`` (half-widths),
        ``angle_deg`` (from x towards y, default 0). polygon: ``points_mm`` (x, y)... . pen: ``points_mm``, a line, and
        ``width_mm``. Axes are those of :class:`ImageGrid`: x to the patient's left, y anterior.

    Raises
    ------
    AllpetError : an unknown type, a number missing, not finite or out of range.
    """
    kind = shape.get("type")
    if kind not in SHAPES:
        raise AllpetError(f"shape '{kind}' is unknown; known: {', '.join(SHAPES)}")
    if kind in ("ellipse", "rectangle"):
        (cx, cy), (a, b) = (_numbers(shape, name, 2) for name in ("centre_mm", "axes_mm"))
        if not (a > 0 and b > 0):
            raise AllpetError(f"{kind}: axes_mm is {[a, b]}; both half-widths must be above 0")
        angle = math.radians(_number(shape, "angle_deg", 0.0))
        reach = math.hypot(a, b)
        corners = [(cx - reach, cy - reach), (cx + reach, cy + reach)]
    else:
        points = _points(shape, 3 if kind == "polygon" else 1)
        width = _number(shape, "width_mm") if kind == "pen" else 0.0
        if kind == "pen" and not width > 0:
            raise AllpetError(f"pen: width_mm is {width}; it must be above 0")
        corners = [tuple(points.min(axis=0) - width), tuple(points.max(axis=0) + width)]
    out = np.zeros(grid.shape, np.float32)
    rows, columns = _window(grid, corners)
    if rows.stop <= rows.start or columns.stop <= columns.start:
        return out
    fine = ((np.arange(FINE) + 0.5) / FINE - 0.5) * grid.pixel_mm
    x = (grid.x[columns][:, None] + fine).ravel()[None, :]
    y = (grid.y[rows][:, None] - fine).ravel()[:, None]
    if kind == "polygon":
        inside = _in_polygon(points, x, y)
    elif kind == "pen":
        inside = _near(points, x, y) <= width / 2
    else:
        u = ((x - cx) * math.cos(angle) + (y - cy) * math.sin(angle)) / a
        v = ((y - cy) * math.cos(angle) - (x - cx) * math.sin(angle)) / b
        inside = u**2 + v**2 <= 1 if kind == "ellipse" else np.maximum(np.abs(u), np.abs(v)) <= 1
    height, wide = rows.stop - rows.start, columns.stop - columns.start
    out[rows, columns] = inside.reshape(height, FINE, wide, FINE).mean(axis=(1, 3), dtype=np.float32)
    return out


def grow(planes: np.ndarray, seed: tuple[int, int, int], share: float = 0.41) -> np.ndarray:
    """All voxels joined to a seed with at least a share of the highest value near it, bool as `planes`.

    The seed climbs to the highest voxel within two pixels; what is grown ends where values fall below `share` of it.

    Parameters
    ----------
    planes : ``(plane, row, column)``. seed : plane, row, column. share : in (0, 1); 41 % is usual for uptake.

    Raises
    ------
    AllpetError : a seed outside of the image or where nothing is, a share out of range.
    """
    from scipy import ndimage

    if not 0 < share < 1:
        raise AllpetError(f"share is {share}; it must lie between 0 and 1")
    if any(not 0 <= k < side for k, side in zip(seed, planes.shape, strict=True)):
        raise AllpetError(f"seed {seed} lies outside of the image, which has {planes.shape} voxels")
    near = tuple(slice(max(k - 2, 0), k + 3) for k in seed[1:])
    peak = float(planes[seed[0]][near].max())
    if not peak > 0:
        raise AllpetError("nothing to grow from: there is no uptake at this point")
    parts, _ = ndimage.label(planes >= share * peak)
    around = parts[seed[0]][near]
    label = int(around.ravel()[int(planes[seed[0]][near].argmax())])
    return np.asarray(parts == label)


def _window(grid: ImageGrid, corners: Sequence[Any]) -> tuple[slice, slice]:
    """Rows and columns that a box in mm touches."""
    (left, low), (right, high) = corners
    half = (grid.size - 1) / 2

    def span(first: float, last: float) -> slice:
        start = min(max(math.floor(first / grid.pixel_mm + half), 0), grid.size)
        return slice(start, min(max(math.ceil(last / grid.pixel_mm + half) + 1, start), grid.size))

    return span(-high, -low), span(left, right)


def _in_polygon(points: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Even-odd rule."""
    inside = np.zeros((y.size, x.size), bool)
    for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
        if y0 == y1:
            continue
        crossed = (y0 <= y) != (y1 <= y)
        inside ^= crossed & (x < x0 + (y - y0) * (x1 - x0) / (y1 - y0))
    return inside


def _near(points: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Distance to a line through points, in mm."""
    found = np.full((y.size, x.size), np.inf)
    ends = points[1:] if len(points) > 1 else points
    for (x0, y0), (x1, y1) in zip(points, ends, strict=False):
        dx, dy = x1 - x0, y1 - y0
        length = dx**2 + dy**2
        t = np.clip(((x - x0) * dx + (y - y0) * dy) / length, 0, 1) if length > 0 else 0.0
        found = np.minimum(found, np.hypot(x - x0 - t * dx, y - y0 - t * dy))
    return found


def _number(shape: dict[str, Any], name: str, default: float | None = None) -> float:
    value = shape.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= LARGEST_MM:
        raise AllpetError(f"{shape.get('type')}: {name} is {value!r}; it must be a number, at most {LARGEST_MM:g}")
    return float(value)


def _numbers(shape: dict[str, Any], name: str, count: int) -> list[float]:
    value = shape.get(name)
    if not isinstance(value, list | tuple) or len(value) != count:
        raise AllpetError(f"{shape.get('type')}: {name} is {_short(value)}; it must be {count} numbers")
    return [_number({name: item, "type": shape.get("type")}, name) for item in value]


def _points(shape: dict[str, Any], least: int) -> np.ndarray:
    value = shape.get("points_mm")
    if not isinstance(value, list | tuple) or not least <= len(value) <= MAX_POINTS:
        raise AllpetError(
            f"{shape.get('type')}: points_mm is {_short(value)}; it must be {least} to {MAX_POINTS} pairs of numbers"
        )
    return np.array([_numbers({"type": shape.get("type"), "points_mm": item}, "points_mm", 2) for item in value])


def _short(value: Any) -> str:
    return f"a list of {len(value)}" if isinstance(value, list | tuple) else repr(value)[:40]
