"""Tracers as they behave in people: 18F-FDG, 18F-DOPA with carbidopa, 68Ga-PSMA-11.

A subject is drawn as an arterial curve and a set of rate constants (:func:`draw_uptake`); its tissues are then curves
in SUV (:mod:`allpet.scan.kinetics`), exact for any frame. Numbers stand in :mod:`allpet.scan.tracer_tables`, published
values beside them in :mod:`allpet.scan.tracer_published`, and ``python -m allpet.scan.tracers`` prints both as the page
``docs/tracers.md``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from allpet.errors import AllpetError
from allpet.scan import tracer_tables as tables
from allpet.scan.kinetics import ISOTOPES, Chains, Curve, Feng, Floats, Isotope, Rates, tissue
from allpet.scan.tracer_tables import TISSUES, Row

INDEX = {name: number for number, name in enumerate(TISSUES)}
SHARED = 0.7
"""Share of a tissue's variance that its group has in common; chosen: organs of one kind vary together."""

KINDS = ("hot", "cold", "necrotic")
NECROSIS = Rates(0.015, 0.045, 0.0, 0.0, 0.005)
"""The centre of a lesion without living cells: slow exchange with a third of the volume; chosen."""


@dataclass(frozen=True)
class Metabolite:
    """A labelled metabolite in plasma that enters tissue but is not trapped.

    ``Cm' = formed * Cp - cleared * Cm``; it enters at the tracer's own K1 and its distribution volume is `volume`
    times K1/k2 of the tracer.

    Parameters
    ----------
    formed, cleared : 1/min. volume : ratio.
    """

    formed: float
    cleared: float
    volume: float


@dataclass(frozen=True)
class Tracer:
    """What is known of a tracer.

    Parameters
    ----------
    name : prompt word. isotope : its label.
    injected_mbq : usual activity in MBq, or MBq/kg if `per_kg`. injected_spread : of its logarithm.
    first_s, delayed_s : start after the injection and duration of the usual frames in s.
    feng : median arterial plasma curve of the unchanged tracer in SUV. whole_blood : blood to plasma ratio.
    amplitude_spread, tail_spread : of the logarithms of the whole curve's height (which holds body composition) and of
        its slowest exponent, which turns the tail about the middle of the first frame.
    rows : rates of the tissues, in the order of `TISSUES`. lesion : rates of a hot lesion.
    glucose : median blood glucose in mmol/L, to whose inverse k3 of brain and lesions is proportional, or None.
    fasting : share of subjects whose myocardium does not take up the tracer (its k3 falls to 3 %).
    metabolite : in plasma, or None. source : of all these.
    """

    name: str
    isotope: Isotope
    injected_mbq: float
    per_kg: bool
    injected_spread: float
    first_s: tuple[float, float]
    delayed_s: tuple[float, float]
    feng: Feng
    whole_blood: float
    amplitude_spread: float
    tail_spread: float
    rows: tuple[Row, ...]
    lesion: Row
    glucose: float | None
    fasting: float
    metabolite: Metabolite | None
    source: str

    @cached_property
    def numbers(self) -> Floats:
        """K1, k2, k3, k4, blood, spread and spread of k3 of each tissue, float64 ``(tissues, 7)``."""
        return np.array([row[1:8] for row in self.rows])

    def draw_injected_mbq(self, rng: np.random.Generator, weight_kg: float) -> float:
        """Activity at injection in MBq for a subject of `weight_kg`."""
        usual = self.injected_mbq * (weight_kg if self.per_kg else 1.0)
        return float(usual * np.exp(rng.normal(0, self.injected_spread)))


