"""The ``allpet evaluate`` commands: thin, like all of the command line."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg, subcommand

from allpet.terminal import StorePath, planes_done

File = Positional[Annotated[StorePath, arg(metavar="FILE")]]
Count = Annotated[int, arg(name="n", aliases=["-n"])]


@dataclass
class EvaluateFile:
    """Scores of a scan or image: consistency, and with --truth PSNR, SSIM and NRMSE; table, JSON and figure."""

    file: File
    """Scan or image to judge."""
    truth: Path | None = None
    """What it should be, on the same grid and in the same unit; of a store of pairs its sinogram, not the input."""
    data_range: float | None = None
    """Peak for PSNR and SSIM; default: each truth plane's maximum."""
    out: Path | None = None
    """Folder for evaluate.json and evaluate.png; default: print only."""

    def run(self) -> None:
        from allpet.report.evaluate import evaluate_file

        evaluate_file(self.file, self.truth, self.data_range, self.out)


@dataclass
class EvaluateGeneration:
    """Generated sinograms beside people the model never saw: distribution, consistency, copies, samplers, cost."""

    n: Count = 48
    """Sinograms of each prompt."""
    prompts: tuple[str, ...] = ()
    """Prompts to judge; default: all that the model knows."""
    data: Path | None = None
    """Folder of training stores TRACER-REGION.zarr; unseen people are kept in it, too. Default: simulated anew."""
    few: int = 16
    """Sinograms of each prompt for the rows of samplers and conditions; 0 leaves these out."""
    seed: int = 0
    """Seed of the draws."""
    out: Path | None = None
    """Folder for generation.json, .md, .html and a figure of every tracer; default: print only."""
    model: Path | None = None
    """Model folder; default: the shipped weights."""

    def run(self) -> None:
        from allpet.io.files import replacing
        from allpet.model import AllPET
        from allpet.provenance import provenance
        from allpet.report.figures import png
        from allpet.report.generation_figures import beside
        from allpet.report.generation_table import evaluate_generation, markdown, own_beam
        from allpet.report.page import Section, write_page
        from allpet.study.data import unseen

        model = AllPET.from_pretrained(self.model)
        with planes_done("evaluate") as progress:
            result = evaluate_generation(
                model, self.n, self.seed, self.prompts or None, self.data, self.few, progress=progress
            )
        _keep_table("generation", result, markdown(result), self.out, self.seed, model)
        if self.out is not None:
            prompts = [row["label"] for row in result["rows"]]
            sections = []
            said = {p: model.parse(p) for p in prompts}
            for tracer in dict.fromkeys(str(prompt.tracer) for prompt in said.values()):
                mine = [p for p in prompts if said[p].tracer == tracer]
                made = {p: model.generate(p, 3, seed=self.seed).sinogram for p in mine}
                real = {p: unseen(self.data, tracer, str(said[p].region), 6, *model.beam.shape)[::2] for p in mine}
                figure = beside(made, real, {p: own_beam(model, p) for p in mine})
                with replacing(self.out / f"generation-{tracer}.png") as (part,):
                    part.write_bytes(png(figure))
                sections.append(Section(tracer, figures=[(figure, "The first three of the seed; nothing was chosen.")]))
            facts = provenance(seed=self.seed, model_hash=model.hash)
            lead = ["Generated sinograms and their reconstructions beside simulated people that the model never saw."]
            write_page(self.out / "generation.html", "Generated and real", lead, sections, facts)


@dataclass
class EvaluateLowDose:
    """Low dose on people the model never saw, beside input, Gaussian filter and linear MMSE estimate."""

    people: int = 10
    """Simulated test subjects of each region."""
    seeds: int = 1
    """Noise realisations of each."""
    patients: Path | None = None
    """Folder of the STS patients (STS_*/PET_image.nii.gz); default: simulated people only."""
    out: Path | None = None
    """Folder for low-dose.json and low-dose.md; default: print only."""
    model: Path | None = None
    """Model folder; default: the shipped weights."""

    def run(self) -> None:
        from allpet.model import AllPET
        from allpet.report.low_dose_table import evaluate_low_dose, markdown

        model = AllPET.from_pretrained(self.model)
        rows = evaluate_low_dose(model, self.people, self.seeds, self.patients)
        _keep_table("low-dose", rows, markdown(rows), self.out, None, model)


