"""Tasks: one registry. A task is a function of a model and a scan that returns a Result."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from allpet.errors import AllpetError
from allpet.scan.core import Scan
from allpet.task.attenuation import attenuation
from allpet.task.later import convert, delayed
from allpet.task.low_dose import low_dose
from allpet.task.separate import separate

if TYPE_CHECKING:
    from allpet.model.allpet import AllPET, Result

TASKS: dict[str, Callable[..., Any]] = {
    "low-dose": low_dose,
    "attenuation": attenuation,
    "delayed": delayed,
    "convert": convert,
    "separate": separate,
}


OFFERED = ("progress", "seed", "first_plane")
"""Options that commands give to every task; one that has no use for them need not take them."""


def run(task: str, model: AllPET, scan: Scan, **options: Any) -> Result:
    """Run a task by name.

    Raises
    ------
    AllpetError : unknown task, or an option that it does not take; the message lists the known.
    """
    if task not in TASKS:
        raise AllpetError(f"task '{task}' is unknown; known: {', '.join(TASKS)}")
    known = list(inspect.signature(TASKS[task]).parameters)[2:]
    asked = [
        name for name, value in options.items() if name not in OFFERED and value is not None and value is not False
    ]
    options = {name: value for name, value in options.items() if name in known or name in asked}
    for name in options:
        if name not in known:
            takes = [other for other, function in TASKS.items() if name in inspect.signature(function).parameters]
            hint = f"it is for {', '.join(takes)}" if takes else f"it takes {', '.join(known)}"
            raise AllpetError(f"task {task} does not take '{name.replace('_', '-')}'; {hint}")
    if (seed := options.get("seed")) is not None and seed < 0:
        raise AllpetError(f"seed is {seed}; it must not be negative")
    result: Result = TASKS[task](model, scan, **options)
    return result
