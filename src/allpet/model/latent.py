"""First stage: closed form, linear, nothing learned by gradient.

Patches are projected on the leading eigenvectors of their covariance (Karhunen-Loeve), either those
of the sinogram (surface ``"strip"``) or those of its filtered back-projection (``"plane"``).
Either map is linear: latents of parts add up to the latents of the whole,
``z(s) = z(M*s) + z((1-M)*s)``. Latents of the plane are coordinates on the projector's range:
whatever they are, what is decoded from them is a sinogram.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from allpet.errors import AllpetError
from allpet.geometry import ImageGrid, ParallelBeam
from allpet.mask import project_mask
from allpet.project import Projector
from allpet.recon.fbp import fbp

SURFACES = ("plane", "strip")
LATENT_SIZE = 16


class PatchBasis(nn.Module):
    """Orthonormal basis of patches of a 2-D array.

    The covariance is averaged over reflection along the last axis, so every basis patch is even or odd
    (``sign`` 1 or -1): the mirrored end of the Moebius strip has the same latents, mirrored, the odd ones negated.

    Parameters
    ----------
    patch : side of a patch in pixels. channels : basis patches kept, at most ``patch * patch``.
    """

    basis: torch.Tensor
    sign: torch.Tensor
    scale: torch.Tensor

    def __init__(self, patch: int = 8, channels: int = 12) -> None:
        super().__init__()
        if not 1 <= channels <= patch * patch:
            raise AllpetError(f"channels is {channels}; it must be between 1 and {patch * patch}")
        self.config = dict(patch=patch, channels=channels)
        self.patch, self.channels = patch, channels
        self.register_buffer("basis", torch.zeros(channels, 1, patch, patch))
        self.register_buffer("sign", torch.ones(channels))
        self.register_buffer("scale", torch.ones(channels))

    @torch.no_grad()
    def fit(self, arrays: torch.Tensor, flatten: float = 0.5) -> PatchBasis:
        """Closed form from arrays ``(n, rows, columns)``, such as sinograms divided by their mean.

        ``flatten`` is how far the latents' standard deviations are evened out: 0 keeps their
        proportions, 1 gives every channel unit variance.
        """
        p = self.patch
        patches = F.unfold(arrays[:, None].double(), p, stride=p).transpose(1, 2).reshape(-1, p * p)
        covariance = (patches.T @ patches / len(patches)).reshape(p, p, p, p)
        covariance = (covariance + covariance.flip(1, 3)) / 2
        covariance = covariance.reshape(p * p, p * p)
        vectors, values, signs = [], [], []
        unit = torch.eye(p * p, dtype=torch.float64)
        mirrored = unit.reshape(-1, p, p).flip(2).reshape(-1, p * p)
        for sign in (1.0, -1.0):
            half = torch.linalg.svd(unit + sign * mirrored)
            space = half.Vh[half.S > 1]
            w, v = torch.linalg.eigh(space @ covariance @ space.T)
            vectors.append(v.T @ space)
            values.append(w)
            signs.append(torch.full_like(w, sign))
        order = torch.cat(values).argsort(descending=True)[: self.channels]
        basis = torch.cat(vectors)[order]
        basis = basis * torch.where(basis.sum(1, keepdim=True) < 0, -1.0, 1.0)
        self.basis.copy_(basis.reshape(-1, 1, p, p))
        self.sign.copy_(torch.cat(signs)[order])
        std = torch.cat(values)[order].clamp_min(1e-12).sqrt()
        scale = std**flatten
        self.scale.copy_(scale * (std / scale).square().mean().sqrt())
        return self

    def encode(self, array: torch.Tensor) -> torch.Tensor:
        """``(n, rows, columns) -> (n, channels, rows / patch, columns / patch)``; linear."""
        if array.shape[-2] % self.patch or array.shape[-1] % self.patch:
            raise AllpetError(f"array is {tuple(array.shape[-2:])}; both must be multiples of {self.patch}")
        return F.conv2d(array[:, None], self.basis, stride=self.patch) / self.scale[:, None, None]

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        """The transpose of `encode`, its inverse on the patches kept: ``(n, channels, ...) -> (n, rows, columns)``."""
        return F.conv_transpose2d(latent * self.scale[:, None, None], self.basis, stride=self.patch)[:, 0]


class FirstStage(nn.Module):
    """Encoder and decoder between sinograms ``(n, view, radial)`` and latents ``(n, channels, h, w)``.

    Parameters
    ----------
    views, bins : size of the sinograms; both multiples of `patch`. surface : ``"plane"`` (patches of the
        filtered back-projection; decoding projects) or ``"strip"`` (patches of the sinogram).
    patch : side of a patch; default such that latents are 16 wide. channels : default 12, and 24 for patches of 16.
    """

    def __init__(
        self, views: int, bins: int, surface: str = "plane", patch: int | None = None, channels: int | None = None
    ) -> None:
        super().__init__()
        if surface not in SURFACES:
            raise AllpetError(f"surface '{surface}' is unknown; known: {', '.join(SURFACES)}")
        patch = patch or max(2, bins // LATENT_SIZE)
        if views % patch or bins % patch:
            raise AllpetError(f"sinograms are {views} x {bins}; both sizes must be multiples of {patch}")
        channels = channels or min(patch * patch, 12 if patch <= 8 else 24)
        self.config = dict(views=views, bins=bins, surface=surface, patch=patch, channels=channels)
        self.basis, self.surface, self.channels = PatchBasis(patch, channels), surface, channels
        self.projector = Projector(ParallelBeam(views, bins, 1.0), ImageGrid(bins, 1.0))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of the latents of one sinogram."""
        patch, (views, bins) = self.basis.patch, self.projector.shape
        return self.channels, (bins if self.surface == "plane" else views) // patch, bins // patch

    def fit(self, sinograms: torch.Tensor) -> FirstStage:
        """Closed form from sinograms, each divided by its mean."""
        self.basis.fit(sinograms if self.surface == "strip" else fbp(sinograms, self.projector))
        return self

    def encode(self, sinogram: torch.Tensor) -> torch.Tensor:
        """Linear; ``(n, view, radial) -> (n, channels, h, w)``."""
        return self.basis.encode(sinogram if self.surface == "strip" else fbp(sinogram, self.projector))

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        """Linear; the sinogram, not cut off at zero."""
        flat = self.basis.decode(latent)
        return flat if self.surface == "strip" else self.projector(flat)

    def image(self, latent: torch.Tensor) -> torch.Tensor:
        """The image that latents stand for, ``(n, bins, bins)``; pixels of one bin, not cut off at zero."""
        flat = self.basis.decode(latent)
        return flat if self.surface == "plane" else fbp(flat, self.projector)

    def chart(self, mask: torch.Tensor) -> torch.Tensor:
        """An image-domain mask ``(n, bins, bins)`` as the network sees it, ``(n, 1, h, w)`` in [0, 1].

        On the plane its average over every latent's place; on the strip that of its projection over its maximum.
        """
        if self.surface == "strip":
            mask = project_mask(mask, self.projector)
        return F.adaptive_avg_pool2d(mask[:, None], self.shape[1:])
