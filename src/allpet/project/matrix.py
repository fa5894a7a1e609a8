"""The system matrix: the overlap of pixels and radial bins (distance-driven, strip-averaged).

A line is followed along the image axis closest to it, row by row (or column by column). On
each row a pixel is a box as wide as the pixel and a radial bin is a strip, not a line; the
weight is the share of the strip that the pixel covers times the length of the line within
the row (De Man and Basu, Phys. Med. Biol. 49, 2463, 2004). Against the analytic disk this
is sharper than Joseph's linear interpolation and needs a third fewer entries.

Bins with s > 0 are the mirror image of those with s < 0, entry by entry and in the same
order of summation, so that turning the object by 180 degrees mirrors its sinogram to the
last bit.
"""

from __future__ import annotations

import math

import numpy as np

from allpet.geometry import ImageGrid, ParallelBeam


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


def system_matrix(beam: ParallelBeam, grid: ImageGrid) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The matrix A in compressed rows.

    Returns
    -------
    indptr : int32 ``(views * bins + 1,)``; indices : int32 ``(nnz,)``, the flat pixel;
    values : float64 ``(nnz,)`` in mm. Row ``k * bins + i`` is view k, bin i. Indices of a
    row descend where s > 0 (see the module's note), so they are not sorted.
    """
    n_pixels = grid.size * grid.size
    lower = (beam.bins + 1) // 2
    counts, indices, values = [], [], []
    for phi in beam.angles:
        bins, flat, weight = _half_view(float(phi), beam, grid)
        flat, weight = flat.astype(np.int32), weight.astype(np.float64)
        per_bin = np.bincount(bins, minlength=lower)
        mirrored = beam.bins // 2  # bins with s > 0 are the mirror of the first ones, reversed as a whole
        stop = int(per_bin[:mirrored].sum())
        counts += [per_bin, per_bin[:mirrored][::-1]]
        # Reversing everything would also reverse each row; put each row back into mirrored summing order.
        starts = np.concatenate([[0], np.cumsum(per_bin[:mirrored])])
        order = _rows_reversed(starts)
        indices += [flat, (n_pixels - 1 - flat[:stop])[order]]
        values += [weight, weight[:stop][order]]
    indptr = np.concatenate([[0], np.cumsum(np.concatenate(counts))])
    return indptr.astype(np.int32), np.concatenate(indices), np.concatenate(values)


def _rows_reversed(starts: np.ndarray) -> np.ndarray:
    """Index that lists the rows bounded by `starts` last to first, each row in its own order."""
    lengths = np.diff(starts)[::-1]
    first = starts[:-1][::-1]
    shift = np.repeat(first - np.concatenate([[0], np.cumsum(lengths)[:-1]]), lengths)
    return shift + np.arange(int(starts[-1]))
