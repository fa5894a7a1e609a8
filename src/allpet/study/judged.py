"""Studies that only judge: the shipped weights on people, patients and scans that nobody trained on."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from allpet.errors import AllpetError
from allpet.provenance import provenance
from allpet.report.table import write_table


def tell(name: str, rows: Any, text: str, out: Path | None, **facts: Any) -> None:
    """Print a table, and write it to a folder where one is given."""
    print(text)
    if out is not None:
        write_table(name, rows, text, out, provenance(**facts))


def judge(name: str, out: Path | None, *given: Any) -> None:
    """What a study's ``judge`` makes of the shipped weights."""
    from allpet.model import AllPET

    study, model = import_module(f"allpet.study.{name}"), AllPET.from_pretrained()
    rows = study.judge(model, *given)
    tell(name, rows, study.markdown(rows), out, model_hash=model.hash)


@dataclass
class Strange:
    """Do the warnings tell wrong tracers, cut-off scans and a phantom from usual scans?"""

    people: int = 16
    """Test people of each region and tracer."""
    out: Path | None = None
    """Folder for strange.json and strange.md."""

    def run(self) -> None:
        judge("strange", self.out, self.people)


@dataclass
class Coverage:
    """Do 90 % intervals cover, and do standard deviations follow the error?"""

    people: int = 8
    """Test people of each tracer (or two) and region."""
    seed: int = 61
    """Seed of the people."""
    patients: Path | None = None
    """Folder with STS_*/PET_image.nii.gz and PET_mask.nii.gz; without it, simulated people only."""
    out: Path | None = None
    """Folder for coverage.json and coverage.md."""

    def run(self) -> None:
        judge("coverage", self.out, self.people, self.seed, self.patients)


@dataclass
class Separation:
    """Where the error of separation comes from: true shares, or the true sum, in place of the estimated ones."""

    people: int = 8
    """Test people of each case and seed."""
    seeds: tuple[int, ...] = (11, 12, 13)
    """Seeds of the people."""
    out: Path | None = None
    """Folder for separation.json and separation.md."""

    def run(self) -> None:
        judge("separation", self.out, self.people, self.seeds)


@dataclass
class Heldout:
    """How likely is one half of a list-mode scan, given what each method makes of the other?"""

    scan: Path
    """List mode (.l, with its header beside it)."""
    middle_s: float = 0.3
    """Where the scan is cut in two."""
    out: Path | None = None
    """Folder for heldout.json and heldout.md."""

    def run(self) -> None:
        from allpet.model import AllPET
        from allpet.study import heldout

        model = AllPET.from_pretrained()
        rows, cost = heldout.judge(model, self.scan, self.middle_s)
        tell("heldout", [*rows, cost], heldout.markdown(rows, cost), self.out, model_hash=model.hash)


@dataclass
class Patients:
    """Low dose on real patients, five-fold: the shipped model, and the one adapted on the other patients' scans."""

    patients: Path
    """Folder with STS_*/PET_image.nii.gz and PET_mask.nii.gz."""
    minutes: float = 2.5
    """Processor time of each fold's adaptation."""
    out: Path | None = None
    """Folder for the adapted models, patients.json and patients.md; an interrupted command goes on there."""

    def run(self) -> None:
        from tempfile import TemporaryDirectory

        with TemporaryDirectory() as temporary:
            judge("patients", self.out, self.patients, self.minutes, self.out or Path(temporary))


@dataclass
class Anatomy:
    """Attenuation correction on the anatomy of two CT volumes that the model never saw."""

    ct: Path
    """Folder with chest_ct_hu.nii.gz and abdomen_ct_hu.nii.gz, in HU."""
    slices: int = 8
    """Slices of each volume."""
    out: Path | None = None
    """Folder for anatomy.json and anatomy.md."""

    def run(self) -> None:
        if self.slices < 1:
            raise AllpetError(f"{self.slices} slices; at least 1 of each volume is needed")
        judge("anatomy", self.out, self.ct, self.slices)


@dataclass
class Retention:
    """Retention indices of organs: allpet's beside the population's, and what no method can know."""

    people: int = 8
    """Test people of each case and seed."""
    seeds: tuple[int, ...] = (11, 12, 13)
    """Seeds of the people."""
    out: Path | None = None
    """Folder for retention.json and retention.md."""

    def run(self) -> None:
        judge("retention", self.out, self.people, self.seeds)


@dataclass
class Neighbours:
    """Low dose on nine planes of real patients and of simulated people: restored together, and one by one."""

    patients: Path
    """Folder with STS_*/PET_image.nii.gz and PET_mask.nii.gz."""
    people: int = 8
    """Simulated test people of each kind."""
    seed: int = 0
    """Seed of people and counts."""
    fitted: Path | None = None
    """Folder that the study of patients wrote: its U-Nets are judged, and the model adapted in its folds, too."""
    minutes: float = 2.5
    """Processor time of each adaptation."""
    out: Path | None = None
    """Folder for neighbours.json and neighbours.md."""
    figure: Path | None = None
    """File for a figure of one simulated person (.png)."""

    def run(self) -> None:
        from allpet.study.neighbours import FRACTIONS

        given = (self.patients, self.people, self.seed, FRACTIONS, self.fitted, self.minutes)
        judge("neighbours", self.out, *given)
        if self.figure is not None:
            from allpet.model import AllPET
            from allpet.study.neighbours_figure import draw

            draw(self.figure, AllPET.from_pretrained(), self.seed)
