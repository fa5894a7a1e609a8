"""Low-rank adapters (Hu et al., arXiv 2106.09685): a task fitted to few pairs, a few hundred kB on the translator."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn.utils import parametrize

from allpet.errors import AllpetError
from allpet.model.translator import Translator

RANK = 8


class LowRank(nn.Module):
    """Adds a matrix of low rank to a weight; begins as 0.

    Parameters
    ----------
    weight : of a convolution or linear layer, its first axis the output. rank : of what is added.
    """

    def __init__(self, weight: torch.Tensor, rank: int = RANK) -> None:
        super().__init__()
        n_out, n_in = weight.shape[0], weight[0].numel()
        self.down = nn.Parameter(torch.randn(rank, n_in) / n_in**0.5)
        self.up = nn.Parameter(torch.zeros(n_out, rank))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight + (self.up @ self.down).reshape(weight.shape)


def _layers(translator: Translator) -> dict[str, nn.Module]:
    """The layers that are adapted: all convolutions of the U-Net and the linear layers of its condition."""
    return {k: m for k, m in translator.unet.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}


def adaptable(translator: Translator, rank: int = RANK) -> Translator:
    """A copy of which only adapters learn."""
    out = copy.deepcopy(translator).requires_grad_(False)
    for layer in list(_layers(out).values()):
        weight: torch.Tensor = layer.weight  # type: ignore[assignment]
        parametrize.register_parametrization(layer, "weight", LowRank(weight.detach(), rank))
    return out


def adapter_of(translator: Translator) -> dict[str, torch.Tensor]:
    """What a copy from :func:`adaptable` has learnt: ``LAYER.down`` and ``LAYER.up``."""
    out = {}
    for name, module in translator.unet.named_modules():
        if parametrize.is_parametrized(module):
            low: LowRank = module.parametrizations.weight[0]  # type: ignore[union-attr, index, assignment]
            out[f"{name}.down"], out[f"{name}.up"] = low.down.detach(), low.up.detach()
    return out


def with_adapter(translator: Translator, adapter: dict[str, torch.Tensor]) -> Translator:
    """A copy of the translator with an adapter added to its weights.

    Raises
    ------
    AllpetError : it does not fit.
    """
    out = copy.deepcopy(translator)
    layers = _layers(out)
    names = {key.rpartition(".")[0] for key in adapter}
    if names != set(layers) or set(adapter) != {f"{n}.{end}" for n in names for end in ("down", "up")}:
        raise AllpetError("the adapter is for another network: its layers differ; adapt again")
    with torch.no_grad():
        for name, layer in layers.items():
            weight: torch.Tensor = layer.weight  # type: ignore[assignment]
            change = adapter[f"{name}.up"].float() @ adapter[f"{name}.down"].float()
            if change.numel() != weight.numel():
                raise AllpetError(f"the adapter is for another network: {name} differs in size; adapt again")
            weight.add_(change.reshape(weight.shape))
    return out.eval()
