"""What every task does first: check the scan, find the words, restore a few planes at a time, carry results back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from allpet.errors import AllpetError
from allpet.geometry import ImageGrid, ParallelBeam
from allpet.io.header import standard_key
from allpet.model.translator import Ask, ask
from allpet.scan.arc import line_coordinates
from allpet.scan.carry import Carrier
from allpet.scan.core import Scan
from allpet.scan.corrected import ATTENUATION, corrected_for, lacks_no_background, mark_corrected
from allpet.scan.kinetics import ISOTOPES
from allpet.scan.randoms import with_randoms
from allpet.scan.suv import HALF_LIFE_KEY
from allpet.scan.tracers import TRACERS
from allpet.scan.units import COUNTS
from allpet.task.beyond import beyond
from allpet.task.grains import draws
from allpet.task.neighbours import LEAST, half_of, restored_together
from allpet.task.put_back import put_back
from allpet.task.seen import Counts, Frames, Seen, see
from allpet.uncertainty import few_draws

if TYPE_CHECKING:
    from allpet.model.allpet import AllPET

Progress = Callable[[int, int], None]
PLANES = 4
"""Planes at a time: bounds the memory."""
SAMPLES = 16
"""Draws behind a standard deviation, by default."""


OF_ISOTOPE = (HALF_LIFE_KEY, "branching factor")
"""Keys of a header that hold for one isotope."""


@dataclass(frozen=True)
class Words:
    """What is said of a scan, None where nothing is: tracer, the second tracer or the one wanted, region."""

    tracer: str | None = None
    to: str | None = None
    region: str | None = None


def begin(task: str, model: AllPET, scan: Scan, prompt: str | None, notes: list[str]) -> tuple[Scan, Words]:
    """Check a scan, estimate its background where only delayeds are known, and find its words.

    Raises
    ------
    AllpetError : no counts, negative ones, or a word in the prompt that the model does not know.
    """
    if scan.unit != COUNTS:
        raise AllpetError(f"{task} takes measured counts; this scan is in {scan.unit}")
    if bool((scan.sinogram < 0).any()):
        raise AllpetError(f"{task} takes prompts; this scan has bins below zero (was a background subtracted?)")
    if task == "attenuation" and ATTENUATION in corrected_for(scan):
        raise AllpetError("this scan is corrected for attenuation already (its header says so); give measured counts")
    scan = with_randoms(scan)
    if scan.background is None and not lacks_no_background(scan):
        notes.append("no background (randoms, scatter) is known: all counts are taken for trues")
    if in_touch(scan):
        notes.append(f"planes are restored together with their neighbours, {scan.plane_mm:g} mm apart")
    first, _, second = (scan.tracer or "").partition(" + ")
    words = Words(first or None, second or None, scan.region)
    if second and not prompt and task != "separate":
        notes.append(f"the scan is of two tracers, {scan.tracer}: {task} knows one at a time, so none is told")
        words = Words(None, None, scan.region)
    if prompt:
        words = _words_of(task, model, prompt)
        if second and (words.to, words.tracer) == (first, second):
            words = Words(first, second, words.region)
            notes.append(f"the scan is of {scan.tracer}, in the order of injection: OUT is {first}, -second {second}")
        said = words.tracer if words.to is None else f"{words.tracer} + {words.to}"
        for name, written, told in (("tracer", scan.tracer, said), ("region", scan.region, words.region)):
            if written and told and set(written.split(" + ")) != set(told.split(" + ")):
                notes.append(
                    f"the scan says {written}, the prompt {told}: the prompt is gone by, the file keeps its {name}"
                )
        alone = words.tracer in TRACERS and words.to is None
        isotope = TRACERS[words.tracer].isotope.name if alone and words.tracer else None
        scan = replace(
            scan,
            tracer=scan.tracer or said,
            region=scan.region or words.region,
            isotope=scan.isotope or (None if scan.tracer else isotope),
        )
    return scan, words


def _words_of(task: str, model: AllPET, prompt: str) -> Words:
    """The words of a prompt.

    Raises
    ------
    AllpetError : a word that the model does not know; two tracers for a task that takes one.
    """
    first, plus, second = prompt.partition("+")
    if not plus:
        said = model.parse(prompt)
        return Words(said.tracer, None, said.region)
    if task != "separate":
        raise AllpetError(f"prompt '{prompt}' names two tracers; {task} takes one (separate takes two)")
    tail = model.parse(second.strip())
    head = model.parse(f"{first.strip()} {tail.region}")
    return Words(head.tracer, tail.tracer, tail.region)


def first_tracer(scan: Scan) -> str | None:
    """The tracer that a scan says, the first of two."""
    return (scan.tracer or "").partition(" + ")[0] or None


@dataclass(frozen=True)
class Part:
    """A few planes: as they are, and as the network sees them.

    Parameters
    ----------
    scan : on its own grid. background : expected, of the same shape. efficiency : used in the restoration. carrier :
    between the grids. coarse : on the model's grid. seen : restored. first : number of the first plane. before : planes
    that come before those of the scan, where it is a part of a longer one.
    """

    scan: Scan
    background: torch.Tensor
    efficiency: torch.Tensor
    carrier: Carrier
    coarse: Counts
    seen: Seen
    first: int
    peak: torch.Tensor
    before: int = 0

    def __len__(self) -> int:
        return len(self.scan)

    @property
    def grid(self) -> ImageGrid:
        """Of the images, in mm."""
        return self.carrier.model.image_grid()

    def activity(self, shown: Scan) -> torch.Tensor:
        """What an image value of 1 stands for in the scan that the image is of: kBq/mL, or counts/mm where that is not
        calibrated, ``(n,)``; `shown`: all planes of it."""
        per = 1.0 if shown.counts_per_unit is None else shown.counts_per_unit
        scale = torch.as_tensor(per, dtype=torch.float64).float()
        scale = scale[self.first : self.first + len(self)] if scale.ndim else scale.expand(len(self))
        return self.seen.unit / (self.peak.flatten() * self.grid.pixel_mm * scale)

    def up(self, emission: torch.Tensor) -> torch.Tensor:
        """Emission on the model's grid to that at the scan's lines."""
        return self.carrier.up(emission / self.peak)

    def trues(self, emission: torch.Tensor | None = None) -> torch.Tensor:
        """Expected counts without background at the scan's lines, at its own dose and resolution, >= 0.

        Parameters
        ----------
        emission : estimate on the model's grid, default the restored one; what the data hold beyond it is put back.
        """
        estimate = self.efficiency * self.up(self.seen.emission if emission is None else emission) + self.background
        return (put_back(self.scan.sinogram, estimate, self.scan.live) - self.background).clamp_min(0)

    def corrected(self, image: torch.Tensor, model: AllPET) -> torch.Tensor:
        """See :meth:`Seen.corrected`."""
        return self.seen.corrected(image, model.need("restorer").projector)

    def informed(self, image: torch.Tensor, spread: torch.Tensor, model: AllPET) -> torch.Tensor:
        """An image of this scan with what its counts say beyond it, >= 0 (:mod:`allpet.task.beyond`).

        Parameters
        ----------
        image, spread : in units of the scan, and its stated deviation, ``(n, bins, bins)``.
        """
        expected = self.coarse.efficiency * self.corrected(image, model) + self.coarse.background
        projector = model.need("restorer").projector
        return (image + beyond(self.coarse, expected, spread, self.seen.unit, projector)).clamp_min(0)

    def counts_of(self, image: torch.Tensor, model: AllPET) -> torch.Tensor:
        """Images in units of the scan ``(n, bins, bins)`` to emission on the model's grid, in counts."""
        projector = model.need("restorer").projector
        return projector(image) * self.seen.unit[:, None, None]

    def deviation(
        self, task: str, mean: torch.Tensor, spread: torch.Tensor, samples: int, seed: int, model: AllPET
    ) -> torch.Tensor:
        """Standard deviation of the trues at the scan's lines, given that of a task's image; see :func:`draws`."""
        images = draws(task, mean, spread, samples, seed, self.before + self.first)
        made = [self.counts_of(image, model) for image in images]
        return self.efficiency * self.up(torch.stack(made).std(dim=0)) * few_draws(samples)

    def ratio(self, image: torch.Tensor, model: AllPET) -> torch.Tensor:
        """By what the scan's trues have to be multiplied so that they show another image, at the scan's lines."""
        other, own = (self.up(self.counts_of(x, model)) for x in (image, self.seen.views.image))
        small = 1e-3 * own.amax(dim=(-2, -1), keepdim=True).clamp_min(1e-9)
        return (other + small) / (own + small)


