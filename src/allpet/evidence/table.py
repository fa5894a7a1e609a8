"""What a table of the report consists of: pieces for each evaluation seed, rows of their results, headline figures."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from allpet.evidence.sizes import Size
from allpet.report.page import Table as PageTable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from allpet.model import AllPET

Found = Mapping[str, dict[str, Any]]
"""Results of a table's pieces by name, of one evaluation seed."""


@dataclass(frozen=True)
class Part:
    """A piece of a table.

    Parameters
    ----------
    name : of it within the table; one that starts with "training." is shared by tables. call : ``"module:function"``.
    options : its keyword arguments, plain JSON. seconds : about how long it takes one core. model : whether it is given
    ``model``, ``digest`` and ``precision``, too. stage : those of a lower one are done first.
    """

    name: str
    call: str
    options: dict[str, Any]
    seconds: float
    model: bool = True
    stage: int = 2


@dataclass(frozen=True)
class Setting:
    """What pieces are made for.

    Parameters
    ----------
    size : numbers of everything. prompts : that the model knows. work : folder for what is trained.
    """

    size: Size
    prompts: tuple[str, ...]
    work: str


@dataclass(frozen=True)
class Table:
    """One section of the report.

    Parameters
    ----------
    name : for ``--only`` and JSON. title, about : heading, and what, n, baseline and command. parts : pieces for one
    evaluation seed. gather : rows from the results of all seeds. text : the rows as Markdown. headlines : figures of
    one seed. figures : pieces that draw; run once. drawn : figures made of the rows.
    """

    name: str
    title: str
    about: Callable[[Setting], Sequence[str]]
    parts: Callable[[Setting, int], Sequence[Part]]
    gather: Callable[[Sequence[Found]], Any]
    text: Callable[[Any], str]
    headlines: Callable[[Found], dict[str, float | None]] = field(default=lambda found: {})
    figures: Callable[[Setting, int], Sequence[Part]] = field(default=lambda setting, seed: ())
    drawn: Callable[[Any], Sequence[tuple[Figure | bytes, str]]] = field(default=lambda rows: ())


@lru_cache(maxsize=1)
def load(model: str | None, precision: str, digest: str) -> AllPET:
    """The model; `digest` is its hash, so that other weights in the same folder are another model."""
    from allpet.errors import AllpetError
    from allpet.model import AllPET

    made = AllPET.from_pretrained(model)
    if made.hash != digest:
        raise AllpetError(f"{model or 'the shipped weights'}: changed while they were judged; run again")
    for part in (made.denoiser, made.translator, made.focus, *made.adapted.values()):
        if part is not None:
            part.precision = precision
    return made


def mean(values: Sequence[float | None]) -> float | None:
    """Mean of what is there."""
    known = [float(v) for v in values if v is not None]
    return sum(known) / len(known) if known else None


def drawn(*figures: tuple[Figure | bytes, str]) -> dict[str, Any]:
    """The result of a piece that draws."""
    from allpet.report.figures import png

    made = [(one if isinstance(one, bytes) else png(one), caption) for one, caption in figures]
    return {"figures": [{"png": base64.b64encode(data).decode("ascii"), "caption": caption} for data, caption in made]}


def figures_of(result: Mapping[str, Any]) -> list[tuple[bytes, str]]:
    """What :func:`drawn` kept."""
    return [(base64.b64decode(one["png"]), str(one["caption"])) for one in result["figures"]]


def page_tables(markdown: str) -> list[PageTable]:
    """The tables in Markdown; a line of text before one is its caption."""
    out, caption, lines = [], "", [*markdown.splitlines(), ""]
    block: list[list[str]] = []
    for line in lines:
        if line.startswith("|"):
            block.append([cell.strip().strip("*") for cell in line.strip().strip("|").split("|")])
            continue
        if block:
            out.append(PageTable(caption, block[0], block[2:]))
            block, caption = [], ""
        if line.strip():
            caption = f"{caption} {line.strip()}".strip()
    if caption:
        out.append(PageTable(caption, (), ()))
    return out
