"""Dynamic frames keep their counts, whatever they are brought to."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from allpet.errors import AllpetError
from allpet.scan.dynamic import Dynamic


def frames(durations) -> Dynamic:
    starts = [float(sum(durations[:k])) for k in range(len(durations))]
    counts = torch.rand(2, len(durations), 4, 5, generator=torch.Generator().manual_seed(1))
    return Dynamic(counts, 0.1 * counts, tuple(starts), tuple(durations))


@given(st.lists(st.floats(10, 900), min_size=1, max_size=9), st.integers(1, 8))
def test_rebinning_keeps_counts_and_time(durations, number):
    old = frames(durations)
    new = old.rebinned(number)
    assert new.counts.shape[1] == number
    assert torch.allclose(new.counts.sum(dim=1), old.counts.sum(dim=1), rtol=1e-4)
    assert torch.allclose(new.background.sum(dim=1), old.background.sum(dim=1), rtol=1e-4)
    assert sum(new.duration_s) == pytest.approx(sum(durations), rel=1e-6)


def test_bad_frames_are_one_clear_line():
    counts = torch.zeros(1, 2, 4, 5)
    with pytest.raises(AllpetError, match="one of each"):
        Dynamic(counts, counts, (0.0,), (1.0,))
    with pytest.raises(AllpetError, match="durations must be positive"):
        Dynamic(counts, counts, (0.0, 1.0), (1.0, 0.0))
