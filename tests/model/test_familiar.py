"""What is usual: people like those that were learnt from pass, others do not, and a wrong word is doubted."""

from dataclasses import replace

import pytest
import torch

from allpet.errors import AllpetError
from allpet.geometry import ImageGrid
from allpet.model.familiar import FEATURES, Familiar, Look, Verdict, features, warnings
from allpet.task.seen import surprise

GRID = ImageGrid(64, 4.0)
AT = {"FDG": 0.0, "DOPA": 20.0, "PSMA": -20.0}


def people(tracer: str, n: int, seed: int = 0, grid: ImageGrid = GRID) -> torch.Tensor:
    """A smooth body of random size with a hot organ where this tracer goes."""
    rng = torch.Generator().manual_seed(seed)
    axis = torch.from_numpy(grid.x).float()
    x, y = axis[None, None, :], -axis[None, :, None]
    size = 70 + 10 * torch.rand(n, 1, 1, generator=rng)
    body = torch.sigmoid((1 - ((x / size) ** 2 + (y / (0.7 * size)) ** 2).sqrt()) * 12)
    wide = 12 + 4 * torch.rand(n, 1, 1, generator=rng)
    organ = torch.exp(-((x - AT[tracer]) ** 2 + y**2) / wide**2)
    return body + (3 + torch.rand(n, 1, 1, generator=rng)) * organ


def look(image: torch.Tensor, grid: ImageGrid = GRID, misfit: float = -6.0):
    """What is judged, of an image alone."""
    n = len(image)
    return lambda fov_mm: Look(
        features(image, grid, fov_mm), torch.linspace(-0.1, 0.1, n) + misfit, torch.zeros(n), torch.zeros(n)
    )


@pytest.fixture(scope="module", autouse=True)
def vocabulary():
    """These tracers alone, whatever others there are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("allpet.model.familiar.TRACERS", tuple(AT))
        yield


@pytest.fixture(scope="module")
def familiar(vocabulary) -> Familiar:
    out = Familiar(12)
    out.fit("chest", {t: features(people(t, 30, 1), GRID, 256.0) for t in AT}, 256.0)
    out.calibrate("chest", {t: look(people(t, 30, 2))(256.0) for t in AT})
    return out


def test_people_like_those_are_usual_and_their_word_is_believed(familiar):
    for tracer in AT:
        verdict = familiar(look(people(tracer, 20, 3)), tracer, "chest")
        assert float((verdict.strangeness < 3).float().mean()) > 0.9
        assert verdict.nearest == (tracer,) * 20 and float(verdict.contradiction.max()) < 0
        assert len(warnings(verdict, tracer)) <= 1


def test_a_wrong_tracer_a_grid_and_a_cut_scan_are_noticed(familiar):
    wrong = familiar(look(people("PSMA", 10, 4)), "FDG", "chest")
    assert float(wrong.contradiction.min()) > 0
    assert any("more like PSMA than like FDG" in line for line in warnings(wrong, "FDG"))
    rods = torch.zeros(1, 64, 64)
    rods[:, 8:56:8, 8:56:8] = 1
    strange = familiar(look(rods), "FDG", "chest")
    assert float(strange.strangeness) > 3 and "unlike" in warnings(strange, "FDG")[0]
    cut = people("FDG", 5, 5)
    cut[..., :24] = 0
    assert float(familiar(look(cut), "FDG", "chest").strangeness.min()) > 3


def test_scale_and_pixel_size_do_not_matter(familiar):
    image = people("FDG", 4, 6)
    plain = familiar(look(image), "FDG", "chest").strangeness
    assert torch.allclose(plain, familiar(look(1000 * image), "FDG", None).strangeness, atol=1e-2)
    small = ImageGrid(128, 2.0)
    assert torch.allclose(
        plain, familiar(look(people("FDG", 4, 6, small), small), "FDG", "chest").strangeness, atol=0.7
    )
    assert features(image, GRID, 256.0).shape == (4, FEATURES)


def test_what_is_not_known_is_said():
    image = people("FDG", 1)
    with pytest.raises(AllpetError, match="does not know yet what is usual"):
        Familiar(4)(look(image), "FDG", "chest")
    with pytest.raises(AllpetError, match="needs more than 4 people"):
        Familiar(12).fit("chest", {t: features(people(t, 3), GRID, 256.0) for t in AT}, 256.0)
    assert warnings(Verdict(torch.zeros(3), None, "chest", ("FDG",) * 3), None) == []


def test_a_sinogram_that_no_image_explains_is_strange_and_counts_set_what_is_usual(familiar):
    image = people("FDG", 5, 7)
    assert float(familiar(look(image, misfit=-2.0), "FDG", "chest").strangeness.min()) > 3
    noisy = Familiar(12)
    noisy.load_state_dict(familiar.state_dict())
    noisy.usual[1, :, :, 1] = -1.0  # the misfit falls with the log of the counts
    usual = Look(features(image, GRID, 256.0), torch.full((5,), -8.0), torch.full((5,), 2.0), torch.zeros(5))
    assert float(noisy(lambda _: usual, "FDG", "chest").strangeness.median()) < 3
    few = replace(usual, misfit=torch.full((5,), -5.0))
    assert float(noisy(lambda _: few, "FDG", "chest").strangeness.min()) > 3
    shocked = replace(usual, surprise=torch.full((5,), 9.0))
    assert float(noisy(lambda _: shocked, "FDG", "chest").strangeness.min()) >= 9


def test_poisson_counts_are_no_surprise_and_what_is_not_expected_is():
    rng = torch.Generator().manual_seed(0)
    for level in (0.05, 1.0, 40.0):
        mean = level * (0.5 + torch.rand(20, 64, 64, generator=rng))
        usual = surprise(torch.poisson(mean, generator=rng), mean)
        assert float(usual.mean()) < 1.5 and float(usual.max()) < 4
    rods = mean * (1 + 0.3 * torch.cos(torch.arange(64) * 1.5))
    assert float(surprise(torch.poisson(rods, generator=rng), mean).min()) > 10
