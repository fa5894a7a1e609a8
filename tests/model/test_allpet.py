"""The model as a person uses it: loading, generating, parts."""

import json

import pytest
import torch

from allpet.diffusion import SAMPLERS
from allpet.errors import AllpetError
from allpet.geometry import ImageGrid
from allpet.mask import project_mask
from allpet.metrics import mirror_seam, moment_residual
from allpet.model import AllPET, Prompt
from allpet.model.generate import Drawing
from allpet.project import Projector
from model_support import tiny


def test_saved_and_loaded_model_is_the_same(tmp_path):
    model = tiny()
    model.save_pretrained(tmp_path / "m")
    again = AllPET.from_pretrained(tmp_path / "m")
    assert again.hash == model.hash != tiny(1).hash
    again.save_pretrained(tmp_path / "n")
    for name in ("first_stage", "denoiser", "restorer"):
        file = f"{name}.safetensors"
        assert (tmp_path / "m" / file).read_bytes() == (tmp_path / "n" / file).read_bytes()
    strip = tiny(surface="strip")
    strip.save_pretrained(tmp_path / "s")
    assert torch.equal(AllPET.from_pretrained(tmp_path / "s").denoiser.sign, strip.first_stage.basis.sign)


def test_a_sample_depends_on_seed_and_number_alone():
    model = tiny()
    many = model.generate("18F-FDG brain", n=11, steps=3, seed=5).sinogram
    for n in (1, 2, 9):
        assert torch.equal(model.generate("18F-FDG brain", n=n, steps=3, seed=5).sinogram, many[:n])
    assert not torch.allclose(many[0], many[1])
    assert not torch.allclose(model.generate("18F-FDG brain", n=1, steps=3, seed=6).sinogram, many[:1])


@pytest.mark.parametrize("threads", [1, 3])
def test_groups_are_drawn_side_by_side_and_kept_in_order(threads, monkeypatch):
    before, seen, told = torch.get_num_threads(), [], []
    model, known = tiny(), Drawing.state

    def state(self, start, *options):
        seen.append((start, torch.get_num_threads()))
        return known(self, start, *options)

    monkeypatch.setattr(Drawing, "state", state)
    try:
        torch.set_num_threads(threads)
        many = model.generate("FDG brain", n=19, steps=2, seed=5, progress=lambda *done: told.append(done)).sinogram
        parts = model.generate_parts("FDG brain", n=19, steps=2, seed=5)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert sorted(seen) == [(0, 1), (0, 1), (8, 1), (8, 1), (16, 1), (16, 1)]  # each on one thread
    assert told == [(8, 19), (16, 19), (19, 19)] and len(many) == len(parts.positive) == len(parts.mask) == 19
    later = model.generate("FDG brain", n=3, steps=2, seed=5, first=16).sinogram
    assert torch.equal(many[16:], later)


def test_an_error_in_a_group_is_raised_and_threads_are_put_back(monkeypatch):
    before = torch.get_num_threads()
    monkeypatch.setattr(Drawing, "state", lambda self, start, *options: 1 / start)
    with pytest.raises(ZeroDivisionError):
        tiny().generate("FDG brain", n=9)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(("views", "bins"), [(48, 40), (32, 512), (200, 32)])
def test_any_size_keeps_the_field_of_view_the_activity_and_consistency(views, bins):
    model = tiny()
    own = model.generate("FDG brain", n=1, steps=3)
    other = model.generate("FDG brain", n=1, steps=3, views=views, bins=bins)
    assert other.geometry.shape == (views, bins) and other.geometry.fov_mm == pytest.approx(256)
    assert other.unit == "kBq/mL*mm"
    assert float(other.sinogram.mean()) == pytest.approx(float(own.sinogram.mean()), rel=0.03)
    assert float(moment_residual(other.sinogram, other.geometry).max()) < 2e-3
    assert float(mirror_seam(other.sinogram).max()) < 3


def test_another_pitch_shows_the_same_object():
    model = tiny()
    own = model.generate("FDG brain", n=1, steps=3)
    wide = model.generate("FDG brain", n=1, steps=3, bin_mm=16.0)
    assert wide.geometry.bin_mm == 16.0
    total = [float(s.sinogram[0].sum(dim=-1).mean()) * s.geometry.bin_mm for s in (own, wide)]
    assert total[0] == pytest.approx(total[1], rel=0.03)


@pytest.mark.parametrize("sampler", list(SAMPLERS))
def test_samplers(sampler):
    model = tiny()
    s = model.generate("FDG brain", n=1, sampler=sampler, steps=4).sinogram
    assert bool(torch.isfinite(s).all()) and bool((s >= 0).all())
    assert model.evaluations(sampler, 4) in (3, 4, 7)
    assert model.evaluations() <= 10


def test_guidance_and_unsaid_words():
    model = tiny()
    as_learned = model.generate("FDG brain", steps=3).sinogram
    assert torch.equal(model.generate("FDG brain", steps=3, guidance=1.0).sinogram, as_learned)
    assert not torch.allclose(model.generate("FDG brain", steps=3, guidance=3.0).sinogram, as_learned)
    scan = model.generate(Prompt(region="brain"), steps=3)
    assert scan.tracer is None and scan.region == "brain" and not torch.allclose(scan.sinogram, as_learned)
    assert model.generate(Prompt(), steps=3).geometry.fov_mm == 256


