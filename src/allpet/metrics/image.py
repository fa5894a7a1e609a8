"""How close an image or sinogram is to its truth: PSNR, SSIM, NRMSE over the last two axes.

Every function takes ``(..., rows, columns)`` tensors of one shape and returns ``(...)`` float64 scores, one per
plane. The data range is always stated by the caller (or the truth's own maximum, plane by plane): a wide clip
range would inflate PSNR and SSIM.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from allpet.errors import AllpetError

Range = float | torch.Tensor


def _pair(estimate: torch.Tensor, truth: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    if estimate.shape != truth.shape or truth.ndim < 2:
        raise AllpetError(
            f"estimate has shape {tuple(estimate.shape)}, truth {tuple(truth.shape)}; both must be (..., rows, columns)"
        )
    return estimate.double(), truth.double()


def _range(truth: torch.Tensor, data_range: Range | None) -> torch.Tensor:
    """Data range of each plane, shape ``(...)``: as stated, else the truth's maximum."""
    if data_range is None:
        value = truth.amax(dim=(-2, -1))
    else:
        value = torch.as_tensor(data_range, dtype=truth.dtype, device=truth.device).expand(truth.shape[:-2])
    if not bool((value > 0).all()):
        raise AllpetError("data range of a plane is not positive; state data_range")
    return value


def psnr(estimate: torch.Tensor, truth: torch.Tensor, data_range: Range | None = None) -> torch.Tensor:
    """Peak signal-to-noise ratio ``20 log10(range / rms error)`` in dB; infinite where the two are equal.

    Parameters
    ----------
    estimate, truth : ``(..., rows, columns)`` in the same unit.
    data_range : peak in that unit, a number or ``(...)``; None takes the truth's maximum of each plane.
    """
    estimate, truth = _pair(estimate, truth)
    mean_square = (estimate - truth).square().mean(dim=(-2, -1))
    return 10 * torch.log10(_range(truth, data_range).square() / mean_square)


def nrmse(estimate: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Root mean square error over the root mean square of the truth (0 = equal, 1 = as wrong as zero)."""
    estimate, truth = _pair(estimate, truth)
    return (estimate - truth).square().mean(dim=(-2, -1)).sqrt() / truth.square().mean(dim=(-2, -1)).sqrt()


def ssim(
    estimate: torch.Tensor,
    truth: torch.Tensor,
    data_range: Range | None = None,
    window: int = 11,
    sigma: float = 1.5,
) -> torch.Tensor:
    """Mean structural similarity (Wang et al., IEEE TIP 13(4):600, 2004): Gaussian window, K1 = 0.01, K2 = 0.03.

    The mean runs over windows that lie wholly inside the plane.

    Parameters
    ----------
    estimate, truth : ``(..., rows, columns)`` in the same unit, at least ``window`` pixels along each side.
    data_range : as in :func:`psnr`.
    window, sigma : side of the window and standard deviation of its weights, in pixels.
    """
    estimate, truth = _pair(estimate, truth)
    if min(truth.shape[-2:]) < window:
        raise AllpetError(f"planes of {tuple(truth.shape[-2:])} are smaller than SSIM's window of {window}")
    peak = _range(truth, data_range)[..., None, None]
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    offset = torch.arange(window, dtype=truth.dtype, device=truth.device) - (window - 1) / 2
    weights = torch.exp(-0.5 * (offset / sigma) ** 2)
    weights = weights / weights.sum()

    def mean(x: torch.Tensor) -> torch.Tensor:
        planes = x.reshape(-1, 1, *x.shape[-2:])
        planes = F.conv2d(F.conv2d(planes, weights.reshape(1, 1, -1, 1)), weights.reshape(1, 1, 1, -1))
        return planes.reshape(*x.shape[:-2], *planes.shape[-2:])

    a, b = mean(estimate), mean(truth)
    var_a, var_b = mean(estimate * estimate) - a * a, mean(truth * truth) - b * b
    cov = mean(estimate * truth) - a * b
    index = (2 * a * b + c1) * (2 * cov + c2) / ((a * a + b * b + c1) * (var_a + var_b + c2))
    return index.mean(dim=(-2, -1))
