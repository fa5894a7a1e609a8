"""Hot, cold and necrotic foci in one plane: seeds, growth to a contrast-corrected share, and what describes them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from allpet.mask.body import Body, ball, local_mean

SHARE = 0.41
"""A hot focus ends at this share of the way from its surroundings up to its peak."""
COLD_SHARE = 0.5
"""A cold one at this share of the way down to its lowest."""
STRICTER = (0.0, 0.1, 0.2, 0.3)
"""What is added to the share where the growth leaks."""
SCALES_MM = (0.0, 5.0, 12.0)
"""Standard deviations of the smoothing in which seeds are looked for."""
NEAR_MM = 10.0
"""Standard deviation of the Gaussian that a seed must stand out against, on top of its own."""
SEEDS = 16
"""Most seeds of each scale in a plane."""
APART_MM = 8.0
"""Least distance of two seeds."""
LEAST_MM2 = 40.0
"""Smallest focus."""
MOST_OF_BODY = 0.6
"""Largest focus, as a share of the body in the plane: a whole brain above SUV 2.5 is none."""
LEAST_CONTRAST = 0.05
"""Least relative difference to the surroundings."""
RING_MM = (4.0, 14.0)
"""Surroundings: from and to this distance of a focus."""
RAYS = 16
REACH_MM = {0.0: 34.0, 6.0: 75.0}
"""Number of the rays that look for a rim about a cold centre, and their length by the smoothing of the plane."""
FIXED_SUV = 2.5


@dataclass(frozen=True)
class Focus:
    """A candidate.

    Parameters
    ----------
    kind : "hot", "cold" or "centre" (cold, within a hot rim). start : row and column of `mask`, bool. limit : value at
    which it ends. share : of the way from `beyond` to `peak` that this is, 0 for a fixed limit. peak : highest
    (lowest) value. mean : inside. beyond : median of the surroundings (centre: of the rim). outside : beyond the rim
    (centre only, else as `beyond`). z : of the mean against `beyond`. radius_mm : of a disk of the same area. compact :
    share of the smallest disk about its middle that it fills. ratio_mirror : of its mean to that of its mirror image
    in the midline. depth_mm : of its middle below the outline. closed : share of rays that meet a rim (centre only).
    """

    kind: str
    start: tuple[int, int]
    mask: np.ndarray
    limit: float
    share: float
    peak: float
    mean: float
    beyond: float
    outside: float
    z: float
    radius_mm: float
    compact: float
    ratio_mirror: float
    depth_mm: float
    closed: float = 0.0
    score: float = 0.0

    @property
    def box(self) -> tuple[slice, slice]:
        """Rows and columns of the mask."""
        (row, column), (height, width) = self.start, self.mask.shape
        return slice(row, row + height), slice(column, column + width)


def find_foci(body: Body, fixed: float | None) -> list[Focus]:
    """All candidates in a plane, of every kind, unranked; `fixed` is the value of SUV 2.5, None where not known."""
    base = body.plane
    if body.noise > 0.12:  # few counts: growth on a smoother plane
        base = ndimage.gaussian_filter(base, 3.0 / body.pixel_mm)
    mirrored = _mirror(base, body)
    found: list[Focus] = []
    for sign in (1, -1):
        for scale in SCALES_MM:
            smooth = ndimage.gaussian_filter(base, scale / body.pixel_mm) if scale else base
            taken = _taken(found, "hot" if sign > 0 else "cold", base.shape, 1.5 * scale) if 0 < scale < 6 else None
            for row, column in _seeds(smooth, body, sign, scale, taken):
                found += _grow(base, smooth, body, (row, column), sign, scale, mirrored)
    for scale, reach in REACH_MM.items():
        smooth = ndimage.gaussian_filter(base, scale / body.pixel_mm) if scale else base
        found += _centres(smooth, base, body, reach, mirrored)
    if fixed is not None:
        found += _above(base, body, fixed, mirrored)
    return found


def _mirror(base: np.ndarray, body: Body) -> np.ndarray:
    """The plane reflected in the body's midline and smoothed by 5 mm, 0 where nothing lies opposite."""
    columns = np.rint(2 * body.middle - np.arange(base.shape[1])).astype(int)
    inside = (columns >= 0) & (columns < base.shape[1])
    out = np.zeros_like(base)
    out[:, inside] = ndimage.gaussian_filter(base, 5.0 / body.pixel_mm)[:, columns[inside]]
    return out