TRACERS = {
    tracer.name: tracer
    for tracer in (
        Tracer(
            name="FDG",
            isotope=ISOTOPES["18F"],
            injected_mbq=4.1,
            per_kg=True,
            injected_spread=0.10,
            first_s=(3600, 600),
            delayed_s=(7200, 600),
            feng=Feng(A1=104.0, A2=2.67, A3=2.54, l1=4.134, l2=0.1191, l3=0.0060, tau=0.4),
            whole_blood=0.90,
            amplitude_spread=0.20,
            tail_spread=0.10,
            rows=tables.FDG,
            lesion=tables.LESIONS["FDG"],
            glucose=5.7,
            fasting=0.4,
            metabolite=None,
            source="4.1 MBq/kg and glucose near 6 mmol/L: Boktor 2013. Arterial curve: l1, l2 and the ratios of A1, "
            "A2, A3 of Feng 1993; its l3 of 0.0104, fitted to short studies, would let blood fall by 47 % from 60 to "
            "120 min, so l3 0.0060 is chosen for 30 %; height: blood of Boktor 2013. Whole blood 0.90 of plasma: water "
            "of cells and plasma, chosen. Glucose: PMC5553544 (brain), Lindholm 2013 (nothing else). Fasting share: "
            "chosen.",
        ),
        Tracer(
            name="DOPA",
            isotope=ISOTOPES["18F"],
            injected_mbq=185.0,
            per_kg=False,
            injected_spread=0.10,
            first_s=(4800, 1200),
            delayed_s=(7200, 1200),
            feng=Feng(A1=120.0, A2=4.5, A3=1.25, l1=4.134, l2=0.12, l3=0.0155, tau=0.4),
            whole_blood=1.0,
            amplitude_spread=0.16,
            tail_spread=0.12,
            rows=tables.DOPA,
            lesion=tables.LESIONS["DOPA"],
            glucose=None,
            fasting=0.0,
            metabolite=Metabolite(formed=0.0082, cleared=0.005, volume=1.35),
            source="185 MBq: JNM 2012 S1:1090. Arterial curve and formation of OMFD: chosen, so that OMFD is two "
            "thirds of plasma at 90 min and striatum near twice the cortex with the rates of Huang 1991; OMFD shares "
            "the carrier and has a volume near 1 in brain (Wahl 1994).",
        ),
        Tracer(
            name="PSMA",
            isotope=ISOTOPES["68Ga"],
            injected_mbq=140.0,
            per_kg=False,
            injected_spread=0.10,
            first_s=(3600, 600),
            delayed_s=(10_800, 900),
            feng=Feng(A1=130.0, A2=6.0, A3=2.75, l1=4.134, l2=0.10, l3=0.0052, tau=0.4),
            whole_blood=0.58,
            amplitude_spread=0.18,
            tail_spread=0.12,
            rows=tables.PSMA,
            lesion=tables.LESIONS["PSMA"],
            glucose=None,
            fasting=0.0,
            metabolite=None,
            source="140 MBq: Pfob 2016. No metabolites, two tissues: Ringheim 2020. Arterial curve: chosen, so that "
            "lesions stand to blood as in Kurash 2020 and blood halves from 1 h to 3 h; whole blood 0.58 of plasma: "
            "one less a haematocrit of 0.42, as the tracer stays out of the cells, chosen.",
        ),
    )
}
"""Tracers by prompt word."""


def find_tracer(name: str) -> Tracer:
    """The tracer of that name.

    Raises
    ------
    AllpetError : unknown name; the message lists the known ones.
    """
    if name not in TRACERS:
        raise AllpetError(f"tracer {name!r} is not known; known tracers: {', '.join(TRACERS)}")
    return TRACERS[name]


@dataclass(frozen=True, eq=False)
class Uptake:
    """One subject's own kinetics of one tracer: ``uptake["liver"].suv(start_s, stop_s)``.

    Parameters
    ----------
    tracer : its name. feng : arterial plasma curve in SUV. rates : one a tissue, in the order of `TISSUES`.
    glucose : blood glucose over its median (1 where it plays no part).
    """

    tracer: str
    feng: Feng
    rates: Rates
    glucose: float = 1.0

    @cached_property
    def curves(self) -> Curve:
        """The curves of all tissues, in the order of `TISSUES`."""
        stores = np.isin(TISSUES, tables.STORES)
        return self._curve(self.rates, np.where(stores, 0.0, 1.0))

    def suv(self, start_s: ArrayLike, stop_s: ArrayLike) -> Floats:
        """SUV of every tissue in every frame at once: ``(tissues, *frames)``, see :meth:`Curve.suv`."""
        return self.curves.suv(start_s, stop_s)

    def __getitem__(self, name: str) -> Curve:
        """The curve of one tissue.

        Raises
        ------
        AllpetError : unknown tissue; the message lists the known ones.
        """
        if name not in INDEX:
            raise AllpetError(f"tissue {name!r} is not known; known tissues: {', '.join(TISSUES)}")
        return self.curves[INDEX[name]]

    def lesion(self, kind: str, host: str, rng: np.random.Generator) -> Curve:
        """Curve of a lesion in the tissue `host`.

        A hot one has the kinetics of the tracer's lesions and is scaled up where that leaves it below 1.4 to 2.5 times
        its host in the first frame. A cold one is 0.15 to 0.6 of its host at all times. A necrotic one is
        the centre of a lesion without living cells. These factors are chosen.

        Parameters
        ----------
        kind : "hot", "cold" or "necrotic". host : one of `TISSUES` but air. rng : the only source of chance.

        Raises
        ------
        AllpetError : unknown kind or host.
        """
        if kind not in KINDS:
            raise AllpetError(f"lesion {kind!r} is not known; known kinds: {', '.join(KINDS)}")
        around = self[host]
        if host == "air":
            raise AllpetError("lesion in air; its host must be another tissue")
        if kind == "cold":
            return around.scaled(rng.uniform(0.15, 0.6))
        if kind == "necrotic":
            slow = float(np.exp(rng.normal(0, 0.25)))
            return self._curve(replace(NECROSIS, K1=slow * float(np.asarray(NECROSIS.K1))), np.ones(()))
        _, K1, k2, k3, k4, blood, spread, trapped, _ = TRACERS[self.tracer].lesion
        factor, trap = np.exp(rng.normal(0, 1, 2) * (spread, trapped))
        least = rng.uniform(1.4, 2.5)
        hot = self._curve(Rates(K1 * factor, k2, k3 * trap / self.glucose, k4, blood), np.ones(()))
        start, length = TRACERS[self.tracer].first_s
        shortfall = least * around.suv(start, start + length) / hot.suv(start, start + length)
        return hot.scaled(max(1.0, float(shortfall)))

    def _curve(self, rates: Rates, follows: Floats) -> Curve:
        """Curves of `rates`; metabolites enter where `follows` is 1."""
        tracer = TRACERS[self.tracer]
        plasma = self.feng.chains
        blood: tuple[Chains, ...] = (plasma.scaled(tracer.whole_blood),)
        second = None
        if tracer.metabolite is not None:
            formed = plasma.append(tracer.metabolite.cleared, tracer.metabolite.formed)
            blood = (*blood, formed.scaled(tracer.whole_blood))
            K1, k2 = np.asarray(rates.K1, float), np.asarray(rates.k2, float)
            second = (formed, Rates(K1 * follows, k2 / tracer.metabolite.volume))
        return tissue(plasma, blood, rates, tracer.isotope, self.feng.tau, second)


