"""The anatomy study: what is body and what is table, counts as promised, and scores that tell right from wrong."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from allpet.errors import AllpetError
from allpet.geometry import ImageGrid
from allpet.scan.core import Image
from allpet.scan.phantom import LABELS
from allpet.study.anatomy import HEADS, estimates, markdown, scans, score, tissues
from allpet.task.rivals import truth
from model_support import tiny

SHAPE = (32, 32)


def volume(planes: int = 3) -> Image:
    """An ellipse of soft tissue with a rim of fat, two lungs, a spine and a gas bubble, on a table: HU."""
    grid = ImageGrid(96, 4.0)
    x, y = grid.x[None], grid.y[:, None]
    hu = np.full(grid.shape, -1000.0)
    hu[(np.abs(x) < 160) & (np.abs(y + 125) < 9)] = -100  # the table, close below
    hu[(x / 150) ** 2 + (y / 100) ** 2 < 1] = -100
    hu[(x / 135) ** 2 + (y / 85) ** 2 < 1] = 40
    hu[(np.hypot((np.abs(x) - 70) / 45, (y - 5) / 50) < 1)] = -800
    hu[np.hypot(x, y + 55) < 18] = 400
    hu[np.hypot(x, y - 50) < 20] = -1000
    return Image(torch.from_numpy(np.repeat(hu[None], planes, axis=0)).float(), grid, "HU", plane_mm=4.0)


def test_tissues_are_those_of_the_body_alone():
    ct = volume()
    kinds, grid = tissues(ct.array.numpy()), ct.grid

    def at(x: float, y: float) -> str:
        return LABELS[kinds[1, int(np.argmin(np.abs(grid.y - y))), int(np.argmin(np.abs(grid.x - x)))]]

    assert (at(75, 10), at(-75, 10), at(0, 10), at(0, -55)) == ("lung", "lung", "muscle", "marrow")
    assert (at(0, 92), at(0, 50), at(0, -125), at(170, 100)) == ("fat", "air", "air", "air")
    with pytest.raises(AllpetError, match="holds no body"):
        tissues(np.full((2, 16, 16), -1000.0))


def test_counts_are_as_promised_and_the_table_weakens_without_shining():
    data, own = scans(volume(), "chest", 2, SHAPE)
    assert np.allclose(data.observed.sum(axis=(1, 2)), 500_000, rtol=0.01)
    assert np.allclose(data.background.sum(axis=(1, 2)) / data.observed.sum(axis=(1, 2)), 0.3, atol=0.01)
    table = np.abs(data.grid.y + 125) < 8
    middle = np.abs(data.grid.x) < 100
    assert data.mumap[:, table][:, :, middle].min() > 0.006 and not data.labels[:, table][:, :, middle].any()
    assert own.unit == "1/mm" and len(own) == 2
    again, _ = scans(volume(), "chest", 2, SHAPE)
    other, _ = scans(volume(), "chest", 2, SHAPE, seed=1)
    assert np.array_equal(data.observed, again.observed) and not np.array_equal(data.observed, other.observed)


def test_with_the_ct_given_errors_are_small_and_the_truth_has_none():
    data, own = scans(volume(), "chest", 2, SHAPE)
    model = tiny()
    model.config["regions"] = ["chest"]
    found = estimates(model, data, own)
    assert list(found)[-3:] == ["allpet", "allpet, CT given", "smoothed, CT given"]
    each = {name: score(estimate, data)[0] for name, estimate in found.items()}
    right = score((truth(data)[:, 0], torch.from_numpy(data.mumap)), data)[0]
    assert all(right[key] == pytest.approx(0, abs=1e-4) for key in ("lung", "soft", "mu_error", "mu_percent"))
    assert each["uncorrected"]["mu_percent"] == pytest.approx(100)
    assert each["smoothed, CT given"]["soft"] < 10 < 50 < each["uncorrected"]["soft"]
    assert each["smoothed, CT given"]["mu_percent"] < 10 < each["uniform mu"]["mu_percent"] < 60
    assert each["uniform mu"]["lung"] > 50 > each["smoothed, CT given"]["lung"]  # lungs are no water
    assert each["allpet, CT given"]["mu_error"] == pytest.approx(each["smoothed, CT given"]["mu_error"])
    assert each["allpet"]["mu_error"] != each["allpet, CT given"]["mu_error"]


def test_means_and_errors_over_slices():
    full = dict.fromkeys(HEADS, 1.0)
    rows = [dict(region="chest", method="m", slice=k, **full) for k in range(3)]
    rows[1]["soft"], rows[2]["soft"] = 2.0, 3.0
    del rows[0]["lung"]
    text = markdown(rows).splitlines()
    assert (
        len(text) == 3 and "| 2.0 ± 0.6 |" in text[2] and "| 1.0 ± 0.0 (2) |" in text[2] and text[2].endswith("| 3 |")
    )
