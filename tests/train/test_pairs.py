"""Pairs of every task: targets that project to the truth, moves that keep physics, errors that name the file."""

from dataclasses import replace

import pytest
import torch

from allpet.errors import AllpetError
from allpet.io.store import write_store
from allpet.model.prompt import TASKS
from allpet.model.restorer import Restorer
from allpet.project import Projector
from allpet.scan.mumap import WATER
from allpet.scan.simulate import simulate
from allpet.train.pairs import PairSet, forgotten, moved

OPTIONS = {
    "low-dose": dict(dose_fraction=0.25),
    "attenuation": {},
    "delayed": dict(delay_minutes=90.0),
    "convert": dict(to="PSMA"),
    "separate": dict(tracer="FDG + PSMA"),
}


@pytest.fixture(scope="module")
def restorer() -> Restorer:
    torch.manual_seed(0)
    return Restorer(64, 64, (8, 16), (8, 16), 16).eval()


def simulated(task: str, n: int = 2):
    options = dict(region="abdomen", task=task, views=64, bins=64, slices_per_subject=1, seed=3)
    return simulate(n, **{**options, **OPTIONS[task]})


@pytest.mark.parametrize("task", TASKS[1:])
def test_targets_project_to_the_truth(task, restorer):
    data = simulated(task)
    pairs = PairSet.from_dataset(data, restorer)
    assert pairs.tasks == (task,) and len(pairs) == 2
    project = Projector(data.beam, data.grid)
    if task == "attenuation":
        depth = project(pairs.target[:, 0].float() * WATER)
        true = -torch.from_numpy(data["attenuation"]).log()
        assert float((depth - true).norm() / true.norm()) < 0.03
        assert not bool(pairs.views.mu.any())
        return
    factors = torch.from_numpy(data["attenuation"])
    names = ["sinogram", "second"] if task == "separate" else ["sinogram"]
    for k, name in enumerate(names):
        true = torch.from_numpy(data[name])
        if task == "low-dose":
            true = (true - torch.from_numpy(data["background"])) * 0.25
        made = restorer.projector(pairs.target[:, k].float()) * pairs.unit[:, None, None] * factors
        assert float((made - true).norm() / true.norm()) < 0.06
    told = dict(
        zip(("level", "level2", "log_pitch", "log_delay", "has_mu", "has_frames"), pairs.question.told[0], strict=True)
    )
    assert float(told["has_mu"]) == 1 and float(told["has_frames"]) == (task == "separate")
    if task == "delayed":
        assert float(pairs.question.decay[0]) == pytest.approx(2 ** (-90 / 109.8), rel=0.01)
        assert float(told["log_delay"]) == pytest.approx(0.405, abs=1e-3)
    if task == "separate":  # before the second injection the first tracer is alone
        assert bool(pairs.views.frames[:, 0].any())


def test_a_larger_body_is_as_active_and_as_dense(restorer):
    pairs = PairSet.from_dataset(simulated("attenuation"), restorer)
    rng = torch.Generator().manual_seed(1)
    same = moved(pairs, rng, angle=0, shift=0, scale=0)
    assert torch.allclose(same.stack, pairs.stack.float(), atol=2e-2)
    turned = moved(pairs, rng)
    assert float(turned.target.amax()) == pytest.approx(float(pairs.target.amax()), rel=0.2)
    both = moved(replace(pairs, target=pairs.stack[:, :2]), rng)
    assert torch.allclose(both.stack[:, 0], both.stack[:, 0])


def test_input_and_target_move_together(restorer):
    pairs = PairSet.from_dataset(simulated("low-dose"), restorer)
    pairs = replace(pairs, target=pairs.stack[:, :2])
    there = moved(pairs, torch.Generator().manual_seed(2))
    assert torch.allclose(there.stack[:, :2], there.target, atol=1e-3)
    assert float((there.stack[:, 0] - pairs.stack[:, 0].float()).abs().mean()) > 0.01


def test_forgetting_hides_what_is_not_told(restorer):
    pairs = PairSet.from_dataset(simulated("separate"), restorer)
    blank = forgotten(pairs, torch.Generator().manual_seed(0), word=1.0, frames=1.0)
    assert not bool(blank.question.tracer.any()) and not bool(blank.question.region.any())
    assert not bool(blank.views.frames.any()) and not bool(blank.views.mu.any())
    assert not bool(blank.question.told[:, 4:].any()) and bool(pairs.question.told[:, 4:].all())
    assert bool(blank.question.to.any())  # the second tracer is the question itself


def test_stores_join_and_wrong_ones_are_named(restorer, tmp_path):
    write_store(simulated("delayed"), tmp_path / "a.zarr")
    write_store(simulated("convert"), tmp_path / "b.zarr")
    both = PairSet.load([tmp_path / "a.zarr", tmp_path / "b.zarr"], restorer, count=1)
    assert both.tasks == ("delayed", "convert") and len(both.subject.unique()) == 1  # of one seed: the same person
    others = simulate(1, **{**dict(region="abdomen", task="delayed", views=64, bins=64, seed=4), **OPTIONS["delayed"]})
    write_store(others, tmp_path / "other.zarr")
    others.attributes.pop("seed")
    for name in ("e", "f"):
        write_store(others, tmp_path / f"{name}.zarr")
    several = PairSet.load([tmp_path / f"{name}.zarr" for name in ("a", "other", "e", "f")], restorer, count=1)
    assert len(several.subject.unique()) == 4
    write_store(simulate(1, region="abdomen", views=64, bins=64), tmp_path / "c.zarr")
    with pytest.raises(AllpetError, match=r"c\.zarr: holds pairs of no task"):
        PairSet.load([tmp_path / "c.zarr"], restorer)
    small = Restorer(32, 32, (8, 16), (8, 16), 16)
    with pytest.raises(AllpetError, match=r"a\.zarr: sinograms are \(64, 64\); this model takes \(32, 32\)"):
        PairSet.load([tmp_path / "a.zarr"], small)
    data = simulated("attenuation")
    del data.arrays["mumap"]
    write_store(data, tmp_path / "d.zarr")
    with pytest.raises(AllpetError, match=r"d\.zarr: has no array mumap"):
        PairSet.load([tmp_path / "d.zarr"], restorer)
