"""Calibration writes factors for every task, and what is usual, into a model folder."""

import pytest
import torch

from allpet.model import AllPET
from allpet.task import TASKS
from allpet.train import calibrate as calibration
from allpet.train.calibrate import KNOTS, LEAST, Off
from allpet.uncertainty import NORMAL
from model_support import tiny

SAID = {
    "low-dose": {"FDG brain", "DOPA brain"},
    "attenuation": {"FDG brain", "DOPA brain"},
    "delayed": {"FDG brain", "DOPA brain"},
    "convert": {"FDG to DOPA brain", "DOPA to FDG brain"},
    "separate": {"FDG + DOPA brain", "FDG + DOPA brain, frames"},
}


def test_factors_are_those_of_the_planes_at_each_level():
    level = torch.tensor([3.0, 1.0, 2.0, 0.0])
    planes = [torch.full((10,), value) for value in (8.0, 2.0, 4.0, -1.0)]  # errors go with the level
    off = Off(level, planes, planes) + Off(level[:0], [], [])
    assert off.factors("image") == {"image": pytest.approx(8.0 / NORMAL), "sinogram": pytest.approx(8.0 / NORMAL)}
    many = Off(level.repeat(10), planes * 10, [torch.zeros(0)] * 40).by_level("mumap", KNOTS)
    assert many["log_level"] == sorted(many["log_level"]) and len(many["log_level"]) == 40 // LEAST < KNOTS
    assert many["mumap"] == sorted(many["mumap"]) and many["mumap"][-1] == pytest.approx(8.0 / NORMAL)
    assert many["sinogram"] == [1.0] * (40 // LEAST)  # nothing was looked at


def test_a_calibrated_model_knows_its_errors_and_what_is_usual(tmp_path):
    model = tiny()
    model.config["regions"], model.config["tracers"] = ["brain"], ["FDG", "DOPA"]
    model.familiar = calibration.familiar(model, people=4, components=6)
    model.config["calibration"] = calibration.deviations(model, people=1)
    model.save_pretrained(tmp_path)
    again = AllPET.from_pretrained(tmp_path)
    assert set(again.config["calibration"]) == set(TASKS)
    for task, factors in again.config["calibration"].items():
        by_words, image = factors.pop("by_words"), "mumap" if task == "attenuation" else "image"
        assert set(factors) == {image, "sinogram"} and all(0 < value < 1e4 for value in factors.values())
        assert set(by_words) == SAID[task] | ({"any"} if task == "low-dose" else set())
        for knots in by_words.values():
            assert set(knots) == {"log_level", image, "sinogram"}
            assert all(0 < value < 1e4 for value in (*knots[image], *knots["sinogram"]))
    data = calibration._people(again, 2, "low-dose", "FDG", "chest", "test", 5)
    result = again.apply("low-dose", data.scan(), images=True, samples=2)
    assert result.strangeness is not None and result.strangeness.shape == (2,)
    image, std = result.extras["-image"], result.extras["-image-std"]
    assert image.unit == "kBq/mL" and std.array.shape == (2, 32, 32) and float(std.array.min()) > 0
    true = data.image.sum() / image.array.numpy().sum()
    assert 0.5 < float(true) < 2  # quantitative, whatever the weights
