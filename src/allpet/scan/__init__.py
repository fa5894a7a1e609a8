"""Scans: what a scanner measures, simulated people to measure, and their tracers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from allpet.scan.units import ACTIVITY, ACTIVITY_MM, COUNTS, HU, MU

if TYPE_CHECKING:
    from allpet.scan.core import Image, Scan

__all__ = ["ACTIVITY", "ACTIVITY_MM", "COUNTS", "HU", "MU", "Image", "Scan"]


def __getattr__(name: str) -> Any:
    if name in ("Image", "Scan"):  # only then is torch loaded: the simulator's workers do without
        from allpet.scan import core

        return getattr(core, name)
    raise AttributeError(f"module 'allpet.scan' has no attribute {name!r}")
