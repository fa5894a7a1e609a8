"""``python -m allpet.study``: the experiments of the results page."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import subcommand

from allpet.errors import AllpetError
from allpet.provenance import RUNNING, provenance
from allpet.report.table import write_table
from allpet.study.judged import Anatomy, Coverage, Heldout, Neighbours, Patients, Retention, Separation, Strange, tell


@dataclass
class Arms:
    """Train and score arms with one budget; an interrupted command goes on where it stopped."""

    data: Path
    """Folder of stores TRACER-REGION.zarr; what is missing is simulated."""
    out: Path
    """Folder for the runs and the table."""
    arms: tuple[str, ...] = ("ours", "vae", "gan", "score", "ldm")
    """Names, or "every"."""
    seeds: tuple[int, ...] = (0,)
    """Seeds of each arm."""
    minutes: float = 5.0
    """Processor time of each training."""
    n: int = 48
    """Generated sinograms of each prompt."""

    def run(self) -> None:
        from allpet.study.arms import ARMS, markdown, run_arm
        from allpet.study.data import simulate_all

        names = tuple(ARMS) if self.arms == ("every",) else self.arms
        unknown = [name for name in names if name not in ARMS]
        if unknown:
            raise AllpetError(f"arm '{unknown[0]}' is unknown; known: {', '.join(ARMS)}, every")
        simulate_all(self.data, max(ARMS[name].count for name in names))
        results = []
        for seed in self.seeds:
            for name in names:
                results.append(run_arm(name, self.data, self.out, seed, self.minutes, self.n))
                text = markdown(results)
                write_table("arms", results, text, self.out, provenance())
                print(text.splitlines()[-1], flush=True)
        print(markdown(results))


@dataclass
class Masks:
    """Effective diversity of projected masks: RMAS, RMAS and DMM, and a sliding block of half the grid."""

    n: int = 400
    """Masks of each family."""
    size: int = 128
    """Views, bins and pixels."""
    out: Path | None = None
    """Folder for masks.json and masks.md."""

    def run(self) -> None:
        from allpet.study.masks import diversity, markdown

        if self.n < 2 or self.size < 8:
            raise AllpetError(f"{self.n} masks of size {self.size}; at least 2 of size 8 can be compared")
        rows = diversity(self.n, self.size)
        tell("masks", rows, markdown(rows), self.out)


@dataclass
class Synthetic:
    """Low dose: a U-Net trained on few real sinograms, on these with exact geometry, and with synthetic ones added."""

    data: Path
    """Folder of stores TRACER-REGION.zarr; what is missing is simulated."""
    model: Path | None = None
    """Model that makes the synthetic ones; default: the shipped weights."""
    real: int = 100
    """Real sinograms."""
    synthetic: int = 900
    """Synthetic ones."""
    minutes: float = 5.0
    """Processor time of each training."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of each arm."""
    out: Path | None = None
    """Folder for synthetic.json and synthetic.md."""

    def run(self) -> None:
        from allpet.study.data import simulate_all
        from allpet.study.synthetic import compare, markdown

        simulate_all(self.data, self.real)
        rows = compare(self.data, self.model, self.real, self.synthetic, self.minutes, self.seeds)
        tell("synthetic", rows, markdown(rows), self.out)


@dataclass
class Pairs:
    """Simulate the pairs of all tasks that the shipped translator is trained on."""

    out: Path
    """Folder for the stores."""

    def run(self) -> None:
        from allpet.study.data import simulate_pairs

        simulate_pairs(self.out)
        print(self.out)


@dataclass
class Plain:
    """Train the U-Net rival of the tasks on stores of pairs."""

    pairs: tuple[Path, ...]
    """Stores of pairs (allpet simulate --task), those that the translator is trained on."""
    out: Path
    """Run folder."""
    minutes: float = 28.0
    """Processor time."""
    seed: int = 0
    """Seed."""

    def run(self) -> None:
        from allpet.study.plain import train_plain

        train_plain(self.pairs, self.out, self.minutes, self.seed)
        print(self.out)


@dataclass
class Lowshot:
    """Few pairs of a task that the base has not seen: its adapter beside a U-Net from scratch."""

    pairs: tuple[Path, ...]
    """Stores of pairs of all tasks; those of the task are left out of the base."""
    out: Path
    """Folder for the runs and the table."""
    base_minutes: float = 15.0
    """Processor time of the base's training."""
    minutes: float = 3.0
    """Processor time of every other one."""
    counts: tuple[int, ...] = (10, 25, 50, 100, 500)
    """Numbers of pairs."""

    def run(self) -> None:
        from allpet.study.lowshot import curve, markdown, train_base

        train_base(self.pairs, self.out / "base", self.base_minutes)
        rows = curve(self.out / "base", self.out, self.counts, self.minutes)
        tell("lowshot", rows, markdown(rows), self.out)


