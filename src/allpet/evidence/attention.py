"""Attention: lesions that are marked, an observer, and what is suggested."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from allpet.evidence.table import Found, Part, Setting, Table, drawn, load, mean
from allpet.report.table import plain

if TYPE_CHECKING:
    from allpet.study.regions import Scored

HERE = "allpet.evidence.attention"
OBSERVER_CASES = ("FDG abdomen", "FDG brain")
FALSE_REGIONS = "false regions a slice"
LEAST_LESIONS = 10
"""Fewer of a sort in a seed make no headline figure."""


def lesions(
    *,
    model: str | None,
    digest: str,
    precision: str,
    case: str,
    people: int,
    fraction: float,
    marks: Sequence[str],
    seed: int,
) -> dict[str, Any]:
    """Lesions of one case and share of the dose, without and with attention."""
    from allpet.study.attention import compare

    ours = load(model, precision, digest)
    tracer, region = case.split()
    return {"rows": plain(compare(ours, people, seed, "test", ((tracer, region),), (fraction,), marks))}


def observer(
    *,
    model: str | None,
    digest: str,
    precision: str,
    case: str,
    pairs: int,
    fraction: float,
    contrast: float,
    seed: int,
) -> dict[str, Any]:
    """What the observer's channels see in pairs with and without a lesion."""
    from allpet.study.detect import pairs as responses

    tracer, region = case.split()
    return plain(responses(load(model, precision, digest), tracer, region, pairs, fraction, contrast, seed, "test"))


def suggestions(*, prompt: str, people: int, dose: float, seed: int) -> dict[str, Any]:
    """Suggestions and thresholds on slices of one prompt, scored."""
    from allpet.study.regions import scored_people

    tracer, region = prompt.split()
    scored = scored_people(people, seed, dose, "test", 128, 4, region, tracer)
    return {
        "slices": [
            dict(
                method=method,
                sort=sort,
                person=f"{one.person}, seed {seed}",
                found=plain(one.found),
                false=plain(one.false),
                known=one.known,
            )
            for (method, sort), slices in scored.items()
            for one in slices
        ]
    }


def figure(*, model: str | None, digest: str, precision: str, seed: int) -> dict[str, Any]:
    """A marked lesion, its weights, and the task with it."""
    from allpet.report.attention_demo import attention_section

    section, _ = attention_section(load(model, precision, digest), seed)
    return drawn(*section.figures)


def examples(*, seed: int) -> dict[str, Any]:
    """What is suggested in a few slices."""
    from allpet.study.regions_figure import figure_of

    return drawn((figure_of(seed, None), "Suggestions in the first slices of the seed that hold a lesion."))


def _lesion_parts(setting: Setting, seed: int) -> list[Part]:
    from allpet.study.attention import CASES

    size = setting.size
    names = size.lesion_cases or tuple(" ".join(case) for case in CASES)
    seconds = 1 + size.lesions * (0.25 + 0.12 * len(size.marks))
    out = []
    for fraction in size.fractions:
        for name in names:
            options = dict(case=name, people=size.lesions, fraction=fraction, marks=list(size.marks), seed=41 + seed)
            out.append(Part(f"{name.replace(' ', '-')}.{round(1 / fraction)}", f"{HERE}:lesions", options, seconds))
    return out


def _lesion_gather(seeds: Sequence[Found]) -> list[dict[str, Any]]:
    from allpet.study.attention import summary

    return summary([row for found in seeds for one in found.values() for row in one["rows"]])


def _lesion_text(rows: Any) -> str:
    from allpet.study.attention import markdown

    return markdown(rows)


def _lesion_headlines(found: Found) -> dict[str, float | None]:
    rows = [row for one in found.values() for row in one["rows"] if row["marks"] == "told"]
    out: dict[str, float | None] = {}
    for name, share in (("", 1 / 20), ("_deep", 1 / 100)):
        some = [row for row in rows if abs(row["fraction"] - share) < 1e-9]
        for key, label in (("in", "marked_error"), ("out", "elsewhere_error")):
            without, after = (mean([row[f"{key}_{which}"] for row in some]) for which in ("without", "with"))
            out[label + name] = 100 * (after / without - 1) if without and after is not None else None
    return out


def _lesion_about(setting: Setting) -> list[str]:
    size = setting.size
    cases = len(size.lesion_cases) or 5
    return [
        f"{size.lesions} simulated people of each of {cases} cases and seed are looked through for lesions; an "
        "ellipse is drawn about each as a person would draw it (displaced, too large). Relative error in the "
        "lesion's own pixels, without and with attention, of the same task and counts; intervals over people.",
        f"The same alone: python -m allpet.study attention --people {size.lesions * size.repeats}.",
    ]


LESIONS = Table(
    "lesions",
    "Attention: marked lesions",
    _lesion_about,
    _lesion_parts,
    _lesion_gather,
    _lesion_text,
    headlines=_lesion_headlines,
    figures=lambda setting, seed: [Part("figure", f"{HERE}:figure", dict(seed=seed), 6)],
)


def _observer_parts(setting: Setting, seed: int) -> list[Part]:
    from allpet.study.detect import SETTINGS

    pairs = setting.size.pairs
    return [
        Part(
            f"{case.replace(' ', '-')}.{round(1 / fraction)}",
            f"{HERE}:observer",
            dict(case=case, pairs=pairs, fraction=fraction, contrast=contrast, seed=51 + seed),
            1 + 0.9 * pairs,
        )
        for case in OBSERVER_CASES
        for fraction, contrast in SETTINGS
        if pairs
    ]