def test_attention_is_told_to_the_network():
    model, roi = tiny(), torch.zeros(20, 20)
    roi[5:9, 4:9] = 2
    plain = model.generate("FDG brain", n=2, steps=3).sinogram
    drawn = model.generate("FDG brain", n=2, steps=3, attention=roi).sinogram
    assert not torch.allclose(plain, drawn)
    assert torch.equal(drawn, model.generate("FDG brain", n=2, steps=3, attention=torch.stack([roi, roi])).sinogram)


@pytest.mark.parametrize("given", [True, False])
def test_parts_sum_to_the_whole_to_the_bit(given):
    masks = torch.zeros(2, 16, 16)
    masks[0, 4:8, 5:9], masks[1, 8:12, 2:6] = 1, 0.5
    parts = tiny().generate_parts("FDG brain", 2, mask=masks if given else None, steps=3, views=40)
    assert parts.whole.sinogram.dtype == torch.float32 and parts.positive.shape == (2, 40, 32)
    assert torch.equal(parts.positive + parts.negative, parts.whole.sinogram)
    assert float(parts.positive.min()) >= 0 and float(parts.negative.min()) >= 0
    if given:
        projected = project_mask(masks, Projector(parts.whole.geometry, ImageGrid(16, 16.0)))
        assert torch.equal(parts.mask, projected)
    assert 0 <= float(parts.mask.min()) < float(parts.mask.amax()) <= 1


def test_bad_models_and_options(tmp_path):
    model = tiny()
    for options, message in (
        (dict(n=0), "n is 0"),
        (dict(sampler="magic"), "sampler 'magic' is unknown; known: sde, dpm, euler"),
        (dict(steps=0), "steps is 0"),
        (dict(views=16), "views is 16; it must be 32 to 512"),
        (dict(bins=1024), "bins is 1024; it must be 32 to 512"),
        (dict(bin_mm=-1.0), "bin_mm is -1"),
        (dict(guidance=-1.0), "guidance is -1"),
        (dict(attention=torch.ones(3, 4)), "attention has shape"),
        (dict(attention=-torch.ones(4, 4)), "attention has values below 0"),
    ):
        with pytest.raises(AllpetError, match=message):
            model.generate("FDG brain", **options)
    with pytest.raises(AllpetError, match="'chest' is unknown; known tracers: FDG, PSMA; known regions: brain"):
        model.generate("FDG chest")
    with pytest.raises(AllpetError, match="not trained on; known: FDG brain"):
        model.generate(Prompt("PSMA", "brain"))
    with pytest.raises(AllpetError, match="holds no model"):
        AllPET.from_pretrained(tmp_path)
    model.save_pretrained(tmp_path)
    (tmp_path / "denoiser.safetensors").write_bytes(b"tampered")
    with pytest.raises(AllpetError, match="is not a model of this version"):
        AllPET.from_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["parts"]["denoiser"], config["sha256"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(AllpetError, match="has no denoiser yet; train it with --recipe base"):
        AllPET.from_pretrained(tmp_path).generate("FDG brain")


def test_a_damaged_size_asks_for_no_memory(tmp_path):
    tiny().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["sha256"]
    for wrong in (2**31, 0, float("nan")):
        config["parts"]["restorer"]["n_cond"] = wrong
        (tmp_path / "config.json").write_text(json.dumps(config))
        with pytest.raises(AllpetError, match=r"n_cond of restorer is .*; it must be 1 to 1024"):
            AllPET.from_pretrained(tmp_path)


@pytest.mark.parametrize("parts", [[], {"focus": [1]}, {"focus": None}, 3])
def test_a_config_of_another_kind_is_one_line(parts, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"parts": parts}))
    with pytest.raises(AllpetError, match="is not a model of this version"):
        AllPET.from_pretrained(tmp_path)


def test_a_size_of_nothing_is_not_the_default():
    for options in (dict(views=0), dict(bins=0), dict(bin_mm=0.0)):
        with pytest.raises(AllpetError):
            tiny().generate("FDG brain", n=1, **options)


@pytest.mark.parametrize("pitch", [1e9, 17.0, 0.05, float("nan"), float("inf")])
def test_a_pitch_that_would_lose_the_region_is_one_line(pitch):
    with pytest.raises(AllpetError, match=r"bin_mm is .*; for a field of view of 256 mm it must be 0.1 to 16"):
        tiny().generate("FDG brain", n=1, bin_mm=pitch)


def test_the_hash_speaks_of_all_that_results_depend_on():
    model = tiny()
    before, weights = model.hash, model.weights_hash
    model.config["trained"] = {"seconds": 1}
    assert model.hash == before
    model.config["emphasis"] = {"brain": 1.5}
    assert model.hash != before and model.weights_hash == weights != before
    assert tiny(seed=1).weights_hash != weights


def test_a_model_with_adapters_is_not_written_as_a_whole(tmp_path):
    model = tiny()
    model.adapted["convert"] = model.translator
    with pytest.raises(AllpetError, match="with adapters is not written as a whole"):
        model.save_pretrained(tmp_path)
    assert not list(tmp_path.iterdir())
