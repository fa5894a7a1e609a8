"""``allpet attend`` and ``allpet apply --roi``: files, undoing from files, provenance, errors."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from allpet import audit
from allpet.cli import main
from allpet.errors import AllpetError
from allpet.geometry import ParallelBeam, RingBeam
from allpet.io import read, write
from allpet.mask.outline import draw
from allpet.project import Projector
from allpet.recon.whole import image_grid_of
from allpet.scan import Scan
from model_support import tiny

FILES = ["image.nii.gz", "roi.nii.gz", "regions.json", "attention.hs", "emphasised.hs", "audit.jsonl", "report.html"]
BEAM = ParallelBeam(40, 48, 5.0)
SPOT = {"type": "ellipse", "centre_mm": [40.0, 20.0], "axes_mm": [16.0, 12.0]}


def body(native=BEAM) -> Scan:
    """A disk with a hot spot on the patient's left, two planes."""
    beam, grid = image_grid_of(native)
    wide = draw({"type": "ellipse", "centre_mm": [0, 0], "axes_mm": [90, 70]}, grid)
    image = torch.from_numpy(wide + 8 * draw(SPOT, grid))[None].expand(2, -1, -1)
    expected = Projector(beam, grid)(image)
    if isinstance(native, RingBeam):
        from allpet.scan.carry import Carrier

        expected = Carrier(native, beam).up(expected)
    counts = torch.poisson(expected * 0.3, generator=torch.Generator().manual_seed(2))
    return Scan(counts, native, tracer="FDG", region="brain", counts_per_unit=0.3, plane_mm=3.0)


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    write(body(), tmp_path / "scan.hs")
    return tmp_path / "scan.hs"


@pytest.mark.parametrize("native", [BEAM, RingBeam(63, 86, 200.0, 9)])
def test_what_the_image_suggests_is_emphasised_and_undone_from_the_files(native, tmp_path, capsys):
    write(body(native), tmp_path / "scan.hs")
    out = tmp_path / "out"
    assert main(["attend", str(tmp_path / "scan.hs"), "--out", str(out)]) == 0
    assert capsys.readouterr().out.split() == [str(out / name) for name in FILES]
    weights, emphasised, original = (
        read(p) for p in (out / "attention.hs", out / "emphasised.hs", tmp_path / "scan.hs")
    )
    assert weights.unit == "1" and float(weights.sinogram.max()) > 1.2 and float(weights.sinogram.min()) > 0
    torch.testing.assert_close(emphasised.sinogram / weights.sinogram, original.sinogram, rtol=3e-7, atol=0)
    labels, image = nibabel.load(out / "roi.nii.gz"), read(out / "image.nii.gz")
    assert np.allclose(labels.affine, nibabel.load(out / "image.nii.gz").affine)
    found = json.loads((out / "regions.json").read_text())["regions"]
    assert len(found) <= 12 and any(one["kind"] == "hot" and one["why"] for one in found)
    hottest = draw(SPOT, image.grid) > 0.9
    planes = np.asarray(labels.dataobj).transpose(2, 1, 0)
    assert (planes[0][hottest] > 0).mean() > 0.8
    line = audit.read(out / "audit.jsonl")[0]
    assert line["command"].startswith("allpet attend") and len(line["regions"]) == len(found)


