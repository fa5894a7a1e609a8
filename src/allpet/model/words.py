"""Tables with a row for each word of the vocabulary: weights keep theirs when words are added behind them.

A tracer or a task may be added to the package; weights that were trained before have no row for it. They are loaded
with the tables that they came with, and what they do not know counts as not said (row 0).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def known(number: torch.Tensor, count: int) -> torch.Tensor:
    """Numbers of words below `count`; 0, "not said", in place of those that a table has no row for."""
    return torch.where(number < count, number, 0)


class WordTables(nn.Module):
    """A module that takes over saved tables which are shorter than the present vocabulary.

    `tables` names its parameters and buffers with an axis of words.
    """

    tables: tuple[str, ...] = ()

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        for name in self.tables:
            own, saved = getattr(self, name), state_dict.get(prefix + name)
            if saved is None or saved.shape == own.shape or saved.ndim != own.ndim:
                continue
            if all(a <= b for a, b in zip(saved.shape, own.shape, strict=True)):
                empty = torch.empty(saved.shape, dtype=own.dtype, device=own.device)
                setattr(self, name, nn.Parameter(empty) if isinstance(own, nn.Parameter) else empty)
        super()._load_from_state_dict(state_dict, prefix, *rest)


class Words(WordTables, nn.Embedding):
    """A vector for each word; unknown words get that of "not said"."""

    tables = ("weight",)

    def forward(self, number: torch.Tensor) -> torch.Tensor:
        return super().forward(known(number, len(self.weight)))
