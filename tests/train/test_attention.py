"""Regions to learn from are what they are said to be, and the recipe learns from them."""

import math

import numpy as np
import pytest
import torch

from allpet.errors import AllpetError
from allpet.geometry import ImageGrid
from allpet.mask import Region
from allpet.model import AllPET
from allpet.model.focus import Focus
from allpet.scan.phantom import LABEL
from allpet.scan.simulate import simulate_store
from allpet.train import train
from allpet.train.attention import Attention, attention_loss, turned
from allpet.train.marked import COOL, HOT, Marked, drawn_from, foci
from allpet.train.tasks import hot_and_cold
from model_support import tiny

GRID = ImageGrid(64, 4.0)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("marked") / "low.zarr"
    options = dict(region="brain", task="low-dose", views=32, bins=32, slices_per_subject=1, workers=1)
    simulate_store(path, 6, **options)
    return path


@pytest.fixture(scope="module")
def regions(store):
    return Marked.load([store], tiny(idle=True), rounds=3)


def test_foci_change_what_the_outline_covers():
    labels = np.zeros(GRID.shape, np.uint8)
    labels[10:54, 10:54] = LABEL["muscle"]
    image = np.where(labels > 0, 5.0, 0.0).astype(np.float32)
    kinds = []
    for seed in range(300):
        changed, outlines = foci(np.random.default_rng(seed), image, labels, GRID)
        assert not changed[labels == 0].any()
        if len(outlines) != 1:
            continue
        outline, said, there = outlines[0]
        inside = changed[outline.numpy() > 0.5]
        ratio = float(np.median(inside)) / 5 if len(inside) else 1.0
        kinds.append((said, there, ratio))
        assert there == (float(np.abs(changed - image).max()) > 0)
    for said, low, high in (("hot", 1.0, HOT[1]), ("cold", COOL[0] - 0.01, 1.0)):
        ratios = [ratio for word, there, ratio in kinds if there and word == said]
        assert len(ratios) > 5 and np.mean([low <= r <= high for r in ratios]) > 0.9
    assert 0.05 < np.mean([not there for _, there, _ in kinds]) < 0.3
    assert 0.2 < np.mean([said == "roi" for said, _, _ in kinds]) < 0.5


def test_a_lesion_that_is_there_is_marked_and_told_right():
    labels = np.full(GRID.shape, LABEL["muscle"], np.uint8)
    labels[30:36, 30:36] = LABEL["lesion"]
    image = np.where(labels == LABEL["lesion"], 1.0, 5.0).astype(np.float32)
    told = []
    for seed in range(200):
        _, outlines = foci(np.random.default_rng(seed), image, labels, GRID)
        told += [said for outline, said, there in outlines if there and float(outline[30:36, 30:36].mean()) > 0.8]
    assert told.count("cold") > 20 and told.count("cold") > 5 * told.count("hot")


def test_suggestions_are_marked_and_told_whether_something_is_there():
    there = np.zeros(GRID.shape, bool)
    there[10:20, 10:20] = True
    masks = [np.roll(there, shift, axis=1).astype(np.float32) for shift in (0, 30)]
    guesses = [Region.from_mask("s", m, kind="hot", score=p) for m, p in zip(masks, (0.9, 0.1), strict=True)]
    found = [one for seed in range(40) for one in drawn_from(np.random.default_rng(seed), guesses, there)]
    assert len(found) == 80 and sum(focus for _, _, focus in found) == 40
    assert all(bool(outline[12, 12]) == focus for outline, _, focus in found)
    assert 0.5 < np.mean([said == "hot" for _, said, _ in found]) < 0.85
    assert drawn_from(np.random.default_rng(0), [], there) == []


def test_regions_do_not_depend_on_what_else_is_marked(store, regions):
    again = Marked.load([store], tiny(idle=True), rounds=1)
    assert len(regions) > len(again) > 3
    assert torch.equal(again.sight.stack, regions.sight.stack[: len(again)])
    assert again.fingerprint() != regions.fingerprint()


def test_targets_are_in_the_unit_of_the_estimate(regions):
    """Where many counts are seen, the restored image and the truth agree in the mean."""
    many = regions.sight.told[:, 0] > 1.0
    assert int(many.sum()) >= 3
    present, target = regions.sight.stack[many, 2].float(), regions.target[many].float()
    ratio = present.sum(dim=(1, 2)) / target.sum(dim=(1, 2)).clamp_min(1e-3)
    assert float(ratio.median()) == pytest.approx(1.0, abs=0.15)


def test_an_idle_network_leaves_the_estimate(regions):
    image, spread = Focus((8, 16), 8)(turned_floats(regions[slice(0, 4)]).sight)
    assert torch.allclose(image, regions.sight.stack[:4, 0].float().clamp_min(0)) and bool((spread > 0).all())


def turned_floats(regions: Marked) -> Marked:
    from allpet.train.attention import as_float

    return as_float(regions)


def test_turning_moves_input_and_truth_alike(regions):
    part = turned_floats(regions[slice(0, 3)])
    moved = turned(part, torch.Generator().manual_seed(4))
    assert not torch.equal(moved.target, part.target)
    for k in range(3):
        assert moved.target[k].float().sum() == pytest.approx(float(part.target[k].float().sum()), rel=1e-3)
    gap = (part.sight.stack[:, 0] - part.target).square().sum()
    assert float((moved.sight.stack[:, 0] - moved.target).square().sum()) == pytest.approx(float(gap), rel=1e-4)


def test_training_lowers_the_loss_and_writes_a_model_that_attends(store, regions, tmp_path):
    tiny(idle=True).save_pretrained(tmp_path / "run")
    job = Attention(regions, tmp_path / "run", 0, Focus((8, 16), 8))
    with torch.no_grad():
        before = float(attention_loss(job.network, turned_floats(regions)))
    optimizer = job.optimizer(job.network)
    for step in range(60):
        loss = job.loss(job.network, torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        assert float(attention_loss(job.network.eval(), turned_floats(regions))) < before - 0.05
    train(regions, tmp_path / "run", "attention", max_steps=2, tensorboard=False)
    model = AllPET.from_pretrained(tmp_path / "run")
    assert model.focus is not None and model.config["trained"]["attention"]["data"]["regions"] == len(regions)


def test_a_store_without_labels_is_refused(tmp_path):
    simulate_store(tmp_path / "ideal.zarr", 1, region="brain", views=32, bins=32, workers=1)
    with pytest.raises(AllpetError, match="has no array"):
        Marked.load([tmp_path / "ideal.zarr"], tiny())


def test_hot_and_cold_regions_of_a_truth_are_found():
    x, y = np.meshgrid(np.arange(64) - 31.5, np.arange(64) - 31.5)
    image = np.where(np.hypot(x, y) < 28, 1.0, 0.0)
    hot, cold = np.hypot(x - 10, y) < 4, np.hypot(x + 10, y) < 4
    image[hot], image[cold] = 5.0, 0.05
    found = hot_and_cold(torch.from_numpy(image).float()[None])[0].numpy() > 0
    assert found[hot].mean() > 0.9 and found[cold].mean() > 0.7
    plain = (np.hypot(x, y) < 24) & (np.hypot(x - 10, y) > 8) & (np.hypot(x + 10, y) > 8)
    assert found[plain].mean() < 0.02 and not found[np.hypot(x, y) > 35].any()
    assert math.isfinite(float(hot_and_cold(torch.zeros(1, 16, 16)).sum()))
