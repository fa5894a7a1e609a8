"""Does ``allpet adapt low-dose`` on a hospital's own scans pay? Five folds over the STS patients.

In each fold four fifths of the patients stand for scans that a hospital has: slices about the tumour, projected to
500,000 counts. The shipped model is adapted on pairs thinned out of these counts alone, and restores the others at
lower doses; beside it a plain U-Net is trained from scratch on the same pairs for the same time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from allpet.errors import AllpetError
from allpet.model import AllPET
from allpet.report.low_dose_table import (
    FRACTIONS,
    SCORES,
    Method,
    Truth,
    image_of,
    mean_and_error,
    methods,
    patient_slices,
    score,
    tuned_width,
)
from allpet.scan.carry import Carrier
from allpet.scan.core import Scan
from allpet.scan.dataset import Dataset
from allpet.scan.units import COUNTS
from allpet.study.plain import Plain, PlainNet, PlainPairs, load_plain
from allpet.task.planes import working_beam
from allpet.train import train
from allpet.train.adapt import adapt, gain, pairs_of_scans
from allpet.train.own import own_sets

TASK = "low-dose"
FOLDS = 5
OFFSETS = (-6, -3, 0, 3, 6)
"""Slices of a training patient, from the tumour's largest one."""
SHIPPED, ADAPTED, PLAIN = "allpet as shipped", "allpet adapted", "U-Net from scratch"
SHOWN = {
    "psnr_sinogram": ("PSNR sinogram (dB)", ".2f"),
    "ssim_sinogram": ("SSIM sinogram", ".3f"),
    "psnr_image": ("PSNR image (dB)", ".2f"),
    "ssim_image": ("SSIM image", ".3f"),
    "bias": ("tumour bias (%)", "+.1f"),
    "error": ("its size (%)", ".1f"),
}


def stacked(slices: Sequence[Truth], seed: int) -> Scan:
    """Slices of one patient as one scan at full dose, with noise of their own."""
    counts = [truth.scan(1.0, seed + k).sinogram for k, truth in enumerate(slices)]
    return Scan(torch.cat(counts), slices[0].beam)


def adapted(model: AllPET, scans: Sequence[Scan], out: Path, minutes: float, seed: int) -> AllPET:
    """What ``allpet adapt low-dose --pairs SCANS`` makes of them, each a subject. Minutes of processor time."""
    pairs = pairs_of_scans(TASK, scans, model, seed)
    return adapt(TASK, pairs, out, minutes, model=model, seed=seed, clock="cpu", tensorboard=False)


def plain(model: AllPET, scans: Sequence[Scan], out: Path, minutes: float, seed: int) -> PlainNet:
    """A U-Net from sinogram to sinogram, trained on the same pairs."""
    restorer = model.need("restorer")
    sets = [PlainPairs.from_dataset(data, restorer) for data in own_sets(TASK, scans, model.beam.shape, seed)]
    train(PlainPairs.join(sets), out, Plain, minutes, seed=seed, clock="cpu", tensorboard=False)
    return load_plain(out)


def plainly_restored(network: PlainNet, model: AllPET, scan: Scan) -> torch.Tensor:
    """Expected counts at full dose by the U-Net, on the scan's own grid; the scan is free of attenuation."""
    from allpet.report.tasks_table import plainly

    assert scan.background is not None and scan.dose_fraction is not None
    beam, share = working_beam(scan, *model.beam.shape), scan.dose_fraction
    carrier = Carrier(scan.geometry, beam)
    full = scan.background / share
    seen, behind = carrier.down(scan.sinogram), carrier.down(full)
    blank = torch.zeros(len(scan), *beam.image_grid().shape)  # the truth's image, which nobody looks at
    parts = dict(observed=seen, sinogram=behind, background=behind, attenuation=torch.ones_like(seen), image=blank)
    arrays = {name: value.numpy() for name, value in parts.items()}
    arrays |= dict(subject=np.arange(len(scan)), dose_fraction=np.full(len(scan), share, np.float32))
    prompt = dict(tracer=scan.tracer, region=scan.region, task=TASK)
    data = Dataset(arrays, beam, dict(units=dict(observed=COUNTS), prompt=prompt))
    return carrier.up(plainly(network, model, data)[:, 0]) + full


