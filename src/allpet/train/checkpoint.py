"""A training run's state in one safetensors file: weights, average, best, optimiser, counters.

The file is replaced in one step, so a process killed at any moment leaves the older or the newer one, whole.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import nn

from allpet.errors import AllpetError
from allpet.io.files import replacing
from allpet.model.sealed import read_weights, with_hash


@dataclass
class Counters:
    """Where a run stands.

    Parameters
    ----------
    step : steps done. seconds : budget used, all runs together. reported : step of the last report.
    skipped, in_a_row : steps without an update because loss or gradient was not finite, in all and up to now.
    loss, losses : sum and number of the losses since the last report.
    best, best_step : lowest held-out loss and its step, None before the first. stale : reports since then.
    """

    step: int = 0
    seconds: float = 0.0
    reported: int = -1
    skipped: int = 0
    in_a_row: int = 0
    loss: float = 0.0
    losses: int = 0
    best: float | None = None
    best_step: int | None = None
    stale: int = 0


def weights(prefix: str, module: nn.Module) -> dict[str, torch.Tensor]:
    """Weights and buffers of a module, each name after ``PREFIX.``."""
    return {f"{prefix}.{k}": v for k, v in module.state_dict().items() if isinstance(v, torch.Tensor)}


def moments(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """The optimiser's tensors as ``opt.PARAMETER.NAME``."""
    state = optimizer.state_dict()["state"]
    return {f"opt.{index}.{name}": value for index, entry in state.items() for name, value in entry.items()}


def write(path: Path, recipe: str, counters: Counters, tensors: Mapping[str, torch.Tensor]) -> None:
    """Replace the checkpoint.

    Raises
    ------
    AllpetError : the disk is full or the folder cannot be written; the older checkpoint stays.
    """
    facts: dict[str, Any] = {"recipe": recipe, **asdict(counters)}
    facts["seconds"] = f"{counters.seconds:017.6f}"  # of one width, so that the layout does not hang on the clock
    kept = _apart(tensors)
    with replacing(path) as (part,):
        try:
            save_file(kept, part, with_hash(kept, {"state": json.dumps(facts)}))
        except SafetensorError as error:
            raise AllpetError(f"{path}: cannot be written ({error}); an older one is kept if there was one") from None
        with open(part, "rb+") as file:
            os.fsync(file.fileno())


def _apart(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """On the CPU, contiguous, and copied where two names share memory, which the format forbids."""
    seen: set[int] = set()
    out = {}
    for name, value in tensors.items():
        value = value.detach().cpu().contiguous()
        place = value.untyped_storage().data_ptr()
        out[name] = value.clone() if place in seen else value
        seen.add(place)
    return out


class Checkpoint:
    """A checkpoint read back; every use that does not fit raises an AllpetError that names the file.

    Raises
    ------
    AllpetError : torn, not a checkpoint, or another recipe's.
    """

    def __init__(self, path: Path, recipe: str) -> None:
        self.path = path
        try:
            known = read_weights(path)
            self.tensors, facts = known.tensors, json.loads(known.facts["state"])
            if (theirs := facts.pop("recipe")) != recipe:
                raise ValueError(f"it is of recipe '{theirs}'")
            self.counters = Counters(**{**facts, "seconds": float(facts["seconds"])})
        except (SafetensorError, OSError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise self._refusal(error) from None

    def fill(self, prefix: str, module: nn.Module) -> None:
        """Copy ``PREFIX.*`` into a module's weights and buffers."""
        targets = weights(prefix, module)
        mine = {key for key in self.tensors if key.startswith(prefix + ".")}
        if odd := mine ^ targets.keys():
            raise self._refusal(f"its network is another: {len(odd)} tensors differ, such as '{min(odd)}'")
        with torch.no_grad():
            for key, target in targets.items():
                target.copy_(self._shaped(key, target))

    def has(self, prefix: str) -> bool:
        """Whether there are tensors ``PREFIX.*``."""
        return any(key.startswith(prefix + ".") for key in self.tensors)

    def fill_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        """Give the optimiser its moments back, in each parameter's own memory layout."""
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        for key in self.tensors:
            if key.startswith("opt."):
                _, index, name = key.split(".")
                if int(index) >= len(parameters):
                    raise self._refusal(f"it has moments of parameter {index} of {len(parameters)}")
                p = parameters[int(index)]
                like = torch.empty((), device=p.device) if name == "step" else torch.empty_like(p)
                optimizer.state[p][name] = like.copy_(self._shaped(key, like))

    def _shaped(self, key: str, like: torch.Tensor) -> torch.Tensor:
        value = self.tensors[key]
        if value.shape != like.shape:
            raise self._refusal(f"'{key}' is {tuple(value.shape)}, not {tuple(like.shape)}")
        return value

    def _refusal(self, reason: object) -> AllpetError:
        text = " ".join(str(reason).split())[:200]
        return AllpetError(f"{self.path}: cannot be resumed ({text}); delete it to start again")


def clear_parts(path: Path) -> None:
    """Remove what processes that were killed while writing the checkpoint left beside it, safetensors' own part too."""
    for part in path.parent.glob(".tmp??????"):
        part.unlink(missing_ok=True)
    for part in path.parent.glob(f".{path.name}.*.part"):
        part.unlink(missing_ok=True)
