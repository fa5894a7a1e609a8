"""Diversity in closed form, and masks whose place is known."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from allpet.errors import AllpetError
from allpet.geometry import ImageGrid, ParallelBeam
from allpet.mask import draw_masks, project_mask
from allpet.metrics import mean_pairwise_correlation, participation_ratio, sliding_block_masks, vendi_score
from allpet.project import Projector


@settings(max_examples=20)
@given(st.integers(2, 12), st.integers(0, 99))
def test_correlation_is_numpys(n: int, seed: int):
    x = torch.randn(n, 4, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    table = torch.corrcoef(x.flatten(1))
    mean = (table.sum() - n) / (n * (n - 1))
    assert mean_pairwise_correlation(x) == pytest.approx(float(mean), abs=1e-12)
    assert mean_pairwise_correlation(3 * x[:1].repeat(n, 1, 1) + 2) == pytest.approx(1)


@pytest.mark.parametrize("n", [2, 5, 9])
def test_orthogonal_members_count_fully(n: int):
    x = torch.eye(n, 20, dtype=torch.float64)
    assert participation_ratio(x) == pytest.approx(n - 1)
    assert vendi_score(x) == pytest.approx(n)
    assert vendi_score(torch.cat([x, 2 * x])) == pytest.approx(n)  # twice the same is not more
    assert vendi_score(x[:1].repeat(n, 1)) == pytest.approx(1, abs=1e-6)
    line = torch.arange(n, dtype=torch.float64)[:, None] * x[:1]
    assert participation_ratio(line) == pytest.approx(1)


def test_participation_ratio_of_two_spreads():
    x = torch.tensor([[3.0, 0], [-3, 0], [0, 1], [0, -1]], dtype=torch.float64)  # eigenvalues 18 and 2
    assert participation_ratio(x) == pytest.approx(400 / 328)
    assert participation_ratio(torch.cat([x, torch.zeros(4, 30)], dim=1)) == pytest.approx(400 / 328)


def test_blocks_tile_the_image():
    masks = sliding_block_masks(128)
    assert masks.shape == (64, 128, 128) and torch.equal(masks.sum(dim=0), torch.ones(128, 128))
    assert bool((masks.sum(dim=(1, 2)) == 16**2).all())
    assert masks[9, 16:32, 16:32].all()
    fine = sliding_block_masks(32, 8, 3)
    assert fine.shape == (81, 32, 32) and bool((fine.sum(dim=(1, 2)) == 64).all()) and fine[1, 0:8, 3:11].all()


def test_random_masks_are_more_varied_than_sliding_blocks_of_few_positions():
    projector = Projector(ParallelBeam(32, 32, 4.0), ImageGrid(32, 4.0))
    blocks = project_mask(sliding_block_masks(32, 16, 8), projector)
    drawn = project_mask(draw_masks(range(200), 32), projector)
    assert len(blocks) == 9 and participation_ratio(blocks) < 8 < vendi_score(drawn) * participation_ratio(drawn)
    assert -1 <= mean_pairwise_correlation(blocks) < 1


def test_bad_input_says_what_is_wrong():
    for measure in (mean_pairwise_correlation, participation_ratio, vendi_score):
        with pytest.raises(AllpetError, match="n > 1"):
            measure(torch.ones(1, 5))
    with pytest.raises(AllpetError, match="member 1 of the set is constant"):
        mean_pairwise_correlation(torch.tensor([[1.0, 2], [3, 3]]))
    with pytest.raises(AllpetError, match="must vary"):
        participation_ratio(torch.ones(4, 5))
    with pytest.raises(AllpetError, match="is zero"):
        vendi_score(torch.zeros(2, 5))
    for block, stride in ((0, 1), (9, 1), (4, 0)):
        with pytest.raises(AllpetError, match="from 1 to"):
            sliding_block_masks(8, block, stride)
