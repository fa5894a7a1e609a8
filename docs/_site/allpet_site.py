"""What the site makes of the package: commands from their own help, a page of every stage from docstrings.

Pages in ``reference/`` hold a title and a few words; the rest is appended when they are read.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parents[1]
PACKAGE = DOCS.parent / "src" / "allpet"
PARAMETER = re.compile(r"(?:^|(?<=[.;] )|(?<=\n))(\*{0,2}\w+(?:, \*{0,2}\w+)*) : ")
COMMANDS, API = "reference/commands", "reference/api/"


def commands() -> str:
    """Every command and its options, as Markdown."""
    import tyro

    from allpet.cli import STYLE, Command

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        parser = tyro.extras.get_parser(Command, prog="allpet", config=STYLE)
    return "\n".join(_describe(parser, "allpet", 1))


def _describe(parser: Any, name: str, level: int) -> Iterator[str]:
    """A parser and those below it."""
    inner = [action for action in parser._actions if action.choices and hasattr(action.choices, "items")]
    options = [action for action in parser._actions if action not in inner and "--help" not in action.option_strings]
    if level > 1:
        yield f"{'#' * min(level, 3)} `{name}`\n"
        yield _escape(parser.description or "") + "\n"
    if options:
        needed = [action for action in options if not action.option_strings]
        words = [str(action.metavar) for action in needed]
        words += [_flag(action) for action in options if action.option_strings and "(required)" in (action.help or "")]
        yield f"```text\n{' '.join([name, *words])} [options]\n```\n"
        yield "| option | what |\n|---|---|"
        for action in options:
            yield f"| `{_flag(action)}` | {_cell(action.help or '')} |"
        yield ""
    for action in inner:
        for word, below in action.choices.items():
            yield from _describe(below, f"{name} {word}", level + 1)


def _flag(action: Any) -> str:
    """An option with what it takes, as in ``--seed INT``."""
    takes = "" if action.nargs == 0 or action.metavar is None else f" {action.metavar}"
    return (", ".join(action.option_strings) + takes).strip().replace("|", "\\|")


def _cell(text: str) -> str:
    """Help for a cell of a table; a default that is none says nothing."""
    text = re.sub(r"\s*\(default: None\)", "", " ".join(text.split()))
    return _escape(text)


def _escape(text: str) -> str:
    """Text that Markdown leaves as it is."""
    return re.sub(r"([|*_<>\[\]`$])", r"\\\1", text.replace("--", "\\-\\-"))


def public_modules(stage: str) -> list[str]:
    """Modules of a stage that hold something public with a docstring, the package itself first."""
    folder = PACKAGE / stage
    files = (
        [folder / "__init__.py", *sorted(folder.glob("[a-z]*.py"))] if folder.is_dir() else [PACKAGE / f"{stage}.py"]
    )
    found = []
    for path in files:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        kinds = (ast.FunctionDef, ast.ClassDef)
        if any(isinstance(n, kinds) and not n.name.startswith("_") and ast.get_docstring(n) for n in tree.body):
            parts = path.relative_to(PACKAGE).with_suffix("").parts
            found.append(".".join(("allpet", *parts)).removesuffix(".__init__"))
    return found


def api(stage: str) -> str:
    """Directives for the modules of a stage, as Markdown."""
    blocks = []
    for module in public_modules(stage):
        blocks.append(f"## `{module}`\n\n```{{eval-rst}}\n.. automodule:: {module}\n```\n")
    return "\n".join(blocks)


def read_source(app: Any, docname: str, source: list[str]) -> None:
    """Append what is generated; give tables that commands write a title."""
    if docname == "index":  # pages that a command writes may not be there yet
        lines = source[0].splitlines()
        source[0] = "\n".join(line for line in lines if not line.endswith("*") or any(DOCS.glob(line + ".md")))
    elif docname == COMMANDS:
        source[0] += "\n" + commands()
    elif docname.startswith(API):
        source[0] += "\n" + ("" if app.config.without_api else api(docname.removeprefix(API)))
    elif docname.startswith("results/") and not re.search(r"^# ", source[0], re.MULTILINE):
        source[0] = f"# All numbers: {docname.removeprefix('results/')}\n\n{source[0]}"


def spread_parameters(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Our sections put ``name : text`` on one line, often several in a row; numpydoc wants the text below the name."""
    out: list[str] = []
    k = 0
    while k < len(lines):
        if k + 1 < len(lines) and lines[k] in ("Parameters", "Raises") and re.fullmatch("-{3,}", lines[k + 1].strip()):
            end = next((m for m in range(k + 2, len(lines)) if not lines[m].strip()), len(lines))
            text = "\n".join(line.strip() for line in lines[k + 2 : end])
            pieces = PARAMETER.split(text)
            out += lines[k : k + 2]
            for names, said in zip(pieces[1::2], pieces[2::2], strict=True):
                out += [names, "    " + " ".join(said.split())]
            k = end
        elif k + 1 < len(lines) and lines[k] == "Returns" and re.fullmatch("-{3,}", lines[k + 1].strip()):
            end = next((m for m in range(k + 2, len(lines)) if not lines[m].strip()), len(lines))
            after = [line.strip() for line in lines[end:] if line.strip()]
            if not after or re.fullmatch("-{3,}", after[1] if len(after) > 1 else ""):
                out += ["", ":returns: " + " ".join(line.strip() for line in lines[k + 2 : end]), ""]
            else:  # with paragraphs and tables of its own
                out += lines[k:end]
            k = end
        else:
            out.append(lines[k])
            k += 1
    lines[:] = out


def setup(app: Any) -> dict[str, Any]:
    """Sphinx calls this."""
    app.add_config_value("without_api", False, "env")  # -D without_api=1: nine tenths of the time
    app.connect("source-read", read_source)
    app.connect("autodoc-process-docstring", spread_parameters, priority=100)
    return {"parallel_read_safe": True}
