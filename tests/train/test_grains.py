"""The grains of errors are found again in noise that is made of known ones."""

import math

import pytest
import torch

from allpet.task.grains import WIDTHS, smooth_noise
from allpet.train.grains import autocorrelation, shares

BODY = ((torch.arange(64)[:, None] - 30).square() / 24**2 + (torch.arange(64) - 33).square() / 17**2) < 1


@pytest.mark.parametrize("true", [(1.0, 0.0, 0.0), (0.85, 0.12, 0.03), (0.1, 0.6, 0.3)])
def test_known_shares_are_found_inside_of_a_body(true):
    noise = torch.cat([smooth_noise(true, torch.Size((1, 64, 64)), 0, 0, k) for k in range(600)])
    body = BODY.expand_as(noise)
    found = shares(autocorrelation(torch.where(body, noise, torch.tensor(1e3)), body, 20), WIDTHS)
    assert sum(found) == pytest.approx(1)
    assert found == pytest.approx(list(true), abs=0.06)


def test_the_autocorrelation_is_that_of_every_pair_of_pixels():
    generator = torch.Generator().manual_seed(0)
    off = torch.randn(3, 9, 9, generator=generator)
    body = torch.rand(3, 9, 9, generator=generator) > 0.4
    found = autocorrelation(off, body, 2)
    for down, right in ((0, 0), (1, 0), (-2, 1), (2, 2)):
        products, pairs = 0.0, 0
        for n in range(3):
            for y in range(9):
                for x in range(9):
                    v, u = y + down, x + right
                    if 0 <= v < 9 and 0 <= u < 9 and body[n, y, x] and body[n, v, u]:
                        products, pairs = products + float(off[n, y, x] * off[n, v, u]), pairs + 1
        assert float(found[2 + down, 2 + right]) == pytest.approx(products / pairs)
    assert math.isinf(WIDTHS[-1])
