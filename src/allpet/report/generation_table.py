"""How good generated sinograms are: distribution, consistency, copies, prompt, samplers, conditions, cost.

Every number stands beside the same number of simulated people that the model never saw, at the same n.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from allpet.errors import AllpetError
from allpet.geometry import ParallelBeam
from allpet.metrics import PromptClassifier, image_features, prompt_features, sinogram_features, sliced_wasserstein
from allpet.model.prompt import Prompt
from allpet.report.generation_scores import score, summary
from allpet.study.data import learned, unseen
from allpet.train.watch import peak_mib

if TYPE_CHECKING:
    from allpet.model import AllPET

GOALS = {
    "sinogram_distance_ratio": ("distance of sinograms, over real against real", 1.5),
    "image_distance_ratio": ("distance of reconstructions, over real against real", 1.5),
    "mirror_seam_ratio": ("mirror seam, over unseen people's", 1.2),
    "moment_residual_ratio": ("moment residual, over unseen people's", 1.2),
    "range_residual_ratio": ("range residual, over unseen people's", 1.2),
}
"""Scores whose value over all prompts, and in the worst of them, has a limit."""
RIGHT = 0.95
"""Share of generated sinograms whose prompt a classifier trained on real ones should find."""
Progress = Callable[[int, int], None]


def evaluate_generation(
    model: AllPET,
    n: int = 48,
    seed: int = 0,
    prompts: Sequence[str] | None = None,
    data: Path | None = None,
    few: int = 16,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """All tables.

    Parameters
    ----------
    n : generated sinograms of each prompt, and unseen ones twice. seed : of the draws. prompts : default all known.
    data : folder of training stores ``TRACER-REGION.zarr`` (``python -m allpet.study``), where unseen people are kept
        too; default: both are simulated for the purpose, 34 training sinograms of each prompt. few : sinograms of each
        prompt for the rows of samplers and conditions; 0 leaves them out.

    Returns
    -------
    ``rows`` (a prompt each, :func:`score`), ``summary``, ``goals``, ``samplers``, ``conditions``, ``cost``.
    """
    _check(n)
    prompts = list(prompts or model.config["log_mean"])
    asked = [prompted(model, prompt, max(n, few), data) for prompt in prompts]
    classifier = classifier_of(asked) if len(prompts) > 1 else None
    rows = []
    for done, one in enumerate(asked, 1):
        rows.append(prompt_row(model, one, n, seed, classifier))
        if progress:
            progress(done, len(prompts))
    result = gather(model, rows, n, seed)
    if few:
        result["samplers"] = mean_rows([prompt_samplers(model, one, few, seed) for one in asked], "sampler")
        result["conditions"] = mean_rows([prompt_conditions(model, one, few, seed) for one in asked], "condition")
    return result


@dataclass(frozen=True)
class Prompted:
    """A prompt: its training sinograms, those of people never seen, and its grid."""

    prompt: str
    known: torch.Tensor
    real: torch.Tensor
    beam: ParallelBeam


def prompted(model: AllPET, prompt: str, n: int, data: Path | None = None, people: int = 0) -> Prompted:
    """What a prompt's n generated sinograms are compared with: 2 n of people never seen.

    Parameters
    ----------
    data : as for :func:`evaluate_generation`. people : another number, other people.

    Raises
    ------
    AllpetError : n below 6.
    """
    _check(n)
    tracer, region = _words(model, prompt)
    known = learned(data, tracer, region, *model.beam.shape)
    real = unseen(data, tracer, region, 2 * n, *model.beam.shape, people=people)
    return Prompted(prompt, known, real, own_beam(model, prompt))


def prompt_row(
    model: AllPET, asked: Prompted, n: int, seed: int, classifier: PromptClassifier | None = None
) -> dict[str, Any]:
    """Scores of n generated sinograms of a prompt (:func:`score`), and the ``seconds`` that drawing them took."""
    _check(n)
    begun = time.perf_counter()
    made = model.generate(asked.prompt, n, seed=seed).sinogram
    seconds = time.perf_counter() - begun
    share = int(model.config["data"]["sinograms"] / max(1, len(model.config["log_mean"])) + 0.999)
    real, train = asked.real, asked.known[:share]
    return score(made, real[:n], real[n:], train, asked.beam, classifier, asked.prompt) | {"seconds": seconds}


def prompts_told(
    model: AllPET, prompts: Sequence[str], n: int, seed: int, data: Path | None = None, people: int = 0
) -> list[dict[str, Any]]:
    """For each prompt the share of n generated sinograms, and of n of people never seen, whose prompt is found."""
    asked = [prompted(model, prompt, n, data, people) for prompt in prompts]
    classifier = classifier_of(asked)
    rows = []
    for one in asked:
        made = model.generate(one.prompt, n, seed=seed).sinogram
        right = [found_by(classifier, s, one) for s in (made, one.real[:n])]
        rows.append(dict(label=one.prompt, n=n, accuracy=right[0], accuracy_floor=right[1]))
    return rows


def found_by(classifier: PromptClassifier, s: torch.Tensor, asked: Prompted) -> float:
    """Share of sinograms that the classifier takes for the prompt's."""
    said = classifier.predict(prompt_features(s, asked.beam))
    return sum(one == asked.prompt for one in said) / len(s)


