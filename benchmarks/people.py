"""Simulated people, models and training runs that several benchmarks share; made once a process."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch

TASK_OPTIONS: dict[str, dict[str, Any]] = {
    "low-dose": dict(tracer="FDG", region="brain", dose_fraction=0.05),
    "attenuation": dict(tracer="FDG", region="chest"),
    "delayed": dict(tracer="FDG", region="chest"),
    "convert": dict(tracer="FDG", region="abdomen", to="PSMA"),
    "separate": dict(tracer="FDG + PSMA", region="abdomen"),
}
"""How the scan of each task is simulated."""
APPLY_OPTIONS: dict[str, dict[str, Any]] = {"convert": dict(to="PSMA")}
SMALL: dict[str, Any] = dict(views=32, bins=32, region="pelvis")
"""Tiny scans, of a region that needs no template."""


@cache
def task_scan(task: str, planes: int, tiny: bool = False) -> Any:
    """A simulated scan for a task, 128 views x 128 bins (tiny: 32 x 32)."""
    from allpet.scan.simulate import simulate

    few = min(planes, 16)
    options = TASK_OPTIONS[task] | (SMALL if tiny else {})
    scan = simulate(few, task=task, background="quick", seed=0, **options).scan()
    return scan if few == planes else repeated(scan, planes)


def repeated(scan: Any, planes: int) -> Any:
    """A scan of more planes: its own again and again."""
    from dataclasses import replace

    from allpet.scan.core import FACTORS

    times = -(-planes // len(scan))
    names = [name for name in ("sinogram", *FACTORS) if getattr(scan, name) is not None]
    more: dict[str, Any] = {name: getattr(scan, name).repeat(times, 1, 1)[:planes] for name in names}
    if torch.is_tensor(scan.counts_per_unit):
        more["counts_per_unit"] = scan.counts_per_unit.repeat(times)[:planes]
    return replace(scan, **more)


@cache
def shipped() -> Any:
    """The model with the weights in the package."""
    from allpet.model import AllPET

    return AllPET.from_pretrained()


@cache
def training_data(n: int, tiny: bool = False) -> Any:
    """Ideal sinograms of people to learn from."""
    from allpet.scan.simulate import simulate
    from allpet.train.samples import TrainingSet

    return TrainingSet.from_dataset(simulate(n, seed=0, **(SMALL if tiny else {"region": "brain"})))


@cache
def task_pairs(n: int, tiny: bool = False) -> Any:
    """Pairs of the task low-dose, restored."""
    from allpet.io.store import write_store
    from allpet.scan.simulate import simulate
    from allpet.train.pairs import PairSet

    options = TASK_OPTIONS["low-dose"] | (SMALL if tiny else {})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pairs.zarr"
        write_store(simulate(n, task="low-dose", background="quick", seed=0, **options), path)
        restorer = shipped().need("restorer")
        return PairSet.load([path], small_restorer() if tiny else restorer)


def small_restorer() -> Any:
    """An untrained restorer of 32 x 32."""
    from allpet.model.restorer import Restorer

    return Restorer(32, 32, (8, 16), (8, 16), 16).eval().requires_grad_(False)


def training_run(recipe: Any, precision: str = "auto") -> Any:
    """What the training loop steps: network, optimiser, moving average; nothing is written.

    Parameters
    ----------
    recipe : a recipe's object; see :mod:`allpet.train.recipe`.
    """
    from allpet.precision import resolve
    from allpet.train.processes import World
    from allpet.train.run import Limits, Run, stopwatch

    if hasattr(type(recipe), "precision"):
        recipe.precision = resolve(precision, "cpu")
    limits, world = Limits(max_steps=10**9), World.join("cpu")
    return Run(recipe, Path("unused"), "bench", limits, world, range(1), 1, stopwatch("wall"), "wall", False)


def recipe_named(name: str, tiny: bool = False, n: int = 64, batch: int | None = None) -> Any:
    """A recipe of ours on simulated people; `batch` other than its own where given."""
    from allpet.train.recipes import RECIPES, Base

    folder = Path("unused")
    torch.manual_seed(0)
    if name == "tasks":
        made: Any = RECIPES[name](task_pairs(8 if tiny else n, tiny), folder, 0)
    elif name == "base":
        made = Base(training_data(8 if tiny else n, tiny), folder, 0, size=0.125 if tiny else 1.0)
    else:
        made = RECIPES[name](training_data(8 if tiny else n, tiny), folder, 0)
    if batch or tiny:
        made.batch = batch or 4
    return made
