"""The training loop: one for every recipe, resumed by running the same command again.

A run folder holds ``options.json`` (what was asked for), ``stats.jsonl`` (a line a report),
``checkpoint-RECIPE.safetensors`` (everything needed to go on) and the model itself, so that
the folder is a valid ``--model`` after the first report.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from allpet.errors import AllpetError
from allpet.train.recipes import RECIPES, Recipe
from allpet.train.samples import TrainingSet

REPORT_S = 30.0


def train(
    data: str | Path | Sequence[str | Path],
    out: str | Path,
    recipe: str = "base",
    max_minutes: float | None = None,
    max_steps: int | None = None,
    seed: int = 0,
    progress: bool = False,
) -> Path:
    """Train a part of the model on dataset stores; go on where the folder's last run stopped.

    Parameters
    ----------
    data : stores with ideal sinograms, images and attenuation (``allpet simulate`` without ``--task``).
    out : run folder. recipe : ``"base"`` (first stage and denoiser) or ``"low-dose"`` (restorer).
    max_minutes, max_steps : cumulative over all runs in the folder; default 20 minutes.
    seed : of weights, samples and noise.

    Returns
    -------
    the run folder.

    Raises
    ------
    AllpetError : unknown recipe, unusable data, or a folder that was begun with other options.
    """
    if recipe not in RECIPES:
        raise AllpetError(f"recipe '{recipe}' is unknown; known: {', '.join(RECIPES)}")
    if max_minutes is None and max_steps is None:
        max_minutes = 20.0
    for name, value in (("max_minutes", max_minutes), ("max_steps", max_steps)):
        if value is not None and not value > 0:
            raise AllpetError(f"{name} is {value}; it must be positive")
    paths = [data] if isinstance(data, str | Path) else list(data)
    samples = TrainingSet.load(paths)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    _same_options(folder / f"options-{recipe}.json", dict(recipe=recipe, seed=seed, samples=samples.fingerprint()))
    torch.manual_seed(seed)
    job: Recipe = RECIPES[recipe](samples, folder, seed)
    run = Run(job, folder, recipe, max_minutes, max_steps)
    run.restore()
    run.go(progress)
    return folder


def _same_options(path: Path, options: dict[str, Any]) -> None:
    if path.is_file():
        old = json.loads(path.read_text(encoding="utf-8"))
        changed = [key for key in options if old.get(key) != options[key]]
        if changed:
            raise AllpetError(f"{path}: this run was begun with another {' and '.join(changed)}; use another folder")
    else:
        _write_text(path, json.dumps(options, indent=1))


def _write_text(path: Path, text: str) -> None:
    from allpet.io.files import replacing

    with replacing(path) as (part,):
        part.write_text(text, encoding="utf-8")


class Run:
    """One recipe's network, optimiser, moving average and clock."""

    def __init__(self, job: Recipe, folder: Path, name: str, max_minutes: float | None, max_steps: int | None) -> None:
        self.job, self.folder, self.name = job, folder, name
        self.max_seconds = math.inf if max_minutes is None else 60 * max_minutes
        self.max_steps = math.inf if max_steps is None else max_steps
        self.network = job.network
        self.ema: nn.Module = copy.deepcopy(job.network).requires_grad_(False)
        self.optimizer = torch.optim.AdamW(job.network.parameters(), lr=job.rate, betas=(0.9, 0.99), weight_decay=1e-2)
        self.step, self.seconds = 0, 0.0

    @property
    def checkpoint(self) -> Path:
        return self.folder / f"checkpoint-{self.name}.safetensors"

    def restore(self) -> None:
        """Go on from the folder's checkpoint, if there is one."""
        if not self.checkpoint.is_file():
            return
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.checkpoint, "pt") as file:
                tensors = {key: file.get_tensor(key) for key in file.keys()}
                facts = json.loads(file.metadata()["state"])
            for prefix, module in (("net", self.network), ("ema", self.ema)):
                module.load_state_dict({k[4:]: v for k, v in tensors.items() if k.startswith(prefix + ".")})
        except (SafetensorError, RuntimeError, KeyError, TypeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise AllpetError(f"{self.checkpoint}: cannot be resumed ({reason}); delete it to start again") from None
        state: dict[str, Any] = self.optimizer.state_dict()
        for key, value in tensors.items():
            if key.startswith("opt."):
                _, index, name = key.split(".")
                state["state"].setdefault(int(index), {})[name] = value
        self.optimizer.load_state_dict(state)
        self.step, self.seconds = facts["step"], float(facts["seconds"])

    def save(self) -> None:
        """Write the checkpoint and the model, each in one step."""
        from safetensors.torch import save

        from allpet.io.files import replacing

        tensors = {f"net.{k}": v for k, v in self.network.state_dict().items()}
        tensors |= {f"ema.{k}": v for k, v in self.ema.state_dict().items()}
        for index, entry in self.optimizer.state_dict()["state"].items():
            tensors |= {f"opt.{index}.{k}": v for k, v in entry.items()}
        seconds = f"{self.seconds:017.6f}"  # of one width, so that a checkpoint's layout does not hang on the clock
        facts = {"state": json.dumps({"step": self.step, "seconds": seconds})}
        with replacing(self.checkpoint) as (part,):
            part.write_bytes(save({k: v.contiguous() for k, v in tensors.items()}, facts))
        self.job.export(self.ema, dict(recipe=self.name, steps=self.step, seconds=round(self.seconds)))

    def rate(self) -> float:
        """Learning rate: short warm-up, then a cosine to nearly nothing at whichever limit comes first."""
        done = max(self.seconds / self.max_seconds, self.step / self.max_steps)
        return self.job.rate * min(1.0, (self.step + 1) / 100) * (0.5 * (1 + math.cos(math.pi * min(done, 1.0))) + 0.01)

    def one_step(self) -> float:
        """One step; its samples depend on the seed and the step's number alone."""
        rng = torch.Generator().manual_seed((self.job.seed << 32) + self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate()
        loss = self.job.loss(self.network, rng)
        if not bool(torch.isfinite(loss)):
            raise AllpetError(f"{self.folder}: the loss became {float(loss)} at step {self.step}; lower the rate")
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        keep = min(self.job.ema, 1 - 1 / (0.1 * self.step + 1))
        with torch.no_grad():
            for average, value in zip(self.ema.parameters(), self.network.parameters(), strict=True):
                average.lerp_(value, 1 - keep)
        return float(loss.detach())

    def go(self, progress: bool) -> None:
        """Train to the limit, reporting and saving now and then."""
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        with Progress(*columns, disable=not progress) as bar:
            task = bar.add_task(f"{self.name}: step {self.step}", total=1.0)
            losses: list[float] = []
            last = time.monotonic()
            reported = last
            while self.step < self.max_steps and self.seconds < self.max_seconds:
                losses.append(self.one_step())
                now = time.monotonic()
                self.seconds += now - last
                last = now
                if now - reported >= REPORT_S:
                    self.report(losses)
                    losses, reported = [], now
                    done = max(self.seconds / self.max_seconds, self.step / self.max_steps)
                    bar.update(task, completed=done, description=f"{self.name}: step {self.step}")
            if losses or not self.checkpoint.is_file():
                self.report(losses)

    def report(self, losses: list[float]) -> None:
        """Append a line to ``stats.jsonl`` and save."""
        self.save()
        line = dict(recipe=self.name, step=self.step, seconds=round(self.seconds, 1), rate=self.rate())
        if losses:
            line["loss"] = sum(losses) / len(losses)
        with open(self.folder / "stats.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
