"""Tracers: drawn subjects beside published ranges, the page made of them, lesions, chance only from the generator."""

from __future__ import annotations

import math
import pickle
from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from allpet.errors import AllpetError
from allpet.scan import tracer_tables as tables
from allpet.scan.kinetics import Floats
from allpet.scan.tracer_published import PUBLISHED, Published, page, simulated, values
from allpet.scan.tracers import KINDS, TISSUES, TRACERS, Uptake, draw_uptake, typical_uptake

ROOT = Path(__file__).resolve().parents[2]
NAMES = (
    "grey matter, white matter, striatum, cerebellum, csf, scalp, skull, salivary gland, submandibular gland, lacrimal "
    "gland, thyroid, tonsil, mucosa, tongue, eye, fat, visceral fat, muscle, lung, blood, myocardium, mediastinum, "
    "liver, bile, spleen, pancreas, stomach wall, stomach content, duodenum, bowel, colon, kidney cortex, kidney "
    "medulla, urine, adrenal, marrow, cortical bone, breast, spinal cord, prostate, uterus, testis, air"
).split(", ")


@pytest.fixture(scope="module")
def subjects() -> dict[str, dict[str, Floats]]:
    return {name: simulated(name) for name in TRACERS}


def frames(tracer: str) -> tuple[Floats, Floats]:
    start, length = np.array((TRACERS[tracer].first_s, TRACERS[tracer].delayed_s), float).T
    return start, start + length


@pytest.mark.parametrize("row", PUBLISHED, ids=lambda row: f"{row.tracer} {row.name}")
def test_medians_lie_in_the_published_range(row: Published, subjects: dict[str, dict[str, Floats]]) -> None:
    low, median, high = np.percentile(values(row, subjects[row.tracer]), (5, 50, 95))
    assert row.low <= median <= row.high
    common = min(high, row.high) - max(low, row.low)
    assert common > 0.5 * min(high - low, row.high - row.low)
    assert high - low < 3 * (row.high - row.low)


def test_the_spread_of_liver_and_blood_is_that_of_patients(subjects: dict[str, dict[str, Floats]]) -> None:
    # n = 132: liver 2.17 ± 0.44, blood 1.55 ± 0.38 (Boktor 2013); n = 1018: coefficient of variation of their ratio
    # 15.1 %, correlation 0.82 (effect of blood pool activity on liver SUV, abstract).
    liver, blood = subjects["FDG"]["liver"][:, 0], subjects["FDG"]["blood"][:, 0]
    assert 0.15 < liver.std() / liver.mean() < 0.30
    assert 0.15 < blood.std() / blood.mean() < 0.30
    assert 0.10 < (liver / blood).std() / (liver / blood).mean() < 0.20
    assert 0.72 < np.corrcoef(liver, blood)[0, 1] < 0.92


def test_glucose_dims_the_brain_and_not_the_liver() -> None:
    drawn = [draw_uptake(np.random.default_rng(seed), "FDG") for seed in range(300)]
    glucose = np.log([uptake.glucose for uptake in drawn])
    suv = np.array([uptake.suv(3600, 4200) for uptake in drawn]).T
    blood, grey, liver = (suv[TISSUES.index(name)] for name in ("blood", "grey matter", "liver"))
    brain = np.polyfit(glucose, np.log(grey / blood), 1)[0]
    liver = np.polyfit(glucose, np.log(liver / blood), 1)[0]
    assert -1.0 < brain < -0.3
    assert abs(liver) < 0.25


def test_myocardium_is_bimodal(subjects: dict[str, dict[str, Floats]]) -> None:
    ratio = subjects["FDG"]["myocardium"][:, 0] / subjects["FDG"]["blood"][:, 0]
    assert 0.33 < (ratio < 1.6).mean() < 0.47
    assert ((ratio > 1.6) & (ratio < 2.0)).mean() < 0.04


def test_directions_over_time(subjects: dict[str, dict[str, Floats]]) -> None:
    dopa = subjects["DOPA"]
    first, delayed = (dopa["striatum"] / dopa["grey matter"]).T
    assert (delayed > first).all()
    fdg = subjects["FDG"]
    first, delayed = (fdg["hot lesion"] / fdg["liver"]).T
    assert (delayed > first).mean() > 0.95


def test_page_is_generated(subjects: dict[str, dict[str, Floats]]) -> None:
    found = (ROOT / "docs" / "tracers.md").read_text(encoding="utf-8")
    assert found == page(subjects), "make it again: python -m allpet.scan.tracers > docs/tracers.md"


def test_tables_are_complete() -> None:
    assert list(TISSUES) == NAMES
    members = [name for group in tables.GROUPS.values() for name in group]
    assert len(set(members)) == len(members) and set(members) <= set(TISSUES) and set(tables.STORES) <= set(TISSUES)
    for tracer in TRACERS.values():
        assert [row[0] for row in tracer.rows] == NAMES
        for row in (*tracer.rows, tracer.lesion):
            named = any(source in row[8] for source in tables.SOURCES)
            assert named or row[8].startswith(("chosen", "as ", "none")), row
    used = " ".join(
        [row[8] for tracer in TRACERS.values() for row in (*tracer.rows, tracer.lesion)]
        + [tracer.source for tracer in TRACERS.values()]
        + [row.source for row in PUBLISHED]
    )
    assert [name for name in tables.SOURCES if name not in used] == []


