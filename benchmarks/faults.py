"""What can go wrong while a command runs, made to go wrong on purpose; what was lost (nothing) and what was said.

``python benchmarks/faults.py [--times 20] [--only NAME ...] [--quick] [--json FILE [--docs PAGE]]``. NAME is a command
whose runs are killed (kill -9 at moments drawn from the whole of an undisturbed run's time), or one of the other
faults: disk-full, read-only, memory, clock, two-at-once, interrupt, tampered. Ends with 1 where anything was lost,
torn or badly said.

Every fourth kill falls on the moment at which a half-written file is first seen. Commands run in forked processes that
have everything imported, so that kills fall into the work, not the start.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import signal
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

import fault_others
from fault_cases import CASES, Case, half_written, inputs, left_behind, result_of, run, torn


def kills(case: Case, base: Path, times: int, seed: int = 0) -> dict[str, Any]:
    """Kill a command's runs at random moments, look at what is left, and let the same command go on."""
    folder = base / "work"
    whole = _undisturbed(case, base)
    rng = random.Random(f"{case.name} {seed}")
    moments, progress, writing, problems = [], [], 0, []
    finished = equal = 0
    lasts = whole["seconds"]
    while len(moments) < times and finished < 3 * times + 9:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        before: dict[str, str] = {}
        if case.older is not None and len(moments) % 2:
            assert run(case.older, folder).code == 0
            before = result_of(folder)
        moment = rng.uniform(0, 1.1 * lasts) if len(moments) % 4 != 3 else 5 * lasts
        ran = run(case.arguments, folder, moment, writing=len(moments) % 4 == 3)
        if ran.code != -signal.SIGKILL:
            finished += 1
            continue
        moments.append(ran.seconds / lasts)
        writing += bool(half_written(folder))
        if case.done is not None:
            progress.append(case.done(folder))
        problems += [
            f"kill {len(moments)} at {moment:.2f} s: {text}" for text in _after(folder, before, whole["result"])
        ]
        kept = case.done(folder) if case.done is not None else None
        again = run(case.arguments, folder)
        lasts = again.seconds if case.done is None else lasts  # a run from the beginning, at the machine's present pace
        if again.code != 0:
            problems.append(f"kill {len(moments)}: the same command ended with {again.code}: {again.said[-300:]}")
        elif result_of(folder) != whole["result"]:
            differ = {k for k in {*whole["result"], *result_of(folder)}
                      if whole["result"].get(k) != result_of(folder).get(k)}  # fmt: skip
            problems.append(f"kill {len(moments)}: the result differs in {', '.join(sorted(differ)[:5])}")
        else:
            equal += 1
        if left := left_behind(folder):
            problems.append(f"kill {len(moments)}: left behind {', '.join(left[:5])} (had kept {kept})")
    return {
        "fault": f"kill -9: {case.name}",
        "undisturbed_s": round(whole["seconds"], 2),
        "killed": len(moments),
        "finished_before": finished,
        "moments": _spread(moments),
        "kept": _spread(progress) if progress else None,
        "while_writing": writing,
        "over_an_older_result": len(moments) // 2 if case.older is not None else 0,
        "resumed_equal": equal,
        "problems": problems,
    }


def _undisturbed(case: Case, base: Path) -> dict[str, Any]:
    """Two runs of the command: their time and result."""
    runs = []
    for k in range(2):
        folder = base / f"whole{k}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        ran = run(case.arguments, folder)
        assert ran.code == 0, ran.said
        assert not left_behind(folder), left_behind(folder)
        runs.append((ran.seconds, result_of(folder)))
        shutil.rmtree(folder)
    assert runs[0][1] == runs[1][1], f"{case.name}: two undisturbed runs differ"
    return {"seconds": max(seconds for seconds, _ in runs), "result": runs[0][1]}


def _after(folder: Path, before: dict[str, str], new: dict[str, str]) -> list[str]:
    """What is wrong with the visible files of a killed run: torn, or a mixture of older and new."""
    problems = torn(folder)
    for name, was in before.items():
        path = folder / name
        if path.name.startswith(".") or name not in new:
            continue
        now = result_of(folder)
        header = name.endswith(".hs")
        if now.get(name) not in (was, new[name], *([None] if header else [])):
            problems.append(f"{name} is neither the older nor the new one")
        if header and now.get(name) == was and now.get(name[:-2] + "s") != before[name[:-2] + "s"]:
            problems.append(f"{name} is the older one beside new data")
    return problems


