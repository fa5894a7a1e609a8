"""What is varied is told, and arms of the ablation do what their names say."""

import pytest
import torch

from allpet.errors import AllpetError
from allpet.model.condition import TOLD, Condition, join
from allpet.train.augment import elastic
from allpet.train.recipes import AUGMENTATIONS, Base, hotter_than
from allpet.train.samples import TrainingSet, vary


@pytest.fixture(scope="module")
def data() -> TrainingSet:
    from allpet.scan.simulate import simulate

    return TrainingSet.from_dataset(simulate(8, region="chest", seed=1, views=32, bins=32, slices_per_subject=1))


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_without_geometry_samples_are_as_they_were(data):
    pick, s, told = vary(data, 16, rng(), geometry=False)
    assert torch.allclose(s, pick.sinogram, atol=1e-5)
    assert float(told["told"][:, 1:].abs().max()) == 0 == float(told["turn"].abs().max())
    assert torch.allclose(told["told"][:, TOLD.index("log_pitch")], (data.bin_mm[0] / 4).log())


def test_every_move_is_told(data):
    pick, s, told = vary(data, 64, rng(1))
    numbers = dict(zip(TOLD, told["told"].T, strict=True))
    assert set(numbers["mirrored"].tolist()) == {0.0, 1.0} and float(numbers["warp"].abs().max()) == 0
    axis = torch.arange(32) - 15.5
    centre = (s[:, 0] * axis).sum(-1) / s[:, 0].sum(-1) - (pick.sinogram[:, 0] * axis).sum(-1) / pick.sinogram[
        :, 0
    ].sum(-1)
    still = (numbers["mirrored"] == 0) & (told["turn"] == 0)
    moved = numbers["shift_x"] * 0.04 * 32  # view 0 looks along y: its centre moves by x
    assert int(still.sum()) > 3 and torch.allclose(centre[still], moved[still], atol=0.35)
    assert torch.allclose(s.mean(dim=(1, 2)), torch.ones(64), atol=1e-4)


def test_a_warp_keeps_a_sinogram_a_sinogram_and_is_told(data):
    from allpet.geometry import ParallelBeam
    from allpet.metrics import moment_residual

    pick, s, told = vary(data, 12, rng(2), geometry=False, warp=1.0)
    assert float(told["told"][:, TOLD.index("warp")].min()) >= 0.3
    change = (s - pick.sinogram).norm() / s.norm()
    assert 0.01 < float(change) < 0.6
    assert float(moment_residual(s, ParallelBeam(32, 32, 1.0)).max()) < 5e-3
    x = torch.rand(2, 16, 16)
    assert torch.allclose(elastic(x, torch.zeros(2), rng()), x, atol=1e-5)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_arms_draw_what_they_name(name, data):
    recipe = Base(data, None, 0, augment=name)
    state, c = recipe.draw(48, rng(3))
    split = c.whole == 0
    assert bool(split.any()) == ("rmas" in name or "all" in name)
    assert float(state[~split, recipe.first.channels :].abs().max()) == 0
    moved = bool((c.turn != 0).any())
    assert moved == (name in ("geometric", "all", "all+warp"))
    assert bool((c.told[:, TOLD.index("warp")] > 0).any()) == (name == "all+warp")
    if bool(split.any()):
        told = c.mask_told[split]
        assert 0 < float(told.mean()) < 1 and float(c.mask[c.mask_told == 0].abs().max()) == 0
    assert len(join([c, c])) == 96


def test_options_that_do_not_exist(data):
    with pytest.raises(AllpetError, match="augmentation 'magic' is unknown; known: none, rmas"):
        Base(data, None, 0, augment="magic")
    without = Base(data, None, 0, parts=False)
    assert without.options["parts"] is False and float(without.draw(32, rng())[1].whole.min()) == 1


def test_hot_regions_are_hotter_than_asked():
    image = torch.zeros(1, 24, 24)
    image[0, 4:20, 4:20] = 1
    image[0, 8:12, 8:12] = 5
    hot = hotter_than(image, torch.tensor([2.0]))
    assert bool((hot[0, 9:11, 9:11] == 1).all()) and float(hot.sum()) < 40
    assert float(hotter_than(image, torch.tensor([9.0])).sum()) == 0
    blank = Condition.blank(1, 4, 4)
    assert float(blank.attention_told) == 0
