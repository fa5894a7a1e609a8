"""The command line: parse, call, print. One dataclass a command; its docstring is its help.

A bad input ends with one line on stderr and exit code 2; nothing half-written stays.
"""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from tyro.conf import subcommand

from allpet import __version__
from allpet.application import Adapt, Apply, Attend, In
from allpet.errors import AllpetError
from allpet.evaluation import Evaluate, File
from allpet.generation import Generate
from allpet.io import writable
from allpet.io.place import not_an_input
from allpet.provenance import RUNNING, recorded
from allpet.simulation import Out, Simulate
from allpet.terminal import StorePath, about, as_image, as_scan
from allpet.ui.command import Ui

STYLE = (tyro.conf.DisallowNone, tyro.conf.OmitSubcommandPrefixes, tyro.conf.OmitArgPrefixes)


@dataclass
class Demo:
    """Everything at a glance from the shipped weights and simulated data: one self-contained report.html."""

    out: Path = Path("demo-out")
    """Folder to write to."""
    seed: int = 0
    """Seed of everything random in it."""

    def run(self) -> None:
        from allpet.demo import run_demo

        print(run_demo(self.out, seed=self.seed))


@dataclass
class Info:
    """What a file holds: size, geometry, unit, tracer, totals."""

    file: File
    """Any readable file: .l.hdr, .petsird, .hs, .hv, .nii.gz, .zarr, a DICOM folder; or a run or model folder."""

    def run(self) -> None:
        from allpet.io.convert import describe

        facts = describe(self.file)
        width = max(len(name) for name in facts)
        for name, value in facts.items():
            print(f"{name:<{width}}  {value}")


@dataclass
class Doctor:
    """What is installed, which device is used, what is missing and how to get it."""

    def run(self) -> None:
        from allpet.doctor import examine

        findings = examine()
        width = max(len(one.what) for one in findings)
        print(f"{'allpet':<{width}}  {__version__}")
        for one in findings:
            print(f"{one.what:<{width}}  {one.found}" + ("" if one.well else f"  ->  {one.help}"))


@dataclass
class Convert:
    """Any readable format to any writable one; list mode becomes sinograms of the direct planes."""

    source: In
    """File to read."""
    target: Out
    """File to write; its ending names the format."""
    span: int | None = None
    """1 keeps all planes of list mode apart; default: single-slice rebinning to the direct planes."""
    start_s: float | None = None
    """List mode only: leave out events before this time in s."""
    stop_s: float | None = None
    """List mode only: leave out events from this time on, in s."""
    to_mu: bool = False
    """CT in Hounsfield units to attenuation in 1/mm at 511 keV."""
    to_suv: bool = False
    """Image in kBq/mL to SUV by body weight."""
    rebin: bool = False
    """Sinogram of several segments (oblique planes) to one of direct planes, by single-slice rebinning."""

    def run(self) -> None:
        writable(self.target, ("sinogram", "dataset", "image"))

        from allpet.io.convert import convert

        times = (self.start_s, self.stop_s)
        options = dict(to_mu=self.to_mu, to_suv=self.to_suv, rebin=self.rebin)
        for note in convert(self.source, self.target, self.span, *times, **options):
            print(f"note: {note}", file=sys.stderr)
        print(self.target)


@dataclass
class Train:
    """Train on dataset stores; the same command resumes, and both limits count from the very start.

    Several processes: accelerate launch --num_processes N -m allpet train ..., or torchrun likewise.
    """

    data: tuple[StorePath, ...]
    """Dataset stores (.zarr), one or several: of ideal projections, for the recipe tasks of pairs."""
    out: Path
    """Run folder: checkpoints, log, and a model that --model takes."""
    recipe: str = "base"
    """What to train: base or base-256 (first stage and denoiser), low-dose (restorer), tasks (translator) or attention
    (second look at regions)."""
    max_minutes: float | None = None
    """Stop after this long, all runs together; default 20 if no limit is given."""
    max_steps: int | None = None
    """Stop after this many steps, all runs together."""
    seed: int = 0
    """Seed of weights, samples and noise."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Arithmetic of the network; auto: bfloat16 where the hardware has it and the recipe can use it."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train; auto: a GPU where there is one and the recipe can use it."""
    micro_batches: int = 1
    """Batches averaged in each step; several processes share them, so a multiple of their number."""
    patience: int | None = None
    """Stop after so many reports without a lower held-out loss; default: never, and the best weights are kept."""
    report_steps: int | None = None
    """Steps between reports; default: a fiftieth of max-steps, at least 10; without it, about every half minute."""
    save_seconds: float = 30.0
    """Seconds between checkpoints."""
    tensorboard: bool = True
    """Write TensorBoard's event files, where it is installed."""
    max_memory_gib: float | None = None
    """Stop, with a checkpoint, when a process takes more memory than this."""

    def run(self) -> None:
        from allpet.train import train

        train(
            [str(path) for path in self.data],
            self.out,
            self.recipe,
            self.max_minutes,
            self.max_steps,
            seed=self.seed,
            progress=sys.stderr.isatty(),
            precision=self.precision,
            device=self.device,
            micro_batches=self.micro_batches,
            patience=self.patience,
            report_steps=self.report_steps,
            save_seconds=self.save_seconds,
            tensorboard=self.tensorboard,
            max_memory_gib=self.max_memory_gib,
        )
        if os.environ.get("RANK", "0") == "0":
            print(self.out)


