"""The ``allpet evaluate`` commands: thin, like all of the command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg, subcommand

File = Positional[Annotated[Path, arg(metavar="FILE")]]
Count = Annotated[int, arg(name="n", aliases=["-n"])]


@dataclass
class EvaluateFile:
    """Scores of a scan or image: consistency, and with --truth PSNR, SSIM and NRMSE; table, JSON and figure."""

    file: File
    """Scan or image to judge."""
    truth: Path | None = None
    """What it should be, on the same grid and in the same unit."""
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
        from allpet.terminal import planes_done

        model = AllPET.from_pretrained(self.model)
        with planes_done("evaluate") as progress:
            result = evaluate_generation(
                model, self.n, self.seed, self.prompts or None, self.data, self.few, progress=progress
            )
        _keep_table("generation", result, markdown(result), self.out, self.seed, model)
        if self.out is not None:
            prompts = [row["label"] for row in result["rows"]]
            sections = []
            for tracer in dict.fromkeys(p.split()[0] for p in prompts):
                mine = [p for p in prompts if p.split()[0] == tracer]
                made = {p: model.generate(p, 3, seed=self.seed).sinogram for p in mine}
                real = {p: unseen(self.data, tracer, p.split()[1], 6, *model.beam.shape)[::2] for p in mine}
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
        from allpet.terminal import planes_done

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


Evaluation = (
    Annotated[EvaluateFile, subcommand("file")]
    | Annotated[EvaluateGeneration, subcommand("generation")]
    | Annotated[EvaluateLowDose, subcommand("low-dose")]
    | Annotated[EvaluateTasks, subcommand("tasks")]
)


@dataclass
class Evaluate:
    """Tables and plots, JSON beside them: of a file, of generation, of low-dose, of all tasks."""

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
