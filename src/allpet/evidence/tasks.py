"""The tasks, and low dose beside the linear MMSE estimate."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from allpet.evidence.table import Found, Part, Setting, Table, drawn, load, mean
from allpet.evidence.trained import pairs_part, plain_part
from allpet.report.table import plain

if TYPE_CHECKING:
    from allpet.study.cases import Case

HERE = "allpet.evidence.tasks"
BASELINES = {
    "low-dose": "Gaussian",
    "attenuation": "uniform mu",
    "delayed": "scaled",
    "convert": "scaled",
    "separate": "scaled",
}
"""What a task's gain is measured from: what a user has without a network and without the organs' true outlines."""


def scores(
    *,
    model: str | None,
    digest: str,
    precision: str,
    case: str,
    people: int,
    seed: int,
    training: int,
    plain_net: str | None = None,
) -> dict[str, Any]:
    """One case and seed: every method's scores of every person."""
    from allpet.report.tasks_table import case_scores
    from allpet.study.plain import load_plain

    ours, chosen = load(model, precision, digest), _case(case)
    pairs = chosen.simulate(training, "train", seed=1, shape=ours.beam.shape)
    rival = None if plain_net is None else load_plain(Path(plain_net))
    return plain(case_scores(ours, chosen, people, seed, pairs, rival))


def figure(*, model: str | None, digest: str, precision: str, case: str, seed: int) -> dict[str, Any]:
    """A case's picture."""
    from allpet.report.tasks_figures import case_figure

    caption = (
        f"{case}: the first person of seed {seed}, nothing was chosen. OSEM of each sinogram; what is compared "
        "has the same window, every colour bar names its unit."
    )
    return drawn((case_figure(load(model, precision, digest), _case(case), None, seed), caption))


def low_dose(
    *, model: str | None, digest: str, precision: str, people: int, fraction: float, seed: int
) -> dict[str, Any]:
    """One share of the dose in brain, chest and abdomen."""
    from allpet.report.low_dose_table import evaluate_low_dose

    ours = load(model, precision, digest)
    return {"rows": plain(evaluate_low_dose(ours, people, fractions=(fraction,), seed=seed))}


def _case(name: str) -> Case:
    from allpet.study.cases import CASES

    return next(case for case in CASES if case.name == name)


def _cases(setting: Setting) -> tuple[str, ...]:
    from allpet.study.cases import CASES

    return setting.size.cases or tuple(case.name for case in CASES)


def _file(case: str) -> str:
    return "-".join("".join(c if c.isalnum() else " " for c in case).split())


def _parts(setting: Setting, seed: int) -> list[Part]:
    size = setting.size
    options = dict(people=size.people, seed=11 + seed, training=size.training)
    if size.trained:
        options["plain_net"] = f"{setting.work}/plain"  # type: ignore[assignment]
    seconds = 1 + 0.2 * size.training + 0.7 * size.people
    first = [pairs_part(setting.work), plain_part(setting.work)] if size.trained else []
    return first + [
        Part(f"case.{_file(c)}", f"{HERE}:scores", dict(case=c, **options), seconds) for c in _cases(setting)
    ]


def _figures(setting: Setting, seed: int) -> list[Part]:
    return [
        Part(f"figure.{_file(case)}", f"{HERE}:figure", dict(case=case, seed=11 + seed), 3)
        for case in setting.size.figures
    ]


def _gather(seeds: Sequence[Found]) -> list[dict[str, Any]]:
    from allpet.report.tasks_table import case_rows
    from allpet.study.cases import CASES

    names = {f"case.{_file(case.name)}": case for case in CASES}
    return [row for name in seeds[0] for row in case_rows(names[name], [found[name] for found in seeds])]


def _text(rows: Any) -> str:
    from allpet.report.tasks_table import markdown

    return markdown(rows)


