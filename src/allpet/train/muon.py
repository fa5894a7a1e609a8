"""Muon: momentum whose matrices are orthogonalised before they are applied; AdamW for everything else.

K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024); the scale that lets it share
AdamW's learning rate and weight decay is that of Liu et al., arXiv 2502.16982. A convolution's kernel counts as a
matrix (outputs, inputs times positions).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from allpet.precision import native_bf16

MOMENTUM = 0.95
COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic whose iterates go to 1 fastest (Jordan et al.)


class Muon(torch.optim.Optimizer):
    """One optimiser of two kinds of parameter groups.

    Parameters
    ----------
    matrices : weights of two or more dimensions. others : all other weights, for AdamW.
    lr : learning rate of both. betas : AdamW's. weight_decay : of both, decoupled.
    """

    def __init__(
        self,
        matrices: Iterable[nn.Parameter],
        others: Iterable[nn.Parameter],
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 1e-2,
    ) -> None:
        groups = [dict(params=list(matrices), muon=True), dict(params=list(others), muon=False)]
        super().__init__(groups, dict(lr=lr, betas=betas, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Apply the gradients."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            for p in params:
                p.mul_(1 - group["lr"] * group["weight_decay"])
            (self._muon if group["muon"] else self._adamw)(params, group)
        return loss

    def _muon(self, params: list[nn.Parameter], group: dict[str, Any]) -> None:
        alike: dict[tuple[int, int], list[tuple[nn.Parameter, torch.Tensor]]] = {}
        for p in params:
            state, grad = self.state[p], p.grad
            assert grad is not None
            if not state:
                state["momentum"] = torch.zeros_like(p)
            state["momentum"].lerp_(grad, 1 - MOMENTUM)
            matrix = grad.lerp(state["momentum"], MOMENTUM).reshape(len(p), -1)
            alike.setdefault((matrix.shape[0], matrix.shape[1]), []).append((p, matrix))
        for shape, items in alike.items():
            steps = orthogonal(torch.stack([matrix for _, matrix in items]))
            for (p, _), step in zip(items, steps, strict=True):
                p.add_(step.reshape(p.shape), alpha=-group["lr"] * 0.2 * max(shape) ** 0.5)

    def _adamw(self, params: list[nn.Parameter], group: dict[str, Any]) -> None:
        first, second = group["betas"]
        for p in params:
            state, grad = self.state[p], p.grad
            assert grad is not None
            if not state:
                state["step"] = torch.zeros((), device=p.device)
                state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(p), torch.zeros_like(p)
            state["step"] += 1
            state["exp_avg"].lerp_(grad, 1 - first)
            state["exp_avg_sq"].mul_(second).addcmul_(grad, grad, value=1 - second)
            count = float(state["step"])
            size = (state["exp_avg_sq"] / (1 - second**count)).sqrt_().add_(1e-8)
            p.addcdiv_(state["exp_avg"], size, value=-group["lr"] / (1 - first**count))


def orthogonal(matrices: torch.Tensor, iterations: int = 5) -> torch.Tensor:
    """Nearly the orthogonal factor of each matrix ``(n, rows, columns)``: singular values go to about 1 (0.7 to 1.2).

    Newton-Schulz iterations, in bfloat16 where the device multiplies it in hardware, else in float32.
    """
    x = matrices / matrices.norm(dim=(1, 2), keepdim=True).clamp_min(1e-12)
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    x = x.bfloat16() if native_bf16(x.device.type) else x
    a, b, c = COEFFICIENTS
    for _ in range(iterations):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if tall else x).to(matrices.dtype)


def muon(network: nn.Module, inner: nn.Module, lr: float) -> Muon:
    """Muon for the matrices inside of `inner` (all but its first and last layer), AdamW for the rest of `network`."""
    edge = ("enter.", "leave.")
    chosen = [p for name, p in inner.named_parameters() if p.ndim >= 2 and not name.startswith(edge)]
    known = {id(p) for p in chosen}
    return Muon(chosen, [p for p in network.parameters() if id(p) not in known], lr)
