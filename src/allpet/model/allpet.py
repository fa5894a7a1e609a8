"""`AllPET`: the trained model, as a person uses it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from allpet.errors import AllpetError
from allpet.geometry import ImageGrid, ParallelBeam
from allpet.mask import project_mask, split
from allpet.model.denoiser import Condition, Denoiser
from allpet.model.latent import PatchBasis
from allpet.model.prior import LinearPrior
from allpet.model.prompt import REGIONS, TASKS, TRACERS, Prompt, parse_prompt
from allpet.model.restorer import Restorer
from allpet.project import Projector
from allpet.scan.core import Scan
from allpet.scan.units import ACTIVITY_MM

CONFIG = "config.json"
PARTS = {
    "basis": "basis.safetensors",
    "prior": "prior.safetensors",
    "denoiser": "denoiser.safetensors",
    "restorer": "restorer.safetensors",
}
SHIPPED = Path(__file__).resolve().parents[1] / "weights" / "base"


@dataclass
class Result:
    """What a task returns: the expected result, its standard deviation over samples (None without samples), and
    what the user should know about how it came about."""

    expected: Scan
    std: Scan | None
    notes: tuple[str, ...] = ()


@dataclass
class Parts:
    """Generated parts: ``positive + negative == whole`` to the bit, both >= 0; ``mask`` is the projected mask M."""

    whole: Scan
    positive: torch.Tensor
    negative: torch.Tensor
    mask: torch.Tensor


@dataclass(frozen=True)
class Drawn:
    """One draw: what the decoder gave (kBq/mL*mm), the positive part's share of each bin, and the image fitted."""

    sinogram: torch.Tensor
    share: torch.Tensor
    image: torch.Tensor


