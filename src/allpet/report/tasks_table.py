"""How well the tasks do on people that the model never saw, beside what a user would otherwise do.

Every method gets the same counts and factors. Sinograms are trues at full dose; images are OSEM (4 iterations, 8
subsets) of each estimate with the same attenuation, compared with the same reconstruction of the noise-free truth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from allpet.metrics import nrmse, psnr, ssim
from allpet.metrics.organ import organ_recovery
from allpet.project import Projector
from allpet.recon import osem
from allpet.scan.dataset import Dataset
from allpet.scan.phantom import LABELS
from allpet.study.cases import CASES, Case
from allpet.task.rivals import RIVALS, Rival, asked_for, rows, share_of, truth
from allpet.task.temper import image_of, temper
from allpet.train.pairs import PairSet
from allpet.uncertainty import NORMAL, body_of

if TYPE_CHECKING:
    from allpet.model import AllPET
    from allpet.study.plain import PlainNet

TRAINING = 34
"""Training pairs behind the baselines' numbers: as many as the model saw of such a case."""
LEAST_PIXELS = 12
SCORES = ("psnr_sinogram", "ssim_sinogram", "nrmse_sinogram", "psnr_image", "ssim_image", "organ_error", "lesion_bias")
Method = Callable[[Dataset], torch.Tensor]


def ours(model: AllPET, data: Dataset) -> torch.Tensor:
    """Expected trues of one or two results, as ``allpet apply`` gives them."""
    task, out = str(data.prompt["task"]), []
    for k in range(len(data)):
        result = model.apply(task, data.scan([k]), samples=0, **asked_for(data))
        found = [result.expected.sinogram]
        if task == "low-dose" and result.expected.background is not None:
            found[0] = found[0] - result.expected.background
        if "-second" in result.extras:
            found.append(result.extras["-second"].sinogram)  # type: ignore[union-attr]
        out.append(torch.stack(found, dim=1))
    return torch.cat(out)


def plainly(network: PlainNet, model: AllPET, data: Dataset) -> torch.Tensor:
    """The U-Net rival's."""
    from allpet.study.plain import PlainPairs

    pairs = PlainPairs.from_dataset(data, model.need("restorer"))
    with torch.no_grad():
        made = network(pairs.stack.float(), pairs.question)
    count = 2 if "second" in data else 1
    return made[:, :count] * (pairs.unit[:, None, None] / share_of(data))[:, None]


def images_of(trues: torch.Tensor, data: Dataset) -> torch.Tensor:
    """OSEM of trues ``(n, view, radial)``."""
    factors = None if data.prompt["task"] == "attenuation" else rows(data, "attenuation")
    return osem(trues.clamp_min(0), Projector(data.beam, data.grid), 4, 8, factors)


def score(estimate: torch.Tensor, data: Dataset) -> list[dict[str, float]]:
    """Scores of every person, means over one or two results; data range: each truth's maximum."""
    true = truth(data)
    out: list[dict[str, float]] = [{} for _ in range(len(data))]
    results = min(estimate.shape[1], true.shape[1])
    images = [(images_of(estimate[:, k], data), images_of(true[:, k], data)) for k in range(results)]
    for i, facts in enumerate(out):
        found: dict[str, list[float]] = {name: [] for name in (*SCORES, "cross_talk")}
        for k, (mine, right) in enumerate(images):
            a, b, x, y = estimate[i, k], true[i, k], mine[i], right[i]
            for name, value in (
                ("psnr_sinogram", psnr(a, b)),
                ("ssim_sinogram", ssim(a, b)),
                ("nrmse_sinogram", nrmse(a, b)),
                ("psnr_image", psnr(x, y)),
                ("ssim_image", ssim(x, y)),
            ):
                found[name].append(float(value))
            labels = np.asarray(data["labels"][i])
            organs = organ_recovery(x.numpy(), y.numpy(), labels, LABELS, data.grid.pixel_mm, 4.5, LEAST_PIXELS)
            other = images[1 - k][1][i] if results == 2 else None
            for organ in organs:
                where = "lesion_bias" if organ.organ == "lesion" else "organ_error"
                found[where].append(organ.bias if where == "lesion_bias" else abs(organ.bias))
                if other is not None:
                    there = torch.from_numpy(labels == LABELS.index(organ.organ))
                    beside = float(other[there].mean())
                    if beside > 0.05 * float(other.amax()):
                        found["cross_talk"].append(abs(organ.bias) * organ.truth / beside)
        facts |= {name: float(np.mean(values)) for name, values in found.items() if values}
    return out


def doubt(model: AllPET, data: Dataset) -> dict[str, float]:
    """Means over people of the coverage and the correlation of :func:`doubts`."""
    found = doubts(model, data)
    return {name: float(np.nanmean(found[name])) for name in ("coverage", "correlation")}


