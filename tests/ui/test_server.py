"""Who is let in, what is too large, what is hostile, and that sessions do not see one another."""

from __future__ import annotations

import gzip
import json
import os
import time
import zlib
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nibabel
import numpy as np
import pytest

from allpet.io import read, write
from allpet.io.store import read_store
from allpet.ui import server
from allpet.ui.guard import own_host
from ui_support import ELLIPSE, PLANES, SIZE, TOKEN, FakeModel, Session, client, hashes, scans


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scans(tmp_path_factory.mktemp("scans"))


@pytest.fixture(scope="module")
def page(folder):
    return client(folder)


@pytest.fixture
def one(page) -> Session:
    session = Session(page, scan="one.zarr", fresh=True)
    yield session
    page.delete(session.base)


# -- who is let in -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", ["", "x", TOKEN + "x", TOKEN[:-1], TOKEN.upper()])
def test_without_the_token_nothing_is_told(page, one, token):
    for method, path in (
        ("GET", "/api/info"),
        ("POST", "/api/sessions"),
        ("GET", one.base),
        ("DELETE", one.base),
        ("GET", one.base + "/image.nii.gz"),
        ("POST", one.base + "/edits"),
        ("GET", one.base + "/export/work.zip"),
        ("GET", "/api/nothing"),
    ):
        answer = page.request(method, path, headers={"X-Token": token})
        assert answer.status_code == 403 and set(answer.json()) == {"error"}, path
        assert page.request(method, path + f"?token={TOKEN}", headers={"X-Token": token}).status_code == 403
    assert page.get(f"/?token={token}").status_code == 403
    assert page.get("/").status_code == 403
    assert page.get(f"/?token={TOKEN}", headers={"X-Token": ""}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8765", "127.0.0.1.evil.example", "", "0.0.0.0", "[::2]"]
)
def test_names_of_others_that_lead_here_are_refused(page, host):
    for path in ("/api/info", f"/?token={TOKEN}", "/static/index.html"):
        assert page.get(path, headers={"Host": host}).status_code == 403, path


def test_own_names():
    for host in ("127.0.0.1", "127.0.0.1:80", "localhost:8765", "LOCALHOST", "[::1]:8765"):
        assert own_host(host, "127.0.0.1")
    assert own_host("10.0.0.5:1", "10.0.0.5") and not own_host("10.0.0.6:1", "10.0.0.5")
    assert own_host("10.0.0.6:1", "0.0.0.0") and not own_host("evil.example", "0.0.0.0")


def test_a_page_may_load_nothing_from_elsewhere(page):
    for path in (f"/?token={TOKEN}", "/static/index.html", "/api/info", "/api/nothing", "/static/nothing.js"):
        headers = page.get(path).headers
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'self';") and "unsafe-eval" not in policy.replace("wasm-unsafe-eval", "")
        assert "http" not in policy and "*" not in policy
        assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "no-referrer"
        assert "access-control-allow-origin" not in headers
    assert page.get("/api/info").headers["cache-control"] == "no-store"
    assert page.get("/docs").status_code == page.get("/openapi.json").status_code == 404


@pytest.mark.parametrize(
    "path",
    ["../server.py", "..%2fserver.py", "%2e%2e/server.py", "/etc/passwd", "....//server.py", "vendor/../../server.py"],
)
def test_nothing_outside_of_the_static_folder_is_served(page, path):
    assert page.get("/static/" + path).status_code in (403, 404)


# -- what there is -----------------------------------------------------------------------------------------------------


def test_info(page, folder):
    os.symlink("/etc", folder / "etc.zarr") if not (folder / "etc.zarr").exists() else None
    for name in ("note.txt", "three.l", "three.l.hdr", ".hidden.hs"):
        (folder / name).write_text("no scan")
    info = page.get("/api/info").json()
    assert info["scans"] == ["one.zarr", "three.l.hdr", "two.hs"]  # not the factors beside two.hs, nor three.l
    assert {"dose_fraction", "seed"} <= set(next(t["options"] for t in info["tasks"] if t["name"] == "low-dose"))
    assert "to" in next(t["options"] for t in info["tasks"] if t["name"] == "convert")
    assert page.post("/api/sessions", json={"scan": "etc.zarr"}).status_code == 404
    assert page.post("/api/sessions", json={"scan": "three.l.hdr"}).status_code == 400