def typical_uptake(tracer: str) -> Uptake:
    """The uptake without spread: medians of everything, a myocardium that takes up glucose.

    Raises
    ------
    AllpetError : unknown tracer.
    """
    found = find_tracer(tracer)
    return Uptake(found.name, found.feng, Rates(*found.numbers[:, :5].T))


def draw_uptake(rng: np.random.Generator, tracer: str) -> Uptake:
    """One subject's kinetics, drawn around the tables; `rng` is the only source of chance.

    The arterial curve's height is common to all tissues, so a heavy subject is brighter everywhere. Tissues of
    one group (`tables.GROUPS`) share most of their deviation. Blood glucose divides k3 of brain and lesions.

    Raises
    ------
    AllpetError : unknown tracer.
    """
    found = find_tracer(tracer)
    height, tail, glucose = rng.normal(0, (found.amplitude_spread, found.tail_spread, 0.12))
    arrival, fasting = rng.uniform(0, 1, 2)
    deviations = rng.normal(size=(2, len(tables.GROUPS) + len(TISSUES)))
    numbers = found.numbers * 1.0
    numbers[:, [0, 2]] *= np.exp(numbers[:, 5:7] * (deviations @ _MIXING).T)
    relative = float(np.exp(glucose)) if found.glucose is not None else 1.0
    numbers[list(_BRAIN), 2] /= relative
    if fasting < found.fasting:
        numbers[INDEX["myocardium"], 2] *= 0.03
    return Uptake(found.name, _drawn_input(found, height, tail, arrival), Rates(*numbers[:, :5].T), relative)


def _drawn_input(tracer: Tracer, height: float, tail: float, arrival: float) -> Feng:
    """The arterial curve times e^height, its slowest exponent times e^tail, arriving after 0.2 to 0.6 min."""
    usual = tracer.feng
    middle = (tracer.first_s[0] + tracer.first_s[1] / 2) / 60
    slowest = usual.l3 * math.exp(tail)
    pivot = math.exp((slowest - usual.l3) * middle)
    scale = math.exp(height)
    return Feng(
        A1=usual.A1 * scale,
        A2=usual.A2 * scale,
        A3=usual.A3 * scale * pivot,
        l1=usual.l1,
        l2=usual.l2,
        l3=slowest,
        tau=0.2 + 0.4 * arrival,
    )


def _mixing() -> Floats:
    """Weights that turn deviations of groups and tissues into one a tissue of unit variance."""
    mixing = np.concatenate((np.zeros((len(tables.GROUPS), len(TISSUES))), np.eye(len(TISSUES))))
    for number, members in enumerate(tables.GROUPS.values()):
        for member in members:
            mixing[:, INDEX[member]] *= math.sqrt(1 - SHARED)
            mixing[number, INDEX[member]] = math.sqrt(SHARED)
    return mixing


_MIXING = _mixing()
_BRAIN = tuple(INDEX[name] for name in tables.GROUPS["brain"])


if __name__ == "__main__":
    from allpet.scan.tracer_published import page

    print(page(), end="")
