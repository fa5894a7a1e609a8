"""Runs that are killed, interrupted, locked or out of disk: the same command goes on, or says in a line why not."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from allpet.errors import AllpetError
from allpet.io.place import locked
from allpet.train import checkpoint, train, watch
from train_support import Toy, lines, same, state, toy_set

COMMAND = [sys.executable, str(Path(__file__).parents[1] / "train_support.py")]
STEPS = 120


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def go(out, recipe=Toy, **how):
    return train(toy_set(), out, recipe, tensorboard=False, **how)


def start(out, *options):
    words = [*COMMAND, str(out), "--steps", str(STEPS), "--report", "25", *options]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(words, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def until(condition, process, seconds=60.0):
    """Wait for something that a process does."""
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None and time.monotonic() < end, process.communicate()[1]
        time.sleep(0.002)


def told(folder):
    """Reports without what hangs on the clock or the machine."""
    return [{k: v for k, v in x.items() if k not in ("seconds", "samples_per_s", "peak_mib")} for x in lines(folder)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    process = start(folder)
    assert process.wait(120) == 0, process.stderr.read()
    return folder


def test_killed_at_any_moment_the_same_command_ends_with_the_same_weights(whole, tmp_path):
    """Kills fall anywhere, many into the writing of a checkpoint: here one is written after almost every step."""
    rng, kills, steps = random.Random(0), 0, [0]
    path = tmp_path / "checkpoint-Toy.safetensors"
    while kills < 3:
        process = start(tmp_path, "--pause", "0.01", "--save-seconds", "0.001")
        before = path.stat().st_mtime_ns if path.is_file() else 0
        until(lambda before=before: path.is_file() and path.stat().st_mtime_ns != before, process)
        time.sleep(rng.uniform(0.0, 0.3))
        process.kill()
        process.communicate()
        steps.append(checkpoint.Checkpoint(path, "Toy").counters.step)
        kills += 1
    assert steps == sorted(steps) and 0 < steps[-1] < STEPS and len(set(steps)) > 2
    process = start(tmp_path)
    assert process.wait(120) == 0, process.stderr.read()
    assert same(state(whole), state(tmp_path))
    assert told(whole) == told(tmp_path) and [line["step"] for line in told(whole)] == [25, 50, 75, 100, 120]
    assert (whole / "toy.safetensors").read_bytes() == (tmp_path / "toy.safetensors").read_bytes()
    assert not list(tmp_path.glob(".*"))


def test_killed_between_the_last_step_and_the_report_it_still_reports(tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    def die(*_):
        raise Killed

    monkeypatch.setattr("allpet.train.run.Run._export", die)
    with pytest.raises(Killed):
        go(tmp_path, max_steps=10, save_seconds=1e-9)
    assert not (tmp_path / "stats.jsonl").exists()
    monkeypatch.undo()
    go(tmp_path, max_steps=10)
    go(tmp_path / "whole", max_steps=10)
    assert told(tmp_path) == told(tmp_path / "whole") and same(state(tmp_path), state(tmp_path / "whole"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_finishes_the_step_and_saves(tmp_path, number):
    class Stopped(Toy):
        def loss(self, network, rng):
            if round(self.progress * 40) == 17:
                os.kill(os.getpid(), number)
            return super().loss(network, rng)

    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt, match="stopped at step 18; the same command goes on"):
        go(tmp_path, Stopped, max_steps=40)
    assert signal.getsignal(number) == before
    assert checkpoint.Checkpoint(tmp_path / "checkpoint-Stopped.safetensors", "Stopped").counters.step == 18


def test_the_layout_of_memory_survives(tmp_path):
    """Channels-last weights and moments come back as they were, so the arithmetic stays the same."""

    class Last(Toy):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.network = self.network.to(memory_format=torch.channels_last)

    class Stops(Last):
        name = "Last"

        def loss(self, network, rng):
            if round(self.progress * 40) == 20:
                raise AllpetError("enough")
            return super().loss(network, rng)

    go(tmp_path / "whole", Last, max_steps=40)
    with pytest.raises(AllpetError, match="enough"):
        go(tmp_path / "parts", Stops, max_steps=40, save_seconds=1e-9)
    go(tmp_path / "parts", Last, max_steps=40)
    assert same(state(tmp_path / "whole", "Last"), state(tmp_path / "parts", "Last"))


def test_two_processes_in_one_folder(tmp_path):
    process = start(tmp_path, "--pause", "0.05")
    until((tmp_path / ".stats.jsonl.lock").exists, process)
    other = start(tmp_path)
    assert other.wait(60) == 2
    message = other.stderr.read().strip()
    assert "another process is writing it" in message and len(message.splitlines()) == 1
    process.kill()
    process.communicate()
    with locked(tmp_path / "stats.jsonl"), pytest.raises(AllpetError, match="another process"):
        go(tmp_path, max_steps=2)
    go(tmp_path, max_steps=STEPS, report_steps=25)  # a dead process holds no lock
    assert lines(tmp_path)[-1]["step"] == STEPS


def test_a_full_disk_leaves_the_older_checkpoint(tmp_path):
    """A limit of the size of files stands for the disk: at first checkpoints fit, later they do not."""
    resource = pytest.importorskip("resource")
    go(tmp_path, max_steps=10)
    before = (tmp_path / "checkpoint-Toy.safetensors").read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, hard))
    try:
        with pytest.raises(AllpetError, match="cannot be written") as caught:
            go(tmp_path, max_steps=20)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(str(caught.value).splitlines()) == 1 and "checkpoint-Toy" in str(caught.value)
    assert (tmp_path / "checkpoint-Toy.safetensors").read_bytes() == before
    assert not list(tmp_path.glob(".*"))
    go(tmp_path, max_steps=20)
    assert lines(tmp_path)[-1]["step"] == 20


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_in_the_event_file(tmp_path):
    pytest.importorskip("tensorboard")
    look = watch.Watch(tmp_path, "Toy", 0)
    look.events.parent.mkdir(parents=True)
    look.events.symlink_to("/dev/full")
    with pytest.raises(AllpetError, match=r"events\.out.* cannot be written \(No space left on device\)"):
        look.report({"step": 2, "loss": 0.4})


def torn(path):
    data = path.read_bytes()
    path.write_bytes(data[: len(data) - 100])


def rubbish(path):
    path.write_bytes(b"not weights")


def empty(path):
    path.write_bytes(b"")


def foreign(path):
    save_file({"x": torch.ones(3)}, path)


def another_network(path):
    tensors = state(path.parent)
    tensors["net.more"] = torch.ones(3)
    checkpoint.write(path, "Toy", checkpoint.Counters(), tensors)


def another_size(path):
    tensors = state(path.parent)
    tensors["opt.0.exp_avg"] = torch.ones(1)
    checkpoint.write(path, "Toy", checkpoint.Counters(), tensors)


def another_recipe(path):
    checkpoint.write(path, "Other", checkpoint.Counters(), state(path.parent))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (torn, ""),
        (rubbish, ""),
        (empty, ""),
        (foreign, ""),
        (another_network, "its network is another: 1 tensors differ, such as 'net.more'"),
        (another_size, "'opt.0.exp_avg' is (1,), not (8, 1, 3, 3)"),
        (another_recipe, "it is of recipe 'Other'"),
    ],
)
def test_a_checkpoint_that_does_not_fit(tmp_path, damage, reason):
    go(tmp_path, max_steps=3)
    path = tmp_path / "checkpoint-Toy.safetensors"
    damage(path)
    data = path.read_bytes()
    with pytest.raises(AllpetError, match=r"cannot be resumed .*delete it to start again") as caught:
        go(tmp_path, max_steps=6)
    assert reason in str(caught.value) and str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert path.read_bytes() == data


def test_what_a_killed_process_left_half_done_goes(tmp_path):
    go(tmp_path, max_steps=20, report_steps=10)
    (tmp_path / ".checkpoint-Toy.safetensors.ab12.part").write_bytes(b"half")
    good = (tmp_path / "stats.jsonl").read_text()
    late = '{"recipe": "Toy", "step": 30, "loss": 1.0}\n'
    other = '{"recipe": "Other", "step": 99, "loss": 1.0}\n'
    (tmp_path / "stats.jsonl").write_text(good + late + other + '{"recipe": "Toy", "st')
    go(tmp_path, max_steps=20, report_steps=10)
    assert (tmp_path / "stats.jsonl").read_text() == good + other
    assert not list(tmp_path.glob(".*"))
