"""The contract between the training loop and what it trains: one required protocol, a few optional ones.

A recipe may also have ``betas``, AdamW's (default 0.9, 0.99), unless it brings its own optimiser, and ``precision``, an
attribute of the class that says it can train in bfloat16: the loop sets it to ``"bf16"`` or ``"fp32"`` before the first
step, and the recipe runs its network in ``autocast(device, self.precision)`` of :mod:`allpet.precision`.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch


class Recipe(Protocol):
    """What every recipe has.

    Parameters
    ----------
    seed : of weights and samples, not negative. rate : peak learning rate. ema : decay of the moving average of the
    weights, below 1. batch : samples that one call of :meth:`loss` draws. progress : share of the budget that is used
    up, 0 to 1; the loop sets it before each step.
    """

    seed: int
    rate: float
    ema: float
    batch: int
    progress: float

    @property
    def network(self) -> Any:
        """What is trained: a ``torch.nn.Module`` of float32 weights."""

    def loss(self, network: Any, rng: torch.Generator) -> torch.Tensor:
        """Loss of one micro-batch, a scalar: everything random in it comes from `rng` (or torch's global generator)."""

    def export(self, network: Any, record: dict[str, Any]) -> None:
        """Write the model with this network (in eval mode) into the run folder, every file in one step."""


@runtime_checkable
class HeldOut(Protocol):
    """A recipe with subjects kept apart."""

    def held_out(self, network: Any, rng: torch.Generator) -> float | None:
        """Loss on subjects that are not trained on, lower is better; None where there are none.

        The network is the moving average, in eval mode; `rng` has the same seed in every call, so the noise is fixed.
        """


@runtime_checkable
class Pictures(Protocol):
    """A recipe that can show what it has learnt."""

    def pictures(self, network: Any) -> torch.Tensor | None:
        """A few samples ``(n, h, w)``, never below 0, to look at; None where there is nothing to see."""


@runtime_checkable
class Movable(Protocol):
    """A recipe that can train on an accelerator."""

    def to(self, device: torch.device) -> Any:
        """Move the recipe's own tensors (the loop moves the network); generators stay on the CPU."""


@runtime_checkable
class Optimised(Protocol):
    """A recipe with an optimiser of its own."""

    def optimizer(self, network: Any) -> torch.optim.Optimizer:
        """For all of the network's weights; its state must be tensors of a weight's shape, or scalars named "step"."""
