"""Two processes that a launcher started train as one does."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from allpet.errors import AllpetError
from allpet.train.processes import World
from train_support import lines, state

SCRIPT = str(Path(__file__).parents[1] / "train_support.py")
OPTIONS = ("--steps", "60", "--micro", "2", "--report", "10", "--plain")
BIN = Path(sys.executable).parent


def free_port() -> str:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return str(s.getsockname()[1])


def launch(*words: str) -> subprocess.CompletedProcess:
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run([str(word) for word in words], env=env, capture_output=True, text=True, timeout=120)


LAUNCHERS = {
    "torchrun": lambda: [BIN / "torchrun", "--nproc-per-node", "2", "--master-port", free_port()],
    "accelerate": lambda: [
        *(BIN / "accelerate", "launch", "--cpu", "--num_processes", "2", "--num_machines", "1"),
        *("--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", free_port()),
    ],
}


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """One process that takes both micro-batches itself."""
    folder = tmp_path_factory.mktemp("alone")
    done = launch(sys.executable, SCRIPT, folder, *OPTIONS)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_two_processes_train_as_one(alone, tmp_path, launcher):
    done = launch(
        *LAUNCHERS[launcher](), SCRIPT, tmp_path, "--steps", "60", "--micro", "2", "--report", "10", "--plain"
    )
    assert done.returncode == 0, done.stderr
    one, two = lines(alone), lines(tmp_path)
    assert [line["step"] for line in two] == [10, 20, 30, 40, 50, 60]
    for key in ("loss", "held_out"):
        assert [line[key] for line in two] == pytest.approx([line[key] for line in one], rel=1e-5)
    a, b = state(alone, "PlainToy"), state(tmp_path, "PlainToy")
    assert all(torch.allclose(a[key], b[key], atol=1e-5) for key in a)


def test_a_share_that_does_not_come_out_even(tmp_path):
    done = launch(*LAUNCHERS["torchrun"](), SCRIPT, tmp_path, "--steps", "5", "--micro", "3")
    assert done.returncode != 0
    assert "micro-batches are 3; 2 process(es) need a positive multiple of 2" in done.stderr
    assert not list(tmp_path.glob("checkpoint*"))


@pytest.mark.parametrize("size", [1, 2, 3])
def test_shares_cover_every_micro_batch_once(size):
    worlds = [World(rank, size, torch.device("cpu")) for rank in range(size)]
    assert sorted(k for world in worlds for k in world.share(6)) == list(range(6))
    for bad in (0, -size, *([size + 1] if size > 1 else [])):
        with pytest.raises(AllpetError, match="positive multiple"):
            worlds[0].share(bad)
