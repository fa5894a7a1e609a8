"""The command line end to end on small files; a bad input is one line, exit code 2, nothing written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from allpet import __version__
from allpet.cli import main
from allpet.errors import AllpetError
from allpet.geometry import ImageGrid, ParallelBeam
from allpet.io import read, write
from allpet.io.store import open_store
from allpet.model import Result
from allpet.scan import Image, Scan
from allpet.scan.units import ACTIVITY_MM
from allpet.terminal import beside_name

SMALL = ["--views", "32", "--bins", "32"]
needs_data = pytest.mark.skipif("ALLPET_DATA" not in os.environ, reason="ALLPET_DATA is unset")


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit code, stdout, stderr of one command in this process."""
    try:
        code = main([str(a) for a in arguments])
    except SystemExit as stop:
        code = int(stop.code or 0)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture
def store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    path = tmp_path / "few.zarr"
    task = ["--task", "low-dose", "--dose-fraction", 0.05]
    code, out, err = run(capsys, "simulate", path, "--region", "chest", "-n", 2, *SMALL, *task, "--seed", 3)
    assert (code, out.strip(), err) == (0, str(path), "")
    return path


def test_version_and_help(capsys: pytest.CaptureFixture[str]):
    assert run(capsys, "--version") == (0, f"allpet {__version__}\n", "")
    code, out, _ = run(capsys, "--help")
    assert code == 0
    for command in ("demo", "info", "convert", "simulate", "train", "generate", "apply", "recon", "evaluate"):
        assert command in out
        assert run(capsys, command, "--help")[0] == 0


@pytest.mark.parametrize(
    "words", [["nonsense"], ["attend", "x.hs"], [], ["generate"], ["recon", "x.hs", "--method", "y"]]
)
def test_wrong_usage_ends_with_2(words: list[str], capsys: pytest.CaptureFixture[str]):
    code, _, err = run(capsys, *words)
    assert code == 2 and "Traceback" not in err