@dataclass
class EvaluateTasks:
    """All tasks on people the model never saw, beside what a user would otherwise do."""

    people: int = 10
    """Simulated test subjects of each case and seed."""
    seeds: tuple[int, ...] = (11,)
    """Seeds of the people."""
    tasks: tuple[str, ...] = ()
    """Tasks to judge; default: all."""
    plain: Path | None = None
    """Folder of the U-Net rival (python -m allpet.study plain); default: without it."""
    out: Path | None = None
    """Folder for tasks.json, tasks.md and tasks.html; default: print only."""
    model: Path | None = None
    """Model folder; default: the shipped weights."""

    def run(self) -> None:
        from allpet.errors import AllpetError
        from allpet.model import AllPET
        from allpet.provenance import provenance
        from allpet.report.page import Section, write_page
        from allpet.report.tasks_figures import case_figure
        from allpet.report.tasks_table import evaluate_tasks, markdown
        from allpet.study.cases import CASES
        from allpet.study.plain import load_plain
        from allpet.task import TASKS

        unknown = [task for task in self.tasks if task not in TASKS]
        if unknown:
            raise AllpetError(f"task '{unknown[0]}' is unknown; known: {', '.join(TASKS)}")
        model = AllPET.from_pretrained(self.model)
        plain = None if self.plain is None else load_plain(self.plain)
        cases = [case for case in CASES if not self.tasks or case.task in self.tasks]
        with planes_done("evaluate") as progress:
            rows = evaluate_tasks(model, self.people, self.seeds, cases, plain, progress=progress)
        _keep_table("tasks", rows, markdown(rows), self.out, None, model)
        if self.out is not None:
            sections = []
            for case in cases:
                figure = case_figure(model, case, plain, self.seeds[0])
                sections.append(
                    Section(case.name, figures=[(figure, "The first person of the seed; nothing was chosen.")])
                )
            lead = [
                "Every task on simulated people that the model never saw: measured, true, restored or predicted.",
                "Dark is more activity. What is compared has the same window; every colour bar names its unit.",
            ]
            write_page(self.out / "tasks.html", "The tasks", lead, sections, provenance(model_hash=model.hash))


@dataclass
class EvaluateAll:
    """Every table of the project from the shipped weights and seeds, in pieces that resume: one report, one JSON.

    Ends with exit code 1 when a headline figure is worse than expected by more than its stated noise.
    """

    out: Path
    """Folder for report.html, report.json and the pieces; the same command goes on there."""
    size: Literal["quick", "standard", "full"] = "standard"
    """quick: a minute or two, to notice that something broke; standard: about an hour on 2 cores; full: the published
    numbers with all that has to be trained, many hours."""
    only: tuple[str, ...] = ()
    """Tables, several with commas or spaces; default: all."""
    seed: int = 0
    """Run with other people, counts and draws; 0 is what is expected of."""
    workers: int = 1
    """Processes of one thread each."""
    scheduler: str | None = None
    """Dask scheduler (tcp://HOST:PORT or its .json file) that runs the pieces; full needs a folder that all workers
    see."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of the networks."""
    model: Path | None = None
    """Model folder; default: the shipped weights."""

    def run(self) -> None:
        from allpet.evidence.run import HTML, JSON, evaluate_all

        only = [name for words in self.only for name in words.split(",") if name]
        with planes_done("evaluate all") as progress:
            report = evaluate_all(
                self.out,
                self.size,
                only,
                self.seed,
                self.model,
                self.workers,
                self.scheduler,
                self.precision,
                progress=lambda name, share: progress(round(1000 * share), 1000),
            )
        worse = []
        for one in report["headlines"]:
            wanted = one["expected"]
            beside = "" if wanted is None else f" (expected {wanted['value']:.4g} ± {wanted['noise']:.2g})"
            print(f"{one['label']}: {one['value']:.4g} {one['unit']}{beside}: {one['verdict']}")
            worse += [one["name"]] if one["verdict"] == "worse" else []
        print(self.out / HTML, self.out / JSON, sep="\n")
        if report["missing"]:
            print(f"expected, but not measured: {', '.join(report['missing'])}", file=sys.stderr)
        if worse:
            print(f"worse than expected by more than the noise: {', '.join(worse)}", file=sys.stderr)
        if worse or report["missing"]:
            raise SystemExit(1)


