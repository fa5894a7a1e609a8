"""Make the standard deviation mean what it says: one factor, fitted on validation subjects.

``python -m allpet.train.calibrate RUN`` compares the spread of low-dose samples with the actual
error of the estimate on simulated validation people at three doses, and writes the factor
(``temperature``) into the model's ``config.json``.
"""

from __future__ import annotations

import sys
from pathlib import Path

from allpet.errors import AllpetError
from allpet.model import AllPET
from allpet.report.low_dose_table import FRACTIONS, simulated_people


def spread_ratio(model: AllPET, people: int, split: str, seed: int = 0) -> dict[float, float]:
    """Root mean square error over root mean square standard deviation, for each dose fraction.

    Both are divided by each slice's mean beforehand, so that every slice counts alike.
    """
    out = {}
    for fraction in FRACTIONS:
        error, variance = 0.0, 0.0
        for truth in simulated_people(people, split, seed):
            result = model.apply("low-dose", truth.scan(fraction, seed))
            if result.std is None:
                raise AllpetError(f"{model.source}: gives no standard deviation")
            unit = truth.expected.mean()
            error += float(((result.expected.sinogram - truth.expected) / unit).square().mean())
            variance += float((result.std.sinogram / unit).square().mean())
        out[fraction] = (error / variance) ** 0.5
    return out


def calibrate(folder: Path, people: int = 4) -> float:
    """Fit the factor (geometric mean over the doses) and write it into the model folder."""
    model = AllPET.from_pretrained(folder)
    model.config["temperature"] = 1.0
    ratios = spread_ratio(model, people, "validation")
    factor = 1.0
    for ratio in ratios.values():
        factor *= ratio ** (1 / len(ratios))
    model.config["temperature"] = factor
    model.config["spread_ratio_before"] = {f"{fraction:g}": ratio for fraction, ratio in ratios.items()}
    model.save_pretrained(folder)
    return factor


if __name__ == "__main__":
    print(calibrate(Path(sys.argv[1])))
