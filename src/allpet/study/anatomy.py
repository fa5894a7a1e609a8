"""Attenuation correction on anatomy that the model never saw: CT of one chest and one abdomen, table included.

Attenuation is that of the CT. Its activity is chosen: FDG uptake by HU, lung, fat and bone (as marrow) as in the
tracer's tables, all other soft tissue between muscle and liver (HU do not tell them apart), gas and table none, each
varied smoothly by a fifth. Slices of one volume are not independent: errors over them say nothing of other people.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from allpet.errors import AllpetError
from allpet.geometry import ParallelBeam
from allpet.io import read
from allpet.metrics import psnr
from allpet.metrics.organ import organ_recovery
from allpet.model import AllPET
from allpet.project import Projector
from allpet.recon.mumap import resample_mumap
from allpet.report.low_dose_table import mean_and_error
from allpet.report.tasks_table import LEAST_PIXELS, images_of
from allpet.scan import acquire
from allpet.scan.core import Image
from allpet.scan.dataset import Dataset
from allpet.scan.mumap import hu_to_mu
from allpet.scan.phantom import LABELS, Canvas, Waves
from allpet.scan.simulate import FIELD_OF_VIEW_MM
from allpet.scan.tracers import TRACERS, typical_uptake
from allpet.scan.units import COUNTS, MU
from allpet.task.rivals import gaussian, truth, uniform_mumap

PROMPTS, SCATTER, RANDOMS, VARIATION = 500_000.0, 0.2, 0.125, 0.2
"""Of a slice; scatter of what is no randoms, randoms of all: together 30 %; root mean square of the variation."""
BODY_HU, BONE_HU, FAT_HU = -300.0, 180.0, -30.0
"""Above the first there is body, not table or air; above the second bone; below the third no soft tissue or bone."""
KINDS = {"lung": -920.0, "fat": -400.0, "muscle": FAT_HU}
"""Lowest HU of lung (below: gas), fat and soft tissue."""
SHOWN = {"lung": "lung", "muscle": "soft", "marrow": "bone"}
HEADS = {"psnr_sinogram": ("PSNR sinogram (dB)", 2), "psnr_image": ("PSNR image (dB)", 2)}
HEADS |= {name: (f"{name} error (%)", 1) for name in SHOWN.values()}
HEADS |= {"mu_error": ("mu error (1/mm)", 5), "mu_percent": ("mu error (%)", 1)}
Estimate = tuple[torch.Tensor, torch.Tensor]


def tissues(hu: np.ndarray) -> np.ndarray:
    """Numbers of `LABELS` for a CT ``(n, row, column)`` in HU: of its largest piece, neither table nor gas."""
    from scipy import ndimage

    flat = np.ones((1, 3, 3), bool)
    pieces, count = ndimage.label(ndimage.binary_opening(hu > BODY_HU, flat))
    if not count:
        raise AllpetError("the CT holds no body: nothing in it is denser than air; give Hounsfield units")
    largest = pieces == 1 + int(np.argmax(np.bincount(pieces.ravel())[1:]))
    whole = largest | (ndimage.binary_dilation(largest, flat, iterations=2) & (hu > BODY_HU))
    body = np.stack([ndimage.binary_fill_holes(plane) for plane in whole])
    smooth, out = ndimage.gaussian_filter(hu.astype(np.float32), (0, 1, 1)), np.zeros(hu.shape, np.uint8)
    for name, least in KINDS.items():
        out[body & (smooth > least)] = LABELS.index(name)
    bone = ndimage.binary_closing(hu > BONE_HU, flat, iterations=3)  # with the marrow inside
    out[body & bone & (smooth > FAT_HU)] = LABELS.index("marrow")
    return out


def scans(ct: Image, region: str, slices: int, shape: tuple[int, int], seed: int = 0) -> tuple[Dataset, Image]:
    """Slices spread over a CT in HU as pairs of task ``attenuation``, and their mu maps on the CT's own grid."""
    beam = ParallelBeam(*shape, FIELD_OF_VIEW_MM[region] / shape[1])
    fine, rng = beam.image_grid(beam.bins * acquire.OVERSAMPLING), np.random.default_rng([seed, *region.encode()])
    hu, some = ct.array.numpy(), (np.linspace(0.06, 0.94, slices) * (len(ct) - 1)).astype(int)
    own = Image(torch.from_numpy(hu_to_mu(hu)[some]), ct.grid, MU, plane_mm=ct.plane_mm)
    seen = np.hypot(fine.x[None], fine.y[:, None]) <= beam.fov_mm / 2
    mu = resample_mumap(own, fine, slices, own.plane_mm).numpy() * seen
    last = ct.grid.size - 1
    rows, columns = (np.rint(at / ct.grid.pixel_mm + last / 2).astype(int).clip(0, last) for at in (-fine.y, fine.x))
    tracer, usual, waves = TRACERS["FDG"], typical_uptake("FDG"), Waves.draw(rng, 40.0, 200.0, VARIATION)
    suv = {name: usual[name].suv([tracer.first_s[0]], [sum(tracer.first_s)]) for name in (*KINDS, "marrow", "liver")}
    suv["muscle"] = np.sqrt(suv["muscle"] * suv.pop("liver"))
    drawn = [Canvas.blank(fine.x, fine.y, float(k) * ct.plane_mm) for k in some]
    for canvas, kind in zip(drawn, tissues(hu)[np.ix_(some, rows, columns)], strict=True):
        for name in suv:
            canvas.paint((kind == LABELS.index(name)) & seen, name, waves.on_grid(fine.x, fine.y, canvas.z))
    activity = np.stack([canvas.activity(suv, ()) for canvas in drawn], axis=1)
    ideal, factors = acquire.project_slices(activity, mu, beam, acquire.FWHM_MM, [tracer.isotope.name])
    lines = [(line, *acquire.smooth_background(line, beam, SCATTER, RANDOMS)) for line in ideal[0] * factors]
    found = [acquire.expected_counts(acquire.Coincidences(*line), PROMPTS) for line in lines]
    arrays = {"sinogram": ideal[0] * np.array([one.counts_per_unit for one in found], np.float32)[:, None, None]}
    arrays["observed"] = np.stack([acquire.draw_counts(one.prompts, 1.0, rng) for one in found])
    arrays["background"] = np.stack([one.background for one in found])
    arrays["labels"] = np.stack([canvas.thin_labels(acquire.OVERSAMPLING) for canvas in drawn])
    arrays |= {"dose_fraction": np.ones(slices, np.float32), "mumap": acquire.block_mean(mu, (-1, -2))}
    facts = dict(units=dict(sinogram=COUNTS), prompt=dict(tracer="FDG", region=region, task="attenuation"))
    return Dataset(arrays, beam, facts), own


