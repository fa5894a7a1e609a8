"""All scores of one prompt's generated sinograms, each beside the same score of real ones; summary over prompts.

"Real" are sinograms of people that the generator never saw, two sets without a person in common: ``real_a`` is what is
compared with, ``real_b`` against ``real_a`` is the floor that a perfect generator would have at the same n.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from allpet.errors import AllpetError
from allpet.geometry import ParallelBeam
from allpet.metrics import (
    PromptClassifier,
    audit,
    coverage,
    density,
    image_features,
    kernel_distance,
    mirror_seam,
    moment_residual,
    precision_recall,
    principal_components,
    prompt_features,
    range_residual,
    sinogram_features,
    sliced_wasserstein,
)
from allpet.project import Projector

RANGE_SAMPLES = 64
NOISE_SAMPLES = 8
HIGHER_IS_BETTER = (
    "precision",
    "recall",
    "density",
    "coverage",
    "accuracy",
    "p_value",
    "passed",
    "audit_generated",
    "audit_closest",
)


def score(
    generated: torch.Tensor,
    real_a: torch.Tensor,
    real_b: torch.Tensor,
    train: torch.Tensor,
    beam: ParallelBeam,
    classifier: PromptClassifier | None = None,
    label: str | None = None,
) -> dict[str, Any]:
    """Scores of the generated sinograms of one prompt, free of unit; real sets are cut to n = len(generated).

    Parameters
    ----------
    generated, real_a, real_b, train : ``(n, views, bins)`` on the grid of `beam`; the real sets hold at least n.
    classifier, label : trained on real sinograms, and the prompt that it should find.

    Returns
    -------
    dict of floats (and ``n``, ``label``, ``passed``), for kind = ``sinogram`` and ``image``
    (:func:`allpet.metrics.sinogram_features`, :func:`allpet.metrics.image_features`):

    ``{kind}_distance`` : sliced Wasserstein of generated to ``real_a`` on the features;
    ``{kind}_kernel`` : kernel distance, ``{kind}_precision``, ``_recall``, ``_density``, ``_coverage`` (k = 5), on the
        64 leading principal components of ``real_a``, whitened for the kernel distance only;
    ``mirror_seam``, ``moment_residual``, ``range_residual`` : means; the range residual of the first 64;
    ``{score}_floor`` : each of these of ``real_b``; ``{score}_ratio`` : over the floor, of distance and consistency;
        ``moment_residual_median_ratio`` : of medians, since few sinograms can dominate the mean;
        ``{score}_noise`` : of uniform noise, of consistency only;
    ``audit_*`` : :class:`allpet.metrics.Audit` of generated, ``real_b`` (whole) being the held-out people; ``passed``;
    ``accuracy``, ``accuracy_floor`` : share of generated and of ``real_b`` that the classifier takes for `label`.

    Raises
    ------
    AllpetError : sets of another shape than the beam's; a real set smaller than the generated one, or that one of 5
        or fewer; a classifier without a label it knows.
    """
    n = len(generated)
    for name, s in (("generated", generated), ("real_a", real_a), ("real_b", real_b), ("train", train)):
        if s.ndim != 3 or tuple(s.shape[1:]) != beam.shape:
            raise AllpetError(f"{name} has shape {tuple(s.shape)}; it must be (n, {beam.views}, {beam.bins})")
        if name.startswith("real") and len(s) < n:
            raise AllpetError(f"{name} holds {len(s)} sinograms and generated {n}; it must hold as many or more")
    if classifier is not None and label not in classifier.labels:
        raise AllpetError(f"label {label!r} is unknown to the classifier; it knows {', '.join(classifier.labels)}")
    first, other = real_a[:n], real_b[:n]
    row: dict[str, Any] = {"label": label, "n": n}
    for kind in ("sinogram", "image"):
        sets = [
            sinogram_features(s) if kind == "sinogram" else image_features(s, beam) for s in (generated, other, first)
        ]
        row |= {f"{kind}_{name}": value for name, value in _distribution(*sets).items()}
    row |= _consistency(generated, other, beam)
    found = audit(generated, train, real_b, beam)
    row |= {f"audit_{name}": value for name, value in vars(found).items()} | {"passed": found.passed}
    if classifier is not None:
        for name, s in (("accuracy", generated), ("accuracy_floor", other)):
            row[name] = sum(said == label for said in classifier.predict(prompt_features(s, beam))) / n
    return row


def _distribution(generated: torch.Tensor, other: torch.Tensor, real: torch.Tensor) -> dict[str, float]:
    out: dict[str, float] = {}
    components = principal_components(real)
    plain, white = components(real), components(real, whiten=True)
    for suffix, features in (("", generated), ("_floor", other)):
        along = components(features)
        precision, recall = precision_recall(along, plain)
        scores = dict(
            distance=sliced_wasserstein(features, real),
            kernel=kernel_distance(components(features, whiten=True), white),
            precision=precision,
            recall=recall,
            density=density(along, plain),
            coverage=coverage(along, plain),
        )
        out |= {f"{name}{suffix}": value for name, value in scores.items()}
    return out | {"distance_ratio": _ratio(out["distance"], out["distance_floor"])}


def _ratio(value: float, floor: float) -> float:
    return value / floor if floor > 0 else float("inf")


def _consistency(generated: torch.Tensor, other: torch.Tensor, beam: ParallelBeam) -> dict[str, float]:
    projector = Projector(beam, beam.image_grid())
    noise = torch.rand(NOISE_SAMPLES, *beam.shape, generator=torch.Generator().manual_seed(0))
    scores = {
        suffix: {
            "mirror_seam": mirror_seam(s),
            "moment_residual": moment_residual(s, beam),
            "range_residual": range_residual(s[:RANGE_SAMPLES].float(), projector),
        }
        for suffix, s in (("", generated), ("_floor", other), ("_noise", noise))
    }
    out = {f"{name}{suffix}": float(v.mean()) for suffix, found in scores.items() for name, v in found.items()}
    for name in scores[""]:
        out[f"{name}_ratio"] = _ratio(out[name], out[f"{name}_floor"])
    medians = [float(scores[suffix]["moment_residual"].median()) for suffix in ("", "_floor")]
    return out | {"moment_residual_median_ratio": _ratio(*medians)}


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Mean and worst over prompts of every number that all rows of :func:`score` have: ``{name: {mean, worst}}``.

    The worst is the lowest of precision, recall, density, coverage, accuracy, p-value, ``passed`` (1 or 0) and of
    the generated set's distances to training, of everything else the highest.

    Raises
    ------
    AllpetError : no rows.
    """
    if not rows:
        raise AllpetError("there are no rows; a summary needs the scores of at least one prompt")
    out = {}
    for name in rows[0]:
        values = [row.get(name) for row in rows]
        numbers = [float(v) for v in values if isinstance(v, bool | int | float)]
        if len(numbers) == len(rows):
            lowest = any(word in name for word in HIGHER_IS_BETTER)
            out[name] = {"mean": sum(numbers) / len(numbers), "worst": min(numbers) if lowest else max(numbers)}
    return out
