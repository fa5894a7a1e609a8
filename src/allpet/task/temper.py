"""Factors on stated standard deviations, fitted on simulated validation people so that 90 % intervals cover.

``config["calibration"][task]`` holds one factor for all scans (of "image" or "mumap", "sinogram", "region") and under
``"by_words"`` those of scans whose words are known, and of "any" other, at a few counts::

    {"image": 1.29, "sinogram": 1.34, "by_words": {"FDG brain": {"log_level": [2.1, ...], "image": [1.1, ...], ...}}}

Between these counts a factor is interpolated in logarithms; beyond them it is that of the last.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from allpet.model.prompt import REGIONS, TASKS, TRACERS

if TYPE_CHECKING:
    from allpet.model.allpet import AllPET
    from allpet.model.translator import Ask

BY_WORDS, ANY, LEVELS = "by_words", "any", "log_level"


def image_of(task: str) -> str:
    """What a task's factor on its image is called: that of `attenuation` is a mu map."""
    return "mumap" if task == "attenuation" else "image"


def usual(model: AllPET, task: str, what: str) -> float:
    """The one factor for scans of which nothing is known; `what`: "image", "mumap", "sinogram" or "region"."""
    return float(_of(model, task).get(what, 1.0))


def temper(model: AllPET, what: str, asked: Ask) -> torch.Tensor:
    """The factor of every plane that is asked about, ``(n, 1, 1)``, by its words and its counts."""
    found = []
    for k, (number, log_level) in enumerate(zip(asked.task.tolist(), asked.log_level.tolist(), strict=True)):
        task = TASKS[number - 1]
        known = _of(model, task).get(BY_WORDS, {})
        knots = known.get(words_of(asked[k : k + 1]), known.get(ANY, {}))
        if what in knots:
            found.append(float(np.exp(np.interp(log_level, knots[LEVELS], np.log(knots[what])))))
        else:
            found.append(usual(model, task, what))
    return torch.tensor(found)[:, None, None]


def words_of(asked: Ask) -> str:
    """What is said of one plane, in words; dynamic frames are told apart from a static scan of two tracers."""
    tracer, to, region = (
        ANY if number == 0 else known[number - 1]
        for number, known in ((int(asked.tracer), TRACERS), (int(asked.to), TRACERS), (int(asked.region), REGIONS))
    )
    if TASKS[int(asked.task) - 1] == "separate":
        return f"{tracer} + {to} {region}" + (", frames" if bool(asked.has_frames) else "")
    return f"{tracer} {region}" if to == ANY else f"{tracer} to {to} {region}"


def _of(model: AllPET, task: str) -> dict[str, Any]:
    found: dict[str, Any] = model.config.get("calibration", {}).get(task, {})
    return found
