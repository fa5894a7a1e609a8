"""After training: make the standard deviations cover, and learn what is usual.

``python -m allpet.train.calibrate RUN`` writes into a model folder (1) for every task the factors with which 90 %
intervals cover 90 % of the body's pixels, of the sinogram's bins, and of the means of marked lesions, of simulated
validation people, and (2) what people look like in every region and tracer, for the warnings about unfamiliar scans.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from allpet.model import AllPET
from allpet.model.familiar import Familiar, Look
from allpet.model.prompt import REGIONS, TRACERS
from allpet.scan.dataset import Dataset
from allpet.scan.simulate import simulate
from allpet.task import TASKS
from allpet.train.pairs import PairSet
from allpet.uncertainty import LEVEL, NORMAL, image_factor

PEOPLE = 200
"""People of each region and tracer behind what is familiar; half as many again, others, say what is usual."""
COUNTS = (1e5, 1.5e6)
MANY = (1e6, 5e6)
"""Full-dose prompts behind what is familiar; of these 1/100 to 1/2 are kept."""
COVERED = 0.05
"""Bins with at least this share of the plane's peak count for the sinogram's factor."""
SAMPLES = 8
TRACER_OF = {"separate": ("FDG + PSMA", "FDG + DOPA")}
OPTIONS: dict[str, dict[str, object]] = {"delayed": {"delay_minutes": 60.0}}


def familiar(model: AllPET, people: int = PEOPLE, seed: int = 21, components: int = 64) -> Familiar:
    """What restored scans of simulated people look like, at all doses."""
    out = Familiar(components)
    for region in REGIONS:
        for split, count in (("train", people), ("validation", max(people // 2, 3))):
            looks = {}
            for tracer in TRACERS:
                data = _people(model, count, "low-dose", tracer, region, split, seed, counts=MANY)
                looks[tracer] = look_at(model, data)
            if split == "train":
                out.fit(region, {t: look.features for t, look in looks.items()}, data.beam.fov_mm)
            else:
                out.calibrate(region, looks)
    return out.eval()


def look_at(model: AllPET, data: Dataset) -> Look:
    """What is judged of all scans of a data set."""
    from allpet.task.planes import parts

    projector = model.need("restorer").projector
    scan = data.scan()
    looks = [p.seen.look(p.grid, projector, data.beam.fov_mm) for p in parts(model, scan, scan.attenuation)]
    return Look(*(torch.cat([getattr(x, name) for x in looks]) for name in vars(looks[0])))


def _people(
    model: AllPET, count: int, task: str, tracer: str, region: str, split: str, seed: int, **options: object
) -> Dataset:
    """One slice each of simulated people, on the model's grid."""
    views, bins = model.beam.shape
    known = dict(tracer=tracer, region=region, task=task, split=split, seed=seed, slices_per_subject=1)
    return simulate(count, views=views, bins=bins, **{**known, "counts": COUNTS, **options})  # type: ignore[arg-type]


def deviations(model: AllPET, people: int = 6, seed: int = 22) -> dict[str, dict[str, float]]:
    """Factors on stated deviations for every task: of its image (attenuation: its mu map) and of its sinogram."""
    model.config["calibration"] = {}
    out: dict[str, dict[str, float]] = {}
    for task in TASKS:
        sets = []
        for region in model.config["regions"]:
            for k, tracer in enumerate(TRACER_OF.get(task, tuple(model.config["tracers"]))):
                options = dict(OPTIONS.get(task, {}))
                if task == "convert":
                    at = model.tracers.index(tracer)
                    others = model.tracers[at + 1 :] + model.tracers[:at]
                    options["to"] = others[k % 2 % len(others)]
                sets.append(_people(model, people, task, tracer, region, "validation", seed, **options))
        pairs = PairSet.join([PairSet.from_dataset(data, model.need("restorer")) for data in sets])
        name = "mumap" if task == "attenuation" else "image"
        out[task] = {name: image_factor(model.translator_of(task), pairs)}
        model.config["calibration"] = out
        out[task]["sinogram"] = _sinogram_factor(model, task, sets)
    return out


def _sinogram_factor(model: AllPET, task: str, sets: list[Dataset]) -> float:
    """Factor with which 90 % intervals cover 90 % of the bins that see the body; two people of each set."""
    ratios = []
    for data in sets:
        for k in range(min(len(data), 2)):
            options = {"to": data.attributes["to"]} if task == "convert" else {}
            if task == "delayed":
                starts = data.attributes["frame_start_s"]
                options = {"delay_minutes": (starts[1] - starts[0]) / 60}
            result = model.apply(task, data.scan([k]), samples=SAMPLES, **options)
            assert result.std is not None
            true = torch.from_numpy(data["sinogram"][k])
            bins = true > COVERED * true.max()
            off = (result.expected.sinogram[0] - true).abs() / result.std.sinogram[0].clamp_min(1e-9)
            ratios.append(off[bins])
    size = torch.cat(ratios)
    return float(size.kthvalue(max(1, round(LEVEL * len(size)))).values) / NORMAL


def region_factor(model: AllPET, people: int = 24, seed: int = 23) -> float:
    """Factor with which 90 % intervals of low-dose cover 90 % of the means of marked lesions."""
    from allpet.study.attention import compare

    model.config.setdefault("calibration", {}).setdefault("low-dose", {}).pop("region", None)
    size = torch.tensor([abs(row["z"]) for row in compare(model, people, seed, "validation")])
    return float(size.kthvalue(max(1, round(LEVEL * len(size)))).values) / NORMAL if len(size) else 1.0


def calibrate(folder: Path, people: int = 6, known: int = PEOPLE) -> None:
    """Write both into a model folder."""
    model = AllPET.from_pretrained(folder)
    model.config.pop("temperature", None)
    model.config.pop("spread_ratio_before", None)
    model.familiar = familiar(model, known)
    model.config["calibration"] = deviations(model, people)
    if model.focus is not None:
        model.config["calibration"]["low-dose"]["region"] = region_factor(model, 4 * people)
    model.save_pretrained(folder)


if __name__ == "__main__":
    calibrate(Path(sys.argv[1]))
