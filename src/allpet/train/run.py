"""One recipe's run: network, optimiser, moving average, counters; a step, a report, the way from one to the next."""

from __future__ import annotations

import copy
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from allpet.errors import AllpetError
from allpet.provenance import provenance
from allpet.train import checkpoint
from allpet.train.checkpoint import Checkpoint, Counters
from allpet.train.processes import World
from allpet.train.recipe import HeldOut, Optimised, Pictures, Recipe
from allpet.train.watch import Watch, peak_mib

REPORT_S = 30.0
"""Shortest time between reports in a run that is limited by time."""
REPORTS = (50, 10)
"""Reports in a run that is limited by steps, and the fewest steps between two."""
BAD_IN_A_ROW = 20
"""Steps in a row without a finite loss and gradient that end a run."""
STEPS, HELD_OUT = 1, 2
"""What a random stream is for."""


@dataclass(frozen=True)
class Limits:
    """When a run ends, reports and saves; see :func:`allpet.train.train`.

    Raises
    ------
    AllpetError : one of them is not positive.
    """

    max_minutes: float | None = None
    max_steps: int | None = None
    patience: int | None = None
    report_steps: int | None = None
    save_seconds: float = 30.0
    max_memory_gib: float | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None and not value > 0:
                raise AllpetError(f"{name} is {value}; it must be positive")

    @property
    def seconds(self) -> float:
        """Budget of time; 20 minutes where there is no limit at all."""
        if self.max_minutes is None:
            return math.inf if self.max_steps else 1200.0
        return 60 * self.max_minutes

    @property
    def report_every(self) -> int | None:
        """Steps between reports, None where the clock decides."""
        if self.report_steps or not self.max_steps:
            return self.report_steps
        return max(REPORTS[1], math.ceil(self.max_steps / REPORTS[0]))


def stream(seed: int, *where: int) -> torch.Generator:
    """Generator for one use; torch's keeps 32 bits of its seed, so all numbers are mixed into that many."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence([seed, *where]).generate_state(1)[0]))


def stopwatch(clock: str) -> Callable[[], float]:
    """Function that gives the seconds since it was last called: of the wall clock, or this process's processor time."""
    now = time.process_time if clock == "cpu" else time.monotonic
    last = now()

    def lap() -> float:
        nonlocal last
        before, last = last, now()
        return last - before

    return lap


