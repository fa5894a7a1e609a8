"""The linear prior: what the best linear denoiser knows before any network is trained.

For each region (and for all together) the latents of the augmented training sinograms have a
mean and a covariance; its leading eigenvectors are kept. The expected clean latents under noise
of standard deviation sigma are then in closed form (Wiener),

    D(z) = mean + sum_k v_k / (v_k + sigma^2) <b_k, z - mean> b_k,

and so is their error. Every eigenvector is a combination of sinograms, hence nearly a sinogram.
"""

from __future__ import annotations

import torch
from torch import nn

from allpet.model.prompt import REGIONS


class LinearPrior(nn.Module):
    """Mean and leading covariance of the latents, for each region and for all.

    Parameters
    ----------
    shape : of the latents, (channels, h, w). components : eigenvectors kept. rows : priors kept,
        the first for "region not said".
    """

    mean: torch.Tensor
    basis: torch.Tensor
    variance: torch.Tensor
    rest: torch.Tensor
    row: torch.Tensor

    def __init__(self, shape: tuple[int, ...] = (12, 16, 16), components: int = 256, rows: int = 1) -> None:
        super().__init__()
        self.config = dict(shape=tuple(shape), components=components, rows=rows)
        size = shape[0] * shape[1] * shape[2]
        self.register_buffer("mean", torch.zeros(rows, size))
        self.register_buffer("basis", torch.zeros(rows, components, size))
        self.register_buffer("variance", torch.zeros(rows, components))
        self.register_buffer("rest", torch.zeros(rows))
        self.register_buffer("row", torch.zeros(len(REGIONS) + 1))

    @classmethod
    def fit(cls, latents: torch.Tensor, region: torch.Tensor, components: int = 256) -> LinearPrior:
        """From latents ``(n, channels, h, w)`` and the index of each one's region (vocabulary + 1)."""
        known = sorted(set(region.tolist()))
        flat = latents.flatten(1)
        components = min([components, flat.shape[1] - 1, *(int((region == k).sum()) - 1 for k in known)])
        prior = cls(tuple(latents.shape[1:]), components, len(known) + 1)
        for row, members in enumerate([torch.ones_like(region, dtype=torch.bool), *(region == k for k in known)]):
            mine = flat[members]
            mean = mine.mean(dim=0)
            _, values, vectors = torch.svd_lowrank(mine - mean, q=min(components + 16, *mine.shape), niter=3)
            variance = values[:components].square() / len(mine)
            total = (mine - mean).square().sum() / len(mine)
            prior.mean[row], prior.basis[row] = mean, vectors[:, :components].T
            prior.variance[row] = variance
            prior.rest[row] = ((total - variance.sum()) / (flat.shape[1] - components)).clamp_min(1e-8)
        for row, k in enumerate(known):
            prior.row[k] = row + 1
        return prior

    def forward(
        self, z: torch.Tensor, sigma: torch.Tensor, region: torch.Tensor, tail: float = 1.0
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Expected clean latents (shape of z) and their root mean square error ``(n,)``.

        Parameters
        ----------
        z : ``(n, channels, h, w)`` with noise of standard deviation ``sigma`` (n,). region : ``(n,)``, 0 for not said.
        tail : share of the variance outside the eigenvectors that is believed.
        """
        row = self.row[region].long()
        out, noise = torch.empty_like(z), sigma.square()[:, None]
        variance, rest = self.variance[row], tail * self.rest[row][:, None]
        gain, other = variance / (variance + noise), rest / (rest + noise)
        for k in row.unique():
            mine = row == k
            away = z[mine].flatten(1) - self.mean[k]
            inside = away @ self.basis[k].T
            clean = self.mean[k] + ((gain[mine] - other[mine]) * inside) @ self.basis[k] + other[mine] * away
            out[mine] = clean.reshape(-1, *z.shape[1:])
        size = self.mean.shape[1]
        error = (gain * noise).sum(dim=1) + (size - variance.shape[1]) * (other * noise)[:, 0]
        return out, (error / size).sqrt()