def _taken(found: list[Focus], kind: str, shape: tuple[int, ...], least_mm: float) -> np.ndarray:
    """What foci of a kind cover, that are not much smaller than the scale, bool `shape`."""
    out = np.zeros(shape, bool)
    for focus in found:
        if focus.kind == kind and focus.radius_mm >= least_mm:
            out[focus.box] |= focus.mask
    return out


def _seeds(smooth: np.ndarray, body: Body, sign: int, scale: float, taken: np.ndarray | None) -> list[tuple[int, int]]:
    """Local extremes inside the body, the most prominent against the organ-scale background first."""
    size = 2 * max(round(APART_MM / body.pixel_mm / 2), 1) + 1
    extreme = ndimage.maximum_filter(smooth, size) if sign > 0 else ndimage.minimum_filter(smooth, size)
    least = 2.0 if sign > 0 else 10.0  # skin is no cold spot
    at = (smooth == extreme) & body.mask & (body.depth_mm > least)
    wide = local_mean(smooth, body.mask, (NEAR_MM + scale) / body.pixel_mm)
    rise = sign * (smooth - wide) / np.maximum(wide, 0.1 * body.level)
    at &= rise > LEAST_CONTRAST
    if taken is not None:
        at &= ~taken
    rows, columns = np.nonzero(at)
    order = np.argsort(-rise[rows, columns], kind="stable")[:SEEDS]
    return [(int(rows[k]), int(columns[k])) for k in order]


def _window(shape: tuple[int, ...], at: tuple[int, int], reach: int) -> tuple[slice, slice]:
    rows, columns = (slice(max(k - reach, 0), min(k + reach + 1, side)) for k, side in zip(at, shape, strict=True))
    return rows, columns


def _grow(
    base: np.ndarray,
    smooth: np.ndarray,
    body: Body,
    seed: tuple[int, int],
    sign: int,
    scale: float,
    mirrored: np.ndarray,
) -> list[Focus]:
    """A focus grown from a seed to a share of its contrast, and its holes; stricter where it leaks, none if it must."""
    pixel = body.pixel_mm
    reach = max(round((30 + 5 * scale) / pixel), 4)
    window = _window(base.shape, seed, reach)
    values, mask = (base if scale < 6 else smooth)[window], body.mask[window]
    middle = (seed[0] - window[0].start, seed[1] - window[1].start)
    near = _window(values.shape, middle, 1)
    peak = float(values[near].max() if sign > 0 else values[near].min())
    away = np.hypot(*(np.arange(n)[s] - m for n, m, s in zip(values.shape, middle, _AXES, strict=True))) * pixel
    ring = mask & (away > 10 + scale) & (away < 24 + 2 * scale)
    if not ring.any():
        return []
    beyond = float(np.median(values[ring]))
    grown, limit, share = None, 0.0, 0.0
    for more in STRICTER:
        share = (SHARE if sign > 0 else COLD_SHARE) + more
        grown = None
        for _ in range(2):
            if not sign * (peak - beyond) > LEAST_CONTRAST * max(beyond, 0.1 * body.level):
                return []
            limit = beyond + share * (peak - beyond)
            parts, _ = ndimage.label((sign * (values - limit) >= 0) & mask)
            label = parts[near].max() if parts[middle] == 0 else parts[middle]
            grown = parts == label
            if label == 0 or _touches(grown, window, base.shape):
                grown = None
                break
            surroundings = _ring(grown, mask, pixel)
            if surroundings is None:
                grown = None
                break
            beyond = float(np.median(values[surroundings]))
        if grown is not None:
            break
    if grown is None:
        return []
    filled = ndimage.binary_fill_holes(grown)
    found = [_described("hot" if sign > 0 else "cold", filled, window, base, body, limit, share, beyond, mirrored)]
    if sign > 0:
        found += _holes(grown, filled, window, base, body, limit, beyond, mirrored)
    return [focus for focus in found if focus is not None]


def _holes(
    grown: np.ndarray,
    filled: np.ndarray,
    window: tuple[slice, slice],
    base: np.ndarray,
    body: Body,
    limit: float,
    beyond: float,
    mirrored: np.ndarray,
) -> list[Focus | None]:
    """Holes of a hot focus as cold centres."""
    parts, count = ndimage.label(filled & ~grown)
    found = []
    for number in range(1, count + 1):
        hole = parts == number
        if hole.sum() * body.pixel_mm**2 < LEAST_MM2:
            continue
        values = base[window]
        near = ndimage.binary_dilation(hole, ball(max(round(8 / body.pixel_mm), 1))) & grown
        rim, low = float(np.median(values[near])), float(values[hole].min())
        share = (rim - limit) / max(rim - low, 1e-12)
        found.append(_described("centre", hole, window, base, body, limit, share, rim, mirrored, beyond, 1.0))
    return found


