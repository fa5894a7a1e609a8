"""Attention in the tasks: it changes what is pointed at and nothing else, by its strength, and says by how much."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from allpet.errors import AllpetError
from allpet.geometry import ImageGrid, ParallelBeam
from allpet.mask import Region
from allpet.mask.outline import draw
from allpet.model.focus import MARGIN, WINDOW, fisher, gate_of, matched, window
from allpet.project import Projector
from allpet.recon.whole import image_grid_of
from allpet.scan import Image
from allpet.task import TASKS
from model_support import tiny
from task.test_low_dose import GRIDS
from task.test_tasks import OPTIONS, scan_of

BEAM = ParallelBeam(32, 32, 8.0)


def marked(native, strength: float = 1.0, planes: int = 2, kind: str = "hot") -> Region:
    grid = image_grid_of(native)[1]
    reach = 0.12 * grid.size * grid.pixel_mm
    shape = {"type": "ellipse", "centre_mm": [0.4 * reach, -0.3 * reach], "axes_mm": [reach, 0.7 * reach]}
    mask = np.zeros((planes, *grid.shape), np.float32)
    mask[0] = draw(shape, grid)
    return Region.from_mask("mark", mask, strength=strength, kind=kind)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("native", GRIDS)
def test_any_task_on_any_grid_with_a_region(task, native):
    model, scan = tiny(), scan_of(native)
    result = model.apply(task, scan, samples=2, images=True, roi=[marked(native)], **OPTIONS[task])
    plain = model.apply(task, scan, samples=2, images=True, **OPTIONS[task])
    assert result.expected.geometry == native and len(result.regions) == 1 and plain.regions == ()
    found, change = result.regions[0], result.extras["-image-change"]
    assert isinstance(change, Image)
    assert found.name == "mark" and found.unit == "kBq/mL" and found.std > 0
    assert found.without.mean != found.after.mean and found.before.volume_ml > 0
    assert torch.allclose(result.extras["-image"].array - change.array, plain.extras["-image"].array, atol=1e-4)
    assert torch.equal(result.expected.sinogram[1], plain.expected.sinogram[1]), "no region on this plane"
    assert not torch.equal(result.expected.sinogram[0], plain.expected.sinogram[0])


def test_what_lies_outside_is_not_touched():
    model, scan = tiny(), scan_of(BEAM)
    region = marked(BEAM)
    result = model.apply("low-dose", scan, samples=0, images=True, roi=[region])
    far = gate_of(torch.from_numpy(region.on((2, 32, 32)))) == 0
    change = result.extras["-image-change"].array
    assert float(change[far].abs().max()) == 0 and float(change[~far].abs().max()) > 0


def test_strength_is_the_share_of_the_change_and_none_is_none():
    model, scan = tiny(), scan_of(BEAM)

    def change(strength: float) -> torch.Tensor:
        options = dict(samples=0, images=True, roi=[marked(BEAM, strength)])
        return model.apply("low-dose", scan, **options).extras["-image-change"].array

    whole = change(1.0)
    assert torch.allclose(change(0.25), 0.25 * whole, atol=1e-4 * float(whole.abs().max()))
    assert not change(0.0).any() and not change(-0.7).any()


def test_above_one_the_mean_goes_where_the_counts_ask_for():
    """An untrained, idle network changes nothing; counts of a disk that the estimate does not hold pull it up."""
    model, scan = tiny(idle=True), scan_of(BEAM)
    grid = image_grid_of(BEAM)[1]
    region = marked(BEAM)
    lesion = torch.from_numpy(region.on((2, 32, 32)))
    extra = Projector(BEAM, grid)(lesion)
    scan = replace(scan, sinogram=scan.sinogram + scan.attenuation * extra * (40 / float(extra.max())))
    means = []
    for strength in (1.0, 2.0, 10.0):
        result = model.apply("low-dose", scan, samples=0, images=True, roi=[replace(region, strength=strength)])
        means.append(result.regions[0].after.mean)
    assert means[0] == pytest.approx(result.regions[0].without.mean, rel=1e-5)
    assert means[0] < means[1] < means[2]
    assert means[1] - means[0] == pytest.approx((means[2] - means[0]) * 0.5 / 0.9, rel=0.02)


def test_the_matched_filter_finds_the_change_and_its_error():
    beam = ParallelBeam(24, 32, 4.0)
    projector = Projector(beam, ImageGrid(32, 4.0))
    gate = torch.from_numpy(draw({"type": "ellipse", "centre_mm": [10, 5], "axes_mm": [14, 10]}, projector.grid))[None]
    base = 20 + projector(torch.ones(1, 32, 32)) * 0.05
    per_value = torch.full_like(base, 0.3)
    residual, information = fisher(base + 1.7 * per_value * projector(gate), base, per_value)
    alpha, error = matched(gate, residual, information, projector)
    assert float(alpha) == pytest.approx(1.7, rel=0.03)
    rng = torch.Generator().manual_seed(0)
    found = []
    for _ in range(400):
        residual, information = fisher(torch.poisson(base, generator=rng), base, per_value)
        found.append(float(matched(gate, residual, information, projector)[0]))
    assert np.std(found) == pytest.approx(float(error), rel=0.12)
    assert abs(np.mean(found)) < 4 * float(error) / 20 + 0.05


@pytest.mark.parametrize(("low", "high"), [(0, 3), (60, 64), (10, 55), (30, 31)])
def test_windows_hold_the_region_and_fit_the_network(low, high):
    mask = torch.zeros(128, 128)
    mask[low:high, 5:9] = 1
    rows, columns = window(mask)
    for part, (first, last) in ((rows, (low, high)), (columns, (5, 9))):
        side = part.stop - part.start
        assert side % 8 == 0 and side >= WINDOW and part.start <= first and part.stop >= last
        assert part.start == 0 or part.stop == 128 or first - part.start >= MARGIN - 8
    assert window(mask, WINDOW)[0].stop - window(mask, WINDOW)[0].start == WINDOW


def test_a_region_outside_of_the_scan_is_refused():
    model, scan = tiny(), scan_of(BEAM)
    with pytest.raises(AllpetError, match="reaches to"):
        model.apply("low-dose", scan, roi=[marked(BEAM, planes=3).__class__.from_mask("far", np.ones((3, 32, 32)))])


def test_a_model_without_a_second_look_says_so():
    model, scan = tiny(), scan_of(BEAM)
    model.focus = None
    with pytest.raises(AllpetError, match="--recipe attention"):
        model.apply("low-dose", scan, roi=[marked(BEAM)])


def test_a_suggestion_is_told_from_what_a_person_drew():
    model, scan = tiny(), scan_of(BEAM)
    options = dict(samples=0, images=True)
    drawn, suggested = (
        model.apply("low-dose", scan, roi=[replace(marked(BEAM), score=score)], **options).regions[0].after.mean
        for score in (0.0, 0.4)
    )
    assert drawn != suggested
