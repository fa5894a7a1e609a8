"""The demo's section on attention: a lesion is marked in a low-dose scan, before and after."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from allpet.mask.attend import attend, quick_image
from allpet.report.attention import figure_of
from allpet.report.figures import draw, image_panel, window_of
from allpet.report.page import Section, Table
from allpet.scan.dataset import Dataset
from allpet.study.attention import Lesion, lesions_of, marked_slices, truth_of

if TYPE_CHECKING:
    from allpet.model import AllPET

PEOPLE = 12
FRACTION = 1 / 20


def attention_section(model: AllPET, seed: int, region: str = "chest") -> tuple[Section, dict[str, dict[str, float]]]:
    """A test person with lesions at a twentieth of the dose; the outlines are drawn about the lesions as a person would
    draw them. Gives the section, and the numbers behind its table."""
    data = marked_slices(model, "FDG", region, PEOPLE, FRACTION, "test", seed + 8)
    sizes = [sum(one.region.voxels for one in _lesions(data, k, seed)) for k in range(len(data))]
    if not any(sizes):
        return Section("Attention", ["None of these people has a lesion in this slice."]), {}
    k = int(np.argmax(sizes))
    scan, lesions = data.scan([k]), _lesions(data, k, seed)
    regions = [one.region for one in lesions]
    result = model.apply("low-dose", scan, roi=regions, images=True, samples=0)
    after = result.extras["-image"].array[0]  # type: ignore[union-attr]
    change = result.extras["-image-change"].array[0]  # type: ignore[union-attr]
    truth = truth_of(data)[k]
    attended = attend(scan, regions, image=quick_image(scan))
    grid, top = data.grid, window_of(truth)
    panels = [
        image_panel(x, grid, title, "kBq/mL", top)
        for x, title in ((truth, "truth"), (after - change, "without attention"), (after, "with attention"))
    ]
    rows: list[list[str]] = []
    numbers: dict[str, dict[str, float]] = {}
    for lesion, found in zip(lesions, result.regions, strict=True):
        weights = lesion.region.plane(0, tuple(truth.shape))
        true = float((truth.numpy() * weights).sum() / weights.sum())
        rows.append(
            [
                f"{found.name} ({lesion.kind})",
                f"{true:.1f}",
                f"{found.before.mean:.1f}",
                f"{found.without.mean:.1f}",
                f"{found.after.mean:.1f} ± {found.std:.1f}",
            ]
        )
        numbers[found.name] = dict(truth=true, without=found.without.mean, after=found.after.mean, std=found.std)
    text = [
        "Whoever knows where to look marks it, and the sinogram shows what that means: every line is weighted by its "
        "length in the regions. Dividing by the weights gives the scan back.",
        "A task with regions looks at them again, with what their projection says as a matched filter of the counts; "
        "the rest of the image stays as it is.",
    ]
    figures = [
        (figure_of(attended, [0]), "Marked lesions, their weights, and the scan without and with the emphasis."),
        (draw([panels]), "A twentieth of the dose restored to all of it, same window."),
    ]
    caption = "Mean uptake in the marked outlines in kBq/mL; one standard deviation."
    table = Table(caption, ["", "truth", "quick image", "without attention", "with attention"], rows)
    return Section("Attention", text, figures, [table]), numbers


def _lesions(data: Dataset, k: int, seed: int) -> list[Lesion]:
    return lesions_of(data["labels"][k], data["image"][k], data.grid, seed)
