"""FBP, MLEM and OSEM are quantitative."""

import pytest
import torch

from allpet.errors import AllpetError
from allpet.geometry import ImageGrid, ParallelBeam
from allpet.project import Projector
from allpet.recon import fbp, mlem, osem
from tests_support import disk_image, disk_sinogram

BEAM, GRID = ParallelBeam(90, 64, 5.0), ImageGrid(64, 5.0)
PARTS = ((110, 10.0, -8.0, 1.0), (40, 45.0, 20.0, 2.0))


@pytest.fixture(scope="module")
def scene():
    a = Projector(BEAM, GRID)
    truth = sum(v * disk_image(GRID, r, x, y) for r, x, y, v in PARTS).float()
    data = sum(v * disk_sinogram(BEAM, r, x, y) for r, x, y, v in PARTS).float()  # analytic, never from A
    core = disk_image(GRID, 30, 45.0, 20.0) == 1
    return a, truth, data, core


@pytest.mark.parametrize("method", [fbp, lambda s, a: fbp(s, a, "hann"), lambda s, a: mlem(s, a, 60), osem])
def test_noise_free_data_give_the_truth(scene, method):
    a, truth, data, core = scene
    image = method(data, a)
    assert float(image.sum() / truth.sum()) == pytest.approx(1, abs=0.01)
    assert float(image[core].mean()) == pytest.approx(3.0, rel=0.01)


def test_osem_with_attenuation_background_and_gaps(scene):
    a, truth, data, core = scene
    efficiency = a.attenuation(0.0096 * (truth > 0).float())
    v, r = torch.arange(90)[:, None], torch.arange(64)[None, :]
    efficiency = efficiency * ((v + r) % 9 != 0)
    background = torch.full_like(data, 30.0)
    image = osem(efficiency * data + background, a, 20, 9, efficiency, background)
    assert float(image.sum() / truth.sum()) == pytest.approx(1, abs=0.01)
    assert float(image[core].mean()) == pytest.approx(3.0, rel=0.01)


def test_likelihood_never_falls_under_mlem(scene):
    a, _, data, _ = scene
    y = torch.poisson(data * 0.2, generator=torch.Generator().manual_seed(0))
    background = torch.full_like(y, 0.5)
    last, image = -float("inf"), None
    for _ in range(8):
        image = mlem(y, a, 1, background=background, start=image)
        expected = (a(image) + background).double()
        value = float((y * expected.log() - expected).sum())
        assert value >= last - 1e-3
        last = value


def test_batch_equals_one_by_one(scene):
    a, _, data, _ = scene
    both = torch.stack([data, 2 * data])
    assert torch.allclose(osem(both, a, 2, 6)[1], osem(2 * data, a, 2, 6), rtol=1e-4, atol=1e-4)


def test_bad_input_is_refused(scene):
    a, _, data, _ = scene
    with pytest.raises(AllpetError, match="below zero"):
        osem(data - 100, a)
    with pytest.raises(AllpetError, match="subsets 91"):
        osem(data, a, subsets=91)
    with pytest.raises(AllpetError, match="window 'boxcar' is unknown; known: ramp"):
        fbp(data, a, "boxcar")
