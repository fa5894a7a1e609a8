"""What a restored scan is compared with: Gaussian smoothing and the linear MMSE estimate."""

from __future__ import annotations

import torch

from allpet.errors import AllpetError
from allpet.model.restorer import gaussian_blur


def gaussian_strip(x: torch.Tensor, sigma: float) -> torch.Tensor:
    """Gaussian smoothing on the Moebius strip (mirrored wrap along views), sigma in bins."""
    if sigma <= 0:
        return x
    pad = min(x.shape[-2], int(4 * sigma) + 1)
    wrapped = torch.cat([x[..., -pad:, :].flip(-1), x, x[..., :pad, :].flip(-1)], dim=-2)
    return gaussian_blur(wrapped, sigma)[..., pad:-pad, :]


def gaussian_estimate(counts: torch.Tensor, background: torch.Tensor, sigma: float) -> torch.Tensor:
    """Expected counts by smoothing what is left after the background, ``(n, view, radial)``."""
    return gaussian_strip(counts - background, sigma).clamp_min(0) + background


class LinearMMSE:
    """Linear minimum mean-square-error estimate with a PCA prior of whole sinograms.

    Prior: ``lambda / mean(lambda) = m + B c``, ``c ~ N(0, diag(v))``; data: ``y = e * scale * (m + B c) + b``
    with Poisson variance, estimated per bin from the smoothed counts.

    Parameters
    ----------
    sinograms : ``(n, view, radial)`` emission, each divided by its mean. components : kept.
    """

    def __init__(self, sinograms: torch.Tensor, components: int = 600) -> None:
        flat = sinograms.flatten(1)
        if len(flat) <= components:
            raise AllpetError(f"{len(flat)} sinograms cannot give {components} components; simulate more")
        self.mean = flat.mean(0)
        centred = flat - self.mean
        values, vectors = torch.linalg.eigh(centred @ centred.T / len(flat))
        values, vectors = values[-components:], vectors[:, -components:]
        self.variance = values.clamp_min(1e-12)
        basis = centred.T @ vectors
        self.basis = basis / basis.norm(dim=0)

    def estimate(self, counts: torch.Tensor, efficiency: torch.Tensor, background: torch.Tensor) -> torch.Tensor:
        """Expected emission lambda ``(n, view, radial)`` >= 0, in counts at efficiency 1."""
        out = []
        for y, e, b in zip(counts, efficiency, background, strict=True):
            net = (y - b).sum().clamp_min(1)
            scale = net / (e * self.mean.reshape(e.shape)).sum()
            spread = (gaussian_strip(y[None], 3.0)[0] + 0.05).flatten()
            for _ in range(2):  # the second time with the scale that the first estimate gives
                gain = (e * scale).flatten()
                weighted = self.basis * (gain / spread.sqrt())[:, None]
                normal = weighted.T @ weighted + torch.diag(1 / self.variance)
                right = weighted.T @ (((y - b).flatten() - gain * self.mean) / spread.sqrt())
                shape = (self.mean + self.basis @ torch.linalg.solve(normal, right)).reshape(y.shape).clamp_min(0)
                estimate = shape * scale
                scale = net / (e * shape).sum()
            out.append(estimate)
        return torch.stack(out)
