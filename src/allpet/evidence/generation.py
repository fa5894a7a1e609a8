"""Generation: distribution, consistency, copies, prompts, samplers and conditions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from allpet.evidence.table import Found, Part, Setting, Table, drawn, load, mean
from allpet.evidence.trained import sinograms_part
from allpet.report.table import plain

HERE = "allpet.evidence.generation"


def scores(*, model: str | None, digest: str, precision: str, prompt: str, n: int, seed: int) -> dict[str, Any]:
    """A prompt's scores."""
    from allpet.report.generation_table import prompt_row, prompted

    ours = load(model, precision, digest)
    return plain(prompt_row(ours, prompted(ours, prompt, n, people=seed), n, seed))


def samplers(*, model: str | None, digest: str, precision: str, prompt: str, n: int, seed: int) -> dict[str, Any]:
    """A prompt with every sampler."""
    from allpet.report.generation_table import prompt_samplers, prompted

    ours = load(model, precision, digest)
    return {"rows": plain(prompt_samplers(ours, prompted(ours, prompt, n, people=seed), n, seed))}


def conditions(*, model: str | None, digest: str, precision: str, prompt: str, n: int, seed: int) -> dict[str, Any]:
    """A prompt with every condition."""
    from allpet.report.generation_table import prompt_conditions, prompted

    ours = load(model, precision, digest)
    return {"rows": plain(prompt_conditions(ours, prompted(ours, prompt, n, people=seed), n, seed))}


def told(
    *,
    model: str | None,
    digest: str,
    precision: str,
    prompts: Sequence[str],
    n: int,
    seed: int,
    data: str | None = None,
) -> dict[str, Any]:
    """Prompts found by a classifier, trained on the stores in a folder, or on 34 sinograms of each prompt."""
    from allpet.report.generation_table import prompts_told

    folder = None if data is None else Path(data)
    return {"rows": plain(prompts_told(load(model, precision, digest), prompts, n, seed, folder, seed))}


def figure(*, model: str | None, digest: str, precision: str, prompts: Sequence[str], seed: int) -> dict[str, Any]:
    """Generated beside real."""
    from allpet.report.generation_figures import EACH, KINDS, beside
    from allpet.report.generation_table import own_beam
    from allpet.study.data import unseen

    ours = load(model, precision, digest)
    shape = ours.beam.shape
    made = {prompt: ours.generate(prompt, EACH, seed=seed).sinogram for prompt in prompts}
    real = {}
    for prompt in prompts:
        tracer, region = prompt.split()
        real[prompt] = unseen(None, tracer, region, 2 * EACH, *shape, people=seed)[::2]
    beams = {prompt: own_beam(ours, prompt) for prompt in prompts}
    words = {"sinogram": "sinograms", "image": "reconstructions"}
    return drawn(
        *(
            (
                beside(made, real, beams, (kind,)),
                f"{', '.join(prompts)}: {words[kind]} of the first {EACH} of seed {seed}, nothing was chosen. "
                "Each row has one window; activity over its mean, dark is more.",
            )
            for kind in KINDS
        )
    )


def _prompts(setting: Setting) -> tuple[str, ...]:
    return setting.size.prompts or setting.prompts


def _parts(setting: Setting, seed: int) -> list[Part]:
    size, prompts = setting.size, _prompts(setting)
    out = [
        Part(f"scores.{_file(p)}", f"{HERE}:scores", dict(prompt=p, n=size.n, seed=seed), 4 + 0.45 * size.n)
        for p in prompts
    ]
    for prompt in (size.few_prompts or prompts) if size.few else ():
        options = dict(prompt=prompt, n=size.few, seed=seed)
        out.append(Part(f"conditions.{_file(prompt)}", f"{HERE}:conditions", options, 4 + 1.2 * size.few))
        if seed % size.repeats == 0:  # hundreds of evaluations a sinogram: one seed
            out.append(Part(f"samplers.{_file(prompt)}", f"{HERE}:samplers", options, 4 + 6.5 * size.few))
    if size.told:
        named: dict[str, Any] = dict(prompts=list(prompts), n=size.told, seed=seed)
        if size.trained:
            out.append(sinograms_part(setting.work))
            named["data"] = f"{setting.work}/data"
        out.append(Part("told", f"{HERE}:told", named, len(prompts) * (4 + 0.35 * size.told)))
    return out


