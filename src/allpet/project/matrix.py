"""The system matrix: the overlap of pixels and radial bins (distance-driven, strip-averaged).

A line is followed along the image axis closest to it, row by row (or column by column). On
each row a pixel is a box as wide as the pixel and a radial bin is a strip, not a line; the
weight is the share of the strip that the pixel covers times the length of the line within
the row (De Man and Basu, Phys. Med. Biol. 49, 2463, 2004). Against the analytic disk this
is sharper than Joseph's linear interpolation and needs a third fewer entries.

Only the bins with s <= 0 are stored: a bin with s > 0 is the one with -s of the object turned
by 180 degrees. That halves the memory, and turning the object by 180 degrees mirrors its
sinogram to the last bit.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from allpet.geometry import ImageGrid, ParallelBeam

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


def _half_view(phi: float, beam: ParallelBeam, grid: ImageGrid) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights in mm for the bins with s <= 0 of one view: ``(bin, pixel, weight)`` flat arrays, by bin."""
    cos, sin = math.cos(phi), math.sin(phi)
    n, pixel = grid.size, grid.pixel_mm
    along_rows = abs(cos) >= abs(sin)
    # In both cases: the line crosses grid line k (at `across`) at `where` on the other axis.
    major, minor = (cos, sin) if along_rows else (sin, cos)
    across = grid.y if along_rows else grid.x
    other = grid.x if along_rows else grid.y
    s = beam.radii[: (beam.bins + 1) // 2]
    where = (s[:, None] - across[None, :] * minor) / major
    half = 0.5 * beam.bin_mm / abs(major)  # half the strip's width along the other axis, in mm
    taps = math.ceil(2 * half / pixel) + 1
    position = where / pixel if along_rows else -where / pixel
    first = np.floor(position - half / pixel + n / 2).astype(np.int64)
    index = first[..., None] + np.arange(taps)
    inside = (index >= 0) & (index < n)
    index_in = np.clip(index, 0, n - 1)
    offset = other[index_in] - where[..., None]
    overlap = np.minimum(offset + pixel / 2, half) - np.maximum(offset - pixel / 2, -half)
    weight = overlap / (2 * half) * (pixel / abs(major))
    keep = inside & (weight > 1e-7 * pixel)
    bins, lines, _ = np.nonzero(keep)
    column = index_in[keep]
    flat = lines * n + column if along_rows else column * n + lines
    return bins, flat, weight[keep]


def half_matrix(beam: ParallelBeam, grid: ImageGrid) -> csr_matrix:
    """The rows of A for the bins with s <= 0 of every view: ``(views * ceil(bins / 2), n * n)``, float64, in mm.

    Row ``k * ceil(bins / 2) + i`` is view k, bin i.
    """
    from scipy.sparse import csr_matrix

    lower = (beam.bins + 1) // 2
    counts, indices, values = [], [], []
    for phi in beam.angles:
        bins, flat, weight = _half_view(float(phi), beam, grid)
        counts.append(np.bincount(bins, minlength=lower))
        indices.append(flat.astype(np.int32))
        values.append(weight)
    indptr = np.concatenate([[0], np.cumsum(np.concatenate(counts))]).astype(np.int32)
    shape = (beam.views * lower, grid.size * grid.size)
    matrix = csr_matrix((np.concatenate(values), np.concatenate(indices), indptr), shape=shape)
    matrix.sort_indices()
    return matrix
