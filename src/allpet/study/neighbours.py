"""Does restoring planes together pay? Low dose on nine planes of real patients and of simulated people.

Patients: planes about the tumour. Every method gets the same counts; the Gaussian smooths in the plane and across
planes, with the two widths that are best on these very patients. Judged are the middle planes; of the patients,
:data:`SEEN` were looked at while the method was made. People: test subjects, planes 3 mm apart, told tracer and region.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import torch

from allpet.metrics import psnr, ssim
from allpet.model import AllPET
from allpet.model.restorer import gaussian_blur
from allpet.report.low_dose_table import (
    FRACTIONS,
    Truth,
    gaussian_full,
    image_of,
    mean_and_error,
    patient_slices,
)
from allpet.scan.acquire import FWHM_MM
from allpet.scan.core import Scan
from allpet.scan.simulate import simulate
from allpet.scan.units import sigma_of
from allpet.study.heldout import across
from allpet.task.neighbours import half_of, together
from allpet.task.rivals import truth
from allpet.uncertainty import NORMAL, body_of

OFFSETS = tuple(range(-4, 5))
MIDDLE = slice(3, 6)
"""Planes from the tumour's largest one, and those of them that are judged."""
WIDTHS, DEPTHS = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0), (0.0, 0.5, 0.75, 1.0, 1.5)
"""Of the Gaussian: in bins, and in planes."""
APART, TOGETHER = "allpet, planes one by one", "allpet"
PLAIN, ADAPTED = "U-Net from scratch, planes together", "allpet adapted"
SEEN = 2
"""Every second patient, from the first one."""
PEOPLE = (("FDG", "brain"), ("FDG", "chest"), ("FDG", "abdomen"), ("PSMA", "pelvis"))
PLANE_MM, FULL = 3.0, 500_000.0
COVERED = "90 % covers (%)"
SHOWN = {
    "psnr_sinogram": ("PSNR sinogram (dB)", ".2f"),
    "psnr_image": ("PSNR image (dB)", ".2f"),
    "ssim_image": ("SSIM image", ".3f"),
    "rough": ("roughness across planes", ".2f"),
    "bias": ("tumour bias (%)", "+.1f"),
}


def stack(planes: Sequence[Truth], fraction: float, seed: int) -> Scan:
    """Neighbouring planes of one patient as one scan, with noise of its own."""
    scans = [truth.scan(fraction, seed + k) for k, truth in enumerate(planes)]
    counts, background, factors = (
        torch.cat([getattr(scan, name) for scan in scans]) for name in ("sinogram", "background", "attenuation")
    )
    return replace(scans[0], sinogram=counts, background=background, attenuation=factors, neighbours=True)


def images(expected: torch.Tensor, planes: Sequence[Truth]) -> torch.Tensor:
    """OSEM of all planes' full-dose counts, ``(n, rows, columns)``."""
    return torch.cat([image_of(expected[k : k + 1], truth) for k, truth in enumerate(planes)])


def judged(estimate: torch.Tensor, planes: Sequence[Truth], true: torch.Tensor) -> dict[str, float]:
    """Scores of the middle planes; roughness: second differences across planes inside of the body, over the truth's.

    `true`: :func:`images` of the planes' truths.
    """
    mine, right = images(estimate, planes), torch.cat([truth.expected for truth in planes])
    pairs = {"sinogram": (estimate[MIDDLE], right[MIDDLE]), "image": (mine[MIDDLE], true[MIDDLE])}
    out = {f"psnr_{name}": float(psnr(*pair).mean()) for name, pair in pairs.items()}
    out["ssim_image"] = float(ssim(*pairs["image"]).mean())
    body = (true > 0.1 * true.flatten(1).quantile(0.99, dim=1)[:, None, None])[1:-1]
    out["rough"] = float(_bent(mine)[body].square().mean().sqrt() / _bent(true)[body].square().mean().sqrt())
    middle = len(planes) // 2
    there = planes[middle].tumour
    assert there is not None
    out["bias"] = 100 * float(mine[middle][there[0]].mean() / true[middle][there[0]].mean() - 1)
    return out


def _bent(planes: torch.Tensor) -> torch.Tensor:
    return planes[:-2] - 2 * planes[1:-1] + planes[2:]


def widths(patients: Sequence[Sequence[Truth]], fraction: float, seed: int) -> tuple[float, float]:
    """The Gaussian's width in bins and depth in planes with the best mean PSNR of these patients' sinograms."""
    best: dict[tuple[float, float], float] = {}
    for planes in patients:
        scan, true = stack(planes, fraction, seed), torch.cat([truth.expected for truth in planes])
        for width in WIDTHS:
            smooth = gaussian_full(scan, width)
            for depth in DEPTHS:
                off = psnr(across(smooth, depth)[MIDDLE], true[MIDDLE])
                best[width, depth] = best.get((width, depth), 0.0) + float(off.mean())
    return max(best, key=lambda pair: best[pair])


