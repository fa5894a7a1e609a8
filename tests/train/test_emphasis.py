"""The factor on the generator's correction is fitted to its training sinograms and kept in the model folder."""

from __future__ import annotations

import torch

from allpet.model import AllPET
from allpet.train import emphasis
from allpet.train.samples import TrainingSet
from model_support import tiny


def test_the_region_with_the_smallest_mean_distance_wins():
    found = {"brain": [[3.0, 1.0, 2.0], [1.0, 1.5, 9.0]], "chest": [[2.0, 1.0, 0.5]]}
    assert emphasis.best(found, (1.0, 1.5, 2.0)) == {"brain": 1.5, "chest": 2.0}


def test_draws_follow_the_factor_and_the_folder_keeps_it(tmp_path, monkeypatch):
    model = tiny()
    plain = model.generate("FDG brain", 2, seed=3).sinogram
    model.config["emphasis"] = {"brain": 3.0, "chest": 9.0}
    strong = model.generate("FDG brain", 2, seed=3).sinogram
    assert not torch.equal(plain, strong)
    model.config["emphasis"] = {"chest": 9.0}
    assert torch.equal(model.generate("FDG brain", 2, seed=3).sinogram, plain)

    s = tiny().generate("FDG brain", 9, seed=50).sinogram
    none = torch.zeros(9, dtype=torch.long)
    data = TrainingSet(s, 0 * s, s, torch.ones(9), torch.full((9,), 8.0), none + 1, none + 1, torch.arange(9))
    kept = dict(model.config)
    found = emphasis.distances(model, data, (1.0, 3.0), n=8)
    assert model.config == kept and list(found) == ["brain"]  # PSMA has no sinograms, hence no row
    assert emphasis.distances(model, data[torch.arange(7)], (1.0,), n=8) == {}  # too few to have a say
    assert len(found["brain"]) == 1 and found["brain"][0][0] != found["brain"][0][1]

    model.config.pop("emphasis")
    model.save_pretrained(tmp_path)
    monkeypatch.setattr(TrainingSet, "load", classmethod(lambda cls, paths: data))
    told = emphasis.emphasise(tmp_path, [], n=8)
    again = AllPET.from_pretrained(tmp_path)
    assert again.config["emphasis"] == told and set(told) == {"brain"} and told["brain"] in emphasis.FACTORS
    assert again.hash != model.hash
    model.config["emphasis"] = told
    assert again.hash == model.hash  # no weight has changed
