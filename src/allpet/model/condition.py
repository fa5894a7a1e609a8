"""What the denoiser is told about the samples it draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch

TOLD = ("log_pitch", "mirrored", "shift_x", "shift_y", "log_scale", "warp")
"""Numbers said to the network, in this order, beside the words."""


@dataclass(frozen=True)
class Condition:
    """Everything the denoiser is told about n samples.

    Augmentations that change what a patient looks like (lying askew, mirrored organs, a warped body) are told, so that
    they do not leak into what is drawn when nothing of the kind is said.

    Parameters
    ----------
    tracer, region, task : int64 ``(n,)``, index into the vocabulary + 1; 0 is "not said".
    turn : radians by which the object was turned ``(n,)``. told : numbers named in :data:`TOLD`, about 0 plus or
        minus 1, ``(n, 6)``.
    whole : 1 where the sample has no negative part ``(n,)``.
    mask : chart of the mask that splits the sample, ``(n, 1, h, w)``, and whether it is told ``(n,)``.
    attention : chart of hot regions, ``(n, 1, h, w)``, and whether it is told ``(n,)``.
    """

    tracer: torch.Tensor
    region: torch.Tensor
    task: torch.Tensor
    turn: torch.Tensor
    told: torch.Tensor
    whole: torch.Tensor
    mask: torch.Tensor
    mask_told: torch.Tensor
    attention: torch.Tensor
    attention_told: torch.Tensor

    @classmethod
    def blank(cls, n: int, rows: int, columns: int) -> Condition:
        """n whole sinograms of which nothing is said; charts are rows x columns."""
        word, number, chart = torch.zeros(n, dtype=torch.long), torch.zeros(n), torch.zeros(n, 1, rows, columns)
        told = torch.zeros(n, len(TOLD))
        return cls(word, word, word, number, told, torch.ones(n), chart, number, chart, number)

    def __len__(self) -> int:
        return len(self.tracer)

    def without(self, *words: str, where: torch.Tensor | None = None) -> Condition:
        """The same with "tracer", "region", "task", "mask" or "attention" unsaid (where `where` (n,) is true)."""
        keep = torch.zeros(len(self)) if where is None else (~where).float()
        out: dict[str, torch.Tensor] = {}
        for word in words:
            value = getattr(self, word)
            if value.ndim == 1:
                out[word] = value * keep.to(value.dtype)
            else:
                out[word] = value * keep[:, None, None, None]
                out[word + "_told"] = getattr(self, word + "_told") * keep
        return replace(self, **out)

    def to(self, device: torch.device | str) -> Condition:
        """The same on another device."""
        return Condition(*(getattr(self, f.name).to(device) for f in fields(self)))

    def __getitem__(self, index: slice | torch.Tensor) -> Condition:
        return Condition(*(getattr(self, f.name)[index] for f in fields(self)))


def join(conditions: Sequence[Condition]) -> Condition:
    """The samples of several, one after the other."""
    return Condition(*(torch.cat([getattr(c, f.name) for c in conditions]) for f in fields(Condition)))
