"""The command line: parse, call, print. One dataclass a command; its docstring is its help.

A bad input ends with one line on stderr and exit code 2; nothing half-written stays.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from tyro.conf import Positional, arg, subcommand

from allpet import __version__
from allpet.errors import AllpetError
from allpet.evaluation import Count, Evaluate, File
from allpet.io import writable
from allpet.provenance import RUNNING
from allpet.simulation import Out, Simulate

In = Positional[Annotated[Path, arg(metavar="IN")]]
STYLE = (tyro.conf.DisallowNone, tyro.conf.OmitSubcommandPrefixes, tyro.conf.OmitArgPrefixes)
SCAN_KINDS = ("sinogram", "dataset")


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
    """Any readable file: .l.hdr, .petsird, .hs, .hv, .nii.gz, .zarr, a DICOM folder."""

    def run(self) -> None:
        from allpet.io.convert import describe

        facts = describe(self.file)
        width = max(len(name) for name in facts)
        for name, value in facts.items():
            print(f"{name:<{width}}  {value}")


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

    def run(self) -> None:
        writable(self.target, ("sinogram", "dataset", "image"))

        from allpet.io.convert import convert

        convert(self.source, self.target, self.span, self.start_s, self.stop_s, to_mu=self.to_mu, to_suv=self.to_suv)
        print(self.target)


@dataclass
class Train:
    """Train on dataset stores; the same command resumes, and both limits count from the very start.

    Several processes: accelerate launch --num_processes N -m allpet train ..., or torchrun likewise.
    """

    data: tuple[Path, ...]
    """Dataset stores (.zarr) of ideal projections, one or several."""
    out: Path
    """Run folder: checkpoints, log, and a model that --model takes."""
    recipe: str = "base"
    """What to train: base (first stage and denoiser) or low-dose (restorer)."""
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
            self.data,
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
class Generate:
    """Sinograms for a prompt such as "18F-FDG brain"."""

    prompt: str
    """[isotope-]TRACER REGION."""
    out: Path
    """File to write: .hs (Interfile) or .zarr (dataset store)."""
    n: Count = 1
    """Number of sinograms; sample i of a seed depends neither on this nor on the batch."""
    views: int | None = None
    """Views over 180 degrees (default 128)."""
    bins: int | None = None
    """Radial bins (default 128)."""
    bin_mm: float | None = None
    """Radial pitch in mm; default: the region's field of view over the bins."""
    sampler: str | None = None
    """Sampler; default: the fast one."""
    steps: int | None = None
    """Evaluations of the network's schedule."""
    seed: int = 0
    """Seed."""
    model: Path | None = None
    """Model folder; default: the shipped weights."""

    def run(self) -> None:
        writable(self.out, SCAN_KINDS)

        from allpet.model import AllPET
        from allpet.save import save

        model = AllPET.from_pretrained(self.model)
        size = _given(views=self.views, bins=self.bins, bin_mm=self.bin_mm)
        how = _given(sampler=self.sampler, steps=self.steps)
        with _planes_done("generate") as progress:
            scan = model.generate(self.prompt, n=self.n, seed=self.seed, progress=progress, **size, **how)
        save(scan, self.out, self.seed, model.hash)
        print(self.out)


