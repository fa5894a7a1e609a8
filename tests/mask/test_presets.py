"""Presets stand where their organs are in people that the atlas was not made from."""

import numpy as np
import pytest

from allpet.errors import AllpetError
from allpet.geometry import ImageGrid
from allpet.mask import presets
from allpet.mask.outline import draw
from allpet.scan.phantom import LABEL
from allpet.scan.simulate import simulate

GRID = ImageGrid(64, 5.0)
BODY = draw({"type": "ellipse", "centre_mm": [10, -5], "axes_mm": [120, 80]}, GRID)


@pytest.mark.parametrize(
    ("region", "name", "tissues"),
    [
        ("abdomen", "liver", ("liver",)),
        ("abdomen", "kidney, left", ("kidney cortex", "kidney medulla")),
        ("chest", "lung, right", ("lung",)),
        ("brain", "striatum, left", ("striatum",)),
    ],
)
def test_a_preset_covers_its_organ_in_other_people(region, name, tissues):
    data = simulate(24, region=region, split="validation", views=32, bins=64, seed=5, slices_per_subject=1)
    hits = []
    for image, labels in zip(data["image"], data["labels"], strict=True):
        organ = np.isin(labels, [LABEL[t] for t in tissues])
        columns = np.arange(organ.shape[1]) < organ.shape[1] / 2
        if "left" in name or "right" in name:
            organ &= columns[None, :] == ("right" in name)
        if organ.sum() < 10:
            continue
        weights, _, why = presets.place(name, image, data.grid, region)
        hits.append(float(weights[organ].mean()) / max(float(weights[labels > 0].mean()), 1e-6))
        assert "atlas" in why
    assert len(hits) >= 3 and np.mean(hits) > 2.5, "far denser in the organ than in the rest of the body"


@pytest.mark.parametrize("region", [*presets.table(), None])
def test_every_preset_can_be_placed_in_a_body(region):
    for name in presets.names(region):
        weights, kind, _ = presets.place(name, BODY * 3.0, GRID, region)
        assert weights.shape == GRID.shape and 0 < weights.max() <= 1 and kind in ("hot", "cold", "roi")
        assert not weights[BODY == 0].any() or name == presets.LESION


def test_left_is_the_patients_left():
    weights, _, _ = presets.place("kidney, left", BODY * 3.0, GRID, "abdomen")
    assert (weights * GRID.x[None, :]).sum() / weights.sum() > 20


def test_the_lesion_preset_grows_from_the_hottest_voxel():
    image = BODY.copy()
    image[20:23, 30:33] = 9
    weights, kind, _ = presets.place("lesion", image, GRID, "chest")
    assert weights.sum() == 9 and kind == "hot" and weights[21, 31] == 1


def test_what_cannot_be_placed_is_refused():
    with pytest.raises(AllpetError, match="unknown here; known: lesion"):
        presets.place("liver", BODY, GRID, "brain")
    with pytest.raises(AllpetError, match="no body"):
        presets.place("liver", np.zeros(GRID.shape), GRID, "abdomen")
