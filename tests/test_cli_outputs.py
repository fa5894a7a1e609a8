"""No command destroys what it reads or leaves an old result beside a new one; what is wrong is said in a line."""

from pathlib import Path

import numpy as np
import pytest
import torch

from allpet.cli import main, usage_line
from allpet.errors import AllpetError
from allpet.geometry import ImageGrid, ParallelBeam, RingBeam
from allpet.io import read
from allpet.io.store import open_store
from allpet.save import save
from allpet.scan import Image, Scan
from allpet.scan.simulate import simulate, simulate_store
from model_support import tiny

SMALL = dict(views=32, bins=32, region="brain", slices_per_subject=1)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("model")
    tiny().save_pretrained(folder)
    return str(folder)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    simulate_store(tmp_path / "pairs.zarr", 2, task="low-dose", dose_fraction=0.5, **SMALL)
    return tmp_path / "pairs.zarr"


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """The one line of a command that ends with exit code 2."""
    try:
        code = main([str(word) for word in words])
    except SystemExit as stopped:
        code = int(stopped.code or 0)
    told = capsys.readouterr().err
    assert code == 2 and told.startswith("error: ") and told.count("\n") == 1, told
    return told


def test_inputs_are_not_written_over(pairs, model, tmp_path, capsys):
    known = sorted(open_store(pairs))
    again = tmp_path / "x" / ".." / "pairs.zarr"
    (tmp_path / "x").mkdir()
    for out in (pairs, again):
        assert "is the input itself" in refused(capsys, "apply", "low-dose", pairs, "--out", out, "--model", model)
    assert sorted(open_store(pairs)) == known
    ct = tmp_path / "out-mumap.nii.gz"
    save(Image(torch.full((1, 32, 32), 0.0096), ImageGrid(32, 8.0), "1/mm"), ct)
    words = ("apply", "attenuation", pairs, "--ct", ct, "--out", tmp_path / "out.hs", "--model", model)
    assert "is the input itself" in refused(capsys, *words)
    assert "is the input itself" in refused(capsys, "recon", pairs, "--mumap", ct, "--out", ct)


def test_a_result_is_not_named_like_a_part_of_another_scan(pairs, model, tmp_path, capsys):
    assert main(["convert", str(pairs), str(tmp_path / "one.hs")]) == 0
    assert "truth beside it stays in pairs.zarr" in capsys.readouterr().err
    before = read(tmp_path / "one.hs").attenuation
    for name in ("one-attenuation.hs", "one_randoms.hs"):
        told = refused(capsys, "apply", "low-dose", pairs, "--out", tmp_path / name, "--model", model)
        assert "would be read as a part of one.hs" in told
    assert torch.equal(read(tmp_path / "one.hs").attenuation, before)


def test_correction_factors_are_not_taken_for_attenuation(tmp_path):
    scan = Scan(torch.ones(1, 8, 9), ParallelBeam(8, 9, 4.0), attenuation=torch.full((1, 8, 9), 0.5))
    save(scan, tmp_path / "a.hs")
    data = tmp_path / "a-attenuation.s"
    data.write_bytes((1 / np.frombuffer(data.read_bytes(), "<f4")).astype("<f4").tobytes())
    with pytest.raises(AllpetError, match=r"attenuation reaches 2; factors .* are at most 1"):
        read(tmp_path / "a.hs")


def test_what_an_earlier_call_left_is_taken_away_and_nothing_else(pairs, model, tmp_path):
    words = ["apply", "low-dose", str(pairs), "--out", str(tmp_path / "r.hs"), "--model", model]
    assert main([*words, "--samples", "2", "--images"]) == 0
    assert main(["recon", str(tmp_path / "r.hs"), "--out", str(tmp_path / "r-mumap.nii.gz")]) == 0
    (tmp_path / "r-second.hs").write_text("someone else's")
    save(Image(torch.ones(1, 4, 4), ImageGrid(4, 8.0)), tmp_path / "r-retention.nii.gz")
    assert main([*words, "--samples", "0"]) == 0
    left = {path.name for path in tmp_path.iterdir()}
    assert not left & {"r-std.hs", "r-std.s", "r-image.nii.gz", "r-image-std.nii.gz"}
    assert left >= {"r-mumap.nii.gz", "r-second.hs", "r-retention.nii.gz"}  # not made by apply


def test_a_ring_scan_for_a_store_is_refused_before_the_work(model, tmp_path, capsys, monkeypatch):
    save(Scan(torch.ones(1, 28, 9), RingBeam(28, 9, 100.0)), tmp_path / "ring.hs")
    monkeypatch.setattr("allpet.model.AllPET.from_pretrained", lambda *_: pytest.fail("the work has begun"))
    words = ("apply", "low-dose", tmp_path / "ring.hs", "--out", tmp_path / "r.zarr", "--model", model)
    assert "holds evenly spaced sinograms" in refused(capsys, *words)


