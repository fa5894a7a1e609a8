"""Calibration writes factors for every task, and what is usual, into a model folder."""

import pytest
import torch

from allpet.model import AllPET
from allpet.task import TASKS
from allpet.train import calibrate as calibration
from allpet.train.calibrate import KNOTS, LEAST, Off, drawn_together
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
    off = Off("image", level, planes, planes) + Off("image", level[:0], [], [])
    assert off.factors() == {"image": pytest.approx(8.0 / NORMAL), "sinogram": pytest.approx(8.0 / NORMAL)}
    many = Off("mumap", level.repeat(10), planes * 10, [torch.zeros(0)] * 40).by_level(KNOTS)
    assert len(many) == 40 // LEAST < KNOTS
    found = drawn_together({"all": many})["all"]
    assert found["log_level"] == sorted(found["log_level"])
    assert found["mumap"] == sorted(found["mumap"]) and found["mumap"][-1] == pytest.approx(8.0 / NORMAL)
    assert found["sinogram"] == [1.0] * len(many)  # nothing was looked at


@pytest.mark.parametrize("count", [24, 6])
def test_factors_that_differ_by_chance_are_drawn_together_and_others_are_not(count):
    rng = torch.Generator().manual_seed(0)

    def people(scale: float, apart: float) -> list[Off]:
        """Who differ from each other by `apart`."""
        own = scale * torch.exp(apart * torch.randn(count, generator=rng))
        errors = [one * torch.randn(400, generator=rng) for one in own]
        return [Off("image", torch.zeros(count), errors, errors)]

    def spread(found: dict) -> float:
        return float(torch.tensor([one["image"][0] for one in found.values()]).log().std())

    alike = {str(k): people(1.0, 0.8) for k in range(12)}
    plain = float(torch.tensor([one[0].factors()["image"] for one in alike.values()]).log().std())
    assert spread(drawn_together(alike)) < 0.5 * plain
    unlike = {str(k): people(1.3**k, 0.1) for k in range(12)}
    for words, one in drawn_together(unlike).items():
        assert one["image"][0] == pytest.approx(unlike[words][0].factors()["image"], rel=0.03)


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
