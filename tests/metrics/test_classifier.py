"""The prompt of a sinogram: told on people that were not trained on, and near chance on arrays without one."""

from __future__ import annotations

from functools import lru_cache

import pytest
import torch

from allpet.errors import AllpetError
from allpet.geometry import ParallelBeam
from allpet.metrics import PromptClassifier, prompt_features
from allpet.scan.simulate import simulate

PROMPTS = ("FDG brain", "PSMA brain", "FDG chest")
BEAM = ParallelBeam(48, 48, 1.0)


@lru_cache
def _people(split: str, n: int) -> tuple[torch.Tensor, list[str]]:
    features, labels = [], []
    for prompt in PROMPTS:
        tracer, region = prompt.split(" ")
        data = simulate(n, tracer=tracer, region=region, views=48, bins=48, seed=1, split=split, slices_per_subject=3)
        features.append(prompt_features(torch.from_numpy(data["sinogram"]), BEAM))
        labels += [prompt] * n
    return torch.cat(features), labels


@lru_cache
def _fitted() -> PromptClassifier:
    return PromptClassifier.fit(*_people("train", 24))


def test_features_are_sinogram_and_image_without_amplitude():
    s = torch.rand(3, 48, 48, generator=torch.Generator().manual_seed(0)) + 1
    assert prompt_features(s, BEAM).shape == (3, 32**2 + 64**2)
    assert torch.allclose(prompt_features(20 * s, BEAM), prompt_features(s, BEAM), rtol=1e-3, atol=1e-3)


def test_prompts_of_unseen_people_are_told():
    features, labels = _people("test", 12)
    table = _fitted().confusion(features, labels)
    assert _fitted().labels == tuple(sorted(PROMPTS)) and table.sum(dim=1).tolist() == [12] * 3
    assert _fitted().accuracy(features, labels) == float(table.diagonal().sum()) / 36 >= 0.85
    assert _fitted().predict(features[:2]) == [
        _fitted().labels[k] for k in _fitted().scores(features)[:2].argmax(dim=1)
    ]


def test_shuffled_labels_teach_nothing():
    features, labels = _people("train", 24)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(3)).tolist()
    shuffled = PromptClassifier.fit(features, [labels[k] for k in order])
    assert shuffled.accuracy(*_people("test", 12)) < 0.65


def test_the_same_seed_fits_the_same_and_batches_do_not_matter():
    features, _ = _people("test", 12)
    again = PromptClassifier.fit(*_people("train", 24))
    assert torch.equal(again.scores(features), _fitted().scores(features))
    alone = torch.cat([_fitted().scores(f[None]) for f in features[:4]])
    assert torch.allclose(alone, _fitted().scores(features)[:4], atol=1e-3)


def test_bad_input_says_what_is_wrong():
    features, labels = _people("train", 24)
    with pytest.raises(AllpetError, match="each sample needs one"):
        PromptClassifier.fit(features, labels[:-1])
    with pytest.raises(AllpetError, match="two or more different"):
        PromptClassifier.fit(features, ["a"] * len(features))
    with pytest.raises(AllpetError, match="prompt_features gives"):
        _fitted().predict(features[:, 1:])
    with pytest.raises(AllpetError, match="known are FDG brain"):
        _fitted().accuracy(features, ["DOPA brain"] * len(features))
    with pytest.raises(AllpetError, match="patches with structure"):
        PromptClassifier.fit(torch.ones(4, 5120), ["a", "b", "a", "b"])
