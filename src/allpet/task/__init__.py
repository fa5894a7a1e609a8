"""Tasks: one file each, one registry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from allpet.errors import AllpetError
from allpet.scan.core import Scan
from allpet.task.low_dose import low_dose

if TYPE_CHECKING:
    from allpet.model.allpet import AllPET, Result

TASKS = {"low-dose": low_dose}


def run(task: str, model: AllPET, scan: Scan, **options: Any) -> Result:
    """Run a task by name.

    Raises
    ------
    AllpetError : unknown task; the message lists the known.
    """
    if task not in TASKS:
        raise AllpetError(f"task '{task}' is unknown; known: {', '.join(TASKS)}")
    return TASKS[task](model, scan, **options)
