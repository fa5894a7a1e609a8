"""Work folders: saved whole, reopened, never written over unseen; exports that other programs open."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from allpet import audit
from allpet.errors import AllpetError
from allpet.io import read
from allpet.io.nifti import read_nifti
from allpet.io.regions import read_regions
from allpet.io.store import read_store
from allpet.ui import keep
from allpet.ui.library import SIMULATED, Library, simulated
from ui_support import ELLIPSE, PLANES, SIZE, Session, client, hashes, scans

FILES = {"regions.json", "roi.nii.gz", "image.nii.gz", "attention.hs", "emphasised.hs", "audit.jsonl", "report.html"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return scans(tmp_path / "scans")


@pytest.fixture
def page(folder):
    return client(folder)


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports without figures, which take most of the time."""
    monkeypatch.setattr(keep, "write_attention_report", lambda path, *rest: path.write_text("report"))


def drawn(page, **more) -> Session:
    one = Session(page, scan="one.zarr", **more)
    one.edit("draw", shape=ELLIPSE, planes=[1, 2], strength=2.0, kind="hot", name="liver")
    one.edit("accept", suggestion="s1")
    return one


def test_what_is_saved_is_right(page, folder):
    one = drawn(page)
    job = one.post("/jobs", {"task": "low-dose"})["job"]
    assert one.finished(job)["state"] == "done"
    answer = one.post("/save")
    work = folder / "one-attention"
    assert Path(answer["folder"]) == work and set(answer["files"]) >= FILES | {"result-low-dose.json"}
    assert not list(work.glob(".*")) and one.state()["saved"]
    scan, state = read_store(folder / "one.zarr"), one.state()
    weights, emphasised = read(work / "attention.hs"), read(work / "emphasised.hs")
    assert torch.allclose(emphasised.sinogram / weights.sinogram, scan.sinogram, rtol=1e-6, atol=1e-6)
    assert torch.allclose(emphasised.background / weights.sinogram, scan.background, rtol=1e-5, atol=1e-6)
    assert float(weights.sinogram.amax()) == pytest.approx(state["attention"]["max"], rel=1e-5)
    assert len(emphasised) == PLANES and float(weights.sinogram.amin()) >= 1
    image = read_nifti(work / "image.nii.gz")
    assert [r.hash for r in read_regions(work / "regions.json", image)] == [one["hash"] for one in state["regions"]]
    result = json.loads((work / "result-low-dose.json").read_text())
    assert result["regions"][0]["name"] == "liver"
    said = [line["what"] for line in audit.read(work / "audit.jsonl")]
    assert said == ["edit: draw", "edit: accept", "run: low-dose", "saved"]
    assert "liver" in (work / "report.html").read_text()
    one.edit("strength", region="r1", value=1.0)
    assert not one.state()["saved"]
    assert one.edit("undo")["saved"]
    one.edit("strength", region="r1", value=0.5)
    one.post("/save")
    again = [line["what"] for line in audit.read(work / "audit.jsonl")]
    assert again == [*said, "edit: strength", "edit: undo", "edit: strength", "saved"]


def test_the_next_session_goes_on_unless_it_is_to_be_fresh(page, folder, plain):
    one = drawn(page)
    one.post("/save")
    page.delete(one.base)
    again = Session(page, scan="one.zarr")
    state = again.first
    assert state["reopened"] and state["saved"] and hashes(state) == hashes(one.first | {"regions": state["regions"]})
    assert [x["source"] for x in state["regions"]] == ["drawn", "suggested"] and state["regions"][0]["name"] == "liver"
    assert "s1" not in [x["id"] for x in state["suggestions"]] and not state["undo"]
    again.edit("draw", shape=ELLIPSE, planes=[0, 0])
    assert again.state()["regions"][-1]["id"] == "r3"
    again.post("/save")
    said = [line["what"] for line in audit.read(folder / "one-attention" / "audit.jsonl")]
    assert said == ["edit: draw", "edit: accept", "saved", "reopened", "edit: draw", "saved"]
    exported = again.get("/export/audit.jsonl").decode().splitlines()
    assert [json.loads(line)["what"] for line in exported] == said
    fresh = Session(page, scan="one.zarr", fresh=True)
    assert not fresh.first["reopened"] and fresh.first["regions"] == []
    fresh.post("/save")  # it has seen what it replaces
    assert Session(page, scan="one.zarr").first["regions"] == []