def gather(model: AllPET, rows: list[dict[str, Any]], n: int, seed: int) -> dict[str, Any]:
    """Summary, goals and cost from the rows of prompts."""
    threads, seconds = torch.get_num_threads(), sum(row["seconds"] for row in rows)
    cost = dict(seconds_a_sinogram=seconds / (n * len(rows)), threads=threads, peak_mib=peak_mib())
    cost |= dict(parameters=model.parameters, evaluations=model.evaluations())
    return dict(n=n, seed=seed, rows=rows, summary=summary(rows), cost=cost, goals=goals_of(rows))


def _check(n: int) -> None:
    if n < 6:
        raise AllpetError(f"n is {n}; scores of a distribution need at least 6 of each prompt")


def own_beam(model: AllPET, prompt: str) -> ParallelBeam:
    """The grid that the model draws a prompt on."""
    fov = float(model.config["field_of_view_mm"][str(model.parse(prompt).region)])
    return ParallelBeam(*model.beam.shape, fov / model.beam.bins)


def _words(model: AllPET, prompt: str) -> tuple[str, str]:
    parsed = model.parse(prompt)
    return str(parsed.tracer), str(parsed.region)


def classifier_of(asked: Sequence[Prompted]) -> PromptClassifier:
    """The classifier trained on the training sinograms of prompts."""
    features = torch.cat([prompt_features(one.known, one.beam) for one in asked])
    return PromptClassifier.fit(features, [one.prompt for one in asked for _ in range(len(one.known))])


