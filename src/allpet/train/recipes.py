"""What is trained and on what: one class a recipe, used by the loop.

``base``: the first stage (closed form) and the latent denoiser, on whole sinograms and on parts
under random Radon masks (RMAS, DMM), and on restoring where the folder has a restorer.
``low-dose``: the restorer, on counted scans of any dose.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from allpet.geometry import ImageGrid, ParallelBeam
from allpet.mask import MaskFamily, project_mask
from allpet.model.allpet import CONFIG, SHIPPED, AllPET
from allpet.model.denoiser import Condition, Denoiser
from allpet.model.latent import PatchBasis
from allpet.model.prior import LinearPrior
from allpet.model.prompt import TASKS
from allpet.model.restorer import Restorer
from allpet.project import Projector
from allpet.recon.fbp import ramp_filter
from allpet.train.samples import Counted, TrainingSet, chance, count, draw_emission, random_masks, vary


class Recipe(Protocol):
    """What the loop needs to know of a recipe."""

    seed: int
    rate: float
    ema: float

    @property
    def network(self) -> Any:
        """What is trained: a ``torch.nn.Module``."""

    def loss(self, network: Any, rng: torch.Generator) -> torch.Tensor:
        """Loss of one batch drawn from `rng`."""

    def export(self, network: Any, record: dict[str, Any]) -> None:
        """Write the model with this network into the run folder."""


def _folder_model(folder: Path, data: TrainingSet) -> AllPET:
    """The run folder's model so far, or an empty one for this data."""
    if (folder / CONFIG).is_file():
        return AllPET.from_pretrained(folder)
    views, bins = data.sinogram.shape[-2:]
    return AllPET({"views": views, "bins": bins, "trained": {}, **data.facts()})


def _export(folder: Path, data: TrainingSet, record: dict[str, Any], **parts: nn.Module) -> None:
    """Put parts into the folder's model, keep its others."""
    model = _folder_model(folder, data)
    for name, module in parts.items():
        setattr(model, name, module)
    model.config["trained"][record["recipe"]] = record
    model.save_pretrained(folder)


class LowDose:
    """Train the restorer."""

    rate, ema, batch = 2e-3, 0.995, 16

    def __init__(self, data: TrainingSet, folder: Path, seed: int) -> None:
        views, bins = data.sinogram.shape[-2:]
        self.data, self.folder, self.seed = data, folder, seed
        self.network = Restorer(views, bins)
        self.response = ramp_filter(bins, 1.0)

    def loss(self, network: Restorer, rng: torch.Generator) -> torch.Tensor:
        """Mean log relative error (so that every dose counts alike) of expected counts and of filtered emission."""
        scan = count(*draw_emission(self.data, self.batch, rng), rng)
        error = network(scan.counts, scan.efficiency, scan.background, scan.bin_mm) - scan.emission
        whole = _ratio(scan.efficiency * error, scan.efficiency * scan.emission)
        sharp = _ratio(self._filtered(error), self._filtered(scan.emission))
        return (whole + 1e-6).log().mean() + 0.5 * (sharp + 1e-5).log().mean()

    def _filtered(self, x: torch.Tensor) -> torch.Tensor:
        """Ramp-filtered along the bins: what a reconstruction will see."""
        n = 2 * (len(self.response) - 1)
        return torch.fft.irfft(torch.fft.rfft(x, n=n) * self.response, n=n)[..., : x.shape[-1]]

    def export(self, network: Restorer, record: dict[str, Any]) -> None:
        _export(self.folder, self.data, record, restorer=network)


