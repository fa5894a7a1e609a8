"""Tracer kinetics in closed form: arterial input, two-tissue compartments, decay, and means over frames.

Everything here is a sum of *chains*, ``c * (e^(-r1 t) (x) e^(-r2 t) (x) ... (x) e^(-rn t))``, (x) being the convolution
over [0, t]. The arterial input is one, a compartment appends an exponential, decay adds its constant to every rate and
an integral appends a rate of 0. A chain's value is a divided difference of the exponential function,

    e^(-r1 t) (x) ... (x) e^(-rn t) = t^(n-1) exp[-r1 t, ..., -rn t],

which is smooth when rates coincide (k3 = 0, k4 = 0, equal exponents): no case needs a formula of its own and nothing
is integrated numerically. Times are minutes and rates 1/min, except where a name ends in ``_s`` (seconds).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike, NDArray

from allpet.errors import AllpetError

Floats = NDArray[np.float64]

SMALL_SPREAD = 0.5
TAYLOR_TERMS = 12
"""Nodes closer than this are summed as a Taylor series; 12 terms leave less than 1e-15 of it."""


@dataclass(frozen=True)
class Isotope:
    """A positron emitter.

    Parameters
    ----------
    name : mass number and symbol, "18F". half_life_min : in min. branching : positrons per decay.
    mean_range_mm : mean distance between decay and annihilation in water in mm.
    source : of these numbers.
    """

    name: str
    half_life_min: float
    branching: float
    mean_range_mm: float
    source: str

    @property
    def rate(self) -> float:
        """Decay constant in 1/min."""
        return math.log(2) / self.half_life_min

    def decay(self, t_s: ArrayLike) -> Floats:
        """Share of the activity that is left `t_s` seconds after the reference time."""
        return np.exp2(-np.asarray(t_s, float) / (60 * self.half_life_min))

    def mean_decay(self, start_s: ArrayLike, stop_s: ArrayLike) -> Floats:
        """Mean of :meth:`decay` from `start_s` to `stop_s`; its value at `start_s` for an empty frame."""
        span = self.rate * (np.asarray(stop_s, float) - np.asarray(start_s, float)) / 60
        return self.decay(start_s) * exp_difference(np.stack(np.broadcast_arrays(-span, 0.0), axis=-1))

    @property
    def range_scale_mm(self) -> float:
        """Scale a of the positron range's blur along one axis, ``e^(-|x|/a) / (2a)``, in mm.

        The blur in space is ``e^(-r/a) / (4 pi a^2 r)``, whose projection onto any line or plane keeps the transfer
        function ``1 / (1 + (2 pi f a)^2)`` and whose mean distance is 2 a. The measured cusp has this shape (Levin and
        Hoffman 1999, Phys Med Biol 44:781); one exponential instead of two is chosen, as the mean range fixes it.
        """
        return self.mean_range_mm / 2


ISOTOPES = {
    isotope.name: isotope
    for isotope in (
        Isotope("18F", 109.77, 0.969, 0.6, "J Nucl Med 2022;63:649, Table 3"),
        Isotope("68Ga", 67.71, 0.889, 3.5, "J Nucl Med 2022;63:649, Table 3, both branches together"),
    )
}
"""Isotopes by name; half-lives as scanners write them into DICOM (6586.2 s and 4062.6 s)."""


@dataclass(frozen=True)
class Rates:
    """Rate constants of the two-tissue compartment model, numbers or arrays of one shape.

    ``C1' = K1 Cp - (k2 + k3) C1 + k4 C2``, ``C2' = k3 C1 - k4 C2``, tissue = (1 - blood) (C1 + C2) + blood Cb.

    Parameters
    ----------
    K1 : mL plasma / min / mL tissue. k2, k3, k4 : 1/min. blood : share of the volume that is whole blood, 0 to 1.

    Raises
    ------
    AllpetError : a negative or non-finite rate, or `blood` outside 0 to 1.
    """

    K1: ArrayLike
    k2: ArrayLike
    k3: ArrayLike = 0.0
    k4: ArrayLike = 0.0
    blood: ArrayLike = 0.0

    def __post_init__(self) -> None:
        for part in fields(self):
            value = np.asarray(getattr(self, part.name), float)
            if not (np.isfinite(value).all() and (value >= 0).all()):
                raise AllpetError(f"{part.name} is {getattr(self, part.name)}; a rate must be finite and not negative")
        if (np.asarray(self.blood) > 1).any():
            raise AllpetError(f"blood is {self.blood}; the share of blood must lie between 0 and 1")

    @property
    def table(self) -> Floats:
        """The five numbers along the last axis, in the order of the fields."""
        values = [np.asarray(getattr(self, part.name), float) for part in fields(self)]
        return np.stack(np.broadcast_arrays(*values), axis=-1)


@dataclass(frozen=True, eq=False)
class Chains:
    """Sum of convolutions of exponentials: ``weight`` ``(..., m)``, ``rates`` ``(..., m, n)`` in 1/min, n factors each.

    Leading axes stand for curves (one a tissue) and broadcast.
    """

    weight: Floats
    rates: Floats

    def append(self, rate: ArrayLike, weight: ArrayLike = 1.0) -> Chains:
        """These chains convolved with ``weight * e^(-rate t)``; `rate` and `weight` add leading axes."""
        rate, weight = np.broadcast_arrays(np.asarray(rate, float), np.asarray(weight, float))
        new = np.broadcast_shapes(self.weight.shape, (*rate.shape, 1))
        rates = np.empty((*new, self.rates.shape[-1] + 1))
        rates[..., :-1] = self.rates
        rates[..., -1] = rate[..., None]
        return Chains(self.weight * weight[..., None], rates)

    def scaled(self, weight: ArrayLike) -> Chains:
        """These chains times `weight`, whose axes lead."""
        return Chains(self.weight * np.asarray(weight, float)[..., None], self.rates)

    def __getitem__(self, index: int) -> Chains:
        """One curve of several."""
        shape = np.broadcast_shapes(self.weight.shape, self.rates.shape[:-1])
        rates = np.broadcast_to(self.rates, (*shape, self.rates.shape[-1]))
        return Chains(np.broadcast_to(self.weight, shape)[index], rates[index])

    def at(self, t: Floats, extra: float = 0.0, integrate: bool = False) -> Floats:
        """Value times ``e^(-extra t)`` at minutes `t`, or the integral of that from 0 to `t`; 0 before 0.

        Shape: that of the curves followed by that of `t`.
        """
        t = np.maximum(np.asarray(t, float), 0.0)
        rates = self.rates + extra
        if integrate:
            rates = np.concatenate((rates, np.zeros((*rates.shape[:-1], 1))), axis=-1)
        curves = self.weight.shape[:-1]
        rates = rates.reshape(*rates.shape[:-2], *(1,) * t.ndim, *rates.shape[-2:])
        weight = self.weight.reshape(*curves, *(1,) * t.ndim, -1)
        value = exp_difference(-rates * t[..., None, None]) * t[..., None] ** (rates.shape[-1] - 1)
        return (weight * value).sum(axis=-1)


@dataclass(frozen=True)
class Feng:
    """Arterial plasma curve of the measured form of Feng, Huang and Wang 1993 (Int J Biomed Comput 32:95), in SUV.

    ``Cp(t) = (A1 u - A2 - A3) e^(-l1 u) + A2 e^(-l2 u) + A3 e^(-l3 u)``, u = t - tau, and 0 before tau.

    Parameters
    ----------
    A1 : SUV/min. A2, A3 : SUV. l1, l2, l3 : 1/min, l1 the largest. tau : arrival in min.

    Raises
    ------
    AllpetError : a negative number, or l1 not the largest exponent (the curve would be negative).
    """

    A1: float
    A2: float
    A3: float
    l1: float
    l2: float
    l3: float
    tau: float = 0.0

    def __post_init__(self) -> None:
        if min(self.A1, self.A2, self.A3, self.l1, self.l2, self.l3, self.tau) < 0:
            raise AllpetError(f"{self} has a negative parameter; all must be 0 or more")
        if self.l1 < max(self.l2, self.l3):
            raise AllpetError(f"{self} has l1 below l2 or l3; l1 must be the largest exponent")

    @property
    def chains(self) -> Chains:
        """The curve as a function of t - tau: e^(-a t) - e^(-b t) is (b - a) times a chain of a and b."""
        weight = (self.A1, self.A2 * (self.l1 - self.l2), self.A3 * (self.l1 - self.l3))
        rates = ((self.l1, self.l1), (self.l1, self.l2), (self.l1, self.l3))
        return Chains(np.array(weight), np.array(rates))


@dataclass(frozen=True, eq=False)
class Curve:
    """Activity concentration over time in SUV, corrected for decay to the injection: one curve or an array of curves.

    Parameters
    ----------
    parts : summed. isotope : whose decay weighs the frames. tau : time before which all is 0, in min.
    """

    parts: tuple[Chains, ...]
    isotope: Isotope
    tau: float = 0.0

    def __getitem__(self, index: int) -> Curve:
        """One curve of several."""
        return Curve(tuple(part[index] for part in self.parts), self.isotope, self.tau)

    def scaled(self, factor: ArrayLike) -> Curve:
        """This curve times `factor`."""
        return Curve(tuple(part.scaled(factor) for part in self.parts), self.isotope, self.tau)

    def at(self, t_s: ArrayLike) -> Floats:
        """SUV at `t_s` seconds after the injection, shape of the curves followed by that of `t_s`."""
        t = np.asarray(t_s, float) / 60 - self.tau
        return np.asarray(sum(part.at(t) for part in self.parts))

    def suv(self, start_s: ArrayLike, stop_s: ArrayLike) -> Floats:
        """SUV of frames as a scanner gives it: mean activity over mean decay, both of the frame.

        ``(integral C 2^(-t/T) dt) / (integral 2^(-t/T) dt)``, exact; shape of the curves followed by that of the
        frames, whose ends in s after the injection broadcast.

        Raises
        ------
        AllpetError : a frame that does not end after it starts, or starts before the injection.
        """
        start, stop = np.broadcast_arrays(np.asarray(start_s, float), np.asarray(stop_s, float))
        if not ((stop > start) & (start >= 0)).all():
            raise AllpetError(f"frame from {start_s!r} s to {stop_s!r} s; it must start at 0 s or later and then end")
        ends = np.stack((start, stop), axis=-1) / 60 - self.tau
        rate = self.isotope.rate
        counts = np.asarray(sum(part.at(ends, rate, integrate=True) for part in self.parts))
        weight = self.isotope.mean_decay(start, stop) * (stop - start) / 60
        return (counts[..., 1] - counts[..., 0]) * math.exp(-rate * self.tau) / weight


def respond(plasma: Chains, rates: Rates) -> list[Chains]:
    """Concentration C1 + C2 in tissue without its blood, as chains; axes of `rates` lead.

    The impulse response K1 (s + k3 + k4) / ((s + a1) (s + a2)) is taken apart as K1 / (s + a2) plus
    K1 (k3 + k4 - a1) / ((s + a1) (s + a2)): no term is negative or has a pole in the rates. a1 and a2 are
    those of Phelps et al. 1979 (Ann Neurol 6:371).
    """
    K1, k2, k3, k4, _ = np.moveaxis(rates.table, -1, 0)
    total = k2 + k3 + k4
    fast = (total + np.sqrt(np.maximum(total**2 - 4 * k2 * k4, 0.0))) / 2
    slow = np.divide(k2 * k4, fast, out=np.zeros_like(fast), where=fast > 0)
    first = plasma.append(fast, K1)
    return [first, first.append(slow, np.maximum(k3 + k4 - slow, 0.0))]


def tissue(
    plasma: Chains,
    blood: Chains | tuple[Chains, ...],
    rates: Rates,
    isotope: Isotope,
    tau: float = 0.0,
    metabolite: tuple[Chains, Rates] | None = None,
) -> Curve:
    """Curves of tissues with their blood: (1 - blood) (C1 + C2) + blood Cb.

    Parameters
    ----------
    plasma : unchanged tracer in arterial plasma. blood : all activity in whole blood. rates : one tissue or an array.
    isotope, tau : as in :class:`Curve`. metabolite : its plasma curve and its own rates (their `blood` is not used).
    """
    parts = respond(plasma, rates)
    if metabolite is not None:
        parts += respond(*metabolite)
    share = np.asarray(rates.blood, float)
    whole = (blood,) if isinstance(blood, Chains) else blood
    mixed = [part.scaled(1 - share) for part in parts] + [part.scaled(share) for part in whole]
    return Curve(tuple(mixed), isotope, tau)


def exp_difference(nodes: Floats) -> Floats:
    """Divided difference of the exponential function over the nodes along the last axis, ``(..., n)`` -> ``(...)``.

    Nodes may coincide (for n equal ones it is e^x / (n-1)!) and come in any order. Recursion where they are apart and a
    Taylor series where they are close, as McCurdy, Ng and Parlett 1984 (Math Comp 43:501) advise; relative error below
    1e-12 for up to six nodes.
    """
    x = np.sort(nodes, axis=-1)
    gap = x[..., 1:] - x[..., :-1]
    table = np.exp(x)
    if x.shape[-1] == 1:
        return table[..., 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        table = table[..., 1:] * np.where(gap > 0, -np.expm1(-gap) / gap, 1.0)
        for order in range(2, x.shape[-1]):
            spread = x[..., order:] - x[..., :-order]
            close = spread < SMALL_SPREAD
            table = (table[..., 1:] - table[..., :-1]) / spread
            if close.any():
                windows = np.lib.stride_tricks.sliding_window_view(x, order + 1, axis=-1)
                table[close] = _close_difference(windows[close])
    return table[..., 0]


def _close_difference(x: Floats) -> Floats:
    """The same for close nodes, ``(m, n)`` -> ``(m,)``: e^c sum_k h_k(x - c) / (n - 1 + k)!, h_k the complete
    homogeneous symmetric polynomials."""
    count = x.shape[-1]
    centre = x.mean(axis=-1)
    h = np.zeros((TAYLOR_TERMS, len(x)))
    h[0] = 1.0
    for offset in np.moveaxis(x, -1, 0) - centre:
        for k in range(1, TAYLOR_TERMS):
            h[k] += offset * h[k - 1]
    weight = [1 / math.factorial(count - 1 + k) for k in range(TAYLOR_TERMS)]
    return np.exp(centre) * (np.array(weight) @ h)
