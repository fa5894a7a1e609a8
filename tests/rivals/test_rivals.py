"""Each rival trains, is saved and loaded, and draws the same sample whatever is drawn beside it."""

import pytest
import torch

from allpet.errors import AllpetError
from allpet.rivals import RIVALS, load_rival
from allpet.rivals.common import NETWORKS
from allpet.train import train
from allpet.train.samples import TrainingSet


@pytest.fixture(scope="module")
def data() -> TrainingSet:
    from allpet.scan.simulate import simulate

    return TrainingSet.from_dataset(simulate(6, region="brain", seed=1, views=32, bins=32))


@pytest.mark.parametrize("name", RIVALS)
def test_it_trains_and_draws(name, data, tmp_path):
    train(data, tmp_path, RIVALS[name], max_steps=3, tensorboard=False)
    rival = load_rival(tmp_path)
    many = rival.generate("18F-FDG brain", n=18, seed=2)
    assert many.sinogram.shape == (18, 32, 32) and many.unit == "kBq/mL*mm" and many.tracer == "FDG"
    assert bool(torch.isfinite(many.sinogram).all()) and float(many.sinogram.min()) >= 0
    assert torch.equal(rival.generate("FDG brain", n=1, seed=2).sinogram, many.sinogram[:1])
    assert not torch.allclose(rival.generate("FDG brain", n=1, seed=3).sinogram, many.sinogram[:1])
    assert float(many.sinogram.mean()) == pytest.approx(float(data.mean.mean()), rel=0.5)
    with pytest.raises(AllpetError, match="'knee' is unknown"):
        rival.generate("FDG knee")


@pytest.mark.parametrize("name", RIVALS)
def test_it_is_no_larger_than_ours_may_be(name):
    network = NETWORKS()[name]((128, 128))
    assert 1_000_000 < sum(p.numel() for p in network.parameters()) <= 12_000_000
    assert network.evaluations in (1, 49, 50)


def test_bad_folders_and_sizes(tmp_path):
    with pytest.raises(AllpetError, match="holds no rival"):
        load_rival(tmp_path)
    with pytest.raises(AllpetError, match="multiples of 16"):
        NETWORKS()["vae"]((40, 32))