def _observer_gather(seeds: Sequence[Found]) -> list[dict[str, Any]]:
    from allpet.study.detect import SETTINGS, observed

    contrasts = {round(1 / fraction): contrast for fraction, contrast in SETTINGS}
    rows = []
    for name in seeds[0]:
        case, share = name.split(".")
        seen = {key: np.concatenate([np.array(found[name][key]) for found in seeds]) for key in seeds[0][name]}
        rows.append(observed(seen, case.replace("-", " "), 1 / int(share), contrasts[int(share)]))
    return rows


def _observer_text(rows: Any) -> str:
    from allpet.study.attention import markdown

    return "\n".join(markdown((), rows).splitlines()[3:])


def _observer_headlines(found: Found) -> dict[str, float | None]:
    rows = _observer_gather([found]) if found else []
    return {
        "observer": mean([row["auc_with"] for row in rows]),
        "observer_gain": mean([row["gain"][0] for row in rows]),
    }


def _observer_about(setting: Setting) -> list[str]:
    return [
        f"{setting.size.pairs} pairs with and without a lesion of 16 mm for each row and seed; a channelized "
        "Hotelling observer learns on one half of the people and judges the other. The same outline is drawn in "
        "both scans of a pair.",
        f"The same alone: python -m allpet.study attention --pairs {setting.size.pairs * setting.size.repeats}.",
    ]


OBSERVER = Table(
    "observer",
    "Attention: an observer",
    _observer_about,
    _observer_parts,
    _observer_gather,
    _observer_text,
    headlines=_observer_headlines,
)


def _region_parts(setting: Setting, seed: int) -> list[Part]:
    size = setting.size
    return [
        Part(
            f"{prompt.replace(' ', '-')}.{round(1 / dose)}",
            f"{HERE}:suggestions",
            dict(prompt=prompt, people=size.regions, dose=dose, seed=41 + seed),
            1 + 0.7 * size.regions,
            model=False,
        )
        for dose in size.doses
        for prompt in size.region_prompts or setting.prompts
    ]


def _scored(seeds: Sequence[Found], share: str) -> Scored:
    """Slices of one share of the dose, by method and sort."""
    from allpet.study.froc import Slice

    out: Scored = {}
    for found in seeds:
        for name, result in found.items():
            for one in result["slices"] if name.endswith(f".{share}") else ():
                hits = [(-np.inf if score is None else score, dice) for score, dice in one["found"]]
                out.setdefault((one["method"], one["sort"]), []).append(
                    Slice(one["person"], hits, one["false"], one["known"])
                )
    return out


def _shares(found: Found) -> list[str]:
    return list(dict.fromkeys(name.rsplit(".", 1)[1] for name in found))


def _region_gather(seeds: Sequence[Found]) -> list[dict[str, Any]]:
    from allpet.study.regions import rows_of

    rows = []
    for share in _shares(seeds[0]):
        name = f"simulated, dose {1 / int(share):g}"
        rows += rows_of(name, _scored(seeds, share), (), 41, 300)
    return rows


def _region_text(rows: Any) -> str:
    from allpet.study.regions import markdown

    return markdown(rows)


def _region_headlines(found: Found) -> dict[str, float | None]:
    from allpet.study.froc import operating_point

    slices = _scored([found], _shares(found)[0])
    out: dict[str, float | None] = {}
    for sort in ("hot", "cold"):
        some = slices["suggest", sort]
        enough = sum(len(one.found) for one in some) >= LEAST_LESIONS
        out[f"suggested_{sort}"] = plain(operating_point(some)["sensitivity"]) if enough else None
    return out


def _region_drawn(rows: Any) -> list[tuple[Any, str]]:
    from allpet.report.figures import step_lines

    out = []
    for name in dict.fromkeys(row["set"] for row in rows):
        some = [row for row in rows if row["set"] == name and row["sort"] == "hot"]
        if some:
            points = [float(x) for x in some[0]["curve"]]
            lines: dict[str, Sequence[float]] = {row["method"]: list(row["curve"].values()) for row in some}
            figure = step_lines(lines, points, (FALSE_REGIONS, "share of hot lesions found"))
            out.append(
                (figure, f"Free response, {name}: hot lesions found with so many false regions a slice or fewer.")
            )
    return out


def _region_about(setting: Setting) -> list[str]:
    size = setting.size
    prompts = len(size.region_prompts or setting.prompts)
    return [
        f"{size.regions} simulated people of each of {prompts} prompts and seed, four slices each: lesions found "
        "by the hot and cold regions that the image suggests, beside plain thresholds; a region has found a "
        "lesion from a Dice of 0.2 on.",
        f"The same alone: python -m allpet.study regions --out FILE --people {size.regions}.",
    ]


REGIONS = Table(
    "regions",
    "Attention: suggested regions",
    _region_about,
    _region_parts,
    _region_gather,
    _region_text,
    headlines=_region_headlines,
    figures=lambda setting, seed: (
        [Part("examples", f"{HERE}:examples", dict(seed=41 + seed), 6, model=False)] if setting.size.examples else []
    ),
    drawn=_region_drawn,
)
