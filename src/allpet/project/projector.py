"""The projector A and its exact transpose, differentiable, on a cached sparse matrix."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch

from allpet.errors import AllpetError
from allpet.geometry import ImageGrid, ParallelBeam
from allpet.project.matrix import system_matrix


@lru_cache(maxsize=4)
def _entries(beam: ParallelBeam, grid: ImageGrid) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return tuple(torch.from_numpy(part) for part in system_matrix(beam, grid))  # type: ignore[return-value]


def _csr(indptr: torch.Tensor, indices: torch.Tensor, values: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    import warnings

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        # Rows are deliberately unsorted (see matrix.py), so the invariants are not checked.
        return torch.sparse_csr_tensor(indptr, indices, values, size=shape, check_invariants=False)


@lru_cache(maxsize=40)
def _matrix(
    beam: ParallelBeam,
    grid: ImageGrid,
    subset: tuple[int, int],
    transposed: bool,
    dtype: torch.dtype,
    device: torch.device,
) -> torch.Tensor:
    from scipy.sparse import csr_matrix

    indptr, indices, values = _entries(beam, grid)
    start, step = subset
    shape = (beam.views * beam.bins, grid.size * grid.size)
    if step > 1:
        rows = torch.arange(shape[0]).reshape(beam.shape)[start::step].flatten()
        lengths = indptr.diff()[rows]
        where = torch.repeat_interleave(indptr[rows] - (lengths.cumsum(0) - lengths), lengths)
        where = where + torch.arange(len(where))
        indptr = torch.cat([torch.zeros(1), lengths.cumsum(0)]).to(torch.int32)
        indices, values = indices[where], values[where]
        shape = (len(rows), shape[1])
    if transposed:
        forward = csr_matrix((values.numpy(), indices.numpy(), indptr.numpy()), shape=shape)
        backward = forward.tocsc()
        indptr, indices, values = (torch.from_numpy(a) for a in (backward.indptr, backward.indices, backward.data))
        shape = (shape[1], shape[0])
    return _csr(indptr.to(device), indices.to(device), values.to(dtype).to(device), shape)


def _multiply(matrix: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """``matrix @ x`` for rows of x: ``(batch, columns) -> (batch, rows)``."""
    with torch.autocast(device_type=x.device.type, enabled=False):
        if len(x) == 1:
            return (matrix @ x[0])[None]
        return (matrix @ x.T.contiguous()).T


class _Apply(torch.autograd.Function):
    """Matrix product whose backward pass is the stored transpose."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, projector: Projector, transposed: bool) -> torch.Tensor:
        ctx.projector, ctx.transposed = projector, transposed
        return _multiply(projector.matrix(transposed, x.dtype, x.device), x)

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

    def matrix(
        self, transposed: bool = False, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> torch.Tensor:
        """The cached sparse matrix (CSR, int32): A ``(views*bins, n*n)`` or its transpose."""
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