def _ratio(error: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    return error.square().mean(dim=(-2, -1)) / truth.square().mean(dim=(-2, -1)).clamp_min(1e-12)


class Base:
    """Train the denoiser in the latents of the first stage."""

    rate, ema, batch = 1e-3, 0.998, 16
    whole = 0.75  # share of whole sinograms; the others are split by a random projected mask
    observed = 0.15  # share that is told a restored observation
    pool = 800  # restored observations drawn beforehand

    def __init__(self, data: TrainingSet, folder: Path, seed: int) -> None:
        views, bins = data.sinogram.shape[-2:]
        self.data, self.folder, self.seed = data, folder, seed
        rng = torch.Generator().manual_seed(seed)
        drawn = [vary(data, 100, rng) for _ in range(36)]
        varied = torch.cat([s for _, s, _ in drawn])
        self.basis = PatchBasis().fit(varied[:1000])
        latents = self.basis.encode(varied)
        self.prior = LinearPrior.fit(latents, torch.cat([told["region"] for _, _, told in drawn]))
        size = bins // 2
        self.masks = Projector(ParallelBeam(views, bins, 1.0), ImageGrid(size, bins / size))
        self.scans = self._restored(rng)
        spread = float(latents.square().mean().sqrt())
        self.network = Denoiser(self.basis, self.prior, views, bins, sigma_data=spread, trust=self._trust())

    def _trust(self) -> tuple[float, float]:
        """Straight line through log error of restored latents over log counts."""
        if self.scans is None:
            return -1.0, 0.0
        error = (self.scans["truth"] - self.scans["observed"]).square().mean(dim=(1, 2, 3)).sqrt().log()
        x = self.scans["log_counts"]
        slope = float(((x - x.mean()) * (error - error.mean())).sum() / (x - x.mean()).square().sum())
        return float(error.mean()) - slope * float(x.mean()), slope

    def _restored(self, rng: torch.Generator) -> dict[str, torch.Tensor] | None:
        """Latents of truth and restored estimate, and their conditions; None without a restorer."""
        source = next((p for p in (self.folder, SHIPPED) if (p / CONFIG).is_file()), None)
        model = None if source is None else AllPET.from_pretrained(source)
        if model is None or model.restorer is None or model.beam.shape != self.data.sinogram.shape[-2:]:
            return None
        rows: list[dict[str, torch.Tensor]] = []
        for _ in range(-(-self.pool // self.batch)):
            pick, s, told = vary(self.data, self.batch, rng)
            scan: Counted = count(s, pick.depth, pick.bin_mm, rng)
            with torch.no_grad():
                seen = model.restorer(scan.counts, scan.efficiency, scan.background, scan.bin_mm)
            mean = seen.mean(dim=(-2, -1), keepdim=True).clamp_min(1e-9)
            told["task"] = torch.full((self.batch,), TASKS.index("low-dose") + 1)
            told["log_counts"] = (scan.counts - scan.background).mean(dim=(-2, -1)).clamp_min(1e-3).log()
            truth, guess = self.basis.encode(scan.emission / mean), self.basis.encode(seen / mean)
            rows.append({**told, "truth": truth, "observed": guess})
        return {key: torch.cat([row[key] for row in rows]) for key in rows[0]}

    def loss(self, network: Denoiser, rng: torch.Generator) -> torch.Tensor:
        """Denoising error of both parts, relative to the expected error of the linear estimate."""
        z, condition = self._batch(rng)
        n, sd = len(z), network.sigma_data
        sigma = sd * torch.exp(1.3 * torch.randn(n, generator=rng) + 0.3)
        noisy = z + torch.randn(z.shape, generator=rng) * sigma[:, None, None, None]
        base, error = network.linear(noisy, sigma, condition)
        unit = error[:, None, None, None].clamp_min(1e-4)
        left = network.correction(noisy, base, sigma, condition) - (z - base) / unit
        return left.square().mean()

    def _batch(self, rng: torch.Generator) -> tuple[torch.Tensor, Condition]:
        restoring = 0 if self.scans is None else round(self.batch * self.observed)
        n = self.batch - restoring
        _, s, told = vary(self.data, n, rng)
        whole = chance(n, self.whole, rng)
        masks = torch.ones_like(s)
        split = torch.nonzero(~whole).flatten()
        if len(split):
            drawn = random_masks(len(split), self.masks.grid.size, MaskFamily(), rng, self.seed)
            masks[split] = project_mask(drawn, self.masks)
        z = self.basis.encode(s)
        positive = torch.where(whole[:, None, None, None], z, self.basis.encode(masks * s))
        z = torch.cat([positive, z - positive], dim=1)
        blank = Condition.blank(n, self.basis, *s.shape[-2:])
        condition = replace(blank, **told, mask=masks, whole=whole.float())
        if restoring and self.scans is not None:
            rows = torch.randint(len(self.scans["truth"]), (restoring,), generator=rng)
            pick = {key: value[rows] for key, value in self.scans.items()}
            truth = pick.pop("truth")
            blank = Condition.blank(restoring, self.basis, *s.shape[-2:])
            z = torch.cat([z, torch.cat([truth, torch.zeros_like(truth)], dim=1)])
            condition = condition.join(replace(blank, **pick, restoring=torch.ones(restoring)))
        return z, condition.without_prompt(chance(len(z), 0.1, rng))

    def export(self, network: Denoiser, record: dict[str, Any]) -> None:
        _export(self.folder, self.data, record, basis=self.basis, prior=self.prior, denoiser=network)


RECIPES: dict[str, Callable[[TrainingSet, Path, int], Recipe]] = {"base": Base, "low-dose": LowDose}
