"""Few pairs of a task that the base has not seen: its adapter beside a U-Net from scratch, on the same pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from allpet.model import AllPET
from allpet.model.prompt import TASKS
from allpet.report.tasks_table import TRAINING, ours, plainly, score
from allpet.scan.simulate import simulate
from allpet.study.cases import Case
from allpet.study.plain import Plain, PlainPairs, load_plain
from allpet.task.rivals import RIVALS
from allpet.train import train
from allpet.train.adapt import adapt
from allpet.train.pairs import PairSet

CASE = Case("convert", "FDG", "abdomen", {"to": "PSMA"})
COUNTS = (10, 25, 50, 100, 500)
KEYS = ("psnr_sinogram", "psnr_image", "organ_error")


def without(pairs: PairSet, task: str) -> PairSet:
    """The pairs of all other tasks: what the base is trained on."""
    return pairs[torch.nonzero(pairs.question.task != TASKS.index(task) + 1).flatten()]


def curve(
    base: Path,
    out: Path,
    counts: Sequence[int] = COUNTS,
    minutes: float = 3.0,
    people: int = 12,
    seed: int = 0,
    case: Case = CASE,
) -> list[dict[str, Any]]:
    """A row for each method and number of pairs: means over people that nobody trained on.

    Parameters
    ----------
    base : model whose translator has not seen the task. minutes : processor time of every training; adapting also
        stops when its held-out loss does not fall any more. case : whose pairs.
    """
    rows = unadapted(base, people, case)
    for count in counts:
        rows += with_pairs(base, out, count, max(counts), minutes, people, seed, case)
        print(rows[-2], rows[-1], sep="\n", flush=True)
    return rows


def unadapted(base: Path, people: int = 12, case: Case = CASE) -> list[dict[str, Any]]:
    """Rows of the baselines and of the base as it is."""
    model = AllPET.from_pretrained(base)
    test, training = (
        case.simulate(people, shape=model.beam.shape),
        case.simulate(TRAINING, "train", 1, model.beam.shape),
    )
    rows = [_row(name, 0, score(rival(test, training), test)) for name, rival in RIVALS[case.task].items()]
    return [*rows, _row("base, not adapted", 0, score(ours(model, test), test))]


def with_pairs(
    base: Path,
    out: Path,
    count: int,
    most: int = COUNTS[-1],
    minutes: float = 3.0,
    people: int = 12,
    seed: int = 0,
    case: Case = CASE,
) -> list[dict[str, Any]]:
    """Rows of the adapter and of the U-Net with `count` pairs, the first of `most`; otherwise as :func:`curve`."""
    model = AllPET.from_pretrained(base)
    shape = model.beam.shape
    known = dict(tracer=case.tracer, region=case.region, task=case.task, slices_per_subject=2, counts=(1e5, 1.5e6))
    data = simulate(most, seed=500 + seed, views=shape[0], bins=shape[1], **known, **case.options)  # type: ignore[arg-type]
    some = replace(data, arrays={name: values[:count] for name, values in data.arrays.items()})
    test = case.simulate(people, shape=shape)
    pairs = PairSet.from_dataset(some, model.need("restorer"))
    options = dict(max_minutes=minutes, max_steps=None, clock="cpu", tensorboard=False, seed=seed)
    adapted = adapt(case.task, pairs, out / f"adapted-{count}", model=base, **options)  # type: ignore[arg-type]
    rows = [_row("adapted", count, score(ours(adapted, test), test))]
    plain = PlainPairs.from_dataset(some, model.need("restorer"))
    folder = out / f"plain-{count}"
    train(plain, folder, Plain, minutes, seed=seed, clock="cpu", tensorboard=False)
    return [*rows, _row("U-Net from scratch", count, score(plainly(load_plain(folder), model, test), test))]


def train_base(stores: Sequence[Path], out: Path, minutes: float, task: str = CASE.task) -> None:
    """Train a base on the pairs of all other tasks; an interrupted call goes on."""
    pairs = without(PairSet.load(stores, AllPET.from_pretrained().need("restorer")), task)
    train(pairs, out, "tasks", minutes, clock="cpu", tensorboard=False)


def _row(method: str, pairs: int, scores: list[dict[str, float]]) -> dict[str, Any]:
    row: dict[str, Any] = dict(method=method, pairs=pairs, n=len(scores))
    for key in KEYS:
        values = np.array([one[key] for one in scores if key in one])
        row[key], row[key + "_se"] = float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))
    return row


def markdown(rows: list[dict[str, Any]]) -> str:
    """The rows as a Markdown table."""
    lines = [
        "| method | pairs | PSNR sinogram (dB) | PSNR image (dB) | organ error (%) | n |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [
            f"{row[key] * scale:.2f} ± {row[key + '_se'] * scale:.2f}"
            for key, scale in zip(KEYS, (1, 1, 100), strict=True)
        ]
        lines.append(f"| {row['method']} | {row['pairs'] or ''} | {' | '.join(cells)} | {row['n']} |")
    return "\n".join(lines)
