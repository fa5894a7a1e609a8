"""Headline figures: what is measured beside what is expected, with the noise that is stated."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from allpet.errors import AllpetError

SIGMAS = 3.0
"""Standard deviations by which a figure may differ."""
LEAST = 0.005
"""Least noise, as a share of the figure: other processors and versions of libraries round otherwise."""
PAIRED = 0.1
"""Share of the spread over seeds that counts as noise where the same people and draws are compared."""
ROUNDING = 1e-6
"""Relative difference that is none."""
EXPECTED = "expected.json"
Verdict = Literal["as expected", "worse", "better", "no expectation"]


@dataclass(frozen=True)
class Headline:
    """A figure.

    Parameters
    ----------
    name, table, label, unit : what it is. better : the right side. goal : of the project, for a size (empty: for all).
    exact : it has no noise.
    """

    name: str
    table: str
    label: str
    better: Literal["higher", "lower"]
    unit: str = ""
    goal: float | None = None
    exact: bool = False
    goal_at: str = ""


@dataclass(frozen=True)
class Expected:
    """What a figure should be.

    Parameters
    ----------
    value : mean over evaluation seeds. sd : standard deviation of one seed, over so many `seeds`. arithmetic : by how
    much another arithmetic changed it for the same seeds. noise : standard deviation of the difference between a run's
    figure and `value`, of all this. by_seed : value of each seed. paired : for a run with the very seeds that were
    calibrated with, see :func:`paired`.
    """

    value: float
    noise: float
    sd: float
    seeds: int
    arithmetic: float = 0.0
    by_seed: dict[str, float] = field(default_factory=dict)
    paired: bool = False


@dataclass(frozen=True)
class Judged:
    """A figure as measured: `values` of each of `seeds`, their mean, and what to say about it."""

    headline: Headline
    value: float
    values: tuple[float, ...]
    seeds: tuple[int, ...]
    expected: Expected | None
    verdict: Verdict
    goal_met: bool | None

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self.headline) | dict(
            value=self.value,
            values=list(self.values),
            seeds=list(self.seeds),
            expected=None if self.expected is None else asdict(self.expected),
            verdict=self.verdict,
            goal_met=self.goal_met,
        )


@cache
def headlines() -> dict[str, Headline]:
    """All figures by name, in the order of ``headlines.toml``."""
    text = files("allpet.evidence").joinpath("headlines.toml").read_text(encoding="utf-8")
    return {name: Headline(name, **facts) for name, facts in tomllib.loads(text).items()}


def expectations(size: str, path: Path | None = None) -> dict[str, Expected]:
    """What is expected at a size, from the package or another file.

    Raises
    ------
    AllpetError : the file cannot be read.
    """
    try:
        text = (path or files("allpet.evidence").joinpath(EXPECTED)).read_text(encoding="utf-8")
        found = json.loads(text).get(size, {}).get("figures", {})
        return {name: Expected(**facts) for name, facts in found.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise AllpetError(
            f"{path or EXPECTED}: is no file of expectations ({error}); allpet evaluate calibrate"
        ) from None


def scaled(headline: Headline, value: float) -> float:
    """As it is shown: shares in per cent where the unit is."""
    return value * 100 if headline.unit == "%" and headline.table == "tasks" else value


def judge(
    values: Mapping[str, Mapping[int, float]],
    expected: Mapping[str, Expected],
    size: str = "full",
) -> list[Judged]:
    """Every figure that was measured, in order.

    Parameters
    ----------
    values : by name, of each evaluation seed that has one.
    """
    out = []
    for name, headline in headlines().items():
        if not values.get(name):
            continue
        several = tuple(scaled(headline, v) for v in values[name].values())
        value = sum(several) / len(several)
        wanted = expected.get(name)
        if wanted is not None:
            wanted = paired(wanted, tuple(values[name]), headline.exact)
        goal = headline.goal if headline.goal_at in ("", size) else None
        met = None if goal is None else _ahead(headline, value, goal) >= -ROUNDING * abs(goal)
        said = verdict(headline, value, wanted)
        out.append(Judged(headline, value, several, tuple(values[name]), wanted, said, met))
    return out


def verdict(headline: Headline, value: float, expected: Expected | None) -> Verdict:
    """Worse or better by more than the noise allows, or as expected."""
    if expected is None:
        return "no expectation"
    ahead = _ahead(headline, value, expected.value)
    allowed = SIGMAS * expected.noise + ROUNDING * abs(expected.value)
    return "worse" if ahead < -allowed else "better" if ahead > allowed else "as expected"


def paired(expected: Expected, seeds: Sequence[int], exact: bool = False) -> Expected:
    """What is expected of a run with just these seeds, where all of them were calibrated with; else as it is.

    People, counts and draws are then the same, and cancel: what is left is the arithmetic, a tenth of the spread over
    seeds for what libraries and processors do otherwise, and at least half a per cent.
    """
    known = [expected.by_seed.get(str(seed)) for seed in seeds]
    same = [value for value in known if value is not None]
    if not same or len(same) < len(known):
        return expected
    value = sum(same) / len(same)
    noise = 0.0 if exact else _paired_noise(expected, value, len(same))
    return replace(expected, value=value, noise=noise, paired=True)


def _paired_noise(expected: Expected, value: float, repeats: int) -> float:
    return max(math.hypot(expected.arithmetic, PAIRED * expected.sd / math.sqrt(repeats)), LEAST * abs(value))


def _ahead(headline: Headline, value: float, other: float) -> float:
    return value - other if headline.better == "higher" else other - value


def noise_of(values: Sequence[float], repeats: int, arithmetic: float = 0.0, least: float = LEAST) -> Expected:
    """Expectation from the values of several seeds, for runs of `repeats` seeds each.

    The standard deviation is corrected for the few values it is of; the noise holds that of a run's mean, that of the
    expected value, and the difference between arithmetics.
    """
    n = len(values)
    value = sum(values) / n
    sd = 0.0
    if n > 1:
        few = math.sqrt(2 / (n - 1)) * math.gamma(n / 2) / math.gamma((n - 1) / 2)
        sd = math.sqrt(sum((v - value) ** 2 for v in values) / (n - 1)) / few
    noise = max(math.sqrt(sd**2 * (1 / repeats + 1 / n) + arithmetic**2), least * abs(value))
    value, noise, sd, arithmetic = (float(f"{x:.9g}") for x in (value, noise, sd, arithmetic))
    return Expected(value, noise, sd, n, arithmetic)


def calibrate(
    reports: Sequence[Mapping[str, Any]], others: Sequence[Mapping[str, Any]] = ()
) -> tuple[str, dict[str, Any]]:
    """The size, and its entry of ``expected.json``, from runs with different seeds.

    Parameters
    ----------
    others : runs with the same seeds as some of `reports`, but with another arithmetic or on another processor.

    Raises
    ------
    AllpetError : runs of several sizes or models, seeds that occur twice, fewer than three seeds.
    """
    first = reports[0]
    for key in ("size", "model_hash"):
        if len({one[key] for one in (*reports, *others)}) > 1:
            raise AllpetError(f"the runs differ in {key}; calibrate with runs of one size and one model")
    seeds = [seed for one in reports for seed in one["seeds"]]
    if len(set(seeds)) < len(seeds):
        raise AllpetError(f"seeds {seeds} are not all different; run with another --seed")
    if len(seeds) < 3:
        raise AllpetError(f"{len(seeds)} evaluation seeds; at least 3 are needed, better 8 (--seed 0, --seed 1, ...)")
    figures = {}
    for name, headline in headlines().items():
        pooled = [v for one in reports for v in _values(one, name)]
        if len(pooled) >= 3 or (pooled and headline.exact):
            apart = [_difference(mine, other, name) for other in others for mine in reports]
            known = max((abs(x) for x in apart if x is not None), default=0.0)
            least = 0.0 if headline.exact else LEAST
            made = noise_of(pooled, len(first["seeds"]), known, least)
            seen = {str(s): v for one in reports for s, v in _by_seed(one, name).items()}
            made = replace(made, by_seed={seed: float(f"{v:.9g}") for seed, v in seen.items()})
            if made.noise > 0 or headline.exact:  # one that is always 0 could not be judged
                figures[name] = asdict(made)
    return first["size"], dict(
        how=f"mean and standard deviation over evaluation seeds {', '.join(map(str, sorted(seeds)))}; "
        + (f"arithmetic beside it: {', '.join(str(o['precision']) for o in others)}" if others else "one arithmetic"),
        commands=[_command(one) for one in (*reports, *others)],
        machine=first["machine"],
        model_hash=first["model_hash"],
        figures=figures,
    )


def _command(report: Mapping[str, Any]) -> str:
    """What repeats a run, without its folders."""
    seeds = report["seeds"]
    words = f"allpet evaluate all --size {report['size']} --seed {seeds[0] // len(seeds)}"
    return words if report["precision"] == "auto" else f"{words} --precision {report['precision']}"


def _by_seed(report: Mapping[str, Any], name: str) -> dict[int, float]:
    """A figure of each evaluation seed that has one."""
    found = next((one for one in report["headlines"] if one["name"] == name), None)
    return {} if found is None else dict(zip(found.get("seeds", report["seeds"]), found["values"], strict=False))


def _values(report: Mapping[str, Any], name: str) -> list[float]:
    return list(_by_seed(report, name).values())


def _difference(one: Mapping[str, Any], other: Mapping[str, Any], name: str) -> float | None:
    """Of the means over the same seeds; None for other seeds."""
    a, b = _values(one, name), _values(other, name)
    return sum(a) / len(a) - sum(b) / len(b) if one["seeds"] == other["seeds"] and a and b else None


def compare(one: Mapping[str, Any], other: Mapping[str, Any], expected: Mapping[str, Expected]) -> list[dict[str, Any]]:
    """Figures of two runs of one size: values, difference, what noise allows, whether they agree.

    Runs with the same seeds may differ by paired noise alone, see :func:`paired`.

    Parameters
    ----------
    expected : of that size, for the noise.

    Raises
    ------
    AllpetError : runs of different sizes, or without a figure in common whose noise is stated.
    """
    if one["size"] != other["size"]:
        raise AllpetError(f"the runs are of the sizes {one['size']} and {other['size']}; compare runs of one size")
    theirs = {row["name"]: row for row in other["headlines"]}
    rows = []
    for row in one["headlines"]:
        if row["name"] not in theirs:
            continue
        a, b = row["value"], theirs[row["name"]]["value"]
        wanted = expected.get(row["name"])
        allowed = None
        if wanted is not None:
            repeats = len(row["values"])
            noise = math.sqrt(wanted.sd**2 * 2 / repeats + wanted.arithmetic**2)
            if one["seeds"] == other["seeds"]:
                noise = _paired_noise(wanted, a, repeats)
            allowed = SIGMAS * (0.0 if row["exact"] else max(noise, LEAST * abs(a))) + ROUNDING * abs(a)
        agree = None if allowed is None else abs(a - b) <= allowed
        facts = dict(name=row["name"], label=row["label"], unit=row["unit"], one=a, other=b, difference=b - a)
        rows.append(facts | dict(allowed=allowed, agree=agree))
    if not any(row["agree"] is not None for row in rows):
        raise AllpetError("the runs have no headline figure in common whose noise is stated; calibrate this size first")
    return rows
