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
    """Generated sinograms beside people the model never saw: consistency, distance, memorisation."""

    n: Count = 48
    """Sinograms of each set."""
    seed: int = 0
    """Seed of the draws."""
    out: Path | None = None
    """Folder for generation.json and generation.md; default: print only."""
    model: Path | None = None
    """Model folder; default: the shipped weights."""

    def run(self) -> None:
        from allpet.model import AllPET
        from allpet.report.generation_table import evaluate_generation, markdown

        model = AllPET.from_pretrained(self.model)
        rows = evaluate_generation(model, self.n, self.seed)
        _keep_table("generation", rows, markdown(rows), self.out, self.seed, model)


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
        rows = evaluate_low_dose(model, self.people, self.seeds, self.patients, regions=tuple(model.config["regions"]))
        _keep_table("low-dose", rows, markdown(rows), self.out, None, model)


Evaluation = (
    Annotated[EvaluateFile, subcommand("file")]
    | Annotated[EvaluateGeneration, subcommand("generation")]
    | Annotated[EvaluateLowDose, subcommand("low-dose")]
)


@dataclass
class Evaluate:
    """Tables and plots, JSON beside them: of a file, of generation, of low-dose."""

    what: Evaluation

    def run(self) -> None:
        self.what.run()


def _keep_table(
    name: str, rows: list[dict[str, Any]], text: str, out: Path | None, seed: int | None, model: Any
) -> None:
    """Print a table; with a folder also write it."""
    from allpet.provenance import provenance
    from allpet.report.table import write_table

    print(text)
    if out is not None:
        write_table(name, rows, text, out, provenance(seed=seed, model_hash=model.hash))
