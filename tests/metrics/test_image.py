"""Image scores against scikit-image and against what can be computed by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import normalized_root_mse, peak_signal_noise_ratio, structural_similarity

from allpet.errors import AllpetError
from allpet.metrics import nrmse, psnr, ssim


def _pairs(shape: tuple[int, ...], seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    truth = torch.from_numpy(rng.gamma(2.0, 3.0, shape))
    return truth + torch.from_numpy(rng.normal(0, 1.5, shape)), truth


@settings(max_examples=15)
@given(st.integers(11, 40), st.integers(11, 40), st.floats(0.5, 100), st.integers(0, 1000))
def test_scores_match_scikit_image(rows: int, columns: int, peak: float, seed: int):
    estimate, truth = _pairs((2, rows, columns), seed)
    ours = {
        "psnr": psnr(estimate, truth, peak),
        "ssim": ssim(estimate, truth, peak),
        "nrmse": nrmse(estimate, truth),
    }
    for i in range(2):
        a, b = truth[i].numpy(), estimate[i].numpy()
        assert ours["psnr"][i] == pytest.approx(peak_signal_noise_ratio(a, b, data_range=peak))
        assert ours["nrmse"][i] == pytest.approx(normalized_root_mse(a, b))
        theirs = structural_similarity(a, b, data_range=peak, gaussian_weights=True, use_sample_covariance=False)
        assert ours["ssim"][i] == pytest.approx(theirs, abs=1e-9)


def test_equal_planes_are_perfect():
    _, truth = _pairs((3, 2, 16, 16), 0)
    assert psnr(truth, truth).shape == (3, 2)
    assert torch.isinf(psnr(truth, truth)).all()
    assert torch.equal(nrmse(truth, truth), torch.zeros(3, 2, dtype=torch.float64))
    torch.testing.assert_close(ssim(truth, truth), torch.ones(3, 2, dtype=torch.float64))


def test_default_range_is_the_maximum_of_each_truth():
    estimate, truth = _pairs((4, 20, 20), 1)
    each = torch.stack([psnr(e, t, float(t.max())) for e, t in zip(estimate, truth, strict=True)])
    torch.testing.assert_close(psnr(estimate, truth), each)
    torch.testing.assert_close(psnr(1000 * estimate, 1000 * truth), each)
    assert (psnr(estimate, truth, 2 * truth.amax((-2, -1))) - psnr(estimate, truth)).sub(
        20 * np.log10(2)
    ).abs().max() < 1e-9


def test_bad_input_says_what_is_wrong():
    estimate, truth = _pairs((20, 20), 2)
    with pytest.raises(AllpetError, match="both must be"):
        psnr(estimate[:10], truth)
    with pytest.raises(AllpetError, match="state data_range"):
        psnr(estimate, torch.zeros_like(truth))
    with pytest.raises(AllpetError, match="smaller than SSIM's window"):
        ssim(estimate[:8, :8], truth[:8, :8])
