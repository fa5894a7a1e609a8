"""How far a set of samples is from real ones: Wasserstein, energy and kernel distance, precision, recall, coverage.

Sets are ``(n, ...)`` samples or features (:mod:`allpet.metrics.features`). Set each number beside the same one of
real against real at the same n: none of them is at its ideal for two finite sets.
"""

from __future__ import annotations

import torch

from allpet.errors import AllpetError


def _rows(x: torch.Tensor) -> torch.Tensor:
    if x.ndim < 2 or len(x) == 0:
        raise AllpetError(f"a set of samples has shape {tuple(x.shape)}; it must be (n, ...) with n > 0")
    return x.reshape(len(x), -1).double()


def _pair(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    a, b = _rows(a), _rows(b)
    if a.shape[1] != b.shape[1]:
        raise AllpetError(f"sets have {a.shape[1]} and {b.shape[1]} components; they must agree")
    return a, b


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
    a, b = _pair(a, b)
    generator = torch.Generator().manual_seed(seed)
    axes = torch.randn(a.shape[1], directions, dtype=torch.float64, generator=generator).to(a.device)
    axes = axes / axes.norm(dim=0)
    levels = (torch.arange(max(len(a), len(b)), dtype=torch.float64, device=a.device) + 0.5) / max(len(a), len(b))

    def quantiles(x: torch.Tensor) -> torch.Tensor:
        index = (levels * len(x)).long().clamp_max(len(x) - 1)
        return (x @ axes).sort(dim=0).values[index]

    return float((quantiles(a) - quantiles(b)).square().mean().sqrt())


def energy_distance(samples: torch.Tensor, real: torch.Tensor) -> float:
    """Unbiased energy distance over the mean distance of two real samples: 0 in the mean for two sets of one kind.

    ``(2 E|x - y| - E|x - x'| - E|y - y'|) / E|y - y'|`` without a sample's distance to itself (Szekely and Rizzo,
    J Stat Plan Inference 143:1249, 2013). In the mean it does not depend on n and m, unlike the sliced Wasserstein
    distance, so that even few samples tell which of two generators is nearer; it may be below 0.

    Parameters
    ----------
    samples, real : ``(n, ...)`` and ``(m, ...)``, n and m at least 2.

    Raises
    ------
    AllpetError : wrong shapes; a set of less than two; real samples that are all alike.
    """
    samples, real = _pair(samples, real)
    if min(len(samples), len(real)) < 2:
        raise AllpetError(f"sets of {len(samples)} and {len(real)}; there must be 2 or more in each")

    def within(x: torch.Tensor) -> float:
        return float(_distances(x, x).sum() / (len(x) * (len(x) - 1)))

    unit = within(real)
    if not unit > 0:
        raise AllpetError("real samples are all alike; they must vary")
    return (2 * float(_distances(samples, real).mean()) - within(samples) - unit) / unit


def kernel_distance(
    samples: torch.Tensor, real: torch.Tensor, degree: int = 3, reference: torch.Tensor | None = None
) -> float:
    """Unbiased squared maximum mean discrepancy with the polynomial kernel ``(x . y / d + 1)^degree``.

    The kernel and estimator of KID (Binkowski et al., arXiv 1801.01401), on d components standardised with the
    reference set's mean and standard deviation (at least a thousandth of their rms over the components, so that a
    constant one cannot blow up). Unbiased for a given reference: 0 in the mean for two sets of one distribution,
    sometimes below. Standardised with a small real set's own mean and spread, real against real lies slightly above
    0: set it beside.

    Parameters
    ----------
    samples, real : ``(n, ...)`` and ``(m, ...)``, n and m at least 2. reference : ``(l, ...)``, default `real`.

    Raises
    ------
    AllpetError : wrong shapes; a set of less than two; a reference without any spread; degree below 1.
    """
    samples, real = _pair(samples, real)
    if min(len(samples), len(real)) < 2 or degree < 1:
        raise AllpetError(
            f"sets of {len(samples)} and {len(real)}, degree {degree}; there must be 2 or more, degree >= 1"
        )
    reference = real if reference is None else _pair(reference, real)[0]
    std = reference.std(dim=0)
    floor = 1e-3 * std.square().mean().sqrt()
    if not float(floor) > 0:
        raise AllpetError("reference samples are all alike; they must vary")
    centre, scale = reference.mean(dim=0), torch.maximum(std, floor)
    x, y = (samples - centre) / scale, (real - centre) / scale

    def kernel(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
        return (p @ q.T / p.shape[1] + 1) ** degree

    def within(p: torch.Tensor) -> torch.Tensor:
        values = kernel(p, p)
        return (values.sum() - values.diagonal().sum()) / (len(p) * (len(p) - 1))

    return float(within(x) + within(y) - 2 * kernel(x, y).mean())


def _distances(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


def _radii(x: torch.Tensor, k: int) -> torch.Tensor:
    """Distance of each sample to its k-th nearest neighbour in its own set, ``(n,)``."""
    if k < 1 or len(x) <= k:
        raise AllpetError(f"a set of {len(x)} has no {k}-th nearest neighbours; k must be at least 1 and below n")
    return _distances(x, x).kthvalue(k + 1, dim=1).values


def precision_recall(samples: torch.Tensor, real: torch.Tensor, k: int = 5) -> tuple[float, float]:
    """Improved precision and recall (Kynkaanniemi et al., arXiv 1904.06991), each in [0, 1].

    Precision: share of samples inside the union of balls around the real ones, each as wide as to its k-th nearest
    real neighbour (are samples believable?). Recall: the same with the roles swapped (is all of the real set there?).

    Raises
    ------
    AllpetError : wrong shapes; a set of k or fewer.
    """
    samples, real = _pair(samples, real)
    between = _distances(samples, real)
    precision = (between <= _radii(real, k)).any(dim=1).double().mean()
    recall = (between <= _radii(samples, k)[:, None]).any(dim=0).double().mean()
    return float(precision), float(recall)


def density(samples: torch.Tensor, real: torch.Tensor, k: int = 5) -> float:
    """Mean number of real balls (as wide as to the k-th nearest real neighbour) around a sample, over k; >= 0.

    About 1 for two sets of one distribution, and may exceed it (Naeem et al., arXiv 2002.09797). Less led astray by
    outliers of the real set than precision.

    Raises
    ------
    AllpetError : as :func:`precision_recall`.
    """
    samples, real = _pair(samples, real)
    return float((_distances(samples, real) <= _radii(real, k)).double().sum(dim=1).mean() / k)


def coverage(samples: torch.Tensor, real: torch.Tensor, k: int = 5) -> float:
    """Share of real samples with at least one sample in their ball, in [0, 1].

    The ball is as wide as to the k-th nearest real neighbour (Naeem et al., arXiv 2002.09797); about ``1 - 2^-k`` for
    two sets of one distribution and one size.

    Raises
    ------
    AllpetError : as :func:`precision_recall`.
    """
    samples, real = _pair(samples, real)
    return float((_distances(samples, real) <= _radii(real, k)).any(dim=0).double().mean())