def test_state_follows_the_contract(one):
    state = one.first
    named = "session version reopened scan image lines regions suggestions presets undo redo saved attention last"
    assert state["last"] is None and set(state) == set(named.split())
    assert state["version"] == 0 and state["saved"] and not state["undo"] and not state["redo"]
    assert state["scan"] == {
        **{"name": "one.zarr", "planes": PLANES, "views": SIZE, "bins": SIZE, "unit": "counts", "tracer": "FDG"},
        **{"region": "abdomen", "duration_s": 600.0, "calibrated": True},
        "dose_fraction": pytest.approx(0.1),
    }
    assert len(state["lines"]["phi"]) == len(state["lines"]["s"]) == SIZE
    assert state["image"]["size"] == SIZE and state["image"]["unit"] == "kBq/mL" and state["image"]["high"] > 0
    after = one.edit("draw", shape=ELLIPSE)
    assert after["version"] == 1 and after["undo"] and not after["saved"] and after["took_ms"] >= 0
    named = "id name kind strength why score source planes voxels volume_ml hash uptake"
    assert set(after["regions"][0]) == set(named.split())


def test_sinograms_are_the_scan_its_weights_and_their_product(one, folder):
    one.edit("draw", shape=ELLIPSE, planes=[1, 2], strength=1.5)
    scan = read_store(folder / "one.zarr")
    for k in range(PLANES):
        parts = [
            np.frombuffer(one.get(f"/planes/{k}/sinogram?of={of}"), "<f4").reshape(SIZE, SIZE)
            for of in ("scan", "attention", "emphasised")
        ]
        np.testing.assert_array_equal(parts[0], scan.sinogram[k].numpy())
        np.testing.assert_allclose(parts[2], parts[0] * parts[1], rtol=1e-6)
        assert (parts[1].max() > 2.4) == (k > 0) and parts[1].min() == 1
    assert one.state()["attention"]["max"] == pytest.approx(2.5)


def test_what_is_not_there_is_said(page, one):
    for path in (
        "/planes/3/labels",
        "/planes/-1/labels",
        "/planes/x/sinogram",
        "/jobs/j9",
        "/export/passwd",
        "/nothing",
    ):
        assert "error" in page.get(one.base + path).json() and page.get(one.base + path).status_code == 404, path
    assert page.get(one.base + "/planes/0/labels?of=all").status_code == 400
    assert page.get("/api/sessions/nobody").status_code == 404
    assert page.put(one.base).status_code == 405
    assert page.delete(one.base).status_code == 200
    assert page.get(one.base).status_code == 404
    Session(page)


# -- what is too large, or hostile -------------------------------------------------------------------------------------


def test_bodies_are_cut_off_while_they_come(page, one, monkeypatch):
    monkeypatch.setattr(server, "MAX_BODY", 1000)
    monkeypatch.setattr(server, "MAX_UPLOAD", 5000)
    for path, most in (("/edits", 1000), ("/upload?name=a.json", 5000)):
        answer = page.post(one.base + path, content=b"x" * (most + 1))
        assert answer.status_code == 413 and "sent" in answer.json()["error"]
        assert page.post(one.base + path, content=b"x" * most).status_code == 400


@pytest.mark.parametrize(
    "body",
    [
        *(b"[1]", b"{", b"nonsense", b'{"op": NaN}', b"[" * 200_000, b'{"a":' * 100_000, b"\xff\xfe", b'{"op": 1e999}'),
        *(b'{"op": "strength", "region": "r1", "value": 1e999}', b'{"op": "strength", "value": ' + b"9" * 5000 + b"}"),
    ],
)
def test_hostile_json_is_refused(one, body):
    for path in ("/edits", "/jobs"):
        answer = one.page.post(one.base + path, content=body)
        assert answer.status_code == 400 and "\n" not in answer.json()["error"], (path, answer.text)
    assert one.state()["version"] == 0