def _headlines(found: Found) -> dict[str, float | None]:
    from allpet.study.cases import CASES

    by_task: dict[str, list[dict[str, Any]]] = {}
    known = {f"case.{_file(case.name)}": case for case in CASES}
    deep: list[dict[str, Any]] = []
    for name, result in found.items():
        case = known[name]
        (deep if case.options.get("dose_fraction", 1) < 1 / 50 else by_task.setdefault(case.task, [])).append(result)

    def gain(results: Sequence[dict[str, Any]], task: str, key: str) -> float | None:
        pairs = [
            (mine.get(key), theirs.get(key))
            for one in results
            for mine, theirs in zip(one["each"]["allpet"], one["each"][BASELINES[task]], strict=True)
        ]
        return mean([a - b for a, b in pairs if a is not None and b is not None])

    def own(task: str, key: str) -> float | None:
        return mean([person.get(key) for one in by_task.get(task, ()) for person in one["each"]["allpet"]])

    out: dict[str, float | None] = {
        f"{task}_gain": gain(by_task.get(task, ()), task, "psnr_sinogram") for task in BASELINES
    }
    out |= {
        "low-dose_image_gain": gain(by_task.get("low-dose", ()), "low-dose", "psnr_image"),
        "low-dose_deep_gain": gain(deep, "low-dose", "psnr_sinogram"),
        "low-dose_organ_error": own("low-dose", "organ_error"),
        "attenuation_organ_error": own("attenuation", "organ_error"),
        "cross_talk": own("separate", "cross_talk"),
        "coverage_off": mean([abs(one["doubt"]["coverage"] - 0.9) for one in found.values()]),
    }
    return out


def _about(setting: Setting) -> list[str]:
    size = setting.size
    seeds = " ".join(str(11 + k) for k in range(size.repeats))
    nearest = (
        "" if size.training == 34 else f" Baselines' numbers are from {size.training} training pairs instead of 34."
    )
    return [
        f"{size.people} simulated people of each case and seed that the model never saw, 500,000 prompts at full "
        "dose, projected three times finer than the model's grid. Every method gets the same counts and factors; "
        "images are OSEM (4 iterations of 8 subsets) of each estimate against that of the noise-free truth; data "
        f"range: each truth's maximum. Organ ratios and shares are told the organs' true outlines.{nearest}",
        f"The same alone: allpet evaluate tasks --people {size.people} --seeds {seeds}.",
    ]


TASKS = Table("tasks", "Tasks", _about, _parts, _gather, _text, headlines=_headlines, figures=_figures)


def _low_parts(setting: Setting, seed: int) -> list[Part]:
    from allpet.report.low_dose_table import FRACTIONS

    people = setting.size.low_dose
    return [
        Part(f"dose.{round(1 / f)}", f"{HERE}:low_dose", dict(people=people, fraction=f, seed=seed), 30 + 3.5 * people)
        for f in FRACTIONS
        if people
    ]


def _low_gather(seeds: Sequence[Found]) -> list[dict[str, Any]]:
    """Means over seeds; standard errors likewise, of independent people."""
    rows = []
    for name in seeds[0]:
        for same in zip(*(found[name]["rows"] for found in seeds), strict=True):
            row = dict(same[0]) | {"subjects": sum(one["subjects"] for one in same)}
            for key, value in row.items():
                values = [one[key] for one in same]
                if key.endswith("_se"):
                    row[key] = sum(v * v for v in values) ** 0.5 / len(values)
                elif isinstance(value, float) and key != "fraction":
                    row[key] = mean(values)
            rows.append(row)
    return rows


def _low_text(rows: Any) -> str:
    from allpet.report.low_dose_table import markdown

    return markdown(rows)


def _low_headlines(found: Found) -> dict[str, float | None]:
    rows = [row for one in found.values() for row in one["rows"]]
    ours, theirs = (
        mean([row["psnr_sinogram"] for row in rows if row["method"] == name]) for name in ("allpet", "linear MMSE")
    )
    return {"linear_gain": None if ours is None or theirs is None else ours - theirs}


def _low_about(setting: Setting) -> list[str]:
    return [
        f"{setting.size.low_dose} simulated people of each region and seed, beside the input, the best Gaussian "
        "filter (tuned on validation people) and the linear MMSE estimate with a prior of 4,000 augmented "
        "training sinograms. Real slices of patients are no part of the project: allpet evaluate low-dose "
        "--patients DIR adds them.",
        f"The same alone: allpet evaluate low-dose --people {setting.size.low_dose} (one seed).",
    ]


LOW_DOSE = Table("low-dose", "Low dose", _low_about, _low_parts, _low_gather, _low_text, headlines=_low_headlines)
