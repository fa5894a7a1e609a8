"""Dynamic frames keep their counts, whatever they are brought to."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from allpet.errors import AllpetError
from allpet.geometry import RingBeam
from allpet.io import read
from allpet.io.convert import convert
from allpet.recon.whole import reconstruct, sum_planes
from allpet.save import save
from allpet.scan.arc import arc_correct
from allpet.scan.core import Scan
from allpet.scan.dynamic import Dynamic
from allpet.scan.simulate import simulate


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


def test_frames_go_with_the_scan_through_a_store_a_sum_of_planes_and_arc_correction(tmp_path):
    data = simulate(2, tracer="FDG + PSMA", region="abdomen", task="separate", views=32, bins=32, slices_per_subject=2)
    scan = data.scan()
    save(scan, tmp_path / "copy.zarr")
    again = read(tmp_path / "copy.zarr").dynamic
    assert torch.equal(again.counts, scan.dynamic.counts) and torch.equal(again.background, scan.dynamic.background)
    assert (again.start_s, again.duration_s) == (scan.dynamic.start_s, scan.dynamic.duration_s)
    both = sum_planes(scan, 2)
    assert torch.equal(both.dynamic.counts[0], scan.dynamic.counts.sum(dim=0)) and len(both) == 1
    assert reconstruct(scan, group=2).array.shape[0] == 1
    ring = RingBeam(28, 9, 100.0)
    counts = torch.poisson(torch.full((1, 2, *ring.shape), 5.0), generator=torch.Generator().manual_seed(0))
    raw = Scan(counts.sum(dim=1), ring, dynamic=Dynamic(counts, 0.1 * counts, (0.0, 9.0), (9.0, 9.0)))
    even = arc_correct(raw)
    assert even.dynamic.counts.shape == (1, 2, *even.geometry.shape)
    assert torch.allclose(even.dynamic.counts.sum(dim=1), even.sinogram, rtol=1e-4, atol=1e-4)


def test_a_format_without_frames_says_that_they_are_left_out(tmp_path):
    options = dict(tracer="FDG + PSMA", region="abdomen", task="separate", views=32, bins=32)
    save(simulate(1, **options).scan(), tmp_path / "two.zarr")
    assert convert(tmp_path / "two.zarr", tmp_path / "copy.zarr") == ()
    assert "frames are left out: one.hs holds one frame" in convert(tmp_path / "two.zarr", tmp_path / "one.hs")[0]