def simulated(
    model: AllPET, people: int, seed: int = 0, fractions: Sequence[float] = FRACTIONS
) -> list[dict[str, Any]]:
    """A row for each simulated person, dose and method: the middle planes' PSNR, and how often intervals cover."""
    out: list[dict[str, Any]] = []
    n, (views, bins) = len(OFFSETS), model.beam.shape
    known = dict(task="low-dose", split="test", slices_per_subject=n, slice_mm=PLANE_MM, views=views, bins=bins)
    for (tracer, region), fraction in product(PEOPLE, fractions):
        said = dict(tracer=tracer, region=region, seed=seed, dose_fraction=fraction, counts=(FULL, FULL))
        data = simulate(n * people, **known, **said)  # type: ignore[arg-type]
        right = truth(data)[:, 0]
        for k in range(people):
            some = list(range(n * k, n * (k + 1)))
            scan, true = replace(data.scan(some), plane_mm=PLANE_MM), right[some]
            for name, beside in ((APART, False), (TOGETHER, True)):
                result = model.apply("low-dose", replace(scan, neighbours=beside), samples=0, images=True)
                mean = result.expected.sinogram - (0.0 if (b := result.expected.background) is None else b)
                row = dict(group=f"{tracer} {region}", subject=int(data["subject"][some[0]]), fraction=fraction)
                row |= dict(method=name, psnr_sinogram=float(psnr(mean[MIDDLE], true[MIDDLE]).mean()))
                out.append(row | {"covered": _covered(result, torch.from_numpy(data["image"][some]), data.beam.bin_mm)})
    return out


def as_seen(activity: torch.Tensor, pixel_mm: float) -> torch.Tensor:
    """Activity ``(n, rows, columns)`` at the simulated scanner's resolution."""
    return gaussian_blur(activity.float(), sigma_of(FWHM_MM) / pixel_mm)


def _covered(result: Any, activity: torch.Tensor, pixel_mm: float) -> float:
    """Share of the body's pixels in 90 % intervals, in percent; every plane's truth in the unit of its estimate."""
    mean, spread = (result.extras[name].array[MIDDLE] for name in ("-image", "-image-std"))
    true = as_seen(activity[MIDDLE], pixel_mm)
    scale = mean.sum(dim=(-2, -1), keepdim=True) / true.sum(dim=(-2, -1), keepdim=True)
    body = body_of(true, torch.zeros(len(true), dtype=torch.bool))
    return 100 * float(((mean - scale * true).abs() <= NORMAL * spread)[body].float().mean())


def judge(
    model: AllPET,
    folder: Path,
    people: int = 8,
    seed: int = 0,
    fractions: Sequence[float] = FRACTIONS,
    fitted: Path | None = None,
    minutes: float = 2.5,
) -> list[dict[str, Any]]:
    """A row for each patient or person, dose and method.

    Parameters
    ----------
    folder : of the patients. people : simulated ones of each kind. fitted : folder that ``study patients --out`` wrote;
    then its U-Nets are judged, and the model adapted in the same folds on nine planes of the other patients, too.
    minutes : processor time of each adaptation.
    """
    return patients(model, folder, seed, fractions, fitted, minutes) + simulated(model, people, seed, fractions)


def fits(
    model: AllPET, everyone: Sequence[Sequence[Truth]], fitted: Path, minutes: float, seed: int
) -> list[dict[str, Callable[[Scan], torch.Tensor]]]:
    """Of every fold, what was learnt from the other patients: the adapted model, and the U-Net with neighbours."""
    from allpet.study.patients import FOLDS, adapted, plainly_restored
    from allpet.study.plain import load_plain

    def both(own: AllPET, network: Any) -> dict[str, Callable[[Scan], torch.Tensor]]:
        def smooth(scan: Scan) -> torch.Tensor:
            assert scan.background is not None and scan.dose_fraction is not None
            seen = half_of(scan.sinogram, 0)
            half = replace(scan, sinogram=seen, background=scan.background / 2, dose_fraction=scan.dose_fraction / 2)
            return together(*(plainly_restored(network, model, one) for one in (scan, half)))

        return {PLAIN: smooth, ADAPTED: lambda scan: model_estimate(own, scan)}

    out = []
    for fold in range(FOLDS):
        known = [planes for k, planes in enumerate(everyone) if k % FOLDS != fold]
        scans = [stack(planes, 1.0, seed) for planes in known]
        own = adapted(model, scans, fitted / f"neighbours-{fold}", minutes, seed)
        out.append(both(own, load_plain(fitted / f"plain-{fold}")))
    return out


def model_estimate(model: AllPET, scan: Scan) -> torch.Tensor:
    """Expected counts at full dose, as ``allpet apply low-dose`` gives them."""
    return model.apply("low-dose", scan, samples=0).expected.sinogram