def nifti(array: np.ndarray, pixel: float = 10.0, packed: bool = True) -> bytes:
    content = nibabel.Nifti1Image(array, np.diag([-pixel, -pixel, -8.0, 1.0])).to_bytes()
    return gzip.compress(content) if packed else content


def test_label_maps_and_shapes_become_regions(one):
    exported = one.edit("draw", shape=ELLIPSE, planes=[1, 2], strength=2.0, kind="hot", name="liver")
    document, labels = one.get("/export/regions.json"), one.get("/export/roi.nii.gz")
    state = one.upload("mine.json", document)
    assert state["regions"][1]["hash"] == exported["regions"][0]["hash"] and state["regions"][1]["source"] == "file"
    state = one.upload("labels.nii.gz", labels)
    again = state["regions"][2]
    assert (again["name"], again["kind"], again["strength"], again["planes"]) == ("liver", "hot", 2.0, [1, 2])
    assert again["voxels"] == pytest.approx(exported["regions"][0]["voxels"], rel=0.05)
    assert one.upload("plain.nii", gzip.decompress(labels))["regions"][3]["hash"] == again["hash"]
    assert len(one.edit("undo")["regions"]) == 3


def test_hostile_files_are_refused(one):
    bomb = nibabel.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4))
    bomb.header.set_data_shape((4000, 4000, 4000))
    head = bytes(bomb.header.binaryblock) + bytes(4)
    small = {"type": "pen", "points_mm": [[k % 200, 0] for k in range(9000)], "width_mm": 400}
    packed = b64encode(zlib.compress(bytes(1 << 24))).decode()

    def regions(**one) -> bytes:
        return json.dumps({"allpet_regions": 1, "regions": [one]}).encode()

    cases = {
        "bomb.nii.gz": gzip.compress(head + bytes(1 << 20)),
        "bomb.nii": head,
        "large.nii.gz": gzip.compress(nibabel.Nifti1Image(np.zeros((410,) * 3, np.uint8), np.eye(4)).to_bytes(), 1),
        "negative.nii": head[:42] + (-5).to_bytes(2, "little", signed=True) + head[44:],
        "cut.nii.gz": nifti(np.ones((8, 8, 3), np.uint8))[:60],
        "empty.nii.gz": b"",
        "text.nii.gz": b"not packed",
        "nan.nii.gz": nifti(np.full((8, 8, 3), np.nan, np.float32)),
        "fractions.nii.gz": nifti(np.full((8, 8, 3), 1.5, np.float32)),
        "nothing.nii.gz": nifti(np.zeros((8, 8, 3), np.uint8)),
        "many.nii.gz": nifti(np.arange(8 * 8 * 8, dtype=np.int16).reshape(8, 8, 8)),
        "flat.nii.gz": nifti(np.ones((8, 8), np.uint8)),
        "deep.json": b"[" * 100_000,
        "deep2.json": b'{"allpet_regions": 1, "regions": [{"shapes": ' + b"[" * 50_000,
        "list.json": b"[]",
        "nan.json": regions(shapes=[ELLIPSE], strength=float("nan")),
        "types.json": regions(shapes={"type": "ellipse"}, name=[1]),
        "shape.json": regions(shapes=[ELLIPSE | {"type": ["ellipse"]}]),
        "shape2.json": regions(shapes=[17]),
        "slow.json": regions(shapes=[small] * 255),
        "points.json": regions(shapes=[{"type": "polygon", "points_mm": [[0, {}], 3, "x"]}]),
        "box.json": regions(voxels={"start": [0, 0, 0], "shape": [10**6, 10**6, 10**6], "zlib": packed}),
        "box2.json": regions(voxels={"start": [0, 0, 0], "shape": [1, 2, 2], "zlib": packed}),
        "box3.json": regions(voxels={"start": [[0], 0, 0], "shape": [1, 2, {}], "zlib": 7}),
        "empty.json": b"",
    }
    began = time.perf_counter()
    for name, content in cases.items():
        message = one.upload(name, content, 400)["error"]
        assert ("at most 67108864" in message) == (name in ("large.nii.gz", "bomb.nii.gz", "bomb.nii")), message
        assert name in message and "\n" not in message and "/tmp" not in message, message
    assert time.perf_counter() - began < 20
    assert one.state()["version"] == 0
    for name in ("a.exe", "../a.json", "/etc/a.json", "a/b.json", ".json", "", "a" * 300 + ".json", "a\x00.json"):
        assert one.page.post(one.base + "/upload", params={"name": name}, content=b"{}").status_code == 400, name