def test_dopa_striatum_is_the_solution_of_the_equations_with_its_metabolite() -> None:
    uptake = typical_uptake("DOPA")
    feng, second = uptake.feng, TRACERS["DOPA"].metabolite
    assert second is not None
    _, K1, k2, k3, k4, blood, *_ = next(row for row in tables.DOPA if row[0] == "striatum")

    def plasma(t: float) -> float:
        u = t - feng.tau
        first = (feng.A1 * u - feng.A2 - feng.A3) * math.exp(-feng.l1 * u)
        return first + feng.A2 * math.exp(-feng.l2 * u) + feng.A3 * math.exp(-feng.l3 * u)

    def slope(t: float, c: Floats) -> list[float]:
        native = plasma(t)
        return [
            K1 * native - (k2 + k3) * c[0] + k4 * c[1],
            k3 * c[0] - k4 * c[1],
            second.formed * native - second.cleared * c[2],
            K1 * c[2] - k2 / second.volume * c[3],
        ]

    answer = solve_ivp(slope, (feng.tau, 90.0), [0] * 4, "LSODA", rtol=1e-9, atol=1e-10, max_step=1.0).y[:, -1]
    whole = TRACERS["DOPA"].whole_blood * (plasma(90.0) + answer[2])
    expected = (1 - blood) * (answer[0] + answer[1] + answer[3]) + blood * whole
    assert float(uptake["striatum"].at(5400)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("tracer", TRACERS)
def test_a_draw_depends_on_its_generator_alone(tracer: str) -> None:
    start, stop = frames(tracer)
    one, two = (draw_uptake(np.random.default_rng(7), tracer) for _ in range(2))
    other = draw_uptake(np.random.default_rng(8), tracer)
    assert (one.suv(start, stop) == two.suv(start, stop)).all()
    assert not np.allclose(one.suv(start, stop), other.suv(start, stop))
    copy = pickle.loads(pickle.dumps(one))  # noqa: S301 - workers hand subjects on
    assert isinstance(copy, Uptake) and (copy.suv(start, stop) == one.suv(start, stop)).all()
    lesions = [one.lesion("hot", "liver", np.random.default_rng(1)).suv(start, stop) for _ in range(2)]
    assert (lesions[0] == lesions[1]).all()


@pytest.mark.parametrize("tracer", TRACERS)
def test_one_tissue_is_its_row_of_all(tracer: str) -> None:
    start, stop = frames(tracer)
    uptake = draw_uptake(np.random.default_rng(3), tracer)
    every = uptake.suv(start, stop)
    assert every.shape == (len(TISSUES), 2) and np.isfinite(every).all()
    for number, name in enumerate(TISSUES):
        assert np.allclose(uptake[name].suv(start, stop), every[number], rtol=1e-12)
    assert (every[TISSUES.index("air")] == 0).all()
    assert (np.delete(every, TISSUES.index("air"), axis=0) > 0).all()
    assert isinstance(float(uptake["liver"].suv(start[0], stop[0])), float)


@pytest.mark.parametrize("tracer", TRACERS)
@pytest.mark.parametrize("host", ["liver", "grey matter", "muscle", "kidney cortex", "marrow", "lung"])
def test_lesions_stand_out_from_their_host(tracer: str, host: str) -> None:
    start, stop = frames(tracer)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        uptake = draw_uptake(rng, tracer)
        around = uptake[host].suv(start, stop)
        assert uptake.lesion("hot", host, rng).suv(start, stop)[0] > 1.39 * around[0]
        assert (uptake.lesion("cold", host, rng).suv(start, stop) < 0.61 * around).all()
        centre = uptake.lesion("necrotic", host, rng).suv(start, stop)
        assert (centre < 0.75 * uptake["blood"].suv(start, stop) / TRACERS[tracer].whole_blood + 0.5).all()
        assert (centre > 0).all()


def test_typical_uptake_is_the_middle_of_the_drawn(subjects: dict[str, dict[str, Floats]]) -> None:
    for tracer, drawn in subjects.items():
        start, stop = frames(tracer)
        typical = typical_uptake(tracer).suv(start, stop)
        for number, name in enumerate(TISSUES):
            if name not in ("air", "myocardium"):
                assert typical[number] == pytest.approx(np.median(drawn[name], axis=0), rel=0.1), (tracer, name)


def test_injected_activity() -> None:
    rng = np.random.default_rng(0)
    fdg = [TRACERS["FDG"].draw_injected_mbq(rng, 80.0) for _ in range(400)]
    psma = [TRACERS["PSMA"].draw_injected_mbq(rng, 80.0) for _ in range(400)]
    assert np.median(fdg) == pytest.approx(4.1 * 80, rel=0.03) and 0.07 < np.std(np.log(fdg)) < 0.13
    assert np.median(psma) == pytest.approx(140, rel=0.03)


def test_unknown_words_are_answered_with_the_known_ones() -> None:
    uptake = typical_uptake("FDG")
    with pytest.raises(AllpetError, match="known tracers: FDG, DOPA, PSMA"):
        draw_uptake(np.random.default_rng(0), "XYZ")
    with pytest.raises(AllpetError, match="known tissues: grey matter"):
        uptake["liverr"]
    with pytest.raises(AllpetError, match=f"known kinds: {', '.join(KINDS)}"):
        uptake.lesion("warm", "liver", np.random.default_rng(0))
    with pytest.raises(AllpetError, match="air"):
        uptake.lesion("hot", "air", np.random.default_rng(0))
