"""A table of results on disk: numbers as JSON, and the same to read as Markdown."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Rows = list[dict[str, Any]] | dict[str, Any]
"""One table, or several by name."""


def plain(value: Any) -> Any:
    """Plain JSON: numbers that are not finite become None, arrays lists."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_table(name: str, rows: Rows, text: str, out: Path, facts: dict[str, Any]) -> None:
    """Write ``NAME.json`` (rows and where they come from) and ``NAME.md`` to a folder."""
    from allpet.io.files import replacing

    out.mkdir(parents=True, exist_ok=True)
    with replacing(out / f"{name}.json", out / f"{name}.md") as (numbers, table):
        numbers.write_text(json.dumps(plain(dict(rows=rows, provenance=facts)), indent=1), encoding="utf-8")
        table.write_text(text + "\n", encoding="utf-8")
