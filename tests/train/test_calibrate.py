"""Calibration writes factors for every task, and what is usual, into a model folder."""

from allpet.model import AllPET
from allpet.task import TASKS
from allpet.train import calibrate as calibration
from model_support import tiny


def test_a_calibrated_model_knows_its_errors_and_what_is_usual(tmp_path):
    model = tiny()
    model.config["regions"], model.config["tracers"] = ["brain"], ["FDG", "DOPA"]
    model.config["temperature"] = 3.0
    model.familiar = calibration.familiar(model, people=4, components=6)
    model.config["calibration"] = calibration.deviations(model, people=1)
    model.save_pretrained(tmp_path)
    again = AllPET.from_pretrained(tmp_path)
    assert set(again.config["calibration"]) == set(TASKS)
    for task, factors in again.config["calibration"].items():
        assert set(factors) == {"mumap" if task == "attenuation" else "image", "sinogram"}
        assert all(0 < value < 1e4 for value in factors.values())
    data = calibration._people(again, 2, "low-dose", "FDG", "chest", "test", 5)
    result = again.apply("low-dose", data.scan(), images=True, samples=2)
    assert result.strangeness is not None and result.strangeness.shape == (2,)
    image, std = result.extras["-image"], result.extras["-image-std"]
    assert image.unit == "kBq/mL" and std.array.shape == (2, 32, 32) and float(std.array.min()) > 0
    true = data.image.sum() / image.array.numpy().sum()
    assert 0.5 < float(true) < 2  # quantitative, whatever the weights
