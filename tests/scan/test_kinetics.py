"""Kinetics: closed forms beside ODE solvers and quadrature, limits, frames and decay."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad, solve_ivp

from allpet.errors import AllpetError
from allpet.scan.kinetics import ISOTOPES, Curve, Feng, Isotope, Rates, exp_difference, respond, tissue

FENG = Feng(A1=851.1, A2=21.88, A3=20.81, l1=4.134, l2=0.1191, l3=0.01043, tau=0.3)
STABLE = Isotope("stable", 1e12, 1.0, 1.0, "none")
FLUORINE = ISOTOPES["18F"]

rate = st.one_of(st.just(0.0), st.floats(1e-5, 1.5))


def plasma(t: float, feng: Feng = FENG) -> float:
    """The formula as Feng, Huang and Wang print it."""
    u = t - feng.tau
    if u < 0:
        return 0.0
    first = (feng.A1 * u - feng.A2 - feng.A3) * math.exp(-feng.l1 * u)
    return first + feng.A2 * math.exp(-feng.l2 * u) + feng.A3 * math.exp(-feng.l3 * u)


def solved(rates: Rates, t: np.ndarray, feng: Feng = FENG) -> np.ndarray:
    """C1 + C2 from the differential equations."""

    def slope(now: float, c: np.ndarray) -> list[float]:
        inflow = float(rates.K1) * plasma(now, feng)
        out = (rates.k2 + rates.k3) * c[0]
        return [inflow - out + rates.k4 * c[1], rates.k3 * c[0] - rates.k4 * c[1]]

    start = feng.tau
    answer = solve_ivp(slope, (start, t[-1]), [0, 0], "LSODA", t_eval=t, rtol=1e-10, atol=1e-11, max_step=1.0)
    return answer.y.sum(axis=0)


def curve(rates: Rates, feng: Feng = FENG, isotope: Isotope = FLUORINE) -> Curve:
    return Curve(tuple(respond(feng.chains, rates)), isotope, feng.tau)


def test_plasma_is_the_published_formula() -> None:
    t = np.array([0.0, 0.2, 0.31, 0.5, 1, 5, 60, 180])
    found = Curve((FENG.chains,), FLUORINE, FENG.tau).at(60 * t)
    assert np.allclose(found, [plasma(x) for x in t], rtol=1e-10, atol=1e-12)


@settings(max_examples=15)
@given(K1=st.floats(0.01, 1.2), k2=rate, k3=rate, k4=rate)
def test_tissue_is_the_solution_of_the_equations(K1: float, k2: float, k3: float, k4: float) -> None:
    rates = Rates(K1, k2, k3, k4)
    t = np.array([0.6, 2.0, 10.0, 60.0, 120.0])
    assert np.allclose(curve(rates).at(60 * t), solved(rates, t), rtol=1e-6)


@pytest.mark.parametrize(
    "rates",
    [
        Rates(0.1, 0.13, 0.062, 0.0068),
        Rates(0.1, 0.13, 0.062, 0.0),
        Rates(0.1, 0.13, 0.0, 0.0),
        Rates(0.1, 0.0, 0.0, 0.0),
        Rates(0.1, 4.134, 0.0, 0.0),
        Rates(0.1, 0.01043, 0.0, 0.01043),
        Rates(0.1, 0.1191, 0.0, 0.0),
    ],
    ids=["full", "k4=0", "k3=0", "k2=0", "k2=l1", "equal roots", "k2=l2"],
)
def test_limits_agree_with_equations_and_are_continuous(rates: Rates) -> None:
    t = np.array([1.0, 30.0, 90.0])
    found = curve(rates).at(60 * t)
    assert np.allclose(found, solved(rates, t), rtol=1e-6)
    for tiny in (1e-6, 1e-9, 1e-13):
        near = Rates(*(float(k) + tiny * (k == 0) + tiny * float(k) for k in rates.table))
        assert np.allclose(curve(near).at(60 * t), found, rtol=500 * tiny + 1e-12)


@settings(max_examples=25)
@given(k2=rate, k3=rate, k4=rate, start=st.floats(0, 180), length=st.floats(0.05, 60))
def test_frame_is_the_weighted_mean_by_quadrature(k2: float, k3: float, k4: float, start: float, length: float) -> None:
    tissue = curve(Rates(0.3, k2, k3, k4))
    stop = start + length

    def mean(f: float) -> float:
        return float(tissue.at(60 * f)) * math.exp(-FLUORINE.rate * f)

    points = [p for p in (FENG.tau, FENG.tau + 0.5, FENG.tau + 2) if start < p < stop] or None
    counts, _ = quad(mean, start, stop, epsabs=1e-13, epsrel=1e-11, limit=400, points=points)
    weight, _ = quad(lambda f: math.exp(-FLUORINE.rate * f), start, stop, epsrel=1e-12)
    assert tissue.suv(60 * start, 60 * stop) == pytest.approx(counts / weight, rel=1e-7, abs=1e-9)


@given(cuts=st.lists(st.floats(1, 10_000), min_size=3, max_size=6, unique_by=lambda t: round(t)))
def test_counts_of_frames_add_up(cuts: list[float]) -> None:
    ends = np.sort(cuts)
    tissue = curve(Rates(0.1, 0.13, 0.06, 0.007))

    def counts(start: np.ndarray, stop: np.ndarray) -> np.ndarray:
        return tissue.suv(start, stop) * FLUORINE.mean_decay(start, stop) * (stop - start)

    assert counts(ends[:-1], ends[1:]).sum() == pytest.approx(float(counts(ends[0], ends[-1])), rel=1e-8)


def test_many_tissues_and_frames_at_once() -> None:
    rates = Rates(np.array([0.1, 0.5, 0.0]), np.array([0.1, 0.6, 0.2]), np.array([0.06, 0.0, 0.1]), 0.005)
    start = np.array([[0.0, 600.0], [3600.0, 7200.0]])
    many = curve(rates).suv(start, start + 300)
    assert many.shape == (3, 2, 2)
    assert (many[2] == 0).all()
    for index in range(2):
        single = curve(Rates(*rates.table[index])).suv(start, start + 300)
        assert np.allclose(many[index], single, rtol=1e-12)
        assert np.allclose(curve(rates)[index].suv(start, start + 300), single, rtol=1e-12)
    assert np.allclose(curve(rates).scaled(3.0).suv(0, 60), 3 * curve(rates).suv(0, 60))


def test_tissue_mixes_its_blood_in() -> None:
    rates = Rates(np.array([0.1, 0.0]), np.array([0.13, 0.0]), 0.06, 0.007, np.array([0.05, 1.0]))
    blood = FENG.chains.scaled(0.9)
    found = tissue(FENG.chains, blood, rates, FLUORINE, FENG.tau).suv(3600, 4200)
    pure = curve(Rates(*rates.table[0])).suv(3600, 4200)
    whole = 0.9 * Curve((FENG.chains,), FLUORINE, FENG.tau).suv(3600, 4200)
    assert found == pytest.approx([0.95 * float(pure) + 0.05 * float(whole), float(whole)], rel=1e-12)
    slow = (FENG.chains.append(0.05, 0.02), Rates(np.array([0.04, 0.0]), 0.03))
    more = tissue(FENG.chains, blood, rates, FLUORINE, FENG.tau, slow).suv(3600, 4200) - found
    alone = Curve(tuple(respond(slow[0], Rates(0.04, 0.03))), FLUORINE, FENG.tau).suv(3600, 4200)
    assert more == pytest.approx([0.95 * float(alone), 0.0], rel=1e-9)


def test_nothing_before_arrival_and_short_frames_reach_the_value() -> None:
    tissue = curve(Rates(0.1, 0.13, 0.06, 0.007))
    assert tissue.suv(0, 60 * FENG.tau) == 0 and tissue.at(0) == 0
    assert tissue.suv(3600, 3600.01) == pytest.approx(float(tissue.at(3600.005)), rel=1e-7)


def test_without_decay_the_frame_is_the_plain_mean() -> None:
    tissue = curve(Rates(0.1, 0.13, 0.06, 0.007), isotope=STABLE)
    mean, _ = quad(lambda t: float(tissue.at(t)), 3000, 3900, epsrel=1e-11)
    assert tissue.suv(3000, 3900) == pytest.approx(mean / 900, rel=1e-9)


def test_a_chain_of_three_compartments_against_equations() -> None:
    metabolite = FENG.chains.append(0.05, 0.02)

    def slope(now: float, c: np.ndarray) -> list[float]:
        return [0.02 * plasma(now) - 0.05 * c[0], 0.04 * c[0] - 0.03 * c[1]]

    end = 90.0
    answer = solve_ivp(slope, (FENG.tau, end), [0, 0], "LSODA", rtol=1e-10, atol=1e-11, max_step=1.0)
    found = Curve(tuple(respond(metabolite, Rates(0.04, 0.03))), FLUORINE, FENG.tau).at(60 * end)
    assert float(found) == pytest.approx(answer.y[1, -1], rel=1e-7)


@given(x=st.lists(st.floats(-30, 0), min_size=2, max_size=6), order=st.randoms())
def test_divided_difference_is_symmetric_and_bounded(x: list[float], order: object) -> None:
    found = float(exp_difference(np.array(x)))
    scale = math.factorial(len(x) - 1)
    assert math.exp(min(x)) * (1 - 1e-9) <= found * scale <= math.exp(max(x)) * (1 + 1e-9)
    order.shuffle(x)  # type: ignore[attr-defined]
    assert float(exp_difference(np.array(x))) == found


@settings(max_examples=60)
@given(
    x=st.lists(st.floats(-8, 5).map(lambda e: -round(math.exp(e), 12)), min_size=2, max_size=5),
    twin=st.sampled_from([0.0, 1e-9, 1e-4, 0.3]),
)
def test_divided_difference_with_120_digits(x: list[float], twin: float) -> None:
    nodes = [0.0, *x[:-1], x[0] * (1 + twin)]
    with localcontext() as context:
        context.prec = 120
        apart = [Decimal(node) + Decimal(10) ** -25 * number for number, node in enumerate(nodes)]
        table = [node.exp() for node in apart]
        for order in range(1, len(apart)):
            steps = [apart[k + order] - apart[k] for k in range(len(table) - 1)]
            table = [(table[k + 1] - table[k]) / step for k, step in enumerate(steps)]
        expected = float(table[0])
    assert float(exp_difference(np.array(nodes))) == pytest.approx(expected, rel=1e-12)


def test_divided_difference_of_known_nodes() -> None:
    assert exp_difference(np.full(5, -2.0)) == pytest.approx(math.exp(-2) / 24, rel=1e-14)
    assert exp_difference(np.array([0.0, -1.0])) == pytest.approx(1 - math.exp(-1), rel=1e-14)
    assert exp_difference(np.array([0.0, -1.0, -1.0])) == pytest.approx(1 - 2 * math.exp(-1), rel=1e-13)


@pytest.mark.parametrize(("name", "half_life_s"), [("18F", 6586.2), ("68Ga", 4062.6)])
def test_decay(name: str, half_life_s: float) -> None:
    isotope = ISOTOPES[name]
    assert isotope.decay([0, half_life_s, 2 * half_life_s]) == pytest.approx([1, 0.5, 0.25], rel=1e-12)
    mean, _ = quad(lambda t: 2 ** (-t / half_life_s), 3600, 4200, epsrel=1e-12)
    assert isotope.mean_decay(3600, 4200) == pytest.approx(mean / 600, rel=1e-10)
    assert isotope.mean_decay(3600, 3600) == pytest.approx(2 ** (-3600 / half_life_s))


def test_positron_range_has_its_mean_distance() -> None:
    scale = ISOTOPES["68Ga"].range_scale_mm

    def radial(r: float) -> float:
        return r * math.exp(-r / scale) / scale**2

    assert quad(radial, 0, 100)[0] == pytest.approx(1)
    assert quad(lambda r: r * radial(r), 0, 200)[0] == pytest.approx(ISOTOPES["68Ga"].mean_range_mm)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Rates(-0.1, 0.1),
        lambda: Rates(0.1, math.nan),
        lambda: Rates(0.1, 0.1, blood=1.2),
        lambda: Feng(1, 1, 1, 0.1, 0.2, 0.01),
        lambda: Feng(-1, 1, 1, 4, 0.2, 0.01),
        lambda: curve(Rates(0.1, 0.1)).suv(100, 100),
        lambda: curve(Rates(0.1, 0.1)).suv(-1, 100),
    ],
)
def test_bad_values_are_named(make: object) -> None:
    with pytest.raises(AllpetError) as error:
        make()  # type: ignore[operator]
    assert "\n" not in str(error.value)
