"""The projector A and its exact transpose, differentiable, on a cached sparse matrix."""

from __future__ import annotations

import warnings
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from allpet.errors import AllpetError
from allpet.geometry import ImageGrid, ParallelBeam
from allpet.project.matrix import half_matrix

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


GROUP = 16  # objects at a time: more would leave the cache


@lru_cache(maxsize=4)
def _rows(beam: ParallelBeam, grid: ImageGrid) -> csr_matrix:
    return half_matrix(beam, grid)


@lru_cache(maxsize=40)
def _matrix(
    beam: ParallelBeam,
    grid: ImageGrid,
    subset: tuple[int, int],
    transposed: bool,
    dtype: torch.dtype,
    device: torch.device,
) -> torch.Tensor:
    matrix = _rows(beam, grid)
    if subset[1] > 1:
        index = np.arange(matrix.shape[0]).reshape(beam.views, -1)[subset[0] :: subset[1]].ravel()
        matrix = matrix[index]
    if transposed:
        matrix = matrix.T.tocsr()
    indptr, indices = (torch.from_numpy(a.astype(np.int32)) for a in (matrix.indptr, matrix.indices))
    values = torch.from_numpy(matrix.data).to(dtype)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(
            indptr.to(device), indices.to(device), values.to(device), size=matrix.shape, check_invariants=False
        )


def _forward(matrix: torch.Tensor, image: torch.Tensor, views: int, bins: int) -> torch.Tensor:
    """``(n, pixels) -> (n, views * bins)``: the stored half sees the object and the object turned by 180 degrees."""
    both = torch.cat([image, image.flip(-1)]).T.contiguous()
    half = (matrix @ both).reshape(views, -1, 2, len(image))
    far = half[:, : bins // 2, 1].flip(1)
    return torch.cat([half[:, :, 0], far], dim=1).flatten(0, 1).T


def _backward(matrix: torch.Tensor, sinogram: torch.Tensor, views: int, bins: int) -> torch.Tensor:
    """The transpose of `_forward`: ``(n, views * bins) -> (n, pixels)``."""
    s = sinogram.reshape(-1, views, bins)
    near, far = s[..., : (bins + 1) // 2], s[..., (bins + 1) // 2 :].flip(-1)
    far = torch.nn.functional.pad(far, (0, bins % 2))
    both = matrix @ torch.cat([near, far]).flatten(1).T.contiguous()
    return (both[:, : len(s)] + both[:, len(s) :].flip(0)).T


class _Apply(torch.autograd.Function):
    """Matrix product whose backward pass is the stored transpose."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, projector: Projector, transposed: bool) -> torch.Tensor:
        ctx.projector, ctx.transposed = projector, transposed
        matrix = projector.half_matrix(transposed, x.dtype, x.device)
        with torch.autocast(device_type=x.device.type, enabled=False):
            run = _backward if transposed else _forward
            return torch.cat([run(matrix, part, *projector.shape) for part in x.split(GROUP)])

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return _Apply.apply(grads[0], ctx.projector, not ctx.transposed), None, None


class Projector:
    """``s = A x``: line integrals of an image, averaged over each radial bin.

    Parameters
    ----------
    beam : sinogram geometry. grid : image geometry.
    subset : ``(start, step)``: only the views start, start + step, ... (for ordered subsets);
        the sinogram then has only these views.

    Notes
    -----
    Image ``(..., n, n)`` in any unit u, sinogram ``(..., views, bins)`` in u*mm. float32 or
    float64 (half precision is computed in float32), CPU or CUDA: the matrix is built once
    for each device and type and cached. Forward, adjoint and their gradients use the same
    entries, so ``<A x, y> = <x, A' y>`` to rounding.
    """

    def __init__(self, beam: ParallelBeam, grid: ImageGrid, subset: tuple[int, int] = (0, 1)) -> None:
        self.beam, self.grid, self.subset = beam, grid, subset
        self.shape = len(range(subset[0], beam.views, subset[1])), beam.bins

    def __repr__(self) -> str:
        return f"Projector({self.beam}, {self.grid})"

    def half_matrix(
        self, transposed: bool = False, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> torch.Tensor:
        """The cached rows of A for the bins with s <= 0 (CSR, int32), or their transpose."""
        return _matrix(self.beam, self.grid, self.subset, transposed, dtype, torch.device(device))

    def _run(self, x: torch.Tensor, transposed: bool) -> torch.Tensor:
        shape_in, shape_out = self.grid.shape, self.shape
        if transposed:
            shape_in, shape_out = shape_out, shape_in
        if tuple(x.shape[-2:]) != shape_in:
            what = "sinogram" if transposed else "image"
            raise AllpetError(f"{what} has shape {tuple(x.shape)}; its last two axes must be {shape_in}")
        work = x if x.dtype in (torch.float32, torch.float64) else x.float()
        flat = work.reshape(-1, shape_in[0] * shape_in[1])
        out = _Apply.apply(flat, self, transposed)
        return out.reshape(*x.shape[:-2], *shape_out)

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """Project: ``(..., n, n) -> (..., views, bins)``, unit*mm."""
        return self._run(image, transposed=False)

    def adjoint(self, sinogram: torch.Tensor) -> torch.Tensor:
        """Back-project with the exact transpose: ``(..., views, bins) -> (..., n, n)``."""
        return self._run(sinogram, transposed=True)

    def attenuation(self, mu: torch.Tensor) -> torch.Tensor:
        """Attenuation factors exp(-A mu) in (0, 1] for mu in 1/mm, ``(..., views, bins)``."""
        return torch.exp(-self(mu))