@dataclass
class EvaluateCompare:
    """Do two runs of evaluate all agree within the stated noise? Exit code 1 if they do not."""

    one: Positional[Annotated[Path, arg(metavar="A.json")]]
    """report.json, or its folder."""
    other: Positional[Annotated[Path, arg(metavar="B.json")]]
    """Of another run of the same size."""

    def run(self) -> None:
        from allpet.evidence.headlines import compare, expectations
        from allpet.evidence.run import read_report

        one, other = read_report(self.one), read_report(self.other)
        rows = compare(one, other, expectations(one["size"]))
        for row in rows:
            allowed = "no stated noise" if row["allowed"] is None else f"allowed {row['allowed']:.2g}"
            said = {True: "agree", False: "DIFFER", None: "not judged"}[row["agree"]]
            print(f"{row['label']}: {row['one']:.4g}, {row['other']:.4g} {row['unit']} ({allowed}): {said}")
        apart = [row["name"] for row in rows if row["agree"] is False]
        judged = sum(row["agree"] is not None for row in rows)
        print(f"{judged - len(apart)} of {judged} headline figures agree")
        if apart:
            raise SystemExit(1)


@dataclass
class EvaluateCalibrate:
    """What is expected of the headline figures, and their noise, from runs of evaluate all with different seeds."""

    runs: Positional[tuple[Annotated[Path, arg(metavar="REPORT")], ...]]
    """report.json files or their folders, of one size and one model: at least three evaluation seeds in all."""
    other: tuple[Path, ...] = ()
    """Runs with the same seeds as some of these in another arithmetic (--precision bf16) or on another processor."""
    out: Path = Path("expected.json")
    """File for the size's entry; other sizes in it are kept. The package's own: src/allpet/evidence/expected.json."""

    def run(self) -> None:
        import json

        from allpet.evidence.headlines import calibrate, expectations
        from allpet.evidence.run import read_report
        from allpet.io.files import replacing

        size, entry = calibrate([read_report(path) for path in self.runs], [read_report(path) for path in self.other])
        known: dict[str, Any] = {}
        if self.out.is_file():
            expectations(size, self.out)
            known = json.loads(self.out.read_text(encoding="utf-8"))
        with replacing(self.out) as (part,):
            part.write_text(json.dumps(known | {size: entry}, indent=1) + "\n", encoding="utf-8")
        print(self.out)


Evaluation = (
    Annotated[EvaluateFile, subcommand("file")]
    | Annotated[EvaluateGeneration, subcommand("generation")]
    | Annotated[EvaluateLowDose, subcommand("low-dose")]
    | Annotated[EvaluateTasks, subcommand("tasks")]
    | Annotated[EvaluateAll, subcommand("all")]
    | Annotated[EvaluateCompare, subcommand("compare")]
    | Annotated[EvaluateCalibrate, subcommand("calibrate")]
)


@dataclass
class Evaluate:
    """Tables and plots, JSON beside them: of a file, of generation, of low-dose, of all tasks, of all there is."""

    what: Evaluation

    def run(self) -> None:
        self.what.run()


def _keep_table(
    name: str, rows: list[dict[str, Any]] | dict[str, Any], text: str, out: Path | None, seed: int | None, model: Any
) -> None:
    """Print a table; with a folder also write it."""
    from allpet.provenance import provenance
    from allpet.report.table import write_table

    print(text)
    if out is not None:
        write_table(name, rows, text, out, provenance(seed=seed, model_hash=model.hash))
