"""Attention that follows edits at once: what regions mark on a scan's lines is kept, strengths are applied anew."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from allpet.geometry import Geometry
from allpet.mask.attention import Lines
from allpet.ui.item import Item

MAX_BYTES = 1 << 27
"""Most that is kept for a scan."""
MAX_EXTREMES = 1 << 12


@dataclass(frozen=True)
class Share:
    """``A m / max(A m)`` of a region; planes that are alike stand in it once, `index` says which one each is."""

    planes: torch.Tensor
    index: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Of the planes."""
        return self.planes.numel() * self.planes.element_size()


class Shares:
    """What regions mark on a scan's lines, the latest used ones kept; safe for several threads.

    The weights are those of :func:`allpet.mask.attention_of`: shares are of the maximum over all planes.
    """

    def __init__(self, geometry: Geometry, max_bytes: int = MAX_BYTES) -> None:
        self.lines = Lines(geometry)
        self.shape = geometry.shape
        self.max_bytes = max_bytes
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, Share] = OrderedDict()
        self._bytes = 0
        self._extremes: OrderedDict[tuple[tuple[str, int, float], ...], tuple[float, float]] = OrderedDict()

    def of(self, item: Item) -> Share:
        """The share of a region, whatever its strength."""
        with self._lock:
            if item.key in self._kept:
                self._kept.move_to_end(item.key)
                return self._kept[item.key]
        share = self._made(item)
        with self._lock:
            if item.key not in self._kept:
                self._kept[item.key] = share
                self._bytes += share.nbytes
            while self._bytes > self.max_bytes and len(self._kept) > 1:
                self._bytes -= self._kept.popitem(last=False)[1].nbytes
        return share

    def _made(self, item: Item) -> Share:
        region, known = item.region, dict[bytes, int]()
        index = tuple(known.setdefault(plane.tobytes(), len(known)) for plane in region.levels)
        first = [index.index(number) for number in range(len(known))]
        once = replace(region, start=(0, *region.start[1:]), levels=np.ascontiguousarray(region.levels[first]))
        return Share(self.lines.share(once), index)

    def plane(self, items: Sequence[Item], number: int) -> torch.Tensor:
        """Weights W of one plane, float32 ``(view, radial)``."""
        weights = torch.ones(self.shape)
        for item in items:
            if number in item.region.planes:
                share = self.of(item)
                weights += item.region.strength * share.planes[share.index[number - item.region.start[0]]]
        return weights

    def extremes(self, items: Sequence[Item], planes: int) -> tuple[float, float]:
        """Smallest and largest weight of all planes."""
        shares = [(item, self.of(item)) for item in items]
        least, most = [], []
        for number in range(planes):
            found = [
                (item, share, share.index[number - item.region.start[0]])
                for item, share in shares
                if number in item.region.planes
            ]
            low, high = self._extremes_of(found) if found else (1.0, 1.0)
            least.append(low)
            most.append(high)
        return min(least, default=1.0), max(most, default=1.0)

    def _extremes_of(self, found: Sequence[tuple[Item, Share, int]]) -> tuple[float, float]:
        key = tuple((item.key, index, item.region.strength) for item, _, index in found)
        with self._lock:
            if key in self._extremes:
                self._extremes.move_to_end(key)
                return self._extremes[key]
        weights = torch.ones(self.shape)
        for item, share, index in found:
            weights += item.region.strength * share.planes[index]
        low, high = torch.aminmax(weights)
        with self._lock:
            self._extremes[key] = float(low), float(high)
            while len(self._extremes) > MAX_EXTREMES:
                self._extremes.popitem(last=False)
        return float(low), float(high)
