"""The tables of `allpet evaluate generation` in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def _pair(row: dict[str, Any], name: str, form: str) -> str:
    return f"{row[name]:{form}} ({row[name + '_floor']:{form}})"


def tables(result: dict[str, Any]) -> list[str]:
    """Goals, distribution, consistency, copies and prompts, samplers, conditions, cost; a text each."""
    rows: list[dict[str, Any]] = result["rows"]
    out = [
        _table(
            ["goal", "limit", "mean over prompts", "worst prompt", "prompts that keep it"],
            [
                [g["goal"], g["limit"], f"{g['mean']:.3g}", f"{g['worst']:.3g}", f"{g['kept']} of {g['prompts']}"]
                for g in result["goals"]
            ],
        )
    ]
    out.append("Distribution; in brackets unseen people against others of them, at the same n.")
    head = ["prompt", "set", "distance", "ratio", "kernel distance", "precision", "recall", "density", "coverage"]
    body = []
    for row in rows:
        for kind in ("sinogram", "image"):
            cells = [row["label"], kind, _pair(row, f"{kind}_distance", ".3f"), f"{row[f'{kind}_distance_ratio']:.2f}"]
            cells += [_pair(row, f"{kind}_kernel", ".3f")]
            cells += [_pair(row, f"{kind}_{name}", ".2f") for name in ("precision", "recall", "density", "coverage")]
            body.append(cells)
    out.append(_table(head, body))
    out.append("Consistency; in brackets unseen people, then uniform noise.")
    names = {"mirror_seam": ".2f", "moment_residual": ".1e", "range_residual": ".1e"}
    body = [
        [row["label"], *[f"{_pair(row, k, f)[:-1]}; {row[k + '_noise']:{f}})" for k, f in names.items()]]
        for row in rows
    ]
    out.append(_table(["prompt", "mirror seam", "moment residual", "range residual"], body))
    out.append(
        "Copies: distance to the nearest training sinogram whatever way it is turned, moved or mirrored; p of so many "
        "generated ones as near as the nearest hundredth of unseen people. Prompt: share that a classifier trained on "
        "training people finds."
    )
    body = []
    for row in rows:
        distances = [f"{row['audit_' + k]:.3f}" for k in ("generated", "held_out", "closest", "threshold", "p_value")]
        right = _pair(row, "accuracy", ".2f") if "accuracy" in row else "-"
        body.append([row["label"], *distances, "yes" if row["passed"] else "no", right])
    head = ["prompt", "median, generated", "median, unseen", "least, generated", "threshold", "p", "passed"]
    out.append(_table([*head, "prompt found (of unseen people)"], body))
    if "samplers" in result:
        out += _extras(result)
    if "cost" in result:
        cost = result["cost"]
        speed = f"{1 / cost['seconds_a_sinogram']:.1f} sinograms/s on {cost['threads']} CPU threads"
        size = f"{cost['parameters']:,} weights in the denoiser, {cost['evaluations']} evaluations"
        memory = f"peak memory of the whole evaluation {cost['peak_mib']:.0f} MiB"
        out.append(f"n = {result['n']} of each prompt, seed {result['seed']}; {size}, {speed}, {memory}.")
    return out


def _extras(result: dict[str, Any]) -> list[str]:
    body = [
        [
            row["sampler"],
            row["about"],
            f"{row['evaluations']}",
            f"{row['sinogram_distance_ratio']:.2f}",
            f"{row['image_distance_ratio']:.2f}",
            f"{row['seconds_a_sinogram']:.3f}",
        ]
        for row in result["samplers"]
    ]
    n = result["samplers"][0]["n"]
    head = ["sampler", "what", "evaluations", "distance, sinogram", "distance, image", "s / sinogram, with scoring"]
    out = [f"Samplers: distance over real against real, mean over prompts, n = {n} of each.", _table(head, body)]
    body = []
    for row in result["conditions"]:
        values = [
            f"{row[k]:.2f}" if k in row else "" for k in ("sinogram_distance_ratio", "image_distance_ratio", "uptake")
        ]
        body.append([row["condition"], *values])
    out.append(
        f"What is said: distances likewise; uptake in the marked region over the image's mean, n = {n} of each prompt."
    )
    out.append(_table(["condition", "distance, sinogram", "distance, image", "uptake in the region"], body))
    return out