def parts(
    model: AllPET,
    scan: Scan,
    attenuation: torch.Tensor | None,
    progress: Progress | None = None,
    frames: bool = False,
    first_plane: int = 0,
) -> Iterator[Part]:
    """Restore the scan a few planes at a time; neighbouring ones together (:mod:`allpet.task.neighbours`).

    Parameters
    ----------
    attenuation : factors to correct with ``(n, view, radial)``, None for none. frames : whether dynamic ones are used.
    first_plane : number of the scan's first plane where it is a part of a longer one.
    """
    restorer = model.need("restorer")
    carrier = Carrier(scan.geometry, working_beam(scan, *model.beam.shape))
    whole, total = None, len(scan)
    if in_touch(scan):
        whole = restored_together(restorer, _chunks(scan, attenuation, carrier, first_plane, progress))
    for start in range(0, total, PLANES):
        some = slice(start, start + PLANES)
        part, efficiency, background, coarse, peak = _coarse(scan, attenuation, carrier, some)
        moving = _moving(part, carrier) if frames and part.dynamic is not None else None
        alone = moving is not None and whole is None and _apart(part)  # only such planes borrow from their frames
        half = carrier.down(half_of(part.sinogram, first_plane + start)) if alone else None
        seen = see(restorer, coarse, moving, None if whole is None else whole[some] * peak, half)
        yield Part(part, background, efficiency, carrier, coarse, seen, start, peak, first_plane)
        if progress:
            done = min(start + PLANES, total)
            progress(done if whole is None else (total + done) // 2, total)


def in_touch(scan: Scan) -> bool:
    """Whether the scan's planes are restored together with their neighbours."""
    return scan.neighbours and len(scan) >= LEAST


def _coarse(
    scan: Scan, attenuation: torch.Tensor | None, carrier: Carrier, some: slice
) -> tuple[Scan, torch.Tensor, torch.Tensor, Counts, torch.Tensor]:
    """Some planes, their efficiency and background, all of it on the model's grid, and the peak of each one's
    efficiency there, ``(n, 1, 1)``."""
    part = scan.planes(some)
    normal = torch.ones_like(part.sinogram) if part.normalisation is None else part.normalisation
    factors = None if attenuation is None else attenuation[some]
    efficiency = normal if factors is None else normal * factors
    background = torch.zeros_like(part.sinogram) if part.background is None else part.background
    seen, eff, back = (carrier.down(x) for x in (part.sinogram, efficiency, background))
    peak = eff.amax(dim=(-2, -1), keepdim=True)
    peak = torch.where(peak > 0, peak, 1.0)
    depth = None
    if factors is not None:
        lost = eff / carrier.down(normal).clamp_min(1e-9)
        depth = -torch.where(eff > 1e-3 * peak, lost, 1.0).clamp(1e-6, 1).log()
    pitch = torch.full((len(part),), carrier.model.bin_mm)
    return part, efficiency, background, Counts(seen, eff / peak, back, pitch, depth), peak


def _chunks(
    scan: Scan,
    attenuation: torch.Tensor | None,
    carrier: Carrier,
    first_plane: int,
    progress: Progress | None,
) -> Iterator[tuple[Counts, torch.Tensor, torch.Tensor]]:
    """The planes, a few at a time, to be restored together; the first half of the way."""
    for start in range(0, len(scan), PLANES):
        part, _, _, coarse, peak = _coarse(scan, attenuation, carrier, slice(start, start + PLANES))
        yield coarse, carrier.down(half_of(part.sinogram, first_plane + start)), peak
        if progress:
            progress(min(start + PLANES, len(scan)) // 2, len(scan))


def _apart(part: Scan) -> bool:
    """Whether the frames are known to hold other counts than the static scan: all before it, or all after it."""
    if part.dynamic is None or part.start_s is None:
        return False
    first = min(part.dynamic.start_s)
    last = max(a + b for a, b in zip(part.dynamic.start_s, part.dynamic.duration_s, strict=True))
    after = part.duration_s is not None and first >= part.start_s + part.duration_s - 1
    return last <= part.start_s + 1 or after


def _moving(part: Scan, carrier: Carrier) -> Frames:
    """Dynamic frames on the model's grid, as many as the network takes."""
    from allpet.model.translator import FRAMES

    assert part.dynamic is not None
    frames = part.dynamic.rebinned(FRAMES)
    static = part.duration_s or float(sum(frames.duration_s)) / FRAMES
    length = (torch.tensor(frames.duration_s) / static).expand(len(part), -1)
    counts, background = (
        torch.stack([carrier.down(x[:, k]) for k in range(FRAMES)], dim=1) for x in (frames.counts, frames.background)
    )
    return Frames(counts, background, length)


def question(
    task: str, words: Words, part: Part, delay_minutes: float | None = None, decay: float = 1.0, frames: bool = False
) -> Ask:
    """What the network is asked about these planes."""
    return ask(
        len(part),
        task,
        words.tracer,
        words.region,
        part.seen.level,
        part.coarse.bin_mm,
        words.to,
        delay_minutes,
        decay,
        part.coarse.depth is not None,
        frames,
    )


def check_samples(samples: int) -> None:
    """Refuse a number of samples from which no deviation follows."""
    if samples < 0 or samples == 1:
        raise AllpetError(f"samples is {samples}; a standard deviation needs at least 2 (0 for none)")


APART = 2.0
"""Standard deviations by which counts above the background must stand out to be taken for the object."""


def working_beam(scan: Scan, views: int, bins: int) -> ParallelBeam:
    """The model's grid over the part of the field of view that holds the object.

    A parallel-beam scan of the model's own size is worked on as it is. Otherwise the half-width
    is where 99.8 % of the counts above the background lie, and a tenth more; what lies farther out must stand out of
    the noise of the counts there (by :data:`APART` standard deviations).
    """
    geometry = scan.geometry
    if isinstance(geometry, ParallelBeam) and geometry.shape == (views, bins):
        return geometry
    net = scan.sinogram if scan.background is None else scan.sinogram - scan.background
    profile, counted = (x.sum(dim=(0, 1), dtype=torch.float64) for x in (net, scan.sinogram))
    radius = torch.from_numpy(line_coordinates(geometry)[1][0]).abs()
    order = radius.argsort(descending=True)
    beyond, noise = profile[order].cumsum(0), counted[order].clamp_min(0).cumsum(0).sqrt()
    inside = torch.nonzero(beyond > 0.002 * float(profile.sum()) + APART * noise).flatten()
    reach = float(radius[order][int(inside[0]) if len(inside) else 0]) * 1.1
    return ParallelBeam(views, bins, 2 * min(max(reach, 40.0), float(radius.max())) / (bins - 1))


def header_of_another(scan: Scan) -> dict[str, Any]:
    """The scan's header without what it says of its isotope, for a scan of another one."""
    return {key: value for key, value in scan.header.items() if standard_key(key) not in OF_ISOTOPE}


def bare(scan: Scan, *corrected: str) -> Scan:
    """The scan without what belongs to its counts only: dynamic frames, delayeds, randoms, doses by plane.

    `corrected`: what its counts are no longer subject to, for its header.
    """
    scan = replace(scan, dynamic=None, delayeds=None, randoms=None, dose_fractions=None)
    return mark_corrected(scan, *corrected) if corrected else scan


def calibration_for(scan: Scan, tracer: str | None, other: str) -> dict[str, Any]:
    """Counts per kBq/mL*mm of another tracer, whose isotope has another share of positrons (None where unknown), and
    the time that its activity is corrected to: one at the injection becomes one at the frame's start, since the first
    isotope's decay until then is not the other's."""
    per_unit, reference = scan.counts_per_unit, scan.decay_reference
    if per_unit is None or tracer not in TRACERS or other not in TRACERS:
        return dict(counts_per_unit=None)
    own, wanted = TRACERS[tracer].isotope, TRACERS[other].isotope
    if reference == "injection" and own != wanted:
        if scan.start_s is None:
            return dict(counts_per_unit=None)
        per_unit, reference = per_unit / float(ISOTOPES[own.name].decay(scan.start_s)), "start"
    return dict(counts_per_unit=per_unit * (wanted.branching / own.branching), decay_reference=reference)
