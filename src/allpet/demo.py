"""``allpet demo``: what the shipped model does, from its weights and simulated people alone, on one page."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from allpet.errors import AllpetError
from allpet.geometry import ImageGrid, ParallelBeam
from allpet.mask import draw_masks, project_mask, split
from allpet.metrics import mirror_seam, moment_residual, psnr, ssim
from allpet.project import Projector
from allpet.provenance import provenance
from allpet.recon import fbp, reconstruct
from allpet.report.figures import (
    DIFFERENCE_MAP,
    SPREAD_MAP,
    WEIGHT_MAP,
    Panel,
    difference_window,
    draw,
    image_panel,
    sinogram_panel,
    window_of,
)
from allpet.report.page import Section, Table, write_page
from allpet.scan.core import Scan
from allpet.scan.dataset import Dataset
from allpet.scan.simulate import simulate
from allpet.scan.units import COUNTS, UNCALIBRATED
from allpet.task.baselines import gaussian_estimate

REGIONS = ("brain", "chest", "abdomen")
DOSE_FRACTION = 1 / 20
GAUSSIAN_BINS = (0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0)
PEOPLE = 4


@dataclass
class Demo:
    """What the steps share: the model, the seed, and what they have found so far."""

    model: Any
    seed: int
    sections: list[Section] = field(default_factory=list)
    numbers: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


def run_demo(out: Path | str, seed: int = 0, model: Any = None) -> Path:
    """Write ``report.html`` and its numbers as ``report.json``.

    Parameters
    ----------
    out : folder, made if there is none. seed : of everything random. model : an :class:`allpet.AllPET`;
        default: the shipped weights.

    Returns
    -------
    the path of the page.
    """
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise AllpetError(f"{folder}: is a file; name a folder")
    folder.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    if model is None:
        from allpet.model import AllPET

        model = AllPET.from_pretrained()
    demo = Demo(model, seed)
    steps: dict[str, Callable[[Demo], None]] = {
        "generation": generation,
        "masks": masks,
        "low dose": low_dose,
        "attention": attention,
        "tasks": tasks,
    }
    for label, step in _progress(steps):
        before = time.perf_counter()
        step(demo)
        demo.seconds[label] = time.perf_counter() - before
    demo.seconds["all"] = time.perf_counter() - started
    demo.sections.append(cost(demo))
    facts = provenance(seed=seed, model_hash=model.hash)
    _write_numbers(folder / "report.json", {**demo.numbers, "seconds": demo.seconds, "provenance": facts})
    page = folder / "report.html"
    lead = [
        "A small foundation model for positron emission tomography that works on sinograms. Everything on this page "
        "was made by one command from the weights in the package and simulated people that the model never saw.",
        "Dark is more activity. What is compared has the same window; every colour bar names its unit.",
    ]
    write_page(page, "allpet: generate, split, restore", lead, demo.sections, facts)
    return page


def generation(demo: Demo) -> None:
    """Generated sinograms, their reconstructions, and their consistency beside simulated people."""
    figures, rows = [], []
    for region in REGIONS:
        prompt = f"18F-FDG {region}"
        scan = demo.model.generate(prompt, n=PEOPLE, seed=demo.seed)
        beam = scan.geometry
        projector = Projector(beam, beam.image_grid())
        images = fbp(scan.sinogram, projector, window="hann").clamp_min(0)
        shown = slice(0, 3)
        unit = scan.unit.removesuffix("*mm") if scan.unit != COUNTS else UNCALIBRATED
        top = [sinogram_panel(s, beam, f"sinogram {k}", scan.unit) for k, s in enumerate(scan.sinogram[shown])]
        low = [image_panel(x, projector.grid, f"FBP of {k}", unit) for k, x in enumerate(images[shown])]
        figures.append((draw([top, low]), f'Prompt "{prompt}", seed {demo.seed}: sinograms and their FBP (Hann).'))
        real = torch.from_numpy(simulate(PEOPLE, region=region, split="test", slices_per_subject=1).sinogram)
        scores = {"generated": _consistency(scan.sinogram, beam), "simulated people": _consistency(real, beam)}
        scores["noise"] = _consistency(_noise(real.shape, demo.seed), beam)
        demo.numbers[f"generated {region}"] = scores
        rows += [
            [f"{region}, {name}", f"{value['seam']:.2f}", f"{value['moments']:.1e}"] for name, value in scores.items()
        ]
    table = Table(
        f"Medians of {PEOPLE}. Mirror seam: step from the last view to the mirrored first over the usual step. "
        "Moments: mean share of the energy of the moments n = 0..4 beyond frequency n (Helgason-Ludwig; 0 for a "
        "sinogram).",
        ["", "mirror seam", "moment residual"],
        rows,
    )
    text = ["A prompt goes in, sinograms come out; the images are ordinary reconstructions of these sinograms."]
    demo.sections.append(Section("Generated sinograms", text, figures, [table]))


def masks(demo: Demo) -> None:
    """Random Radon masks and the parts that sum to the whole."""
    data = simulate(1, region="chest", split="test", seed=demo.seed, slices_per_subject=1)
    s = torch.from_numpy(data.sinogram[0])
    grid = ImageGrid(data.grid.size, data.grid.pixel_mm)
    projector = Projector(data.beam, grid)
    drawn = draw_masks(range(3), grid.size, demo.seed)
    rows, error = [], 0.0
    window = window_of(s)
    for k, m in enumerate(drawn):
        weights = project_mask(m, projector)
        positive, negative = split(s, weights)
        error = max(error, float((positive + negative - s).abs().max()))
        parts = ((s, "whole s"), (positive, "positive M·s"), (negative, "negative (1−M)·s"))
        rows.append(
            [
                image_panel(m, grid, f"mask {k}", "weight", (0, 1), WEIGHT_MAP),
                sinogram_panel(weights, data.beam, "M = A m / max", "weight", (0, 1), WEIGHT_MAP),
                *[sinogram_panel(part, data.beam, title, data.unit, window) for part, title in parts],
            ]
        )
    demo.numbers["mask split"] = {"largest_error": error}
    text = [
        "The pretext task: random shapes in the image, projected, split a sinogram into two parts. "
        f"Largest difference between the sum of the parts and the whole: {error:g} (exact to the bit).",
    ]
    figure = draw(rows, 2.3)
    demo.sections.append(Section("Masks and splits", text, [(figure, "Three random masks on a simulated chest.")]))


def low_dose(demo: Demo) -> None:
    """A scan at 1/20 of the dose before and after, with truth, difference and standard deviation."""
    figures, rows = [], []
    for region in REGIONS:
        width = gaussian_width(region, demo.seed)
        data = _counts(region, "test", demo.seed)
        result = demo.model.apply("low-dose", data.scan(), dose_fraction=DOSE_FRACTION, seed=demo.seed)
        scaled = torch.from_numpy(data.observed) / DOSE_FRACTION
        truth = torch.from_numpy(data.sinogram)
        estimates = {
            "input × 20": scaled,
            f"Gaussian, σ = {width:g} bins": gaussian_estimate(scaled, torch.from_numpy(data.background), width),
            "allpet": result.expected.sinogram,
        }
        true_images = images_of(truth, data)
        images = {name: images_of(s, data) for name, s in estimates.items()}
        scores: dict[str, dict[str, float]] = {}
        for name, s in estimates.items():
            scores[name] = {
                "psnr_sinogram": float(psnr(s, truth).mean()),
                "ssim_sinogram": float(ssim(s, truth).mean()),
                "psnr_image": float(psnr(images[name], true_images).mean()),
                "ssim_image": float(ssim(images[name], true_images).mean()),
            }
            cells = (f"{v:.2f}" if k.startswith("psnr") else f"{v:.3f}" for k, v in scores[name].items())
            rows.append([f"{region}, {name}", *cells])
        demo.numbers[f"low dose {region}"] = scores
        std = None if result.std is None else result.std.sinogram
        panels = _low_dose_panels(data, truth, estimates, std, true_images, images)
        figures.append((draw(panels, 2.3), _low_dose_caption(region)))
    table = Table(
        f"Means over {PEOPLE} unseen people, dose fraction 1/20 of 500,000 counts a slice; data range: each truth's "
        "maximum. Gaussian: of the counts less the background, with the width of the least error on validation people.",
        ["", "PSNR sinogram (dB)", "SSIM sinogram", "PSNR image (dB)", "SSIM image"],
        rows,
    )
    text = [
        "Counts of a twentieth of the dose go in; the expected counts at full dose come out, on the scan's own grid, "
        "with a standard deviation over several samples. Images: OSEM, 4 iterations of 8 subsets, with attenuation "
        "and background; their truth is the same reconstruction of the noise-free full-dose data.",
        "Look at the difference: what it shows of the object is what the model has lost or invented.",
    ]
    demo.sections.append(Section("Low dose, before and after", text, figures, [table]))


def _low_dose_caption(region: str) -> str:
    return (
        f"{region}: truth, input at 1/20 scaled to full dose, Gaussian, restored, restored minus truth, and the "
        "standard deviation; the sinograms above, their reconstructions below."
    )


def _low_dose_panels(
    data: Dataset,
    truth: torch.Tensor,
    estimates: dict[str, torch.Tensor],
    std: torch.Tensor | None,
    true_images: torch.Tensor,
    images: dict[str, torch.Tensor],
) -> list[list[Panel]]:
    """Two rows for the first person: sinograms, then images."""
    window, image_window = window_of(truth[0]), window_of(true_images[0])
    error, image_error = estimates["allpet"][0] - truth[0], images["allpet"][0] - true_images[0]
    above = [sinogram_panel(truth[0], data.beam, "truth", COUNTS, window)]
    below = [image_panel(true_images[0], data.grid, "truth, OSEM", "kBq/mL", image_window)]
    for name, s in estimates.items():
        above.append(sinogram_panel(s[0], data.beam, name, COUNTS, window))
        below.append(image_panel(images[name][0], data.grid, name, "kBq/mL", image_window))
    above.append(sinogram_panel(error, data.beam, "allpet − truth", COUNTS, difference_window(error), DIFFERENCE_MAP))
    below.append(
        image_panel(image_error, data.grid, "allpet − truth", "kBq/mL", difference_window(image_error), DIFFERENCE_MAP)
    )
    if std is not None:
        above.append(sinogram_panel(std[0], data.beam, "standard deviation", COUNTS, colours=SPREAD_MAP))
    return [above, below]


def attention(demo: Demo) -> None:
    """A marked lesion, its weights in the sinogram, and what a second look makes of it."""
    from allpet.report.attention_demo import attention_section

    section, demo.numbers["attention"] = attention_section(demo.model, demo.seed)
    demo.sections.append(section)


def tasks(demo: Demo) -> None:
    """The other tasks: a picture of each, and scores beside what a user would otherwise do."""
    from allpet.report.tasks_figures import case_figure
    from allpet.report.tasks_table import evaluate_tasks
    from allpet.study.cases import CASES, Case

    chosen: dict[str, Case] = {}
    for case in CASES:
        if case.task != "low-dose":
            chosen.setdefault(case.task, case)
    table = evaluate_tasks(demo.model, PEOPLE, (demo.seed,), list(chosen.values()))
    demo.numbers["tasks"] = table
    figures = [(case_figure(demo.model, case, seed=demo.seed), f"{case.name}.") for case in chosen.values()]
    rows = [
        [
            f"{row['case']}, {row['method']}",
            f"{row['psnr_sinogram']:.2f}",
            f"{row['psnr_image']:.2f}",
            f"{100 * row['organ_error']:.0f}",
            f"{100 * row['coverage']:.0f}" if "coverage" in row else "",
        ]
        for row in table
    ]
    caption = (
        f"Means over {PEOPLE} unseen people, 500,000 counts a slice. Organ ratios and shares are told the organs' true "
        "outlines. 90 % intervals: share of the body's pixels that they cover."
    )
    heads = ["", "PSNR sinogram (dB)", "PSNR image (dB)", "organ error (%)", "90 % covers (%)"]
    text = [
        "Attenuation without a CT, a later frame, another tracer, two tracers at once: each starts from the counts. "
        "The pictures show how far off the result is, and how far off it says it may be.",
        "A later frame and another tracer are predictions, not measurements.",
    ]
    demo.sections.append(Section("Four more tasks", text, figures, [Table(caption, heads, rows)]))


def cost(demo: Demo) -> Section:
    """Seconds a part and peak memory."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)
    demo.numbers["peak_memory_gib"] = peak
    rows = [[name, f"{value:.1f} s"] for name, value in demo.seconds.items()]
    rows.append(["peak memory", f"{peak:.2f} GiB"])
    caption = f"{torch.get_num_threads()} CPU threads, float32, loading and drawing included."
    return Section("Cost", (), (), [Table(caption, ["", ""], rows)])