def patients(
    model: AllPET,
    folder: Path,
    seed: int = 0,
    fractions: Sequence[float] = FRACTIONS,
    fitted: Path | None = None,
    minutes: float = 2.5,
) -> list[dict[str, Any]]:
    """A row for each patient, dose and method."""
    slices = [patient_slices(folder, offset, relative=True) for offset in OFFSETS]
    everyone = list(zip(*slices, strict=True))
    learnt = [] if fitted is None else fits(model, everyone, fitted, minutes, seed)
    rows: list[dict[str, Any]] = []
    for fraction in fractions:
        width, depth = widths(everyone, fraction, seed)
        for number, planes in enumerate(everyone):
            scan, true = stack(planes, fraction, seed), images(torch.cat([t.expected for t in planes]), planes)
            found = {"Gaussian": across(gaussian_full(scan, width), depth)}
            for name, one in ((APART, replace(scan, neighbours=False)), (TOGETHER, scan)):
                found[name] = model_estimate(model, one)
            found |= {name: method(scan) for name, method in learnt[number % len(learnt)].items()} if learnt else {}
            for name, estimate in found.items():
                row = dict(
                    group="STS", subject=planes[0].subject, fraction=fraction, method=name, seen=number % SEEN == 0
                )
                rows.append(row | judged(estimate, planes, true))
                if name == "Gaussian":
                    rows[-1] |= dict(width_bins=width, depth_planes=depth)
    return rows


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """Two Markdown tables, of patients with what is gained patient by patient, and of simulated people."""
    return of_patients([row for row in rows if row["group"] == "STS"]) + "\n\n" + of_people(rows)


def of_people(rows: Sequence[dict[str, Any]]) -> str:
    """Mean and standard error over simulated people."""
    heads = ("people", "dose", APART, TOGETHER, "together less one by one", f"{COVERED}: one by one", "together", "n")
    lines = ["PSNR of sinograms in dB.", "", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for group, fraction in dict.fromkeys((row["group"], row["fraction"]) for row in rows if row["group"] != "STS"):
        here = [row for row in rows if (row["group"], row["fraction"]) == (group, fraction)]
        apart, beside = ([row for row in here if row["method"] == name] for name in (APART, TOGETHER))
        more = [{"gain": b["psnr_sinogram"] - a["psnr_sinogram"]} for a, b in zip(apart, beside, strict=True)]
        means = [
            mean_and_error([{key: row[key] for key in ("psnr_sinogram", "covered")} for row in some])
            for some in (apart, beside)
        ]
        gain = mean_and_error(more)
        cells = [f"{mean['psnr_sinogram']:.1f} ± {mean['psnr_sinogram_se']:.1f}" for mean in means]
        cells += [f"{gain['gain']:+.2f} ± {gain['gain_se']:.2f}", *(f"{mean['covered']:.1f}" for mean in means)]
        lines.append(f"| {group} | 1/{round(1 / fraction)} | {' | '.join(cells)} | {len(more)} |")
    return "\n".join(lines)


def of_patients(rows: Sequence[dict[str, Any]]) -> str:
    """Mean and standard error over patients as a Markdown table, and what is gained patient by patient."""
    titles = ["dose", "method", *(title for title, _ in SHOWN.values()), "n"]
    lines, gains = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"], []
    for fraction in dict.fromkeys(row["fraction"] for row in rows):
        dose = f"1/{round(1 / fraction)}"
        here = [row for row in rows if row["fraction"] == fraction]
        for name in dict.fromkeys(row["method"] for row in here):
            each = [{key: row[key] for key in SHOWN} for row in here if row["method"] == name]
            mean = mean_and_error(each)
            cells = [f"{mean[key]:{form}} ± {mean[key + '_se']:{form.strip('+')}}" for key, (_, form) in SHOWN.items()]
            lines.append(f"| {dose} | {name} | {' | '.join(cells)} | {len(each)} |")
        both = [[row for row in here if row["method"] == name] for name in (TOGETHER, APART)]
        more = [{key: a[key] - b[key] for key in ("psnr_sinogram", "psnr_image")} for a, b in zip(*both, strict=True)]
        new = [gain for gain, row in zip(more, both[0], strict=True) if not row["seen"]]
        for who, some in (("all", more), ("those not looked at before", new)):
            mean = mean_and_error(some)
            cells = [f"{mean[key]:+.2f} ± {mean[key + '_se']:.2f} dB" for key in ("psnr_sinogram", "psnr_image")]
            least = min(gain["psnr_sinogram"] for gain in some)
            gains.append(f"- {dose}, {who} ({len(some)}): sinogram {cells[0]} (least {least:+.2f}), image {cells[1]}")
    return "\n".join([*lines, "", "Together less one by one, patient by patient:", "", *gains])
