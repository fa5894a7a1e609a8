"""Unfamiliar scans, masks and cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from allpet.evidence.table import Found, Part, Setting, Table, load, mean
from allpet.report.table import plain

HERE = "allpet.evidence.others"


def strange(*, model: str | None, digest: str, precision: str, region: str, people: int, seed: int) -> dict[str, Any]:
    """Warnings in one region."""
    from allpet.study.strange import judge

    return {"rows": plain(judge(load(model, precision, digest), people, seed, (region,)))}


def masks(*, n: int) -> dict[str, Any]:
    """Diversity of masks."""
    from allpet.study.masks import diversity

    return {"rows": plain(diversity(n))}


def cost(*, model: str | None, digest: str, precision: str, n: int, rival: bool) -> dict[str, Any]:
    """Seconds and memory."""
    from allpet.study.cost import cost as measured

    return {"rows": plain(measured(load(model, precision, digest), n, rival))}


def _rows_of_one(seeds: Sequence[Found]) -> list[dict[str, Any]]:
    return [row for one in seeds[0].values() for row in one["rows"]]


def _strange_parts(setting: Setting, seed: int) -> list[Part]:
    from allpet.model.prompt import REGIONS

    people = setting.size.strange
    return [
        Part(region, f"{HERE}:strange", dict(region=region, people=people, seed=31 + seed), 2 + 2.2 * people)
        for region in setting.size.strange_regions or REGIONS
    ]


def _strange_gather(seeds: Sequence[Found]) -> list[dict[str, Any]]:
    from allpet.report.generation_table import mean_rows

    rows = mean_rows([_rows_of_one([found]) for found in seeds], "tracer")
    return [row | {"n": row["n"] * len(seeds)} for row in rows]


def _strange_text(rows: Any) -> str:
    from allpet.study.strange import markdown

    return markdown(rows)


def _strange_headlines(found: Found) -> dict[str, float | None]:
    rows = _rows_of_one([found])
    return {f"{key}_auc": mean([row[key] for row in rows]) for key in ("wrong_tracer", "cut_off", "rods")}


def _strange_about(setting: Setting) -> list[str]:
    people = setting.size.strange
    return [
        f"{people} simulated people of each region, tracer and seed at a quarter of the dose: area under the "
        "curve of the warning's score for a wrong tracer in the header, a scan cut off on both sides, and a "
        "phantom of rods, each against usual scans; and how often usual scans get a warning.",
        f"The same alone: python -m allpet.study strange --people {people}.",
    ]


STRANGE = Table(
    "strange",
    "Unfamiliar scans",
    _strange_about,
    _strange_parts,
    _strange_gather,
    _strange_text,
    headlines=_strange_headlines,
)


def _masks_text(rows: Any) -> str:
    from allpet.study.masks import markdown

    return markdown(rows)


MASKS = Table(
    "masks",
    "Masks",
    lambda setting: [
        f"How alike {setting.size.masks} masks of each family are, on 128 x 128; the block that slides over the "
        "sinogram is the paper's. The masks have no seed.",
        f"The same alone: python -m allpet.study masks --n {setting.size.masks}.",
    ],
    lambda setting, seed: [Part("diversity", f"{HERE}:masks", dict(n=setting.size.masks), 2, False)],
    _rows_of_one,
    _masks_text,
    headlines=lambda found: {
        "mask_diversity": next(r["participation_ratio"] for r in _rows_of_one([found]) if r["family"] == "RMAS + DMM")
    },
)


def _cost_parts(setting: Setting, seed: int) -> list[Part]:
    n, rival = setting.size.cost, setting.size.cost_rival
    if seed % setting.size.repeats:
        return []
    return [Part("cost", f"{HERE}:cost", dict(n=n, rival=rival), 3 + n * (4.5 if rival else 0.4))]


def _cost_text(rows: Any) -> str:
    from allpet.study.cost import markdown

    return markdown(rows)


def _cost_headlines(found: Found) -> dict[str, float | None]:
    own = next(row for row in _rows_of_one([found]) if row["what"] == "generate" and row["tool"] == "allpet")
    return {"weights": own["weights"] / 1e6, "evaluations": float(own["evaluations"])}


COST = Table(
    "cost",
    "Cost",
    lambda setting: [
        "Milliseconds a sinogram or plane on this machine, while other pieces may run beside: no judgement rests "
        "on them. The plain LDM is not trained here, which does not change its speed.",
        "On idle cores, with peers: make bench. Seconds and memory of every piece of this report are at its end.",
    ],
    _cost_parts,
    _rows_of_one,
    _cost_text,
    headlines=_cost_headlines,
)
