"""Attention in a task: the regions that were pointed at are looked at again, and what became of them is read off.

A region's strength is how much it is attended to. 0 and below: the task goes on as without it. Up to 1: that share
of what the second look (:class:`allpet.model.focus.Focus`) changes. Above 1: the region's mean is moved on towards what
the counts ask for, by ``1 - 1 / strength`` of the way, so that the data weigh the more. A region with a score is a
suggestion: it was chosen because noise made it hot, and is believed less than what a person drew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from allpet.mask.attend import quick_image
from allpet.mask.region import Region
from allpet.metrics.region import uptake
from allpet.model.focus import gate_of
from allpet.recon.whole import image_grid_of
from allpet.scan.core import Image, Scan
from allpet.task.grains import draws
from allpet.task.planes import Part
from allpet.task.sight import sight_of
from allpet.task.temper import usual

if TYPE_CHECKING:
    from allpet.model.allpet import AllPET, RegionResult

SAMPLES = 64
"""Draws behind the standard deviation of a region's mean."""
REACH = 4
"""Planes on either side that a peak may reach into."""


class Pointed:
    """Filled part by part.

    Parameters
    ----------
    task : whose deviations are kept. scan : the whole one. roi : regions on the grid of the scan's quick image; none
    leaves everything as it is. seed : of the draws. shown : what is known of the scan that the task's images are of, if
    it is another one.

    Raises
    ------
    AllpetError : a region outside of the image, or a model without a second look.
    """

    def __init__(
        self,
        model: AllPET,
        task: str,
        scan: Scan,
        roi: Sequence[Region] | None,
        seed: int,
        shown: Scan | None = None,
    ) -> None:
        self.model, self.task, self.scan, self.seed = model, task, scan, seed
        self.shown = scan if shown is None else shown
        self.roi = tuple(roi or ())
        self.own = self.grid = image_grid_of(scan.geometry)[1]
        self.without: list[torch.Tensor] = []
        self.after: list[torch.Tensor] = []
        self.noise = torch.zeros(len(self.roi), SAMPLES)
        if self.roi:
            model.need("focus")
        for region in self.roi:
            region.check((len(scan), *self.own.shape))

    def here(self, part: Part) -> list[tuple[int, Region]]:
        """Regions with a voxel on these planes by their number, on the model's grid, planes counted from the first."""
        some = range(part.first, part.first + len(part))
        found = []
        for number, region in enumerate(self.roi):
            cut = region.only(some)
            again = None if cut is None else cut.regridded(self.own, part.grid)
            if again is not None:
                found.append((number, again))
        return found

    def look(self, part: Part, present: torch.Tensor, doubt: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Images and deviations after the second look, ``(n, rows, columns)`` in units of the scan; the same where no
        region is."""
        image, spread = present.clone(), doubt.clone()
        for _, region in self.here(part):
            for k in region.planes:
                mask = torch.from_numpy(region.plane(k, part.grid.shape))[None]
                if region.strength > 0 and bool(mask.any()):
                    one = slice(k, k + 1)
                    image[one], spread[one] = self._again(part, one, mask, image[one], spread[one], region)
        return image, spread

    def _again(
        self, part: Part, one: slice, mask: torch.Tensor, present: torch.Tensor, doubt: torch.Tensor, region: Region
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """One region of one plane."""
        seen, scan = part.seen[one], part.coarse[one]
        sight, (rows, columns) = sight_of(self.model, mask, present, seen, scan, region.kind, not region.score)
        with torch.no_grad():
            new, spread = self.model.need("focus")(sight)
        share, gate = min(region.strength, 1.0), gate_of(mask)
        image, deviation = present.clone(), doubt.clone()
        image[:, rows, columns] += share * (new - present[:, rows, columns])
        deviation[:, rows, columns] += share * gate[:, rows, columns] * (spread - doubt[:, rows, columns])
        if region.strength > 1:
            left, _ = sight_of(self.model, mask, image, seen, scan, region.kind, not region.score)
            image = (image + gate * left.alpha[:, :1, None] * (1 - 1 / region.strength)).clamp_min(0)
        return image, deviation

    def attended(self, part: Part) -> Part:
        """The part as it is seen after the second look: for tasks that go on from the restored image."""
        if not self.here(part):
            return part
        views = part.seen.views
        image, _ = self.look(part, views.image, torch.zeros_like(views.image))
        emission = part.corrected(image, self.model)
        return replace(part, seen=replace(part.seen, views=replace(views, image=image), emission=emission))

    def keep(self, part: Part, without: torch.Tensor, after: torch.Tensor, deviation: torch.Tensor) -> None:
        """Note the task's image without and with attention, and the latter's deviation, in units of the scan."""
        if not self.roi:
            return
        self.grid = part.grid
        scale = part.activity(self.shown)[:, None, None]
        self.without.append(without * scale)
        self.after.append(after * scale)
        here = self.here(part)
        if not here:
            return
        spread = deviation * usual(self.model, self.task, "image")
        for k, drawn in enumerate(draws(self.task, after, spread, SAMPLES, self.seed, part.before + part.first)):
            off = (drawn - after) * scale
            for number, region in here:
                self.noise[number, k] += float((off[region.box] * torch.from_numpy(region.weights)).sum())

    def results(self) -> tuple[RegionResult, ...]:
        """What became of the regions, in their order; a region that is nothing on the model's grid is left out."""
        from allpet.model.allpet import RegionResult

        if not self.roi:
            return ()
        without, after = (torch.cat(x).numpy() for x in (self.without, self.after))
        factor, found = usual(self.model, self.task, "region"), []
        low = max(min(region.planes.start for region in self.roi) - REACH, 0)
        quick = quick_image(self.scan.planes(slice(low, max(region.planes.stop for region in self.roi) + REACH)))
        for number, region in enumerate(self.roi):
            again = region.regridded(self.own, self.grid)
            if again is None:
                continue
            moved = replace(region, start=(region.start[0] - low, *region.start[1:]))
            step, stacked = self.scan.plane_mm, self.scan.neighbours
            found.append(
                RegionResult(
                    region.name,
                    uptake(quick.array.numpy(), moved, quick.grid, step, neighbours=stacked),
                    uptake(without, again, self.grid, step, neighbours=stacked),
                    uptake(after, again, self.grid, step, neighbours=stacked),
                    factor * float(self.noise[number].std()) / again.voxels,
                    self.shown.image_unit,
                )
            )
        return tuple(found)

    def extras(self) -> dict[str, Scan | Image]:
        """What attention changed, as an image, by the suffix of its file."""
        if not self.roi:
            return {}
        change, shown = torch.cat(self.after) - torch.cat(self.without), self.shown
        return {"-image-change": Image(change, self.grid, shown.image_unit, shown.plane_mm, **shown.acquired())}