def test_a_region_of_ones_own_and_its_strength(scan, tmp_path):
    roi = {"allpet_regions": 1, "regions": [{"name": "spot", "shapes": [SPOT], "planes": [1, 1], "strength": 0.5}]}
    (tmp_path / "roi.json").write_text(json.dumps(roi))
    words = ["attend", str(scan), "--roi", str(tmp_path / "roi.json"), "--out"]
    assert main([*words, str(tmp_path / "a")]) == 0
    assert main([*words, str(tmp_path / "b"), "--strength", "-0.8"]) == 0
    first, second = (read(tmp_path / name / "attention.hs").sinogram for name in "ab")
    assert torch.equal(first[0], torch.ones(BEAM.shape)) and float(first[1].max()) == pytest.approx(1.5)
    assert float(second[1].min()) == pytest.approx(0.2, rel=1e-5)
    again = ["attend", str(scan), "--roi", str(tmp_path / "a" / "roi.nii.gz"), "--out", str(tmp_path / "c")]
    assert main(again) == 0
    third = read(tmp_path / "c" / "attention.hs").sinogram
    assert float(third[1].max()) == pytest.approx(1.5), "the label map remembers its strength"
    assert float((third - first).abs().mean()) < 0.01


def test_the_same_folder_twice_keeps_the_audit(scan, tmp_path):
    for _ in range(2):
        assert main(["attend", str(scan), "--out", str(tmp_path / "out")]) == 0
    assert len(audit.read(tmp_path / "out" / "audit.jsonl")) == 2


def test_where_one_file_cannot_be_written_the_older_ones_stay(scan, tmp_path, capsys, monkeypatch):
    out = tmp_path / "out"
    words = ["attend", str(scan), "--out", str(out)]
    assert main(words) == 0
    older = {path.name: path.read_bytes() for path in out.iterdir()}

    def full(folder: Path, attended: object) -> None:
        raise AllpetError(f"{folder / 'image.nii.gz'}: cannot be written (No space left on device)")

    monkeypatch.setattr("allpet.report.attended.write_planes", full)
    capsys.readouterr()
    assert main([*words, "--strength", "3"]) == 2
    assert capsys.readouterr().err == f"error: {out / 'image.nii.gz'}: cannot be written (No space left on device)\n"
    assert {path.name: path.read_bytes() for path in out.iterdir()} == older


def test_a_task_with_a_region_says_what_became_of_it(scan, tmp_path, capsys):
    tiny().save_pretrained(tmp_path / "model")
    roi = {"allpet_regions": 1, "regions": [{"name": "spot", "kind": "hot", "shapes": [SPOT]}]}
    (tmp_path / "roi.json").write_text(json.dumps(roi))
    out = tmp_path / "out.hs"
    words = ["apply", "low-dose", str(scan), "--out", str(out), "--roi", str(tmp_path / "roi.json"), "--images"]
    assert main([*words, "--samples", "2", "--model", str(tmp_path / "model")]) == 0
    printed = capsys.readouterr().out.split()
    for name in ("out-regions.json", "out-audit.jsonl", "out-image-change.nii.gz", "out-std.hs"):
        assert str(tmp_path / name) in printed and (tmp_path / name).is_file()
    table = json.loads((tmp_path / "out-regions.json").read_text())
    row = table["regions"][0]
    assert (table["task"], row["name"], row["unit"]) == ("low-dose", "spot", "kBq/mL")
    assert row["before"]["mean"] > 3 and row["std"] > 0 and row["without"] != row["after"]
    line = audit.read(tmp_path / "out-audit.jsonl")[0]
    assert line["what"] == "applied low-dose" and line["seed"] == 0 and line["model_hash"]


def test_bad_commands_leave_nothing(scan, tmp_path, capsys):
    (tmp_path / "bad.json").write_text("{}")
    (tmp_path / "file").write_text("x")
    for words, message in (
        ([str(scan), "--strength", "-1"], "above -1"),
        ([str(scan), "--roi", str(tmp_path / "bad.json")], "holds no regions"),
        ([str(scan), "--roi", str(tmp_path / "none.nii.gz")], "does not exist"),
        ([str(tmp_path / "none.hs")], "does not exist"),
    ):
        assert main(["attend", *words, "--out", str(tmp_path / "out")]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1 and message in error
        assert not (tmp_path / "out").exists()
    assert main(["attend", str(scan), "--out", str(tmp_path / "file")]) == 2
    assert "is a file" in capsys.readouterr().err