def test_module_and_script_are_the_same_command():
    done = subprocess.run([sys.executable, "-m", "allpet", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"allpet {__version__}\n"


def test_simulated_store_has_what_the_contract_says(store: Path):
    opened = open_store(store)
    assert len(opened) == 2 and opened["sinogram"].shape == (2, 32, 32)
    assert {"observed", "attenuation", "background", "image", "mumap", "subject"} <= set(opened)
    facts = opened.attributes["provenance"]
    assert facts["seed"] == 3 and facts["allpet_version"] == __version__ and "simulate" in facts["command"]
    np.testing.assert_allclose(opened["dose_fraction"][:], 0.05)


def test_info_recon_evaluate_on_a_store(store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    code, out, _ = run(capsys, "info", store)
    assert code == 0 and "FDG" in out and "counts" in out
    image = tmp_path / "image.nii.gz"
    code, out, _ = run(capsys, "recon", store, "--out", image, "--method", "fbp")
    assert (code, out.strip()) == (0, str(image))
    assert read(image).array.shape == (2, 32, 32)
    code, out, _ = run(capsys, "evaluate", "file", store, "--truth", store, "--out", tmp_path / "scores")
    assert code == 0 and "PSNR" in out and "mirror seam" in out
    result = json.loads((tmp_path / "scores" / "evaluate.json").read_text())
    assert 0.9 < result["scores"]["nrmse"]["mean"] < 1  # the input, a twentieth of the dose, beside the truth
    assert (tmp_path / "scores" / "evaluate.png").stat().st_size > 1000


def test_provenance_survives_in_interfile(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    write(Scan.from_array(torch.rand(2, 24, 16), 4.0), tmp_path / "a.hs")
    assert run(capsys, "recon", tmp_path / "a.hs", "--out", tmp_path / "a.hv", "--method", "fbp")[0] == 0
    facts = json.loads(read(tmp_path / "a.hv").header["provenance"])
    assert facts["allpet_version"] == __version__ and "recon" in facts["command"]


class StubModel:
    """Stands for the model: what the command passes on and writes, not what the network does."""

    hash = "0123456789abcdef"

    @classmethod
    def from_pretrained(cls, folder: Path | None = None) -> StubModel:
        return cls()

    def generate(self, prompt: str, n: int = 1, seed: int = 0, **options: Any) -> Scan:
        if "brain" not in prompt:
            raise AllpetError(f"prompt '{prompt}' is unknown; known regions: brain")
        beam = ParallelBeam(options.get("views", 16), options.get("bins", 16), options.get("bin_mm", 2.0))
        planes = torch.rand(n, *beam.shape, generator=torch.Generator().manual_seed(seed))
        return Scan(planes, beam, unit=ACTIVITY_MM, tracer="FDG", isotope="18F", region="brain")

    def apply(self, task: str, scan: Scan, seed: int = 0, **options: Any) -> Result:
        if task != "low-dose":
            raise AllpetError(f"task '{task}' is unknown; known: low-dose")
        expected = scan.with_sinogram(scan.sinogram / options["dose_fraction"])
        return Result(expected, scan.with_sinogram(expected.sinogram.sqrt()))


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> None:
    import allpet.model

    monkeypatch.setattr(allpet.model, "AllPET", StubModel, raising=False)


@pytest.mark.parametrize("name", ["g.hs", "g.zarr"])
def test_generate_writes_planes_with_provenance(
    name: str, stub: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / name
    words = ["generate", "--prompt", "18F-FDG brain", "-n", 3, "--out", out, *SMALL, "--bin-mm", 4, "--seed", 7]
    assert run(capsys, *words) == (0, f"{out}\n", "")
    scan = read(out)
    assert isinstance(scan, Scan) and scan.sinogram.shape == (3, 32, 32) and scan.unit == ACTIVITY_MM
    assert scan.geometry == ParallelBeam(32, 32, 4.0) and scan.region == "brain"
    torch.testing.assert_close(scan.sinogram, StubModel().generate("brain", 3, 7, views=32, bins=32).sinogram)
    if name.endswith(".hs"):
        facts = json.loads(scan.header["provenance"])
    else:
        facts = open_store(out).attributes["provenance"]
    assert facts["seed"] == 7 and facts["model_hash"] == StubModel.hash and "18F-FDG brain" in facts["command"]


def test_apply_writes_the_expected_and_its_deviation(
    stub: None, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "full.hs"
    code, text, err = run(capsys, "apply", "low-dose", store, "--out", out, "--dose-fraction", 0.5)
    assert (code, err) == (0, "") and text.split() == [str(out), str(tmp_path / "full-std.hs")]
    expected, std, before = read(out), read(tmp_path / "full-std.hs"), read(store)
    torch.testing.assert_close(expected.sinogram, 2 * before.sinogram)
    torch.testing.assert_close(std.sinogram, expected.sinogram.sqrt())


def test_names_beside_the_output():
    assert beside_name(Path("a/b.hs"), "-std") == Path("a/b-std.hs")
    assert beside_name(Path("x.nii.gz"), "-mumap") == Path("x-mumap.nii.gz")


def _bad_input(kind: str, folder: Path) -> list[object]:
    """The command of one bad input, with the files it needs."""
    scan, out = folder / "scan.hs", folder / "out.nii.gz"
    write(Scan.from_array(torch.rand(2, 24, 16), 4.0), scan)
    if kind == "no such file":
        return ["recon", folder / "nowhere.hs", "--out", out]
    if kind == "header without data":
        (folder / "scan.s").unlink()
    if kind == "data too short":
        data = (folder / "scan.s").read_bytes()
        (folder / "scan.s").write_bytes(data[: len(data) // 2])
    if kind == "NaN":
        values = np.fromfile(folder / "scan.s", "<f4")
        values[5] = np.nan
        values.tofile(folder / "scan.s")
    if kind == "not a header":
        scan.write_bytes(bytes(range(256)))
    if kind == "unknown ending":
        return ["info", folder / "scan.s"]
    if kind == "list mode without header":
        (folder / "events.l").write_bytes(b"\0" * 12)
        return ["convert", folder / "events.l", folder / "out.hs"]
    if kind == "output ending":
        return ["recon", scan, "--out", folder / "out.hs"]
    if kind == "output folder":
        return ["recon", scan, "--out", folder / "none" / "out.nii.gz"]
    if kind == "image for scan":
        write(Image(torch.rand(1, 16, 16), ImageGrid(16, 4.0)), folder / "image.hv")
        return ["recon", folder / "image.hv", "--out", out]
    if kind == "mumap unit":
        write(Image(torch.full((2, 16, 16), 0.096), ImageGrid(16, 4.0), "1/mm"), folder / "mu.hv")
        return ["recon", scan, "--out", out, "--mumap", folder / "mu.hv"]
    if kind == "unknown region":
        return ["simulate", folder / "out.zarr", "--region", "knee"]
    if kind == "dose fraction":
        return ["simulate", folder / "out.zarr", "--task", "low-dose", "--dose-fraction", 2]
    if kind == "no samples":
        return ["simulate", folder / "out.zarr", "-n", 0]
    if kind == "unknown prompt":
        return ["generate", "--prompt", "18F-FDG knee", "--out", folder / "out.hs"]
    if kind == "unknown task":
        return ["apply", "colour", scan, "--out", folder / "out.hs", "--dose-fraction", 0.5]
    return ["recon", scan, "--out", out]


BAD = [
    "no such file",
    "header without data",
    "data too short",
    "NaN",
    "not a header",
    "unknown ending",
    "list mode without header",
    "output ending",
    "output folder",
    "image for scan",
    "mumap unit",
    "unknown region",
    "dose fraction",
    "no samples",
    "unknown prompt",
    "unknown task",
]


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_input_is_one_line_and_leaves_nothing(
    kind: str, stub: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    words = _bad_input(kind, tmp_path)
    before = sorted(tmp_path.iterdir())
    code, out, err = run(capsys, *words)
    assert code == 2 and out == ""
    assert err.startswith("error: ") and err.count("\n") == 1 and len(err) < 400
    assert sorted(tmp_path.iterdir()) == before


@needs_data
def test_real_list_mode_keeps_every_count(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    source = Path(os.environ["ALLPET_DATA"]) / "mmr_fdg_listmode" / "small_listmode_file.l"
    code, _, err = run(capsys, "convert", source, tmp_path / "head.hs")
    assert (code, err) == (0, "")
    scan = read(tmp_path / "head.hs")
    assert scan.sinogram.shape == (127, 252, 344)
    assert float(scan.sinogram.sum(dtype=torch.float64)) == 218_881
    assert float(scan.delayeds.sum(dtype=torch.float64)) == 35_320
    out = tmp_path / "head.nii.gz"
    words = ["recon", tmp_path / "head.hs", "--out", out, "--group", 64, "--iterations", 2, "--size", 96]
    assert run(capsys, *words)[0] == 0
    image = read(out)
    middle = image.array[0] if float(image.array[0].sum()) > float(image.array[1].sum()) else image.array[1]
    inner = middle[32:64, 32:64].sum() / middle.sum()
    assert float(inner) > 0.6


def test_a_closed_pipe_is_no_error(store: Path):
    script = f"{sys.executable} -m allpet info {store} | head -c 1"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert done.stderr == ""


def test_generate_with_a_mask_writes_parts_that_sum_to_the_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    import nibabel
    import numpy as np

    from model_support import tiny

    tiny().save_pretrained(tmp_path / "m")
    weights = np.zeros((40, 40, 1), np.float32)
    weights[10:20, 12:30] = 1
    nibabel.save(nibabel.Nifti1Image(weights, np.diag([6.0, 6.0, 6.0, 1.0])), tmp_path / "mask.nii.gz")
    words = ["generate", "--prompt", "FDG brain", "-n", 2, "--steps", 3, "--model", tmp_path / "m"]
    out = tmp_path / "g.hs"
    code, text, err = run(capsys, *words, "--out", out, "--parts", "--mask", tmp_path / "mask.nii.gz")
    assert (code, err) == (0, "")
    whole, positive, negative, share = (read(Path(line)).sinogram for line in text.split())
    assert torch.equal(positive + negative, whole) and 0 < float(share.max()) <= 1
    code, text, err = run(capsys, *words, "--out", tmp_path / "r.hs", "--roi", tmp_path / "mask.nii.gz")
    assert (code, err) == (0, "") and not torch.equal(read(Path(text.strip())).sinogram, whole)
    for options, message in (
        (["--mask", tmp_path / "mask.nii.gz"], "give --parts with it"),
        (["--parts", "--roi", tmp_path / "mask.nii.gz"], "do not go together"),
        (["--roi", tmp_path / "g.hs"], "is a sinogram; give an image"),
    ):
        code, text, err = run(capsys, *words, "--out", tmp_path / "bad.hs", *options)
        assert code == 2 and message in err and not (tmp_path / "bad.hs").exists()