def _counts(region: str, split_name: str, seed: int) -> Dataset:
    return simulate(
        PEOPLE,
        region=region,
        task="low-dose",
        dose_fraction=DOSE_FRACTION,
        seed=seed,
        split=split_name,
        slices_per_subject=1,
    )


def images_of(counts: torch.Tensor, data: Dataset) -> torch.Tensor:
    """OSEM of full-dose counts with the people's attenuation and background, in kBq/mL."""
    scan = Scan(
        counts.clamp_min(0),
        data.beam,
        attenuation=torch.from_numpy(data.attenuation),
        background=torch.from_numpy(data.background),
        counts_per_unit=torch.from_numpy(data.counts_per_unit),
    )
    return reconstruct(scan, "osem", iterations=4).array


def gaussian_width(region: str, seed: int) -> float:
    """The width in bins with the least squared error on validation people."""
    data = _counts(region, "validation", seed)
    truth, scaled = torch.from_numpy(data.sinogram), torch.from_numpy(data.observed) / DOSE_FRACTION
    background = torch.from_numpy(data.background)

    def error(width: float) -> float:
        return float((gaussian_estimate(scaled, background, width) - truth).square().mean())

    return min(GAUSSIAN_BINS, key=error)


def _consistency(s: torch.Tensor, beam: ParallelBeam) -> dict[str, float]:
    return {"seam": float(mirror_seam(s).median()), "moments": float(moment_residual(s, beam).median())}


def _noise(shape: torch.Size, seed: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).random(tuple(shape), dtype=np.float32))


def _progress(steps: dict[str, Callable[[Demo], None]]) -> Any:
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return track(list(steps.items()), "demo", console=console, disable=not console.is_terminal)


def _write_numbers(path: Path, numbers: dict[str, Any]) -> None:
    from allpet.io.files import replacing

    with replacing(path) as (part,):
        part.write_text(json.dumps(numbers, indent=1), encoding="utf-8")
