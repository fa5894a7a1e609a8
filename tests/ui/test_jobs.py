"""Tasks in the background: results by region, progress, cancelling, limits."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from allpet.io.nifti import read_nifti
from allpet.metrics.region import uptake
from allpet.model.focus import Focus
from model_support import tiny
from ui_support import ELLIPSE, FakeModel, Session, client, data, scans


class Gate:
    """Jobs run while it is shut."""

    shut = False

    def __call__(self) -> bool:
        return self.shut


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scans(tmp_path_factory.mktemp("scans"))


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def model(gate) -> FakeModel:
    return FakeModel(gate)


@pytest.fixture
def page(folder, model, gate):
    yield client(folder, model=model)
    gate.shut = False


def test_a_result_tells_of_every_region_on_the_planes(page, model, folder, tmp_path):
    one = Session(page, scan="one.zarr", fresh=True)
    for planes in ([0, 0], [0, 2], [1, 1]):
        one.edit("draw", shape=ELLIPSE, planes=planes, name="same name")
    regions = one.state()["regions"]
    asked = {"task": "low-dose", "planes": [1, 2], "options": {"dose_fraction": 0.1, "seed": 7, "samples": 4}}
    job = one.post("/jobs", asked)["job"]
    done = one.finished(job)
    assert done["state"] == "done" and done["done"] == done["total"] == 2 and done["seconds"] >= 0
    result = done["result"]
    assert (result["task"], result["planes"], result["seed"], result["unit"]) == ("low-dose", [1, 2], 7, "kBq/mL")
    assert result["model_hash"] == FakeModel.hash and result["notes"] == ["a note"]
    assert [row["id"] for row in result["regions"]] == ["r2", "r3"]
    assert [row["hash"] for row in result["regions"]] == [one["hash"] for one in regions[1:]]
    row = result["regions"][1]
    assert row["before"]["mean"] == pytest.approx(regions[2]["uptake"]["mean"], rel=1e-3)
    assert row["after"]["mean"] == pytest.approx(2 * row["without"]["mean"]) and row["std"] == 0.5
    (asked,) = model.asked
    assert asked["planes"] == 2 and asked["seed"] == 7 and [list(r.planes) for r in asked["roi"]] == [[0, 1], [0]]
    (tmp_path / "i.nii.gz").write_bytes(one.get(f"/jobs/{job}/image.nii.gz"))
    image = read_nifti(tmp_path / "i.nii.gz")
    assert len(image) == 2 and image.unit == "kBq/mL"
    one.get(f"/jobs/{job}/image.nii.gz?of=std")
    one.get(f"/jobs/{job}/image.nii.gz?of=change", 404)
    one.get(f"/jobs/{job}/image.nii.gz?of=nonsense", 400)
    truth = data(0).image[1:2]
    region = asked["roi"][1]
    assert row["truth"]["mean"] == pytest.approx(uptake(truth, region, data(0).grid, 8.0).mean)
    assert b'"what": "run: low-dose"' in one.get("/export/audit.jsonl")


def test_truth_is_told_where_it_is_known_only(page):
    for scan, task, known in (
        ("one.zarr", "attenuation", True),
        ("one.zarr", "delayed", False),
        ("two.hs", "low-dose", False),
    ):
        one = Session(page, scan=scan, fresh=True)
        one.edit("draw", shape=ELLIPSE)
        result = one.finished(one.post("/jobs", {"task": task})["job"])["result"]
        assert ("truth" in result["regions"][0]) == known, (scan, task)


def test_a_job_without_regions_runs(page, model):
    one = Session(page, fresh=True)
    assert one.finished(one.post("/jobs", {"task": "low-dose", "planes": [2, 2]})["job"])["result"]["regions"] == []
    one.edit("draw", shape=ELLIPSE, planes=[0, 0])
    assert one.finished(one.post("/jobs", {"task": "low-dose", "planes": [2, 2]})["job"])["state"] == "done"


def test_jobs_are_cancelled_and_few(page, gate):
    gate.shut = True
    one, two = Session(page, fresh=True), Session(page, fresh=True)
    first, second = (session.post("/jobs", {"task": "low-dose"})["job"] for session in (one, two))
    answer = page.post(one.base + "/jobs", json={"task": "low-dose"})
    assert answer.status_code == 429 and "2 jobs" in answer.json()["error"]
    assert page.get(f"{one.base}/jobs/{first}").json()["state"] == "running"
    state = one.edit("draw", shape=ELLIPSE)  # work goes on meanwhile
    assert state["regions"]
    began = time.perf_counter()
    page.delete(f"{two.base}/jobs/{second}")  # it waits for the model
    assert two.finished(second)["state"] == "cancelled"
    page.delete(f"{one.base}/jobs/{first}")
    found = one.finished(first)
    assert found["state"] == "cancelled" and "result" not in found and time.perf_counter() - began < 5
    assert page.delete(f"{one.base}/jobs/{first}").status_code == 200
    gate.shut = False
    assert one.finished(one.post("/jobs", {"task": "low-dose"})["job"])["state"] == "done"


def test_ending_a_session_stops_its_job(page, gate):
    gate.shut = True
    one = Session(page, fresh=True)
    one.post("/jobs", {"task": "low-dose"})
    page.delete(one.base)
    two = Session(page, fresh=True)
    for _ in range(2):
        job = two.post("/jobs", {"task": "low-dose"})["job"]
        page.delete(f"{two.base}/jobs/{job}")
        assert two.finished(job)["state"] == "cancelled"


def test_failures_are_told_and_leave_the_model_free(page, model, monkeypatch, capfd):
    from allpet.errors import AllpetError

    one = Session(page, fresh=True)
    for error, words in ((AllpetError("a clear line"), "a clear line"), (RuntimeError("what\nnow"), "what now")):

        def fail(*args, error=error, **more):
            raise error

        monkeypatch.setattr(model, "apply", fail)
        found = one.finished(one.post("/jobs", {"task": "low-dose"})["job"])
        assert found["state"] == "failed" and words in found["error"]
    monkeypatch.undo()
    assert one.finished(one.post("/jobs", {"task": "low-dose"})["job"])["state"] == "done"
    assert "RuntimeError" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "task"),
        ({"task": "nonsense"}, "known"),
        ({"task": "low-dose", "planes": [0, 9]}, "planes"),
        ({"task": "low-dose", "options": {"to": "PSMA"}}, "does not take"),
        ({"task": "low-dose", "options": {"progress": 1}}, "does not take"),
        ({"task": "low-dose", "options": {"roi": []}}, "does not take"),
        ({"task": "low-dose", "options": {"seed": -1}}, "seed"),
        ({"task": "low-dose", "options": {"samples": 10**6}}, "samples"),
        ({"task": "low-dose", "options": {"dose_fraction": "all"}}, "number"),
        ({"task": "low-dose", "options": {"prompt": "x" * 500}}, "letters"),
        ({"task": "low-dose", "options": []}, "object"),
    ],
)
def test_wrong_options_are_refused_at_once(page, model, body, words):
    one = Session(page, fresh=True)
    assert words in one.post("/jobs", body, 400)["error"] and model.asked == []


def test_the_model_itself_runs(folder, tmp_path):
    model = tiny()
    model.focus = Focus((8, 16), 16).eval()
    one = Session(client(folder, model=model), scan="one.zarr", fresh=True)
    one.edit("draw", shape=ELLIPSE, planes=[0, 1], strength=1.0)
    job = one.post("/jobs", {"task": "low-dose", "planes": [0, 1], "options": {"samples": 2}})["job"]
    found = one.finished(job)
    assert found["state"] == "done", found
    (row,) = found["result"]["regions"]
    assert row["id"] == "r1" and row["std"] > 0 and row["truth"]["mean"] > 0
    assert row["before"]["mean"] == pytest.approx(one.state()["regions"][0]["uptake"]["mean"], rel=1e-3)
    for of in ("image", "std", "change"):
        (tmp_path / "i.nii.gz").write_bytes(one.get(f"/jobs/{job}/image.nii.gz?of={of}"))
        assert len(read_nifti(tmp_path / "i.nii.gz")) == 2
