"""After training: make the standard deviations cover, and learn what is usual.

``python -m allpet.train.calibrate RUN`` writes into a model folder (1) for every task the factors with which 90 %
intervals cover 90 % of the body's pixels, of the sinogram's bins, and of the means of marked lesions, of simulated
validation people, and (2) what people look like in every region and tracer, for the warnings about unfamiliar scans.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import torch

from allpet.model import AllPET
from allpet.model.familiar import Familiar, Look
from allpet.model.prompt import REGIONS, TRACERS
from allpet.scan.dataset import Dataset
from allpet.scan.simulate import simulate
from allpet.study.data import DELAYS
from allpet.task import TASKS
from allpet.task.temper import ANY, BY_WORDS, LEVELS, image_of, words_of
from allpet.train.pairs import PairSet
from allpet.uncertainty import FITTED, factor_of, ratios, sinogram_ratios

PEOPLE, OTHERS = 600, 150
"""People of each region and tracer behind what is familiar, and others that say what is usual."""
COUNTS = (1e5, 1.5e6)
MANY = (1e6, 5e6)
"""Full-dose prompts behind what is familiar; of these 1/100 to 1/2 are kept."""
PEOPLE_OF_WORDS = 36
"""People of each task, tracer and region behind the factors on standard deviations."""
GROUPS = 6
"""Of people, that are left out in turn to see how uncertain a factor is."""
KNOTS, LEAST = 6, 12
"""Most levels of counts that factors of low dose, whose counts differ most, are fitted at, and people behind each at
least."""


def familiar(model: AllPET, people: int = PEOPLE, seed: int = 21, components: int = 64) -> Familiar:
    """What restored scans of simulated people look like, at all doses."""
    out = Familiar(components)
    for region in REGIONS:
        for split, count in (("train", people), ("validation", min(max(people // 2, 3), OTHERS))):
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


@dataclass(frozen=True)
class Off:
    """Errors over stated deviations of n planes, in all that sees the body; of the sinogram where it was looked at.

    `name`: of the image's factor; `log_level`: logarithm of the mean trues in a bin ``(n,)``.
    """

    name: str
    log_level: torch.Tensor
    image: list[torch.Tensor]
    sinogram: list[torch.Tensor]

    def __add__(self, other: Off) -> Off:
        level = torch.cat([self.log_level, other.log_level])
        return replace(self, log_level=level, image=self.image + other.image, sinogram=self.sinogram + other.sinogram)

    def values(self, key: str) -> list[torch.Tensor]:
        """Of the sinogram, or of the image, whatever it is called."""
        return self.sinogram if key == "sinogram" else self.image

    def factors(self) -> dict[str, float]:
        """With which 90 % intervals cover 90 %."""
        return {key: factor_of(self.values(key)) for key in (self.name, "sinogram")}

    def by_level(self, knots: int) -> list[Off]:
        """The same in a few parts by their level, each of as many planes."""
        parts = self.log_level.argsort().chunk(max(1, min(knots, len(self.image) // LEAST)))
        return [
            replace(
                self,
                log_level=self.log_level[some],
                image=[self.image[k] for k in some.tolist()],
                sinogram=[self.sinogram[k] for k in some.tolist()],
            )
            for some in parts
        ]


def deviations(model: AllPET, people: int = PEOPLE_OF_WORDS, seed: int = 22) -> dict[str, dict[str, Any]]:
    """Factors on stated deviations of every task's image (attenuation: its mu map) and sinogram: for all scans alike,
    and by what is said of a scan, at a few counts (see :mod:`allpet.task.temper`).

    Parameters
    ----------
    people : of each task, tracer (or two) and region. seed : of the people.
    """
    model.config["calibration"] = {}
    out: dict[str, dict[str, Any]] = {}
    for task in TASKS:
        found: dict[str, Off] = {}
        for data in validation_sets(model, task, people, seed):
            pairs = PairSet.from_dataset(data, model.need("restorer"))
            seen = {words_of(pairs.question[:1]): _off(model, data, pairs)}
            if task == "low-dose":
                seen[ANY] = _unsaid(model, data, pairs)
            for words, off in seen.items():
                found[words] = found[words] + off if words in found else off
        said = [off for words, off in found.items() if words != ANY]
        whole = sum(said[1:], start=said[0])
        any_other, knots = found.pop(ANY, None), KNOTS if task == "low-dose" else 1
        by_words = drawn_together({words: off.by_level(knots) for words, off in found.items()})
        if any_other is not None:
            by_words[ANY] = drawn_together({ANY: any_other.by_level(knots)})[ANY]
        out[task] = {**whole.factors(), BY_WORDS: by_words}
    return out


def drawn_together(by_words: dict[str, list[Off]]) -> dict[str, dict[str, list[float]]]:
    """Factors of every word at each of its levels, less what is noise in them.

    A factor of few people is uncertain. Its logarithm is drawn to the mean of all words by the share that its variance
    (jackknife over groups of people) has in it and in that of the words: the empirical Bayes estimate.
    """
    out: dict[str, dict[str, list[float]]] = {
        words: {LEVELS: [float(off.log_level.mean()) for off in levels]} for words, levels in by_words.items()
    }
    image = next(iter(by_words.values()))[0].name
    for key in (image, "sinogram"):
        for words in out:
            out[words][key] = []
        for level in range(max(map(len, by_words.values()))):
            mine = {words: levels[level].values(key) for words, levels in by_words.items() if len(levels) > level}
            found = torch.tensor([math.log(max(factor_of(values), 1e-6)) for values in mine.values()])
            noise = torch.tensor([_variance(values) for values in mine.values()])
            between = (found.var(correction=0) - noise.mean()).clamp_min(0)
            share = torch.where(noise > 0, between / (between + noise).clamp_min(1e-12), 1.0)
            for words, value in zip(mine, found.mean() + share * (found - found.mean()), strict=True):
                out[words][key].append(float(value.exp()))
    return out


def _variance(values: Sequence[torch.Tensor]) -> float:
    """Of the logarithm of :func:`factor_of`, from leaving out groups of people in turn; 0 of one person alone."""
    values = [one for one in values if len(one)]
    groups = min(GROUPS, len(values))
    if groups < 2:
        return 0.0
    left = [[one for k, one in enumerate(values) if k % groups != group] for group in range(groups)]
    logs = torch.tensor([math.log(max(factor_of(some), 1e-6)) for some in left])
    return float((logs - logs.mean()).square().sum()) * (groups - 1) / groups


def validation_sets(model: AllPET, task: str, people: int, seed: int) -> Iterator[Dataset]:
    """Validation people of every region and tracer (or two) at many counts; two tracers with dynamic frames and
    without, every other tracer wanted, several delays."""
    tracers: list[str] = model.config["tracers"]
    options: list[dict[str, object]] = [{}]
    if task == "delayed":
        options = [dict(delay_minutes=delay) for delay in DELAYS]
    for region in model.config["regions"]:
        for tracer in [" + ".join(two) for two in combinations(tracers, 2)] if task == "separate" else tracers:
            if task == "convert":
                options = [dict(to=other) for other in tracers if other != tracer]
            few = people if task == "convert" else -(-people // len(options))
            for k, given in enumerate(options):
                data = _people(model, few, task, tracer, region, "validation", seed + k, **given)
                yield data
                if task == "separate":
                    yield data.without_frames()


def _unsaid(model: AllPET, data: Dataset, pairs: PairSet) -> Off:
    """The same of people of whom neither tracer nor region is said: their restored image is kept as it is."""
    none = torch.zeros_like(pairs.question.tracer)
    pairs = replace(pairs, question=replace(pairs.question, tracer=none, region=none))
    task = str(data.prompt["task"])
    data = replace(data, attributes={**data.attributes, "prompt": {"task": task}})
    return _off(model, data, pairs, restored=True)


def _off(model: AllPET, data: Dataset, pairs: PairSet, restored: bool = False) -> Off:
    """How far off the model is; of the sinogram of every second person. `restored` : as for `ratios`."""
    task = str(data.prompt["task"])
    images = ratios(model.translator_of(task), pairs, restored)
    sinograms = [torch.zeros(0) if k % 2 else sinogram_ratios(model, data, k, FITTED) for k in range(len(data))]
    return Off(image_of(task), pairs.question.log_level, images, sinograms)


def region_factor(model: AllPET, people: int = 24, seed: int = 23) -> float:
    """Factor with which 90 % intervals of low-dose cover 90 % of the means of marked lesions."""
    from allpet.study.attention import compare

    model.config.setdefault("calibration", {}).setdefault("low-dose", {}).pop("region", None)
    return factor_of([torch.tensor([row["z"] for row in compare(model, people, seed, "validation")])])


def calibrate(folder: Path, people: int = PEOPLE_OF_WORDS, known: int = PEOPLE) -> None:
    """Write both into a model folder."""
    model = AllPET.from_pretrained(folder)
    model.familiar = familiar(model, known)
    model.config["calibration"] = deviations(model, people)
    if model.focus is not None:
        model.config["calibration"]["low-dose"]["region"] = region_factor(model)
    model.save_pretrained(folder)


if __name__ == "__main__":
    calibrate(Path(sys.argv[1]))
