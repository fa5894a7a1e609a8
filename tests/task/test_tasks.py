"""All tasks on any grid: what is exact is exact, what is assumed is said, bad input is one line."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from allpet.errors import AllpetError
from allpet.geometry import ImageGrid, ParallelBeam, RingBeam
from allpet.model.prompt import TASKS as WORDS
from allpet.recon.whole import missing_factors, reconstruct
from allpet.scan import Image, Scan
from allpet.scan.corrected import corrected_for
from allpet.scan.dynamic import Dynamic
from allpet.scan.mumap import WATER
from allpet.task import TASKS
from allpet.task.attenuation import agreement
from allpet.task.grains import GRAINS, WIDTHS, draws, smooth_noise
from allpet.task.planes import begin
from model_support import tiny
from task.test_low_dose import GRIDS, disk

OPTIONS = {
    "low-dose": dict(dose_fraction=0.5),
    "attenuation": {},
    "delayed": dict(delay_minutes=60.0),
    "convert": dict(to="PSMA"),
    "separate": dict(prompt="FDG + PSMA brain"),
}


def scan_of(native, planes: int = 2) -> Scan:
    truth = disk(native).expand(planes, -1, -1) * 5
    live = torch.from_numpy(native.live()).float() if isinstance(native, RingBeam) else torch.ones(native.shape)
    counts = torch.poisson(truth * live + 0.2, generator=torch.Generator().manual_seed(0)) * live
    factors = torch.exp(-0.002 * disk(native)).expand(planes, -1, -1)
    known = dict(normalisation=live, background=0.2 * live, attenuation=factors)
    return replace(Scan(counts, native, **known), tracer="FDG", region="brain", counts_per_unit=2.0, start_s=3600.0)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("native", GRIDS)
def test_any_task_on_any_grid(task, native):
    model, scan = tiny(), scan_of(native)
    result = model.apply(task, scan, samples=3, **OPTIONS[task])
    assert result.expected.geometry == native and result.expected.sinogram.shape == scan.sinogram.shape
    assert result.std is not None
    for value in (result.expected, result.std):
        assert bool(torch.isfinite(value.sinogram).all()) and bool((value.sinogram >= 0).all())
    assert float(result.std.sinogram.sum()) > 0
    again = model.apply(task, scan, samples=3, **OPTIONS[task])
    assert torch.equal(result.expected.sinogram, again.expected.sinogram)
    assert torch.equal(result.std.sinogram, again.std.sinogram)
    assert model.apply(task, scan, samples=0, **OPTIONS[task]).std is None
    alone = model.apply(task, scan.planes(slice(0, 1)), samples=3, **OPTIONS[task])
    assert torch.allclose(alone.expected.sinogram[0], result.expected.sinogram[0], rtol=0.1, atol=0.5)


@pytest.mark.parametrize("native", GRIDS)
def test_separated_tracers_sum_to_the_restored_trues_to_the_bit(native):
    model, scan = tiny(idle=True), scan_of(native)
    result = model.apply("separate", scan, samples=0, **OPTIONS["separate"])
    second = result.extras["-second"]
    untold = replace(scan, dose_fraction=1.0, tracer=None, region=None)  # then nothing is added to what is restored
    whole = model.apply("low-dose", untold, samples=0).expected
    total = result.expected.sinogram + second.sinogram
    assert (result.expected.tracer, second.tracer, second.isotope) == ("FDG", "PSMA", "68Ga")
    assert torch.allclose(total, whole.sinogram - whole.background, atol=1e-3)
    assert bool((second.sinogram >= 0).all())


def test_attenuation_uses_the_map_that_is_given_exactly():
    beam = ParallelBeam(32, 32, 8.0)
    scan, model = scan_of(beam), tiny()
    grid = ImageGrid(32, 8.0)
    inside = np.hypot(grid.x[None, :] - 10, grid.y[:, None] + 20) < 60
    mu = torch.from_numpy(np.where(inside, WATER, 0.0)).float()[None]
    given = model.apply("attenuation", scan, ct=Image(mu, grid, "1/mm"), samples=0)
    assert torch.allclose(given.extras["-mumap"].array, mu.expand(2, -1, -1), atol=1e-5)
    assert any("Dice" in note for note in given.notes)
    free = model.apply("attenuation", scan, samples=0)
    assert any("predicted from the emission alone" in note for note in free.notes)
    assert any("own attenuation factors were not used" in note for note in free.notes)
    middle = given.expected.sinogram[:, :, 12:20].mean() / scan.sinogram[:, :, 12:20].mean()
    assert 1.5 < float(middle) < 3.5  # about exp(0.0096 * 120)
    assert corrected_for(given.expected) == {"attenuation", "background"} and missing_factors(given.expected) == []
    with pytest.raises(AllpetError, match="corrected for attenuation already"):
        model.apply("attenuation", given.expected, samples=0)


def test_agreement_of_mu_maps_is_in_words():
    mu = torch.zeros(1, 16, 16)
    mu[:, 4:12, 4:12] = WATER
    assert "+0.0 % in the mean and 0.0 % per pixel" in agreement(mu, mu) and "Dice 1.00" in agreement(mu, mu)
    assert "+10.0 %" in agreement(1.1 * mu, mu)
    assert "is empty" in agreement(mu, 0 * mu)


def test_delayed_decays_and_says_it_is_a_prediction():
    model, scan = tiny(), scan_of(ParallelBeam(32, 32, 8.0))
    result = model.apply("delayed", scan, samples=0)
    assert any("60 min, as is usual for FDG" in note for note in result.notes)
    assert any("prediction" in note for note in result.notes)
    assert result.expected.start_s == 7200.0 and scan.start_s == 3600.0
    retention = result.extras["-retention"]
    assert retention.unit == "%" and retention.array.shape == (2, 32, 32)


def test_the_retention_index_is_over_the_first_image_as_far_corrected_as_the_later_one():
    model, scan = tiny(), replace(scan_of(ParallelBeam(32, 32, 8.0)), region="abdomen")
    model.config["regions"], model.familiar = ["abdomen"], None

    def answers(views, question):
        low = (question.task == 1 + WORDS.index("low-dose"))[:, None, None]
        assert bool((question.task == question.task[0]).all())
        mean = torch.where(low, 1.5 * views.image, 3 * views.image * question.decay[:, None, None])
        return torch.stack([mean, 0 * mean], dim=1), torch.full((len(views), 2, 32, 32), 0.1)

    model.translator_of = lambda task: answers
    inside = slice(12, 20)

    def index(scan):
        found = model.apply("delayed", scan, delay_minutes=60.0, samples=0).extras["-retention"].array
        return found[:, inside, inside]

    assert torch.allclose(index(scan), torch.tensor(100.0), atol=1e-2)  # 3 / 1.5, decay taken off
    untold = index(replace(scan, region=None))  # there the first image is the restored one
    assert torch.allclose(untold, torch.tensor(200.0), atol=1e-2)


def test_converted_scans_are_the_other_tracer_s():
    model, scan = tiny(), scan_of(ParallelBeam(32, 32, 8.0))
    result = model.apply("convert", scan, to="68Ga-PSMA", samples=2)
    assert result.expected.tracer == result.std.tracer == "PSMA" and scan.tracer == "FDG"
    assert result.expected.counts_per_unit == pytest.approx(2.0 * 0.891 / 0.967, rel=0.01)  # 68Ga over 18F
    unknown = model.apply("convert", replace(scan, tracer=None), to="PSMA", samples=0)
    assert unknown.expected.counts_per_unit is None
    assert any("not a measurement" in note for note in result.notes)


def test_dynamic_frames_are_used_and_their_absence_said():
    model, scan = tiny(), scan_of(ParallelBeam(32, 32, 8.0))
    counts = scan.sinogram[:, None].expand(-1, 4, -1, -1)
    frames = Dynamic(counts, 0.2 * torch.ones_like(counts), (0.0, 600.0, 1200.0, 1800.0), (600.0,) * 4)
    with_frames = model.apply("separate", replace(scan, dynamic=frames), samples=0, **OPTIONS["separate"])
    without = model.apply("separate", scan, samples=0, **OPTIONS["separate"])
    assert any("no dynamic frames" in note for note in without.notes)
    assert not any("no dynamic frames" in note for note in with_frames.notes)
    assert not torch.equal(with_frames.expected.sinogram, without.expected.sinogram)
    assert with_frames.expected.dynamic is None


def test_errors_about_a_draw_have_the_deviation_that_is_stated():
    shape = torch.Size((2, 64, 64))
    assert set(GRAINS) == set(TASKS)
    for shares in GRAINS.values():
        assert len(shares) == len(WIDTHS)
        assert sum(shares) == pytest.approx(1)
    grains = GRAINS["separate"]
    noise = torch.stack([smooth_noise(grains, shape, 0, 0, i) for i in range(400)])
    everywhere = noise.square().mean(dim=(0, 1))
    assert float(everywhere.mean()) == pytest.approx(1, abs=0.1)
    for corner in (everywhere[:8, :8], everywhere[-8:, :8], everywhere[28:36, 28:36]):
        assert float(corner.mean()) == pytest.approx(1, abs=0.2)
    assert torch.equal(
        smooth_noise(grains, shape, 0, 0, 5)[1], smooth_noise(grains, torch.Size((1, 64, 64)), 0, 1, 5)[0]
    )
    mean, spread = torch.full(shape, 10.0), torch.full(shape, 0.5)
    drawn = torch.stack(list(draws("separate", mean, spread, 60, 1, 0)))
    assert float(drawn.std(dim=0).mean()) == pytest.approx(0.5, rel=0.1)


@pytest.mark.parametrize(
    ("task", "options", "message"),
    [
        ("delayed", dict(delay_minutes=3.0), "delay is 3 min; it must be 10 to 240"),
        ("delayed", dict(to="PSMA"), "task delayed does not take 'to'; it is for convert"),
        ("convert", {}, "convert needs the tracer that is wanted"),
        ("convert", dict(to="FDG"), "is what the scan has already"),
        ("convert", dict(to="water"), "tracer 'water' is unknown"),
        ("separate", {}, "separate needs two different tracers"),
        ("separate", dict(prompt="FDG + FDG brain"), "separate needs two different tracers"),
        ("separate", dict(prompt="FDG + tea brain"), "'tea' is unknown"),
        ("attenuation", dict(samples=1), "needs at least 2"),
        ("low-dose", dict(colour="red"), "does not take 'colour'; it takes dose_fraction"),
        ("magic", {}, "task 'magic' is unknown; known: low-dose, attenuation, delayed, convert, separate"),
    ],
)
def test_bad_options_are_one_clear_line(task, options, message):
    with pytest.raises(AllpetError, match=message.replace("(", r"\(")):
        tiny().apply(task, scan_of(ParallelBeam(32, 32, 8.0)), **options)


def test_an_unknown_tracer_is_asked_for():
    scan = replace(scan_of(ParallelBeam(32, 32, 8.0)), tracer=None, region=None)
    with pytest.raises(AllpetError, match="delayed needs the tracer"):
        tiny().apply("delayed", scan)
    notes = tiny().apply("convert", scan, to="PSMA", samples=0).notes
    assert any("tracer is unknown" in note for note in notes) and any("region is unknown" in note for note in notes)


def test_a_task_of_ones_own_needs_no_more_than_a_function(monkeypatch, tmp_path, capsys):
    """Entered in TASKS, the command finds it; what every command offers it need not take."""
    from allpet.cli import main
    from allpet.model.allpet import Result
    from allpet.scan.simulate import simulate
    from allpet.task import TASKS

    def halve(model, scan, share=0.5):
        return Result(scan.with_sinogram(scan.sinogram * share, background=None), None, ("halved",))

    monkeypatch.setitem(TASKS, "halve", halve)
    monkeypatch.chdir(tmp_path)
    scan = simulate(1, region="pelvis", task="low-dose", dose_fraction=1.0, views=32, bins=32).scan()
    from allpet import read, write

    write(scan, "a.hs")
    assert main("apply halve a.hs --out b.hs".split()) == 0
    assert "halved" in capsys.readouterr().err
    assert torch.equal(read("b.hs").sinogram, scan.sinogram / 2)
    assert main("apply halve a.hs --out c.hs --delay-minutes 60".split()) == 2
    assert "does not take 'delay-minutes'; it is for delayed" in capsys.readouterr().err


@pytest.mark.parametrize("task", TASKS)
def test_images_are_of_the_scan_that_comes_out(task):
    model, scan = tiny(idle=True), scan_of(ParallelBeam(32, 32, 8.0))
    result = model.apply(task, scan, samples=2, images=True, **OPTIONS[task])
    expected = result.expected
    for image in (result.extras["-image"], result.extras["-image-std"]):
        assert (image.tracer, image.isotope) == (expected.tracer, expected.isotope)
        assert (image.start_s, image.injected_mbq) == (expected.start_s, expected.injected_mbq)
        assert image.unit == "kBq/mL"
    assert (result.std.tracer, result.std.start_s) == (expected.tracer, expected.start_s)
    made = reconstruct(expected, "osem")
    assert float(result.extras["-image"].array.mean()) == pytest.approx(float(made.array.mean()), rel=0.05)


def test_randoms_that_are_known_are_the_background():
    scan = Scan(torch.full((1, 32, 32), 10.0), ParallelBeam(32, 32, 8.0), randoms=torch.full((1, 32, 32), 4.0))
    notes: list[str] = []
    ready, _ = begin("low-dose", tiny(), scan, None, notes)
    assert torch.equal(ready.background, scan.randoms) and not any("background" in note for note in notes)