def test_results_are_there_again_and_stay_in_the_report(page, folder):
    one = drawn(page)
    job = one.post("/jobs", {"task": "low-dose", "planes": [1, 2]})["job"]
    assert one.state()["last"] == {"job": job, "version": 2}
    result = one.finished(job)["result"]
    one.post("/save")
    page.delete(one.base)
    again = Session(page, scan="one.zarr")
    last = again.first["last"]
    assert last["version"] == 0 and last["result"]["regions"] == result["regions"]
    again.edit("delete", region="r1")
    again.post("/save")
    report = (folder / "one-attention" / "report.html").read_text()
    assert "low-dose, planes 2 to 3, seed 0" in report and "No task was run" not in report
    changed = Session(page, scan="one.zarr").first  # one of its regions is gone
    assert changed["last"]["version"] == -1 and changed["last"]["result"]["regions"][0]["id"] == ""
    (folder / "one-attention" / "result-low-dose.json").write_text(
        '{"task": "low-dose", "planes": [0, 1], "regions": [1]}'
    )
    assert Session(page, scan="one.zarr").first["last"] is None


def test_nobody_writes_over_what_they_have_not_seen(page, folder, plain):
    one, two = drawn(page), drawn(page)
    two.edit("strength", region="r1", value=7.0)
    one.post("/save")
    before = (folder / "one-attention" / "regions.json").read_bytes()
    answer = two.post("/save", status=409)
    assert "name" in answer["error"] and not two.state()["saved"]
    assert (folder / "one-attention" / "regions.json").read_bytes() == before
    answer = two.post("/save", {"name": "second-reader"})
    other = folder / "one-attention-second-reader"
    assert Path(answer["folder"]) == other and two.state()["saved"]
    assert [line["what"] for line in audit.read(other / "audit.jsonl")][-1] == "saved"
    one.post("/save")
    two.post("/save", {"name": "second-reader"})
    one.post("/save", {"name": "second-reader"}, 409)
    assert Session(page, scan="one.zarr").first["regions"][0]["strength"] == 2.0
    for name in ("../x", "a/b", "", ".", "a" * 41, "-a", "a b", "ä"):
        two.post("/save", {"name": name}, 400)
    assert {path.name for path in folder.iterdir() if path.is_dir()} == {
        *("one.zarr", "one-attention", "one-attention-second-reader"),
    }


def test_damaged_and_foreign_work_is_left_alone(page, folder, plain):
    one = drawn(page)
    one.post("/save")
    path = folder / "one-attention" / "regions.json"
    good = json.loads(path.read_text())
    for content, words in (
        ("{", "cannot be read"),
        (json.dumps(good | {"scan": {"hash": "other"}}), "other data"),
        (json.dumps(good | {"regions": [{"name": "x", "shapes": [{"type": "star"}]}]}), "star"),
        (json.dumps(good | {"regions": 7}), "cannot be read"),
        ("[" * 100000, "cannot be read"),
    ):
        path.write_text(content)
        other = Session(page, scan="one.zarr")
        state = other.first
        other.post("/save", status=409)
        assert (
            path.read_text() == content and not state["reopened"] and words in state["note"] and state["regions"] == []
        )
    path.write_text(json.dumps(good))
    assert Session(page, scan="one.zarr").first["reopened"]


