"""The loop in one process: schedule, limits, held-out loss, broken numbers, what the folder holds."""

import json
import math
import re

import pytest
import torch
from safetensors.torch import load_file

from allpet import precision as precisions
from allpet.errors import AllpetError
from allpet.precision import autocast, resolve
from allpet.train import run as running
from allpet.train import train, watch
from allpet.train.recipe import HeldOut, Movable, Pictures
from train_support import PlainToy, Toy, lines, same, state, toy_set


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def go(out, recipe=Toy, tensorboard=False, **how):
    return train(toy_set(), out, recipe, tensorboard=tensorboard, **how)


def test_it_learns_and_says_so(tmp_path):
    go(tmp_path, max_steps=200, report_steps=50)
    told = lines(tmp_path)
    assert [line["step"] for line in told] == [50, 100, 150, 200]
    assert told[-1]["loss"] < 0.5 * told[0]["loss"] and told[-1]["held_out"] < 0.5 * told[0]["held_out"]
    assert told[-1]["rate"] < 0.02 * Toy.rate < told[1]["rate"]
    assert all(line["samples_per_s"] > 0 and line["peak_mib"] > 50 for line in told)
    tensors = state(tmp_path)
    assert torch.equal(tensors["ema.1.running_mean"], tensors["net.1.running_mean"])  # statistics are not averaged
    assert not torch.equal(tensors["ema.0.weight"], tensors["net.0.weight"])
    record = json.loads((tmp_path / "toy.json").read_text())
    assert record["steps"] == 200 and record["best_step"] == told[-1]["best_step"]


def test_rate_and_progress_follow_the_steps_where_they_are_limited(tmp_path):
    seen = []

    class Watched(Toy):
        def loss(self, network, rng):
            seen.append(self.progress)
            return super().loss(network, rng)

    go(tmp_path, Watched, max_steps=20, max_minutes=60)
    assert seen == [k / 20 for k in range(20)]
    (line,) = [line for line in lines(tmp_path) if line["step"] == 10]
    assert line["rate"] == pytest.approx(Toy.rate * 0.11 * (0.5 * (1 + math.cos(math.pi / 2)) + 0.01))


def test_every_seed_draws_other_samples():
    def first(seed):
        return running.stream(seed, running.STEPS, 0, 0).initial_seed()

    assert len({first(seed) for seed in range(100)}) == 100
    assert running.stream(3, 1, 7, 0).initial_seed() == running.stream(3, 1, 7, 0).initial_seed()
    assert running.stream(3, 1, 7, 0).initial_seed() != running.stream(3, 1, 7, 1).initial_seed()
    draw = [torch.randn(4, generator=running.stream(seed, 1, 0, 0)) for seed in (0, 1)]
    assert not torch.equal(*draw)


def test_micro_batches_average(tmp_path):
    """Two micro-batches of a recipe are one batch of both: the same mean, drawn by each one's own number."""

    class Double(PlainToy):
        batch = 8
        name = "PlainToy"

        def loss(self, network, rng):
            step = round(self.progress * 20)
            halves = [PlainToy.loss(self.half, network, running.stream(0, running.STEPS, step, k)) for k in range(2)]
            return (halves[0] + halves[1]) / 2

        @property
        def half(self):
            return PlainToy(self.data, self.folder, self.seed)

    go(tmp_path / "two", PlainToy, max_steps=20, micro_batches=2, precision="fp32")
    go(tmp_path / "one", Double, max_steps=20, precision="fp32")
    one, two = (state(tmp_path / name, "PlainToy") for name in ("one", "two"))
    assert all(torch.allclose(one[key], two[key], atol=1e-5) for key in one)
    assert lines(tmp_path / "two")[-1]["loss"] == pytest.approx(lines(tmp_path / "one")[-1]["loss"], rel=1e-5)


class Worsening(Toy):
    """Held-out loss has its minimum at the third report."""

    values = (5.0, 4.0, 3.0, float("nan"), 6.0, 7.0, 8.0, 9.0)

    def held_out(self, network, rng):
        self.noise = [*getattr(self, "noise", []), torch.randn(3, generator=rng)]
        return self.values[len(self.noise) - 1]


def test_the_best_average_is_kept_and_exported(tmp_path):
    go(tmp_path, Worsening, max_steps=70, report_steps=10)
    told = lines(tmp_path)
    assert [line["best_step"] for line in told] == [10, 20, 30, 30, 30, 30, 30] and told[3]["held_out"] is None
    tensors, exported = state(tmp_path, "Worsening"), load_file(tmp_path / "toy.safetensors")
    assert all(torch.equal(exported[key], tensors[f"best.{key}"]) for key in exported)
    assert not torch.equal(tensors["best.0.weight"], tensors["ema.0.weight"])


def test_patience_ends_a_run_and_keeps_it_ended(tmp_path):
    go(tmp_path, Worsening, max_steps=70, report_steps=10, patience=2)
    assert [line["step"] for line in lines(tmp_path)] == [10, 20, 30, 40, 50]
    before = state(tmp_path, "Worsening")
    go(tmp_path, Worsening, max_steps=70, report_steps=10, patience=2)
    assert same(before, state(tmp_path, "Worsening")) and len(lines(tmp_path)) == 5