# -- sessions ----------------------------------------------------------------------------------------------------------


def test_sessions_do_not_see_one_another(page):
    first, second = Session(page, scan="one.zarr", fresh=True), Session(page, scan="one.zarr", fresh=True)
    other = Session(page, scan="two.hs", fresh=True)
    first.edit("draw", shape=ELLIPSE, strength=4.0, name="mine")
    assert second.state() == second.first and other.state() == other.first
    assert np.frombuffer(second.get("/planes/1/sinogram?of=attention"), "<f4").max() == 1
    assert not np.frombuffer(second.get("/planes/1/labels"), np.uint8).any()
    assert b"mine" in first.get("/export/audit.jsonl") and b"mine" not in second.get("/export/audit.jsonl")
    job = first.post("/jobs", {"task": "low-dose", "planes": [0, 0]})["job"]
    assert first.finished(job)["state"] == "done"
    second.get(f"/jobs/{job}", 404)
    second.get(f"/jobs/{job}/image.nii.gz", 404)
    assert page.delete(f"{second.base}/jobs/{job}").status_code == 404
    for session in (first, second, other):
        page.delete(session.base)


def test_the_session_that_nobody_uses_gives_way(folder, tmp_path):
    busy = client(folder, tmp_path)
    kept = [Session(busy, fresh=True) for _ in range(16)]
    answer = busy.post("/api/sessions", json={})
    assert answer.status_code == 429 and "16 sessions" in answer.json()["error"]
    running = True
    idle = client(folder, tmp_path, FakeModel(lambda: running), idle_s=0.0)
    kept = [Session(idle, fresh=True) for _ in range(16)]
    job = kept[0].post("/jobs", {"task": "low-dose"})["job"]
    for session in kept[2:]:
        session.state()
    Session(idle, fresh=True)
    assert idle.get(kept[1].base).status_code == 404  # the oldest that runs no job
    assert idle.get(kept[0].base).status_code == 200
    running = False
    assert kept[0].finished(job)["state"] == "done"


def test_a_scan_that_changed_on_the_disk_is_not_mixed_with_the_old_one(tmp_path):
    page = client(scans(tmp_path / "scans"))
    session = Session(page, scan="two.hs")
    session.edit("draw", shape=ELLIPSE)
    scan = read(tmp_path / "scans" / "two.hs")
    write(scan.with_sinogram(scan.sinogram + 1), tmp_path / "scans" / "two.hs")
    session.state()
    page.app.sessions.library._loaded.clear()  # as if other scans had been opened meanwhile
    assert page.get(session.base).status_code == 409
    assert hashes(Session(page, scan="two.hs").first) == []


def test_many_at_once_get_what_they_alone_would_get(page):
    def work(number: int) -> list:
        session = Session(page, scan="one.zarr", fresh=True)
        for k in range(5):
            session.edit("draw", shape=ELLIPSE | {"centre_mm": [10 * number, 10 * k]}, strength=0.1 + number)
            session.get(f"/planes/{k % PLANES}/sinogram?of=emphasised")
        session.edit("undo")
        found = hashes(session.state())
        page.delete(session.base)
        return found

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(work, range(4)))
    assert together == [work(number) for number in range(4)] and all(len(one) == 4 for one in together)
