"""The site: it builds without a warning, loads nothing from elsewhere, and every docstring in it is well-formed."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("sphinx")
pytest.importorskip("myst_parser")

ROOT = Path(__file__).resolve().parents[1]
DOCS, SOURCE = ROOT / "docs", ROOT / "src" / "allpet"
LOADS = {
    "script": "src",
    "link": "href",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "object": "data",
}
MIB = 2**20


@pytest.fixture(scope="module")
def extension() -> ModuleType:
    """What the site adds to Sphinx."""
    spec = importlib.util.spec_from_file_location("allpet_site", DOCS / "_site" / "allpet_site.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site without the pages of docstrings, which take most of the time and are checked below."""
    folder = tmp_path_factory.mktemp("site")
    words = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "-D", "without_api=1"]
    words += ["-d", str(folder / "doctrees"), str(DOCS), str(folder / "html")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "html"


class _Loads(HTMLParser):
    """What a page makes the browser fetch, and what it says inline."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        if tag == "link" and known.get("rel") in ("canonical", "next", "prev", "index", "search", "author"):
            return
        value = known.get(LOADS.get(tag, ""))
        if value:
            self.found.append(value)
        self.found += re.findall(r"url\(['\"]?([^'\")]+)", known.get("style") or "")


def test_pages_load_nothing_from_elsewhere(site: Path):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 40
    for page in pages:
        reader = _Loads()
        reader.feed(page.read_text(encoding="utf-8"))
        assert reader.found
        for target in reader.found:
            assert not re.match(r"(\w+:)?//", target), (page.name, target)
            if not target.startswith("data:"):
                assert (page.parent / re.split("[?#]", target)[0]).exists(), (page.name, target)
    for sheet in site.rglob("*.css"):
        text = sheet.read_text(encoding="utf-8")
        assert not re.search(r"(url\(\s*['\"]?|@import\s+['\"])(https?:)?//", text), sheet.name


def test_the_site_is_small_and_names_this_version(site: Path):
    import allpet

    assert sum(f.stat().st_size for f in site.rglob("*") if f.is_file()) < 30 * MIB
    assert f"allpet {allpet.__version__}" in (site / "index.html").read_text(encoding="utf-8")


def test_every_command_and_option_is_on_the_site(site: Path):
    from allpet import cli

    text = re.sub("<[^>]+>", "", (site / "reference" / "commands.html").read_text(encoding="utf-8"))
    names = re.findall(r'subcommand\("(\w+)"\)', (SOURCE / "cli.py").read_text(encoding="utf-8"))
    assert len(names) >= 13 and cli.Command is not None
    for name in names:
        assert f"allpet {name}" in text
    for option in ("--dose-fraction FLOAT", "--max-minutes FLOAT", "--roi PATH", "--scanner STR"):
        assert option in text


def test_every_stage_has_a_page_of_docstrings(extension: ModuleType):
    pages = {path.stem for path in (DOCS / "reference" / "api").glob("*.md")}
    for stage in pages:
        assert extension.public_modules(stage), stage
    public = {"geometry", "scan", "io", "project", "mask", "model", "diffusion", "task", "recon", "metrics", "train"}
    assert public <= pages


def test_docstrings_are_well_formed(extension: ModuleType):
    """As Sphinx reads them, without its imports: no warning from docutils."""
    from docutils.core import publish_doctree
    from docutils.nodes import literal, system_message
    from docutils.parsers.rst import roles
    from sphinx.ext.napoleon import Config, NumpyDocstring

    def as_text(name, rawtext, text, lineno, inliner, options=None, content=None):  # type: ignore[no-untyped-def]
        return [literal(rawtext, text)], []

    for role in ("func", "class", "mod", "meth", "data", "attr", "obj", "exc"):
        roles.register_local_role(role, as_text)
    config = Config(napoleon_use_rtype=False, napoleon_use_ivar=True, napoleon_google_docstring=False)
    texts: list[tuple[str, str]] = []
    for page in (DOCS / "reference" / "api").glob("*.md"):
        for module in extension.public_modules(page.stem):
            parts = module.split(".")[1:]
            path = SOURCE.joinpath(*parts, "__init__.py")
            path = path if path.exists() else SOURCE.joinpath(*parts).with_suffix(".py")
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                    name = getattr(node, "name", "")
                    text = ast.get_docstring(node)
                    if text and not (name.startswith("_") and name != "__init__"):
                        texts.append((f"{module}.{name}", text))
    assert len(texts) > 500
    wrong = []
    quiet = {"report_level": 5, "halt_level": 6, "raw_enabled": False}
    for name, text in texts:
        lines = text.splitlines()
        extension.spread_parameters(None, "function", name, None, None, lines)
        ready = str(NumpyDocstring(lines, config, what="function", name=name))
        for message in publish_doctree(ready, settings_overrides=quiet).findall(system_message):
            if message["level"] >= 2 and "Unknown directive" not in message.astext():
                wrong.append(f"{name}: {message.astext()}")
    assert not wrong, "\n".join(wrong)
