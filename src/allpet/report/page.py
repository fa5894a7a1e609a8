"""One self-contained HTML page: headings, text, tables, embedded figures. It loads nothing from elsewhere."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from allpet.io.files import replacing
from allpet.report.figures import png

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #fdfdfc; --soft: #5c6570; --line: #d9dde2; --mark: #0b5c8a; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e8ea; --paper: #16191d; --soft: #9aa4af; --line: #343b43; --mark: #6bb7e3; }
}
body { font: 16px/1.55 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 0 auto;
  max-width: 68rem; padding: 1.5rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0.5rem 0; }
h2 { font-size: 1.35rem; margin: 2.5rem 0 0.5rem; padding-top: 1rem; border-top: 1px solid var(--line); }
p { max-width: 46rem; }
nav a { color: var(--mark); margin-right: 1rem; }
figure { margin: 1rem 0; }
figure img { max-width: 100%; height: auto; background: #fff; border-radius: 4px; }
figcaption, footer, .note { color: var(--soft); font-size: 0.88rem; max-width: 52rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; font-size: 0.92rem; }
caption { text-align: left; color: var(--soft); padding-bottom: 0.3rem; }
th, td { padding: 0.25rem 0.9rem 0.25rem 0; text-align: right; border-bottom: 1px solid var(--line); }
th { vertical-align: bottom; }
td { white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
footer { margin-top: 3rem; border-top: 1px solid var(--line); padding-top: 0.8rem; }
footer dt { float: left; clear: left; width: 9rem; }
footer dd { margin-left: 9rem; overflow-wrap: anywhere; }
"""


@dataclass(frozen=True)
class Table:
    """Numbers with a caption that says what they are; ``rows`` are ready to print, first column names the row."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Section:
    """A heading, paragraphs, figures (or PNG files) with captions, and tables."""

    title: str
    text: Sequence[str] = ()
    figures: Sequence[tuple[Figure | bytes, str]] = ()
    tables: Sequence[Table] = field(default_factory=tuple)


def write_page(path: Path, title: str, lead: Sequence[str], sections: Sequence[Section], facts: dict[str, Any]) -> None:
    """Write the page in one piece.

    Parameters
    ----------
    path : file to write; an older one is replaced when the new one is whole.
    lead : paragraphs under the title. facts : provenance shown at the foot.

    Raises
    ------
    AllpetError : the folder cannot be written.
    """
    page = render(title, lead, sections, facts)
    with replacing(path) as (part,):
        part.write_text(page, encoding="utf-8")


def render(title: str, lead: Sequence[str], sections: Sequence[Section], facts: dict[str, Any]) -> str:
    """The page as text; every word is escaped."""
    links = "".join(f'<a href="#part{k}">{escape(part.title)}</a> ' for k, part in enumerate(sections, 1))
    body = "".join(_section(k, part) for k, part in enumerate(sections, 1))
    foot = "".join(f"<dt>{escape(str(name))}</dt><dd>{escape(str(value))}</dd>" for name, value in facts.items())
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>"
        f"<header><h1>{escape(title)}</h1>{_paragraphs(lead)}<nav>{links}</nav></header>"
        f"<main>{body}</main>"
        f"<footer><p>For research only; not for diagnosis or treatment.</p><dl>{foot}</dl></footer></body></html>\n"
    )


def _section(number: int, part: Section) -> str:
    figures = "".join(_figure(figure, caption) for figure, caption in part.figures)
    tables = "".join(_table(table) for table in part.tables)
    heading = f'<h2 id="part{number}">{escape(part.title)}</h2>'
    return f"<section>{heading}{_paragraphs(part.text)}{figures}{tables}</section>"


def _paragraphs(text: Sequence[str]) -> str:
    return "".join(f"<p>{escape(one)}</p>" for one in text)


def _figure(figure: Figure | bytes, caption: str) -> str:
    data = base64.b64encode(figure if isinstance(figure, bytes) else png(figure)).decode("ascii")
    words = escape(caption, quote=True)
    return f'<figure><img alt="{words}" src="data:image/png;base64,{data}"><figcaption>{words}</figcaption></figure>'


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in table.columns)
    rows = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows)
    return (
        f'<div class="scroll"><table><caption>{escape(table.caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )
