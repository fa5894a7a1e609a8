"""Regions of an image that somebody or something points at: weights in a box, with a name and a strength."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from allpet.errors import AllpetError
from allpet.geometry import ImageGrid

KINDS = ("hot", "cold", "roi")
FULL = 255
"""Level that stands for a weight of 1."""
FINE = 3
"""Points along each side of a pixel at which a region on another grid is looked up."""
COMBINE: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "union": np.maximum,
    "intersection": np.minimum,
    "difference": lambda one, other: np.minimum(one, 1 - other),
}
"""What becomes of two regions' weights."""
STRONGEST = 100.0
"""Largest strength."""


@dataclass(frozen=True, eq=False)
class Region:
    """Weights in [0, 1] over the voxels of an image, 0 outside of a box.

    Parameters
    ----------
    name : for people. start : plane, row and column at which the box begins. levels : uint8 ``(plane, row, column)``,
    the weights times 255. kind : "hot", "cold" or "roi". strength : of the attention, above -1 (see
    :func:`allpet.mask.attention`). why : how the region came about, in a sentence. score : by which suggestions are
    ranked, the larger the surer; 0 for what a person drew.

    Raises
    ------
    AllpetError : an unknown kind, a strength out of range, a region without a voxel.
    """

    name: str
    start: tuple[int, int, int]
    levels: np.ndarray
    kind: str = "roi"
    strength: float = 1.0
    why: str = ""
    score: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise AllpetError(f"region '{self.name}': kind '{self.kind}' is unknown; known: {', '.join(KINDS)}")
        check_strength(self.strength, f"region '{self.name}': ")
        if self.levels.ndim != 3 or self.levels.dtype != np.uint8 or not self.levels.any():
            raise AllpetError(f"region '{self.name}': covers no voxel of the image")
        if min(self.start) < 0:
            raise AllpetError(f"region '{self.name}': begins at {self.start}, outside of the image")

    @classmethod
    def from_mask(cls, name: str, mask: Any, **known: Any) -> Region:
        """A region from weights of a whole image, bool or in [0, 1], ``(plane, row, column)`` or a single plane.

        Raises
        ------
        AllpetError : values outside [0, 1], no voxel, and as :class:`Region`.
        """
        values = np.asarray(mask)
        values = values[None] if values.ndim == 2 else values
        if values.ndim != 3:
            raise AllpetError(f"region '{name}': has shape {values.shape}; it must be (plane, row, column)")
        if values.dtype != bool and not bool(((values >= 0) & (values <= 1)).all()):
            raise AllpetError(f"region '{name}': has values outside [0, 1]")
        levels = np.rint(values.astype(np.float32) * FULL).astype(np.uint8)
        if not levels.any():
            raise AllpetError(f"region '{name}': covers no voxel of the image")
        others = ((1, 2), (0, 2), (0, 1))
        box = tuple(_extent(np.asarray(levels.any(axis=axes))) for axes in others)
        start = (box[0].start, box[1].start, box[2].start)
        return cls(name, start, np.ascontiguousarray(levels[box]), **known)

    @property
    def box(self) -> tuple[slice, slice, slice]:
        """Planes, rows and columns of the box."""
        first, second, third = (slice(k, k + n) for k, n in zip(self.start, self.levels.shape, strict=True))
        return first, second, third

    @property
    def planes(self) -> range:
        """Planes that the box covers."""
        return range(self.start[0], self.start[0] + len(self.levels))

    @property
    def weights(self) -> np.ndarray:
        """Weights in the box, float32."""
        return self.levels.astype(np.float32) / FULL

    @property
    def voxels(self) -> float:
        """Sum of the weights."""
        return float(self.levels.sum(dtype=np.int64)) / FULL

    @property
    def hash(self) -> str:
        """16 hex digits that change with the voxels covered, their weights, kind and strength; not with the name."""
        text = f"{self.start} {self.levels.shape} {self.kind} {self.strength!r} "
        return hashlib.sha256(text.encode() + self.levels.tobytes()).hexdigest()[:16]

    def on(self, shape: Sequence[int]) -> np.ndarray:
        """Weights over a whole image, float32 `shape`.

        Raises
        ------
        AllpetError : the box lies outside of such an image.
        """
        self.check(shape)
        out = np.zeros(tuple(shape), np.float32)
        out[self.box] = self.weights
        return out

    def plane(self, number: int, shape: Sequence[int]) -> np.ndarray:
        """Weights over one plane of the image, float32 ``(row, column)``."""
        out = np.zeros(tuple(shape)[-2:], np.float32)
        if number in self.planes:
            out[self.box[1:]] = self.levels[number - self.start[0]].astype(np.float32) / FULL
        return out

    def check(self, shape: Sequence[int]) -> None:
        """Refuse an image that the box does not fit in."""
        if any(part.stop > side for part, side in zip(self.box, shape, strict=True)):
            raise AllpetError(
                f"region '{self.name}': reaches to {tuple(k.stop for k in self.box)}; the image has {tuple(shape)}"
            )

    def regridded(self, own: ImageGrid, other: ImageGrid) -> Region | None:
        """The region, drawn on planes of one grid, on those of another with the same centre; None where nothing of it
        lies there."""
        if own == other:
            return self
        if own.pixel_mm > other.pixel_mm:
            return self._finer(own, other)
        fine = ((np.arange(FINE) + 0.5) / FINE - 0.5) * other.pixel_mm
        at = np.rint((other.x[:, None] + fine).ravel() / own.pixel_mm + (own.size - 1) / 2).astype(int)
        rows, columns = (at - first for first in self.start[1:])
        padded = np.pad(self.levels.astype(np.float32) / FULL, ((0, 0), (0, 1), (0, 1)))
        inside = [
            np.where((k >= 0) & (k < n), k, -1) for k, n in zip((rows, columns), self.levels.shape[1:], strict=True)
        ]
        points = padded[:, inside[0]][:, :, inside[1]]
        mean = points.reshape(len(padded), other.size, FINE, other.size, FINE).mean(axis=(2, 4))
        if not np.rint(mean * FULL).any():
            return None
        new = Region.from_mask(self.name, mean.clip(0, 1))
        return replace(self, start=(self.start[0] + new.start[0], *new.start[1:]), levels=new.levels)

    def _finer(self, own: ImageGrid, other: ImageGrid) -> Region | None:
        """On a finer grid: interpolated linearly, so that edges do not follow the coarser pixels."""
        from scipy.ndimage import map_coordinates

        at = other.x / own.pixel_mm + (own.size - 1) / 2
        where = np.meshgrid(at - self.start[1], at - self.start[2], indexing="ij")
        planes = [map_coordinates(plane, where, order=1, mode="constant", cval=0.0) for plane in self.weights]
        mask = np.stack(planes).clip(0, 1)
        if not np.rint(mask * FULL).any():
            return None
        new = Region.from_mask(self.name, mask)
        return replace(self, start=(self.start[0] + new.start[0], *new.start[1:]), levels=new.levels)

    def only(self, some: range) -> Region | None:
        """The part on some planes, numbered from the first of them; None where there is nothing."""
        low, high = max(self.planes.start, some.start), min(self.planes.stop, some.stop)
        if low >= high:
            return None
        levels = self.levels[low - self.start[0] : high - self.start[0]]
        if not levels.any():
            return None
        return replace(self, start=(low - some.start, *self.start[1:]), levels=levels)


def _extent(used: np.ndarray) -> slice:
    where = np.flatnonzero(used)
    return slice(int(where[0]), int(where[-1]) + 1)


def planes_words(first: int, last: int) -> str:
    """Planes as people count them, from 1: "plane 3", "planes 2 to 5"."""
    return f"plane {first + 1}" if first == last else f"planes {first + 1} to {last + 1}"


def check_strength(strength: float, where: str = "") -> None:
    """Refuse a strength that could not be undone, or that is no number."""
    if not -1 < strength <= STRONGEST:
        raise AllpetError(
            f"{where}strength is {strength}; it must be above -1, or the emphasis cannot be undone, and at most "
            f"{STRONGEST:g}"
        )


def union(name: str, regions: Sequence[Region], shape: Sequence[int], **known: Any) -> Region:
    """All that any of the regions covers: the largest weight. Kind and strength are the first one's by default."""
    return _combined(name, regions, shape, "union", known)


def intersection(name: str, regions: Sequence[Region], shape: Sequence[int], **known: Any) -> Region:
    """What all of the regions cover: the smallest weight. Kind and strength are the first one's by default.

    Raises
    ------
    AllpetError : they have no voxel in common.
    """
    return _combined(name, regions, shape, "intersection", known)


def difference(name: str, regions: Sequence[Region], shape: Sequence[int], **known: Any) -> Region:
    """The first region without the others. Kind and strength are the first one's by default.

    Raises
    ------
    AllpetError : nothing is left.
    """
    return _combined(name, regions, shape, "difference", known)


def _combined(name: str, regions: Sequence[Region], shape: Sequence[int], how: str, known: dict[str, Any]) -> Region:
    if not regions:
        raise AllpetError(f"region '{name}': is made of no regions; at least one is needed")
    total = regions[0].on(shape)
    for region in regions[1:]:
        total = COMBINE[how](total, region.on(shape))
    first = regions[0]
    return Region.from_mask(name, total, **{"kind": first.kind, "strength": first.strength} | known)


def label_map(regions: Sequence[Region], shape: Sequence[int]) -> np.ndarray:
    """Region k as value k + 1 where its weight is at least a half, uint16 `shape`; a later one covers an earlier."""
    out = np.zeros(tuple(shape), np.uint16)
    for number, region in enumerate(regions, 1):
        region.check(shape)
        out[region.box][region.levels > FULL // 2] = number
    return out
