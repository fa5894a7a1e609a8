"""Layers on the Moebius strip, by way of its double cover.

A sinogram obeys ``p(phi + pi, s) = p(phi, -s)``: its domain has one edge and no orientation.
A convolution on it would have to turn its kernel over where the views wrap. On the double
cover, all angles in [0, 2 pi), there is no such place: the view axis is a circle, the two
sheets describe every line once in each direction, and ordinary layers with circular padding
commute with every rotation of the object by their stride. `lift` goes up, `lower` comes
back by averaging the two descriptions of each line, which makes the result symmetric exactly.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from allpet.model import winograd


def lift(x: torch.Tensor, sign: torch.Tensor | None = None) -> torch.Tensor:
    """To the double cover: ``(..., channel, view, radial) -> (..., channel, 2 * view, radial)``.

    ``sign`` (channel,) is -1 for channels that are odd under radial reflection.
    """
    other = x.flip(-1)
    if sign is not None:
        other = other * sign[:, None, None]
    return torch.cat([x, other], dim=-2)


def lower(x: torch.Tensor, sign: torch.Tensor | None = None) -> torch.Tensor:
    """Back from the double cover: the mean of the two sheets, ``(..., 2 * view, radial) -> (..., view, radial)``."""
    first, second = x.chunk(2, dim=-2)
    second = second.flip(-1)
    if sign is not None:
        second = second * sign[:, None, None]
    return (first + second) / 2


def positions(views: int, bins: int, turn: torch.Tensor | float = 0.0) -> torch.Tensor:
    """Where a line lies, on the cover: cos(phi - turn), sin(phi - turn), s, ``|s|``, ``(4, 2 * views, bins)``.

    ``turn`` in radians (a number, or ``(n,)`` for ``(n, 4, ...)``) is by how much the object was
    turned: with it, turning an object turns the network's view of it and leaves no other trace.
    """
    phi = torch.arange(2 * views) * (torch.pi / views)
    turn = torch.as_tensor(turn, dtype=torch.float32)
    phi = phi - turn[..., None]
    s = (torch.arange(bins) - (bins - 1) / 2) * (2 / bins)
    shape = (*phi.shape, bins)
    angle = [t[..., None].expand(shape) for t in (phi.cos(), phi.sin())]
    return torch.stack([*angle, s.expand(shape), s.abs().expand(shape)], dim=-3)


class CoverConv(nn.Module):
    """3x3 convolution on the cover: circular along views, zero beyond the radial edge."""

    def __init__(self, n_in: int, n_out: int, zero: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(n_in, n_out, 3, padding=(0, 1))
        if zero:
            nn.init.zeros_(self.conv.weight)
            nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(torch.cat([x[..., -1:, :], x, x[..., :1, :]], dim=-2))


class PlaneConv(nn.Module):
    """3x3 convolution in the image plane, zero beyond the edge."""

    def __init__(self, n_in: int, n_out: int, zero: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(n_in, n_out, 3, padding=1)
        if zero:
            nn.init.zeros_(self.conv.weight)
            nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]
        self._quick = winograd.Factors()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not winograd.pays(x, self.conv.weight):
            return self.conv(x)
        return winograd.convolve(x, self._quick.of(self.conv.weight), self.conv.bias)


class Mix(nn.Conv2d):
    """1 x 1 convolution as the matrix product over channels that it is."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__(n_in, n_out, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x.permute(0, 2, 3, 1), self.weight[:, :, 0, 0], self.bias).permute(0, 3, 1, 2)


class ResBlock(nn.Module):
    """Two convolutions around a skip; the condition scales and shifts the channels in between."""

    def __init__(self, n_in: int, n_out: int, n_cond: int, conv: type[nn.Module]) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(min(8, n_in // 4), n_in)
        self.conv1 = conv(n_in, n_out)
        self.cond = nn.Linear(n_cond, 2 * n_out)
        self.norm2 = nn.GroupNorm(min(8, n_out // 4), n_out)
        self.conv2 = conv(n_out, n_out, zero=True)
        self.skip = Mix(n_in, n_out) if n_in != n_out else nn.Identity()

    def forward(self, x: torch.Tensor, cond: torch.Tensor) -> torch.Tensor:
        scale, shift = self.cond(cond)[..., None, None].chunk(2, dim=1)
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h) * (1 + scale) + shift))
        return self.skip(x) + h


class Attention(nn.Module):
    """Self-attention over all positions of the cover."""

    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(min(8, width // 4), width)
        self.qkv = Mix(width, 3 * width)
        self.out = Mix(width, width)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, width, rows, columns = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(n, 3, self.heads, width // self.heads, -1).transpose(-1, -2).unbind(1)
        scores = q @ (k * k.shape[-1] ** -0.5).transpose(-1, -2)  # a few hundred positions at most: quicker than fused
        h = scores.softmax(dim=-1, dtype=torch.promote_types(scores.dtype, torch.float32)).to(v.dtype) @ v
        return x + self.out(h.transpose(-1, -2).reshape(n, width, rows, columns))


class UNet(nn.Module):
    """Residual U-Net with a condition vector; `conv` says on which surface it lives.

    Parameters
    ----------
    n_in, n_out : channels. widths : channels at each level, each half the size of the last.
    blocks : residual blocks at each level. attention : levels (counted from 0) with self-attention.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        widths: tuple[int, ...],
        n_cond: int,
        conv: type[nn.Module] = CoverConv,
        blocks: int = 1,
        attention: tuple[int, ...] = (),
    ) -> None:
        super().__init__()
        self.enter = conv(n_in, widths[0])
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        width, skips = widths[0], []
        for level, wide in enumerate(widths):
            for _ in range(blocks):
                self.down.append(ResBlock(width, wide, n_cond, conv))
                width = wide
                skips.append((level, wide))
        self.middle = ResBlock(width, width, n_cond, conv)
        self.down_attention = nn.ModuleDict({str(k): Attention(widths[k]) for k in attention})
        self.up_attention = nn.ModuleDict({str(k): Attention(widths[k]) for k in attention})
        for level, wide in reversed(skips):
            self.up.append(ResBlock(width + wide, widths[level], n_cond, conv))
            width = widths[level]
        self.levels, self.blocks = len(widths), blocks
        self.norm = nn.GroupNorm(min(8, width // 4), width)
        self.leave = conv(width, n_out, zero=True)

    def forward(self, x: torch.Tensor, cond: torch.Tensor) -> torch.Tensor:
        """``(n, n_in, rows, columns)`` and ``(n, n_cond)`` to ``(n, n_out, rows, columns)``."""
        h, kept = self.enter(x), []
        for level in range(self.levels):
            if level:
                h = F.avg_pool2d(h, 2)
            for k in range(self.blocks):
                h = self.down[level * self.blocks + k](h, cond)
                kept.append(h)
            if str(level) in self.down_attention:
                h = self.down_attention[str(level)](h)
        h = self.middle(h, cond)
        ups = iter(self.up)
        for level in reversed(range(self.levels)):
            for _ in range(self.blocks):
                h = next(ups)(torch.cat([h, kept.pop()], dim=1), cond)
            if str(level) in self.up_attention:
                h = self.up_attention[str(level)](h)
            if level:
                h = F.interpolate(h, scale_factor=2, mode="nearest")
        return self.leave(F.silu(self.norm(h)))