def _spread(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    names = ("least", "quarter", "middle", "three_quarters", "most")
    places = [ordered[round(k * (len(ordered) - 1) / 4)] for k in range(5)]
    return {name: round(value, 3) for name, value in zip(names, places, strict=True)}


def _line(row: dict[str, Any]) -> str:
    state = "LOST" if row["problems"] else "nothing lost"
    if "killed" in row:
        kept = "" if row["kept"] is None else f", work kept {row['kept']['least']:.2f} to {row['kept']['most']:.2f}"
        return (
            f"{row['fault']}: {row['killed']} kills at {row['moments']['least']:.2f} to {row['moments']['most']:.2f} "
            f"(middle {row['moments']['middle']:.2f}) of {row['undisturbed_s']} s, {row['while_writing']} while writing"
            f"{kept}; {row['resumed_equal']} went on to the same result; {state}"
        )
    return f"{row['fault']}: {row['tried']} tried ({row['how']}); {state}"


def _keep(path: Path, row: dict[str, Any]) -> None:
    """Put a row into the table in a file; the rows of other faults stay."""
    old = json.loads(path.read_text())["faults"] if path.is_file() else []
    table = sorted([one for one in old if one["fault"] != row["fault"]] + [row], key=lambda one: one["fault"])
    machine = f"{platform.system()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    path.write_text(json.dumps({"machine": machine, "faults": table}, indent=1) + "\n")


def _into_page(page: Path, table: dict[str, Any]) -> None:
    """Write the table into a page, between its two marks."""
    text, marks = (
        page.read_text(encoding="utf-8"),
        ("<!-- table: written by benchmarks/faults.py -->", "<!-- end of table -->"),
    )
    lines = [f"{table['machine']}.", "", "| fault | tried | how | lost |", "|---|---|---|---|"]
    for row in table["faults"]:
        lost = "; ".join(row["problems"]) or "nothing"
        if "killed" not in row:
            lines.append(f"| {row['fault']} | {row['tried']} | {row['how']} | {lost} |")
            continue
        at, kept = row["moments"], row["kept"]
        how = f"at {at['least']:.2f} to {at['most']:.2f} (middle {at['middle']:.2f}) of {row['undisturbed_s']} s"
        how += f"; work kept {kept['least']:.2f} to {kept['most']:.2f} (middle {kept['middle']:.2f})" if kept else ""
        how += f"; {row['while_writing']} while it wrote" if row["while_writing"] else ""
        lines.append(f"| {row['fault']} | {row['killed']} | {how}; {row['resumed_equal']} ended alike | {lost} |")
    before, after = text.split(marks[0])[0], text.split(marks[1])[1]
    page.write_text("\n".join([before + marks[0], *lines, marks[1]]) + after, encoding="utf-8")


def warm_up() -> None:
    """Import everything once, for all processes to come."""
    import torch

    torch.set_num_threads(1)
    for name in (
        "cli", "io.build", "io.store", "io.convert", "io.listmode", "io.dicom_write", "io.nifti", "scan.simulate",
        "train.loop", "train.adapt", "model", "task", "doctor", "save", "recon.whole", "mask.attend",
    ):  # fmt: skip
        import_module(f"allpet.{name}")
    for name in ("zarr.codecs", "rich.progress", "threadpoolctl", "nilearn.datasets", "pydicom", "diffusers"):
        import_module(name)


def main() -> int:
    """Run the faults that were asked for, print a line for each, and write the table."""
    known = [*CASES, *fault_others.FAULTS]
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])  # type: ignore[union-attr]
    parser.add_argument("--times", type=int, default=20, help="kills of each command")
    parser.add_argument("--only", nargs="*", default=known, metavar="NAME", help="none: write --docs alone")
    parser.add_argument("--quick", action="store_true", help="smallest inputs; 2 kills at most")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--json", type=Path, help="write the table here; rows of faults that were not run stay")
    parser.add_argument("--docs", type=Path, help="put the table of --json into this page, too")
    args = parser.parse_args()
    if unknown := set(args.only) - set(known):
        parser.error(f"unknown: {', '.join(unknown)}; known: {', '.join(known)}")
    os.environ["OMP_NUM_THREADS"] = "1"
    warm_up()
    rows = []
    with tempfile.TemporaryDirectory(prefix="faults-") as place:
        base = Path(place)
        if args.only:
            inputs(base / "in", args.quick)
        for name in args.only:
            if name in CASES:
                most = (2 if name in ("simulate", "train", "convert") else 1) if args.quick else args.times
                row = kills(CASES[name], base, min(args.times, most), args.seed)
            else:
                row = fault_others.FAULTS[name](base, args.quick)
            rows.append(row)
            if args.json:
                _keep(args.json, row)
            print(_line(row), flush=True)
            for problem in row["problems"]:
                print(f"    {problem}", flush=True)
    if args.json and args.docs:
        _into_page(args.docs, json.loads(args.json.read_text()))
    lost = sum(bool(row["problems"]) for row in rows)
    print(f"{len(rows)} faults, {len(rows) - lost} without loss")
    return int(lost > 0)


if __name__ == "__main__":
    sys.exit(main())
