"""How a job's time and memory grow with its size: what is fitted, and how well it fits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Fit:
    """One job at several sizes.

    Parameters
    ----------
    name : of the job. axis : what grows. sizes : its values. seconds : at each. memory_sizes, memory : peak in MiB
        where it was measured. power : whether the fit is a power law ``t = a n^b``, else ``t = a + b n``.
    """

    name: str
    axis: str
    sizes: tuple[int, ...]
    seconds: tuple[float, ...]
    memory_sizes: tuple[int, ...]
    memory: tuple[float, ...]
    power: bool

    @property
    def coefficients(self) -> tuple[float, float]:
        """a and b of the time in s."""
        return power_law(self.sizes, self.seconds) if self.power else line(self.sizes, self.seconds)

    def at(self, n: Any) -> Any:
        """The fitted time in s."""
        a, b = self.coefficients
        return a * np.asarray(n, float) ** b if self.power else a + b * np.asarray(n, float)

    @property
    def residual(self) -> float:
        """Largest relative distance of a time from the fit."""
        return float(np.abs(np.asarray(self.seconds) / self.at(self.sizes) - 1).max())

    @property
    def last_exponent(self) -> float:
        """Slope of log time over log size between the two largest sizes."""
        return exponent(self.sizes[-2:], self.seconds[-2:])

    @property
    def memory_line(self) -> tuple[float, float] | None:
        """MiB at nothing and MiB a unit; None where memory does not grow with a count."""
        return None if self.power or len(self.memory) < 2 else line(self.memory_sizes, self.memory)

    def time_text(self) -> str:
        """The fit in words."""
        a, b = self.coefficients
        if self.power:
            return f"n^{b:.2f}; between the two largest n^{self.last_exponent:.2f}"
        return f"{1e3 * a:.3g} ms + {1e3 * b:.3g} ms n"

    def memory_text(self) -> str:
        """The memory's fit in words."""
        known = self.memory_line
        return "" if known is None else f"{known[0]:.0f} MiB + {known[1]:.3g} MiB n"

    def facts(self) -> dict[str, Any]:
        """As plain JSON values."""
        a, b = self.coefficients
        known = self.memory_line
        return dict(
            job=self.name,
            axis=self.axis,
            sizes=list(self.sizes),
            seconds=[_short(t) for t in self.seconds],
            model="a * n ** b" if self.power else "a + b * n",
            a=_short(a),
            b=_short(b),
            largest_relative_residual=_short(self.residual),
            exponent_over_all=_short(exponent(self.sizes, self.seconds)),
            exponent_of_the_two_largest=_short(self.last_exponent),
            memory_sizes=list(self.memory_sizes),
            peak_mib=list(self.memory),
            memory_mib=None if known is None else dict(a=_short(known[0]), b=_short(known[1])),
        )


def line(sizes: Any, values: Any) -> tuple[float, float]:
    """``values = a + b * sizes`` with a, b >= 0 and the least sum of squared relative errors."""
    from scipy.optimize import nnls

    n, t = np.asarray(sizes, float), np.asarray(values, float)
    (a, b), _ = nnls(np.stack([1 / t, n / t], axis=1), np.ones(len(t)))
    return float(a), float(b)


def power_law(sizes: Any, values: Any) -> tuple[float, float]:
    """``values = a * sizes ** b`` with the least sum of squared errors of logarithms."""
    if len(sizes) < 2:
        return float(values[0]), 0.0
    b, log_a = np.polyfit(np.log(sizes), np.log(values), 1)
    return float(np.exp(log_a)), float(b)


def exponent(sizes: Any, values: Any) -> float:
    """Of the power law."""
    return power_law(sizes, values)[1]


def grown(rows: list[dict[str, Any]]) -> list[Fit]:
    """The jobs that were done at several sizes, in their order."""
    jobs: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        jobs.setdefault(row["job"], []).append(row)
    out = []
    for name, mine in jobs.items():
        mine = sorted(mine, key=lambda row: row["n"])
        if mine[0]["unit"] == "scan":
            continue
        weighed = [row for row in mine if "peak_mib" in row]
        sizes = tuple(row["n"] for row in mine)
        seconds = tuple(row["stats"]["median"] / row["count"] for row in mine)
        memory = tuple(row["peak_mib"] for row in weighed)
        out.append(Fit(name, mine[0]["axis"], sizes, seconds, tuple(r["n"] for r in weighed), memory, mine[0]["power"]))
    return out


def _short(value: float) -> float:
    return float(f"{value:.4g}")
