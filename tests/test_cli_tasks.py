"""The commands of the tasks, end to end with a small untrained model: files, names, provenance, errors."""

import json
from pathlib import Path

import pytest
import torch

from allpet.cli import main
from allpet.io import read
from allpet.scan import Image, Scan
from model_support import tiny

SMALL = ["--views", "32", "--bins", "32"]
CASES = {
    "low-dose": (["--tracer", "FDG", "--dose-fraction", "0.1"], [], {"": Scan, "-std": Scan}),
    "attenuation": (["--tracer", "FDG"], [], {"": Scan, "-std": Scan, "-mumap": Image}),
    "delayed": (["--tracer", "FDG"], ["--delay-minutes", "90"], {"": Scan, "-std": Scan, "-retention": Image}),
    "convert": (["--tracer", "FDG", "--to", "PSMA"], ["--to", "PSMA"], {"": Scan, "-std": Scan}),
    "separate": (["--tracer", "FDG + PSMA"], ["--images"], {"": Scan, "-std": Scan, "-second": Scan, "-image": Image}),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tiny().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("task", CASES)
def test_every_task_writes_what_it_should_and_adapts(task, model, tmp_path, capsys):
    simulation, options, files = CASES[task]
    store, out = str(tmp_path / "pairs.zarr"), tmp_path / "out.hs"
    words = ["simulate", store, "-n", "2", "--region", "brain", "--task", task, "--slices-per-subject", "1"]
    assert main([*words, *SMALL, *simulation, "--workers", "1"]) == 0
    words = ["apply", task, store, "--out", str(out), "--samples", "2", *options, "--model"]
    assert main([*words, str(model)]) == 0
    printed = capsys.readouterr().out.split()
    for suffix, kind in files.items():
        path = out.with_name(f"out{suffix}" + (".nii.gz" if kind is Image else ".hs"))
        assert str(path) in printed and path.is_file()
        value = read(path)
        assert isinstance(value, kind) and len(value) == 2
    facts = json.loads(read(out).header["provenance"])
    assert facts["command"].startswith(f"allpet apply {task}") and facts["seed"] == 0
    mine = tmp_path / "mine"
    assert main(["adapt", task, "--pairs", store, "--out", str(mine), "--max-steps", "2", "--model", str(model)]) == 0
    assert main([*words, str(mine)]) == 0


def test_planes_are_restored_together_or_apart_as_told(model, tmp_path, capsys):
    store, scan = str(tmp_path / "s.zarr"), str(tmp_path / "scan.hs")
    words = ["simulate", store, "-n", "4", "--region", "brain", "--task", "low-dose", "--slice-mm", "4"]
    assert main([*words, *SMALL, "--workers", "1"]) == 0
    assert main(["convert", store, scan]) == 0
    header = Path(scan).read_text()
    assert "; allpet neighbours := no" in header  # the samples of a store need not be
    Path(scan).write_text(header.replace("; allpet neighbours := no\n", ""))
    found = {}
    for source, flag in ((store, None), (store, "--neighbours"), (scan, None), (scan, "--no-neighbours")):
        out = tmp_path / f"{len(found)}.hs"
        words = ["apply", "low-dose", source, "--out", str(out), "--samples", "0", "--model", str(model)]
        capsys.readouterr()
        assert main([*words, *([flag] if flag else [])]) == 0
        together = "together with their neighbours" in capsys.readouterr().err
        found[Path(source).suffix, flag] = read(out).sinogram
        assert together == (flag == "--neighbours" or (source == scan and flag is None))
        assert read(out).neighbours == together
    assert torch.equal(found[".zarr", None], found[".hs", "--no-neighbours"])
    assert torch.equal(found[".zarr", "--neighbours"], found[".hs", None])
    assert not torch.equal(found[".zarr", None], found[".hs", None])
    words = ["apply", "low-dose", store, "--out", str(tmp_path / "o.zarr"), "--workers", "1", "--model", str(model)]
    assert main([*words, "--neighbours"]) == 2
    assert "--neighbours looks at all planes together; leave out --workers" in capsys.readouterr().err
    assert not (tmp_path / "o.zarr").exists()


def test_bad_task_commands_leave_nothing(model, tmp_path, capsys):
    store, out = str(tmp_path / "pairs.zarr"), tmp_path / "out.hs"
    assert main(["simulate", store, "-n", "1", "--task", "delayed", *SMALL, "--workers", "1"]) == 0
    for words, message in (
        (["apply", "magic", store, "--out", str(out)], "task 'magic' is unknown; known: low-dose, attenuation"),
        (["apply", "convert", store, "--out", str(out), "--model", str(model)], "needs the tracer that is wanted"),
        (["apply", "delayed", store, "--to", "PSMA", "--out", str(out), "--model", str(model)], "it is for convert"),
        (["apply", "delayed", store, "--out", str(tmp_path / "x.nii.gz")], "its ending stands for image"),
        (["adapt", "convert", "--pairs", store, "--out", str(tmp_path / "m"), "--model", str(model)], "needs its own"),
        (
            ["adapt", "delayed", "--pairs", "nowhere.zarr", "--out", str(tmp_path / "m")],
            "nowhere.zarr: there is no such dataset store",
        ),
    ):
        capsys.readouterr()
        assert main(words) == 2
        err = capsys.readouterr().err
        assert message in err and err.count("error:") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["pairs.zarr"]
