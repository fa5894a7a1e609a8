"""The model as a person uses it: loading, generating, parts."""

import json

import pytest
import torch

from allpet.errors import AllpetError
from allpet.metrics import moment_residual
from allpet.model import AllPET
from model_support import tiny


def test_saved_and_loaded_model_is_the_same(tmp_path):
    model = tiny()
    model.save_pretrained(tmp_path / "m")
    again = AllPET.from_pretrained(tmp_path / "m")
    assert again.hash == model.hash != tiny(1).hash
    again.save_pretrained(tmp_path / "n")
    for name in ("basis", "denoiser", "restorer"):
        file = f"{name}.safetensors"
        assert (tmp_path / "m" / file).read_bytes() == (tmp_path / "n" / file).read_bytes()


def test_a_sample_depends_on_seed_and_number_alone():
    model = tiny()
    many = model.generate("18F-FDG brain", n=4, steps=3, seed=5).sinogram
    assert torch.equal(model.generate("18F-FDG brain", n=2, steps=3, seed=5).sinogram, many[:2])
    assert not torch.allclose(many[0], many[1])
    assert not torch.allclose(model.generate("18F-FDG brain", n=1, steps=3, seed=6).sinogram, many[:1])


def test_any_size_keeps_the_field_of_view_and_the_activity():
    model = tiny()
    own = model.generate("FDG brain", n=1, steps=3)
    other = model.generate("FDG brain", n=1, steps=3, views=48, bins=40)
    assert own.unit == "kBq/mL*mm" and other.geometry.fov_mm == pytest.approx(256) == own.geometry.fov_mm
    assert float(other.sinogram.mean()) == pytest.approx(float(own.sinogram.mean()), rel=0.01)
    assert model.generate("FDG brain", n=1, steps=3, bin_mm=4.0).geometry.bin_mm == 4.0
    assert float(moment_residual(own.sinogram, own.geometry).max()) < 2e-3


@pytest.mark.parametrize("sampler", ["dpm", "euler"])
def test_samplers(sampler):
    s = tiny().generate("FDG brain", n=1, sampler=sampler, steps=4).sinogram
    assert bool(torch.isfinite(s).all()) and bool((s >= 0).all())


def test_parts_sum_to_the_whole_to_the_bit():
    masks = torch.zeros(2, 16, 16)
    masks[0, 4:8, 5:9], masks[1, 8:12, 2:6] = 1, 0.5
    parts = tiny().generate_parts("FDG brain", masks, steps=3)
    assert torch.equal(parts.positive + parts.negative, parts.whole.sinogram)
    assert float(parts.positive.min()) >= 0 and float(parts.negative.min()) >= 0
    assert float(parts.mask.amax()) == 1


def test_bad_models_and_options(tmp_path):
    model = tiny()
    for options, message in (
        (dict(n=0), "n is 0"),
        (dict(sampler="magic"), "sampler 'magic' is unknown; known: dpm, euler"),
        (dict(steps=0), "steps is 0"),
    ):
        with pytest.raises(AllpetError, match=message):
            model.generate("FDG brain", **options)
    with pytest.raises(AllpetError, match="'chest' is unknown; known tracers: FDG; known regions: brain"):
        model.generate("FDG chest")
    with pytest.raises(AllpetError, match="holds no model"):
        AllPET.from_pretrained(tmp_path)
    model.save_pretrained(tmp_path)
    (tmp_path / "denoiser.safetensors").write_bytes(b"tampered")
    with pytest.raises(AllpetError, match="is not a model of this version"):
        AllPET.from_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["parts"]["denoiser"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(AllpetError, match="has no denoiser yet; train it with --recipe base"):
        AllPET.from_pretrained(tmp_path).generate("FDG brain")
