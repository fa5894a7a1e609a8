"""3 x 3 convolutions with a quarter of the multiplications, for float32 on processors without matrix units.

Winograd's minimal filtering F(4 x 4, 3 x 3) (Lavin and Gray, CVPR 2016): an output tile of 4 x 4 takes 36 products a
pair of channels instead of 144. The transforms are matrix products too, so that all of it runs in the BLAS.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

TILE = 4
LEAST = 32
"""Channels below which the transforms cost more than the products that they save."""

_INPUT = (
    (4.0, 0.0, -5.0, 0.0, 1.0, 0.0),
    (0.0, -4.0, -4.0, 1.0, 1.0, 0.0),
    (0.0, 4.0, -4.0, -1.0, 1.0, 0.0),
    (0.0, -2.0, -1.0, 2.0, 1.0, 0.0),
    (0.0, 2.0, -1.0, -2.0, 1.0, 0.0),
    (0.0, 4.0, 0.0, -5.0, 0.0, 1.0),
)
_KERNEL = (
    (1 / 4, 0.0, 0.0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0.0, 0.0, 1.0),
)
_OUTPUT = (
    (1.0, 1.0, 1.0, 1.0, 1.0, 0.0),
    (0.0, 1.0, -1.0, 2.0, -2.0, 0.0),
    (0.0, 1.0, 1.0, 4.0, 4.0, 0.0),
    (0.0, 1.0, -1.0, 8.0, -8.0, 1.0),
)


def _both_ways(matrix: tuple[tuple[float, ...], ...]) -> torch.Tensor:
    """The transform of rows and columns at once, of tiles laid out as vectors."""
    one = torch.tensor(matrix)
    return torch.kron(one, one).contiguous()


_TO_PRODUCTS, _FROM_PRODUCTS = _both_ways(_INPUT), _both_ways(_OUTPUT)


def pays(x: torch.Tensor, weight: torch.Tensor) -> bool:
    """Whether :func:`convolve` can stand for a padded 3 x 3 convolution of `x`, and is quicker."""
    return (
        not torch.is_grad_enabled()
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and min(weight.shape[:2]) >= LEAST
        and x.shape[-2] % TILE == 0
        and x.shape[-1] % TILE == 0
    )


def kernel(weight: torch.Tensor) -> torch.Tensor:
    """Weights ``(n_out, n_in, 3, 3)`` as factors of the products, ``(36, n_in, n_out)``."""
    g = torch.tensor(_KERNEL, dtype=torch.float64)
    out = torch.einsum("ai,oeij,bj->abeo", g, weight.detach().double(), g)
    return out.reshape(36, weight.shape[1], weight.shape[0]).float().contiguous()


class Factors:
    """The factors of a layer's weights, made anew when these have changed."""

    def __init__(self) -> None:
        self._made: tuple[torch.Tensor, int, torch.Tensor] | None = None

    def of(self, weight: torch.Tensor) -> torch.Tensor:
        """:func:`kernel` of the weights as they are now."""
        made = self._made
        if made is None or made[0].data_ptr() != weight.data_ptr() or made[1] != weight._version:
            # The weights are kept beside their factors, so that no others can come to lie at the same address.
            self._made = made = (weight.detach(), weight._version, kernel(weight))
        return made[2]


def convolve(x: torch.Tensor, factors: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """Convolution with zeros beyond the edge.

    Parameters
    ----------
    x : ``(n, n_in, rows, columns)``, both multiples of 4. factors : from :func:`kernel`. bias : ``(n_out,)``.

    Returns
    -------
    ``(n, n_out, rows, columns)`` in channels-last order; within 2e-5 of the largest value of a direct convolution.
    """
    n, n_in, rows, columns = x.shape
    down, across, n_out = rows // TILE, columns // TILE, factors.shape[2]
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1)).contiguous()
    sample, row, column, channel = padded.stride()
    shape, stride = (6, 6, n, down, across, n_in), (row, column, sample, TILE * row, TILE * column, channel)
    tiles = padded.as_strided(shape, stride).reshape(36, -1)
    products = torch.bmm((_TO_PRODUCTS @ tiles).view(36, -1, n_in), factors).view(36, -1)
    out = (_FROM_PRODUCTS @ products).view(TILE, TILE, n, down, across, n_out)
    flat = out.permute(2, 3, 0, 4, 1, 5).reshape(n, rows, columns, n_out)
    return (flat if bias is None else flat.add_(bias)).permute(0, 3, 1, 2)
