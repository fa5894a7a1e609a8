"""How many different things a set holds: correlation, participation ratio, Vendi score; and sliding block masks.

All are free of unit. Random masks (RMAS, DMM) stand beside the block of 64 pixels that slides over an image of 512.
"""

from __future__ import annotations

import torch

from allpet.errors import AllpetError


def _set(x: torch.Tensor) -> torch.Tensor:
    if x.ndim < 2 or len(x) < 2:
        raise AllpetError(f"a set has shape {tuple(x.shape)}; it must be (n, ...) with n > 1")
    return x.reshape(len(x), -1).double()


def _unit(rows: torch.Tensor, what: str) -> torch.Tensor:
    norm = rows.norm(dim=1, keepdim=True)
    flat = (~(norm[:, 0] > 0)).nonzero()
    if len(flat):
        raise AllpetError(f"member {int(flat[0])} of the set is {what}; every one must differ from that")
    return rows / norm


def mean_pairwise_correlation(x: torch.Tensor) -> float:
    """Mean Pearson correlation over all pairs of a set ``(n, ...)``, in [-1/(n-1), 1]: 1 where all are alike.

    Raises
    ------
    AllpetError : fewer than two; a constant member, which correlates with nothing.
    """
    rows = _set(x)
    rows = _unit(rows - rows.mean(dim=1, keepdim=True), "constant")
    n = len(rows)
    return float((rows.sum(dim=0).square().sum() - n) / (n * (n - 1)))


def participation_ratio(x: torch.Tensor) -> float:
    """Effective number of independent directions, ``(sum l)^2 / sum l^2`` of the covariance's eigenvalues l.

    For a set ``(n, ...)``, in [1, n - 1]: 1 where the members differ along one direction only, n - 1 at most, where
    every one has its own.

    Raises
    ------
    AllpetError : fewer than two; members that are all alike.
    """
    rows = _set(x)
    rows = rows - rows.mean(dim=0)
    gram = rows @ rows.T if len(rows) <= rows.shape[1] else rows.T @ rows
    if not float(gram.diagonal().sum()) > 0:
        raise AllpetError("the set's members are all alike; they must vary")
    return float(gram.diagonal().sum().square() / gram.square().sum())


def vendi_score(x: torch.Tensor) -> float:
    """Effective number of different members of a set ``(n, ...)``, in [1, n] (Friedman and Dieng, arXiv 2210.02410).

    Exponential of the entropy of the eigenvalues of K / n, K the matrix of cosines.

    Raises
    ------
    AllpetError : fewer than two; a member that is zero.
    """
    rows = _unit(_set(x), "zero")
    values = torch.linalg.eigvalsh(rows @ rows.T / len(rows)).clamp_min(0)
    return float(torch.exp(-torch.special.xlogy(values, values).sum()))


def sliding_block_masks(size: int, block: int | None = None, stride: int | None = None) -> torch.Tensor:
    """Square blocks at every position of a regular grid, float32 ``(m, size, size)`` of 0 and 1, row by row.

    Parameters
    ----------
    size : pixels along a side of the image. block : of the block, default an eighth of `size` (64 of 512 pixels).
    stride : pixels from block to block, default `block`; blocks lie wholly inside the image.

    Raises
    ------
    AllpetError : a block or stride that is not in [1, size].
    """
    block = max(1, size // 8) if block is None else block
    stride = block if stride is None else stride
    if not (1 <= block <= size and 1 <= stride <= size):
        raise AllpetError(f"block is {block} and stride {stride}; both must lie from 1 to the image's {size} pixels")
    starts = range(0, size - block + 1, stride)
    masks = torch.zeros(len(starts) ** 2, size, size)
    for number, mask in enumerate(masks):
        row, column = starts[number // len(starts)], starts[number % len(starts)]
        mask[row : row + block, column : column + block] = 1
    return masks
