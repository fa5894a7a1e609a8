"""How good generated sinograms are: distribution, consistency, copies, prompt, samplers, conditions, cost.

Every number stands beside the same number of simulated people that the model never saw, at the same n.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from allpet.errors import AllpetError
from allpet.geometry import ParallelBeam
from allpet.metrics import PromptClassifier, image_features, prompt_features, sinogram_features, sliced_wasserstein
from allpet.model.prompt import Prompt
from allpet.report.generation_scores import score, summary
from allpet.scan.core import Scan
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
    prompts = list(prompts or model.config["log_mean"])
    views, bins = model.beam.shape
    if n < 6:
        raise AllpetError(f"n is {n}; scores of a distribution need at least 6 of each prompt")
    known: dict[str, torch.Tensor] = {}
    real: dict[str, torch.Tensor] = {}
    for prompt in prompts:
        tracer, region = _words(model, prompt)
        known[prompt] = learned(data, tracer, region, views, bins)
        real[prompt] = unseen(data, tracer, region, 2 * max(n, few), views, bins)
    beams = {prompt: own_beam(model, prompt) for prompt in prompts}
    classifier = _classifier(known, beams) if len(prompts) > 1 else None
    rows, seconds = [], 0.0
    share = int(model.config["data"]["sinograms"] / max(1, len(model.config["log_mean"])) + 0.999)
    for done, prompt in enumerate(prompts):
        begun = time.perf_counter()
        made = model.generate(prompt, n, seed=seed).sinogram
        seconds += time.perf_counter() - begun
        train = known[prompt][:share]
        rows.append(score(made, real[prompt][:n], real[prompt][n:], train, beams[prompt], classifier, prompt))
        if progress:
            progress(done + 1, len(prompts))
    threads = torch.get_num_threads()
    cost = dict(seconds_a_sinogram=seconds / (n * len(prompts)), threads=threads, peak_mib=peak_mib())
    cost |= dict(parameters=model.parameters, evaluations=model.evaluations())
    result: dict[str, Any] = dict(n=n, seed=seed, rows=rows, summary=summary(rows), cost=cost)
    result["goals"] = _goals(rows)
    if few:
        result["samplers"] = _samplers(model, prompts, real, beams, few, seed)
        result["conditions"] = _conditions(model, prompts, real, beams, few, seed)
    return result


def own_beam(model: AllPET, prompt: str) -> ParallelBeam:
    """The grid that the model draws a prompt on."""
    fov = float(model.config["field_of_view_mm"][str(model.parse(prompt).region)])
    return ParallelBeam(*model.beam.shape, fov / model.beam.bins)


def _words(model: AllPET, prompt: str) -> tuple[str, str]:
    parsed = model.parse(prompt)
    return str(parsed.tracer), str(parsed.region)


def _classifier(known: dict[str, torch.Tensor], beams: dict[str, Any]) -> PromptClassifier:
    features = torch.cat([prompt_features(s, beams[prompt]) for prompt, s in known.items()])
    labels = [prompt for prompt, s in known.items() for _ in range(len(s))]
    return PromptClassifier.fit(features, labels)


def _goals(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
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


def _mean_row(
    draw: Callable[[str], Scan], prompts: Sequence[str], real: dict[str, torch.Tensor], beams: dict[str, Any]
) -> dict[str, float]:
    found = [_distances(draw(prompt).sinogram, real[prompt], beams[prompt]) for prompt in prompts]
    return {name: sum(f[name] for f in found) / len(found) for name in found[0]}


def _samplers(
    model: AllPET, prompts: Sequence[str], real: dict[str, torch.Tensor], beams: dict[str, Any], n: int, seed: int
) -> list[dict[str, Any]]:
    from allpet.diffusion import SAMPLERS

    rows = []
    for name, sampler in SAMPLERS.items():
        begun = time.perf_counter()

        def draw(prompt: str, name: str = name) -> Scan:
            return model.generate(prompt, n, seed=seed, sampler=name)

        row: dict[str, Any] = dict(sampler=name, about=sampler.about, evaluations=model.evaluations(name))
        row |= _mean_row(draw, prompts, real, beams)
        rows.append({**row, "seconds_a_sinogram": (time.perf_counter() - begun) / (n * len(prompts)), "n": n})
    return rows


def _conditions(
    model: AllPET, prompts: Sequence[str], real: dict[str, torch.Tensor], beams: dict[str, Any], n: int, seed: int
) -> list[dict[str, Any]]:
    """Distances with a word left unsaid; uptake in marked regions with and without the mark."""

    drawn = {prompt: model.generate(prompt, n, seed=seed) for prompt in prompts}

    def no_tracer(prompt: str) -> Scan:
        return model.generate(Prompt(region=_words(model, prompt)[1]), n, seed=seed)

    def no_region(prompt: str) -> Scan:
        beam = beams[prompt]
        return model.generate(Prompt(tracer=_words(model, prompt)[0]), n, seed=seed, bin_mm=beam.bin_mm)

    rows: list[dict[str, Any]] = []
    for name, draw in (("all said", drawn.__getitem__), ("tracer unsaid", no_tracer), ("region unsaid", no_region)):
        rows.append(dict(condition=name, n=n, **_mean_row(draw, prompts, real, beams)))
    marked: dict[str, list[float]] = {"region marked": [], "region not marked": [], "unseen people": []}
    for prompt in prompts:
        hot, images = marked_regions(real[prompt][:n], beams[prompt])
        told = model.generate(prompt, n, seed=seed, attention=hot).sinogram
        marked["unseen people"].append(_uptake(images, hot))
        for name, s in (("region marked", told), ("region not marked", drawn[prompt].sinogram)):
            marked[name].append(_uptake(_images(s, beams[prompt]), hot))
    for name, values in marked.items():
        rows.append(dict(condition=name, n=n, uptake=sum(values) / len(values)))
    return rows


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
