"""A region as a session holds it: with an id, where it came from, and fingerprints that are made once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from allpet.mask.region import Region

SOURCES = ("suggested", "drawn", "grown", "preset", "file", "combined")


@dataclass(frozen=True, eq=False)
class Item:
    """Parameters
    ----------
    id : within the session. source : one of :data:`SOURCES`. origin : id of the suggestion it came from.
    """

    id: str
    region: Region
    source: str
    origin: str | None = None

    @cached_property
    def key(self) -> str:
        """Changes with the weights alone, not with strength, kind or name."""
        region = self.region
        return hashlib.sha256(f"{region.start} {region.levels.shape} ".encode() + region.levels.tobytes()).hexdigest()

    @cached_property
    def hash(self) -> str:
        """See :attr:`Region.hash`."""
        return self.region.hash


@dataclass(frozen=True, eq=False)
class Snapshot:
    """The regions at one time, and the ids of suggestions that were dismissed; never changed."""

    items: tuple[Item, ...] = ()
    dismissed: frozenset[str] = frozenset()

    @property
    def regions(self) -> tuple[Region, ...]:
        """Without ids."""
        return tuple(item.region for item in self.items)

    def taken(self) -> frozenset[str]:
        """Ids of suggestions that are not offered: dismissed, or there as a region."""
        return self.dismissed | {item.origin for item in self.items if item.origin}

    def offered(self, suggestions: Sequence[Item]) -> list[Item]:
        """Suggestions that were neither accepted nor dismissed."""
        taken = self.taken()
        return [item for item in suggestions if item.id not in taken]
