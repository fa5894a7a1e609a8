"""What holds for the package as a whole: light to import, small, safe to load, one version."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
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


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wheel and source archive, built from the files as they are, without a network."""
    pytest.importorskip("build")
    folder = tmp_path_factory.mktemp("dist")
    copy = folder / "source"
    for name in ("src", "tests", "docs", "examples", "benchmarks", "tools"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for file in ROOT.iterdir():
        if file.is_file() and not file.name.startswith("."):
            shutil.copy(file, copy)
    (copy / "runs").mkdir()
    (copy / "runs" / "mine.safetensors").write_bytes(b"must not be shipped")
    words = [sys.executable, "-m", "build", "--no-isolation", "--skip-dependency-check", "--outdir", folder, copy]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def _plain(folder: Path) -> set[str]:
    """Files of the package as they must be in the wheel."""
    return {
        f"allpet/{f.relative_to(folder)}" for f in folder.rglob("*") if f.is_file() and "__pycache__" not in f.parts
    }


def test_the_wheel_holds_the_package_and_nothing_else(built: Path):
    (wheel,) = built.glob("*.whl")
    assert wheel.name == f"allpet-{allpet.__version__}-py3-none-any.whl" and wheel.stat().st_size < 40 * MIB
    with zipfile.ZipFile(wheel) as archive:
        info = f"allpet-{allpet.__version__}.dist-info/"
        names = set(archive.namelist())
        inside = {name for name in names if not name.startswith(info)}
        assert inside == _plain(SOURCE)
        for name in ("py.typed", "weights/base/denoiser.safetensors", "scan/scanners.toml", "mask/presets.json"):
            assert f"allpet/{name}" in inside
        for name in ("scan/tables/totalsegmentator.csv", "ui/static/index.html"):
            assert f"allpet/{name}" in inside
        assert info + "licenses/LICENSE" in names
        metadata = archive.read(info + "METADATA").decode()
        assert f"Version: {allpet.__version__}" in metadata and "Requires-Python: <3.14,>=3.11" in metadata
        for extra in ("ui", "dicom", "petsird", "train", "docs", "dev"):
            assert f"Provides-Extra: {extra}" in metadata
        assert "allpet = allpet.cli:main" in archive.read(info + "entry_points.txt").decode()


def test_the_source_archive_is_whole(built: Path):
    (archive,) = built.glob("*.tar.gz")
    assert archive.stat().st_size < 40 * MIB
    with tarfile.open(archive) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    for name in ("Makefile", "constraints.txt", "CHANGELOG.md", "LICENSE", "docs/conf.py", "docs/index.md"):
        assert name in names
    for name in ("examples/01_scan.py", "tests/test_package.py", "tests/scan/test_tracers.py", "tools/check_wheel.py"):
        assert name in names
    assert not any(name.startswith(("runs", ".git", ".venv", "site/", "build/")) for name in names)
    assert not any(name.endswith((".pyc", ".zarr")) for name in names)


def test_every_extra_has_its_exact_versions():
    import tomllib

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*extras["dependencies"], *(one for some in extras["optional-dependencies"].values() for one in some)]
    names = {re.split(r"[\[<>=; ]", one)[0].lower() for one in wanted} - {"allpet"}
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {line.split("==")[0].lower() for line in lines if "==" in line}
    assert names <= pinned, names - pinned


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_is_a_script_of_the_shell(shell: str, tmp_path: Path):
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    script = _python(f"from allpet.cli import main; main(['--tyro-print-completion', '{shell}'])")
    (tmp_path / "allpet").write_text(script)
    subprocess.run([shell, "-n", tmp_path / "allpet"], check=True)
    if shell == "bash":  # ask it as the shell would
        asked = "COMP_WORDS=(allpet app); COMP_CWORD=1; F=$(complete -p allpet | sed 's/.*-F \\([^ ]*\\).*/\\1/')"
        run = f"source {tmp_path / 'allpet'}; {asked}; $F allpet app allpet; printf '%s ' \"${{COMPREPLY[@]}}\""
        done = subprocess.run(["bash", "-c", run], capture_output=True, text=True, check=True)
        assert "apply" in done.stdout.split()


def test_changelog_names_this_version():
    assert f"## {allpet.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
