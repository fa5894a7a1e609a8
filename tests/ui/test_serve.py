"""The command, and the server on a real socket."""

from __future__ import annotations

import http.client
import random
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
import uvicorn

from allpet.cli import main
from allpet.ui.jobs import Jobs
from allpet.ui.library import Library
from allpet.ui.serve import bind
from allpet.ui.server import build
from allpet.ui.sessions import Sessions
from ui_support import ELLIPSE, PLANES, SIZE, TOKEN, FakeModel, scans


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = scans(tmp_path_factory.mktemp("scans"))
    listening = bind("127.0.0.1", 0)
    app = build(Sessions(Library(folder), Jobs(FakeModel())), TOKEN, "127.0.0.1")
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    thread.join(10)
    assert not thread.is_alive()


def test_200_mixed_requests_8_at_a_time(address):
    def user(seed: int) -> list[int]:
        draw, codes = random.Random(seed), []
        with httpx.Client(base_url=address, headers={"X-Token": TOKEN}, timeout=60) as page:
            state = page.post("/api/sessions", json={"fresh": True}).json()
            base = f"/api/sessions/{state['session']}"
            page.post(base + "/edits", json={"op": "draw", "shape": ELLIPSE})
            for _ in range(25):
                plane, choice = draw.randrange(PLANES), draw.randrange(7)
                if choice == 0:
                    shape = ELLIPSE | {"centre_mm": [draw.uniform(-90, 90), draw.uniform(-90, 90)]}
                    answer = page.post(base + "/edits", json={"op": "draw", "shape": shape, "planes": [plane, plane]})
                elif choice == 1:
                    edit = {"op": "strength", "region": "r1", "value": draw.uniform(0, 5)}
                    answer = page.post(base + "/edits", json=edit)
                elif choice == 2:
                    answer = page.get(base + f"/planes/{plane}/labels")
                    assert len(answer.content) == SIZE**2
                elif choice == 3:
                    answer = page.get(base + "/image.nii.gz")
                elif choice == 4:
                    answer = page.get(base + "/export/regions.json")
                elif choice == 5:
                    answer = page.get(base)
                else:
                    answer = page.get(base + f"/planes/{plane}/sinogram?of=emphasised")
                    assert np.isfinite(np.frombuffer(answer.content, "<f4")).all()
                codes.append(answer.status_code)
            strength = page.get(base).json()["regions"][0]["strength"]
            page.post(base + "/edits", json={"op": "strength", "region": "r1", "value": seed + 1})
            weights = np.frombuffer(page.get(base + "/planes/0/sinogram?of=attention").content, "<f4")
            assert weights.max() >= seed + 2 and 0 <= strength <= 5
            codes.append(page.delete(base).status_code)
        return codes

    with ThreadPoolExecutor(8) as pool:
        codes = [code for part in pool.map(user, range(8)) for code in part]
    assert len(codes) == 208 and set(codes) == {200}


def test_what_is_too_large_is_cut_off_while_it_comes(address):
    with httpx.Client(base_url=address, headers={"X-Token": TOKEN}, timeout=60) as page:
        state = page.post("/api/sessions", json={"fresh": True}).json()
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=20)
    path = f"/api/sessions/{state['session']}/upload?name=a.json"
    connection.putrequest("POST", path)
    connection.putheader("X-Token", TOKEN)
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    piece, sent = b"%x\r\n" % (1 << 20) + bytes(1 << 20) + b"\r\n", 0
    try:
        while sent < 200:  # MiB, with no end
            connection.send(piece)
            sent += 1
    except OSError:
        pass
    assert 64 <= sent < 200
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=20)
    connection.putrequest("POST", path)
    connection.putheader("X-Token", TOKEN)
    connection.putheader("Content-Length", str(1 << 40))
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()


def start(*words: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "allpet", "ui", *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_the_command_says_where_it_is_and_ends_when_interrupted(tmp_path):
    folder = scans(tmp_path / "scans")
    process = start(folder / "two.hs", "--port", 0, "--no-browser")
    try:
        line = process.stdout.readline().strip()
        found = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/\?token=([\w-]{43})", line)
        assert found, line + process.stderr.read()
        with httpx.Client(base_url=f"http://127.0.0.1:{found[1]}", timeout=60) as page:
            assert page.get(f"/?token={found[2]}").status_code == 200
            info = page.get("/api/info", headers={"X-Token": found[2]}).json()
            assert info["scans"] == ["two.hs"]
            assert page.get("/api/info").status_code == 403
            evil = {"X-Token": found[2], "Host": "evil.example"}
            assert page.get("/api/info", headers=evil).status_code == 403
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
        assert (process.returncode, out, err) == (0, "", "")
    finally:
        process.kill()
        process.wait()


def test_a_bad_start_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch):
    (tmp_path / "broken.hs").write_text("nonsense")
    (tmp_path / "empty").mkdir()
    (tmp_path / "note.txt").write_text("")
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    taken.listen()
    port = taken.getsockname()[1]
    cases = [
        ([tmp_path / "none.hs"], "does not exist"),
        ([tmp_path / "empty"], "holds no scan"),
        ([tmp_path / "note.txt"], "holds no scan"),
        ([tmp_path / "broken.hs"], "broken.hs"),
        (["--port", port], f"port {port}"),
        (["--port", 70000], "65535"),
        (["--host", "203.0.113.7", "--port", 0], "203.0.113.7"),
        (["--out", tmp_path / "note.txt"], "is a file"),
        (["--model", tmp_path / "empty"], "holds no model"),
    ]
    for words, said in cases:
        code = main(["ui", *map(str, words), "--no-browser"])
        out, err = capsys.readouterr()
        assert code == 2 and said in err and err.count("\n") == 1 and out == "", (words, err)
    taken.close()
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert main(["ui"]) == 2
    assert capsys.readouterr().err == "error: allpet ui needs its extra: pip install 'allpet[ui]'\n"


def test_everything_else_works_without_the_extra():
    code = "import sys; import allpet.cli; print([m for m in ('fastapi', 'uvicorn', 'torch') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
