"""What a user would otherwise do: the tasks' baselines, without a network.

Each is a function of the data (counts and factors are looked at, truths never) and of training pairs of the same kind,
and returns expected trues of one or two results, ``(n, 1 or 2, view, radial)``, in counts at full dose.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from allpet.io.samples import background_at
from allpet.project import Projector
from allpet.recon import osem
from allpet.scan.dataset import Dataset
from allpet.scan.mumap import WATER
from allpet.task.baselines import gaussian_strip

Rival = Callable[[Dataset, Dataset], torch.Tensor]
WIDTHS = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0)
"""Widths in bins that the Gaussian is chosen from."""
INSIDE = 0.25
"""Share of the median uptake of the uncorrected image's brightest half that marks the body."""


def rows(data: Dataset, name: str) -> torch.Tensor:
    """An array of a data set, float32."""
    return torch.from_numpy(np.asarray(data[name], np.float32))


def share_of(data: Dataset) -> torch.Tensor:
    """Dose fraction, ``(n, 1, 1)``."""
    return rows(data, "dose_fraction")[:, None, None]


def net(data: Dataset) -> torch.Tensor:
    """Counts less the background, at full dose."""
    share = share_of(data)
    return (rows(data, "observed") - torch.from_numpy(background_at(data, None, share.numpy())["background"])) / share


def asked_for(data: Dataset) -> dict[str, Any]:
    """Options with which `apply` makes of a scan of these pairs what is wanted: the other tracer, or the delay."""
    task = data.prompt["task"]
    if task == "convert":
        return {"to": data.attributes["to"]}
    if task == "delayed":
        starts = data.attributes["frame_start_s"]
        return {"delay_minutes": (starts[1] - starts[0]) / 60}
    return {}


def truth(data: Dataset) -> torch.Tensor:
    """Expected trues of one or two results, ``(n, k, view, radial)``."""
    first = rows(data, "sinogram")
    if data.prompt["task"] == "low-dose":
        first = (first - rows(data, "background")).clamp_min(0)
    results = [first, rows(data, "second")] if "second" in data else [first]
    return torch.stack(results, dim=1)


def smoothed(data: Dataset, training: Dataset) -> torch.Tensor:
    """The counts smoothed by the Gaussian that is best on the training pairs' own low dose."""

    def blur(some: Dataset, width: float) -> torch.Tensor:
        return gaussian_strip(net(some), width).clamp_min(0)

    if training.prompt["task"] == "low-dose":
        true = truth(training)[:, 0]
        width = min(WIDTHS, key=lambda w: float((blur(training, w) - true).square().mean()))
    else:
        width = 1.5
    return blur(data, width)


def as_it_is(data: Dataset, training: Dataset) -> torch.Tensor:
    """The input itself, less its background."""
    return net(data)[:, None]


def gaussian(data: Dataset, training: Dataset) -> torch.Tensor:
    """The best Gaussian filter."""
    return smoothed(data, training)[:, None]


def non_local_means(data: Dataset, training: Dataset) -> torch.Tensor:
    """Non-local means of square roots of counts (Buades 2005), its strength the Poisson deviation."""
    from skimage.restoration import denoise_nl_means

    out = []
    for counts, background, share in zip(rows(data, "observed"), rows(data, "background"), share_of(data), strict=True):
        root = 2 * (counts + 0.375).sqrt()  # Anscombe: unit variance
        options = dict(patch_size=5, patch_distance=9, h=0.8, sigma=1.0, fast_mode=True)
        clean = torch.from_numpy(denoise_nl_means(root.numpy(), **options))
        mean = ((clean / 2).square() - 0.125).clamp_min(0)
        out.append((mean / share - background).clamp_min(0))
    return torch.stack(out)[:, None]


def uniform_mu(data: Dataset, training: Dataset) -> torch.Tensor:
    """Attenuation of water inside of the body's outline in the uncorrected image."""
    depth = Projector(data.beam, data.grid)(uniform_mumap(data))
    return (smoothed(data, training) * depth.exp())[:, None]


