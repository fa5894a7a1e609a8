"""Random masks, exact splits, reversible attention, the virtual dataset."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from allpet.errors import AllpetError
from allpet.geometry import ImageGrid, ParallelBeam
from allpet.mask import MaskedSinograms, MaskFamily, attention, draw_masks, project_mask, split
from allpet.project import Projector

BEAM = ParallelBeam(32, 32, 4.0)
A = Projector(BEAM, ImageGrid(32, 4.0))


@settings(max_examples=200)
@given(
    s=arrays("float32", (4, 5), elements=st.floats(-(2.0**100), 2.0**100, width=32)),
    m=arrays("float32", (4, 5), elements=st.floats(0, 1, width=32)),
)
def test_parts_sum_to_the_whole_to_the_bit(s, m):
    s, m = torch.from_numpy(s), torch.from_numpy(m)
    positive, negative = split(s, m)
    assert torch.equal(positive + negative, s)
    assert bool((positive * s >= 0).all()) and bool((negative * s >= 0).all())
    assert torch.allclose(positive, m * s, rtol=1e-6, atol=float(s.abs().max()) * 1e-6)


def test_split_refuses_weights_outside_0_and_1():
    with pytest.raises(AllpetError, match=r"outside \[0, 1\]"):
        split(torch.ones(2, 2), torch.full((2, 2), 1.5))


def test_projected_mask_spans_0_to_1_and_empty_is_zero():
    m = draw_masks(range(8), 32)
    m[3] = 0
    projected = project_mask(m, A)
    peaks = projected.amax(dim=(-2, -1))
    assert float(projected.min()) >= 0 and torch.equal(projected[3], torch.zeros(32, 32))
    assert torch.allclose(peaks[[0, 1, 2, 4, 5, 6, 7]], torch.ones(7))


@settings(max_examples=30)
@given(seed=st.integers(0, 2**40), strength=st.floats(-0.99, 50), empty=st.booleans())
def test_attention_is_undone(seed, strength, empty):
    m = draw_masks([seed], 32)[0] * (0 if empty else 1)
    w = attention(m, A, strength)
    s = A(draw_masks([seed + 1], 32)[0]) + 1
    assert bool(torch.isfinite(w).all()) and bool((w > 0).all())
    assert torch.allclose(s * w / w, s, rtol=1e-6)
    if empty:
        assert torch.equal(w, torch.ones_like(w))


def test_attention_keeps_the_proportion_of_planes():
    m = torch.zeros(2, 32, 32)
    m[0, 10:20, 10:20], m[1, 14:16, 14:16] = 1, 1
    w = attention(m, A) - 1
    assert float(w[0].max()) == pytest.approx(1) and float(w[1].max()) < 0.5
    with pytest.raises(AllpetError, match="above -1"):
        attention(m, A, -1.0)


def test_masks_do_not_depend_on_the_batch_and_vary():
    together = draw_masks(range(200, 240), 48, seed=3)
    assert torch.equal(draw_masks([217], 48, seed=3)[0], together[17])
    assert not torch.equal(draw_masks([217], 48, seed=4)[0], together[17])
    flat = together.flatten(1) - together.flatten(1).mean(1, keepdim=True)
    flat = flat / flat.norm(dim=1, keepdim=True)
    correlation = (flat @ flat.T)[~torch.eye(40, dtype=torch.bool)]
    assert float(correlation.abs().mean()) < 0.3 and float(correlation.max()) < 0.999
    counts = {len(MaskFamily().parameters(0, i)) for i in range(300)}
    assert counts == set(range(1, 13))


@pytest.mark.parametrize("wrong", [dict(counts=(5, 2)), dict(counts=(0, 2)), dict(layouts=("foo",)), dict(layouts=())])
def test_masks_of_wrong_families_are_refused(wrong: dict):
    with pytest.raises(AllpetError, match=f"{next(iter(wrong))} of masks are"):
        MaskFamily(**wrong)


def test_virtual_dataset_feeds_a_data_loader():
    data = MaskedSinograms(torch.rand(3, 32, 32).numpy(), BEAM, seed=1)
    loader = torch.utils.data.DataLoader(range(len(data)), batch_size=4, shuffle=True, collate_fn=data.batch)
    batch = next(iter(loader))
    assert batch.positive.shape == (4, 32, 32) and torch.equal(batch.positive + batch.negative, batch.sinogram)


def test_virtual_dataset_addresses_over_200000_samples():
    s = torch.rand(500, 32, 32)
    data = MaskedSinograms(s, BEAM, seed=1)
    assert len(data) > 200_000
    batch = data.batch([0, 7, len(data) - 1])
    assert torch.equal(batch.positive + batch.negative, batch.sinogram)
    assert torch.equal(batch.sinogram[1], s[7])
    assert torch.equal(data[len(data) - 1].mask[0], batch.mask[2])
    assert not torch.equal(data[500].mask, data[0].mask)
    with pytest.raises(IndexError):
        data.batch([len(data)])
    with pytest.raises(AllpetError, match=r"must be \(n, 32, 32\)"):
        MaskedSinograms(s[:, :16], BEAM)


def test_what_is_no_mask_is_refused() -> None:
    nothing = torch.full((16, 16), float("nan"))
    with pytest.raises(AllpetError, match="or NaN"):
        project_mask(nothing, Projector(ParallelBeam(12, 16, 1.0), ImageGrid(16, 1.0)))
    with pytest.raises(AllpetError, match="or NaN"):
        split(torch.ones(16, 16), nothing)
    with pytest.raises(AllpetError, match="at least 1 pixel"):
        draw_masks([0], 0)