class AllPET:
    """The foundation model: first stage, latent denoiser, restorer.

    Parameters
    ----------
    basis, prior, denoiser, restorer : its parts; a part that is not trained yet is None.
    config : words it was trained on, fields of view, amplitudes, temperature, training record.
    """

    def __init__(
        self,
        config: dict[str, Any],
        basis: PatchBasis | None = None,
        prior: LinearPrior | None = None,
        denoiser: Denoiser | None = None,
        restorer: Restorer | None = None,
    ) -> None:
        self.config, self.basis, self.prior, self.denoiser, self.restorer = config, basis, prior, denoiser, restorer
        self.source = "memory"
        for module in (basis, prior, denoiser, restorer):
            if module is not None:
                module.eval().requires_grad_(False)

    # -- files -----------------------------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(cls, folder: str | Path | None = None) -> AllPET:
        """Load a model folder (default: the weights in the package); safetensors only, no network.

        Raises
        ------
        AllpetError : no such folder, no ``config.json``, or weights that do not fit it.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        path = SHIPPED if folder is None else Path(folder)
        if not (path / CONFIG).is_file():
            raise AllpetError(f"{path}: holds no model ('{CONFIG}' is missing); give a run or model folder")
        try:
            config = json.loads((path / CONFIG).read_text(encoding="utf-8"))
            kinds = {"basis": PatchBasis, "prior": LinearPrior, "denoiser": Denoiser, "restorer": Restorer}
            built: dict[str, Any] = {}
            for name, file in PARTS.items():
                if name not in config["parts"]:
                    continue
                options = {k: tuple(v) if isinstance(v, list) else v for k, v in config["parts"][name].items()}
                made: Any = kinds[name]
                built[name] = made(built["basis"], built["prior"], **options) if name == "denoiser" else made(**options)
                state = {k: v.float() for k, v in load_file(path / file).items()}
                built[name].load_state_dict(state)
        except (OSError, SafetensorError, RuntimeError, KeyError, TypeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise AllpetError(f"{path}: is not a model of this version ({reason}); train it again") from None
        model = cls(config, **built)
        model.source = str(path)
        return model

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``config.json`` and float16 safetensors; every file is replaced in one step."""
        from safetensors.torch import save

        from allpet.io.files import replacing

        path = Path(folder)
        path.mkdir(parents=True, exist_ok=True)
        config = {**self.config, "parts": {}}
        for name, file in PARTS.items():
            module = getattr(self, name)
            if module is None:
                continue
            config["parts"][name] = module.config
            exact = name == "basis"  # a few kB: kept in float32
            state = {k: v.contiguous() if exact else v.half().contiguous() for k, v in module.state_dict().items()}
            with replacing(path / file) as (part,):
                part.write_bytes(save(state))
        with replacing(path / CONFIG) as (part,):
            part.write_text(json.dumps(config, indent=1), encoding="utf-8")

    @property
    def hash(self) -> str:
        """First 16 hex digits of the SHA-256 of all weights."""
        import hashlib

        digest = hashlib.sha256()
        for name in PARTS:
            module = getattr(self, name)
            for key, value in sorted(module.state_dict().items()) if module is not None else ():
                digest.update(f"{name}.{key}".encode() + value.half().numpy().tobytes())
        return digest.hexdigest()[:16]

    # -- conditions ------------------------------------------------------------------------------------------------

    @property
    def beam(self) -> ParallelBeam:
        """The grid the model works on, with pitch 1."""
        return ParallelBeam(self.config["views"], self.config["bins"], 1.0)

    def parse(self, text: str) -> Prompt:
        """Read a prompt in the words this model was trained on."""
        return parse_prompt(text, tuple(self.config["tracers"]), tuple(self.config["regions"]))

    def condition(self, prompt: Prompt | None, task: str, bin_mm: float, n: int) -> Condition:
        """The condition of n samples; words the model does not know are left unsaid."""
        basis = self._need("basis")
        blank = Condition.blank(n, basis, *self.beam.shape)

        prompt = prompt or Prompt()

        def word(value: str | None, known: tuple[str, ...], trained: list[str]) -> torch.Tensor:
            return torch.full((n,), known.index(value) + 1 if value in known and value in trained else 0)

        return replace(
            blank,
            tracer=word(prompt.tracer, TRACERS, self.config["tracers"]),
            region=word(prompt.region, REGIONS, self.config["regions"]),
            task=word(task, TASKS, list(TASKS)),
            log_pitch=torch.full((n,), bin_mm / 4).log(),
        )

    def _need(self, name: str) -> Any:
        part = getattr(self, name)
        if part is None:
            recipe = "low-dose" if name == "restorer" else "base"
            raise AllpetError(f"{self.source}: has no {name} yet; train it with --recipe {recipe}")
        return part

    # -- generate --------------------------------------------------------------------------------------------------

    def generate(
        self,
        prompt: str,
        n: int = 1,
        views: int | None = None,
        bins: int | None = None,
        bin_mm: float | None = None,
        sampler: str = "dpm",
        steps: int = 10,
        seed: int = 0,
        guidance: float = 1.0,
        consistent: bool = True,
        progress: Callable[[int, int], None] | None = None,
    ) -> Scan:
        """Draw sinograms for a prompt such as ``"18F-FDG brain"``.

        Parameters
        ----------
        views, bins, bin_mm : size of the result; by default the model's own, keeping the region's field of view.
        sampler, steps : see :data:`allpet.diffusion.SAMPLERS`. seed : sample i of a seed depends neither
            on `n` nor on the batch.
        consistent : False leaves out the projector in sampling and at the end, on the model's own grid only (for
            judging what the network alone has learned).
        progress : called with samples done and samples in all.

        Returns
        -------
        Scan in kBq/mL*mm, ``(n, views, bins)``, >= 0 and in the projector's range: the drawn sinogram is
        fitted by an image >= 0 (OSEM), which is projected on the grid asked for.
        """
        if n < 1:
            raise AllpetError(f"n is {n}; it must be at least 1")
        if not consistent and (views, bins, bin_mm) != (None, None, None):
            raise AllpetError("the network alone has one size; leave out views, bins and bin_mm")
        wanted = self.parse(prompt)
        beam, target = self._beams(str(wanted.region), views, bins, bin_mm)
        projector = Projector(target, beam.image_grid())
        planes = []
        for drawn in self._draw(wanted, beam, n, None, sampler, steps, seed, guidance, consistent):
            planes.append(projector(drawn.image) if consistent else drawn.sinogram)
            if progress:
                progress(len(planes), n)
        scan = Scan(torch.cat(planes), target, unit=ACTIVITY_MM)
        return replace(scan, tracer=wanted.tracer, isotope=wanted.isotope, region=wanted.region)

    def generate_parts(
        self, prompt: str, mask: torch.Tensor, sampler: str = "dpm", steps: int = 10, seed: int = 0
    ) -> Parts:
        """Draw sinograms together with their positive and negative part under given masks.

        Parameters
        ----------
        mask : image-domain masks ``(n, size, size)`` over the region's field of view, weights >= 0.
        """
        wanted = self.parse(prompt)
        beam, _ = self._beams(str(wanted.region), None, None, None)
        size = mask.shape[-1]
        projected = project_mask(mask, Projector(beam, ImageGrid(size, beam.fov_mm / size)))
        projector = Projector(beam, beam.image_grid())
        wholes, shares = [], []
        for drawn in self._draw(wanted, beam, len(mask), projected, sampler, steps, seed, 1.0):
            wholes.append(projector(drawn.image))
            shares.append(drawn.share)
        whole = Scan(torch.cat(wholes), beam, unit=ACTIVITY_MM, tracer=wanted.tracer, region=wanted.region)
        return Parts(whole, *split(whole.sinogram, torch.cat(shares)), projected)

    def _beams(
        self, region: str, views: int | None, bins: int | None, bin_mm: float | None
    ) -> tuple[ParallelBeam, ParallelBeam]:
        fov = float(self.config["field_of_view_mm"][region])
        model = ParallelBeam(*self.beam.shape, fov / self.beam.bins)
        views, bins = views or model.views, bins or model.bins
        return model, ParallelBeam(views, bins, bin_mm or fov / bins)

    def _draw(
        self,
        prompt: Prompt,
        beam: ParallelBeam,
        n: int,
        mask: torch.Tensor | None,
        sampler: str,
        steps: int,
        seed: int,
        guidance: float,
        consistent: bool = True,
    ) -> Iterator[Drawn]:
        """One sample at a time: batches of different size round differently."""
        from allpet.diffusion import sample, seeded_noise
        from allpet.recon import osem

        basis, denoiser = self._need("basis"), self._need("denoiser")
        unit = Projector(self.beam, self.beam.image_grid())
        center, spread = self.config["log_mean"][f"{prompt.tracer} {prompt.region}"]
        for i in range(n):
            m = torch.ones(1, *self.beam.shape) if mask is None else mask[i : i + 1]
            condition = self.condition(prompt, "generate", beam.bin_mm, 1)
            if mask is not None:
                condition.mask, condition.whole = m, torch.zeros(1)
            shape = (2 * basis.channels, *condition.observed.shape[-2:])
            noise = seeded_noise(shape, seed, [i])
            known = self._known(m, unit)
            z = sample(denoiser, noise, condition, sampler, steps, guidance, project=known if consistent else None)
            positive, negative = z.chunk(2, dim=1)
            whole = basis.decode(positive + negative).clamp_min(0)
            share = (basis.decode(positive) / whole.clamp_min(1e-3 * whole.amax())).clamp(0, 1)
            image = osem(whole, unit, iterations=8, subsets=8)
            amplitude = torch.exp(center + spread * seeded_noise((), seed, [i], stream=1))
            gain = amplitude / unit(image).mean()
            yield Drawn(whole * gain, share, image * (gain / beam.bin_mm))

    def _known(self, mask: torch.Tensor, unit: Projector) -> Callable[[torch.Tensor], torch.Tensor]:
        """Latents of parts to those of the nearest parts that can be: a sinogram of an image >= 0, split by the mask.

        The image is two rounds of filtered back-projection, cut off at zero.
        """
        from allpet.recon import fbp

        basis = self._need("basis")

        def project(z: torch.Tensor) -> torch.Tensor:
            whole = basis.decode(sum(z.chunk(2, dim=1))).clamp_min(0)
            image = fbp(whole, unit)
            image = (image + fbp(whole - unit(image), unit)).clamp_min(0)
            s = unit(image)
            positive, negative = split(s, mask)
            return torch.cat([basis.encode(positive), basis.encode(negative)], dim=1)

        return project

    # -- tasks -----------------------------------------------------------------------------------------------------

    def apply(self, task: str, scan: Scan, **options: Any) -> Result:
        """Run a task on a scan; see the functions in :mod:`allpet.task` for its options."""
        from allpet.task import run

        return run(task, self, scan, **options)
