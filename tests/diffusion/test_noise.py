"""Seeded noise: whose it is, and whether it is noise."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from allpet.diffusion import seeded_noise
from allpet.errors import AllpetError

MANY = seeded_noise((3, 2), 7, range(30), stream=4)


@settings(max_examples=30)
@given(st.lists(st.integers(0, 29), min_size=1, max_size=6))
def test_a_row_depends_on_its_index_alone(indices):
    assert torch.equal(seeded_noise((3, 2), 7, indices, stream=4), MANY[indices])


def test_another_seed_stream_or_index_is_other_noise():
    for other in (
        seeded_noise((3, 2), 8, [3], stream=4),
        seeded_noise((3, 2), 7, [3], stream=5),
        seeded_noise((3, 2), 7, [2], stream=4),
    ):
        assert not torch.isclose(other[0], MANY[3]).any()


def test_it_is_standard_normal_and_independent():
    a, b = (seeded_noise((4,), 0, range(4000), stream=k).double() for k in (0, 1))
    assert a.dtype == torch.float64 and float(a.mean()) == pytest.approx(0, abs=0.03)
    assert torch.allclose(a.std(0), torch.ones(4, dtype=torch.float64), atol=0.05)
    assert float((a**4).mean()) == pytest.approx(3, abs=0.2)
    both = torch.corrcoef(torch.cat([a.T, b.T]))
    assert float((both - torch.eye(8)).abs().max()) < 0.08


def test_a_number_is_a_shape():
    assert seeded_noise((), 0, [5, 6]).shape == (2,)


@pytest.mark.parametrize(
    ("seed", "indices", "stream", "says"),
    [
        (0, [], 0, "at least one"),
        (-1, [0], 0, "negative"),
        (0, [2, -1], 0, "negative"),
        (0, [0], -3, "negative"),
        (2**32, [0], 0, "2\\*\\*32"),
    ],
)
def test_bad_input_is_said(seed, indices, stream, says):
    with pytest.raises(AllpetError, match=says):
        seeded_noise((2,), seed, indices, stream)
