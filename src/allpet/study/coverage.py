"""Are the error bars right? Shares of truths in 90 % intervals, and whether the standard deviation follows the error.

Test people of every tracer and region, one slice each, 500,000 prompts at full dose; real slices of the STS patients,
which are told neither tracer nor region. Image: pixels of the body. Sinogram: bins that see it, by the standard
deviation that ``apply`` writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import torch

from allpet.model import AllPET
from allpet.project import Projector
from allpet.recon import fbp
from allpet.report.low_dose_table import FRACTIONS, Truth, mean_and_error, patient_slices
from allpet.report.tasks_table import doubts
from allpet.study.cases import Case
from allpet.study.data import DELAYS
from allpet.task.planes import SAMPLES
from allpet.uncertainty import NORMAL, SEEING, body_of, sinogram_ratios

HEADS = {
    "pooled": "90 % covers, all body pixels (%)",
    "coverage": "the same, mean of people (%)",
    "sinogram": "sinogram, mean of people (%)",
    "correlation": "deviation follows error",
}


def cases(tracers: Sequence[str], regions: Sequence[str]) -> dict[str, list[Case]]:
    """The people of each row: every tracer (or two) in every region; other tracers and delays in turn."""
    out: dict[str, list[Case]] = {}
    alone = [(tracer, region) for region in regions for tracer in tracers]
    for fraction in FRACTIONS:
        options = {"dose_fraction": fraction}
        out[f"low-dose 1/{round(1 / fraction)}"] = [Case("low-dose", *one, options) for one in alone]
    out["attenuation"] = [Case("attenuation", *one) for one in alone]
    delays = [{"delay_minutes": DELAYS[k % len(DELAYS)]} for k in range(len(alone))]
    out["delayed"] = [Case("delayed", *one, options) for one, options in zip(alone, delays, strict=True)]
    out["convert"] = []
    for k, (tracer, region) in enumerate(alone):
        others = [other for other in tracers if other != tracer]
        out["convert"].append(Case("convert", tracer, region, {"to": others[k // len(tracers) % len(others)]}))
    both = [(" + ".join(two), region) for region in regions for two in combinations(tracers, 2)]
    for static in (False, True):
        name = f"separate, {'static' if static else '6 frames'}"
        out[name] = [Case("separate", *one, static=static) for one in both]
    return out


def person(model: AllPET, case: Case, people: int, seed: int) -> list[dict[str, float]]:
    """Scores of people of one case."""
    data = case.simulate(people, "test", seed, model.beam.shape)
    found = doubts(model, data)
    for k in range(len(data)):
        covered = sinogram_ratios(model, data, k, SAMPLES).abs() <= NORMAL
        found.setdefault("sinogram", []).append(float(covered.float().mean()))
    return [{name: values[k] for name, values in found.items()} for k in range(len(data))]


def patient(model: AllPET, truth: Truth, fraction: float, seed: int, number: int = 0) -> dict[str, float]:
    """Scores of one real slice, whose draws go by its number.

    Its true image is the filtered back-projection of the noise-free data at full dose.
    """
    scan = truth.scan(fraction, seed)
    result = model.apply("low-dose", scan, images=True, first_plane=number)
    assert result.std is not None
    off = (result.expected.sinogram - truth.expected).abs() <= NORMAL * result.std.sinogram
    sees = truth.expected > SEEING * truth.expected.max()
    kept = [result.extras[name] for name in ("-image", "-image-std")]
    image, deviation = (one.array for one in kept)  # type: ignore[union-attr]
    right = fbp(truth.expected, Projector(truth.beam, kept[0].grid)).clamp_min(0)  # type: ignore[union-attr]
    inside = body_of(right, torch.zeros(1, dtype=torch.bool))
    error, deviation = (image - right).abs()[inside], deviation[inside]
    return {
        "coverage": float((error <= NORMAL * deviation).float().mean()),
        "pixels": float(inside.sum()),
        "sinogram": float(off[sees].float().mean()),
        "correlation": float(torch.corrcoef(torch.stack([error, deviation]))[0, 1]),
    }


def judge(model: AllPET, people: int, seed: int, patients: Path | None = None) -> list[dict[str, Any]]:
    """A row for each task and dose: mean and standard error over people."""
    rows: list[dict[str, Any]] = []

    def add(name: str, each: list[dict[str, float]]) -> None:
        pooled = sum(one["coverage"] * one["pixels"] for one in each) / sum(one["pixels"] for one in each)
        rows.append({"scans": name, "n": len(each), "pooled": pooled, **mean_and_error(each)})

    for name, several in cases(model.config["tracers"], model.config["regions"]).items():
        add(name, [one for case in several for one in person(model, case, people, seed)])
    if patients is not None:
        slices = patient_slices(patients)
        for fraction in FRACTIONS:
            each = [patient(model, one, fraction, seed, k) for k, one in enumerate(slices)]
            add(f"STS 1/{round(1 / fraction)}", each)
    return rows


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as a Markdown table."""
    lines = ["| scans | " + " | ".join(HEADS.values()) + " | n |", "|---" * (len(HEADS) + 2) + "|"]
    for row in rows:
        cells = [f"{100 * row['pooled']:.1f}"]
        cells += [f"{100 * row[key]:.1f} ± {100 * row[key + '_se']:.1f}" for key in ("coverage", "sinogram")]
        cells.append(f"{row['correlation']:.2f} ± {row['correlation_se']:.2f}")
        lines.append(f"| {row['scans']} | {' | '.join(cells)} | {row['n']} |")
    return "\n".join(lines)
