"""Presets are complete and possible; a user's own file is checked line by line."""

from __future__ import annotations

import math
from importlib.resources import files
from pathlib import Path

import pytest

from allpet.errors import AllpetError
from allpet.geometry import RingBeam
from allpet.scan import scanners as module
from allpet.scan.scanners import MMR, find_scanner, load_scanners, presets, scanner

PRESETS = tuple(presets())
TEXT = files("allpet.scan").joinpath("scanners.toml").read_text(encoding="utf-8")


def test_the_mmr_is_what_list_mode_and_stir_expect() -> None:
    assert MMR == presets()["mMR"]
    assert MMR.name == "Siemens mMR"
    assert MMR.aliases == ("siemens mmr", "mmr", "2008", "biograph_mmr", "biograph mmr")
    assert (MMR.rings, MMR.ring_mm, MMR.max_ring_difference, MMR.direct_planes) == (64, 4.0625, 60, 127)
    assert MMR.beam == RingBeam(252, 344, 335.0, 9)
    assert find_scanner(" Biograph  mMR ") == MMR and find_scanner("PET camera") is None


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_possible(name: str) -> None:
    made = scanner(name)
    assert made == find_scanner(made.name) == scanner(made.aliases[-1])
    pitch = 2 * math.pi * made.inner_radius_mm / made.crystals
    assert 1 <= pitch / made.crystal_mm[0] < 1.12
    assert 1 <= made.ring_mm / made.crystal_mm[1] < 1.06
    assert made.rings * made.ring_mm == pytest.approx(made.axial_fov_mm, rel=0.015)
    assert made.beam.radii[-1] < made.inner_radius_mm
    assert made.beam.radii[-1] > 128  # a head of 256 mm is covered
    assert {"geometry", "fwhm_mm", "energy", "coincidence_window_ns", "scatter_fraction"} <= {k for k, _ in made.source}


def test_no_two_presets_share_a_name() -> None:
    names = [alias for made in presets().values() for alias in made.aliases]
    assert len(names) == len(set(names)) and {"mMR", "Vision600", "uEXPLORER", "DiscoveryMI"} <= set(PRESETS)


def test_a_file_of_your_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(TEXT.split("[Vision600]")[0].replace("[mMR", "[Mine").replace("fwhm_mm = 4.3", "fwhm_mm = 5"))
    assert load_scanners(path)["Mine"].fwhm_mm == 5.0
    assert scanner(path).fwhm_mm == 5.0
    path.write_text(TEXT)
    assert scanner(f"{path}#uEXPLORER") == scanner("uEXPLORER")
    with pytest.raises(AllpetError, match=r"choose one as .*#mMR"):
        scanner(path)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("rings = 64\n", "", r"\[mMR\]: 'rings' is missing"),
        ("rings = 64\n", "rings = 64.5\n", "'rings' is 64.5; it must be a whole number"),
        ("rings = 64\n", "rings = true\n", "'rings' is True; it must be a whole number"),
        ("rings = 64\n", "rings = 0\n", "'rings' is 0; it must be a whole number, above 0"),
        ("rings = 64\n", "rings = 64\nrigns = 64\n", "'rigns' is unknown"),
        ("depth_mm = 7.0", "depth_mm = -1", "'depth_mm' is -1; it must be a number, 0 or more"),
        ("fwhm_mm = 4.3", "fwhm_mm = nan", "'fwhm_mm' is nan"),
        ('name = "Siemens mMR"', "name = 3", "'name' is 3; it must be a text"),
        ("[430.0, 610.0]", "[430.0]", "must be a list of 2 numbers"),
        ("[430.0, 610.0]", "[520.0, 610.0]", "it must hold 511 keV"),
        ("[4.0, 4.0, 20.0]", '[4.0, "4", 20.0]', r"'crystal_mm\[1\]' is '4'; it must be a number"),
        ("block = 9", "block = 10", "divide the 504 crystals"),
        ("bins = 344", "bins = 504", "below the 504 crystals"),
        ("max_ring_difference = 60", "max_ring_difference = 64", "below the rings"),
        ("energy_resolution = 0.145", "energy_resolution = 14.5", "fraction below 1"),
        ("[mMR.source]", "source = 3\n[other]", "must be a table of texts"),
        ("rings = 64", "rings = = 64", "is no TOML"),
    ],
)
def test_errors_name_file_table_and_value(tmp_path: Path, old: str, new: str, says: str) -> None:
    text = TEXT.split("[Vision600]")[0]
    assert old in text
    path = tmp_path / "mine.toml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(AllpetError, match=says) as caught:
        load_scanners(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_no_file_no_table_no_such_name(tmp_path: Path) -> None:
    empty = tmp_path / "empty.toml"
    empty.write_text("")
    for name, says in (
        (empty, "holds no scanner"),
        (tmp_path / "no.toml", "cannot be read"),
        ("HRRT", "known are mMR"),
    ):
        with pytest.raises(AllpetError, match=says):
            scanner(name)
    top = tmp_path / "top.toml"
    top.write_text("rings = 64\n")
    with pytest.raises(AllpetError, match="must be a table"):
        load_scanners(top)
    with pytest.raises(AttributeError):
        _ = module.HRRT
