"""What defines a simulated data set: options, random streams, and which tracer is imaged when."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from allpet.geometry import ParallelBeam
from allpet.scan.acquire import FWHM_MM
from allpet.scan.scanners import Scanner, scanner
from allpet.scan.tracers import TRACERS

REGIONS = ("brain", "head-neck", "chest", "abdomen", "pelvis")
"""Order matters: random streams and trained embeddings count on it."""
SPLITS = ("train", "validation", "test")
DOSE_RANGE = (0.01, 0.5)
RATIO_RANGE = (0.5, 2.0)
GENERIC = "mMR"
"""Scanner whose ring and energy window make the background where none is named."""
BODY, UPTAKE, PATIENT, LESIONS, SCANNER, SLICES = range(6)
"""What a random stream is for."""
TRACER_NUMBER = {name: number for number, name in enumerate(TRACERS)}


DYNAMIC_FRAMES = 6


@dataclass(frozen=True)
class Channel:
    """One tracer in one frame: the tracer's number, start and end in s after the first injection."""

    tracer: int
    start_s: float
    stop_s: float


def _span(frame: tuple[float, float]) -> tuple[float, float]:
    return frame[0], frame[0] + frame[1]


@dataclass(frozen=True)
class Plan:
    """Everything that defines a subject's samples; see :func:`allpet.scan.simulate.simulate` for the options."""

    region: str
    tracers: tuple[str, ...]
    task: str | None
    beam: ParallelBeam
    seed: int
    split: str
    slices: int
    spacing_mm: float | None
    counts: tuple[float, float]
    dose_fraction: float | None
    thinning: str
    scanner: str | None
    background: str
    delay_s: float | None
    stagger_s: float
    ratio: float | None
    labels: tuple[str, str, str | None] | None

    def stream(self, subject: int, *purpose: int) -> np.random.Generator:
        """The generator of one subject for one purpose."""
        where = REGIONS.index(self.region)
        root = np.random.SeedSequence(self.seed, spawn_key=(where, SPLITS.index(self.split), subject, *purpose))
        return np.random.default_rng(root)

    @cached_property
    def preset(self) -> Scanner | None:
        """The scanner named, or None."""
        return None if self.scanner is None else scanner(self.scanner)

    @property
    def fwhm_mm(self) -> float:
        """Detector resolution."""
        return FWHM_MM if self.preset is None else self.preset.fwhm_mm

    @cached_property
    def channels(self) -> tuple[Channel, ...]:
        """What is imaged; for "separate" the static frame and the dynamic ones, of either tracer."""
        first = TRACERS[self.tracers[0]]
        out = [Channel(0, *_span(first.first_s))]
        if self.task == "delayed":
            start, length = first.delayed_s
            out.append(Channel(0, *_span((start if self.delay_s is None else first.first_s[0] + self.delay_s, length))))
        if self.task == "convert":
            out.append(Channel(1, *_span(TRACERS[self.tracers[1]].first_s)))
        if self.task == "separate":
            end = self.stagger_s + 3600.0
            edges = np.linspace(0, end, DYNAMIC_FRAMES + 1)
            spans = [(end, end + 600.0), *zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)]
            out = [Channel(number, *span) for number in (0, 1) for span in spans]
        return tuple(out)