@dataclass
class Apply:
    """Restore a scan: low-dose gives the expected counts at full dose, and their standard deviation beside it."""

    task: Positional[Annotated[str, arg(metavar="TASK")]]
    """low-dose."""
    source: In
    """Scan to read."""
    out: Path
    """File to write; the standard deviation goes to the same name with -std before the ending."""
    prompt: str | None = None
    """[isotope-]TRACER REGION; default: what the header says, else none."""
    dose_fraction: float | None = None
    """Share of the full dose in the input; default: what the header says."""
    samples: int | None = None
    """Samples behind mean and standard deviation."""
    seed: int = 0
    """Seed."""
    model: Path | None = None
    """Model folder; default: the shipped weights."""

    def run(self) -> None:
        writable(self.out, SCAN_KINDS)

        from allpet.io import read
        from allpet.model import AllPET
        from allpet.save import save

        scan = _scan(self.source, read(self.source))
        model = AllPET.from_pretrained(self.model)
        known = _given(dose_fraction=self.dose_fraction, samples=self.samples, prompt=self.prompt)
        with _planes_done(self.task) as progress:
            result = model.apply(self.task, scan, seed=self.seed, progress=progress, **known)
        for note in result.notes:
            print(f"note: {note}", file=sys.stderr)
        save(result.expected, self.out, self.seed, model.hash)
        print(self.out)
        if result.std is not None:
            beside = beside_name(self.out, "-std")
            save(result.std, beside, self.seed, model.hash)
            print(beside)


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

        from allpet.io import read
        from allpet.recon.whole import reconstruct
        from allpet.save import save

        scan = _scan(self.source, read(self.source))
        mumap = None if self.mumap is None else _image(self.mumap, read(self.mumap))
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
        print(self.out)


Command = (
    Annotated[Demo, subcommand("demo")]
    | Annotated[Info, subcommand("info")]
    | Annotated[Convert, subcommand("convert")]
    | Annotated[Simulate, subcommand("simulate")]
    | Annotated[Train, subcommand("train")]
    | Annotated[Generate, subcommand("generate")]
    | Annotated[Apply, subcommand("apply")]
    | Annotated[Recon, subcommand("recon")]
    | Annotated[Evaluate, subcommand("evaluate")]
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code (0, or 2 for a bad input). Usage errors raise ``SystemExit(2)``."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments == ["--version"]:
        print(f"allpet {__version__}")
        return 0
    about = f"allpet {__version__}: a small foundation model for PET in the projection domain. For research only."
    chosen: Any = Command
    command: Any = tyro.cli(
        chosen,
        prog="allpet",
        description=about,
        args=arguments,
        config=STYLE,
    )
    running = RUNNING.set(shlex.join(["allpet", *arguments]))
    try:
        command.run()
    except AllpetError as error:
        return _fail(str(error))
    except BrokenPipeError:  # the reader of our output has gone, as in `allpet info FILE | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return _fail(f"{error.filename or command.__class__.__name__.lower()}: {error.strerror or error}")
    except KeyboardInterrupt as stopped:
        return _fail(str(stopped) or "interrupted", 130)
    finally:
        RUNNING.reset(running)
    return 0


def _fail(message: str, code: int = 2) -> int:
    print("error: " + " ".join(message.split()), file=sys.stderr)
    return code


def _given(**options: Any) -> dict[str, Any]:
    """The options that were given, so that defaults stand in one place only: the function called."""
    return {name: value for name, value in options.items() if value is not None}


def ending(path: Path) -> str:
    """The file's ending, ``.nii.gz`` whole."""
    return ".nii.gz" if path.name.endswith(".nii.gz") else path.suffix


def beside_name(path: Path, suffix: str) -> Path:
    """``scan.hs``, ``-std`` -> ``scan-std.hs``."""
    return path.with_name(path.name[: len(path.name) - len(ending(path))] + suffix + ending(path))


@contextmanager
def _planes_done(label: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar with an estimate, moved by ``(planes done, planes in all)``; silent without a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
        step = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(step, completed=done, total=total)


def _scan(path: Path, value: Any) -> Any:
    from allpet.scan import Scan

    if not isinstance(value, Scan):
        raise AllpetError(f"{path}: is an image; give a sinogram (.hs, .l.hdr or .zarr)")
    return value


def _image(path: Path, value: Any) -> Any:
    from allpet.scan import Image

    if not isinstance(value, Image):
        raise AllpetError(f"{path}: is a sinogram; give an image (.nii.gz or .hv)")
    return value


if __name__ == "__main__":
    sys.exit(main())
