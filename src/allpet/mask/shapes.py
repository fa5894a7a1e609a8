"""Random shapes in the image: the masks of RMAS, their number and distribution of DMM.

Every mask is addressed by ``(seed, index)`` and depends on nothing else: not on the batch
it is drawn in, nor on the masks drawn before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from allpet.errors import AllpetError

LAYOUTS = ("uniform", "central", "clustered", "peripheral")


@dataclass(frozen=True)
class MaskFamily:
    """What random masks look like (DMM: number and distribution vary from mask to mask).

    Parameters
    ----------
    counts : least and most shapes in a mask; the number is drawn log-uniformly.
    sizes : least and most half-width of a shape, as a share of the field of view's half-width.
    weights : least and most weight of a shape (overlaps keep the larger weight).
    hollow : share of shapes that are rings. layouts : ways of placing centres, one drawn for each mask.

    Raises
    ------
    AllpetError : bounds that do not ascend, or an unknown layout.
    """

    counts: tuple[int, int] = (1, 12)
    sizes: tuple[float, float] = (0.04, 0.6)
    weights: tuple[float, float] = (0.25, 1.0)
    hollow: float = 0.15
    layouts: tuple[str, ...] = LAYOUTS

    def __post_init__(self) -> None:
        for name, least in (("counts", 1), ("sizes", 1e-6), ("weights", 0)):
            low, high = getattr(self, name)
            if not least <= low <= high < math.inf:
                raise AllpetError(f"{name} of masks are {low} to {high}; they must ascend, from {least:g} at least")
        if not self.layouts or not set(self.layouts) <= set(LAYOUTS):
            given = ", ".join(self.layouts) or "none"
            raise AllpetError(f"layouts of masks are {given}; known are {', '.join(LAYOUTS)}")

    def parameters(self, seed: int, index: int) -> np.ndarray:
        """Shapes of one mask, float32 ``(count, 9)``: x, y, 1/a, 1/b, cos, sin, squarings, inner, weight.

        Lengths are shares of the field of view's half-width; a shape is the superellipse
        ``|u/a|^q + |v/b|^q <= 1`` with q = 2^squarings, from an ellipse (1) to a rectangle (4).
        """
        rng = np.random.Generator(np.random.Philox(key=[seed & 0xFFFFFFFFFFFFFFFF, index]))
        low, high = self.counts
        count = int(math.exp(rng.uniform(math.log(low), math.log(high + 1 - 1e-9))))
        u = rng.random((count, 9), dtype=np.float32)
        layout = self.layouts[int(rng.integers(len(self.layouts)))]
        radius, angle = np.sqrt(u[:, 0]), 2 * math.pi * u[:, 1]
        if layout == "central":
            radius = radius * 0.45
        elif layout == "peripheral":
            radius = 0.55 + 0.4 * radius
        x, y = 0.9 * radius * np.cos(angle), 0.9 * radius * np.sin(angle)
        if layout == "clustered":
            centre = rng.uniform(-0.6, 0.6, 2)
            x, y = centre[0] + 0.3 * x, centre[1] + 0.3 * y
        size = self.sizes[0] * (self.sizes[1] / self.sizes[0]) ** u[:, 2]
        aspect = np.exp((u[:, 3] - 0.5) * 2.0)
        turn = math.pi * u[:, 4]
        squarings = np.round(1 + 6 * np.maximum(u[:, 5] - 0.5, 0))
        inner = np.where(u[:, 6] < self.hollow, 0.4 + 0.4 * u[:, 7], 0.0)
        weight = self.weights[0] + (self.weights[1] - self.weights[0]) * u[:, 8]
        columns = (x, y, 1 / (size * np.sqrt(aspect)), np.sqrt(aspect) / size)
        return np.stack([*columns, np.cos(turn), np.sin(turn), squarings, inner, weight], axis=1).astype(np.float32)


def draw_masks(indices: Sequence[int], size: int, seed: int = 0, family: MaskFamily | None = None) -> torch.Tensor:
    """Image-domain masks, float32 ``(len(indices), size, size)`` in [0, 1], zero outside the field of view.

    Parameters
    ----------
    indices : which masks of the seed's endless list. size : pixels along a side.

    Raises
    ------
    AllpetError : a size below 1.
    """
    if size < 1:
        raise AllpetError(f"size is {size}; it must be at least 1 pixel")
    family = family or MaskFamily()
    indices = list(indices)
    masks = torch.zeros(len(indices), size, size)
    for start in range(0, len(indices), 32):  # a few at a time stay in cache
        shapes = [family.parameters(seed, int(i)) for i in indices[start : start + 32]]
        _rasterise(shapes, masks[start : start + 32])
    return masks


def _rasterise(shapes: list[np.ndarray], masks: torch.Tensor) -> None:
    """Draw the shapes of each mask into ``masks`` (n, size, size); overlaps keep the larger weight."""
    size = masks.shape[-1]
    owner = np.repeat(np.arange(len(shapes)), [len(p) for p in shapes])
    table = np.concatenate(shapes)
    order = np.argsort(-table[:, 6], kind="stable")  # most squarings first: each round works on a leading part
    squarings = table[order, 6]
    x0, y0, inv_a, inv_b, cos, sin, _, inner, weight = torch.from_numpy(table[order]).T[..., None, None]
    axis = (torch.arange(size) - (size - 1) / 2) * (2 / size)
    column, row = axis[None, None, :] - x0, -axis[None, :, None] - y0
    u = (column * (cos * inv_a) + row * (sin * inv_a)).clamp_(-4, 4).square_()
    v = (row * (cos * inv_b) - column * (sin * inv_b)).clamp_(-4, 4).square_()
    for k in range(2, 5):
        part = slice(0, int((squarings >= k).sum()))
        u[part].square_()
        v[part].square_()
    radius = u.add_(v).sqrt_()
    for k in range(2, 5):
        radius[: int((squarings >= k).sum())].sqrt_()
    edge = size / 2 / torch.maximum(inv_a, inv_b)  # half-width in pixels: the rim is one pixel soft
    level = edge - radius * edge
    rings = inner.flatten() > 0
    level[rings] = torch.minimum(level[rings], ((radius - inner) * edge)[rings])
    level.add_(0.5).clamp_(0, 1).mul_(weight)
    for k, mask in zip(owner[order], level, strict=True):
        torch.maximum(masks[k], mask, out=masks[k])
    masks.mul_(((axis[None, :] ** 2 + axis[:, None] ** 2) <= 1).to(masks.dtype))
