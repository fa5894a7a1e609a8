"""SUV against arithmetic by hand, written beside each number."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from allpet.errors import AllpetError
from allpet.geometry import ImageGrid
from allpet.io import read, write
from allpet.io.convert import convert
from allpet.scan.core import Image
from allpet.scan.suv import FACTOR_KEY, UNITS, body_size, from_suv, half_life_s, mean_decay, suv_factor, to_suv


def image(value: float = 5.0, **known: Any) -> Image:
    facts: dict[str, Any] = {
        "isotope": "18F",
        "injected_mbq": 350.0,
        "weight_kg": 70.0,
        "height_m": 1.75,
        "sex": "M",
        "start_s": 3600.0,
        "duration_s": 600.0,
        "decay_reference": "start",
    }
    return Image(torch.full((1, 2, 2), value), ImageGrid(2, 4.0), **(facts | known))


def test_corrected_to_the_start_of_the_scan() -> None:
    # 350 MBq * 2^(-60/109.77): 60/109.77 = 0.546597, * ln 2 = 0.378872, e^-0.378872 = 0.684633
    # dose at the start 239.6215 MBq = 239621.5 kBq; 70 kg = 70000 g; 70000/239621.5 = 0.292127 g/kBq
    # 5 kBq/mL * 0.292127 g/kBq = 1.460637 g/mL
    suv = to_suv(image())
    assert suv.unit == "SUV"
    assert float(suv.array[0, 0, 0]) == pytest.approx(1.460637, rel=1e-5)


def test_corrected_to_the_injection() -> None:
    # 70000 g / 350000 kBq = 0.2 g/kBq, whatever the times and the isotope: 5 kBq/mL -> SUV 1
    assert float(to_suv(image(decay_reference="injection")).array[0, 0, 0]) == pytest.approx(1.0, rel=1e-6)
    unknown = image(decay_reference="injection", start_s=None, duration_s=None, isotope=None)
    assert suv_factor(unknown) == pytest.approx(0.2, rel=1e-12)


def test_gallium() -> None:
    # 68Ga, 150 MBq, 60 kg, 45 min: 45/67.71 = 0.664599, * ln 2 = 0.460665, e^0.460665 = 1.585128
    # 60/150 * 1.585128 = 0.634051
    facts = image(isotope="68Ga", injected_mbq=150.0, weight_kg=60.0, start_s=45 * 60.0)
    assert suv_factor(facts) == pytest.approx(0.634051, rel=1e-5)


def test_not_corrected_for_decay() -> None:
    # frame 60 to 70 min: x = ln 2 * 10/109.77 = 0.0631454; mean decay (1 - e^-x)/x = (1 - 0.9388069)/0.0631454
    # = 0.0611931/0.0631454 = 0.969082; 0.2 / 0.684633 / 0.969082 = 0.2 * 1.460637 / 0.969082 = 0.301448
    assert suv_factor(image(decay_reference="none")) == pytest.approx(0.301448, rel=1e-5)
    mean = quad(lambda t: 2 ** (-t / 109.77), 60, 70)[0] / 10
    assert suv_factor(image(decay_reference="none")) == pytest.approx(0.2 / mean, rel=1e-10)
    assert mean_decay(100.0, 0.0) == 1.0


def test_the_files_half_life_goes_before_the_table() -> None:
    # 0.2 * 2^(3600/3600) = 0.4
    facts = image(isotope=None, header={"Isotope gamma halflife (sec)": "3600"})
    assert half_life_s(facts) == 3600.0
    assert suv_factor(facts) == pytest.approx(0.4, rel=1e-12)


def test_the_scanners_own_factor_is_used_as_it_is() -> None:
    facts = image(header={FACTOR_KEY: "0.31"}, injected_mbq=None)
    assert suv_factor(facts) == pytest.approx(0.31)
    # by lean mass: 0.31 * 9270 / (6680 + 216 * 70/1.75^2) with BMI 22.857143: 11617.143 -> 0.797958; * 0.31 = 0.247367
    assert suv_factor(facts, "lean") == pytest.approx(0.247367, rel=1e-5)


def test_body_sizes() -> None:
    man, woman = image(), image(sex="F", weight_kg=60.0, height_m=1.60)
    # Janmahasatian: man, BMI 22.857143: 9270*70/(6680 + 4937.143) = 648900/11617.143 = 55.8571
    # woman, BMI 23.4375: 9270*60/(8780 + 5718.75) = 556200/14498.75 = 38.3619
    assert body_size(man, "lean") == pytest.approx(55.8571, rel=1e-5)
    assert body_size(woman, "lean") == pytest.approx(38.3619, rel=1e-5)
    # James: man 77 - 128*(70/175)^2 = 77 - 128*0.16 = 56.52;
    # woman 64.2 - 148*(60/160)^2 = 64.2 - 148*0.140625 = 43.3875
    assert body_size(man, "lean-james") == pytest.approx(56.52, rel=1e-9)
    assert body_size(woman, "lean-james") == pytest.approx(43.3875, rel=1e-9)
    # Du Bois: 70^0.425 = e^(0.425*4.248495) = e^1.805610 = 6.083682; 175^0.725 = e^(0.725*5.164786) = e^3.744470
    # = 42.28657; 0.007184*6.083682*42.28657 = 1.848143 m^2
    assert body_size(man, "surface") == pytest.approx(1.848143, rel=1e-5)
    # 18481.43 cm^2 / 350000 kBq = 0.0528041 at the injection
    assert suv_factor(image(decay_reference="injection"), "surface") == pytest.approx(0.0528041, rel=1e-5)


@settings(max_examples=50)
@given(
    by=st.sampled_from(sorted(UNITS)),
    reference=st.sampled_from(["start", "injection", "none"]),
    dose=st.floats(1, 1000),
    weight=st.floats(5, 150),
    start=st.floats(0, 10000),
)
def test_there_and_back(by: str, reference: str, dose: float, weight: float, start: float) -> None:
    before = image(injected_mbq=dose, weight_kg=weight, start_s=start, decay_reference=reference, sex="F")
    before = replace(before, array=torch.tensor([[[-1.0, 0.0], [3.0, 1e4]]]))
    suv = to_suv(before, by)
    assert suv.unit == UNITS[by] and to_suv(suv, by) is suv
    back = from_suv(suv)
    assert back.unit == "kBq/mL"
    assert torch.allclose(back.array, before.array, rtol=1e-6)


@pytest.mark.parametrize(
    ("missing", "tag"),
    [
        ({"weight_kg": None}, "0010,1030"),
        ({"weight_kg": 70000.0}, "0010,1030"),
        ({"injected_mbq": None}, "0018,1074"),
        ({"injected_mbq": 0.0}, "0018,1074"),
        ({"start_s": None}, "0018,1072"),
        ({"decay_reference": None}, "0054,1102"),
        ({"decay_reference": "none", "duration_s": None}, "0018,1242"),
        ({"isotope": "99Xx"}, "0018,1075"),
        ({"header": {"corrected image": "DECY, SCAT"}}, "0028,0051"),
    ],
)
def test_what_is_missing_is_named(missing: dict[str, Any], tag: str) -> None:
    with pytest.raises(AllpetError, match=tag):
        suv_factor(image(**missing))


def test_other_errors() -> None:
    for by, facts, expected in (
        ("lean", {"height_m": None}, "0010,1020"),
        ("lean", {"height_m": 175.0}, "in m"),
        ("lean", {"sex": "O"}, "0010,0040"),
        ("lean-james", {"height_m": 0.8, "weight_kg": 160.0}, "use by='lean'"),
        ("age", {}, "weight, lean"),
    ):
        with pytest.raises(AllpetError, match=expected):
            suv_factor(image(**facts), by)
    with pytest.raises(AllpetError, match="kBq/mL"):
        to_suv(replace(image(), unit="counts"))
    with pytest.raises(AllpetError, match="no SUV"):
        from_suv(replace(image(), unit="HU"))


def test_convert_writes_suv_and_names_the_file_it_cannot(tmp_path: Path) -> None:
    """400 MBq, 80 kg, 5 kBq/mL corrected to the injection: SUV = 5 * 80 / 400 = 1."""
    known = dict(injected_mbq=400.0, weight_kg=80.0, decay_reference="injection", isotope="18F")
    image = Image(torch.full((2, 4, 4), 5.0), ImageGrid(4, 4.0), **known)
    write(image, tmp_path / "pet.nii.gz")
    convert(tmp_path / "pet.nii.gz", tmp_path / "suv.nii.gz", to_suv=True)
    suv = read(tmp_path / "suv.nii.gz")
    assert suv.unit == "SUV" and torch.allclose(suv.array, torch.ones(2, 4, 4))
    write(replace(image, weight_kg=None), tmp_path / "nobody.nii.gz")
    with pytest.raises(AllpetError, match=r"nobody\.nii\.gz.*weight"):
        convert(tmp_path / "nobody.nii.gz", tmp_path / "no.nii.gz", to_suv=True)
    assert not (tmp_path / "no.nii.gz").exists()
