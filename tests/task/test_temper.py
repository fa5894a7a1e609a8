"""Factors on standard deviations: by what is said of a scan and its counts, else the one for all."""

import pytest
import torch

from allpet.model import AllPET
from allpet.model.translator import ask
from allpet.task.temper import temper, usual, words_of

FACTORS = {"log_level": [0.0, 2.0], "image": [1.0, 4.0], "sinogram": [3.0, 3.0]}


@pytest.fixture
def model() -> AllPET:
    own = {"image": 1.5, "sinogram": 2.5, "by_words": {"FDG chest": FACTORS}}
    return AllPET({"calibration": {"low-dose": own}})


def asked(tracer="FDG", region="chest", log_level=(0.0,), task="low-dose", to=None, frames=False):
    level = torch.tensor(log_level).exp()
    return ask(len(level), task, tracer, region, level, 4.0, to, has_frames=frames)


def test_between_two_levels_it_is_interpolated_and_beyond_them_kept(model):
    factor = temper(model, "image", asked(log_level=(-3.0, 0.0, 1.0, 2.0, 9.0)))
    assert factor.shape == (5, 1, 1)
    assert factor.flatten().tolist() == pytest.approx([1, 1, 2, 4, 4], rel=1e-5)
    assert float(temper(model, "sinogram", asked())) == 3.0


def test_scans_of_which_less_is_said_have_the_one_for_any(model):
    others = (asked(tracer=None), asked(region=None), asked(tracer="DOPA"))
    assert [float(temper(model, "image", question)) for question in others] == [1.5] * 3
    known = model.config["calibration"]["low-dose"]["by_words"]
    known["any"] = {"log_level": [0.0], "image": [7.0], "sinogram": [8.0]}
    assert [float(temper(model, "image", question)) for question in others] == pytest.approx([7.0] * 3)
    assert float(temper(model, "image", asked())) == 1.0
    assert float(temper(model, "image", asked(task="convert", to="PSMA"))) == 1.0  # nothing is known of this task
    assert float(temper(model, "mumap", asked())) == 1.0
    assert (usual(model, "low-dose", "sinogram"), usual(model, "low-dose", "region")) == (2.5, 1.0)


def test_what_is_said_in_words():
    assert words_of(asked()) == "FDG chest"
    assert words_of(asked(task="convert", to="PSMA")) == "FDG to PSMA chest"
    assert words_of(asked(task="separate", to="DOPA")) == "FDG + DOPA chest"
    assert words_of(asked(task="separate", to="DOPA", frames=True)) == "FDG + DOPA chest, frames"
    assert words_of(asked(tracer=None, region=None)) == "any any"


def test_every_factor_of_the_shipped_weights_can_be_found():
    shipped = AllPET.from_pretrained()
    for task, known in shipped.config["calibration"].items():
        image = "mumap" if task == "attenuation" else "image"
        assert len(known["by_words"]) == {"convert": 30, "separate": 30, "low-dose": 16}.get(task, 15)
        for words, knots in known["by_words"].items():
            if words == "any":
                continue
            said, _, frames = words.partition(", ")
            first, _, region = said.rpartition(" ")
            tracer, to = first.replace(" + ", " to ").split(" to ") if " " in first else (first, None)
            question = asked(tracer, region, knots["log_level"], task, to, bool(frames))
            assert temper(shipped, image, question).flatten().tolist() == pytest.approx(knots[image], rel=1e-4)