@dataclass
class Bridge:
    """A diffusion bridge for the tasks beside the regressor, both trained from scratch for the same time."""

    pairs: tuple[Path, ...]
    """Stores of pairs; those of low dose, delayed and convert are used."""
    out: Path
    """Folder for the runs and the table; an interrupted command goes on there."""
    minutes: float = 20.0
    """Processor time of each training."""
    people: int = 8
    """Test people of each case and seed."""
    seeds: tuple[int, ...] = (11, 12, 13)
    """Seeds of the people."""

    def run(self) -> None:
        from allpet.study.bridge import compare, markdown

        rows = compare(self.pairs, self.out, self.minutes, self.people, self.seeds)
        tell("bridge", rows, markdown(rows), self.out)


@dataclass
class Regions:
    """Coarse segmentation: lesions found at one false region a slice, beside fixed thresholds."""

    out: Path
    """File for the numbers (.json)."""
    data: Path | None = None
    """Folder that holds sts_fdg; without it, simulated people only."""
    people: int = 38
    """Simulated test people of each region."""
    seed: int = 41
    """Seed of the people and of the intervals."""
    workers: int = 1
    """Processes."""
    figure: Path | None = None
    """File for a figure of examples (.png)."""

    def run(self) -> None:
        from allpet.study.regions import judge, markdown, save

        rows = judge(self.people, self.seed, self.data, workers=self.workers)
        command = f"python -m allpet.study regions --people {self.people} --seed {self.seed}"
        command += "" if self.data is None else " --data DATA"
        save(self.out, rows, provenance(command=command, seed=self.seed))
        print(markdown(rows))
        if self.figure is not None:
            from allpet.study.regions_figure import draw

            draw(self.figure, self.seed, self.data)


@dataclass
class Attention:
    """Does attention pay? Errors in and out of marked lesions, and lesions seen by an observer."""

    people: int = 60
    """Test people of each region that are looked through for lesions."""
    pairs: int = 100
    """Pairs with and without a lesion for the observer."""
    seeds: tuple[int, ...] = (41, 42, 43)
    """Seeds: of people, counts and outlines; the people are shared among them."""
    model: Path | None = None
    """Model folder; default: the shipped weights."""
    out: Path | None = None
    """Folder for attention.json and attention.md."""

    def run(self) -> None:
        from allpet.model import AllPET
        from allpet.study.attention import MARKS, compare, markdown, summary
        from allpet.study.detect import detectability

        model = AllPET.from_pretrained(self.model)
        share = max(self.people // len(self.seeds), 1)
        rows = [row for seed in self.seeds for row in compare(model, share, seed, marks=MARKS)]
        table, seen = summary(rows), detectability(model, self.pairs)
        both = {"lesions": table, "observer": seen}
        tell("attention", both, markdown(table, seen), self.out, model_hash=model.hash)


@dataclass
class Presets:
    """The atlas behind the presets: mean ellipses of organs in simulated people."""

    out: Path
    """File to write (.json)."""
    people: int = 60
    """Training people of each region."""

    def run(self) -> None:
        from allpet.study.presets import write_atlas

        write_atlas(self.out, self.people)
        print(self.out)


Study = (
    Annotated[Arms, subcommand("arms")]
    | Annotated[Masks, subcommand("masks")]
    | Annotated[Synthetic, subcommand("synthetic")]
    | Annotated[Pairs, subcommand("pairs")]
    | Annotated[Plain, subcommand("plain")]
    | Annotated[Lowshot, subcommand("lowshot")]
    | Annotated[Bridge, subcommand("bridge")]
    | Annotated[Strange, subcommand("strange")]
    | Annotated[Coverage, subcommand("coverage")]
    | Annotated[Separation, subcommand("separation")]
    | Annotated[Heldout, subcommand("heldout")]
    | Annotated[Patients, subcommand("patients")]
    | Annotated[Neighbours, subcommand("neighbours")]
    | Annotated[Anatomy, subcommand("anatomy")]
    | Annotated[Retention, subcommand("retention")]
    | Annotated[Attention, subcommand("attention")]
    | Annotated[Presets, subcommand("presets")]
    | Annotated[Regions, subcommand("regions")]
)


def main() -> int:
    """Exit code 0, or 2 for a bad input."""
    from allpet.cli import STYLE

    command: Study = tyro.cli(Study, prog="python -m allpet.study", config=STYLE)  # type: ignore[call-overload]
    RUNNING.set(shlex.join(["python", "-m", "allpet.study", *sys.argv[1:]]))
    try:
        command.run()
    except AllpetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
