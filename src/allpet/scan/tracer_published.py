"""Published values beside drawn subjects: the one place where the ranges stand, and the page made of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from allpet.scan.kinetics import Floats
from allpet.scan.tracer_tables import SOURCES, STORES
from allpet.scan.tracers import INDEX, TRACERS, Tracer, draw_uptake

LESION = "hot lesion"
SUBJECTS = 500
SEED = 0


@dataclass(frozen=True)
class Published:
    """A quantity of one tracer and the range that its median over subjects must lie in.

    Parameters
    ----------
    tracer : its name. of : the tissue, or "hot lesion" (in muscle). over : what its SUV is divided by: another tissue
    in the first frame, "first" for the delayed SUV over the first one, "" for the SUV of the first frame itself.
    low, high : of the range. source : of the range; "chosen" where no number could be read.
    """

    tracer: str
    of: str
    over: str
    low: float
    high: float
    source: str

    @property
    def name(self) -> str:
        """In words."""
        if not self.over:
            return f"{self.of}, SUV"
        return f"{self.of}, delayed to first" if self.over == "first" else f"{self.of} to {self.over}"


PUBLISHED = (
    Published("FDG", "liver", "", 1.73, 2.61, "2.17 ± 0.44, Boktor 2013; 1.87 ± 0.43, Liu 2019"),
    Published("FDG", "blood", "", 1.17, 1.93, "1.55 ± 0.38, Boktor 2013"),
    Published("FDG", "liver", "blood", 1.2, 1.6, "ratio of the means 1.40, Boktor 2013; chosen ± 15 %"),
    Published("FDG", "spleen", "", 1.3, 1.9, "maximum 1.9, Mettler 2006; lower end chosen"),
    Published("FDG", "muscle", "", 0.4, 0.9, "chosen"),
    Published("FDG", "marrow", "", 0.8, 1.7, "maximum 1.0, Mettler 2006; upper end chosen"),
    Published("FDG", "lung", "", 0.3, 0.7, "maximum 0.7, Mettler 2006; lower end chosen"),
    Published("FDG", "cerebellum", "", 5.8, 10.2, "8.0 ± 2.2, Wang 2007"),
    Published("FDG", "tonsil", "", 2.05, 4.85, "3.45 ± 1.4, Wang 2007"),
    Published("FDG", "mucosa", "", 2.06, 3.78, "soft palate 2.92 ± 0.86, Wang 2007"),
    Published("FDG", "testis", "", 2.01, 3.13, "2.57 ± 0.56, Wang 2007"),
    Published("FDG", "grey matter", "white matter", 1.8, 3.0, "ratio of influx 2.1, Phelps 1979; width chosen"),
    Published("FDG", "cerebellum", "grey matter", 0.75, 1.05, "chosen"),
    Published(
        "FDG", "liver", "first", 0.80, 1.0, "flat to 110 min, Laffon 2011; falls to 2 h, Cheng 2014; low end chosen"
    ),
    Published("FDG", "blood", "first", 0.60, 0.80, "chosen: falls by a quarter to a third"),
    Published("FDG", "grey matter", "first", 1.05, 1.35, "chosen: rises, k4 of Phelps 1979, Spence 2004"),
    Published("FDG", "muscle", "first", 0.85, 1.10, "chosen: little change"),
    Published("FDG", LESION, "first", 1.02, 1.30, "1.15 ± 0.13 from 64 to 110 min, PMID 18391725"),
    Published("DOPA", "striatum", "grey matter", 1.8, 3.0, "chosen: measure of Dhawan 2002, rates of Huang 1991"),
    Published("DOPA", "striatum", "cerebellum", 1.8, 3.0, "chosen: as to grey matter"),
    Published("DOPA", "liver", "", 1.0, 2.5, "chosen: high in Calabria 2016, dose ordinary in Brown 1998"),
    Published("DOPA", "pancreas", "", 1.5, 5.7, "SUVmax 5.67 of its head, JNM 2012 S1:1090; lower end chosen"),
    Published("DOPA", "adrenal", "", 0.7, 4.3, "SUVmax 1.92 (0.7 to 4.3), JNM 2012 S1:1090"),
    Published("DOPA", "kidney cortex", "pancreas", 1.0, 2.0, "chosen: doses 0.027 and 0.020 mGy/MBq, Brown 1998"),
    Published("DOPA", "kidney cortex", "", 2.0, 8.0, "chosen: dose of Brown 1998 twice that of most organs"),
    Published("DOPA", "muscle", "", 0.8, 1.5, "chosen: near the body's mean, Brown 1998"),
    Published("DOPA", LESION, "", 2.3, 4.2, "gliomas SUVmax 2.34 ± 1.35 and 4.22 ± 1.30, Fueger 2010"),
    Published("DOPA", "striatum", "first", 0.98, 1.15, "chosen: k3 and k4 of Huang 1991 in balance"),
    Published("DOPA", "grey matter", "first", 0.75, 0.97, "chosen: falls with plasma, Wahl 1994"),
    Published(
        "PSMA", "kidney cortex", "", 33.0, 55.0, "kidney 41.7, Kurash 2020; SUVmax 66.4 ± 25.4, CNM 2017; width chosen"
    ),
    Published("PSMA", "liver", "", 3.5, 6.5, "SUVmax 8.2 ± 2.5, CNM 2017; mean chosen below"),
    Published("PSMA", "kidney cortex", "liver", 6.0, 12.0, "SUVmax 66.4 to 8.2 is 8.1, CNM 2017; width chosen"),
    Published("PSMA", "spleen", "", 4.5, 10.0, "SUVmax 10.9 ± 3.9, CNM 2017; mean chosen below"),
    Published("PSMA", "salivary gland", "", 10.0, 19.0, "parotid 14.5, Kurash 2020; width chosen"),
    Published("PSMA", "submandibular gland", "", 9.0, 17.0, "13.0, Kurash 2020; width chosen"),
    Published("PSMA", "lacrimal gland", "", 4.5, 12.0, "SUVmax 15.7 ± 7.2, CNM 2017; mean chosen below"),
    Published("PSMA", "duodenum", "", 6.0, 15.0, "SUVmax 17.6 ± 8.9, CNM 2017; mean chosen below"),
    Published("PSMA", "prostate", "", 1.8, 3.2, "2.4, Kurash 2020; width chosen"),
    Published("PSMA", "blood", "", 0.8, 1.5, "lesions 11.3 to 15.9 over 13.5, Kurash 2020"),
    Published("PSMA", "muscle", "", 0.4, 0.9, "chosen"),
    Published("PSMA", "marrow", "", 0.5, 1.3, "chosen"),
    Published("PSMA", "urine", "", 10.0, 100.0, "chosen: very wide"),
    Published("PSMA", LESION, "", 7.0, 15.9, "SUVmax 11.3 to 15.9, Kurash 2020; lower end chosen for means"),
    Published("PSMA", LESION, "liver", 1.3, 2.9, "2.7 of SUVmax, Kurash 2020; lower end chosen for means"),
    Published("PSMA", "kidney cortex", "first", 1.0, 1.35, "chosen: rises to 3 h"),
    Published("PSMA", "liver", "first", 0.70, 1.0, "chosen: falls to 3 h"),
    Published("PSMA", "blood", "first", 0.40, 0.70, "chosen: falls to 3 h"),
    Published("PSMA", LESION, "first", 1.05, 1.6, "chosen: rises to 3 h; rises to 2 h, PMID 31808135"),
)


def simulated(tracer: str, count: int = SUBJECTS, seed: int = SEED) -> dict[str, Floats]:
    """SUV of every tissue and of a hot lesion in muscle in both frames of `count` subjects: ``(count, 2)`` each.

    Subject i is drawn by its own generator, whatever the number of subjects.
    """
    start, length = np.array((TRACERS[tracer].first_s, TRACERS[tracer].delayed_s), float).T
    tissues = np.empty((count, len(INDEX), 2))
    lesions = np.empty((count, 2))
    for subject in range(count):
        rng = np.random.default_rng((seed, subject))
        uptake = draw_uptake(rng, tracer)
        tissues[subject] = uptake.suv(start, start + length)
        lesions[subject] = uptake.lesion("hot", "muscle", rng).suv(start, start + length)
    return {**{name: tissues[:, number] for name, number in INDEX.items()}, LESION: lesions}


def values(published: Published, subjects: dict[str, Floats]) -> Floats:
    """The quantity in each subject, ``(count,)``."""
    first, delayed = subjects[published.of].T
    if not published.over:
        return first
    return delayed / first if published.over == "first" else first / subjects[published.over][:, 0]


def page(drawn: dict[str, dict[str, Floats]] | None = None) -> str:
    """The page ``docs/tracers.md``, from the subjects of :func:`simulated` by tracer, drawn here if not given."""
    lines = [
        "# Tracers",
        "",
        "Made by `python -m allpet.scan.tracers > docs/tracers.md`; tables in `allpet.scan.tracer_tables`, ranges in",
        "`allpet.scan.tracer_published`, equations in `allpet.scan.kinetics`.",
        "",
        "A subject is an arterial plasma curve of Feng's form and two-tissue rate constants for every tissue, both",
        "drawn around the tables below. SUV are means over a frame, corrected for decay to the injection, in closed",
        "form.",
        "",
        "## Drawn subjects beside published values",
        "",
        f"Median and 5 to 95 % of {SUBJECTS} drawn subjects, seed {SEED}. The median must lie in the range (tested). A",
        'range whose source says "chosen" was not found as a number in anything that could be read: it states what is',
        "expected, and agreement with it is no evidence.",
    ]
    for tracer in TRACERS.values():
        lines += ["", f"### {tracer.name}", "", _frames(tracer), ""]
        lines += ["| quantity | simulated median [5 to 95 %] | range | source |", "|---|---|---|---|"]
        subjects = simulated(tracer.name) if drawn is None else drawn[tracer.name]
        for row in (row for row in PUBLISHED if row.tracer == tracer.name):
            low, median, high = (_short(q) for q in np.percentile(values(row, subjects), (5, 50, 95)))
            lines.append(f"| {row.name} | {median} [{low} to {high}] | {row.low:g} to {row.high:g} | {row.source} |")
    lines += ["", "## Rate constants", "", *_reading()]
    for tracer in TRACERS.values():
        lines += ["", f"### {tracer.name}: arterial curve and tissues", "", tracer.source, ""]
        lines += ["| tissue | K1 | k2 | k3 | k4 | blood | spread | spread of k3 | source |", "|---" * 9 + "|"]
        for name, *numbers, source in (*tracer.rows, tracer.lesion):
            cells = " | ".join(f"{number:g}" for number in numbers if not isinstance(number, str))
            lines.append(f"| {name} | {cells} | {source} |")
    lines += [
        "",
        "## Sources",
        "",
        "What follows the reference is what was read of it (mostly the abstract) and used.",
        "",
    ]
    lines += [f"- **{name}**: {text}" for name, text in SOURCES.items()]
    return "\n".join(lines) + "\n"


def _frames(tracer: Tracer) -> str:
    (first, length), (delayed, later) = tracer.first_s, tracer.delayed_s
    activity = f"{tracer.injected_mbq:g} MBq{'/kg' if tracer.per_kg else ''} of {tracer.isotope.name}"
    frames = (
        f"{first / 60:g} to {(first + length) / 60:g} min, delayed {delayed / 60:g} to {(delayed + later) / 60:g} min"
    )
    return f"{activity}; first frame {frames}."


def _short(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"


def _reading() -> list[str]:
    return [
        "K1 in mL/min/mL, k2 to k4 in 1/min, blood as share of the volume; spreads are standard deviations of the",
        "logarithms of K1 and k3 over subjects. A source that names an SUV gives only that SUV: the rates are chosen",
        "so that the curve has about that value in the first frame, and other rates would do the same. Fluids",
        f"({', '.join(STORES)}) are no tissues: they fill from plasma at K1 and are diluted or emptied at k2.",
    ]
