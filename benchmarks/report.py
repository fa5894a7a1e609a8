"""Tables and figures of the benchmarks: ``results/*.json`` to ``docs/benchmarks.md`` and ``docs/benchmarks-*.png``.

    python benchmarks/report.py [--results DIR] [--out DIR]

No number on that page is typed by hand; what a group does is the head of its ``time_GROUP.py``. The fits are kept in
``results/fits.json``.
"""

from __future__ import annotations

import argparse
import ast
import json
import sys
import textwrap
from pathlib import Path
from typing import Any

from figures import CAPTIONS, LIMIT_GIB, PEERS, draw
from fits import Fit, grown
from run import GROUPS

HERE = Path(__file__).resolve().parent
BASE = "allpet"
BUSY = 0.5
"""Load a core before the first group from which on the machine was not idle."""
TITLES = {
    "projector": "Projector",
    "recon": "Reconstruction",
    "masks": "Masks",
    "files": "Readers and writers",
    "simulate": "Simulation",
    "train": "Training step",
    "generate": "Generation",
    "tasks": "Tasks",
    "attend": "Attention",
}
Row = dict[str, Any]


def load(folder: Path) -> tuple[list[Row], list[dict[str, Any]]]:
    """All rows, and of every file what it was measured on, the earliest first."""
    rows: list[Row] = []
    files = []
    for path in sorted(folder.glob("*.json")):
        kept = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(kept, dict) and "machine_info" in kept and "benchmarks" in kept:
            rows += kept["benchmarks"]
            groups = sorted({row["group"] for row in kept["benchmarks"]})
            facts = {"datetime": kept["datetime"], "commit": kept["commit"], "groups": groups}
            files.append({**kept["machine_info"], **facts})
    return rows, sorted(files, key=lambda file: str(file["datetime"]))


def seconds(row: Row) -> float:
    """Median time of a unit of work."""
    return float(row["stats"]["median"]) / row["count"]


def ratios(rows: list[Row]) -> dict[tuple[str, str], float]:
    """Time of every job and tool over that of the job's own row."""
    own = {row["job"]: seconds(row) for row in rows if row["tool"] == BASE}
    return {(row["job"], row["tool"]): seconds(row) / own[row["job"]] for row in rows if row["job"] in own}


def table(header: list[str], lines: list[list[str]]) -> str:
    """A table in Markdown."""
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [header, ["---"] * len(header), *lines]) + "\n"


def span(value: float) -> str:
    """A time with a unit that suits it."""
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if value * factor >= 1:
            return f"{value * factor:.3g} {unit}"
    return f"{value * 1e9:.3g} ns"


def group_table(rows: list[Row]) -> str:
    """The rows of one group."""
    over = ratios(rows)
    lines, last = [], ""
    for row in sorted(rows, key=lambda row: [r["job"] for r in rows].index(row["job"])):
        extra = []
        if "difference" in row:
            extra.append(f"differs by {100 * row['difference']:.2g} %")
        if "evaluations" in row:
            extra.append(f"{row['evaluations']} evaluations")
        if "weights" in row:
            extra.append(f"{row['weights'] / 1e6:.1f} M weights")
        if "mean_absolute_correlation" in row:
            extra.append(
                f"masks: mean absolute correlation {row['mean_absolute_correlation']}, "
                f"participation ratio {row['participation_ratio']}, {row['samples']:,} in all"
            )
        ratio = over.get((row["job"], row["tool"]))
        spread = f"{100 * row['stats']['iqr'] / row['stats']['median']:.0f} %, " if row["stats"]["rounds"] > 1 else ""
        lines.append(
            [
                "" if row["job"] == last else row["job"],
                f"**{row['tool']}**" if row["tool"] == BASE else row["tool"],
                str(row["threads"]),
                f"{span(seconds(row))} / {row['unit']}",
                f"{spread}{row['stats']['rounds']}",
                "" if ratio is None else f"{ratio:.3g}",
                "; ".join(extra),
            ]
        )
        last = row["job"]
    return table(["job", "tool", "threads", "time", "IQR, rounds", "ratio", "facts"], lines)


def machine_text(files: list[dict[str, Any]]) -> str:
    """What the numbers hold for, and whether it was at rest."""
    first = files[0]
    packages = ", ".join(f"{name} {version}" for name, version in first["packages"].items())
    lines = [
        f"{first['processor']}, {first['cores']} cores, {first['threads']} threads of torch's, {first['precision']} "
        f"in networks, {first['system']}, Python {first['python']}; {packages}. Measured "
        f"{str(first['datetime'])[:10]} at commit {str(first['commit']['id'])[:10]}"
        f"{' with changes' if first['commit']['dirty'] else ''}; load before: {first['load_before']}."
    ]
    tiny = sorted(group for file in files if file["tiny"] for group in file["groups"])
    if tiny:
        lines.append(f"**Tiny sizes ({', '.join(tiny)}): these numbers show that it runs, and nothing else.**")
    if first["load_before"] > BUSY * first["cores"]:
        lines.append(
            "**The machine was not idle: these numbers show that it runs; ratios are rough, times are not to use.**"
        )
    if len({(file["processor"], file["threads"]) for file in files}) > 1:
        lines.append("**The groups were not all measured on one machine.**")
    return "\n".join(lines)


