"""How well ``low-dose`` restores people the model never saw, beside what a user would otherwise do.

Simulated test subjects (with attenuation, randoms and scatter; projected three times finer than
the model's grid), and real slices of the STS patients projected and counted. Every method
gets the same counts; images are OSEM (4 iterations, 8 subsets) of each estimate with the same
factors, compared with the same reconstruction of the noise-free full-dose data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from allpet.errors import AllpetError
from allpet.geometry import ImageGrid, ParallelBeam
from allpet.metrics import psnr, ssim
from allpet.project import Projector
from allpet.recon import osem
from allpet.scan.acquire import OVERSAMPLING, draw_counts, ideal_projection
from allpet.scan.core import Scan
from allpet.task.baselines import LinearMMSE, gaussian_estimate

if TYPE_CHECKING:
    from allpet.model import AllPET

FRACTIONS = (1 / 4, 1 / 20, 1 / 100)
WIDTHS = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0, 5.0)
FULL_COUNTS = 5e5
REGIONS = ("brain", "chest", "abdomen")
"""Regions of the tables; those that the shipped restorer was trained on."""
SCORES = ("psnr_sinogram", "ssim_sinogram", "psnr_image", "ssim_image")
Method = Callable[[Scan], torch.Tensor]


@dataclass(frozen=True)
class Truth:
    """One full-dose slice: expected counts, background and factors ``(1, view, radial)``, and whose it is.

    ``tumour``: where it is on the beam's image grid, bool ``(1, bins, bins)``; None where nobody marked one.
    """

    group: str
    subject: str
    beam: ParallelBeam
    expected: torch.Tensor
    background: torch.Tensor
    efficiency: torch.Tensor
    tracer: str | None = None
    region: str | None = None
    tumour: torch.Tensor | None = None

    def scan(self, fraction: float, seed: int) -> Scan:
        """A noisy scan at a share of the dose."""
        rng = np.random.default_rng([seed, *self.group.encode(), *self.subject.encode()])
        counts = torch.from_numpy(draw_counts(self.expected.numpy(), fraction, rng))
        known = Scan(counts, self.beam, attenuation=self.efficiency, background=self.background * fraction)
        return replace(known, dose_fraction=fraction, tracer=self.tracer, region=self.region)


def simulated_people(people: int, split: str, seed: int = 0, regions: Sequence[str] = REGIONS) -> list[Truth]:
    """One slice each of `people` simulated subjects of each region."""
    from allpet.scan.simulate import simulate

    out = []
    for region in regions:
        data = simulate(people, region=region, task="low-dose", split=split, seed=seed, slices_per_subject=1)
        for k in range(people):
            expected, background, efficiency = (
                torch.from_numpy(data[name][k : k + 1]) for name in ("sinogram", "background", "attenuation")
            )
            subject = str(int(data["subject"][k]))
            out.append(Truth(region, subject, data.beam, expected, background, efficiency, "FDG", region))
    return out


def patient_slices(folder: Path, offset: int = 0, relative: bool = False) -> list[Truth]:
    """A slice through the tumour of each STS patient, projected to 500,000 counts (no attenuation, no background).

    Parameters
    ----------
    folder : holds ``STS_*/PET_image.nii.gz`` and ``PET_mask.nii.gz``. offset : slices away from the
        tumour's largest one (another slice of the same patient for tuning). relative : as many counts as the slice has
        beside 500,000 of the tumour's largest one, as in one scan.
    """
    import nibabel as nib

    paths = sorted(folder.glob("STS_*/PET_image.nii.gz"))
    if not paths:
        raise AllpetError(f"{folder}: holds no STS_*/PET_image.nii.gz; give the folder of the patients")
    out = []
    for path in paths:
        image: Any = nib.load(path)
        volume = np.asarray(image.dataobj, np.float32)
        mask = np.asarray(nib.load(path.with_name("PET_mask.nii.gz")).dataobj) > 0  # type: ignore[attr-defined]
        middle = int(mask.sum(axis=(0, 1)).argmax())
        here = int(np.clip(middle + offset, 0, volume.shape[2] - 1))
        plane = volume[:, :, here].clip(0)
        pixel = [float(v) for v in image.header.get_zooms()[:2]]
        wide = float(np.hypot(plane.shape[0] * pixel[0], plane.shape[1] * pixel[1]))
        beam = ParallelBeam(128, 128, wide / 120)
        fine = _resampled(plane, pixel, beam.image_grid(beam.bins * OVERSAMPLING))
        ideal = torch.from_numpy(ideal_projection(fine[None], beam, fwhm_mm=1e-3))
        share = float(plane.sum() / volume[:, :, middle].clip(0).sum()) if relative else 1.0
        expected = ideal * (share * FULL_COUNTS / ideal.sum())
        zero, one = torch.zeros_like(expected), torch.ones_like(expected)
        marked = _resampled(mask[:, :, here].astype(np.float32), pixel, beam.image_grid())
        tumour = torch.from_numpy(marked > 0.5)[None]
        out.append(Truth("STS", path.parent.name, beam, expected, zero, one, tumour=tumour))
    return out


def _resampled(plane: np.ndarray, pixel: Sequence[float], grid: ImageGrid) -> np.ndarray:
    """A plane ``(x, y)`` of pixels (mm) on a grid about the same centre, ``(rows, columns)``."""
    from scipy.ndimage import map_coordinates

    rows, columns = np.meshgrid(-grid.y / pixel[1], grid.x / pixel[0], indexing="ij")
    where = [columns + (plane.shape[0] - 1) / 2, rows + (plane.shape[1] - 1) / 2]
    fine: np.ndarray = map_coordinates(plane, where, order=1, mode="constant").astype(np.float32)
    return fine


def image_of(expected: torch.Tensor, truth: Truth) -> torch.Tensor:
    """OSEM of full-dose counts ``(1, n, n)``."""
    projector = Projector(truth.beam, truth.beam.image_grid())
    return osem(expected.clamp_min(0), projector, 4, 8, truth.efficiency, truth.background)


def score(estimate: torch.Tensor, truth: Truth) -> dict[str, float]:
    """PSNR (dB) and SSIM in sinogram and image; data range: each truth's maximum."""
    mine, true = image_of(estimate, truth), image_of(truth.expected, truth)
    values = (psnr(estimate, truth.expected), ssim(estimate, truth.expected), psnr(mine, true), ssim(mine, true))
    return {name: float(value) for name, value in zip(SCORES, values, strict=True)}