def estimates(model: AllPET, data: Dataset, ct: Image) -> dict[str, Estimate]:
    """Corrected trues ``(n, view, radial)`` and mu maps ``(n, row, column)`` by method; `ct`: the slices' mu maps."""
    smooth, given = gaussian(data, data)[:, 0], resample_mumap(ct, data.grid, len(data), ct.plane_mm)
    projector = Projector(data.beam, data.grid)

    def corrected(mu: torch.Tensor) -> Estimate:
        return smooth * projector(mu).exp(), mu

    out = {"uncorrected": (smooth, torch.zeros_like(given)), "uniform mu": corrected(uniform_mumap(data))}
    for name, maps in (("allpet", None), ("allpet, CT given", ct)):
        result = model.apply("attenuation", data.scan(), ct=maps, samples=0)  # the scan says FDG and the region
        out[name] = (result.expected.sinogram, result.extras["-mumap"].array)  # type: ignore[union-attr]
    out["smoothed, CT given"] = corrected(given)
    return out


def score(estimate: Estimate, data: Dataset) -> list[dict[str, float]]:
    """Scores of every slice: a tissue's only where enough of it is left away from its edges, mu's in the body."""
    right, out = truth(data)[:, 0], []
    images = zip(*(images_of(trues, data) for trues in (estimate[0], right)), strict=True)
    for k, (mine, true) in enumerate(images):
        labels, mu = data["labels"][k], data["mumap"][k]
        row = dict(psnr_sinogram=float(psnr(estimate[0][k], right[k])), psnr_image=float(psnr(mine, true)))
        kept = (labels, LABELS, data.grid.pixel_mm, acquire.FWHM_MM, LEAST_PIXELS)
        for one in organ_recovery(mine.numpy(), true.numpy(), *kept):
            row |= {SHOWN[one.organ]: 100 * abs(one.bias)} if one.organ in SHOWN else {}
        row["mu_error"] = float(np.abs(estimate[1][k].numpy() - mu)[labels > 0].mean())
        out.append(row | {"mu_percent": 100 * row["mu_error"] / float(mu[labels > 0].mean())})
    return out


def judge(model: AllPET, folder: Path, slices: int = 8, seed: int = 0) -> list[dict[str, Any]]:
    """Scores of every slice and method. `folder` holds ``chest_ct_hu.nii.gz`` and ``abdomen_ct_hu.nii.gz``."""
    rows: list[dict[str, Any]] = []
    for region in ("chest", "abdomen"):
        ct = read(folder / f"{region}_ct_hu.nii.gz")
        data, own = scans(ct, region, slices, model.beam.shape, seed)  # type: ignore[arg-type]
        for name, estimate in estimates(model, data, own).items():
            rows += [dict(region=region, method=name, slice=k) | one for k, one in enumerate(score(estimate, data))]
    return rows


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """Mean and standard error over slices as a Markdown table; in brackets the number of slices, where some lack it."""
    lines = ["| CT | method | " + " | ".join(title for title, _ in HEADS.values()) + " | n |"]
    lines.append("|---" * (len(HEADS) + 3) + "|")
    for region, name in dict.fromkeys((row["region"], row["method"]) for row in rows):
        mine = [row for row in rows if (row["region"], row["method"]) == (region, name)]
        cells = []
        for key, (_, digits) in HEADS.items():
            has = [row for row in mine if key in row]
            mean = mean_and_error([{key: row[key]} for row in has]) if has else {}
            few = f" ({len(has)})" if len(has) < len(mine) else ""
            cells.append(f"{mean[key]:.{digits}f} ± {mean[key + '_se']:.{digits}f}{few}" if has else "")
        lines.append(f"| {region} | {name} | {' | '.join(cells)} | {len(mine)} |")
    return "\n".join(lines)
