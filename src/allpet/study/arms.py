"""The arms: what is trained, on how many sinograms, and how it is scored, all with one budget."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from allpet.errors import AllpetError
from allpet.io.files import replacing
from allpet.study.data import own_beam, training_set, unseen
from allpet.train.samples import TrainingSet

RESULT = "scores.json"


@dataclass(frozen=True)
class Arm:
    """One training.

    Parameters
    ----------
    about : for the table. count : sinograms in all. options : of the recipe "base". rival : a rival's name instead.
    shipped : not trained, but the weights in the package, with or without their emphasis.
    """

    about: str
    count: int = 500
    options: dict[str, Any] = field(default_factory=dict)
    rival: str | None = None
    shipped: bool = False
    emphasis: bool = True


ARMS = {
    "ours": Arm("geometry, RMAS, DMM"),
    "none": Arm("no augmentation", options=dict(augment="none")),
    "rmas": Arm("RMAS", options=dict(augment="rmas")),
    "rmas+dmm": Arm("RMAS, DMM", options=dict(augment="rmas+dmm")),
    "geometric": Arm("geometry (no parts)", options=dict(augment="geometric")),
    "warp": Arm("geometry, RMAS, DMM, warps", options=dict(augment="all+warp")),
    "half": Arm("half the width, with parts", options=dict(size=0.5)),
    "half-without-parts": Arm("half the width, no parts", options=dict(size=0.5, augment="geometric")),
    "shipped": Arm("the weights in the package", shipped=True),
    "shipped-plain": Arm("these without emphasis", shipped=True, emphasis=False),
    "strip": Arm("on the Moebius strip", options=dict(surface="strip")),
    "ours-50": Arm("50 sinograms", 50),
    "ours-100": Arm("100 sinograms", 100),
    "ours-5000": Arm("5,000 sinograms", 5000),
    "none-50": Arm("50, no augmentation", 50, dict(augment="none")),
    "none-100": Arm("100, no augmentation", 100, dict(augment="none")),
    "none-5000": Arm("5,000, no augmentation", 5000, dict(augment="none")),
    "vae": Arm("VAE", rival="vae"),
    "gan": Arm("GAN", rival="gan"),
    "score": Arm("score model", rival="score"),
    "ldm": Arm("plain LDM", rival="ldm"),
}


def recipe_of(arm: Arm) -> Any:
    """What the training loop takes: a class made of the arm's options."""
    if arm.rival is not None:
        from allpet.rivals import RIVALS

        return RIVALS[arm.rival]
    from allpet.train.recipes import Base

    class Chosen(Base):
        def __init__(self, data: TrainingSet, folder: Path, seed: int) -> None:
            super().__init__(data, folder, seed, **arm.options)

    Chosen.__name__ = "base"
    return Chosen


def generator_of(arm: Arm, folder: Path) -> Any:
    """The trained generator in a run folder."""
    if arm.rival is not None:
        from allpet.rivals import load_rival

        return load_rival(folder)
    from allpet.model import AllPET

    model = AllPET.from_pretrained(None if arm.shipped else folder)
    if not arm.emphasis:
        model.config["emphasis"] = {}
    return model


