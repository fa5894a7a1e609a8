"""The benchmark of workers runs, and its cost model is the one that it says."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "bench_workers.py"


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_workers", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench_workers"] = module  # for its dataclass
    spec.loader.exec_module(module)
    return module


def test_the_cost_model(bench: ModuleType) -> None:
    runs = [{"workers": w, "n": n, "seconds": 3 + 0.25 * n / w} for w in (1, 2) for n in (40, 160)]
    fit = bench.fitted(runs)
    assert fit == pytest.approx({"fixed_s": 3.0, "per_sample_s": 0.25, "worst_relative_error": 0.0}, abs=1e-9)
    far = bench.million(fit, 60_000)
    assert far["core_hours"] == pytest.approx(1e6 * 0.25 / 3600) and far["store_gb"] == pytest.approx(60)
    assert far["hours_by_workers"]["16"] == pytest.approx((3 + 1e6 * 0.25 / 16) / 3600)
    none = bench.fitted([{"workers": w, "n": 100, "seconds": 30 / w - 1} for w in (1, 2)])
    assert none["fixed_s"] == 0 and none["per_sample_s"] > 0  # never a negative time


def test_it_runs(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    command = [sys.executable, str(SCRIPT), "--json", str(tmp_path / "workers.json"), "--quick", "--only", "simulate"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment)
    assert done.returncode == 0, done.stderr
    kept = json.loads((tmp_path / "workers.json").read_text())
    assert list(kept["commands"]) == ["simulate"] and kept["quick"]
    for facts in kept["commands"].values():
        assert {run["workers"] for run in facts["runs"]} == {1, 2} and facts["n"] == 16
        assert facts["speedup"] > 0 and facts["bytes_per_sample"] > 1e4 and facts["million"]["core_hours"] > 0