def test_held_out_noise_is_fixed(tmp_path):
    kept = []

    class Kept(Worsening):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            kept.append(self)

    go(tmp_path, Kept, max_steps=30, report_steps=10)
    noise = kept[0].noise
    assert len(noise) == 3 and all(torch.equal(noise[0], other) for other in noise)


class Broken(Toy):
    """Not finite where `bad` says so: in the loss, or in the gradient only."""

    bad = staticmethod(lambda step: False)
    where = "loss"

    def loss(self, network, rng):
        step = round(self.progress * 40)
        loss = super().loss(network, rng)
        if not self.bad(step):
            return loss
        if self.where == "loss":
            return loss * float("nan")
        weight = network[0].weight
        return loss + (0 * weight.sum()).abs().sqrt()  # 0, with a gradient of 0 * inf


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_a_step_that_is_not_finite_is_skipped(tmp_path, where):
    class Now(Broken):
        bad = staticmethod(lambda step: step % 20 < 19 and step > 0)

    Now.where = where
    go(tmp_path, Now, max_steps=40, report_steps=20)
    told = lines(tmp_path)
    assert [line["skipped"] for line in told] == [18, 37] and math.isfinite(told[-1]["loss"])
    assert all(bool(torch.isfinite(value).all()) for value in state(tmp_path, "Now").values())
    assert state(tmp_path, "Now")["opt.0.step"] == 3


def test_many_bad_steps_in_a_row_end_the_run(tmp_path):
    class Now(Broken):
        bad = staticmethod(lambda step: step >= 10)

    with pytest.raises(AllpetError, match="not finite in the last 20 steps up to step 30; lower the rate"):
        go(tmp_path, Now, max_steps=40, report_steps=10)
    assert all(bool(torch.isfinite(value).all()) for value in state(tmp_path, "Now").values())


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_precision_leaves_state_in_float32(tmp_path, precision):
    kinds = []

    class Seen(Toy):
        def _error(self, network, clean, rng):
            with autocast("cpu", self.precision):
                kinds.append(network(clean).dtype)
            return super()._error(network, clean, rng)

    go(tmp_path, Seen, max_steps=30, precision=precision)
    assert set(kinds) == {torch.bfloat16 if precision == "bf16" else torch.float32}
    tensors = state(tmp_path, "Seen")
    assert {v.dtype for k, v in tensors.items() if "num_batches" not in k} == {torch.float32}
    assert math.isfinite(lines(tmp_path)[-1]["loss"])


def test_precision_is_resolved(monkeypatch):
    assert resolve("bf16", "cpu") == "bf16" and resolve("fp32", "cpu") == "fp32"
    for has, expected in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(precisions, "native_bf16", lambda kind, has=has: has)
        assert resolve("auto", "cpu") == expected
    with pytest.raises(AllpetError, match="precision 'half' is unknown; known: auto, bf16, fp32"):
        resolve("half", "cpu")


def test_limits_by_the_clock(tmp_path):
    class Slow(Toy):
        def loss(self, network, rng):
            end = running.time.monotonic() + 0.02
            while running.time.monotonic() < end:
                pass
            return super().loss(network, rng)

    go(tmp_path / "wall", Slow, max_minutes=0.6 / 60)
    line = lines(tmp_path / "wall")[-1]
    assert 0.6 <= line["seconds"] < 3 and 2 <= line["step"] <= 30
    go(tmp_path / "wall", Slow, max_minutes=0.6 / 60)
    assert lines(tmp_path / "wall")[-1] == line  # the budget is used up
    go(tmp_path / "wall", Slow, max_minutes=1.2 / 60)
    assert lines(tmp_path / "wall")[-1]["seconds"] >= 1.2 and lines(tmp_path / "wall")[-1]["step"] > line["step"]


def test_the_processor_clock_does_not_count_waiting(tmp_path):
    class Waits(Toy):
        def loss(self, network, rng):
            running.time.sleep(0.1)
            return super().loss(network, rng)

    go(tmp_path, Waits, max_steps=10, clock="cpu")
    assert lines(tmp_path)[-1]["seconds"] < 1.0
    with pytest.raises(AllpetError, match="another clock"):
        go(tmp_path, Waits, max_steps=20)


def test_memory_limit_keeps_a_checkpoint(tmp_path, monkeypatch):
    peaks = iter([100.0] * 4 + [5000.0] * 100)
    monkeypatch.setattr(running, "peak_mib", lambda: next(peaks))
    with pytest.raises(AllpetError, match=r"memory is 4.88 GiB, --max-memory-gib 2; the checkpoint of step 5 is"):
        go(tmp_path, max_steps=100, max_memory_gib=2)
    go(tmp_path, max_steps=20)
    assert lines(tmp_path)[-1]["step"] == 20


