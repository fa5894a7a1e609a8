"""Training: samples, both recipes end to end on tiny data, resuming, and the folder as a model."""

import json

import pytest
import torch

from allpet.errors import AllpetError
from allpet.io.store import write_store
from allpet.model import AllPET
from allpet.scan.simulate import simulate
from allpet.train import train
from allpet.train.recipes import Base
from allpet.train.samples import TrainingSet, count, draw_emission, vary


@pytest.fixture(scope="module", autouse=True)
def narrow():
    """The network of the recipe base with narrower levels: these tests are about what is around it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Base, "widths", (32, 48, 64))
        yield


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores")
    paths = []
    for region in ("brain", "chest"):
        paths.append(folder / f"{region}.zarr")
        write_store(simulate(4, region=region, views=32, bins=32, seed=1), paths[-1])
    return paths


@pytest.fixture(scope="module")
def trained(stores, tmp_path_factory):
    """Both recipes, a few steps each, in one folder."""
    out = tmp_path_factory.mktemp("run")
    train(stores, out, "low-dose", max_steps=3)
    return train(stores, out, "base", max_steps=3)


def test_samples_keep_scale_and_seed(stores):
    data = TrainingSet.load(stores)
    assert len(data) == 8 and len(set(data.subject.tolist())) == 2
    assert torch.allclose(data.sinogram.mean(dim=(-2, -1)), torch.ones(8), atol=1e-5)
    difference = (data.projector(data.image) - data.sinogram).norm() / data.sinogram.norm()
    assert float(difference) < 0.1  # the image is not blurred, the sinogram is

    def draw():
        rng = torch.Generator().manual_seed(4)
        return count(*draw_emission(data, 6, rng), rng), vary(data, 5, rng)

    (a, b), (c, d) = draw(), draw()
    assert torch.equal(a.counts, c.counts) and torch.equal(b[1], d[1])
    assert bool((a.efficiency >= 0).all()) and bool((a.efficiency <= 1).all())
    expected = a.efficiency * a.emission + a.background
    assert torch.allclose(a.counts.sum(dim=(-2, -1)), expected.sum(dim=(-2, -1)), rtol=0.2)


def test_run_folder_is_a_model(trained):
    model = AllPET.from_pretrained(trained)
    assert model.config["regions"] == ["brain", "chest"] and model.config["data"]["subjects"] == 2
    scan = model.generate("FDG brain", n=2, steps=2)
    assert scan.sinogram.shape == (2, 32, 32) and bool((scan.sinogram >= 0).all())
    lines = [json.loads(line) for line in (trained / "stats.jsonl").read_text().splitlines()]
    assert {line["recipe"] for line in lines} == {"low-dose", "base"} and lines[-1]["step"] == 3


@pytest.mark.parametrize("recipe", ["low-dose", "base"])
def test_stopping_and_resuming_changes_nothing(stores, tmp_path, monkeypatch, recipe):
    from allpet.train import loop

    torch.set_num_threads(1)
    monkeypatch.setattr(loop.Run, "rate", lambda self: 1e-3)  # the cosine depends on the limit, which differs here
    train(stores, tmp_path / "whole", recipe, max_steps=4)
    train(stores, tmp_path / "parts", recipe, max_steps=2)
    train(stores, tmp_path / "parts", recipe, max_steps=4)
    name = f"checkpoint-{recipe}.safetensors"
    assert (tmp_path / "whole" / name).read_bytes()[:8] == (tmp_path / "parts" / name).read_bytes()[:8]
    one, two = AllPET.from_pretrained(tmp_path / "whole"), AllPET.from_pretrained(tmp_path / "parts")
    assert one.hash == two.hash


def test_a_limit_already_reached_does_nothing(stores, trained):
    before = (trained / "restorer.safetensors").read_bytes()
    train(stores, trained, "low-dose", max_steps=3)
    assert (trained / "restorer.safetensors").read_bytes() == before


def test_bad_training_input(stores, trained, tmp_path):
    with pytest.raises(AllpetError, match="recipe 'nothing' is unknown; known: base, base-256, low-dose"):
        train(stores, tmp_path / "a", "nothing")
    with pytest.raises(AllpetError, match="another samples"):
        train(stores[:1], trained, "low-dose", max_steps=5)
    counts = tmp_path / "counts.zarr"
    write_store(simulate(2, region="brain", views=32, bins=32, task="low-dose"), counts)
    with pytest.raises(AllpetError, match="train on ideal projections"):
        train(counts, tmp_path / "b", "base", max_steps=1)
    (trained / "checkpoint-base.safetensors").write_bytes(b"not weights")
    with pytest.raises(AllpetError, match="cannot be resumed"):
        train(stores, trained, "base", max_steps=9)
