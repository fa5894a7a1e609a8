"""The Monte Carlo reference of the benchmarks, for the tests of scatter and of randoms."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType


def reference() -> ModuleType:
    """The Monte Carlo of the benchmarks."""
    path = Path(__file__).parents[1] / "benchmarks" / "scatter_reference.py"
    spec = importlib.util.spec_from_file_location("scatter_reference", path)
    assert spec is not None and spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    sys.modules["scatter_reference"] = loaded
    spec.loader.exec_module(loaded)
    return loaded
