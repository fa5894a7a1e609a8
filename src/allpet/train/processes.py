"""Data-parallel training: processes that share every step's micro-batches and average their gradients.

They are started by ``accelerate launch`` or ``torchrun``, which say so in the environment; `accelerate` forms the group
(gloo on CPUs, nccl on GPUs). Without a launcher there is one process and nothing is communicated.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn

from allpet.errors import AllpetError


@dataclass(frozen=True)
class World:
    """This process among all: `rank` of `size`, computing on `device`."""

    rank: int
    size: int
    device: torch.device

    @classmethod
    def join(cls, kind: str) -> World:
        """Meet the other processes, if a launcher started several; `kind` is ``"cpu"`` or ``"cuda"``."""
        if int(os.environ.get("WORLD_SIZE", "1")) < 2:
            return cls(0, 1, torch.device(kind))
        from accelerate import PartialState

        state = PartialState(cpu=kind == "cpu")
        return cls(state.process_index, state.num_processes, state.device)

    @property
    def first(self) -> bool:
        """The process that writes."""
        return self.rank == 0

    def leave(self) -> None:
        """Part from the others."""
        if self.size > 1:
            dist.destroy_process_group()

    def share(self, micro: int) -> range:
        """Numbers of the micro-batches that are this process's.

        Raises
        ------
        AllpetError : they cannot be shared evenly.
        """
        if micro < 1 or micro % self.size:
            raise AllpetError(
                f"micro-batches are {micro}; {self.size} process(es) need a positive multiple of {self.size}"
            )
        return range(self.rank, micro, self.size)

    def alone(self, work: Callable[[], None]) -> None:
        """Do something in the first process while the others wait; an AllpetError there ends them all."""
        error: AllpetError | None = None
        if self.first:
            try:
                work()
            except AllpetError as caught:
                error = caught
        (failed,) = self.total([float(error is not None)])
        if error is not None:
            raise error
        if failed:
            raise AllpetError("the first process ended; its message says why")

    def total(self, values: Sequence[float]) -> list[float]:
        """Sum of each value over all processes."""
        if self.size == 1:
            return list(values)
        both = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(both)
        return both.tolist()

    def alike(self, module: nn.Module) -> None:
        """Give every process the first one's weights and buffers."""
        if self.size > 1:
            for value in module.state_dict().values():
                if isinstance(value, torch.Tensor):
                    dist.broadcast(value, 0)

    def add_gradients(self, parameters: Sequence[nn.Parameter], loss: torch.Tensor) -> torch.Tensor:
        """Sum gradients over all processes, in place, and the loss, which is returned.

        A parameter without a gradient in every process keeps none, so that the optimiser leaves it alone as it would
        in one process.
        """
        if self.size == 1:
            return loss
        has = torch.tensor([float(p.grad is not None) for p in parameters], device=loss.device)
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = torch.cat([loss.reshape(1), has, *(g.flatten() for g in grads)])
        dist.all_reduce(flat)
        n = 1 + len(parameters)
        for p, g, seen, part in zip(
            parameters, grads, flat[1:n], flat[n:].split([g.numel() for g in grads]), strict=True
        ):
            p.grad = g.copy_(part.view(g.shape)) if seen else None
        return flat[0]
