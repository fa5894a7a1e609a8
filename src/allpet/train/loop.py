"""The training loop: one for every recipe, resumed by running the same command again.

A run folder holds ``options-RECIPE.json`` (what was asked for), ``stats.jsonl`` (a line a report),
``checkpoint-RECIPE.safetensors`` (everything needed to go on), ``tensorboard/`` and ``samples/`` (to look at), and the
model itself, so that the folder is a valid ``--model`` after the first report.

A step depends on the seed and its number alone, and with a limit in steps so do the learning rate and the moments at
which the best weights are chosen: killed at any time, the same command ends with the same weights (bit by bit on one
thread). A limit in minutes alone makes the rate follow the clock, and runs repeatable only as far as the clock is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import torch

from allpet.errors import AllpetError
from allpet.io.files import replacing
from allpet.io.place import locked
from allpet.precision import resolve
from allpet.train.processes import World
from allpet.train.recipe import Movable
from allpet.train.recipes import RECIPES
from allpet.train.run import Limits, Run, stopwatch
from allpet.train.samples import TrainingSet


class Samples(Protocol):
    """What a recipe learns from, in memory."""

    def fingerprint(self) -> str:
        """Changes with the data."""


Builder = Callable[[Any, Path, int], Any]
"""What makes a recipe of data, run folder and seed."""


def train(
    data: str | Path | Samples | Sequence[str | Path],
    out: str | Path,
    recipe: str | Builder = "base",
    max_minutes: float | None = None,
    max_steps: int | None = None,
    seed: int = 0,
    progress: bool = False,
    *,
    precision: str = "auto",
    device: str = "auto",
    micro_batches: int = 1,
    patience: int | None = None,
    report_steps: int | None = None,
    save_seconds: float = 30.0,
    tensorboard: bool = True,
    max_memory_gib: float | None = None,
    clock: Literal["wall", "cpu"] = "wall",
) -> Path:
    """Train a part of the model on dataset stores; go on where the folder's last run stopped.

    Under ``accelerate launch`` or ``torchrun`` the processes share each step's micro-batches and one of them writes.

    Parameters
    ----------
    data : stores with ideal sinograms, images and attenuation (``allpet simulate`` without ``--task``), for recipe
    ``tasks`` stores of pairs (with ``--task``); or such a set.
    out : run folder. recipe : a name in ``RECIPES``, or a class to the contract of :mod:`allpet.train.recipe`.
    max_minutes, max_steps : cumulative over all runs in the folder; default 20 minutes. A new run's setting up counts
    as time; it makes one step at least. Where both are given the rate follows the steps, and the minutes cut it short.
    seed : of weights, samples and noise. progress : show a bar on stderr.
    precision : ``"bf16"``, ``"fp32"`` or ``"auto"`` (see :func:`allpet.precision.resolve`).
    device : ``"cpu"``, ``"cuda"`` or ``"auto"``: the GPU where there is one and the recipe can use it.
    micro_batches : a step's loss is the mean over so many batches of the recipe; a multiple of the processes.
    patience : end after so many reports without a lower held-out loss. Off by default: the best weights are kept
    anyway, and the loss falls most while the rate does at the end, which a plateau before would cut off.
    report_steps : steps between reports; default: a fiftieth of `max_steps`, 10 at least, or by the clock without it.
    save_seconds : time between checkpoints, beside those at reports. tensorboard : event files, where it is installed.
    max_memory_gib : end when a process's resident memory exceeds this.
    clock : what minutes are: ``"wall"``, or ``"cpu"`` (processor time of all threads and processes: a fair budget on a
    shared machine).

    Returns
    -------
    the run folder.

    Raises
    ------
    AllpetError : unknown recipe or option, unusable data, a folder that was begun with other options or that another
    process trains in, a checkpoint that does not fit, 20 steps in a row without a finite loss, too much memory, or a
    full disk.
    KeyboardInterrupt : after Ctrl-C or a termination signal, with a checkpoint of the last step.
    """
    name, build = _builder(recipe)
    limits = Limits(max_minutes, max_steps, patience, report_steps, save_seconds, max_memory_gib)
    if clock not in ("wall", "cpu"):
        raise AllpetError(f"clock '{clock}' is unknown; known: wall, cpu")
    if seed < 0:
        raise AllpetError(f"seed is {seed}; it must not be negative")
    folder = Path(out)
    if isinstance(data, Sequence) and not len(data):
        raise AllpetError("no data are named; give at least one store (.zarr)")
    samples = _samples(data, build, folder)
    folder.mkdir(parents=True, exist_ok=True)
    world = World.join(_device(device, build, name))
    share = world.share(micro_batches)
    options: dict[str, Any] = dict(recipe=name, seed=seed, samples=samples.fingerprint(), micro_batches=micro_batches)
    options |= dict(precision=_precision(precision, build, world.device, name), clock=clock)
    options |= getattr(build, "options", {})
    with _Lock(world, folder / "stats.jsonl"):
        begun = folder / f"options-{name}.json"
        world.alone(lambda: _same_options(begun, options))
        lap = stopwatch(clock)
        torch.manual_seed(seed)
        job = build(samples, folder, seed)
        world.alone(lambda: _keep_options(begun, options))
        if hasattr(build, "precision"):
            job.precision = options["precision"]
        if world.device.type != "cpu" and isinstance(job, Movable):
            job.to(world.device)
        run = Run(job, folder, name, limits, world, share, micro_batches, lap, clock, tensorboard)
        run.restore()
        run.go(progress)
    world.leave()
    return folder


def _builder(recipe: str | Builder) -> tuple[str, Builder]:
    if not isinstance(recipe, str):
        name = getattr(recipe, "name", getattr(recipe, "__name__", None))
        if not isinstance(name, str):
            raise AllpetError("the recipe has no name; give a class, or something with an attribute `name`")
        return name, recipe
    if recipe not in RECIPES:
        raise AllpetError(f"recipe '{recipe}' is unknown; known: {', '.join(RECIPES)}")
    return recipe, RECIPES[recipe]


def _samples(data: Any, build: Builder, folder: Path) -> Any:
    """Samples as they are, or those in stores as the recipe reads them."""
    if hasattr(data, "fingerprint"):
        return data
    paths = [data] if isinstance(data, str | Path) else list(data)
    if hasattr(build, "load"):
        return build.load(paths, folder)
    return TrainingSet.load(paths)


def _device(device: str, build: Builder, name: str) -> str:
    if device not in ("auto", "cpu", "cuda"):
        raise AllpetError(f"device '{device}' is unknown; known: auto, cpu, cuda")
    movable = hasattr(build, "to")
    if device == "auto":
        return "cuda" if movable and torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise AllpetError("device 'cuda' was asked for and there is none; use cpu or auto")
    if device == "cuda" and not movable:
        raise AllpetError(f"recipe '{name}' trains on the CPU only; use --device cpu")
    return device


def _precision(precision: str, build: Builder, device: torch.device, name: str) -> str:
    resolved = resolve(precision, device)
    if hasattr(build, "precision"):
        return resolved
    if precision == "bf16":
        raise AllpetError(f"recipe '{name}' trains in float32 only; use --precision fp32")
    return "fp32"


class _Lock:
    """The run folder for this command alone: the first process holds the lock for all."""

    def __init__(self, world: World, path: Path) -> None:
        self.world, self.lock = world, locked(path)

    def __enter__(self) -> None:
        self.world.alone(self.lock.__enter__)

    def __exit__(self, *error: Any) -> None:
        if self.world.first:
            self.lock.__exit__(*error)


def _same_options(path: Path, options: dict[str, Any]) -> None:
    if path.is_file():
        try:
            old = json.loads(path.read_text(encoding="utf-8"))
            changed = [key for key in options if old.get(key) != options[key]]
        except (ValueError, AttributeError):
            raise AllpetError(f"{path}: is damaged; delete it and the checkpoint, or use another folder") from None
        if changed:
            raise AllpetError(f"{path}: this run was begun with another {' and '.join(changed)}; use another folder")


def _keep_options(path: Path, options: dict[str, Any]) -> None:
    """Write down what a run is begun with, once it can begin."""
    if not path.is_file():
        with replacing(path) as (part,):
            part.write_text(json.dumps(options, indent=1), encoding="utf-8")
