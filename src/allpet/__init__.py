"""allpet: a small foundation model for positron emission tomography in the projection domain."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_LAZY = {
    "Scan": "allpet.scan",
    "Image": "allpet.scan",
    "read": "allpet.io",
    "write": "allpet.io",
    "simulate": "allpet.scan.simulate",
    "AllPET": "allpet.model",
    "AllpetError": "allpet.errors",
}

if TYPE_CHECKING:
    from allpet.errors import AllpetError
    from allpet.io import read, write
    from allpet.model import AllPET
    from allpet.scan import Image, Scan
    from allpet.scan.simulate import simulate

__all__ = ["AllPET", "AllpetError", "Image", "Scan", "__version__", "read", "simulate", "write"]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'allpet' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
