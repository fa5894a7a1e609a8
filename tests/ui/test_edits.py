"""Every operation on regions, against what outlines, growing and combining give by themselves."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from allpet.io.nifti import read_nifti
from allpet.mask.outline import draw, grow
from ui_support import ELLIPSE, PLANES, SIZE, Session, client, hashes, scans


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory):
    return client(scans(tmp_path_factory.mktemp("scans")))


@pytest.fixture
def one(page) -> Session:
    return Session(page, scan="one.zarr", fresh=True)


def labels(session: Session, plane: int, of: str = "regions") -> np.ndarray:
    return np.frombuffer(session.get(f"/planes/{plane}/labels?of={of}"), np.uint8).reshape(SIZE, SIZE)


def test_an_ellipse_has_its_area_on_its_planes(one):
    state = one.edit("draw", shape=ELLIPSE, planes=[1, 2], name="liver", kind="hot", strength=2.5)
    (region,) = state["regions"]
    pixel = state["image"]["pixel_mm"]
    assert region["voxels"] == pytest.approx(2 * math.pi * 40 * 30 / pixel**2, rel=0.02)
    assert region["volume_ml"] == pytest.approx(region["voxels"] * pixel**2 * 8 / 1000, rel=1e-3)
    assert (region["name"], region["kind"], region["strength"]) == ("liver", "hot", 2.5)
    assert region["planes"] == [1, 2] and region["source"] == "drawn" and "ellipse" in region["why"]
    assert not labels(one, 0).any() and set(np.unique(labels(one, 1))) == {0, 1}
    one.edit("draw", shape=ELLIPSE | {"centre_mm": [50, 10]}, planes=[1, 1])
    first, second = np.frombuffer(one.get("/planes/1/covers"), np.uint8).reshape(2, SIZE, SIZE)
    np.testing.assert_array_equal(np.where(second, 2, first), labels(one, 1))
    assert (first & second).any() and first.sum() == pytest.approx(region["voxels"] / 2, rel=0.05)
    one.edit("undo")
    rows, columns = np.nonzero(labels(one, 1))
    assert (columns.mean() - (SIZE - 1) / 2) * pixel == pytest.approx(30, abs=2)  # x to the right of the array
    assert ((SIZE - 1) / 2 - rows.mean()) * pixel == pytest.approx(10, abs=2)  # y upwards


def test_uptake_is_that_of_the_image_which_is_served(one, tmp_path):
    (region,) = one.edit("draw", shape=ELLIPSE, planes=[0, 0])["regions"]
    (tmp_path / "i.nii.gz").write_bytes(one.get("/image.nii.gz"))
    image = read_nifti(tmp_path / "i.nii.gz")
    plane, weights = image.array[0].numpy(), draw(ELLIPSE, image.grid)
    inside = plane[labels(one, 0) == 1]
    assert region["uptake"]["max"] == pytest.approx(float(inside.max()), rel=1e-6)
    assert region["uptake"]["mean"] == pytest.approx(float((plane * weights).sum() / weights.sum()), rel=1e-3)
    assert inside.mean() < region["uptake"]["peak"] <= inside.max() * 1.001


def test_adding_and_erasing_take_back_one_another(one):
    first = one.edit("draw", shape=ELLIPSE, planes=[1, 1])
    square = {"type": "rectangle", "centre_mm": [-120, -60], "axes_mm": [40, 40]}
    more = one.edit("draw", shape=square, planes=[0, 2], region="r1")
    assert len(more["regions"]) == 1 and more["regions"][0]["planes"] == [0, 2]
    assert more["regions"][0]["voxels"] > first["regions"][0]["voxels"] + 50
    less = one.edit("erase", shape=square, planes=[0, 2], region="r1")
    assert hashes(less) == hashes(first)
    untouched = one.edit("erase", shape=square, planes=[0, 0], region="r1")
    assert hashes(untouched) == hashes(first)
    everything = {"type": "rectangle", "centre_mm": [0, 0], "axes_mm": [900, 900]}
    assert one.edit("erase", shape=everything, region="r1")["regions"] == []


@pytest.mark.parametrize("through", [False, True])
def test_growing_follows_the_image(one, tmp_path, through):
    (tmp_path / "i.nii.gz").write_bytes(one.get("/image.nii.gz"))
    image = read_nifti(tmp_path / "i.nii.gz")
    plane, row, column = (int(k) for k in np.unravel_index(int(image.array.argmax()), image.array.shape))
    x, y = image.grid.x[column], image.grid.y[row]
    state = one.edit("grow", plane=plane, x_mm=x, y_mm=y, share=0.5, through=through)
    found = image.array.numpy() >= 0.5 * float(image.array.max())
    expected = grow(image.array.numpy(), (plane, row, column), 0.5)
    assert bool((found[expected]).all())
    if not through:
        expected = grow(image.array.numpy()[plane : plane + 1], (0, row, column), 0.5)
        assert state["regions"][0]["planes"] == [plane, plane]
    assert state["regions"][0]["voxels"] == pytest.approx(expected.sum())
    assert state["regions"][0]["source"] == "grown" and state["regions"][0]["kind"] == "hot"


def test_suggestions_become_regions_or_go_and_come_back(one):
    offered = one.first["suggestions"]
    assert len(offered) >= 2, "the test's scan has suggestions"
    state = one.edit("accept", suggestion=offered[0]["id"])
    assert state["regions"][0]["hash"] == offered[0]["hash"] and state["regions"][0]["source"] == "suggested"
    assert [one["id"] for one in state["suggestions"]] == [one["id"] for one in offered[1:]]
    assert labels(one, offered[0]["planes"][0]).any()
    one.edit("accept", 400, suggestion=offered[0]["id"])
    state = one.edit("dismiss", suggestion=offered[1]["id"])
    assert len(state["suggestions"]) == len(offered) - 2
    state = one.edit("delete", region="r1")
    assert offered[0]["id"] in [one["id"] for one in state["suggestions"]]
    if len(offered) > 2:
        state = one.edit("accept_all")
        assert len(state["regions"]) == len(offered) - 1 and state["suggestions"] == []
    one.edit("accept_all", 200 if state["suggestions"] else 400)
    assert one.edit("clear")["regions"] == []


def test_facts_of_a_region_can_be_changed(one):
    drawn = one.edit("draw", shape=ELLIPSE)["regions"][0]
    assert drawn["planes"] == [0, PLANES - 1]
    state = one.edit("strength", region="r1", value=-0.5)
    assert state["attention"]["min"] == pytest.approx(0.5, abs=1e-3) and state["regions"][0]["hash"] != drawn["hash"]
    assert one.edit("kind", region="r1", value="cold")["regions"][0]["kind"] == "cold"
    renamed = one.edit("rename", region="r1", value="a\nname")["regions"][0]
    assert renamed["name"] == "aname" and renamed["strength"] == -0.5


@pytest.mark.parametrize(
    ("how", "left", "count"), [("union", {1}, 1), ("intersection", {1}, 1), ("difference", {1, 2}, 2)]
)
def test_regions_combine(one, how, left, count):
    one.edit("draw", shape=ELLIPSE, planes=[1, 1])
    shifted = ELLIPSE | {"centre_mm": [60, 10]}
    before = one.edit("draw", shape=shifted, planes=[1, 1])["regions"]
    state = one.edit("combine", regions=["r1", "r2"], how=how)
    assert len(state["regions"]) == count and state["regions"][0]["source"] == "combined"
    overlap = sum(x["voxels"] for x in before) - state["regions"][0]["voxels"]
    voxels = {
        "union": lambda: state["regions"][0]["voxels"] < sum(x["voxels"] for x in before),
        "intersection": lambda: state["regions"][0]["voxels"] < before[0]["voxels"],
        "difference": lambda: overlap > before[1]["voxels"],
    }
    assert voxels[how]() and set(np.unique(labels(one, 1))) == {0} | left


def test_union_and_intersection_add_up(one):
    for shape in (ELLIPSE, ELLIPSE | {"centre_mm": [60, 10]}):
        one.edit("draw", shape=shape, planes=[1, 1])
    parts = [x["voxels"] for x in one.state()["regions"]]
    both = one.edit("combine", regions=["r1", "r2"], how="union")["regions"][0]["voxels"]
    one.edit("undo")
    common = one.edit("combine", regions=["r2", "r1"], how="intersection")["regions"][0]["voxels"]
    assert both + common == pytest.approx(sum(parts), abs=0.1)


def test_presets(one):
    names = one.first["presets"]
    assert {"lesion", "liver"} <= set(names) <= set(one.page.get("/api/info").json()["presets"])
    for name in names:
        state = one.edit("preset", name=name, plane=1)
        assert state["regions"][-1]["source"] == "preset" and state["regions"][-1]["planes"] == [1, 1]
    by_name = {x["name"]: x for x in state["regions"]}
    assert by_name["lesion"]["uptake"]["max"] == max(x["uptake"]["max"] for x in state["regions"])
    assert by_name["lesion"]["kind"] == "hot" and by_name["liver"]["why"].startswith("preset on plane 2: placed")
    one.edit("preset", 400, name="nonsense", plane=1)


WRONG = [
    ({"op": "nonsense"}, "unknown"),
    ({}, "op is missing"),
    ({"op": ["draw"]}, "must be text"),
    ({"op": "draw"}, "shape"),
    ({"op": "draw", "shape": {"type": "star"}}, "unknown"),
    ({"op": "draw", "shape": {"type": ["ellipse"]}}, "type"),
    ({"op": "draw", "shape": ELLIPSE | {"axes_mm": [0, 1]}}, "above 0"),
    ({"op": "draw", "shape": ELLIPSE | {"centre_mm": [4000, 0]}}, "covers no voxel"),
    ({"op": "draw", "shape": ELLIPSE, "planes": [2, 1]}, "planes"),
    ({"op": "draw", "shape": ELLIPSE, "planes": [0, 3]}, "planes"),
    ({"op": "draw", "shape": ELLIPSE, "planes": [True, 2]}, "planes"),
    ({"op": "draw", "shape": ELLIPSE, "region": "r9"}, "no region"),
    ({"op": "draw", "shape": ELLIPSE, "strength": -1}, "above -1"),
    ({"op": "draw", "shape": ELLIPSE, "strength": 1000}, "at most"),
    ({"op": "draw", "shape": ELLIPSE, "strength": "1"}, "number"),
    ({"op": "draw", "shape": ELLIPSE, "strength": 10**400}, "huge number"),
    ({"op": "draw", "shape": ELLIPSE, "kind": "warm"}, "unknown"),
    ({"op": "draw", "shape": ELLIPSE, "name": "n" * 81}, "letters"),
    ({"op": "draw", "shape": {"type": "polygon", "points_mm": [[0, 0], [1, 1]]}}, "points_mm"),
    ({"op": "draw", "shape": {"type": "pen", "points_mm": [[0, 0]] * 10001, "width_mm": 3}}, "points"),
    ({"op": "grow", "plane": 0, "x_mm": 1e9, "y_mm": 0}, "outside"),
    ({"op": "grow", "plane": 3, "x_mm": 0, "y_mm": 0}, "plane"),
    ({"op": "grow", "plane": 1.0, "x_mm": 0, "y_mm": 0}, "whole number"),
    ({"op": "grow", "plane": 1, "x_mm": 0, "y_mm": 0, "share": 1.5}, "between 0 and 1"),
    ({"op": "grow", "plane": 1, "x_mm": 0, "y_mm": 0, "through": "yes"}, "true or false"),
    ({"op": "strength", "region": "r1", "value": None}, "missing"),
    ({"op": "combine", "regions": ["r1"], "how": "union"}, "two different"),
    ({"op": "combine", "regions": ["r1", "r1"], "how": "union"}, "two different"),
    ({"op": "combine", "regions": ["r1", {}], "how": "union"}, "text"),
    ({"op": "combine", "regions": ["r1", "r2"], "how": "xor"}, "known"),
    ({"op": "combine", "regions": ["r1", "r2"], "how": "intersection"}, "covers no voxel"),
    ({"op": "undo_all"}, "unknown"),
    ({"op": "redo"}, "nothing to redo"),
]


def test_what_is_wrong_is_said_and_changes_nothing(one):
    one.edit("draw", shape=ELLIPSE, planes=[0, 0])
    one.edit("draw", shape=ELLIPSE | {"centre_mm": [-90, -40], "axes_mm": [20, 20]}, planes=[1, 1])
    before = one.state()
    for body, words in WRONG:
        answer = one.page.post(one.base + "/edits", json=body)
        assert answer.status_code == 400 and words in answer.json()["error"], (body, answer.text)
        assert "\n" not in answer.json()["error"]
    assert one.state() == before


def test_an_emphasis_that_could_not_be_undone_is_refused(one):
    one.edit("draw", shape=ELLIPSE, strength=-0.6)
    before = one.state()
    assert "cannot be undone" in one.edit("draw", 400, shape=ELLIPSE, strength=-0.6)["error"]
    assert one.state() == before
    assert len(one.edit("draw", shape=ELLIPSE, strength=-0.3)["regions"]) == 2
    assert "cannot be undone" in one.edit("strength", 400, region="r2", value=-0.5)["error"]
    assert one.edit("strength", region="r2", value=3)["attention"]["min"] > 0.39


def test_no_more_regions_than_labels(one):
    document = {"allpet_regions": 1, "regions": [{"shapes": [ELLIPSE], "planes": [0, 0], "strength": 0.01}] * 254}
    one.upload("many.json", json.dumps(document).encode())
    one.edit("draw", shape=ELLIPSE, planes=[0, 0])
    assert "at most 255" in one.edit("draw", 400, shape=ELLIPSE, planes=[0, 0])["error"]
    assert labels(one, 0).max() == 255


def test_names_of_files_stay_in_their_folder(page, tmp_path: Path):
    for name in ("../one.zarr", "/etc/passwd", "one.zarr/zarr.json", "..", "", "three.hs"):
        answer = page.post("/api/sessions", json={"scan": name})
        assert answer.status_code in (400, 404), name
