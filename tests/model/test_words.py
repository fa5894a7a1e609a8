"""Weights go on working when words are added to the vocabulary behind those that they know."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from allpet.model import AllPET
from allpet.model.words import Words, known
from model_support import tiny


def test_a_word_without_a_row_counts_as_not_said():
    assert known(torch.tensor([0, 3, 4, 9]), 4).tolist() == [0, 3, 0, 0]
    torch.manual_seed(0)
    saved, now = Words(4, 3), Words(6, 3)
    now.load_state_dict(saved.state_dict())
    assert now.weight.shape == (4, 3)
    assert torch.equal(now(torch.tensor([2, 4, 5])), saved(torch.tensor([2, 0, 0])))


def test_a_table_of_more_words_than_there_are_is_refused():
    with pytest.raises(RuntimeError, match="size mismatch"):
        Words(4, 3).load_state_dict(Words(6, 3).state_dict())
    with pytest.raises(RuntimeError, match="size mismatch"):
        Words(6, 2).load_state_dict(Words(4, 3).state_dict())


def test_a_model_is_the_same_after_a_tracer_and_a_task_were_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    tiny().save_pretrained(tmp_path)
    before = AllPET.from_pretrained(tmp_path)
    for module in ("denoiser", "translator", "familiar"):
        monkeypatch.setattr(f"allpet.model.{module}.TRACERS", ("FDG", "DOPA", "PSMA", "FET"))
    tasks = ("generate", "low-dose", "attenuation", "delayed", "convert", "separate", "mine")
    monkeypatch.setattr("allpet.model.denoiser.TASKS", tasks)
    after = AllPET.from_pretrained(tmp_path)
    assert after.hash == before.hash
    one, two = (model.generate("FDG brain", 1, seed=3).sinogram for model in (before, after))
    assert torch.equal(one, two)
