"""After training the generator: how far its correction is led away from the estimate that needs no network.

``python -m allpet.train.emphasis RUN STORES`` draws every prompt with a few factors and writes into the model folder,
for every region, the factor whose draws are nearest to the training sinograms (see
:meth:`allpet.model.denoiser.Denoiser.forward`). Nobody but the people that the model was trained on is looked at.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from allpet.metrics import energy_distance, image_features, sinogram_features
from allpet.model import AllPET
from allpet.model.prompt import REGIONS, TRACERS
from allpet.report.generation_table import own_beam
from allpet.train.samples import TrainingSet

FACTORS = (1.0, 1.25, 1.5, 1.75, 2.0)
DRAWN = 64
"""Sinograms of each prompt and factor."""
LEAST = 8
"""Training sinograms of a prompt below which it has no say."""


def distances(
    model: AllPET, data: TrainingSet, factors: Sequence[float] = FACTORS, n: int = DRAWN, seed: int = 1000
) -> dict[str, list[list[float]]]:
    """By region: for every prompt with enough training sinograms a row of energy distances, one of each factor.

    A distance is the mean of that of sinograms and that of reconstructions. What the model's config says about emphasis
    does not matter.
    """
    kept: dict[str, Any] = dict(model.config)
    out: dict[str, list[list[float]]] = {}
    try:
        for prompt in kept["log_mean"]:
            tracer, region = prompt.split()
            mine = (data.tracer == TRACERS.index(tracer) + 1) & (data.region == REGIONS.index(region) + 1)
            real = data.sinogram[mine]
            if len(real) < LEAST:
                continue
            beam = own_beam(model, prompt)
            sinograms, images = sinogram_features(real), image_features(real, beam)
            row = []
            for factor in factors:
                model.config["emphasis"] = {region: factor}
                drawn = model.generate(prompt, n, seed=seed).sinogram
                both = energy_distance(sinogram_features(drawn), sinograms)
                row.append((both + energy_distance(image_features(drawn, beam), images)) / 2)
            out.setdefault(region, []).append(row)
    finally:
        model.config = kept
    return out


def best(found: dict[str, list[list[float]]], factors: Sequence[float] = FACTORS) -> dict[str, float]:
    """By region the factor with the smallest mean distance over its prompts."""
    chosen = {}
    for region, rows in found.items():
        mean = torch.tensor(rows, dtype=torch.float64).mean(dim=0)
        chosen[region] = float(factors[int(mean.argmin())])
    return chosen


def emphasise(folder: Path, stores: Sequence[Path], n: int = DRAWN) -> dict[str, float]:
    """Find the factors and write them into a model folder."""
    model = AllPET.from_pretrained(folder)
    found = best(distances(model, TrainingSet.load(stores), n=n))
    model.config["emphasis"] = found
    model.save_pretrained(folder)
    return found


if __name__ == "__main__":
    for region, factor in emphasise(Path(sys.argv[1]), [Path(store) for store in sys.argv[2:]]).items():
        print(f"{region}: {factor:g}")