def uniform_mumap(data: Dataset) -> torch.Tensor:
    """Mu of water inside of that outline, ``(n, row, column)`` in 1/mm."""
    image = osem(gaussian_strip(net(data), 1.5).clamp_min(0), Projector(data.beam, data.grid), 2, 8)
    return torch.stack([torch.from_numpy(_outline(plane.numpy()).astype(np.float32)) for plane in image]) * WATER


def _outline(image: np.ndarray) -> np.ndarray:
    """The body: brighter than a share of tissue's usual brightness, closed, without holes, the largest piece."""
    from scipy import ndimage

    inside = image[image > 0.1 * image.max()]
    level = INSIDE * float(np.median(inside)) if inside.size else 0.0
    mask = ndimage.binary_closing(image > max(level, 1e-9), iterations=3)
    mask = ndimage.binary_fill_holes(mask)
    pieces, count = ndimage.label(mask)
    if count == 0:
        return np.asarray(mask)
    sizes = ndimage.sum(mask, pieces, range(1, count + 1))
    return np.asarray(pieces == 1 + int(np.argmax(sizes)))


def scaled(data: Dataset, training: Dataset) -> torch.Tensor:
    """The input times one number: results over input, in all training pairs."""
    wanted, given = truth(training), net(training)
    factor = wanted.sum(dim=(0, 2, 3)) / given.sum()
    return smoothed(data, training)[:, None] * factor[:, None, None]


def by_organ(data: Dataset, training: Dataset) -> torch.Tensor:
    """Every organ times the training pairs' mean ratio in it; the organs' outlines are given, exactly."""
    projector = Projector(data.beam, data.grid)
    names = {"sinogram": "image", "second": "image_second"}
    pairs = [name for name in names if name in training]
    labels = np.asarray(training["labels"])
    before = np.asarray(training["image_observed"] if "image_observed" in training else training["image"], np.float64)
    if "image_second" in training:
        before = before + np.asarray(training["image_second"], np.float64)
    seen = smoothed(data, training)
    image = osem(seen, projector, 4, 8, rows(data, "attenuation"))
    own = np.asarray(data["labels"])
    whole = projector(image).clamp_min(1e-6)
    results = []
    for name in pairs:
        after = np.asarray(training[names[name]], np.float64)
        total = truth(training)[:, pairs.index(name)].sum() / net(training).sum()
        usual = after.sum() / max(before.sum(), 1e-9)
        ratio = np.zeros(own.shape, np.float32)
        for value in np.unique(own):
            there = labels == value
            mean = before[there].sum()
            ratio[own == value] = after[there].sum() / mean if mean > 0 else usual
        unit = float(total) / usual  # branching and duration: from activity to counts
        results.append(seen * projector(image * torch.from_numpy(ratio)) / whole * unit)
    return torch.stack(results, dim=1)


def early_frame(data: Dataset, training: Dataset) -> torch.Tensor:
    """The first frame, before the second injection, times the training pairs' mean change; the rest is the second."""
    first = gaussian_strip(rows(data, "frames")[:, 0] - rows(data, "frames_background")[:, 0], 2.0).clamp_min(0)
    early = rows(training, "frames")[:, 0] - rows(training, "frames_background")[:, 0]
    one = first * float(truth(training)[:, 0].sum() / early.sum())
    return torch.stack([one, (smoothed(data, training) - one).clamp_min(0)], dim=1)


RIVALS: dict[str, dict[str, Rival]] = {
    "low-dose": {"input": as_it_is, "Gaussian": gaussian, "NLM": non_local_means},
    "attenuation": {"uncorrected": gaussian, "uniform mu": uniform_mu},
    "delayed": {"copy": gaussian, "scaled": scaled, "organ ratios": by_organ},
    "convert": {"copy": gaussian, "scaled": scaled, "organ ratios": by_organ},
    "separate": {"scaled": scaled, "organ shares": by_organ, "early frame": early_frame},
}
"""Baselines of each task by name. Those by organ are given the organs' true outlines, which a user has not."""
