"""What distances between sets of sinograms are taken of: their shape, as sinogram and as image.

Features are free of unit and scale. Both are 32 x 32 averages, so that a distance weighs organs and not single bins.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn.functional import adaptive_avg_pool2d

from allpet.errors import AllpetError
from allpet.geometry import ParallelBeam
from allpet.project import Projector
from allpet.recon import fbp
from allpet.recon.fbp import field_of_view

SIZE = 32
COMPONENTS = 64


def unit_mean(s: torch.Tensor) -> torch.Tensor:
    """Sinograms over their own mean, float32 ``(n, views, bins)``.

    Raises
    ------
    AllpetError : not three axes, no sinogram, or one whose mean is not a positive finite number.
    """
    if s.ndim != 3 or len(s) == 0:
        raise AllpetError(f"sinograms have shape {tuple(s.shape)}; they must be (n, views, bins) with n > 0")
    mean = s.double().mean(dim=(-2, -1), keepdim=True)
    wrong = (~((mean > 0) & mean.isfinite())).flatten().nonzero().flatten()
    if len(wrong):
        raise AllpetError(f"sinogram {int(wrong[0])} has mean {float(mean[wrong[0]]):g}; it must be positive")
    return (s.double() / mean).float()


def sinogram_features(s: torch.Tensor, size: int = SIZE) -> torch.Tensor:
    """Sinograms ``(n, views, bins)`` over their mean, averaged to size x size: float32 ``(n, size * size)``, mean 1.

    Raises
    ------
    AllpetError : as :func:`unit_mean`.
    """
    return adaptive_avg_pool2d(unit_mean(s)[:, None], size).flatten(1)


def image_features(s: torch.Tensor, beam: ParallelBeam, size: int = SIZE) -> torch.Tensor:
    """Reconstructions of sinograms, averaged to size x size: float32 ``(n, size * size)``, >= 0.

    Filtered back-projection (ramp) of each sinogram over its mean on ``beam.image_grid()``, over its own mean in the
    circle that every view sees, the negative part cut off, then averaged; zero outside the circle.

    Parameters
    ----------
    s : ``(n, views, bins)`` in any unit. beam : their geometry.

    Raises
    ------
    AllpetError : as :func:`unit_mean`; sinograms of another shape than the beam's; a reconstruction without activity.
    """
    unit = unit_mean(s)
    if tuple(s.shape[1:]) != beam.shape:
        raise AllpetError(f"sinograms are {tuple(s.shape[1:])}, the beam has {beam.shape}; they must agree")
    projector = Projector(beam, beam.image_grid())
    image = fbp(unit, projector)
    inside = field_of_view(projector, image.dtype).to(image.device)
    mean = (image * inside).sum(dim=(-2, -1)) / inside.sum()
    if not bool((mean > 0).all()):
        number = int((mean <= 0).nonzero()[0])
        raise AllpetError(
            f"sinogram {number} has a reconstruction of mean {float(mean[number]):g}; it must be positive"
        )
    image = (image / mean[:, None, None]).clamp_min(0)
    return adaptive_avg_pool2d(image[:, None], size).flatten(1)


@dataclass(frozen=True)
class Components:
    """Leading principal components of a set: ``centre`` (d,), orthonormal ``axes`` (d, k), ``std`` (k,), float64."""

    centre: torch.Tensor
    axes: torch.Tensor
    std: torch.Tensor

    def __call__(self, features: torch.Tensor, whiten: bool = False) -> torch.Tensor:
        """Coordinates along the axes, float64 ``(n, k)``; whitened ones have variance 1 on the reference set.

        Raises
        ------
        AllpetError : features ``(n, d)`` of another d than the reference set's.
        """
        if features.ndim != 2 or features.shape[1] != len(self.centre):
            raise AllpetError(f"features have shape {tuple(features.shape)}; they must be (n, {len(self.centre)})")
        along = (features.double() - self.centre) @ self.axes
        return along / self.std if whiten else along


def principal_components(reference: torch.Tensor, components: int = COMPONENTS) -> Components:
    """Leading principal components of a reference set of features ``(n, d)``, by singular values.

    Axes along which the set does not vary (below 1e-6 of the first one's spread) are left out, so there may be fewer
    than `components`; there are at most n - 1 and d. Each axis points to where its largest entry is positive.

    Raises
    ------
    AllpetError : not ``(n, d)`` with n > 1; components below 1; features that are all alike.
    """
    if reference.ndim != 2 or len(reference) < 2:
        raise AllpetError(f"reference features have shape {tuple(reference.shape)}; they must be (n, d) with n > 1")
    if components < 1:
        raise AllpetError(f"components is {components}; it must be at least 1")
    centre = reference.double().mean(dim=0)
    _, values, rows = torch.linalg.svd(reference.double() - centre, full_matrices=False)
    std = values / (len(reference) - 1) ** 0.5
    if not float(std[0]) > 1e-12 * max(float(centre.abs().max()), 1e-300):
        raise AllpetError("reference features are all alike; they must vary")
    kept = min(components, int((std > 1e-6 * std[0]).sum()))
    axes = rows[:kept].T
    axes = axes * axes.gather(0, axes.abs().argmax(dim=0, keepdim=True)).sign()
    return Components(centre, axes.contiguous(), std[:kept])


def pca_features(
    features: torch.Tensor, reference: torch.Tensor, components: int = COMPONENTS, whiten: bool = False
) -> torch.Tensor:
    """A set's coordinates on the leading principal components of a real reference set, float64 ``(n, k)``.

    Parameters
    ----------
    features, reference : ``(n, d)`` and ``(m, d)``. components : k at most. whiten : divide every coordinate by the
        reference set's standard deviation along it, so that faint shapes weigh as much as the strongest.

    Raises
    ------
    AllpetError : as :func:`principal_components` and :class:`Components`.
    """
    return principal_components(reference, components)(features, whiten)