def _file(prompt: str) -> str:
    return prompt.replace(" + ", "+").replace(" ", "-")


def _figures(setting: Setting, seed: int) -> list[Part]:
    prompts = _prompts(setting)
    tracers = dict.fromkeys(prompt.split()[0] for prompt in prompts)
    groups = [list(prompts)] if len(prompts) <= 3 else [[p for p in prompts if p.split()[0] == t] for t in tracers]
    return [
        Part(f"figure.{_file(some[0])}", f"{HERE}:figure", dict(prompts=some, seed=seed), 2 + 1.5 * len(some))
        for some in groups
    ]


def _rows(found: Found) -> list[dict[str, Any]]:
    rows = [dict(result) for result in _named(found, "scores")]
    known = {row["label"]: row for row in found.get("told", {"rows": []})["rows"]}
    right = ("accuracy", "accuracy_floor")
    return [row | {key: known[row["label"]][key] for key in right if row["label"] in known} for row in rows]


def _named(found: Found, kind: str) -> list[dict[str, Any]]:
    return [result for name, result in found.items() if name.startswith(f"{kind}.")]


def _gather(seeds: Sequence[Found]) -> dict[str, Any]:
    """Means over seeds, so that a table has a row a prompt."""
    from allpet.report.generation_table import goals_of, mean_rows

    rows = mean_rows([_rows(found) for found in seeds], "label")
    out: dict[str, Any] = dict(n=rows[0]["n"], seeds=len(seeds), rows=rows, goals=goals_of(rows))
    for kind, name in (("samplers", "sampler"), ("conditions", "condition")):
        some = [result["rows"] for found in seeds for result in _named(found, kind)]
        if some:
            out[kind] = mean_rows(some, name)
    return out


def _text(result: Any) -> str:
    from allpet.report.generation_text import tables

    return "\n\n".join(tables(result))


def _headlines(found: Found) -> dict[str, float | None]:
    rows = _rows(found)

    def over(key: str) -> float | None:
        return mean([row.get(key) for row in rows])

    moments = over("moment_residual_ratio")
    out = {
        "sinogram_distance": over("sinogram_distance_ratio"),
        "image_distance": over("image_distance_ratio"),
        "recall": over("sinogram_recall"),
        "precision": over("sinogram_precision"),
        "seam": over("mirror_seam_ratio"),
        "range": over("range_residual_ratio"),
        "moments": None if moments is None else math.log10(max(moments, 1e-12)),
        "no_copies": mean([float(row["passed"]) for row in rows]),
        "prompt_found": over("accuracy"),
    }
    said = [row for result in _named(found, "conditions") for row in result["rows"]]
    uptake = {
        name: mean([row.get("uptake") for row in said if row["condition"] == name])
        for name in ("region marked", "region not marked")
    }
    if uptake["region marked"] and uptake["region not marked"]:
        out["marked_uptake"] = uptake["region marked"] / uptake["region not marked"]
    return out


def _about(setting: Setting) -> list[str]:
    size = setting.size
    return [
        f"{size.n} sinograms of each of {len(_prompts(setting))} prompts and seed beside as many of simulated "
        "people that the model never saw; the floor is these people against as many others. A ratio of 1 is a "
        "perfect generator. Distances depend on n: compare only what has the same n. With few sinograms the floor is "
        "large and the ratio flatters, so that the goals for distances are judged in the full size alone.",
        f"The same alone: allpet evaluate generation -n {size.n} (there with the first seed's people only).",
    ]


GENERATION = Table("generation", "Generation", _about, _parts, _gather, _text, headlines=_headlines, figures=_figures)
