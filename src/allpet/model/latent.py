"""First stage: an orthonormal patch basis (Karhunen-Loeve), closed form, symmetric on the Moebius strip.

Patches of ``patch x patch`` bins are projected on the leading eigenvectors of their covariance.
The covariance is averaged over radial reflection, so every basis patch is even or odd; the
mirrored end of the strip then has the same latents, mirrored, with the odd ones negated. The
map is linear: latents of parts add up to the latents of the whole,
``z(s) = z(M*s) + z((1-M)*s)``.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from allpet.errors import AllpetError


class PatchBasis(nn.Module):
    """Encoder and decoder of the first stage; no learned parameter.

    Parameters
    ----------
    patch : side of a patch in bins. channels : basis patches kept, at most ``patch * patch``.
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
    def fit(self, sinograms: torch.Tensor, flatten: float = 0.5) -> PatchBasis:
        """Closed form from sinograms ``(n, view, radial)``, each divided by its mean beforehand.

        ``flatten`` is how far the latents' standard deviations are evened out: 0 keeps their
        proportions, 1 gives every channel unit variance.
        """
        p = self.patch
        patches = F.unfold(sinograms[:, None].double(), p, stride=p).transpose(1, 2).reshape(-1, p * p)
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

    def encode(self, sinogram: torch.Tensor) -> torch.Tensor:
        """``(n, view, radial) -> (n, channels, view / patch, radial / patch)``; linear."""
        if sinogram.shape[-2] % self.patch or sinogram.shape[-1] % self.patch:
            raise AllpetError(f"sinogram is {tuple(sinogram.shape[-2:])}; both must be multiples of {self.patch}")
        return F.conv2d(sinogram[:, None], self.basis, stride=self.patch) / self.scale[:, None, None]

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        """The transpose of `encode`: ``(n, channels, ...) -> (n, view, radial)``."""
        return F.conv_transpose2d(latent * self.scale[:, None, None], self.basis, stride=self.patch)[:, 0]
