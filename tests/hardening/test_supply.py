"""Where code and data come from: licences, nothing that runs what it reads, nothing fetched from a network."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "allpet"
UNSAFE = {"pickle", "cPickle", "dill", "joblib", "marshal", "shelve", "cloudpickle", "jsonpickle", "dbm"}
CALLS = {"torch.load", "torch.save", "torch.jit.load", "pandas.read_pickle", "yaml.load", "eval", "exec", "os.system"}

sys.path.insert(0, str(ROOT / "tools"))
audit = import_module("audit")


def test_every_installed_package_has_an_allowed_licence() -> None:
    assert audit.licences() == []
    assert {"torch", "numpy", "safetensors", "pydicom", "fastapi"} <= audit.needed()
    assert not {"astra-toolbox", "simpleitk", "pytest"} & audit.needed()


@pytest.mark.parametrize(
    ("licence", "fine"),
    [
        ("MIT", True),
        ("Apache-2.0 AND BSD-3-Clause", True),
        ("GPL-3.0 OR MIT", True),
        ("GPLv3", False),
        ("MIT AND GPL-2.0", False),
        ("none stated", False),
        ("Mozilla Public License 2.0 (MPL 2.0)", True),
        ("GNU Lesser General Public License v3 (LGPLv3)", False),
    ],
)
def test_licences_are_told_apart(licence: str, fine: bool) -> None:
    assert audit.allowed(licence) is fine


def test_an_audit_that_could_not_ask_is_no_pass(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for answer, code in (
        (({}, ["numpy"], ""), 3),
        (({}, [], "no route"), 3),
        (({"x": ["CVE-1"]}, [], ""), 1),
        (({}, [], ""), 0),
    ):
        monkeypatch.setattr(audit, "ask", lambda service, answer=answer: answer)
        assert audit.vulnerabilities() == code
        assert ("NOT CHECKED" in capsys.readouterr().out) == (code == 3)


@pytest.mark.parametrize("folder", ["src/allpet", "benchmarks", "tools", "examples"])
def test_nothing_that_is_read_can_run(folder: str) -> None:
    """No pickle and its kin anywhere, nor calls that use it: by the syntax tree, as words in texts do not count."""
    found = []
    for path in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name.split(".")[0] for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [(node.module or "").split(".")[0]]
            elif isinstance(node, ast.Call):
                call = ast.unparse(node.func)
                loose = any(word.arg == "allow_pickle" and ast.unparse(word.value) != "False" for word in node.keywords)
                if call in CALLS or loose:
                    found.append(f"{path.name}:{node.lineno} {call}")
            found += [f"{path.name}:{node.lineno} {name}" for name in names if name in UNSAFE]
    assert found == []


BLOCKED = """
import socket, sys
def refuse(*a, **k):
    raise AssertionError(f"the network was asked for: {a[1:]}")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = socket.create_connection = refuse
import allpet.cli
for line in sys.argv[1:]:
    assert allpet.cli.main([word.replace("_", " ") for word in line.split()]) == 0, line
"""


def test_no_command_asks_the_network(tmp_path: Path) -> None:
    """All with the proxies and caches that libraries would use set to nowhere, and every connection refused."""
    lines = (
        "doctor",
        "simulate s.zarr -n 4 --views 32 --bins 32 --background quick --workers 1 --dose-fraction 0.2 --task low-dose",
        "simulate t.zarr -n 8 --views 32 --bins 32 --background quick --workers 1",
        "info s.zarr",
        "convert s.zarr s.hs",
        "recon s.hs --out r.nii.gz --iterations 1",
        "apply low-dose s.hs --out a.hs --samples 0",
        "attend s.hs --out attended",
        "generate --prompt FDG_brain --out g.hs --steps 2",
        "train --data t.zarr --out run --recipe low-dose --max-steps 1",
    )
    env = {**os.environ, "OMP_NUM_THREADS": "1", "HOME": str(tmp_path), "HF_HOME": str(tmp_path / "hub")}
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        env[name] = "http://127.0.0.1:9"
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED, *lines], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