def growth_tables(fits: list[Fit]) -> str:
    """How time and memory grow, with the fits."""
    time_lines, memory_lines = [], []
    for fit in fits:
        points = ", ".join(f"{n}: {span(t)}" for n, t in zip(fit.sizes, fit.seconds, strict=True))
        time_lines.append([fit.name, fit.axis, points, fit.time_text(), f"{100 * fit.residual:.0f} %"])
        if fit.memory:
            points = ", ".join(f"{n}: {mib:.0f}" for n, mib in zip(fit.memory_sizes, fit.memory, strict=True))
            memory_lines.append([fit.name, points, f"{max(fit.memory) / 1024:.2f} GiB", fit.memory_text()])
    return (
        table(["job", "what grows", "time", "fit", "largest residual"], time_lines)
        + "\n"
        + table(["job", "peak, MiB", "largest", "fit"], memory_lines)
    )


def whole(rows: list[Row], files: list[dict[str, Any]], fits: list[Fit], pictures: list[Path], folder: Path) -> str:
    """The page."""
    parts = [
        "# Benchmarks\n",
        "Made by `make bench` (or `make bench ONLY='projector recon'`), which times every group in one run beside "
        "its peers, writes `benchmarks/results/*.json` and makes this page of them; no number here is typed by hand.\n",
        machine_text(files) + "\n",
        "A time is the median of its rounds for one unit of work. **Ratio**: its time over that of the job's row "
        f"**{BASE}**, so above 1 {BASE} is faster. Peers are compared with ours before they are timed (relative L2 "
        "difference under facts), with the same float type and, where they can use several, the same threads.\n",
    ]
    parts += [_picture(path) for path in pictures if path.name == PEERS]
    for group, title in TITLES.items():
        mine = [row for row in rows if row["group"] == group]
        if mine:
            head = ast.get_docstring(ast.parse((HERE / f"time_{group}.py").read_text(encoding="utf-8")))
            parts += [f"## {title}\n", f"{head}\n", group_table(mine)]
    if fits:
        parts += [
            "## How cost grows\n",
            "With a count n (batch, planes, samples): `t = a + b n`, a and b not negative, fitted to relative errors. "
            "With the length of a side: a power law over all sizes, and the exponent between the two largest. Peak "
            "memory is resident memory of a fresh process that does the job once, all but the making of its input "
            f"included (Python, torch and the smallest input take about {_bare(rows):.0f} MiB). "
            f"The bound is {LIMIT_GIB:.0f} GiB.\n",
            growth_tables(fits),
        ]
        parts += [_picture(path) for path in pictures if path.name != PEERS]
        measured = [
            row for row in rows if row["group"] == "growth" and row["axis"] == "scans" and row["unit"] == "scan"
        ]
        if measured:
            lines = [[row["job"], span(seconds(row)), f"{row['peak_mib'] / 1024:.2f} GiB"] for row in measured]
            parts += ["A scan measured on a clinical scanner, whole:\n", table(["job", "time", "peak"], lines)]
    server = folder / "ui.json"
    if server.is_file():
        parts += ["## The page's server\n", _server(json.loads(server.read_text(encoding="utf-8")))]
    return "\n".join(part if part.startswith(("|", "![")) else _wrapped(part) for part in parts)


def _wrapped(text: str) -> str:
    """Paragraphs in lines of at most 120 characters, lines that begin in bold apart."""
    out = []
    for paragraph in text.strip().split("\n\n"):
        lines = paragraph.replace("\n**", "\n\n**").split("\n\n")
        out += [textwrap.fill(line, 120, break_long_words=False, break_on_hyphens=False) for line in lines]
    return "\n\n".join(out) + "\n"


def _picture(path: Path) -> str:
    return f"![{CAPTIONS[path.name]}]({path.name})\n"


def _bare(rows: list[Row]) -> float:
    return min((row["before_mib"] for row in rows if "before_mib" in row), default=float("nan"))


def _server(kept: dict[str, Any]) -> str:
    more = kept["mib_at_the_end"] - kept["mib_before"]
    return (
        f"`python benchmarks/load_ui.py`: {kept['requests']:,} mixed requests of {kept['users']} users at once, "
        f"{kept['errors']} errors, median {kept['ms_median']:.0f} ms, 95 % below {kept['ms_95']:.0f} ms, and "
        f"{more} MiB more memory after than before (its cache fills to a limit).\n"
    )


def main() -> int:
    """Write the page, its figures, and the fits."""
    parser = argparse.ArgumentParser(description="Tables and figures of the benchmarks.")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.add_argument("--out", type=Path, default=HERE.parent / "docs")
    chosen = parser.parse_args()
    rows, files = load(chosen.results)
    if not rows:
        print(f"error: {chosen.results}: holds no benchmark; run make bench first", file=sys.stderr)
        return 2
    known = list(GROUPS)
    rows.sort(key=lambda row: known.index(row["group"]))
    fits = grown([row for row in rows if row["group"] == "growth"])
    chosen.out.mkdir(parents=True, exist_ok=True)
    pictures = draw(rows, fits, ratios(rows), chosen.out)
    text = json.dumps({"limit_gib": LIMIT_GIB, "fits": [fit.facts() for fit in fits]}, indent=1) + "\n"
    (chosen.results / "fits.json").write_text(text, encoding="utf-8")
    page = chosen.out / "benchmarks.md"
    page.write_text(whole(rows, files, fits, pictures, chosen.results), encoding="utf-8")
    print(page, *pictures, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
