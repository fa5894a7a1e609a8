"""Facts of a scan decide its numbers: dose, time, order of tracers, position of planes and patient."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from allpet.cli import main
from allpet.errors import AllpetError
from allpet.geometry import ImageGrid, ParallelBeam
from allpet.io import read, writable
from allpet.io.interfile import write_sinogram
from allpet.io.place import not_an_input
from allpet.io.store import open_store
from allpet.recon.mumap import resample_mumap
from allpet.report.evaluate import scores
from allpet.save import save
from allpet.scan import Image, Scan
from allpet.scan.dynamic import Dynamic
from allpet.scan.kinetics import ISOTOPES
from allpet.scan.simulate import simulate, simulate_store
from allpet.task.neighbours import events, half_of
from allpet.task.planes import _apart
from allpet.terminal import as_scan
from model_support import tiny

SMALL = dict(views=32, bins=32, region="brain", slices_per_subject=1)


def scan_of(path):
    """The scan that a command makes of a store."""
    return as_scan(path, read(path))


def test_planes_of_different_doses_are_each_brought_to_the_full_dose(tmp_path):
    simulate_store(tmp_path / "a.zarr", 4, task="low-dose", seed=3, **SMALL)
    store = open_store(tmp_path / "a.zarr")
    shares, truth = (torch.from_numpy(store.rows(name)) for name in ("dose_fraction", "sinogram"))
    scan = scan_of(tmp_path / "a.zarr")
    assert scan.dose_fraction is None and shares.max() > 2 * shares.min()
    torch.testing.assert_close(scan.dose_fractions, shares.double())
    save(scan, tmp_path / "b.hs")
    save(scan, tmp_path / "c.zarr")
    for form in (scan, read(tmp_path / "b.hs"), scan_of(tmp_path / "c.zarr")):
        result = tiny().apply("low-dose", form, samples=2)
        assert not any("dose fraction" in note for note in result.notes)
        assert result.expected.dose_fraction == 1 and result.expected.dose_fractions is None
        ratio = result.expected.sinogram.sum((1, 2)) / truth.sum((1, 2))
        assert (ratio.log().abs() < 0.35).all()  # few counts are left, and the network is untrained
        one = tiny().apply("low-dose", form.planes(slice(1, 2)), samples=2, first_plane=1)
        torch.testing.assert_close(one.expected.sinogram, result.expected.sinogram[1:2], rtol=1e-3, atol=1e-3)
        assert one.std.sinogram.sum() == pytest.approx(float(result.std.sinogram[1].sum()), rel=0.01)
    with pytest.raises(AllpetError, match="dose fraction"):
        replace(scan, dose_fractions=shares[:2])
    with pytest.raises(AllpetError, match="above 0 and at most 1"):
        tiny().apply("low-dose", replace(scan, dose_fractions=shares + 1))


def test_tracers_are_told_apart_in_the_order_of_their_injection():
    scan = simulate(1, task="separate", tracer="FDG + PSMA", **SMALL).scan()
    usual = tiny().apply("separate", scan, samples=0)
    turned = tiny().apply("separate", scan, prompt="PSMA + FDG brain", samples=0)
    assert torch.equal(usual.expected.sinogram, turned.expected.sinogram)
    assert turned.expected.tracer == "FDG" and any("order of injection" in note for note in turned.notes)
    scan.tracer = None  # nothing but the prompt says the order
    alone = tiny().apply("separate", scan, prompt="PSMA + FDG brain", samples=0)
    assert alone.expected.tracer == "PSMA" and not any("order of injection" in note for note in alone.notes)


def test_a_later_frame_of_activity_at_injection_keeps_it():
    scan = simulate(1, task="low-dose", tracer="FDG", dose_fraction=0.5, **SMALL).scan()
    decay = float(ISOTOPES["18F"].decay(3600))
    for reference, share in (("injection", decay), ("start", 1.0), ("none", 1.0)):
        one = replace(scan, decay_reference=reference)
        later = tiny().apply("delayed", one, delay_minutes=60, samples=0).expected
        assert later.counts_per_unit == pytest.approx(scan.counts_per_unit * share)
    with pytest.raises(AllpetError, match="the scan says isotope 68Ga, but FDG is of 18F"):
        tiny().apply("delayed", replace(scan, isotope="68Ga"), delay_minutes=60)


def test_a_converted_scan_drops_what_the_header_says_of_the_old_isotope():
    scan = simulate(1, task="low-dose", tracer="FDG", dose_fraction=0.5, **SMALL).scan()
    scan.header = {"isotope gamma halflife (sec)": "6586.2", "!branching factor": "0.97", "study id": "7"}
    kept = {"study id": "7", "corrected for": "background"}
    assert tiny().apply("convert", scan, to="PSMA", samples=0).expected.header == kept
    assert len(scan.header) == 3


def test_frames_lend_only_where_they_hold_other_counts():
    counts = torch.ones(1, 6, 32, 32)
    frames = Dynamic(counts, counts, tuple(range(0, 600, 100)), (100.0,) * 6)
    scan = Scan(torch.ones(1, 32, 32), ParallelBeam(32, 32, 4.0), dynamic=frames)
    for start, duration, apart in ((600, None, True), (0, 600, False), (None, 600, False), (-600, 600, True)):
        assert _apart(replace(scan, start_s=start, duration_s=duration)) is apart


def test_a_mu_map_of_other_planes_is_met_where_it_lies():
    mumap = Image(torch.arange(1.0, 5)[:, None, None].expand(4, 8, 8) / 500, ImageGrid(8, 4.0), "1/mm", plane_mm=4.0)
    same = resample_mumap(mumap, mumap.grid, 4, 4.0)[:, 4, 4]
    half = resample_mumap(mumap, mumap.grid, 4, 2.0)[:, 4, 4]
    np.testing.assert_allclose(500 * same, [1, 2, 3, 4], rtol=1e-5)
    np.testing.assert_allclose(500 * half, [1.75, 2.25, 2.75, 3.25], rtol=1e-5)
    apart = resample_mumap(mumap, mumap.grid, 4, 2.0, stacked=False)[:, 4, 4]
    torch.testing.assert_close(apart, same)


def test_fractions_of_counts_are_not_lost():
    rng = np.random.default_rng(0)
    few = np.full((100, 100), 0.3, np.float32)
    assert events(few, rng).mean() == pytest.approx(0.3, abs=0.02)
    assert float(half_of(torch.from_numpy(few)[None], 0).mean()) == pytest.approx(0.15, abs=0.02)
    before = rng.bit_generator.state
    whole = np.array([[0.0, 3.0], [-1.0, 7.0]], np.float32)
    np.testing.assert_array_equal(events(whole, rng), [[0, 3], [0, 7]])
    assert rng.bit_generator.state == before


def test_formats_that_state_left_and_head_refuse_another_position(tmp_path, capsys):
    scan = Scan(torch.ones(3, 8, 9), ParallelBeam(8, 9, 4.0), header={"patient orientation": "feet_in"})
    image = Image(torch.ones(3, 8, 8), ImageGrid(8, 4.0), header={"patient rotation": "prone"})
    with pytest.raises(AllpetError, match="the patient lies prone; this format"):
        save(image, tmp_path / "a.nii.gz")
    save(image, tmp_path / "a.hv")
    assert "patient rotation := prone" in (tmp_path / "a.hv").read_text()
    save(scan, tmp_path / "a.hs")
    assert main(["recon", str(tmp_path / "a.hs"), "--out", str(tmp_path / "b.nii.gz")]) == 2
    assert "feet_in" in capsys.readouterr().err and not (tmp_path / "b.nii.gz").exists()
    assert main(["recon", str(tmp_path / "a.hs"), "--out", str(tmp_path / "b.hv")]) == 0


def test_files_of_others_are_neither_read_with_a_result_nor_written_over(tmp_path):
    scan = Scan(torch.ones(1, 8, 9), ParallelBeam(8, 9, 4.0))
    save(scan, tmp_path / "r-attenuation.hs")
    with pytest.raises(AllpetError, match=r"r-attenuation.hs: lies there already"):
        writable(tmp_path / "r.hs", ("sinogram",))
    save(replace(scan, attenuation=scan.sinogram), tmp_path / "own.hs")
    writable(tmp_path / "own.hs", ("sinogram",))  # its own parts are written anew
    write_sinogram(scan, tmp_path / "named.hs")
    text = (tmp_path / "named.hs").read_text().replace("named.s", "vol.s")
    (tmp_path / "named.hs").write_text(text)
    (tmp_path / "named.s").rename(tmp_path / "vol.s")
    with pytest.raises(AllpetError, match="is the input itself"):
        not_an_input(tmp_path / "vol.hs", tmp_path / "named.hs")
    not_an_input(tmp_path / "other.hs", tmp_path / "named.hs")


def test_images_of_other_pixels_are_not_compared():
    one, two = (Image(torch.ones(2, 8, 8), ImageGrid(8, pixel), plane_mm=3.0) for pixel in (2.0, 4.0))
    with pytest.raises(AllpetError, match="pixels of 2 and 4 mm"):
        scores(one, two)
    with pytest.raises(AllpetError, match="planes 3 and 9 mm apart"):
        scores(two, replace(two, plane_mm=9.0))


def test_a_narrow_grid_sees_what_the_same_lines_of_a_wide_one_see():
    model = tiny()
    wide, narrow = (
        model.generate("FDG brain", 2, seed=5, views=32, bins=bins, bin_mm=4.0, steps=2).sinogram for bins in (64, 32)
    )
    torch.testing.assert_close(narrow, wide[..., 16:48], rtol=0.02, atol=0.01 * float(wide.max()))


def test_one_plane_in_the_order_of_other_programs_is_read(tmp_path):
    import nibabel

    values = np.arange(16, dtype=np.float32).reshape(4, 4, 1)
    nibabel.save(nibabel.Nifti1Image(values, np.diag([-2.0, -2.0, 1.0, 1.0])), tmp_path / "lps.nii.gz")
    found = read(tmp_path / "lps.nii.gz")
    np.testing.assert_array_equal(found.array[0].numpy(), values[:, :, 0].T)
    found.grid = ImageGrid(4, np.float64(2.0))  # as a reader of DICOM may give it
    save(found, tmp_path / "a.hv")
    assert read(tmp_path / "a.hv").grid.pixel_mm == 2
