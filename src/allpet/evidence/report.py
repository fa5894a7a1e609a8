"""The report as one page: headline figures first, a section for each table, what is left out, every piece's time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from allpet.evidence.headlines import SIGMAS, Judged
from allpet.evidence.table import Setting, Table, figures_of, page_tables
from allpet.report.page import Section, write_page
from allpet.report.page import Table as PageTable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LIMITS = (
    "All people are simulated, the same way as those that the weights were trained on, with other anatomy and "
    "other noise. What a real scanner and real patients do beyond that is not measured here.",
    "Nothing in this report is clinical evidence. For research only.",
)
NOISE = {
    False: "Noise is one standard deviation of a run's figure about the expected value, over people, counts and draws.",
    True: "These evaluation seeds are among those that were calibrated with: people, counts and draws are the same, "
    "and the noise is what other arithmetic, processors and libraries may change.",
}
WORDS = {
    "worse": "WORSE than expected",
    "better": "better than expected",
    "as expected": "as expected",
    "no expectation": "not judged",
}


def write_report(
    path: Path,
    report: Mapping[str, Any],
    setting: Setting,
    tables: Mapping[str, Table],
    judged: Sequence[Judged],
    gathered: Mapping[str, Any],
    figures: Mapping[str, Sequence[Mapping[str, Any]]],
) -> None:
    """Write the page.

    Parameters
    ----------
    report : what the JSON holds. gathered : rows by table. figures : results of the pieces that draw, by table.
    """
    size = setting.size
    sections = _first(judged, size.repeats)
    for name, rows in gathered.items():
        table = tables[name]
        shown = [one for result in figures.get(name, ()) for one in figures_of(result)]
        sections.append(
            Section(table.title, table.about(setting), [*table.drawn(rows), *shown], page_tables(table.text(rows)))
        )
    sections += [
        Section("Left out, and limits", [*report["left_out"], *LIMITS]),
        _pieces(report),
    ]
    machine = report["machine"]
    seeds = ", ".join(map(str, report["seeds"]))
    lead = [
        f"allpet {report['allpet_version']}, size {size.name}, evaluation seeds {seeds}, weights "
        f"{report['model_hash']}. {_time(report['seconds'])} for {len(report['pieces'])} pieces on "
        f"{machine['processor']} ({machine['cores']} cores, {machine['threads']} used by a process, "
        f"{machine['arithmetic']}), torch {machine['torch']}.",
        _verdicts(judged),
    ]
    if size.left_out:
        lead.append(f"Not everything is in it. {size.left_out[0]}")
    facts = {key: report[key] for key in ("command", "created", "allpet_version", "model_hash", "precision")}
    write_page(path, "Evidence", lead, sections, facts | {"seeds": seeds} | machine)


def _verdicts(judged: Sequence[Judged]) -> str:
    count = {word: sum(one.verdict == word for one in judged) for word in WORDS}
    goals = [one for one in judged if one.goal_met is not None]
    met = sum(bool(one.goal_met) for one in goals)
    said = ", ".join(f"{number} {WORDS[word]}" for word, number in count.items() if number)
    return f"{len(judged)} headline figures: {said}. {met} of {len(goals)} goals are met; the others are missed."


def _first(judged: Sequence[Judged], repeats: int) -> list[Section]:
    heads = ["figure", "measured", "expected", "noise", "differs by", "verdict", "goal", "goal met", "spread"]
    rows = []
    for one in judged:
        wanted, headline = one.expected, one.headline
        unit = f" {headline.unit}" if headline.unit else ""
        sign = "≤" if headline.better == "lower" else "≥"
        cells = [headline.label, number(one.value) + unit]
        if wanted is None:
            cells += ["", "", ""]
        else:
            apart = round((one.value - wanted.value) / wanted.noise, 1) if wanted.noise else 0.0
            cells += [number(wanted.value), f"± {number(wanted.noise)}", f"{apart + 0.0:+.1f} σ"]
        goal = "" if headline.goal is None else f"{sign} {number(headline.goal)}"
        if goal and one.goal_met is None:
            goal += f" ({headline.goal_at} size)"
        cells += [WORDS[one.verdict], goal, {True: "yes", False: "missed", None: ""}[one.goal_met]]
        cells.append("" if wanted is None else number(wanted.sd))
        rows.append(cells)
    same = any(one.expected is not None and one.expected.paired for one in judged)
    text = [
        f"A figure is worse than expected when it differs by more than {SIGMAS:g} times its noise to the wrong "
        f"side; then the command fails. {NOISE[same]} Each figure is a mean over {repeats} evaluation "
        f"seed{'s' * (repeats > 1)}; the spread is one standard deviation of a single seed's figure over seeds.",
        "Goals that are missed do not fail: they are what the project set out for.",
    ]
    out = [Section("Headline figures", text, (), [PageTable("", heads, rows)])]
    if any(one.expected is not None and one.expected.noise for one in judged):
        caption = "How far each figure is from what is expected, in units of its noise; right is better."
        out.append(Section("Beside what is expected", (), [(deviations(judged), caption)]))
    return out


def deviations(judged: Sequence[Judged]) -> Figure:
    """Differences from what is expected over their noise, the better side to the right."""
    from matplotlib.figure import Figure

    some = [one for one in judged if one.expected is not None and one.expected.noise]
    figure = Figure(figsize=(8.5, 0.6 + 0.2 * max(len(some), 1)), layout="constrained", dpi=110)
    axes = figure.subplots()
    colours = {"worse": "tab:red", "better": "tab:green", "as expected": "tab:blue", "no expectation": "tab:gray"}
    for row, one in enumerate(reversed(some)):
        assert one.expected is not None
        sign = 1 if one.headline.better == "higher" else -1
        apart = sign * (one.value - one.expected.value) / one.expected.noise
        axes.plot([max(min(apart, 6.0), -6.0)], [row], "o", color=colours[one.verdict], markersize=4)
    axes.axvspan(-SIGMAS, SIGMAS, color="tab:blue", alpha=0.08, linewidth=0)
    axes.axvline(0, color="gray", linewidth=0.8)
    axes.set_yticks(range(len(some)), [one.headline.label for one in reversed(some)], fontsize=7)
    axes.set_xlim(-6.5, 6.5)
    axes.set_ylim(-0.7, max(len(some), 1) - 0.3)
    axes.set_xlabel("difference from expected / noise (beyond 6 at the edge)", fontsize=8)
    axes.tick_params(axis="x", labelsize=7)
    return figure


def number(value: float) -> str:
    """Three digits."""
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def _pieces(report: Mapping[str, Any]) -> Section:
    rows = [
        [
            one["name"],
            f"{one['seconds']:.1f}",
            "" if one["peak_memory_mib"] is None else f"{one['peak_memory_mib']:.0f}",
        ]
        for one in sorted(report["pieces"], key=lambda one: -one["seconds"])
    ]
    text = [
        f"{len(rows)} pieces, {_time(report['seconds'])} in all (estimated {_time(report['estimate_seconds'])}), "
        "each measured in the process that ran it, so with several processes the clock on the wall showed less. "
        "A piece that is kept is not run again; delete its file in the folder pieces to have it run anew.",
    ]
    return Section(
        "Pieces", text, (), [PageTable("The slowest first.", ["piece", "seconds", "peak memory (MiB)"], rows)]
    )


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} minutes"
