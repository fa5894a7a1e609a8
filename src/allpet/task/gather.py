"""What a task notes while it goes over the planes: how familiar they are, and the images behind its sinograms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch

from allpet.model.familiar import LIMIT, Verdict, warnings
from allpet.scan.core import Image, Scan
from allpet.task.planes import Part, Words
from allpet.task.temper import temper

if TYPE_CHECKING:
    from allpet.model.allpet import AllPET, Result
    from allpet.model.translator import Ask
    from allpet.task.point import Pointed


class Gather:
    """Filled part by part.

    Parameters
    ----------
    task : whose deviations are kept. words : said of the scan. shown : what is known of the scan that the images are
        of, which may be another tracer's or a later one. images : whether they are kept.
    """

    def __init__(self, model: AllPET, task: str, words: Words, shown: Scan, images: bool) -> None:
        self.model, self.task, self.words, self.shown, self.images = model, task, words, shown, images
        self.verdicts: list[Verdict] = []
        self.means: list[torch.Tensor] = []
        self.deviations: list[torch.Tensor] = []
        self.grid = model.beam.image_grid()

    def look(self, part: Part) -> None:
        """Judge how familiar the planes are."""
        if self.model.familiar is None:
            return
        tracer = None if self.task == "separate" else self.words.tracer
        self.grid = part.grid
        look = partial(part.seen.look, part.grid, self.model.need("restorer").projector)
        self.verdicts.append(self.model.familiar(look, tracer, self.words.region))

    def believed(self, part: Part, task: str | None = None) -> torch.Tensor:
        """Whether the translator is believed on planes just looked at, bool ``(n, 1, 1)``: not where they are
        unfamiliar, nor where it is not told a tracer that it knows and the region.

        An adapted translator is believed everywhere: it was made for such scans. `task`: what it was asked, by default
        what is gathered for.
        """
        everywhere = torch.ones(len(part), 1, 1, dtype=torch.bool)
        if (self.task if task is None else task) in self.model.adapted:
            return everywhere
        if self.words.tracer not in self.model.tracers or self.words.region is None:
            return ~everywhere
        return (self.verdicts[-1].strangeness <= LIMIT)[:, None, None] if self.verdicts else everywhere

    def trusted(self, part: Part, mean: torch.Tensor, task: str | None = None) -> torch.Tensor:
        """The translator's image where it is :meth:`believed`, else the restored one."""
        return torch.where(self.believed(part, task), mean, part.seen.views.image)

    def informed(self, part: Part, mean: torch.Tensor, spread: torch.Tensor) -> torch.Tensor:
        """The translator's image of the scan itself with what its counts say beyond it (:mod:`allpet.task.beyond`)
        where it is :meth:`believed`, else the restored one; `spread`: its stated deviation."""
        believed = self.believed(part)
        if not bool(believed.any()):
            return part.seen.views.image
        return part.informed(self.trusted(part, mean), spread * believed, self.model)

    def keep(self, part: Part, mean: torch.Tensor, deviation: torch.Tensor, asked: Ask) -> None:
        """Keep an image that was asked for, in units of the scan, and its stated deviation: ``(n, bins, bins)``."""
        if not self.images:
            return
        self.grid = part.grid
        scale = part.activity(self.shown)[:, None, None]
        self.means.append(mean * scale)
        self.deviations.append(deviation * scale * temper(self.model, "image", asked))

    def extras(self) -> dict[str, Scan | Image]:
        """The images kept, by the suffix of their file."""
        if not self.means:
            return {}
        known = dict(unit=self.shown.image_unit, plane_mm=self.shown.plane_mm, **self.shown.acquired())
        kept = {"-image": self.means, "-image-std": self.deviations}
        return {suffix: Image(torch.cat(values), self.grid, **known) for suffix, values in kept.items()}

    def result(
        self,
        expected: Scan,
        std: Scan | None,
        notes: Sequence[str],
        pointed: Pointed,
        extras: Mapping[str, Scan | Image] | None = None,
    ) -> Result:
        """All that a task returns."""
        from allpet.model.allpet import Result

        images = {**self.extras(), **(pointed.extras() if self.images else {})}
        return Result(
            expected,
            std,
            (*notes, *self.notes()),
            {**(extras or {}), **images},
            self.strangeness,
            pointed.results(),
        )

    @property
    def strangeness(self) -> torch.Tensor | None:
        """Of every plane, see :class:`allpet.model.familiar.Verdict`."""
        return torch.cat([v.strangeness for v in self.verdicts]) if self.verdicts else None

    def notes(self) -> list[str]:
        """Warnings in words."""
        strange = self.strangeness
        if strange is None:
            return []
        doubts = [v.contradiction for v in self.verdicts]
        contradiction = None if any(d is None for d in doubts) else torch.cat([d for d in doubts if d is not None])
        nearest = tuple(word for v in self.verdicts for word in v.nearest)
        region = max({v.region for v in self.verdicts}, key=[v.region for v in self.verdicts].count)
        return warnings(Verdict(strange, contradiction, region, nearest), self.words.tracer)