class Run:
    """A recipe at work.

    Parameters
    ----------
    world, share : the processes and this one's micro-batches. micro : micro-batches of a step, over all processes.
    lap : see :func:`stopwatch`; with `clock` ``"cpu"`` the processes' times add up, else the first one's counts.
    """

    def __init__(
        self,
        job: Recipe,
        folder: Path,
        name: str,
        limits: Limits,
        world: World,
        share: range,
        micro: int,
        lap: Callable[[], float],
        clock: str,
        tensorboard: bool,
    ) -> None:
        self.job, self.folder, self.name, self.limits = job, folder, name, limits
        self.world, self.share, self.micro, self.lap, self.clock = world, share, micro, lap, clock
        self.tensorboard = tensorboard
        self.network: nn.Module = job.network.to(world.device).train()
        world.alike(self.network)
        self.weights = list(self.network.parameters())
        self.ema = copy.deepcopy(self.network).requires_grad_(False).eval()
        self.average = list(self.ema.parameters())
        self.best: nn.Module | None = None
        if isinstance(job, Optimised):
            self.optimizer = job.optimizer(self.network)
        else:
            betas = getattr(job, "betas", (0.9, 0.99))
            self.optimizer = torch.optim.AdamW(self.weights, lr=job.rate, betas=betas, weight_decay=1e-2, fused=True)
        self.at = Counters()
        self.watch: Watch | None = None
        self.saved = self.reported = self.pictured = time.monotonic()
        self.picture_s = self.step_s = 0.0
        self.steps_timed = 0

    @property
    def checkpoint(self) -> Path:
        return self.folder / f"checkpoint-{self.name}.safetensors"

    def restore(self) -> None:
        """Go on from the folder's checkpoint, if there is one; what a killed process left half done goes."""
        if self.checkpoint.is_file():
            old = Checkpoint(self.checkpoint, self.name)
            old.fill("net", self.network)
            old.fill("ema", self.ema)
            if old.has("best"):
                self.best = copy.deepcopy(self.ema)
                old.fill("best", self.best)
            old.fill_optimizer(self.optimizer)
            self.at = old.counters
            self.lap()
        if self.world.first:
            checkpoint.clear_parts(self.checkpoint)
            self.watch = Watch(self.folder, self.name, self.at.step, self.tensorboard)
        self._agree()

    def save(self) -> None:
        """Replace the checkpoint."""
        if self.world.first:
            tensors = checkpoint.weights("net", self.network) | checkpoint.weights("ema", self.ema)
            if self.best is not None:
                tensors |= checkpoint.weights("best", self.best)
            checkpoint.write(self.checkpoint, self.name, self.at, tensors | checkpoint.moments(self.optimizer))
        self.saved = time.monotonic()

    @property
    def progress(self) -> float:
        """Share of the budget that is used up, 0 to 1: of the steps where they are limited, else of the time."""
        if self.limits.max_steps:
            return min(self.at.step / self.limits.max_steps, 1.0)
        return min(self.at.seconds / self.limits.seconds, 1.0)

    def rate(self) -> float:
        """Learning rate: short warm-up, then a cosine to nearly nothing."""
        warm = min(1.0, (self.at.step + 1) / 100)
        return self.job.rate * warm * (0.5 * (1 + math.cos(math.pi * self.progress)) + 0.01)

    def one_step(self) -> None:
        """One step; what is random in it depends on the seed, the step's number and the micro-batch's alone."""
        begun = time.monotonic()
        rate = self.rate()
        self.job.progress = self.progress
        self.optimizer.zero_grad()
        loss = torch.zeros((), device=self.world.device)
        for k in self.share:
            rng = stream(self.job.seed, STEPS, self.at.step, k)
            torch.manual_seed(rng.initial_seed())  # dropout and the like
            part = self.job.loss(self.network, rng).float() / self.micro
            part.backward()
            loss += part.detach()
        loss = self.world.add_gradients(self.weights, loss)
        norm = nn.utils.clip_grad_norm_(self.weights, 1.0, foreach=True)
        self.at.step += 1
        if bool(torch.isfinite(loss) & torch.isfinite(norm)):
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            self.optimizer.step()
            keep = min(self.job.ema, 1 - 1 / (0.1 * self.at.step + 1))
            with torch.no_grad():
                torch._foreach_lerp_(self.average, self.weights, 1 - keep)
            self.at.loss, self.at.losses, self.at.in_a_row = self.at.loss + float(loss), self.at.losses + 1, 0
        else:
            self.at.skipped, self.at.in_a_row = self.at.skipped + 1, self.at.in_a_row + 1
        self.step_s += time.monotonic() - begun
        self.steps_timed += 1

    @property
    def over(self) -> bool:
        """Whether a limit is reached; a run makes one step at least."""
        limits, at = self.limits, self.at
        return (
            at.step >= (limits.max_steps or math.inf)
            or (at.step > 0 and at.seconds >= limits.seconds)
            or at.stale >= (limits.patience or math.inf)
        )

    def go(self, progress: bool) -> None:
        """Train to the limit, reporting and saving now and then."""
        with _bar(progress and self.world.first) as move, _interrupts() as stop:
            while not self.over:
                self.one_step()
                peak = peak_mib() / 1024
                stopped, full, report, save = self._agree(
                    stop.is_set(), peak > (self.limits.max_memory_gib or math.inf)
                )
                if self.at.in_a_row >= BAD_IN_A_ROW:
                    raise AllpetError(
                        f"{self.folder}: loss or gradient was not finite in the last {BAD_IN_A_ROW} steps up to step "
                        f"{self.at.step}; lower the rate or train with --precision fp32"
                    )
                if report or self.over:
                    self.report()
                elif save or stopped or full:
                    self.save()
                if stopped:
                    raise KeyboardInterrupt(f"{self.folder}: stopped at step {self.at.step}; the same command goes on")
                if full:
                    raise AllpetError(
                        f"{self.folder}: memory is {peak:.2f} GiB, --max-memory-gib {self.limits.max_memory_gib}; "
                        f"the checkpoint of step {self.at.step} is kept, go on with a higher limit"
                    )
                move(self._done(), f"{self.name}: step {self.at.step}")
            if self.at.reported != self.at.step:
                self.report()

    def _done(self) -> float:
        return max(self.progress, min(self.at.seconds / self.limits.seconds, 1.0))

    def _agree(self, stopped: bool = False, full: bool = False) -> tuple[bool, bool, bool, bool]:
        """Count the time, and decide in all processes alike: stopped, memory full, time to report, time to save."""
        used, now, first = self.lap(), time.monotonic(), self.world.first
        every, step = self.limits.report_every, self.at.step
        wait = max(REPORT_S, self.limits.seconds / 60)
        due = now - self.reported >= wait if every is None else step % every == 0
        save = now - self.saved >= self.limits.save_seconds
        mine = (used if first or self.clock == "cpu" else 0.0, stopped, full, first and due, first and save)
        seconds, *flags = self.world.total([float(value) for value in mine])
        self.at.seconds += seconds
        stopped, full, due, save = (flag > 0 for flag in flags)
        return stopped, full, due, save

    def report(self) -> None:
        """Measure the held-out loss, keep the best, write the model, a line and, last of all, the checkpoint."""
        for average, value in zip(self.ema.buffers(), self.network.buffers(), strict=True):
            average.copy_(value)
        held = self._held_out()
        at = self.at
        line: dict[str, Any] = dict(recipe=self.name, step=at.step, seconds=round(at.seconds, 1), rate=self.rate())
        if at.losses:
            line["loss"] = at.loss / at.losses
        if held is not None:
            line |= dict(held_out=held if math.isfinite(held) else None, best_step=at.best_step)
        if at.skipped:
            line["skipped"] = at.skipped
        if self.steps_timed:
            line["samples_per_s"] = round(self.steps_timed * self.micro * self.job.batch / max(self.step_s, 1e-9), 2)
        line["peak_mib"] = round(peak_mib(), 1)
        if self.world.device.type == "cuda":
            line["gpu_peak_mib"] = round(torch.cuda.max_memory_allocated(self.world.device) / 2**20, 1)
        at.loss, at.losses, at.reported = 0.0, 0, at.step
        if self.watch is not None:
            self._export()
            self._picture(self.watch)
            self.watch.report(line)
        self.save()
        self.step_s, self.steps_timed, self.reported = 0.0, 0, time.monotonic()

    def _held_out(self) -> float | None:
        """The average's loss on people kept apart, known to every process; the best average is set aside."""
        if not isinstance(self.job, HeldOut):
            return None
        value: float | None = None
        if self.world.first:
            with torch.no_grad():
                value = self.job.held_out(self.ema, stream(self.job.seed, HELD_OUT))
        known, shared = self.world.total([float(value is not None), 0.0 if value is None else float(value)])
        if not known:
            return None
        at = self.at
        at.stale += 1
        if math.isfinite(shared) and (at.best is None or shared < at.best):
            at.best, at.best_step, at.stale = shared, at.step, 0
            self.best = copy.deepcopy(self.ema)
        return shared

    def _export(self) -> None:
        at = self.at
        record: dict[str, Any] = dict(recipe=self.name, steps=at.step, seconds=round(at.seconds))
        record["provenance"] = provenance(seed=self.job.seed)
        if self.best is not None:
            record |= dict(best_step=at.best_step, held_out=at.best)
        self.job.export(self.ema if self.best is None else self.best, record)

    def _picture(self, watch: Watch) -> None:
        """Show samples of the average: at the end, and before it in at most a twentieth of the time."""
        now = time.monotonic()
        if not isinstance(self.job, Pictures) or not (self.over or now - self.pictured >= 20 * self.picture_s):
            return
        with torch.no_grad():
            pictures = self.job.pictures(self.ema)
        if pictures is not None:
            watch.show(pictures, self.at.step)
        self.pictured = time.monotonic()
        self.picture_s = self.pictured - now


@contextmanager
def _bar(shown: bool) -> Iterator[Callable[[float, str], None]]:
    """A progress bar on stderr, moved by share done and text."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not shown) as bar:
        task = bar.add_task("train", total=1.0)
        yield lambda done, text: bar.update(task, completed=done, description=text)


@contextmanager
def _interrupts() -> Iterator[threading.Event]:
    """An event that Ctrl-C or a termination signal sets, so that a step is finished; the second is obeyed at once."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    names = (signal.SIGINT, signal.SIGTERM)
    before = {name: signal.getsignal(name) or signal.SIG_DFL for name in names}

    def note(number: int, _frame: Any) -> None:
        event.set()
        signal.signal(number, before[signal.Signals(number)])

    for name in names:
        signal.signal(name, note)
    try:
        yield event
    finally:
        for name in names:
            signal.signal(name, before[name])