def test_a_save_that_fails_leaves_the_old_files(page, folder, monkeypatch, plain):
    from allpet.errors import AllpetError

    one = drawn(page)
    one.post("/save")
    work = folder / "one-attention"
    before = {path.name: path.read_bytes() for path in work.iterdir()}
    one.edit("clear")

    def full(*args):
        raise AllpetError("the disk is full")

    monkeypatch.setattr(keep, "write_small", full)
    assert "full" in one.post("/save", status=400)["error"]
    assert {path.name: path.read_bytes() for path in work.iterdir()} == before and not one.state()["saved"]


def test_exports_open_elsewhere(page, tmp_path):
    one = drawn(page)
    exported = tmp_path / "roi.nii.gz"
    exported.write_bytes(one.get("/export/roi.nii.gz"))
    labels = nibabel.load(exported)
    assert labels.shape == (SIZE, SIZE, PLANES) and set(np.unique(labels.dataobj)) <= {0, 1, 2}
    assert labels.header.get_zooms()[2] == pytest.approx(8.0)
    document = json.loads(one.get("/export/regions.json"))
    assert document["regions"][0]["name"] == "liver" and document["allpet_regions"] == 1
    assert all(json.loads(line)["when"] for line in one.get("/export/audit.jsonl").decode().splitlines())
    assert one.get("/export/report.html").startswith(b"<!DOCTYPE html>")
    with zipfile.ZipFile(io.BytesIO(one.get("/export/work.zip"))) as packed:
        assert packed.testzip() is None and set(packed.namelist()) >= FILES | {"attention.s", "emphasised.s"}
        packed.extractall(tmp_path / "zip")
    emphasised, weights = (read(tmp_path / "zip" / name) for name in ("emphasised.hs", "attention.hs"))
    undone = torch.from_numpy(np.frombuffer(one.get("/planes/1/sinogram?of=scan"), "<f4").reshape(SIZE, SIZE).copy())
    assert torch.allclose(emphasised.sinogram[1] / weights.sinogram[1], undone, rtol=1e-6, atol=1e-6)
    answer = page.get(one.base + "/export/work.zip")
    assert answer.headers["content-disposition"] == 'attachment; filename="work.zip"'


def test_folders_are_told_apart(tmp_path):
    for name in ("a.hs", "a.zarr", "b.l.hdr", "c.hdr.STIR"):
        (tmp_path / name).write_text("")
    library = Library(tmp_path)
    assert library.folder("b.l.hdr") == tmp_path / "b-attention"
    assert library.folder("c.hdr.STIR", "x") == tmp_path / "c-attention-x"
    assert library.folder("a.hs") == tmp_path / "a.hs-attention"
    (tmp_path / "out").mkdir()
    assert Library(tmp_path, tmp_path / "out").folder("b.l.hdr") == tmp_path / "out" / "b-attention"
    assert Library(tmp_path / "b.l.hdr").folder("b.l.hdr") == tmp_path / "b-attention"
    assert Library(None, tmp_path).folder(SIMULATED) == tmp_path / "simulated-attention"


def test_the_scan_that_stands_in_has_a_lesion_and_knows_its_truth(tmp_path):
    loaded = Library(None, tmp_path).get(SIMULATED)
    data = simulated()
    lesion = data["labels"] == data.attributes["labels"].index("lesion")
    assert lesion.any(axis=(1, 2)).sum() >= 3 and loaded.truth is not None
    np.testing.assert_array_equal(loaded.truth, data.image)
    assert loaded.scan.dose_fraction == pytest.approx(0.1) and loaded.scan.counts_per_unit is not None
    correlation = np.corrcoef(loaded.truth.ravel(), loaded.image.array.numpy().ravel())[0, 1]
    assert correlation > 0.8  # both are of one person, the same way round


def test_the_folder_for_work_is_made_or_refused(tmp_path):
    Library(None, tmp_path / "new" / "work")
    assert (tmp_path / "new" / "work").is_dir()
    (tmp_path / "file").write_text("x")
    for out, message in ((tmp_path / "file", "is a file"), (tmp_path / "file" / "below", "cannot be made|is a file")):
        with pytest.raises(AllpetError, match=message):
            Library(None, out)