_AXES = (np.s_[:, None], np.s_[None, :])


def _touches(grown: np.ndarray, window: tuple[slice, slice], shape: tuple[int, ...]) -> bool:
    """Does it reach the window's border, other than that of the image?"""
    (rows, columns), (height, width) = window, shape
    return bool(
        (rows.start > 0 and grown[0].any())
        or (rows.stop < height and grown[-1].any())
        or (columns.start > 0 and grown[:, 0].any())
        or (columns.stop < width and grown[:, -1].any())
    )


def _ring(grown: np.ndarray, mask: np.ndarray, pixel: float) -> np.ndarray | None:
    """The surroundings within the body; None where there are next to none."""
    inner, outer = max(round(RING_MM[0] / pixel), 1), max(round(RING_MM[1] / pixel), 2)
    rows, columns = np.nonzero(grown)
    box = (
        slice(max(int(rows.min()) - outer, 0), int(rows.max()) + outer + 1),
        slice(max(int(columns.min()) - outer, 0), int(columns.max()) + outer + 1),
    )
    far = ndimage.distance_transform_edt(~grown[box])
    ring = np.zeros_like(mask)
    ring[box] = (far > inner) & (far <= outer) & mask[box]
    return ring if ring.sum() >= 8 else None


def _described(
    kind: str,
    grown: np.ndarray,
    window: tuple[slice, slice],
    base: np.ndarray,
    body: Body,
    limit: float,
    share: float,
    beyond: float,
    mirrored: np.ndarray,
    outside: float | None = None,
    closed: float = 0.0,
) -> Focus | None:
    """What describes a mask in a window; None where it is too small or too large."""
    pixel = body.pixel_mm
    area = float(grown.sum()) * pixel**2
    if area < LEAST_MM2 or grown.sum() > MOST_OF_BODY * body.mask.sum():
        return None
    rows, columns = np.nonzero(grown)
    top, left = int(rows.min()), int(columns.min())
    mask = grown[top : rows.max() + 1, left : columns.max() + 1]
    start = (window[0].start + top, window[1].start + left)
    box = (slice(start[0], start[0] + mask.shape[0]), slice(start[1], start[1] + mask.shape[1]))
    inside = base[box][mask]
    mean = float(inside.mean())
    peak = float(inside.max() if kind == "hot" else inside.min())
    spread = body.noise * max(beyond, 0.1 * body.level)
    middle_row, middle_column = float(rows.mean()), float(columns.mean())
    reach = np.hypot(rows - middle_row, columns - middle_column).max() + 0.5
    other = float(mirrored[box][mask].mean())
    small = 0.05 * body.level
    at = (window[0].start + round(middle_row), window[1].start + round(middle_column))
    return Focus(
        kind=kind,
        start=start,
        mask=mask,
        limit=limit,
        share=share,
        peak=peak,
        mean=mean,
        beyond=beyond,
        outside=beyond if outside is None else outside,
        z=(mean - beyond) / max(spread, 1e-12),
        radius_mm=math.sqrt(area / math.pi),
        compact=float(min(len(rows) / (math.pi * reach**2), 1.0)),
        ratio_mirror=(mean + small) / (other + small),
        depth_mm=float(body.depth_mm[at]),
        closed=closed,
    )


def _above(base: np.ndarray, body: Body, fixed: float, mirrored: np.ndarray) -> list[Focus]:
    """Components above a fixed value."""
    parts, count = ndimage.label((base >= fixed) & body.mask)
    found = []
    whole = (slice(0, base.shape[0]), slice(0, base.shape[1]))
    for number, box in enumerate(ndimage.find_objects(parts, count), 1):
        if box is None or (parts[box] == number).sum() * body.pixel_mm**2 < LEAST_MM2:
            continue
        margin = round(RING_MM[1] / body.pixel_mm) + 1
        window = tuple(
            slice(max(s.start - margin, 0), min(s.stop + margin, w.stop)) for s, w in zip(box, whole, strict=True)
        )
        grown = ndimage.binary_fill_holes(parts[window] == number)
        ring = _ring(grown, body.mask[window], body.pixel_mm)
        if ring is None:
            continue
        beyond = float(np.median(base[window][ring]))
        focus = _described("hot", grown, (window[0], window[1]), base, body, fixed, 0.0, beyond, mirrored)
        if focus is not None:
            found.append(focus)
    return found


