"""Free-response scoring: lesions found at a number of false regions a slice, their Dice, and intervals over people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

HIT = 0.2
"""Dice from which a region has found a lesion."""
INSIDE = 0.5
"""A region with this share of it in any lesion, that hits none, is neither right nor false."""
RESAMPLES = 500


@dataclass(frozen=True)
class Marked:
    """A region in one slice: first row and column of a mask, bool, and the score it is ranked by."""

    sort: str
    start: tuple[int, int]
    mask: np.ndarray
    score: float

    @property
    def box(self) -> tuple[slice, slice]:
        """Rows and columns."""
        (row, column), (height, width) = self.start, self.mask.shape
        return slice(row, row + height), slice(column, column + width)


@dataclass
class Slice:
    """One slice as scored, for one sort of lesion.

    Parameters
    ----------
    person : whom it is of. found : score of the first region that hits a lesion (-inf if none) and its Dice, one each
    lesion. false : scores of false regions. known : facts to group by.
    """

    person: str
    found: list[tuple[float, float]]
    false: list[float]
    known: dict[str, Any] = field(default_factory=dict)


def score_slice(
    person: str, marked: Sequence[Marked], truths: Sequence[np.ndarray], lesions: np.ndarray, **known: Any
) -> Slice:
    """Regions of one sort against lesions of that sort, both of one slice.

    Parameters
    ----------
    truths : bool ``(row, column)`` each. lesions : all that is a lesion of any sort, bool.
    """
    found = [(-np.inf, 0.0) for _ in truths]
    false = []
    for region in sorted(marked, key=lambda r: -r.score):
        mine = region.mask.sum()
        hit = False
        for k, truth in enumerate(truths):
            dice = float(2 * (truth[region.box] & region.mask).sum() / (mine + truth.sum()))
            if dice >= HIT:
                hit = True
                if found[k][0] == -np.inf:
                    found[k] = (region.score, dice)
        if not hit and (lesions[region.box] & region.mask).sum() < INSIDE * mine:
            false.append(region.score)
    return Slice(person, found, false, known)


def operating_point(slices: Sequence[Slice], false_per_slice: float = 1.0) -> dict[str, float]:
    """Sensitivity and mean Dice of what is found with so many false regions a slice, or fewer where there are fewer."""
    false = np.sort(np.array([score for s in slices for score in s.false]))[::-1]
    allowed = int(false_per_slice * len(slices))
    limit = false[allowed] if len(false) > allowed else -np.inf  # scores above it count
    found = np.array([item for s in slices for item in s.found]).reshape(-1, 2)
    hits = found[:, 0] > limit
    return {
        "sensitivity": float(hits.mean()) if len(found) else float("nan"),
        "dice": float(found[hits, 1].mean()) if hits.any() else float("nan"),
        "false": float((false > limit).sum() / max(len(slices), 1)),
    }


def summary(slices: Sequence[Slice], seed: int = 0, resamples: int = RESAMPLES) -> dict[str, Any]:
    """Operating point at one false region a slice with 95 % intervals (bootstrap over people), and the curve."""
    people: dict[str, list[Slice]] = {}
    for s in slices:
        people.setdefault(s.person, []).append(s)
    names = sorted(people)
    rng = np.random.default_rng(seed)
    draws = []
    for _ in range(resamples):
        some = [s for k in rng.integers(len(names), size=len(names)) for s in people[names[k]]]
        draws.append(operating_point(some))
    out: dict[str, Any] = dict(operating_point(slices))
    out["lesions"] = sum(len(s.found) for s in slices)
    out["slices"], out["people"] = len(slices), len(names)
    for name in ("sensitivity", "dice"):
        values = np.array([draw[name] for draw in draws])
        values = values[np.isfinite(values)]
        out[f"{name}_95"] = [float(v) for v in np.percentile(values, (2.5, 97.5))] if len(values) else None
    out["curve"] = {str(f): operating_point(slices, f)["sensitivity"] for f in (0.25, 0.5, 1.0, 2.0, 4.0)}
    return plain(out)


def plain(value: Any) -> Any:
    """Numbers with four digits and None for NaN, to be written as JSON."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return round(value, 4) if np.isfinite(value) else None
    return value