@dataclass
class Recon:
    """Reconstruct every plane of a scan."""

    source: In
    """Scan to read."""
    out: Path
    """Image to write: .nii.gz or .hv."""
    method: Literal["fbp", "mlem", "osem"] = "osem"
    """Filtered back-projection, or maximum likelihood with all or ordered subsets of the views."""
    mumap: Path | None = None
    """Attenuation image in 1/mm on any grid with the same centre."""
    size: int | None = None
    """Pixels along a side; default: one a bin."""
    iterations: int | None = None
    """Iterations of mlem (50) or osem (10)."""
    subsets: int = 8
    """Subsets of the views, for osem."""
    psf: bool = False
    """Model the scan's own resolution."""
    psf_mm: float | None = None
    """Model this resolution instead: full width at half maximum along the radial axis in mm."""
    beta: float = 0.0
    """Weight of the relative difference prior in mm; 0.1 to 1 is useful, 0 leaves it out."""
    gamma: float = 2.0
    """Edge preservation of the prior."""
    epsilon: float | None = None
    """Keeps the prior smooth where activity is near 0; default: chosen from the data."""
    across: bool = False
    """Let the prior see neighbouring planes too."""
    relaxation: float = 0.1
    """How fast steps shrink with a prior and several subsets."""
    fwhm_mm: float = 0.0
    """Gaussian filter of the image afterwards, full width at half maximum in mm; default: none."""
    group: int = 1
    """Sum so many neighbouring planes first, where counts are few."""

    def run(self) -> None:
        writable(self.out, ("image",))
        not_an_input(self.out, self.source, self.mumap)

        from allpet.io import read
        from allpet.io.acquired import check_position
        from allpet.recon.mumap import check_mumap
        from allpet.recon.whole import missing_factors, reconstruct
        from allpet.save import save
        from allpet.scan.rebin import rebinned

        stored = as_scan(self.source, read(self.source))
        mumap = None if self.mumap is None else as_image(self.mumap, read(self.mumap))
        if self.mumap is not None and mumap is not None:
            with about(self.mumap):
                check_mumap(mumap)
        with about(self.source):
            scan = rebinned(stored)
            if not self.out.name.lower().endswith(".hv"):
                check_position(scan, self.source)
            image = reconstruct(
                scan,
                self.method,
                mumap=mumap,
                size=self.size,
                iterations=self.iterations,
                group=self.group,
                subsets=self.subsets,
                psf=self.psf if self.psf_mm is None else self.psf_mm,
                beta=self.beta,
                gamma=self.gamma,
                epsilon=self.epsilon,
                across=self.across,
                relaxation=self.relaxation,
                fwhm_mm=self.fwhm_mm,
                progress=sys.stderr.isatty(),
            )
        save(image, self.out)
        if scan is not stored:
            print(f"note: {len(stored)} planes of several segments rebinned into {len(scan)}", file=sys.stderr)
        for line in missing_factors(scan, mumap):
            print(f"note: {line}", file=sys.stderr)
        print(self.out)


Command = (
    Annotated[Demo, subcommand("demo")]
    | Annotated[Info, subcommand("info")]
    | Annotated[Doctor, subcommand("doctor")]
    | Annotated[Convert, subcommand("convert")]
    | Annotated[Simulate, subcommand("simulate")]
    | Annotated[Train, subcommand("train")]
    | Annotated[Generate, subcommand("generate")]
    | Annotated[Adapt, subcommand("adapt")]
    | Annotated[Apply, subcommand("apply")]
    | Annotated[Attend, subcommand("attend")]
    | Annotated[Recon, subcommand("recon")]
    | Annotated[Evaluate, subcommand("evaluate")]
    | Annotated[Ui, subcommand("ui")]
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code (0, or 2 for a bad input). Usage errors raise ``SystemExit(2)``."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments == ["--version"]:
        print(f"allpet {__version__}")
        return 0
    about = f"allpet {__version__}: a small foundation model for PET in the projection domain. For research only."
    command = _parsed(arguments, about)
    running = RUNNING.set(recorded(arguments))
    try:
        command.run()
    except AllpetError as error:
        return _fail(str(error))
    except BrokenPipeError:  # the reader of our output has gone, as in `allpet info FILE | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return _fail(f"{error.filename or command.__class__.__name__.lower()}: {error.strerror or error}")
    except (MemoryError, RuntimeError) as error:
        if not _out_of_memory(error):
            raise
        return _fail(
            f"{command.__class__.__name__.lower()}: there is not enough memory; give it more, or less to do at once"
        )
    except KeyboardInterrupt as stopped:
        return _fail(str(stopped) or "interrupted", 130)
    finally:
        RUNNING.reset(running)
    return 0


def _parsed(arguments: Sequence[str], about: str) -> Any:
    """The command that is meant; a usage error is one line, like any other bad input."""
    chosen: Any = Command
    told = io.StringIO()
    try:
        with redirect_stderr(told):
            return tyro.cli(chosen, prog="allpet", description=about, args=arguments, config=STYLE)
    except SystemExit as ended:
        if ended.code:
            _fail(usage_line(told.getvalue()))
        raise


def usage_line(box: str) -> str:
    """What a box of tyro's says, in a sentence: its first paragraph, and where there is help."""
    lines = [line.strip("│╭╮╰╯─ ") for line in box.splitlines()[1:-1]]
    said = " ".join(takewhile(bool, lines)).rstrip(".")
    helps = [found[1] for line in lines if (found := re.search(r"(?:run|see) (\S.*--help)$", line))]
    return f"{said}; see {helps[-1] if helps else 'allpet --help'}"


def _out_of_memory(error: Exception) -> bool:
    """Whether Python, NumPy or torch (which raises RuntimeError) could not get memory."""
    words = ("can't allocate memory", "not enough memory", "out of memory", "cannot allocate memory")
    return isinstance(error, MemoryError) or any(word in str(error).lower() for word in words)


def _fail(message: str, code: int = 2) -> int:
    print("error: " + " ".join(message.split()), file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
