"""A picture of every case of the tasks: what was measured, what came out, what is true, how far off, how sure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from allpet.report.figures import DIFFERENCE_MAP, SPREAD_MAP, Panel, difference_window, draw, image_panel, window_of
from allpet.report.tasks_table import images_of, ours, plainly
from allpet.scan.mumap import WATER
from allpet.scan.units import UNCALIBRATED
from allpet.study.cases import Case
from allpet.task.rivals import net, share_of, truth
from allpet.task.temper import image_of, temper
from allpet.train.pairs import PairSet

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from allpet.model import AllPET
    from allpet.study.plain import PlainNet


def case_figure(model: AllPET, case: Case, plain: PlainNet | None = None, seed: int = 11) -> Figure:
    """The first person of a case, OSEM of each sinogram; a row for each result (attenuation: also the mu map)."""
    data = case.simulate(1, "test", seed, model.beam.shape)
    true, mine = truth(data), ours(model, data)
    before = images_of(net(data).clamp_min(0), data)[0]
    rival = None if plain is None else plainly(plain, model, data)
    pairs = PairSet.from_dataset(data, model.need("restorer"))
    task = str(data.prompt["task"])
    with torch.no_grad():
        mean, doubt = model.translator_of(task)(pairs.views, pairs.question)
    spread = (doubt[:, 0] * temper(model, image_of(task), pairs.question))[0]
    lines: list[list[Panel]] = []
    for k in range(true.shape[1]):
        right, made = images_of(true[:, k], data)[0], images_of(mine[:, k], data)[0]
        window = window_of(right, share=0.998)
        shown = [("measured, OSEM", before), ("truth, OSEM", right), ("allpet", made)]
        if rival is not None and k < rival.shape[1]:
            shown.append(("U-Net", images_of(rival[:, k], data)[0]))
        which = "" if true.shape[1] == 1 else f" of tracer {k + 1}"
        line = [
            image_panel(x, data.grid, name + (which if name != "measured, OSEM" else ""), UNCALIBRATED, window)
            for name, x in shown
        ]
        off = made - right
        line.append(image_panel(off, data.grid, "allpet − truth", UNCALIBRATED, difference_window(off), DIFFERENCE_MAP))
        if k == 0 and task != "attenuation":
            scale = float(pairs.unit[0] / share_of(data)[0]) / data.grid.pixel_mm
            line.append(image_panel(spread * scale, data.grid, "standard deviation", UNCALIBRATED, colours=SPREAD_MAP))
        lines.append(line)
    if task == "attenuation":
        right, found = pairs.target[0, 0].float() * WATER, mean[0, 0] * WATER
        window, off = window_of(right, share=1.0), found - right
        lines.append(
            [
                image_panel(right, data.grid, "mu, truth", "1/mm", window),
                image_panel(found, data.grid, "mu, predicted", "1/mm", window),
                image_panel(off, data.grid, "mu, difference", "1/mm", difference_window(off), DIFFERENCE_MAP),
                image_panel(spread * WATER, data.grid, "mu, standard deviation", "1/mm", colours=SPREAD_MAP),
            ]
        )
    return draw(lines, 2.3)
