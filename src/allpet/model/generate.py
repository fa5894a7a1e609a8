"""Generation: from a prompt to sinograms of any size, whole or in two parts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from threading import Lock
from typing import TYPE_CHECKING, TypeVar

import torch

from allpet.diffusion import DEFAULT, guided, sample, seeded_noise
from allpet.errors import AllpetError
from allpet.geometry import ImageGrid, ParallelBeam
from allpet.io.processes import single_threaded
from allpet.mask import project_mask, split
from allpet.model.condition import TOLD, Condition
from allpet.model.prompt import ISOTOPES, REGIONS, TASKS, TRACERS, Prompt
from allpet.model.regrid import regrid
from allpet.project import Projector
from allpet.project.moments import match_moments
from allpet.scan.core import Scan
from allpet.scan.units import ACTIVITY_MM

if TYPE_CHECKING:
    from allpet.model.allpet import AllPET

GROUP = 8
"""Samples drawn at a time, always so many: products of different width round differently, and a sample must not
depend on how many are drawn beside it."""
AT_ONCE = 16
"""Most groups drawn side by side: each takes some 35 MiB."""
SMALLEST, LARGEST = 32, 512
FINEST_MM, FEWEST = 0.1, 16
"""The finest pitch, and how many bins a region has at least: fewer lose what is in it."""
FINEST = 256
"""Pixels along a side above which the drawn image is not refined: twice the model's own, and a matrix of 512 would take
more than 3 GB."""
Progress = Callable[[int, int], None]
Drawn = TypeVar("Drawn")


@dataclass
class Parts:
    """Generated parts: ``positive + negative == whole`` to the bit, both >= 0; ``mask`` is the projected mask M in
    [0, 1], given or drawn."""

    whole: Scan
    positive: torch.Tensor
    negative: torch.Tensor
    mask: torch.Tensor


def generate(
    model: AllPET,
    prompt: str | Prompt,
    n: int = 1,
    views: int | None = None,
    bins: int | None = None,
    bin_mm: float | None = None,
    sampler: str | None = None,
    steps: int | None = None,
    seed: int = 0,
    guidance: float | None = None,
    attention: torch.Tensor | None = None,
    progress: Progress | None = None,
    first: int = 0,
) -> Scan:
    """Draw sinograms for a prompt such as ``"18F-FDG brain"``.

    Parameters
    ----------
    prompt : text, or a :class:`Prompt` in which a word is left unsaid.
    views, bins, bin_mm : size of the result, 32 to 512, and its pitch from 0.1 mm to a sixteenth of the region's field
        of view; by default the model's own, keeping the region's field of view.
    sampler, steps : see :data:`allpet.diffusion.SAMPLERS`; by default ``"sde"`` and the sampler's own number.
    seed : sample i of a seed depends neither on `n` nor on the batch.
    guidance : above 1 exaggerates the prompt, at twice the cost; default 1, or what the model's config says.
    attention : hot regions to be drawn, weights >= 0 in the image ``(size, size)`` or ``(n, size, size)``, over the
        region's field of view.
    progress : called with samples done and samples in all.
    first : number of the first sample drawn, a multiple of :data:`GROUP`; samples from it on are as in one draw of all.

    Returns
    -------
    Scan in kBq/mL*mm, ``(n, views, bins)``, >= 0. The drawn image (>= 0, in the region's field of view) is brought to
    the pixel asked for and projected there, so that the result is a sinogram whatever the network says. A model on the
    strip gives its sinogram as drawn on its own grid, and elsewhere that of the image.

    Raises
    ------
    AllpetError : unknown word, sampler or size; a model without a denoiser.
    """
    drawing = Drawing(model, prompt, n, views, bins, bin_mm, first)
    charts = drawing.charts(attention, "attention")

    def group(start: int) -> torch.Tensor:
        state = drawing.state(start, None, charts, sampler, steps, seed, guidance)
        whole, mean = drawing.sinogram(drawing.sum_of(state))
        return whole * drawing.gain(mean, seed, start)

    wholes: list[torch.Tensor] = []
    for whole in drawing.groups(group):
        wholes.append(whole)
        if progress:
            progress(min(len(wholes) * GROUP, n), n)
    return drawing.scan(torch.cat(wholes)[:n])


def generate_parts(
    model: AllPET,
    prompt: str | Prompt,
    n: int = 1,
    mask: torch.Tensor | None = None,
    views: int | None = None,
    bins: int | None = None,
    bin_mm: float | None = None,
    sampler: str | None = None,
    steps: int | None = None,
    seed: int = 0,
    guidance: float | None = None,
    first: int = 0,
) -> Parts:
    """Draw sinograms together with their positive and negative part.

    Parameters
    ----------
    mask : image-domain masks ``(size, size)`` or ``(n, size, size)`` over the region's field of view, weights >= 0;
        the parts are then ``M*s`` and ``(1-M)*s`` with ``M = A m / max(A m)``. Without it the model draws the parts
        too, and M is the positive one's share of every bin.

    Notes
    -----
    Other parameters as in :func:`generate`.
    """
    drawing = Drawing(model, prompt, n, views, bins, bin_mm, first)
    charts = drawing.charts(mask, "mask")
    told = "asked for" if charts is None else charts

    def group(start: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        state = drawing.state(start, told, None, sampler, steps, seed, guidance)
        whole, mean = drawing.sinogram(drawing.sum_of(state))
        share = None
        if mask is None:
            part = drawing.sinogram(state.chunk(2, dim=1)[0], signed=True)[0]
            peak = whole.amax(dim=(-2, -1), keepdim=True)
            share = (part / whole.clamp_min(1e-3 * peak)).clamp(0, 1)
        return whole * drawing.gain(mean, seed, start), share

    wholes, shares = zip(*drawing.groups(group), strict=True)
    whole = torch.cat(wholes)[:n].cpu()
    if mask is None:
        projected = torch.cat(shares)[:n].cpu()
    else:
        masks = _each(mask, n)
        grid = ImageGrid(masks.shape[-1], drawing.fov_mm / masks.shape[-1])
        projected = project_mask(masks, Projector(drawing.target, grid))
    return Parts(drawing.scan(whole), *split(whole, projected), projected)


def _each(image: torch.Tensor, n: int) -> torch.Tensor:
    """An image for each of n samples, ``(n, size, size)``: given so, or one for all."""
    return image.float() if image.ndim == 3 else image.float()[None].expand(n, -1, -1)


class Drawing:
    """What one call draws: its words, its grids, and how states become sinograms."""

    def __init__(
        self,
        model: AllPET,
        prompt: str | Prompt,
        n: int,
        views: int | None = None,
        bins: int | None = None,
        bin_mm: float | None = None,
        start: int = 0,
    ) -> None:
        if n < 1:
            raise AllpetError(f"n is {n}; it must be at least 1")
        if start < 0 or start % GROUP:
            raise AllpetError(f"first is {start}; it must be a multiple of {GROUP}, the samples drawn at a time")
        self.model, self.n, self.start = model, n, start
        self.prompt = model.parse(prompt) if isinstance(prompt, str) else prompt
        self.first, self.denoiser = model.need("first_stage"), model.need("denoiser")
        self.device = self.denoiser.mean.device
        fields = model.config["field_of_view_mm"]
        if self.prompt.region and self.prompt.region not in fields:
            raise AllpetError(f"region '{self.prompt.region}' is unknown; known regions: {', '.join(fields)}")
        self.fov_mm = float(fields[self.prompt.region]) if self.prompt.region else max(map(float, fields.values()))
        views = model.config["views"] if views is None else views
        bins = model.config["bins"] if bins is None else bins
        for name, size in (("views", views), ("bins", bins)):
            if not SMALLEST <= size <= LARGEST:
                raise AllpetError(f"{name} is {size}; it must be {SMALLEST} to {LARGEST}")
        finest, coarsest = FINEST_MM, self.fov_mm / FEWEST
        if bin_mm is not None and not finest <= bin_mm <= coarsest:
            raise AllpetError(
                f"bin_mm is {bin_mm:g}; for a field of view of {self.fov_mm:g} mm it must be {finest:g} to {coarsest:g}"
            )
        self.target = ParallelBeam(views, bins, self.fov_mm / bins if bin_mm is None else bin_mm)
        self.own = model.beam.image_grid().size
        self.grid = ImageGrid(self.own, self.fov_mm / self.own)
        self.alone = Lock()  # matrices of large sinograms are made once, and are all that the memory has to hold
        self.native = self.target == ParallelBeam(*model.beam.shape, self.grid.pixel_mm)

    def charts(self, image: torch.Tensor | None, name: str) -> torch.Tensor | None:
        """Image-domain weights as charts for the network, ``(n, 1, h, w)``."""
        if image is None:
            return None
        if image.ndim not in (2, 3) or image.shape[-1] != image.shape[-2] or (image.ndim == 3 and len(image) != self.n):
            raise AllpetError(
                f"{name} has shape {tuple(image.shape)}; it must be (size, size) or ({self.n}, size, size)"
            )
        if bool((image < 0).any()) or not bool(torch.isfinite(image).all()):
            raise AllpetError(f"{name} has values below 0 or not finite; weights must be >= 0")
        image = _each(image, self.n)
        peak = image.amax(dim=(-2, -1), keepdim=True).clamp_min(1e-30)
        size = image.shape[-1]
        grid = ImageGrid(size, self.fov_mm / size)
        return self.first.chart(regrid(image / peak, grid, self.grid).clamp(0, 1))

    def condition(self, first: int, mask: torch.Tensor | str | None, attention: torch.Tensor | None) -> Condition:
        """The condition of the group of samples that begins at `first`; words the model does not know stay unsaid."""
        c = Condition.blank(GROUP, *self.first.shape[1:])
        told = c.told.clone()
        told[:, TOLD.index("log_pitch")] = math.log(self.grid.pixel_mm / 4)

        def word(value: str | None, known: tuple[str, ...], trained: list[str]) -> torch.Tensor:
            return torch.full((GROUP,), known.index(value) + 1 if value in known and value in trained else 0)

        tracers, regions = self.model.config["tracers"], self.model.config["regions"]
        c = replace(
            c,
            told=told,
            tracer=word(self.prompt.tracer, TRACERS, tracers),
            region=word(self.prompt.region, REGIONS, regions),
            task=word("generate", TASKS, list(TASKS)),
        )
        for name, chart in (("mask", mask), ("attention", attention)):
            if isinstance(chart, torch.Tensor):
                rows = torch.arange(first, first + GROUP).clamp_max(len(chart) - 1)
                c = replace(c, **{name: chart[rows], f"{name}_told": torch.ones(GROUP)})
        return c if mask is None else replace(c, whole=torch.zeros(GROUP))

    def groups(self, draw: Callable[[int], Drawn]) -> Iterator[Drawn]:
        """What `draw` makes of each group of :data:`GROUP` samples, given the number of its first, in order.

        On a CPU as many groups at a time as there are threads (at most :data:`AT_ONCE`), each on one: the networks are
        too small to be shared by several, and what is drawn does not depend on how many there are.
        """
        starts = range(0, self.n, GROUP)
        if self.device.type != "cpu":
            yield from map(draw, starts)
            return
        with ThreadPoolExecutor(min(AT_ONCE, torch.get_num_threads())) as pool, single_threaded():
            yield from pool.map(draw, starts)

    @torch.no_grad()
    def state(
        self,
        start: int,
        mask: torch.Tensor | str | None,
        attention: torch.Tensor | None,
        sampler: str | None,
        steps: int | None,
        seed: int,
        guidance: float | None,
    ) -> torch.Tensor:
        """Latent states of a group of :data:`GROUP` samples, the first of which has the number `start`."""
        scale = float(self.model.config.get("guidance", 1.0)) if guidance is None else guidance
        interval = self.model.config.get("guidance_interval")
        emphasis = float(self.model.config.get("emphasis", {}).get(self.prompt.region, 1.0))
        c = self.condition(start, mask, attention).to(self.device)
        blank = c.without("tracer", "region")

        def told(z: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
            return self.denoiser(z, sigma, c, emphasis)

        def untold(z: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
            return self.denoiser(z, sigma, blank, emphasis)

        return sample(
            guided(told, untold, scale, tuple(interval) if interval else None),
            self.denoiser.shape,
            seed,
            range(self.start + start, self.start + start + GROUP),
            sampler=sampler or DEFAULT,
            steps=steps,
            mean=self.denoiser.mean[c.whole.long(), c.tracer, c.region],
            device=self.device,
        )

    def sum_of(self, state: torch.Tensor) -> torch.Tensor:
        """Latents of the whole: both parts' sum."""
        positive, negative = state.chunk(2, dim=1)
        return positive + negative

    def sinogram(self, latent: torch.Tensor, signed: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
        """Latents to sinograms on the grid asked for and their means over the region's field of view, in the unit of
        the latents; `signed` lets values below 0 stand."""
        low = -math.inf if signed else 0.0
        if self.native and self.first.surface == "strip":
            s = self.first.decode(latent).clamp_min(low)
            return s, s.mean(dim=(-2, -1))
        axis = (torch.arange(self.own, device=latent.device) - (self.own - 1) / 2) * (2 / self.own)
        disc = axis[:, None].square() + axis[None, :].square() <= 1
        image = (self.first.image(latent) * disc).clamp_min(low)
        bins = max(self.target.bins, math.ceil(self.fov_mm / self.target.bin_mm - 1e-6))  # that see the whole image
        cut = bins > self.target.bins  # those that do not have other moments
        grid = replace(self.target, bins=bins).image_grid(min(bins, max(FINEST, self.own)))
        with self.alone:
            s = Projector(self.target, grid)(regrid(image, self.grid, grid).clamp_min(low)) / self.grid.pixel_mm
            s = s if signed or cut else match_moments(s, self.target)
        return s, image.sum(dim=(-2, -1)) / self.own

    def gain(self, mean: torch.Tensor, seed: int, first: int) -> torch.Tensor:
        """What brings drawn sinograms of these means to kBq/mL*mm: the prompt's amplitude, drawn, over the mean."""
        rows = range(self.start + first, self.start + first + len(mean))
        center, spread = self._amplitude()
        wanted = torch.exp(center + spread * seeded_noise((), seed, rows, stream=1, device=mean.device))
        return (wanted / mean.clamp_min(1e-12))[:, None, None]

    def _amplitude(self) -> tuple[float, float]:
        """Mean and standard deviation of the log mean, over all prompts that the words leave open."""
        known: dict[str, list[float]] = self.model.config["log_mean"]
        words = (self.prompt.tracer, self.prompt.region)
        rows = [v for k, v in known.items() if all(w in (None, p) for w, p in zip(words, k.split(), strict=True))]
        if not rows:
            raise AllpetError(f"prompt '{self.prompt}': not trained on; known: {', '.join(known)}")
        center = sum(c for c, _ in rows) / len(rows)
        return center, math.sqrt(sum(s**2 + (c - center) ** 2 for c, s in rows) / len(rows))

    def scan(self, sinogram: torch.Tensor) -> Scan:
        """The result, with its words."""
        tracer = self.prompt.tracer
        scan = Scan(sinogram.cpu(), self.target, unit=ACTIVITY_MM)
        isotope = self.prompt.isotope or (ISOTOPES.get(tracer) if tracer else None)
        return replace(scan, tracer=tracer, isotope=isotope, region=self.prompt.region)
