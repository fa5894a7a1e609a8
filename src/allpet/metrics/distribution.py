"""How far a set of samples is from a set of real ones, and whether it copies its training set."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from allpet.errors import AllpetError


def _rows(x: torch.Tensor) -> torch.Tensor:
    if x.ndim < 2 or len(x) == 0:
        raise AllpetError(f"a set of samples has shape {tuple(x.shape)}; it must be (n, ...) with n > 0")
    return x.reshape(len(x), -1).double()


def sliced_wasserstein(a: torch.Tensor, b: torch.Tensor, directions: int = 256, seed: int = 0) -> float:
    """Sliced 2-Wasserstein distance between two sets, in the samples' own unit (per component).

    Root mean square over random directions of the one-dimensional Wasserstein distance (Bonneel et al.,
    J Math Imaging Vis 51:22, 2015), directions uniform on the unit sphere: two sets
    apart by the same constant c in every component have a distance of about c.

    Parameters
    ----------
    a, b : ``(n, ...)`` and ``(m, ...)`` samples or features; n and m may differ.
    directions, seed : number of random directions and the seed they are drawn with.
    """
    a, b = _rows(a), _rows(b)
    if a.shape[1] != b.shape[1]:
        raise AllpetError(f"sets have {a.shape[1]} and {b.shape[1]} components; they must agree")
    generator = torch.Generator().manual_seed(seed)
    axes = torch.randn(a.shape[1], directions, dtype=torch.float64, generator=generator).to(a.device)
    axes = axes / axes.norm(dim=0)
    levels = (torch.arange(max(len(a), len(b)), dtype=torch.float64, device=a.device) + 0.5) / max(len(a), len(b))

    def quantiles(x: torch.Tensor) -> torch.Tensor:
        index = (levels * len(x)).long().clamp_max(len(x) - 1)
        return (x @ axes).sort(dim=0).values[index]

    return float((quantiles(a) - quantiles(b)).square().mean().sqrt())


def nearest_distance(samples: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Distance of each sample to its nearest neighbour in the reference, relative to the sample's norm, ``(n,)``."""
    samples, reference = _rows(samples), _rows(reference)
    return torch.cdist(samples, reference).amin(dim=1) / samples.norm(dim=1).clamp_min(1e-300)


@dataclass(frozen=True)
class Memorisation:
    """Nearest-neighbour distances (medians, relative to the sample) of generated and held-out samples.

    A model that copies has ``to_train`` far below ``to_held_out``; held-out samples themselves
    (``held_out_to_train``) say how close unseen data lie to the training set.
    """

    to_train: float
    to_held_out: float
    held_out_to_train: float
    closer_to_train: float


def memorisation(generated: torch.Tensor, train: torch.Tensor, held_out: torch.Tensor, seed: int = 0) -> Memorisation:
    """Does the generator copy? Compare distances to training and to held-out data at equal size.

    Parameters
    ----------
    generated, train, held_out : ``(n, ...)`` samples on one grid and scale.
    seed : of the draw that cuts the larger of the two references to the size of the smaller, because the
        nearest of many lies closer than the nearest of few.

    Returns
    -------
    Memorisation : medians, and the share of generated samples closer to training than to held-out data
        (about 0.5 without copying).
    """
    size = min(len(train), len(held_out))
    generator = torch.Generator().manual_seed(seed)
    train = train[torch.randperm(len(train), generator=generator)[:size].to(train.device)]
    held_out = held_out[torch.randperm(len(held_out), generator=generator)[:size].to(held_out.device)]
    near_train, near_held = nearest_distance(generated, train), nearest_distance(generated, held_out)
    return Memorisation(
        to_train=float(near_train.median()),
        to_held_out=float(near_held.median()),
        held_out_to_train=float(nearest_distance(held_out, train).median()),
        closer_to_train=float((near_train < near_held).double().mean()),
    )
