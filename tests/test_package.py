"""What holds for the package as a whole: light to import, small, safe to load, one version."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import allpet

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "allpet"
FILES = sorted(SOURCE.rglob("*.py"))
MAX_LINES = 420
MIB = 2**20


def _python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_import_is_light():
    probe = (
        "import time, sys; t = time.perf_counter(); import allpet; t = time.perf_counter() - t;"
        "print(t, *[m for m in ('torch', 'numpy', 'matplotlib', 'zarr', 'nilearn') if m in sys.modules])"
    )
    seconds, *heavy = _python(probe).split()
    assert heavy == []
    assert float(seconds) < 1.0


def test_command_line_parses_without_torch():
    probe = "import sys, allpet.cli; print('torch' in sys.modules)"
    assert _python(probe) == "False"


def test_every_public_name_resolves_or_says_why():
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        allpet.nonsense  # noqa: B018
    for name in allpet.__all__:
        assert getattr(allpet, name) is not None


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_file_is_short_and_loads_nothing_unsafe(path: Path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MAX_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            assert not any(alias.name.split(".")[0] in {"pickle", "dill", "joblib"} for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert (node.module or "").split(".")[0] not in {"pickle", "dill", "joblib"}
        elif isinstance(node, ast.Call):
            call = ast.unparse(node.func)
            assert call not in {"torch.load", "torch.save", "eval", "exec"}
            for keyword in node.keywords:
                if keyword.arg == "allow_pickle":
                    assert isinstance(keyword.value, ast.Constant) and keyword.value.value is False


def test_shipped_weights_are_small_and_plain():
    files = [f for f in (SOURCE / "weights").rglob("*") if f.is_file()]
    assert sum(f.stat().st_size for f in files) < 24 * MIB
    assert {f.suffix for f in files} <= {".safetensors", ".json", ".md"}


def test_tracked_tree_is_small():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    files = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    assert sum(f.stat().st_size for f in files if f.is_file()) < 40 * MIB


def test_changelog_names_this_version():
    assert f"## {allpet.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
