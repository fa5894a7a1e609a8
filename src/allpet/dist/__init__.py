"""Past one machine: pieces of work whose results are kept, and blocks of samples, over Dask where one is named."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

_LAZY = {"Piece": "allpet.dist.pieces", "run_pieces": "allpet.dist.pieces"}

if TYPE_CHECKING:
    from allpet.dist.pieces import Piece, run_pieces

__all__ = ["Piece", "run_pieces"]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'allpet.dist' has no attribute {name!r}")
