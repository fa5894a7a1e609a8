"""Named pieces of work whose results are kept, so that a run that was killed goes on, here or on a cluster.

A piece is a function of a module with options that are plain JSON; it returns a dict that is plain JSON. Its result is
kept in a file ``NAME-XXXXXXXXXXXX.json`` whose last part is a hash of all that the result depends on: name, function,
options, key and version. A piece whose file is there is not run again; one whose options changed gets another file.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from allpet import __version__
from allpet.errors import AllpetError

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Piece:
    """One piece of work.

    Parameters
    ----------
    name : letters, digits, ``.``, ``_`` and ``-``; starts the name of its file. call : ``"module:function"``.
    options : its keyword arguments, plain JSON. key : what else the result depends on, such as the model's hash.
    """

    name: str
    call: str
    options: dict[str, Any] = field(default_factory=dict)
    key: dict[str, Any] = field(default_factory=dict)

    @property
    def identity(self) -> dict[str, Any]:
        """All that the result depends on."""
        return {**asdict(self), "version": __version__}

    @property
    def file(self) -> str:
        """Name of the file that keeps its result.

        Raises
        ------
        AllpetError : a name that is no file name, or options that are not plain JSON.
        """
        if not re.fullmatch(r"[A-Za-z0-9._-]+", self.name) or self.name.startswith("."):
            raise AllpetError(f"piece {self.name!r}: a name is letters, digits, '.', '_' and '-'")
        try:
            text = json.dumps(self.identity, sort_keys=True, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise AllpetError(f"piece {self.name}: options and key must be plain JSON ({error})") from None
        return f"{self.name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}.json"


def run_pieces(
    pieces: Sequence[Piece],
    keep: Path,
    *,
    scheduler: str | None = None,
    workers: int = 1,
    progress: Progress | None = None,
) -> dict[str, dict[str, Any]]:
    """Run the pieces whose results are not kept yet; the results of all, by name and in the order given.

    Parameters
    ----------
    keep : folder of the results; made if it is not there. With workers on other machines only this process writes it.
    scheduler : as :func:`allpet.dist.cluster.connected`; None runs the pieces here: one after the other, or with
        `workers` above 1 in so many processes of one thread each.
    progress : called with a piece's name and the share of all that is done then, 0 to 1; first with those kept.

    Raises
    ------
    AllpetError : two pieces of one name; options or a result that are not plain JSON; as the pieces. What is finished
        is kept.
    """
    _check_names(pieces)
    results: dict[str, dict[str, Any]] = {}
    todo: list[Piece] = []
    for piece in pieces:
        found = kept(piece, keep)
        if found is None:
            todo.append(piece)
        else:
            results[piece.name] = found["result"]
            _tell(progress, piece, results, pieces)
    try:
        keep.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AllpetError(f"{keep}: cannot be made ({error.strerror or error})") from None
    for piece, record in _run(todo, scheduler, workers):
        _keep(piece, record, keep)
        results[piece.name] = record["result"]
        _tell(progress, piece, results, pieces)
    return {piece.name: results[piece.name] for piece in pieces}


def kept(piece: Piece, keep: Path) -> dict[str, Any] | None:
    """What is kept of a piece: `piece` (identity), `result`, `seconds`, `peak_memory_mib`; None if it has to run."""
    try:
        found = json.loads((keep / piece.file).read_bytes())
    except (OSError, ValueError):
        return None
    same = isinstance(found, dict) and found.get("piece") == json.loads(json.dumps(piece.identity))
    return found if same and isinstance(found.get("result"), dict) else None


def run_piece(piece: Piece) -> dict[str, Any]:
    """Run one piece here; its `result`, `seconds`, and `peak_memory_mib` of this process meanwhile.

    Raises
    ------
    AllpetError : the result is not plain JSON; as the piece.
    """
    module, _, function = piece.call.partition(":")
    work = getattr(import_module(module), function)
    _forget_peak()
    start = time.perf_counter()
    result = work(**piece.options)
    seconds = time.perf_counter() - start
    if not isinstance(result, Mapping):
        raise AllpetError(f"piece {piece.name}: {piece.call} gave a {type(result).__name__}; it must give a dict")
    try:
        plain = json.loads(json.dumps(result, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise AllpetError(f"piece {piece.name}: {piece.call} gave what JSON cannot hold ({error})") from None
    return {"result": plain, "seconds": round(seconds, 3), "peak_memory_mib": _peak_mib()}


def _run(todo: list[Piece], scheduler: str | None, workers: int) -> Any:
    """Pieces with their records, as they come."""
    if scheduler is None and workers == 1:
        return ((piece, run_piece(piece)) for piece in todo)
    from allpet.dist.cluster import results_of

    calls = [(piece,) for piece in todo]
    named = [f"piece {piece.name}" for piece in todo]
    return ((todo[k], record) for k, record in results_of(run_piece, calls, named, scheduler or "local", workers))


def _keep(piece: Piece, record: Mapping[str, Any], keep: Path) -> None:
    from allpet.io.files import replacing

    data = json.dumps({"piece": piece.identity, **record}, indent=1)
    with replacing(keep / piece.file) as (part,):
        part.write_text(data, encoding="utf-8")


def _check_names(pieces: Sequence[Piece]) -> None:
    names = [piece.name for piece in pieces]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise AllpetError(f"pieces {', '.join(twice)}: every piece needs a name of its own")


def _tell(progress: Progress | None, piece: Piece, results: Mapping[str, Any], pieces: Sequence[Piece]) -> None:
    if progress is not None:
        progress(piece.name, len(results) / len(pieces))


def _forget_peak() -> None:
    """Begin to measure the peak anew, where the system can (Linux); elsewhere it is that of the whole process."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass


def _peak_mib() -> float | None:
    """Largest resident memory of this process since :func:`_forget_peak`."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return round(int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) / 1024, 1)
    except (OSError, StopIteration, ValueError):
        pass
    if os.name != "posix":
        return None
    import resource
    import sys

    return round(
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10), 1
    )