def _centres(smooth: np.ndarray, base: np.ndarray, body: Body, reach_mm: float, mirrored: np.ndarray) -> list[Focus]:
    """Cold centres within hot rims: minima from which most rays climb to a rim and come down again behind it."""
    pixel = body.pixel_mm
    size = 2 * max(round(APART_MM / pixel / 2), 1) + 1
    lowest = (smooth == ndimage.minimum_filter(smooth, size)) & body.mask & (body.depth_mm > 8)
    rows, columns = np.nonzero(lowest)
    if len(rows) == 0:
        return []
    steps = np.arange(max(round(reach_mm / pixel), 3) + 1)
    angles = np.arange(RAYS) * (2 * np.pi / RAYS)
    across = np.cos(angles)[:, None] * steps
    down = np.sin(angles)[:, None] * steps
    points = np.stack([rows[:, None, None] + down, columns[:, None, None] + across])
    rays = ndimage.map_coordinates(smooth, points, order=1, mode="nearest")  # (seed, ray, step)
    reach = max(round(0.7 * reach_mm / pixel), 2)
    top, where = rays[..., :reach].max(axis=2), rays[..., :reach].argmax(axis=2)
    back = np.clip(where + max(round(10.0 / pixel), 1), 0, steps[-1])
    behind = np.take_along_axis(rays, back[..., None], axis=2)[..., 0]
    centre = smooth[rows, columns]
    rim = np.percentile(top, 30, axis=1)
    outside = np.median(behind, axis=1)
    small = 0.05 * body.level
    good = (rim > 1.12 * (centre + small)) & (rim > 1.25 * outside)
    order = np.argsort(-(rim / (centre + small))[good], kind="stable")[:SEEDS]
    found = []
    for k in np.flatnonzero(good)[order]:
        closed = float(((top[k] > 1.1 * centre[k]) & (top[k] > 1.1 * behind[k]) & (where[k] > 0)).mean())
        seed = (int(rows[k]), int(columns[k]))
        window = _window(base.shape, seed, int(steps[-1]))
        limit = float(centre[k] + (1 - COLD_SHARE) * (rim[k] - centre[k]))
        inner = _polygon(smooth[window].shape, seed, window, where[k])
        parts, _ = ndimage.label((smooth[window] <= limit) & inner)
        label = parts[seed[0] - window[0].start, seed[1] - window[1].start]
        if closed < 0.6 or label == 0:
            continue
        grown = ndimage.binary_fill_holes(parts == label)
        focus = _described(
            "centre", grown, window, base, body, limit, COLD_SHARE, float(rim[k]), mirrored, float(outside[k]), closed
        )
        if focus is not None:
            found.append(focus)
    return found


def _polygon(
    shape: tuple[int, ...], seed: tuple[int, int], window: tuple[slice, slice], where: np.ndarray
) -> np.ndarray:
    """Pixels nearer to the seed than the rim is in their direction, bool `shape`."""
    down = np.arange(shape[0])[:, None] - (seed[0] - window[0].start)
    across = np.arange(shape[1])[None, :] - (seed[1] - window[1].start)
    turn = np.mod(np.arctan2(down, across), 2 * np.pi) / (2 * np.pi) * RAYS
    first = np.floor(turn).astype(int) % RAYS
    part = turn - np.floor(turn)
    rim = (1 - part) * where[first] + part * where[(first + 1) % RAYS]
    return np.asarray(np.hypot(down, across) <= rim)


def without(focus: Focus, centre: Focus) -> Focus:
    """A hot focus less the cold centre in it."""
    mask = focus.mask.copy()
    rows, columns = (
        slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(focus.box, centre.box, strict=True)
    )
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return focus
    part = centre.mask[
        rows.start - centre.start[0] : rows.stop - centre.start[0],
        columns.start - centre.start[1] : columns.stop - centre.start[1],
    ]
    at = (
        slice(rows.start - focus.start[0], rows.stop - focus.start[0]),
        slice(columns.start - focus.start[1], columns.stop - focus.start[1]),
    )
    mask[at] &= ~part
    return replace(focus, mask=mask) if mask.any() else focus