def goals_of(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each limit, the mean over prompts, the worst prompt, and how many prompts keep it."""
    out = []
    for name, (label, limit) in GOALS.items():
        values = [row[name] for row in rows]
        out.append(_goal(label, f"at most {limit}", values, [v <= limit for v in values], max))
    chances = [row["audit_p_value"] for row in rows]
    out.append(_goal("no copies (p above 0.01)", "every prompt", chances, [row["passed"] for row in rows], min))
    if "accuracy" in rows[0]:
        values = [row["accuracy"] for row in rows]
        kept = [v >= RIGHT for v in values]
        out.append(_goal("prompt told right by the classifier", f"{RIGHT:.0%}", values, kept, min))
    return out


def _goal(label: str, limit: str, values: list[float], kept: list[bool], worst: Callable[..., float]) -> dict[str, Any]:
    mean = sum(values) / len(values)
    return dict(goal=label, limit=limit, mean=mean, worst=worst(values), kept=sum(kept), prompts=len(kept))


def _distances(made: torch.Tensor, real: torch.Tensor, beam: ParallelBeam) -> dict[str, float]:
    """Distance of sinograms and of reconstructions, over that of as many other unseen people."""
    n = len(made)
    out = {}
    for name, features in (("sinogram", sinogram_features), ("image", lambda s: image_features(s, beam))):
        here, there, other = features(made), features(real[:n]), features(real[n : 2 * n])
        out[f"{name}_distance_ratio"] = sliced_wasserstein(here, there) / sliced_wasserstein(other, there)
    return out


def mean_rows(tables: Sequence[Sequence[dict[str, Any]]], name: str) -> list[dict[str, Any]]:
    """Tables with the same rows (by `name`) averaged where a number is there; what is true or false is true where it is
    true in all."""
    out = []
    for same in zip(*tables, strict=True):
        row = dict(same[0])
        for key, value in row.items():
            values = [one[key] for one in same]
            if isinstance(value, bool):
                row[key] = all(values)
            elif isinstance(value, float) or None in values:
                known = [v for v in values if v is not None and math.isfinite(v)]
                row[key] = sum(known) / len(known) if known else math.nan
        assert all(one[name] == row[name] for one in same)
        out.append(row)
    return out


def prompt_samplers(model: AllPET, asked: Prompted, n: int, seed: int) -> list[dict[str, Any]]:
    """A row a sampler for one prompt: distances and seconds."""
    from allpet.diffusion import SAMPLERS

    prompt, beam, real = asked.prompt, asked.beam, asked.real
    rows = []
    for name, sampler in SAMPLERS.items():
        begun = time.perf_counter()
        made = model.generate(prompt, n, seed=seed, sampler=name).sinogram
        row: dict[str, Any] = dict(sampler=name, about=sampler.about, evaluations=model.evaluations(name), n=n)
        row |= _distances(made, real, beam)
        rows.append({**row, "seconds_a_sinogram": (time.perf_counter() - begun) / n})
    return rows


def prompt_conditions(model: AllPET, asked: Prompted, n: int, seed: int) -> list[dict[str, Any]]:
    """A row a condition for one prompt: distances with a word left unsaid; uptake in marked regions with and without
    the mark."""
    prompt, beam, real = asked.prompt, asked.beam, asked.real
    tracer, region = _words(model, prompt)
    drawn = model.generate(prompt, n, seed=seed).sinogram
    told = {
        "all said": drawn,
        "tracer unsaid": model.generate(Prompt(region=region), n, seed=seed).sinogram,
        "region unsaid": model.generate(Prompt(tracer=tracer), n, seed=seed, bin_mm=beam.bin_mm).sinogram,
    }
    conditions: list[dict[str, Any]] = [
        dict(condition=name, n=n, **_distances(made, real, beam)) for name, made in told.items()
    ]
    hot, images = marked_regions(real[:n], beam)
    pointed = model.generate(prompt, n, seed=seed, attention=hot).sinogram
    for name, planes in (
        ("region marked", _images(pointed, beam)),
        ("region not marked", _images(drawn, beam)),
        ("unseen people", images),
    ):
        conditions.append(dict(condition=name, n=n, uptake=_uptake(planes, hot)))
    return conditions


def _images(s: torch.Tensor, beam: ParallelBeam) -> torch.Tensor:
    from allpet.project import Projector
    from allpet.recon import fbp

    return fbp(s, Projector(beam, beam.image_grid())).clamp_min(0)


def marked_regions(s: torch.Tensor, beam: ParallelBeam) -> tuple[torch.Tensor, torch.Tensor]:
    """Where the reconstructions of sinograms are hotter than twice their body's mean, 0 or 1, and these images."""
    from allpet.train.recipes import hotter_than

    images = _images(s, beam)
    return hotter_than(images, torch.full((len(s),), 2.0)), images


def _uptake(images: torch.Tensor, region: torch.Tensor) -> float:
    """Mean uptake inside of marked regions over the mean of the image, over all samples that have one."""
    inside = (images * region).sum(dim=(1, 2)) / region.sum(dim=(1, 2)).clamp_min(1)
    ratio = inside / images.mean(dim=(1, 2)).clamp_min(1e-12)
    have = region.sum(dim=(1, 2)) > 0
    return float(ratio[have].mean()) if bool(have.any()) else float("nan")


def markdown(result: dict[str, Any]) -> str:
    """All tables as Markdown."""
    from allpet.report.generation_text import tables

    return "\n\n".join(tables(result))
