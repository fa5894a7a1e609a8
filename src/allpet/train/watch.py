"""What a run shows of itself: ``stats.jsonl``, TensorBoard's event files, grids of samples, memory."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from allpet.errors import AllpetError
from allpet.io.files import replacing

KEPT = 8
"""Pictures kept for each recipe."""

CURVES = {
    "loss": "loss/train",
    "held_out": "loss/held-out",
    "rate": "rate",
    "samples_per_s": "speed/samples per s",
    "peak_mib": "memory/peak MiB",
    "gpu_peak_mib": "memory/GPU peak MiB",
}
"""Keys of a report and the names that TensorBoard shows them under."""


class Watch:
    """Writes one recipe's reports into the run folder.

    Parameters
    ----------
    step : where the run goes on; what an earlier process reported after it is dropped, since it comes again.
    tensorboard : write event files to ``tensorboard/RECIPE``, if the package is installed.
    """

    def __init__(self, folder: Path, recipe: str, step: int, tensorboard: bool = True) -> None:
        self.lines = folder / "stats.jsonl"
        self.samples = folder / "samples" / recipe
        _rewind(self.lines, recipe, step)
        for path in self._pictures():
            if _step(path) > step:
                path.unlink(missing_ok=True)
        self.events: Path | None = None
        if tensorboard and find_spec("tensorboard") is not None:
            self.events = folder / "tensorboard" / recipe / f"events.out.tfevents.{time.time_ns() // 1000}"
            self.begin = step + 1

    def report(self, line: Mapping[str, Any]) -> None:
        """Append a line with at least ``step``, and its numbers to TensorBoard's curves.

        Raises
        ------
        AllpetError : the disk is full or the folder cannot be written.
        """
        try:
            with open(self.lines, "a", encoding="utf-8") as file:
                file.write(json.dumps(line, allow_nan=False) + "\n")
        except OSError as error:
            raise AllpetError(f"{self.lines}: cannot be written ({error.strerror or error})") from None
        if self.events is not None:
            curves = {name: float(line[key]) for key, name in CURVES.items() if line.get(key) is not None}
            _add_events(self.events, line["step"], curves, self.begin)

    def show(self, pictures: torch.Tensor, step: int) -> None:
        """Write ``samples/RECIPE/samples-STEP.png`` and remove the oldest beyond :data:`KEPT`.

        Raises
        ------
        AllpetError : the disk is full or the folder cannot be written.
        """
        from matplotlib.image import imsave

        try:
            self.samples.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise AllpetError(f"{self.samples}: cannot be written ({error.strerror or error})") from None
        with replacing(self.samples / f"samples-{step:07d}.png") as (part,):
            imsave(part, grid(pictures).numpy(), cmap="gray", vmin=0, vmax=1, format="png")
        for path in self._pictures()[:-KEPT]:
            path.unlink(missing_ok=True)

    def _pictures(self) -> list[Path]:
        return sorted(self.samples.glob("samples-*.png"), key=_step)


def _add_events(path: Path, step: int, curves: Mapping[str, float], begin: int) -> None:
    """Append numbers to TensorBoard's event file; a new file says that it replaces every step from `begin` on.

    Written here and not by ``SummaryWriter``, whose thread reports a full disk with a traceback of its own.
    """
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.record_writer import RecordWriter

    values = [Summary.Value(tag=name, simple_value=value) for name, value in curves.items()]
    now = time.time()
    events = [Event(wall_time=now, step=step, summary=Summary(value=values))]
    try:
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            start = SessionLog(status=SessionLog.START)
            events.insert(0, Event(wall_time=now, step=begin, session_log=start))
            events.insert(0, Event(wall_time=now, file_version="brain.Event:2"))
        with open(path, "ab") as file:
            for event in events:
                RecordWriter(file).write(event.SerializeToString())
    except OSError as error:
        raise AllpetError(f"{path}: cannot be written ({error.strerror or error})") from None


def grid(pictures: torch.Tensor) -> torch.Tensor:
    """Pictures ``(n, h, w)`` side by side in about a square, each over its own maximum, in [0, 1].

    Raises
    ------
    AllpetError : not three-dimensional, or empty.
    """
    if pictures.ndim != 3 or not pictures.numel():
        raise AllpetError(f"pictures have shape {tuple(pictures.shape)}; they must be (n, h, w), at least one")
    n, h, w = pictures.shape
    columns = math.ceil(math.sqrt(n))
    rows = -(-n // columns)
    x = pictures.detach().float().cpu().nan_to_num().clamp_min(0)
    sheet = torch.zeros(rows * columns, h, w)
    sheet[:n] = x / x.amax(dim=(1, 2), keepdim=True).clamp_min(1e-30)
    return sheet.reshape(rows, columns, h, w).transpose(1, 2).reshape(rows * h, columns * w)


def peak_mib() -> float:
    """Largest resident memory of this process so far, in MiB."""
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        return float(psutil.Process().memory_info().peak_wset) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def _step(path: Path) -> int:
    digits = path.stem.rpartition("-")[2]
    return int(digits) if digits.isdigit() else -1


def _rewind(path: Path, recipe: str, step: int) -> None:
    """Drop a recipe's lines after a step, and lines that a killed process left torn."""
    if not path.is_file():
        return
    whole, kept = path.read_text(encoding="utf-8", errors="replace"), []
    for line in whole.splitlines():
        try:
            facts = json.loads(line)
            if facts["recipe"] != recipe or facts["step"] <= step:
                kept.append(line)
        except (ValueError, KeyError, TypeError):
            continue
    text = "".join(line + "\n" for line in kept)
    if text != whole:
        with replacing(path) as (part,):
            part.write_text(text, encoding="utf-8")
