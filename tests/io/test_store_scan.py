"""Scans and the store: what a scan gets from it, and how a scan is kept in it."""

from __future__ import annotations

import os
import shutil
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import allpet
import build_support as support
from allpet.errors import AllpetError
from allpet.geometry import ParallelBeam
from allpet.io.schema import ACQUISITION, PROMPT
from allpet.io.store import open_store, read_store, write_store
from allpet.save import save
from allpet.scan.core import FACTORS, Acquired, Scan
from allpet.scan.dataset import Dataset

BEAM = ParallelBeam(support.VIEWS, support.BINS, 4.0)


def test_a_scan_has_what_is_common_to_its_samples_and_factors_at_its_dose(tmp_path: Path) -> None:
    shape, rng = (3, 8, 12), np.random.default_rng(0)
    names = ("sinogram", "observed", "attenuation", "normalisation", "background", "randoms", "scatter")
    arrays = {name: rng.uniform(0.1, 1.0, shape).astype(np.float32) for name in names}
    values = {
        "dose_fraction": [0.5, 0.5, 0.25],
        "counts_per_unit": [2.0, 2.0, 6.0],
        "weight_kg": [70.0, 70.0, 81.5],
        "injected_mbq": [350.0, 350.0, 350.0],
        "start_s": [3600.0, 3600.0, 5400.0],
        "duration_s": [120.0, 120.0, 120.0],
        "fwhm_mm": [4.5, 4.5, 6.0],
    }
    arrays |= {name: np.array(value) for name, value in values.items()}
    facts = {"scanner": "mMR", "decay_reference": "start", "fwhm_mm": 9.0, "unknown": 1}
    data = Dataset(arrays, BEAM, {**support.ATTRIBUTES, "acquisition": facts})
    write_store(data, tmp_path / "d.zarr")

    two = read_store(tmp_path / "d.zarr", slice(0, 2))
    known = {"injected_mbq": 350.0, "weight_kg": 70.0, "start_s": 3600.0, "duration_s": 120.0, "fwhm_mm": 4.5}
    assert {name: getattr(two, name) for name in known} == known
    assert (two.scanner, two.decay_reference, two.dose_fraction, two.counts_per_unit) == ("mMR", "start", 0.5, 1.0)
    assert np.array_equal(two.normalisation, arrays["normalisation"][:2])
    assert np.array_equal(two.attenuation, arrays["attenuation"][:2])
    assert np.allclose(two.randoms, 0.5 * arrays["randoms"][:2])
    assert np.allclose(two.background, 0.5 * arrays["background"][:2])

    every = read_store(tmp_path / "d.zarr")
    assert (every.weight_kg, every.start_s, every.fwhm_mm, every.dose_fraction) == (None, None, None, None)
    assert (every.injected_mbq, every.duration_s) == (350.0, 120.0)
    assert every.counts_per_unit.tolist() == [1.0, 1.0, 1.5]
    assert np.allclose(every.randoms[2], 0.25 * arrays["randoms"][2])

    data.attributes["thinning"] = "activity"  # randoms go with its square
    write_store(data, tmp_path / "d.zarr")
    weak, scatter = read_store(tmp_path / "d.zarr", 2), arrays["background"][2] - arrays["randoms"][2]
    assert np.allclose(weak.randoms[0], 0.25**2 * arrays["randoms"][2])
    assert np.allclose(weak.background[0], 0.25 * scatter + 0.25**2 * arrays["randoms"][2], atol=1e-6)

    del data.arrays["background"], data.attributes["thinning"]
    write_store(data, tmp_path / "d.zarr")
    apart = read_store(tmp_path / "d.zarr", 2)
    assert np.allclose(apart.background[0], 0.25 * (arrays["scatter"][2] + arrays["randoms"][2]))

    del data.arrays["observed"]  # the truth is at full dose
    write_store(data, tmp_path / "d.zarr")
    full = read_store(tmp_path / "d.zarr", 2)
    assert np.array_equal(full.randoms[0], arrays["randoms"][2]) and full.counts_per_unit == 6.0


def test_the_schema_knows_every_fact_of_a_scan() -> None:
    own = {"header", *PROMPT}
    assert {field.name for field in fields(Acquired)} - own | {
        "plane_mm",
        "neighbours",
        "fwhm_mm",
        "dose_fractions",
    } == set(ACQUISITION)


positive = st.floats(0.01, 1e6, allow_nan=False)
facts = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(
            ("injected_mbq", "weight_kg", "height_m", "start_s", "duration_s", "counts_per_unit"), positive
        ),
        **dict.fromkeys(("plane_mm", "fwhm_mm", "dose_fraction"), positive),
        "neighbours": st.booleans(),
        "sex": st.sampled_from(["F", "M", "O"]),
        "decay_reference": st.sampled_from(["injection", "start", "none"]),
        "header": st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=3).filter(
            lambda header: "provenance" not in header
        ),
        **dict.fromkeys(("scanner", "tracer", "isotope", "region"), st.text(max_size=8)),
    },
)


@settings(max_examples=40)
@given(known=facts, factors=st.sets(st.sampled_from(FACTORS)), planes=st.integers(1, 3))
def test_a_saved_scan_comes_back_with_all_that_is_known_of_it(
    tmp_path_factory: pytest.TempPathFactory, known: dict[str, Any], factors: set[str], planes: int
) -> None:
    rng = np.random.default_rng(planes)
    arrays = {name: rng.poisson(2.0, (planes, 8, 12)).astype(np.float32) for name in ("sinogram", *sorted(factors))}
    scan = Scan.from_array(arrays.pop("sinogram"), 4.0, **known, **arrays)
    path = tmp_path_factory.mktemp("scan") / "s.zarr"
    save(scan, path, seed=3)
    back = allpet.read(path)
    for field in fields(Scan):
        before, after = getattr(scan, field.name), getattr(back, field.name)
        assert np.array_equal(before, after) if field.name in ("sinogram", *factors) else before == after
    assert open_store(path).attributes["provenance"]["seed"] == 3
    shutil.rmtree(path.parent)


def test_ideal_projections_with_gaps_are_refused(tmp_path: Path) -> None:
    scan = Scan.from_array(np.ones((8, 12)), 4.0, unit="kBq/mL*mm", normalisation=np.ones((8, 12)))
    with pytest.raises(AllpetError, match=r"s\.zarr: .* ideal projections without gaps; write this scan as \.hs"):
        save(scan, tmp_path / "s.zarr")
    assert os.listdir(tmp_path) == []
