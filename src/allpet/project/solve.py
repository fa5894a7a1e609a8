"""Least squares with an operator and its adjoint."""

from __future__ import annotations

from collections.abc import Callable

import torch

Map = Callable[[torch.Tensor], torch.Tensor]


def least_squares(
    forward: Map, back: Map, data: torch.Tensor, steps: int, damping: float = 0.0, tolerance: float = 0.0
) -> torch.Tensor:
    """The x that minimises ``|forward(x) - data|^2 + damping |x|^2``, by conjugate gradients from zero.

    The iterates are those of LSQR (Paige and Saunders, ACM TOMS 8:43, 1982). Of a batch each item, its last two axes,
    has step lengths of its own. Rounding grows along the way: after 30 steps a small residual is good to some percent.

    Parameters
    ----------
    forward, back : linear, and its exact transpose. data : ``(..., rows, columns)``. steps : at most. tolerance :
        an item is left as it is when its gradient has become so much smaller than it was at first.
    """
    residual, gradient = data, back(data)
    found, direction, energy = torch.zeros_like(gradient), gradient, _square(gradient)
    tiny, first = torch.finfo(data.dtype).tiny, energy
    for _ in range(steps):
        shown = forward(direction)
        step = energy / (_square(shown) + damping * _square(direction)).clamp_min(tiny)
        step = torch.where(energy > tolerance**2 * first, step, 0.0)
        found = found + step * direction
        residual = residual - step * shown
        gradient = back(residual) - damping * found
        previous, energy = energy, _square(gradient)
        if bool((energy <= tolerance**2 * first).all()):
            break
        direction = gradient + energy / previous.clamp_min(tiny) * direction
    return found


def _square(x: torch.Tensor) -> torch.Tensor:
    return x.square().sum(dim=(-2, -1), keepdim=True)