def tuned_width(truths: list[Truth], fraction: float) -> float:
    """Width in bins of the Gaussian with the best mean PSNR of sinograms."""

    def quality(width: float) -> float:
        found = [score_width(t.scan(fraction, 90), t, width) for t in truths]
        return float(np.mean(found))

    return max(WIDTHS, key=quality)


def score_width(scan: Scan, truth: Truth, width: float) -> float:
    """PSNR of the sinogram smoothed by a Gaussian."""
    return float(psnr(gaussian_full(scan, width), truth.expected))


def gaussian_full(scan: Scan, width: float) -> torch.Tensor:
    """Gaussian estimate of the expected counts at full dose."""
    assert scan.background is not None and scan.dose_fraction is not None
    return gaussian_estimate(scan.sinogram, scan.background, width) / scan.dose_fraction


@lru_cache(maxsize=1)
def linear_prior(seed: int = 0, regions: tuple[str, ...] = REGIONS) -> LinearMMSE:
    """The linear MMSE estimate of a prior of 4,000 augmented training sinograms, 600 components."""
    from allpet.scan.simulate import simulate
    from allpet.train.samples import TrainingSet, vary

    sets = [TrainingSet.from_dataset(simulate(167, region=r, seed=seed), k) for k, r in enumerate(regions)]
    data = TrainingSet.join(sets)
    rng = torch.Generator().manual_seed(seed)
    return LinearMMSE(torch.cat([vary(data, 100, rng)[1] for _ in range(40)]))