def doubts(model: AllPET, data: Dataset) -> dict[str, list[float]]:
    """Of every person: share of body pixels that 90 % intervals cover, the correlation of deviation and absolute
    error, and the number of these pixels."""
    task = str(data.prompt["task"])
    pairs = PairSet.from_dataset(data, model.need("restorer"))
    factor = temper(model, image_of(task), pairs.question)
    with torch.no_grad():
        mean, spread = model.translator_of(task)(pairs.views, pairs.question)
    spread = spread[:, 0] * factor
    right = pairs.target[:, 0].float()
    body = body_of(right, pairs.attenuation)
    covered, follows, pixels = [], [], []
    for x, y, s, inside in zip(mean[:, 0], right, spread, body, strict=True):
        error, deviation = (x - y).abs()[inside], s[inside]
        covered.append(float((error <= NORMAL * deviation).float().mean()))
        pixels.append(float(inside.sum()))
        follows.append(float(torch.corrcoef(torch.stack([error, deviation]))[0, 1]))
    return {"coverage": covered, "correlation": follows, "pixels": pixels}


def evaluate_tasks(
    model: AllPET,
    people: int = 10,
    seeds: Sequence[int] = (11,),
    cases: Sequence[Case] = CASES,
    plain: PlainNet | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[dict[str, Any]]:
    """A row for each case and method: mean and standard error over people of every score.

    Parameters
    ----------
    people : of each case and seed. seeds : of the people. plain : the U-Net rival, if it is trained.
    """
    out = []
    for number, case in enumerate(cases, 1):
        training = case.simulate(TRAINING, "train", seed=1, shape=model.beam.shape)
        out += case_rows(case, [case_scores(model, case, people, seed, training, plain) for seed in seeds])
        if progress:
            progress(number, len(cases))
    return out


def case_scores(
    model: AllPET, case: Case, people: int, seed: int, training: Dataset, plain: PlainNet | None = None
) -> dict[str, Any]:
    """``each``: by method the scores of every person (:func:`score`); ``doubt``: of the model's intervals.

    Without scikit-image there are no non-local means.

    Parameters
    ----------
    training : pairs behind the baselines' numbers. plain : as for :func:`evaluate_tasks`.
    """
    methods: dict[str, Method] = {
        name: partial(_beside, rival, training)
        for name, rival in RIVALS[case.task].items()
        if not (case.static and name == "early frame") and not (name == "NLM" and find_spec("skimage") is None)
    }
    if plain is not None:
        methods["U-Net"] = partial(plainly, plain, model)
    methods["allpet"] = partial(ours, model)
    data = case.simulate(people, "test", seed, model.beam.shape)
    each = {name: score(method(data), data) for name, method in methods.items()}
    return dict(each=each, doubt=doubt(model, data))


def case_rows(case: Case, found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each method: mean and standard error over the people of all that :func:`case_scores` found."""
    out = []
    for name in found[0]["each"]:
        each = [one for some in found for one in some["each"][name]]
        row: dict[str, Any] = dict(case=case.name, task=case.task, method=name, n=len(each), seeds=len(found))
        for key in (*SCORES, "cross_talk"):
            values = np.array([one[key] for one in each if one.get(key) is not None])
            if len(values):
                row[key] = float(values.mean())
                row[key + "_se"] = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0
        if name == "allpet":
            doubts = [some["doubt"] for some in found]
            row |= {key: float(np.mean([one[key] for one in doubts])) for key in doubts[0]}
        out.append(row)
    return out


def _beside(rival: Rival, training: Dataset, data: Dataset) -> torch.Tensor:
    return rival(data, training)


HEADS = {
    "psnr_sinogram": "PSNR sinogram (dB)",
    "nrmse_sinogram": "NRMSE sinogram",
    "psnr_image": "PSNR image (dB)",
    "ssim_image": "SSIM image",
    "organ_error": "organ error (%)",
    "lesion_bias": "lesion bias (%)",
    "cross_talk": "cross-talk (%)",
    "coverage": "90 % covers (%)",
    "correlation": "deviation follows error",
}


def markdown(table: list[dict[str, Any]]) -> str:
    """A Markdown table for each task."""
    parts = []
    for task in dict.fromkeys(row["task"] for row in table):
        mine = [row for row in table if row["task"] == task]
        keys = [key for key in HEADS if any(key in row for row in mine)]
        lines = [
            "| case | method | " + " | ".join(HEADS[key] for key in keys) + " | n |",
            "|---" * (len(keys) + 3) + "|",
        ]
        for row in mine:
            cells = [_cell(row, key) for key in keys]
            lines.append(f"| {row['case']} | {row['method']} | {' | '.join(cells)} | {row['n']} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def means_in_cells(row: dict[str, Any], keys: Iterable[str]) -> list[str]:
    """Means and standard errors of a row of :func:`case_rows`: PSNR in dB, all else in percent."""
    cells = []
    for key in keys:
        scale = 1 if key.startswith("psnr") else 100
        cells.append(f"{scale * row[key]:.1f} ± {scale * row[key + '_se']:.1f}")
    return cells


def _cell(row: dict[str, Any], key: str) -> str:
    if key not in row:
        return ""
    value, spread = row[key], row.get(key + "_se", 0.0)
    if key.startswith("psnr"):
        return f"{value:.2f} ± {spread:.2f}"
    if key == "lesion_bias":
        return f"{100 * value:+.1f} ± {100 * spread:.1f}"
    if key in ("organ_error", "cross_talk"):
        return f"{100 * value:.1f} ± {100 * spread:.1f}"
    return f"{100 * value:.1f}" if key == "coverage" else f"{value:.3f}"