def run_arm(
    name: str,
    data_folder: Path,
    out: Path,
    seed: int = 0,
    minutes: float = 5.0,
    n: int = 48,
    max_steps: int | None = None,
) -> dict[str, Any]:
    """Train and score one arm; what is finished is not done again.

    Parameters
    ----------
    minutes : processor time of the training. n : generated sinograms of each prompt. max_steps : instead of minutes.

    Returns
    -------
    the arm's facts, ``rows`` (a prompt each, see :func:`allpet.report.generation_scores.score`) and their summary.
    """
    import time

    import torch

    from allpet.report.generation_scores import score, summary
    from allpet.train import train

    if name not in ARMS:
        raise AllpetError(f"arm '{name}' is unknown; known: {', '.join(ARMS)}")
    arm, folder = ARMS[name], out / f"{name}-{seed}"
    if (folder / RESULT).is_file():
        found: dict[str, Any] = json.loads((folder / RESULT).read_text(encoding="utf-8"))
        return found
    data = training_set(data_folder, arm.count)
    if arm.shipped:
        folder.mkdir(parents=True, exist_ok=True)
    else:
        limit = dict(max_minutes=minutes, clock="cpu") if max_steps is None else dict(max_steps=max_steps)
        train(data, folder, recipe_of(arm), seed=seed, tensorboard=False, **limit)
    model = generator_of(arm, folder)
    if arm.shipped and model.config["data"]["fingerprint"] != data.fingerprint():
        raise AllpetError(f"{data_folder}: its first {arm.count} sinograms are not those that the model was trained on")
    evaluations = model.evaluations if isinstance(model.evaluations, int) else model.evaluations()
    rows, drawing = [], 0.0
    views, bins = data.sinogram.shape[-2:]
    size = dict(views=views, bins=bins) if arm.shipped else {}
    for prompt in model.config["log_mean"]:
        tracer, region = prompt.split()
        begun = time.process_time()
        made = model.generate(prompt, n=n, seed=seed, **size).sinogram
        drawing += time.process_time() - begun
        real = unseen(data_folder, tracer, region, 2 * n, views, bins)
        mine = _mine(data, tracer, region)
        rows.append(score(made, real[:n], real[n:], mine, own_beam(data, region), None, prompt))
        rows[-1]["spread"] = float(torch.log(made.mean(dim=(-2, -1))).std())
    result = dict(
        arm=name,
        about=arm.about,
        seed=seed,
        sinograms=len(data),
        subjects=len(set(data.subject.tolist())),
        minutes=minutes if not arm.shipped else None,
        parameters=model.parameters,
        evaluations=evaluations,
        cpu_seconds_a_sinogram=drawing / (n * len(rows)),
        training=_last(folder) if not arm.shipped else model.config["trained"]["base"],
        rows=rows,
        summary=summary(rows),
    )
    with replacing(folder / RESULT) as (part,):
        part.write_text(json.dumps(result, indent=1), encoding="utf-8")
    return result


def _last(folder: Path) -> Any:
    """The last report of a training."""
    return json.loads((folder / "stats.jsonl").read_text(encoding="utf-8").splitlines()[-1])


def _mine(data: TrainingSet, tracer: str, region: str) -> Any:
    """A prompt's training sinograms, six at least for the copy test: others of the region fill up."""
    from allpet.model.prompt import REGIONS, TRACERS

    here = data.region == REGIONS.index(region) + 1
    own = here & (data.tracer == TRACERS.index(tracer) + 1)
    return data.sinogram[own if int(own.sum()) >= 6 else here]


COLUMNS = {
    "sinogram_distance_ratio": "distance, sinogram",
    "image_distance_ratio": "distance, image",
    "sinogram_recall": "recall",
    "sinogram_precision": "precision",
    "mirror_seam_ratio": "seam",
    "moment_residual_ratio": "moments",
    "range_residual_ratio": "range",
    "passed": "no copies",
}


def markdown(results: list[dict[str, Any]]) -> str:
    """One line an arm: means over prompts, and over seeds plus or minus half their range where there are several."""
    head = ["arm", "what", "sinograms", "seeds", *COLUMNS.values(), "M weights", "evaluations", "CPU s / sinogram"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    by_arm: dict[str, list[dict[str, Any]]] = {}
    for result in results:
        by_arm.setdefault(result["arm"], []).append(result)
    for name, several in by_arm.items():
        first = several[0]
        cells = [name, first["about"], f"{first['sinograms']}", f"{len(several)}"]
        for column in COLUMNS:
            values = [r["summary"][column]["mean"] for r in several]
            mean = sum(values) / len(values)
            spread = f" ± {(max(values) - min(values)) / 2:.2g}" if len(values) > 1 else ""
            cells.append(f"{mean:.3g}{spread}")
        cells += [f"{first['parameters'] / 1e6:.1f}", f"{first['evaluations']}"]
        cells.append(f"{first['cpu_seconds_a_sinogram']:.3f}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