def test_a_store_is_copied_whole(pairs, tmp_path, capsys):
    assert main(["convert", str(pairs), str(tmp_path / "copy.zarr")]) == 0
    old, new = open_store(pairs), open_store(tmp_path / "copy.zarr")
    assert sorted(old) == sorted(new) and old.attributes["prompt"] == new.attributes["prompt"]
    assert all(np.array_equal(old.rows(name), new.rows(name)) for name in old)


def test_words_of_the_prompt_reach_the_result(model, tmp_path):
    scan = simulate(1, task="low-dose", tracer="FDG", dose_fraction=0.5, **SMALL).scan()
    scan.tracer = scan.region = scan.isotope = None
    save(scan, tmp_path / "bare.hs")
    words = ["apply", "low-dose", str(tmp_path / "bare.hs"), "--out", str(tmp_path / "r.hs"), "--model", model]
    assert main([*words, "--prompt", "FDG brain", "--samples", "0"]) == 0
    found = read(tmp_path / "r.hs")
    assert (found.tracer, found.region, found.isotope) == ("FDG", "brain", "18F")


def test_two_tracers_are_for_separate_alone(pairs, model, tmp_path, capsys):
    words = ("apply", "low-dose", pairs, "--out", tmp_path / "r.hs", "--model", model)
    assert "names two tracers" in refused(capsys, *words, "--prompt", "FDG + PSMA brain")
    scan = simulate(1, task="separate", tracer="FDG + PSMA", **SMALL).scan()
    assert any("two tracers" in note for note in tiny().apply("low-dose", scan, samples=0).notes)


def test_separated_tracers_have_their_own_facts_whatever_the_order():
    scan = simulate(1, task="separate", tracer="FDG + PSMA", **SMALL).scan()
    one, two = (
        tiny().apply("separate", scan, prompt=f"{words} brain", samples=0) for words in ("FDG + PSMA", "PSMA + FDG")
    )
    found = {}
    for result in (one, two):
        for part in (result.expected, result.extras["-second"]):
            found.setdefault(part.tracer, []).append(
                (part.counts_per_unit, part.injected_mbq, part.start_s, part.isotope)
            )
    assert found["FDG"][0] == found["FDG"][1] == (scan.counts_per_unit, scan.injected_mbq, scan.start_s, "18F")
    assert found["PSMA"][0] == found["PSMA"][1] and found["PSMA"][0][1:] == (None, None, "68Ga")


@pytest.mark.parametrize(
    "words, told",
    [
        (["train", "--data", "--out", "r"], "no data are named"),
        (["adapt", "low-dose", "--pairs", "--out", "r"], "no pairs are named"),
        (["recon", "x.hs", "--out", "y.hv", "--method", "art"], "invalid choice 'art' for argument '--method'"),
        (["evaluate", "low-dose", "--n", "0"], "Unrecognized or misplaced options: --n"),
        (["simulate", "z.zarr", "-n", "two"], "invalid literal for int"),
        (["recon", "x.hs", "--out", "y"], "this writes .hv, .nii.gz, .nii, .dicom"),
        (["nonsense"], "nonsense"),
        ([], "allpet --help"),
    ],
)
def test_usage_errors_are_one_line(words, told, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert told in refused(capsys, *words)
    assert not list(tmp_path.iterdir())


def test_a_seed_below_zero_and_a_single_view_are_one_line(pairs, model, tmp_path, capsys):
    words = ("apply", "low-dose", pairs, "--out", tmp_path / "r.hs", "--model", model)
    assert "seed is -1; it must not be negative" in refused(capsys, *words, "--seed", "-1")
    save(Scan(torch.ones(1, 1, 9), ParallelBeam(1, 9, 4.0)), tmp_path / "one.hs")
    assert "there is one view" in refused(capsys, "evaluate", "file", tmp_path / "one.hs")


def test_a_box_without_help_still_makes_a_sentence():
    assert usage_line("╭─ x ─╮\n│ what is wrong. │\n│ │\n│ more │\n╰──╯") == "what is wrong; see allpet --help"


@pytest.mark.parametrize("array", [np.ones((8, 9))[:, ::-1], np.ones((8, 9), ">f4"), np.ones((8, 9), "<i2")[::-1]])
def test_arrays_may_lie_in_memory_as_they_like(array):
    assert Scan.from_array(array, bin_mm=4.0).sinogram.dtype == torch.float32
    assert Image(np.ones((9, 9), array.dtype)[::-1], ImageGrid(9, 4.0)).array.shape == (1, 9, 9)


@pytest.mark.parametrize(
    "array", [np.ones((8, 9), complex), np.full((8, 9), "x"), torch.ones(8, 9, dtype=torch.cfloat)]
)
def test_what_is_no_number_is_refused(array):
    with pytest.raises(AllpetError, match="no real numbers"):
        Scan.from_array(array, bin_mm=4.0)


def test_regions_in_any_case():
    assert simulate(1, **{**SMALL, "region": "Brain"}).prompt["region"] == "brain"
