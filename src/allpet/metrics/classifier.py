"""Which prompt does a sinogram show? A classifier trained on real sinograms, to be asked about generated ones.

No network: features, principal components and a least-squares fit, all in closed form but for a k-means dictionary of
image patches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch.nn import functional as F

from allpet.errors import AllpetError
from allpet.geometry import ParallelBeam
from allpet.metrics.features import SIZE, image_features, principal_components, sinogram_features

FINE = 64
LEVELS = 64
PATCH, WORDS, POOL = 5, 96, 4
LANDMARKS = 4000
WIDTH = 0.5
PENALTY = 3e-3
GROUP = 16


def prompt_features(s: torch.Tensor, beam: ParallelBeam) -> torch.Tensor:
    """What :class:`PromptClassifier` takes: sinogram (32 x 32) beside its reconstruction (64 x 64), ``(n, 5120)``.

    :func:`allpet.metrics.features.sinogram_features` and :func:`allpet.metrics.features.image_features`: shape alone,
    no amplitude and no pitch, which a generator is told.

    Raises
    ------
    AllpetError : as :func:`allpet.metrics.features.image_features`.
    """
    return torch.cat([sinogram_features(s), image_features(s, beam, FINE)], dim=1)


class _Dictionary(NamedTuple):
    """K-means centres of whitened patches of log images (Coates, Lee and Ng, AISTATS 2011)."""

    centre: torch.Tensor
    whitening: torch.Tensor
    words: torch.Tensor


class _Block(NamedTuple):
    """One kind of feature: centre and axes of its coordinates, and what they are multiplied with."""

    centre: torch.Tensor
    axes: torch.Tensor | None
    scale: torch.Tensor


def _levels(image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Uptake in the body: its median ``(n, 1)``, and log quantiles over it with median and area ``(n, 66)``."""
    pixels = image.shape[1]
    ordered = image.clamp_min(1e-3).sort(dim=1).values
    area = (image > 0.15).sum(dim=1, keepdim=True).clamp_min(1)
    level = (torch.arange(LEVELS, device=image.device) + 0.5) / LEVELS
    index = (pixels - area + (level * area).long()).clamp_max(pixels - 1)
    quantiles = ordered.gather(1, index)
    median = quantiles[:, LEVELS // 2, None]
    return median, torch.cat([(quantiles / median).log(), median.log(), area / pixels], dim=1)


def _learn_dictionary(image: torch.Tensor, generator: torch.Generator) -> _Dictionary:
    picked = image[torch.randperm(len(image), generator=generator)[:1000]]
    patches = torch.cat([F.unfold(x, PATCH).transpose(1, 2)[:, ::7] for x in picked.split(100)]).flatten(0, 1)
    patches = patches[patches.var(dim=1) > 1e-2]
    if len(patches) < 2 * WORDS:
        raise AllpetError(f"reconstructions have {len(patches)} patches with structure; there must be {2 * WORDS}")
    patches = patches[torch.randperm(len(patches), generator=generator)[:50000]]
    centre = patches.mean(dim=0)
    values, vectors = torch.linalg.eigh(torch.cov((patches - centre).T))
    whitening = vectors @ torch.diag((values.clamp_min(0) + 0.02).rsqrt()) @ vectors.T
    white = (patches - centre) @ whitening
    words = white[torch.randperm(len(white), generator=generator)[:WORDS]]
    for _ in range(10):
        owner = (white @ words.T - 0.5 * words.square().sum(dim=1)).argmax(dim=1)
        count = torch.bincount(owner, minlength=WORDS)
        sums = torch.zeros_like(words).index_add(0, owner, white)
        words = torch.where(count[:, None] > 0, sums / count[:, None].clamp_min(1), words)
    return _Dictionary(centre, whitening, words)


def _encode(image: torch.Tensor, dictionary: _Dictionary) -> torch.Tensor:
    """How much nearer than the mean each word is, averaged over 4 x 4 fields, square root: ``(n, 1536)``."""
    centre, whitening, words = dictionary
    shape = (-1, 1, PATCH, PATCH)
    out = []
    for part in image.split(GROUP):
        likeness = F.conv2d(part, (whitening @ words.T).T.reshape(shape), -(centre @ whitening @ words.T))
        energy = F.conv2d(part, whitening.T.reshape(shape), -(centre @ whitening)).square().sum(dim=1, keepdim=True)
        distance = (energy - 2 * likeness + words.square().sum(dim=1)[:, None, None]).clamp_min(0).sqrt()
        nearer = (distance.mean(dim=1, keepdim=True) - distance).clamp_min(0)
        out.append(F.adaptive_avg_pool2d(nearer, POOL).flatten(1).sqrt())
    return torch.cat(out)


def _parts(features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logs of sinogram and image ``(n, 2048)``, quantiles ``(n, 66)``, and log image over median ``(n, 1, 64, 64)``."""
    if features.ndim != 2 or features.shape[1] != SIZE**2 + FINE**2 or len(features) == 0:
        expected = f"(n, {SIZE**2 + FINE**2})"
        raise AllpetError(f"features have shape {tuple(features.shape)}; prompt_features gives {expected} with n > 0")
    sinogram, image = features[:, : SIZE**2].float(), features[:, SIZE**2 :].float()
    median, quantiles = _levels(image)
    coarse = F.adaptive_avg_pool2d(image.reshape(-1, 1, FINE, FINE), SIZE).flatten(1)
    logs = torch.cat([(sinogram.clamp_min(0) + 0.05).log(), (coarse + 0.05).log()], dim=1)
    relative = (image / median + 0.05).log().clamp(-2.5, 3).reshape(-1, 1, FINE, FINE)
    return logs, quantiles, relative


def _learn_block(x: torch.Tensor, components: int | None, weight: float, sample: torch.Tensor) -> _Block:
    """Principal or (None) standardised coordinates, scaled to a median distance of `weight` between samples."""
    if components is None:
        block = _Block(x.mean(dim=0), None, 1 / x.std(dim=0).clamp_min(1e-6))
    else:
        found = principal_components(x, components)
        block = _Block(found.centre.float(), found.axes.float(), torch.ones(1))
    distance = torch.pdist(_apply_block(x[sample], block)).median()
    return block._replace(scale=block.scale * weight / distance.clamp_min(1e-12))


def _apply_block(x: torch.Tensor, block: _Block) -> torch.Tensor:
    along = x - block.centre
    return (along if block.axes is None else along @ block.axes) * block.scale


@dataclass(frozen=True)
class PromptClassifier:
    """Tells the prompt (tracer and region) of a sinogram by its shape; made by :meth:`fit`.

    Three descriptions of a sinogram: histograms of the kinds of 5 x 5 patches in 16 fields of the log reconstruction;
    principal components of log sinogram and log reconstruction (32 x 32); quantiles of the uptake in the body. Least
    squares to one-hot labels in the space of a Gaussian kernel on all three, with up to 4,000 training samples as
    landmarks (Nystrom; Williams and Seeger, NIPS 2000).

    Notes
    -----
    :meth:`accuracy` on real sinograms of people that were not trained on is the ceiling for generated ones.
    """

    labels: tuple[str, ...]
    dictionary: _Dictionary
    blocks: tuple[_Block, ...]
    landmarks: torch.Tensor
    lift: torch.Tensor
    coefficients: torch.Tensor

    @classmethod
    def fit(cls, features: torch.Tensor, labels: Sequence[str], seed: int = 0) -> PromptClassifier:
        """Learn from real sinograms.

        Parameters
        ----------
        features : ``(n, 5120)`` from :func:`prompt_features`. labels : n prompts, at least two different ones.
        seed : of the draws of patches and landmarks.

        Raises
        ------
        AllpetError : features of another shape; not one label a sample; a single label; too little structure.
        """
        names = tuple(sorted(set(labels)))
        if len(labels) != len(features) or len(names) < 2:
            said = f"{len(labels)} labels ({len(names)} different) for {len(features)} samples"
            raise AllpetError(f"{said}; each sample needs one, of two or more different ones")
        generator = torch.Generator().manual_seed(seed)
        logs, quantiles, relative = _parts(features)
        dictionary = _learn_dictionary(relative, generator)
        order = torch.randperm(len(features), generator=generator)
        values = (_encode(relative, dictionary), logs, quantiles)
        kinds = ((300, 1.5), (200, 1.0), (None, 1.0))
        blocks = tuple(_learn_block(x, k, w, order[:500]) for x, (k, w) in zip(values, kinds, strict=True))
        x = torch.cat([_apply_block(v, b) for v, b in zip(values, blocks, strict=True)], dim=1)
        landmarks = x[order[:LANDMARKS]]
        spread = torch.pdist(landmarks[:500]).median().clamp_min(1e-12)
        blocks = tuple(b._replace(scale=b.scale / spread) for b in blocks)
        x, landmarks = x / spread, landmarks / spread
        power, vectors = torch.linalg.eigh(_kernel(landmarks, landmarks))
        lift = vectors / (power.clamp_min(0) + 1e-6).sqrt()
        lifted = _kernel(x, landmarks) @ lift
        target = F.one_hot(torch.tensor([names.index(w) for w in labels]), len(names)).double() - 1 / len(names)
        normal = lifted.T @ lifted + PENALTY * torch.eye(lifted.shape[1], dtype=torch.float64)
        return cls(names, dictionary, blocks, landmarks, lift, torch.linalg.solve(normal, lifted.T @ target))

    def scores(self, features: torch.Tensor) -> torch.Tensor:
        """Score of every label (the highest wins), float64 ``(n, labels)``."""
        logs, quantiles, relative = _parts(features)
        values = (_encode(relative, self.dictionary), logs, quantiles)
        x = torch.cat([_apply_block(v, b) for v, b in zip(values, self.blocks, strict=True)], dim=1)
        return _kernel(x, self.landmarks) @ self.lift @ self.coefficients

    def predict(self, features: torch.Tensor) -> list[str]:
        """The prompt of each of ``(n, 5120)`` features."""
        return [self.labels[k] for k in self.scores(features).argmax(dim=1).tolist()]

    def confusion(self, features: torch.Tensor, labels: Sequence[str]) -> torch.Tensor:
        """How many of true label i (row) are taken for j (column), integers ``(labels, labels)``.

        Raises
        ------
        AllpetError : another number of labels than samples; one that was not trained on.
        """
        if len(labels) != len(features):
            raise AllpetError(f"{len(labels)} labels for {len(features)} samples; each needs one")
        unknown = sorted(set(labels) - set(self.labels))
        if unknown:
            raise AllpetError(f"label {unknown[0]!r} is unknown; known are {', '.join(self.labels)}")
        table = torch.zeros(len(self.labels), len(self.labels), dtype=torch.long)
        for true, said in zip(labels, self.predict(features), strict=True):
            table[self.labels.index(true), self.labels.index(said)] += 1
        return table

    def accuracy(self, features: torch.Tensor, labels: Sequence[str]) -> float:
        """Share of samples whose prompt is told right, in [0, 1]; errors as :meth:`confusion`."""
        table = self.confusion(features, labels)
        return float(table.diagonal().sum() / table.sum())


def _kernel(x: torch.Tensor, landmarks: torch.Tensor) -> torch.Tensor:
    """Gaussian kernel, float64 ``(n, landmarks)``; the unit of length is the median distance of training samples."""
    return torch.exp(-WIDTH * torch.cdist(x, landmarks, compute_mode="use_mm_for_euclid_dist").double().square())
