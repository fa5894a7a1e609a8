"""The same command gives the same bytes on a CPU; what more threads or other arithmetic change is bounded.

One thread against two and bfloat16 against float32 are measured on small inputs; ``docs/faults.md`` has the bounds.
A GPU sums in another order: the last test measures by how much, where there is one.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from allpet import AllPET
from allpet.precision import resolve
from allpet.scan.simulate import simulate

COMMANDS = (
    "simulate s.zarr --region brain -n 4 --views 32 --bins 32 --background quick --task low-dose --dose-fraction 0.2",
    "generate --prompt FDG_brain --out g.hs --steps 3 --seed 4",
    "apply low-dose s.zarr --out a.hs --samples 2 --images",
    "recon s.zarr --out r.nii.gz --iterations 2",
    "simulate t.zarr --region brain -n 8 --views 32 --bins 32 --background quick --workers 1",
    "train --data t.zarr --out run --recipe low-dose --max-steps 3",
)
THREADS = {"generate": 0.0, "apply": 2e-3}
ARITHMETIC = {"generate": 1e-2, "apply": 1e-2}
"""Bounds between one thread and two, and between bfloat16 and float32: root mean square over the result's."""
RUN = "import sys, allpet.cli\nfor line in sys.argv[1:]:\n    words = [w.replace('_', ' ') for w in line.split()]\n"
RUN += "    assert allpet.cli.main(words) == 0, words\n"
CLOCK = re.compile(
    rb'\\*"(created|seconds|samples_per_s|peak_mib)\\*": (\\*"[^"]*"|[0-9.]+),?|"(sha256|attributes)": "[0-9a-f]{64}"'
)


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file's bytes; in text without the clock, of NIfTI what is packed, of a checkpoint the tensors."""
    import gzip

    out = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if not path.is_file() or "tensorboard" in name:
            continue
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        if path.name.startswith("checkpoint"):
            data = data[8 + int.from_bytes(data[:8], "little") :]
        out[name] = re.sub(rb"sha256-[0-9a-f]{12}", b"", CLOCK.sub(b"", data))
    return out


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, bytes]]:
    out = []
    for k in range(2):
        folder = tmp_path_factory.mktemp(f"run{k}")
        done = subprocess.run(
            [sys.executable, "-c", RUN, *COMMANDS],
            cwd=folder,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": str(k)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        out.append(files_of(folder))
    return out


@pytest.mark.parametrize("begin", ["s.zarr", "g.", "a", "r.nii.gz", "run"])
def test_the_same_command_gives_the_same_bytes(twice: list[dict[str, bytes]], begin: str) -> None:
    first, second = ({name: data for name, data in one.items() if name.startswith(begin)} for one in twice)
    assert first and first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []


def outputs(device: str = "cpu") -> dict[str, torch.Tensor]:
    """What a scan and a prompt become."""
    model = AllPET.from_pretrained().to(device)
    scan = simulate(
        2, region="brain", task="low-dose", dose_fraction=0.2, views=64, bins=64, background="quick", seed=3
    ).scan()
    return {
        "generate": model.generate("FDG brain", n=9, seed=1, steps=4).sinogram.cpu(),
        "apply": model.apply("low-dose", scan, samples=0).expected.sinogram.cpu(),
    }


def apart(a: torch.Tensor, b: torch.Tensor) -> float:
    """Root mean square of the difference over that of the first."""
    return float((a - b).square().mean().sqrt() / a.square().mean().sqrt())


def test_another_number_of_threads_changes_little() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = outputs()
        torch.set_num_threads(2)
        two = outputs()
    finally:
        torch.set_num_threads(before)
    found = {name: apart(one[name], two[name]) for name in one}
    print({name: f"{value:.1e}" for name, value in found.items()})
    assert all(value <= THREADS[name] for name, value in found.items()), found


def test_bfloat16_changes_little(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for native in (False, True):
        monkeypatch.setattr("allpet.precision.native_bf16", lambda kind, native=native: native)
        found.append(outputs())
    change = {name: apart(found[0][name], found[1][name]) for name in found[0]}
    print({name: f"{value:.1e}" for name, value in change.items()})
    assert all(0 < value < ARITHMETIC[name] for name, value in change.items()), change


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU: the difference to it is not measured here")
def test_a_gpu_changes_little() -> None:
    cpu, gpu = outputs(), outputs("cuda")
    found = {name: apart(cpu[name], gpu[name]) for name in cpu}
    print({name: f"{value:.1e}" for name, value in found.items()})
    assert all(value < 3e-2 for value in found.values()), found


def test_what_is_chosen_by_itself_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """bfloat16 is used where the processor has it, so results differ between processors by that much."""
    from allpet.doctor import examine

    known = next(one.found for one in examine() if one.what == "processor")
    assert resolve("auto", torch.device("cpu")) in known