def test_peak_memory_is_in_mib():
    before = watch.peak_mib()
    block = torch.ones(64 * 2**20 // 4 + int(before) * 2**18)  # 64 MiB more than was ever in use
    assert watch.peak_mib() - before > 30 and float(block[0]) == 1


def test_pictures_and_event_files(tmp_path):
    pytest.importorskip("tensorboard")
    from matplotlib.image import imread
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    go(tmp_path, max_steps=120, report_steps=10, tensorboard=True)
    pictures = sorted((tmp_path / "samples" / "Toy").iterdir())
    assert len(pictures) <= watch.KEPT and pictures[-1].name == "samples-0000120.png"
    assert imread(pictures[-1]).shape[:2] == (2 * 16, 3 * 16)
    go(tmp_path, max_steps=150, report_steps=10, tensorboard=True)
    events = EventAccumulator(str(tmp_path / "tensorboard" / "Toy")).Reload()
    assert set(events.Tags()["scalars"]) == {name for key, name in watch.CURVES.items() if key != "gpu_peak_mib"}
    curve = [(e.step, e.value) for e in events.Scalars("loss/held-out")]
    assert [step for step, _ in curve] == list(range(10, 151, 10))
    assert [value for _, value in curve] == pytest.approx([line["held_out"] for line in lines(tmp_path)])


def test_only_the_last_pictures_stay(tmp_path):
    look = watch.Watch(tmp_path, "a", 0, tensorboard=False)
    for step in range(1, 12):
        look.show(torch.rand(2, 4, 5), step)
    assert [p.name for p in look._pictures()] == [f"samples-{k:07d}.png" for k in range(4, 12)]
    watch.Watch(tmp_path, "a", 9, tensorboard=False)
    assert look._pictures()[-1].name == "samples-0000009.png"


def test_grid_places_each_picture_over_its_own_maximum():
    x = torch.rand(3, 4, 5) * torch.tensor([1.0, 10.0, 100.0])[:, None, None]
    sheet = watch.grid(x)
    assert sheet.shape == (8, 10) and bool((sheet[4:, 5:] == 0).all())
    assert torch.allclose(sheet[:4, 5:] * x[1].max(), x[1]) and torch.allclose(sheet[4:, :5] * x[2].max(), x[2])
    for bad in (torch.ones(4, 5), torch.ones(0, 4, 5)):
        with pytest.raises(AllpetError, match="must be"):
            watch.grid(bad)


def test_without_tensorboard_it_is_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(watch, "find_spec", lambda name: None)
    go(tmp_path, max_steps=10, tensorboard=True)
    assert not (tmp_path / "tensorboard").exists() and lines(tmp_path)


def test_a_recipe_needs_no_extras(tmp_path):
    class Least:
        seed, rate, ema, batch, progress = 0, 1e-2, 0.9, 4, 0.0

        def __init__(self, data, folder, seed):
            self.toy = Toy(data, folder, seed)
            self.network, self.export = self.toy.network, self.toy.export
            self.toy.network = None

        def loss(self, network, rng):
            return self.toy.loss(network, rng)

    assert not issubclass(Least, HeldOut) and not issubclass(Least, Pictures) and not issubclass(Least, Movable)
    assert issubclass(Toy, HeldOut) and issubclass(Toy, Pictures)
    go(tmp_path, Least, max_steps=10)
    (line,) = lines(tmp_path)
    assert "held_out" not in line and not (tmp_path / "samples").exists()
    with pytest.raises(AllpetError, match="recipe 'Least' trains in float32 only"):
        go(tmp_path / "b", Least, max_steps=10, precision="bf16")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (dict(max_steps=0), "max_steps is 0; it must be positive"),
        (dict(max_minutes=-1), "max_minutes is -1; it must be positive"),
        (dict(patience=0), "patience is 0"),
        (dict(save_seconds=0), "save_seconds is 0"),
        (dict(micro_batches=0), "micro-batches are 0"),
        (dict(clock="sun"), "clock 'sun' is unknown; known: wall, cpu"),
        (dict(device="abacus"), "device 'abacus' is unknown"),
        (dict(precision="half"), "precision 'half' is unknown"),
        (dict(seed=-1), "seed is -1"),
        (dict(recipe="none"), "recipe 'none' is unknown"),
    ],
)
def test_bad_options(tmp_path, how, message):
    how = {"recipe": Toy, **how}
    with pytest.raises(AllpetError, match=re.escape(message)):
        train(toy_set(), tmp_path / "run", tensorboard=False, **how)
    assert not list(tmp_path.rglob("checkpoint*"))


def test_other_options_need_another_folder(tmp_path):
    go(tmp_path, max_steps=2, precision="fp32")
    for how in (dict(seed=1), dict(micro_batches=2), dict(precision="bf16")):
        with pytest.raises(AllpetError, match=f"another {next(iter(how))}"):
            go(tmp_path, max_steps=4, **{"precision": "fp32", **how})
    (tmp_path / "options-Toy.json").write_text("{")
    with pytest.raises(AllpetError, match="is damaged"):
        go(tmp_path, max_steps=4)