def judged(estimate: torch.Tensor, truth: Truth) -> dict[str, float]:
    """Scores of the low-dose table, and the bias of the tumour's mean uptake in the OSEM image, in percent."""
    assert truth.tumour is not None
    mine, true = (float(image_of(x, truth)[truth.tumour].mean()) for x in (estimate, truth.expected))
    bias = 100 * (mine / true - 1)
    return score(estimate, truth) | {"bias": bias, "error": abs(bias)}


def judge(
    model: AllPET,
    folder: Path,
    minutes: float,
    out: Path,
    seed: int = 0,
    offsets: Sequence[int] = OFFSETS,
    fractions: Sequence[float] = FRACTIONS,
    said: Callable[[str], None] = print,
) -> list[dict[str, Any]]:
    """One row for each patient, dose and method, in its fold.

    Parameters
    ----------
    folder : of the patients. minutes : processor time of each fold's adaptation, and of its U-Net's training. out :
    holds both; the same command goes on with them. said : told what each fold's adaptation gained.

    Raises
    ------
    AllpetError : fewer patients than folds, or none; a patient whose tumour is not marked.
    """
    slices = {offset: patient_slices(folder, offset) for offset in {*offsets, 0}}
    tests = slices[0]
    if len(tests) < FOLDS:
        raise AllpetError(f"{folder}: holds {len(tests)} patients; at least {FOLDS} are needed, one a fold")
    bare = [truth.subject for truth in tests if truth.tumour is None or not bool(truth.tumour.any())]
    if bare:
        raise AllpetError(f"{folder / bare[0]}: no tumour is marked in PET_mask.nii.gz; its uptake cannot be judged")
    rows: list[dict[str, Any]] = []
    for fold in range(FOLDS):
        held = range(fold, len(tests), FOLDS)
        known = [k for k in range(len(tests)) if k not in held]
        scans = [stacked([slices[offset][k] for offset in offsets], seed) for k in known]
        place = out / f"fold-{fold}"
        own = adapted(model, scans, place, minutes, seed)
        said(f"fold {fold}: {' '.join(tests[k].subject for k in held)}; " + "; ".join(gain(place, TASK)))
        rival = plain(model, scans, out / f"plain-{fold}", minutes, seed)
        for fraction in fractions:
            width = tuned_width([tests[k] for k in known], fraction)
            for name, method in _methods(model, own, rival, width).items():
                for k in held:
                    found = judged(method(tests[k].scan(fraction, seed)), tests[k])
                    rows.append(dict(fold=fold, subject=tests[k].subject, fraction=fraction, method=name) | found)
                    if name == "Gaussian":
                        rows[-1]["width_bins"] = width
    return rows


def _methods(model: AllPET, own: AllPET, rival: PlainNet, width: float) -> dict[str, Method]:
    table = methods(model, None, width)
    table[PLAIN] = lambda scan: plainly_restored(rival, model, scan)
    table[SHIPPED] = table.pop("allpet")
    table[ADAPTED] = methods(own, None, width)["allpet"]
    return table


def markdown(rows: list[dict[str, Any]]) -> str:
    """Mean and standard error over patients as a Markdown table, and the adapted model's gains patient by patient."""
    titles = ["dose", "method", *(title for title, _ in SHOWN.values()), "n"]
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    gains: dict[str, list[str]] = {SHIPPED: [], PLAIN: []}
    for fraction in dict.fromkeys(row["fraction"] for row in rows):
        dose = f"1/{round(1 / fraction)}"
        by_method: dict[str, list[dict[str, float]]] = {}
        for row in rows:
            if row["fraction"] == fraction:
                by_method.setdefault(row["method"], []).append({key: row[key] for key in SHOWN})
        for name, values in by_method.items():
            mean = mean_and_error(values)
            cells = [f"{mean[key]:{form}} ± {mean[key + '_se']:{form.strip('+')}}" for key, (_, form) in SHOWN.items()]
            lines.append(f"| {dose} | {name} | {' | '.join(cells)} | {len(values)} |")
        for other, said in gains.items():
            both = zip(by_method[ADAPTED], by_method[other], strict=True)
            more = mean_and_error([{key: a[key] - b[key] for key in SCORES} for a, b in both])
            cells = [f"{more[key]:+.2f} ± {more[key + '_se']:.2f} dB" for key in ("psnr_sinogram", "psnr_image")]
            said.append(f"{dose}: {cells[0]} in the sinogram, {cells[1]} in the image")
    told = [f"{ADAPTED} less {other}, patient by patient: {'; '.join(said)}." for other, said in gains.items()]
    return "\n".join([*lines, "", *told])