def methods(model: AllPET, linear: LinearMMSE | None, width: float) -> dict[str, Method]:
    """The estimators of expected full-dose counts, by name."""

    def linear_mmse(scan: Scan) -> torch.Tensor:
        assert linear is not None and scan.background is not None and scan.dose_fraction is not None
        emission = linear.estimate(scan.sinogram, scan.efficiency, scan.background)
        return (scan.efficiency * emission + scan.background) / scan.dose_fraction

    table: dict[str, Method] = {
        "input": lambda scan: scan.sinogram / (scan.dose_fraction or 1.0),
        "Gaussian": lambda scan: gaussian_full(scan, width),
        "linear MMSE": linear_mmse,
        "allpet": lambda scan: model.apply("low-dose", scan, samples=0).expected.sinogram,
    }
    if linear is None:
        del table["linear MMSE"]
    return table


def evaluate_low_dose(
    model: AllPET,
    people: int = 10,
    seeds: int = 1,
    patients: Path | None = None,
    fractions: tuple[float, ...] = FRACTIONS,
    linear: bool = True,
    regions: Sequence[str] = REGIONS,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """One row for each group, fraction and method: mean and standard error over subjects of every score.

    Parameters
    ----------
    people : test subjects of each region. seeds : noise realisations of each. patients : folder of the
        STS patients, or None. linear : include the linear MMSE estimate (half a minute to set up).
    regions : of the simulated people. seed : of the people and of the first noise realisation.
    """
    prior = linear_prior(regions=tuple(regions)) if linear else None
    tuning_people = simulated_people(max(people // 2, 2), "validation", seed, regions)
    sets = [(simulated_people(people, "test", seed, regions), tuning_people)]
    if patients is not None:
        sets.append((patient_slices(patients), patient_slices(patients, offset=4)))
    rows = []
    for tests, tuning in sets:
        for fraction in fractions:
            width = tuned_width(tuning, fraction)
            for name, method in methods(model, prior, width).items():
                per_subject: dict[str, list[dict[str, float]]] = {}
                for truth in tests:
                    found = [score(method(truth.scan(fraction, seed + k)), truth) for k in range(seeds)]
                    mean = {key: float(np.mean([f[key] for f in found])) for key in SCORES}
                    per_subject.setdefault(truth.group, []).append(mean)
                for group, values in per_subject.items():
                    rows.append(_row(group, fraction, name, values, width))
    return rows


def _row(group: str, fraction: float, name: str, values: list[dict[str, float]], width: float) -> dict[str, Any]:
    row: dict[str, Any] = dict(group=group, fraction=fraction, method=name, subjects=len(values))
    if name == "Gaussian":
        row["width_bins"] = width
    return row | mean_and_error(values)


def mean_and_error(values: Sequence[dict[str, float]]) -> dict[str, float]:
    """Mean of every score over subjects, and its standard error under ``NAME_se``."""
    out = {}
    for key in values[0]:
        column = np.array([v[key] for v in values])
        out[key] = float(column.mean())
        out[key + "_se"] = float(column.std(ddof=1) / np.sqrt(len(column))) if len(column) > 1 else 0.0
    return out


def markdown(rows: list[dict[str, Any]]) -> str:
    """The rows as a Markdown table: mean and standard error."""
    lines = [
        "| group | dose | method | PSNR sinogram (dB) | SSIM sinogram | PSNR image (dB) | SSIM image | n |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [f"{row[k]:.2f} ± {row[k + '_se']:.2f}" if "psnr" in k else f"{row[k]:.3f}" for k in SCORES]
        dose = f"1/{round(1 / row['fraction'])}"
        lines.append(f"| {row['group']} | {dose} | {row['method']} | {' | '.join(cells)} | {row['subjects']} |")
    return "\n".join(lines)
