"""Pairs of a task: what its scans show to the translator, and what it should answer.

The scans are restored once; training then happens in the image alone, on pairs that are turned, moved and scaled.
"""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch.nn import functional as F

from allpet.errors import AllpetError
from allpet.io.samples import background_at
from allpet.io.store import open_store
from allpet.model.prompt import TASKS as WORDS
from allpet.model.restorer import Restorer, gaussian_blur
from allpet.model.translator import FRAMES, SECOND, Ask, Views, ask
from allpet.scan.dataset import Dataset
from allpet.scan.kinetics import ISOTOPES
from allpet.scan.mumap import WATER
from allpet.scan.simulate import find_tracer_word
from allpet.scan.tracers import TRACERS
from allpet.scan.units import COUNTS, sigma_of
from allpet.task.neighbours import half_of, restored_together
from allpet.task.seen import Counts, Frames, see
from allpet.train.samples import groups_of_people

TASKS = WORDS[1:]
CHUNK = 8


@dataclass(frozen=True)
class Pairs(ABC):
    """Pairs of one or several tasks: what a network sees, what it is asked, what it should answer.

    Parameters
    ----------
    stack : seen, ``(n, channels, rows, columns)``, float16. target : both results ``(n, 2, rows, columns)``, float16.
    question : what is asked. subject : unique number ``(n,)``. unit : what a value of 1 stands for ``(n,)``.
    """

    stack: torch.Tensor
    target: torch.Tensor
    question: Ask
    subject: torch.Tensor
    unit: torch.Tensor

    def __len__(self) -> int:
        return len(self.stack)

    def __getitem__(self, index: torch.Tensor | slice) -> Self:
        return type(self)(**{name: value[index] for name, value in vars(self).items()})

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks that these are pairs of."""
        return tuple(WORDS[k - 1] for k in self.question.task.unique().tolist())

    @property
    def attenuation(self) -> torch.Tensor:
        """Whether the target is a mu map, bool ``(n,)``."""
        return self.question.task == WORDS.index("attenuation") + 1

    @classmethod
    def join(cls, sets: Sequence[Self]) -> Self:
        """Several as one."""
        questions = [vars(s.question) for s in sets]
        joined = Ask(**{name: torch.cat([q[name] for q in questions]) for name in questions[0]})
        parts = {name: torch.cat([getattr(s, name) for s in sets]) for name in ("stack", "target", "subject", "unit")}
        return cls(question=joined, **parts)

    @classmethod
    def load(cls, paths: Sequence[str | Path], restorer: Restorer, count: int | None = None) -> Self:
        """Read stores of pairs (``allpet simulate --task``, or a user's own); `count`: the first ones of each only.

        Raises
        ------
        AllpetError : a store that holds no task's pairs, lacks an array, or has another size than the model.
        """
        sets, stores = [], [open_store(path) for path in paths]
        for path, store, number in zip(paths, stores, groups_of_people(stores), strict=True):
            n = len(store) if count is None else min(count, len(store))
            arrays = {name: store.rows(name, slice(0, n)) for name in store}
            found = cls.from_dataset(Dataset(arrays, store.beam, store.attributes), restorer, str(path))
            sets.append(replace(found, subject=found.subject + 1_000_000 * number))
        return cls.join(sets)

    @classmethod
    @abstractmethod
    def from_dataset(cls, data: Dataset, restorer: Restorer, name: str = "the data set") -> Self:
        """All pairs of a data set; errors as :meth:`load`."""

    def fingerprint(self) -> str:
        """16 hex digits that change with the data."""
        digest = hashlib.sha256()
        for value in (self.stack, self.target, *vars(self.question).values()):
            digest.update(value.numpy().tobytes())
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class PairSet(Pairs):
    """Pairs ready for the translator: images in units of the scan.

    `stack` is that of :meth:`Views.stack`, ``(n, 9, bins, bins)``; `unit` the counts that an image value of 1 stands
    for.
    """

    @property
    def views(self) -> Views:
        """What the network sees, float32."""
        return Views.unstack(self.stack.float())

    @classmethod
    def from_dataset(cls, data: Dataset, restorer: Restorer, name: str = "the data set") -> PairSet:
        """Restore and describe the pairs of a data set; errors as :meth:`load`."""
        facts = facts_of(data, restorer, name)
        chunks = [slice(k, k + CHUNK) for k in range(0, len(data), CHUNK)]
        whole = None
        if "half" in data:  # planes of one scan, to be restored together
            halves = ((_seen(data, facts, some)[0], rows_of(data, "half", some), 1.0) for some in chunks)
            whole = restored_together(restorer, halves)
        return cls.join([_pairs(data, restorer, facts, some, whole) for some in chunks])


def facts_of(data: Dataset, restorer: Restorer, name: str) -> dict[str, Any]:
    """What all pairs of a data set share: task, words, delay, decay, frames' times, and how far images are blurred."""
    attributes, prompt = data.attributes, data.prompt
    task = prompt.get("task")
    if task not in TASKS:
        raise AllpetError(f"{name}: holds pairs of no task ({task}); known: {', '.join(TASKS)}")
    needed = ["observed", "sinogram", "image", "attenuation", "background", "subject"]
    needed += {"attenuation": ["mumap"], "separate": ["second", "image_second"]}.get(task, [])
    missing = [array for array in needed if array not in data]
    if missing:
        raise AllpetError(f"{name}: has no array {missing[0]}; pairs of {task} need {', '.join(needed)}")
    if attributes["units"].get("observed", COUNTS) != COUNTS:
        raise AllpetError(f"{name}: observed is in {attributes['units']['observed']}; pairs need counts")
    views, bins = restorer.config["views"], restorer.config["bins"]
    if data.beam.shape != (views, bins):
        raise AllpetError(f"{name}: sinograms are {data.beam.shape}; this model takes {(views, bins)}")
    share = attributes.get("acquisition", {}).get("dose_fraction")
    if "dose_fraction" not in data and share not in (None, 1, 1.0):
        raise AllpetError(
            f"{name}: states its dose fraction ({share}) for all; pairs need it as an array dose_fraction, with "
            "background and counts_per_unit at full dose"
        )
    tracer, _, second = str(prompt.get("tracer")).partition(" + ")
    tracer = find_tracer_word(tracer) if task == "delayed" else tracer
    facts: dict[str, Any] = dict(task=task, tracer=tracer, region=prompt.get("region"))
    if task == "convert":
        facts["to"] = attributes.get("to")
    if task == "separate":
        facts["to"] = second
    if task == "delayed":
        starts = _times(data, "frame_start_s", name)
        if len(starts) != 2:
            raise AllpetError(f"{name}: has {len(starts)} frame_start_s; pairs of delayed need that of both frames")
        later = (starts[1] - starts[0]) / 60
        facts |= dict(delay_minutes=later, decay=float(ISOTOPES[TRACERS[tracer].isotope.name].decay(60 * later)))
    if task == "separate" and "frames" in data:
        static = attributes.get("acquisition", {}).get("duration_s")
        if not static:
            raise AllpetError(f"{name}: has frames, but acquisition does not say duration_s, the static scan's length")
        length = torch.tensor(_times(data, "frame_duration_s", name)) / float(static)
        if len(length) != FRAMES:
            raise AllpetError(f"{name}: has {len(length)} dynamic frames; this model takes {FRAMES}")
        facts["length"] = length
    facts["fwhm_mm"] = float(attributes.get("acquisition", {}).get("fwhm_mm", 4.5))
    own = float(attributes.get("image_fwhm_mm", 0.0))
    if not 0 <= own < math.inf:
        raise AllpetError(f"{name}: image_fwhm_mm is {own:g}; it is the width in mm that its images already have, or 0")
    facts["missing_mm"] = math.sqrt(max(0.0, facts["fwhm_mm"] ** 2 - own**2))
    return facts


def _times(data: Dataset, key: str, name: str) -> list[float]:
    """Times of the frames: those that all samples share, or of an array whose rows are alike."""
    if key not in data:
        return [float(time) for time in data.attributes.get(key, ())]
    rows = np.asarray(data[key], float)
    if np.ptp(rows, axis=0).max(initial=0) > 0:
        raise AllpetError(f"{name}: its samples differ in {key}; pairs of one store need the same times")
    return [float(time) for time in rows[0]]


def rows_of(data: Dataset, name: str, some: slice) -> torch.Tensor:
    return torch.from_numpy(np.asarray(data[name][some], np.float32))


def _seen(data: Dataset, facts: dict[str, Any], some: slice) -> tuple[Counts, torch.Tensor, torch.Tensor]:
    """Some planes as they are measured, their shares of the dose and their normalisation."""
    observed, factors = (rows_of(data, name, some) for name in ("observed", "attenuation"))
    n, column = len(observed), (slice(None), None, None)
    share = rows_of(data, "dose_fraction", some) if "dose_fraction" in data else torch.ones(n)
    normalisation = rows_of(data, "normalisation", some) if "normalisation" in data else torch.ones_like(observed)
    blind = facts["task"] == "attenuation"
    efficiency = normalisation if blind else normalisation * factors
    depth = None if blind else -factors.clamp_min(1e-6).log()
    pitch = torch.full((n,), float(data.beam.bin_mm))
    at_share = background_at(data, some, share[column].numpy())["background"]  # randoms may go with its square
    return Counts(observed, efficiency, torch.from_numpy(at_share), pitch, depth), share, normalisation


def _pairs(
    data: Dataset, restorer: Restorer, facts: dict[str, Any], some: slice, emission: torch.Tensor | None
) -> PairSet:
    """Some pairs, restored. `emission`: of all planes, where they are restored already."""
    scan, share, normalisation = _seen(data, facts, some)
    background, efficiency, pitch = rows_of(data, "background", some), scan.efficiency, scan.bin_mm
    n, column, blind = len(share), (slice(None), None, None), scan.depth is None
    frames = half = None
    if "length" in facts:
        half = half_of(scan.counts, some.start)
        counted, extra = rows_of(data, "frames", some), rows_of(data, "frames_background", some)
        frames = Frames(counted, extra, facts["length"].expand(n, -1))
    seen = see(restorer, scan, frames, None if emission is None else emission[some], half)
    words = {name: facts.get(name) for name in ("task", "tracer", "region", "to", "delay_minutes")}
    question = ask(
        n,
        **words,  # type: ignore[arg-type]
        level=seen.level,
        bin_mm=pitch,
        decay=facts.get("decay", 1.0),
        has_mu=not blind,
        has_frames=frames is not None,
    )
    blur, missing = (sigma_of(facts[key]) / data.beam.bin_mm for key in ("fwhm_mm", "missing_mm"))
    bins = scan.counts.shape[-1]
    target = torch.zeros(n, 2, bins, bins)
    if blind:
        target[:, 0] = gaussian_blur(rows_of(data, "mumap", some), blur) / WATER
    else:
        live = efficiency.clamp_min(1e-6)
        full = rows_of(data, "sinogram", some)
        if facts["task"] == "low-dose":
            full = full - background  # of measured counts below 0 in many bins: their mean is what counts
        results = [(full, "image")]
        if facts["task"] in SECOND:
            results.append((rows_of(data, "second", some), "image_second"))
        for k, (truth, name) in enumerate(results):
            image = gaussian_blur(rows_of(data, name, some), missing)
            mean = (truth / live * (normalisation > 0)).mean(dim=(-2, -1)) / (normalisation > 0).float().mean(
                dim=(-2, -1)
            )
            value = image * (mean.clamp_min(0) * image.shape[-1] / image.sum(dim=(-2, -1)).clamp_min(1e-6))[column]
            target[:, k] = value * (share / seen.unit)[column]
    subject = torch.from_numpy(np.asarray(data["subject"][some])).long()
    stack = seen.views.stack().clamp(-6e4, 6e4)
    return PairSet(stack.half(), target.clamp_max(6e4).half(), question, subject, seen.unit)


def moved(
    pairs: PairSet, rng: torch.Generator, angle: float = 0.14, shift: float = 0.03, scale: float = 0.1
) -> PairSet:
    """Every pair turned, shifted and scaled at random, input and target alike.

    Parameters
    ----------
    angle : most radians either way. shift : standard deviation over the field of view. scale : most in log either way.
    """
    n = len(pairs)

    def spread(limit: float) -> torch.Tensor:
        return (2 * torch.rand(n, generator=rng) - 1) * limit

    turn, size = spread(angle), torch.exp(spread(scale))
    where = torch.randn(n, 2, generator=rng) * (2 * shift)
    cos, sin = turn.cos() / size, turn.sin() / size
    matrix = torch.stack([torch.stack([cos, -sin, where[:, 0]], 1), torch.stack([sin, cos, where[:, 1]], 1)], dim=1)
    both = torch.cat([pairs.stack, pairs.target], dim=1).float()
    grid = F.affine_grid(matrix, list(both.shape), align_corners=False)
    both = F.grid_sample(both, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    channels = pairs.stack.shape[1]
    stack, target = both[:, :channels], both[:, channels:]
    gain = size[:, None, None, None].square()  # a larger body of the same activity has more counts in a bin
    emission = [k for k in range(channels) if k != 2]
    stack = stack.clone()
    stack[:, emission] = stack[:, emission] / gain
    target = torch.where(pairs.attenuation[:, None, None, None], target, target / gain)
    return replace(pairs, stack=stack, target=target)


def forgotten(pairs: PairSet, rng: torch.Generator, word: float = 0.1, frames: float = 0.35) -> PairSet:
    """Some pairs with tracer, region, attenuation (each with probability `word`) or dynamic frames untold.

    A scan may come without them; frames are what a static scan of two tracers has to do without.
    """
    n = len(pairs)
    drop = [torch.rand(n, generator=rng) < p for p in (word, word, word, frames)]
    question, stack, told = pairs.question, pairs.stack.clone(), pairs.question.told.clone()
    known = {"tracer": torch.where(drop[0], 0, question.tracer), "region": torch.where(drop[1], 0, question.region)}
    for where, channels, flag in ((drop[2], slice(2, 3), 4), (drop[3], slice(3, None), 5)):
        stack[:, channels] = stack[:, channels] * (~where)[:, None, None, None]
        told[:, flag] = told[:, flag] * ~where
    return replace(pairs, stack=stack, question=replace(question, told=told, **known))
