"""``allpet evaluate all``: plan the pieces, run those that are missing, gather tables and headline figures."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from allpet.errors import AllpetError
from allpet.evidence.attention import LESIONS, OBSERVER, REGIONS
from allpet.evidence.generation import GENERATION
from allpet.evidence.headlines import Expected, expectations, headlines, judge
from allpet.evidence.others import COST, MASKS, STRANGE
from allpet.evidence.sizes import SIZES
from allpet.evidence.table import Found, Part, Setting, Table
from allpet.evidence.tasks import LOW_DOSE, TASKS
from allpet.evidence.trained import ARMS_TABLE, LOWSHOT, SYNTHETIC
from allpet.provenance import file_hash, provenance
from allpet.report.table import plain

TABLES = {
    table.name: table
    for table in (
        GENERATION,
        TASKS,
        LOW_DOSE,
        LOWSHOT,
        ARMS_TABLE,
        SYNTHETIC,
        MASKS,
        LESIONS,
        OBSERVER,
        REGIONS,
        STRANGE,
        COST,
    )
}
PIECES, WORK, JSON, HTML = "pieces", "work", "report.json", "report.html"
FLOAT32 = 1.6
"""How much longer all takes where networks run in float32: the standard size took 8,911 s for 5,479 s expected."""


@dataclass(frozen=True)
class Planned:
    """A piece in its place: table, evaluation seed (None: shared among tables), part, and the piece itself."""

    table: str
    seed: int | None
    part: Part
    piece: Any
    figure: bool = False


def plan(
    setting: Setting,
    tables: Sequence[Table],
    seeds: Sequence[int],
    model: str | None,
    model_hash: str,
    precision: str = "auto",
) -> list[Planned]:
    """All pieces of the tables, each once."""
    from allpet.dist.pieces import Piece

    out: dict[str, Planned] = {}
    given = dict(model=model, digest=model_hash, precision=precision)
    for table in tables:
        for seed in seeds:
            drawing = table.figures(setting, seed) if seed == seeds[0] and table.parts(setting, seed) else ()
            for part in (*table.parts(setting, seed), *drawing):
                shared = part.name.startswith("training.")
                name = part.name if shared else f"{table.name}.{seed}.{part.name}"
                options = part.options | (given if part.model else {})
                piece = Piece(name, part.call, options, {"model": model_hash, "code": code()})
                out.setdefault(name, Planned(table.name, None if shared else seed, part, piece, part in drawing))
    return list(out.values())


def evaluate_all(
    out: Path,
    size: str = "standard",
    only: Sequence[str] = (),
    seed: int = 0,
    model: Path | None = None,
    workers: int = 1,
    scheduler: str | None = None,
    precision: str = "auto",
    expected: Mapping[str, Expected] | None = None,
    echo: Callable[[str], None] = print,
    progress: Callable[[str, float], None] | None = None,
) -> dict[str, Any]:
    """Run what is missing and write ``report.json`` and ``report.html``; gives what the JSON holds.

    Parameters
    ----------
    out : folder; pieces kept there are not run again. only : names of :data:`TABLES`; default all. seed : run k
    has the evaluation seeds k R to k R + R - 1 of its size's R. workers, scheduler : as
    :func:`allpet.dist.pieces.run_pieces`. precision : of the networks. expected : default: the package's. echo,
    progress : are told what happens.

    Raises
    ------
    AllpetError : unknown size or table, no model, a folder that cannot be written; as the pieces.
    """
    from allpet.dist.pieces import kept, run_pieces
    from allpet.evidence.report import write_report
    from allpet.io.files import replacing
    from allpet.model import AllPET
    from allpet.precision import resolve

    if size not in SIZES:
        raise AllpetError(f"size '{size}' is unknown; known: {', '.join(SIZES)}")
    unknown = [name for name in only if name not in TABLES]
    if unknown:
        raise AllpetError(f"table '{unknown[0]}' is unknown; known: {', '.join(TABLES)}")
    loaded = AllPET.from_pretrained(model)
    known = SIZES[size]
    setting = Setting(known, tuple(loaded.config["log_mean"]), str((out / WORK).resolve()))
    seeds = [seed * known.repeats + k for k in range(known.repeats)]
    tables = [table for name, table in TABLES.items() if not only or name in only]
    path = None if model is None else str(model.resolve())
    planned = plan(setting, tables, seeds, path, loaded.hash, precision)
    keep = out / PIECES
    todo = [one for one in planned if kept(one.piece, keep) is None]
    about = sum(one.part.seconds for one in todo) * (1.0 if resolve(precision, "cpu") == "bf16" else FLOAT32)
    echo(
        f"evaluate all, {size}: {len(planned)} pieces, {len(planned) - len(todo)} kept; the rest takes about "
        f"{_minutes(about)} of processor time"
        + (f", {_minutes(about / workers)} in {workers} processes" if workers > 1 else "")
    )
    results: dict[str, dict[str, Any]] = {}
    for stage in sorted({one.part.stage for one in planned}):
        pieces = [one.piece for one in planned if one.part.stage == stage]
        results |= run_pieces(pieces, keep, scheduler=scheduler, workers=workers, progress=progress)
    costs = [
        dict(name=one.piece.name, seconds=found["seconds"], peak_memory_mib=found["peak_memory_mib"])
        for one in planned
        if (found := kept(one.piece, keep)) is not None
    ]
    gathered, values, figures = _gather(tables, planned, results, seeds)
    wanted = expectations(size) if expected is None else expected
    judged = judge(values, wanted, size)
    asked = [name for name in wanted if name in headlines() and headlines()[name].table in gathered]
    report: dict[str, Any] = dict(
        size=size,
        seeds=seeds,
        precision=precision,
        **provenance(seed=seed, model_hash=loaded.hash),
        machine=machine(),
        seconds=sum(one["seconds"] for one in costs),
        estimate_seconds=sum(one.part.seconds for one in planned),
        left_out=[*known.left_out, *([f"Only these tables were asked for: {', '.join(only)}."] if only else [])],
        headlines=plain([one.plain() for one in judged]),
        missing=[name for name in asked if not values.get(name)],
        tables=plain(gathered),
        pieces=costs,
    )
    with replacing(out / JSON) as (part,):
        part.write_text(json.dumps(report, indent=1), encoding="utf-8")
    write_report(out / HTML, report, setting, {table.name: table for table in tables}, judged, gathered, figures)
    return report


def _gather(
    tables: Sequence[Table], planned: Sequence[Planned], results: Found, seeds: Sequence[int]
) -> tuple[dict[str, Any], dict[str, dict[int, float]], dict[str, list[dict[str, Any]]]]:
    """Rows by table, values of headline figures by name, and results of the pieces that draw."""
    gathered: dict[str, Any] = {}
    values: dict[str, dict[int, float]] = {}
    figures: dict[str, list[dict[str, Any]]] = {}
    for table in tables:
        mine = [one for one in planned if one.table == table.name and one.seed is not None]
        by_seed = {
            seed: {one.part.name: results[one.piece.name] for one in mine if one.seed == seed and not one.figure}
            for seed in seeds
        }
        by_seed = {seed: one for seed, one in by_seed.items() if one}
        if not by_seed:
            continue
        gathered[table.name] = table.gather(list(by_seed.values()))
        figures[table.name] = [results[one.piece.name] for one in mine if one.figure]
        for seed, one in by_seed.items():
            for name, value in table.headlines(one).items():
                if value is not None:
                    values.setdefault(name, {})[seed] = float(value)
    return gathered, values, figures


@cache
def code() -> str:
    """Hash of all code of the package: with other code a kept piece is run again."""
    import allpet

    return file_hash(*sorted(Path(allpet.__file__).parent.rglob("*.py")))


def read_report(path: Path) -> dict[str, Any]:
    """A ``report.json``, or the one in a folder.

    Raises
    ------
    AllpetError : it is not there, or no report.
    """
    path = path / JSON if path.is_dir() else path
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise AllpetError(f"{path}: cannot be read as a report ({error}); give a report.json of evaluate all") from None
    if not isinstance(found, dict) or "headlines" not in found:
        raise AllpetError(f"{path}: is no report; give a report.json of evaluate all")
    return found


def machine() -> dict[str, Any]:
    """Processor, cores, threads, and the versions that numbers depend on."""
    import numpy
    import torch

    from allpet.precision import resolve

    return dict(
        processor=_processor(),
        cores=os.cpu_count(),
        threads=torch.get_num_threads(),
        arithmetic=resolve("auto", "cpu"),
        system=f"{platform.system()} {platform.machine()}",
        python=".".join(map(str, sys.version_info[:3])),
        torch=torch.__version__,
        numpy=numpy.__version__,
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} minutes"
