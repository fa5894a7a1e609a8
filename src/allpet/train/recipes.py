"""What is trained and on what: one class a recipe, used by the loop.

``base``: the first stage (closed form) and the latent denoiser, on whole sinograms and on parts
under random Radon masks (RMAS, DMM). ``base-256``: the same, wider, for larger sinograms on a GPU.
``low-dose``: the restorer, on counted scans of any dose. ``tasks``: see :mod:`allpet.train.tasks`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from allpet.errors import AllpetError
from allpet.geometry import ImageGrid, ParallelBeam
from allpet.mask import MaskFamily, project_mask
from allpet.model.allpet import CONFIG, AllPET
from allpet.model.condition import Condition, join
from allpet.model.denoiser import Denoiser
from allpet.model.latent import FirstStage
from allpet.model.prompt import REGIONS, TRACERS
from allpet.model.restorer import Restorer
from allpet.model.sealed import read_config
from allpet.project import Projector
from allpet.recon.fbp import fbp, ramp_filter
from allpet.train.attention import Attention
from allpet.train.muon import muon
from allpet.train.recipe import Recipe
from allpet.train.samples import TrainingSet, apart, chance, count, draw_emission, random_masks, uniform, vary
from allpet.train.tasks import Tasks

DEFAULT_AUGMENTATION = "all"


def _folder_model(folder: Path, data: TrainingSet) -> AllPET:
    """The run folder's model so far, or an empty one for this data."""
    if (folder / CONFIG).is_file():
        return AllPET.from_pretrained(folder)
    return AllPET(_config(data))


def _check_size(folder: Path | None, data: TrainingSet, multiple: int) -> None:
    """Refuse sinograms that the networks cannot take, or that are not of the size of what the folder holds already."""
    size = tuple(data.sinogram.shape[-2:])
    if any(side % multiple for side in size):
        views, bins = (multiple * max(1, round(side / multiple)) for side in size)
        raise AllpetError(
            f"sinograms are {size[0]} x {size[1]}; this recipe takes multiples of {multiple}: simulate them with "
            f"--views {views} --bins {bins}"
        )
    if folder is not None and (folder / CONFIG).is_file():
        config = read_config(folder / CONFIG)[0]
        if (config["views"], config["bins"]) != size:
            raise AllpetError(
                f"{folder}: holds a model of {config['views']} x {config['bins']}, these sinograms are "
                f"{size[0]} x {size[1]}; use another folder"
            )


def _config(data: TrainingSet) -> dict[str, Any]:
    """That of a model of which nothing is trained yet."""
    views, bins = data.sinogram.shape[-2:]
    return {"views": views, "bins": bins, "trained": {}, **data.facts()}


def _export(folder: Path, data: TrainingSet, record: dict[str, Any], speaks: bool = False, **parts: nn.Module) -> None:
    """Put parts into the folder's model, keep its others; `speaks`: words and amplitudes are those of this data."""
    model = _folder_model(folder, data)
    if speaks:
        model.config |= data.facts()
    for name, module in parts.items():
        setattr(model, name, module)
    model.config["trained"][record["recipe"]] = record | {"data": data.facts()["data"]}
    model.save_pretrained(folder)


class LowDose:
    """Train the restorer."""

    rate, ema, batch = 2e-3, 0.995, 16
    progress = 0.0

    def __init__(self, data: TrainingSet, folder: Path, seed: int) -> None:
        _check_size(folder, data, 8)
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


@dataclass(frozen=True)
class Augmentation:
    """How training samples are varied: exact geometry, share of warped ones, and the masks that split them."""

    geometry: bool = False
    warp: float = 0.0
    masks: MaskFamily | None = None


ONE_SHAPE = MaskFamily(counts=(1, 1), layouts=("uniform",), hollow=0.0, weights=(1.0, 1.0))
AUGMENTATIONS = {
    "none": Augmentation(),
    "rmas": Augmentation(masks=ONE_SHAPE),
    "rmas+dmm": Augmentation(masks=MaskFamily()),
    "geometric": Augmentation(geometry=True),
    "all": Augmentation(geometry=True, masks=MaskFamily()),
    "all+warp": Augmentation(geometry=True, warp=0.5, masks=MaskFamily()),
}
"""The arms of the ablation. RMAS: one random shape; with DMM number, size, weight and layout of the shapes vary."""


class Base:
    """Train the denoiser in the latents of the first stage.

    Parameters
    ----------
    augment : a name in :data:`AUGMENTATIONS`. parts : False leaves out the split by masks. size : factor on the widths
        of the network. surface : see :class:`allpet.model.latent.FirstStage`.
    """

    rate, ema, batch = 2e-3, 0.999, 64
    precision = "fp32"
    widths = (128, 192, 256)  # channels of the network's levels, times `size`
    split = 0.25  # share of samples that are split by a random projected mask
    drawn = 4096  # most varied sinograms behind the closed forms, 8 of each
    held = 1 / 20  # share of subjects kept apart to see when to stop

    def __init__(
        self,
        data: TrainingSet,
        folder: Path,
        seed: int,
        augment: str = DEFAULT_AUGMENTATION,
        parts: bool = True,
        size: float = 1.0,
        surface: str = "plane",
    ) -> None:
        if augment not in AUGMENTATIONS:
            raise AllpetError(f"augmentation '{augment}' is unknown; known: {', '.join(AUGMENTATIONS)}")
        self.folder, self.seed, self.whole_set = folder, seed, data
        self.augmentation = AUGMENTATIONS[augment]
        if not parts:
            self.augmentation = replace(self.augmentation, masks=None)
        self.options = dict(augment=augment, parts=self.augmentation.masks is not None, size=size, surface=surface)
        self.data, self.kept = (data[rows] for rows in apart(data.subject, self.held, seed))
        views, bins = data.sinogram.shape[-2:]
        _check_size(folder, data, 16)
        self.first = FirstStage(views, bins, surface)
        self.masks = Projector(ParallelBeam(views, bins, 1.0), ImageGrid(bins // 2, 2.0))
        rng = torch.Generator().manual_seed(seed)
        varied = [vary(self.data, 64, rng, self.augmentation.geometry)[1] for _ in range(16)]
        self.first.fit(torch.cat(varied))
        batches = [self.draw(64, rng) for _ in range(-(-min(self.drawn, 8 * len(self.data)) // 64))]
        state = torch.cat([z for z, _ in batches])
        widths = tuple(16 * round(w * size / 16) for w in self.widths)
        torch.manual_seed(seed)
        self.network = Denoiser.of(self.first, widths=widths).fit(
            state, join([c for _, c in batches]), _counts(self.data)
        )
        self.device = torch.device("cpu")
        self.progress = 0.0

    def to(self, device: torch.device) -> Base:
        """Batches are drawn on the CPU and sent to the device."""
        self.device = device
        return self

    def optimizer(self, network: Denoiser) -> torch.optim.Optimizer:
        """Muon inside of the U-Net."""
        return muon(network, network.unet, self.rate)

    def loss(self, network: Denoiser, rng: torch.Generator) -> torch.Tensor:
        """Weighted denoising error of both parts; see :meth:`Denoiser.loss`."""
        state, condition = self.draw(self.batch, rng)
        dropped = [chance(self.batch, 0.1, rng) for _ in range(2)]
        condition = condition.without("tracer", where=dropped[0]).without("region", where=dropped[1])
        return self._error(network, state, condition, rng)

    def _error(self, network: Denoiser, state: torch.Tensor, c: Condition, rng: torch.Generator) -> torch.Tensor:
        network.precision = self.precision
        size = network.spread(c) ** torch.rand(len(state), generator=rng)
        sigma = size * torch.exp(1.6 * torch.randn(len(state), generator=rng))
        noise = torch.randn(state.shape, generator=rng)
        return network.loss(state.to(self.device), noise.to(self.device), sigma.to(self.device), c.to(self.device))

    def held_out(self, network: Denoiser, rng: torch.Generator) -> float | None:
        """The same on subjects kept apart: 128 draws of theirs."""
        if not len(self.kept):
            return None
        total = 0.0
        for _ in range(4):
            with torch.no_grad():
                total += float(self._error(network, *self.draw(32, rng, self.kept), rng))
        return total / 4

    def draw(self, n: int, rng: torch.Generator, data: TrainingSet | None = None) -> tuple[torch.Tensor, Condition]:
        """n clean states ``(n, 2 * channels, h, w)`` and what is told of them."""
        how = self.augmentation
        _, s, told = vary(self.data if data is None else data, n, rng, how.geometry, how.warp)
        latent = self.first.encode(s)
        whole = torch.ones(n, dtype=torch.bool) if how.masks is None else ~chance(n, self.split, rng)
        c = replace(Condition.blank(n, *self.first.shape[1:]), **told, whole=whole.float())
        positive = latent
        split = torch.nonzero(~whole).flatten()
        if len(split) and how.masks is not None:
            drawn = random_masks(len(split), self.masks.grid.size, how.masks, rng, self.seed)
            positive = latent.clone()
            positive[split] = self.first.encode(project_mask(drawn, self.masks) * s[split])
            charts = c.mask.clone()
            large = torch.nn.functional.interpolate(drawn[:, None], scale_factor=2, mode="nearest")[:, 0]
            charts[split] = self.first.chart(large)
            c = replace(c, mask=charts, mask_told=(~whole).float()).without("mask", where=chance(n, 0.5, rng))
        hot = hot_regions(self.first.image(latent), rng)
        c = replace(c, attention=self.first.chart(hot), attention_told=torch.ones(n))
        c = c.without("attention", where=~chance(n, 0.15, rng))
        return torch.cat([positive, latent - positive], dim=1), c

    def pictures(self, network: Denoiser) -> torch.Tensor | None:
        """Images of nine samples, of the prompts in turn."""
        model = AllPET(_config(self.whole_set), self.first, network)
        prompts = list(model.config["log_mean"])
        scans = [model.generate(prompts[k % len(prompts)], seed=k).sinogram for k in range(9)]
        return fbp(torch.cat(scans), self.first.projector).clamp_min(0)

    def export(self, network: Denoiser, record: dict[str, Any]) -> None:
        record = {**record, **self.options, "held_out_subjects": len(set(self.kept.subject.tolist()))}
        _export(self.folder, self.whole_set, record, speaks=True, first_stage=self.first, denoiser=network)


class Large(Base):
    """The same with a wider network and larger batches: for 256 x 256 sinograms on a GPU."""

    batch = 256

    def __init__(self, data: TrainingSet, folder: Path, seed: int, size: float = 1.5, **options: Any) -> None:
        super().__init__(data, folder, seed, size=size, **options)


def _counts(data: TrainingSet) -> torch.Tensor:
    """Sinograms of each tracer and region, row and column 0 for all."""
    counts = torch.zeros(len(TRACERS) + 1, len(REGIONS) + 1)
    for tracer in (data.tracer, torch.zeros_like(data.tracer)):
        for region in (data.region, torch.zeros_like(data.region)):
            counts.index_put_((tracer, region), torch.ones(len(data)), accumulate=True)
    return counts


def hot_regions(image: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """1 where images ``(n, size, size)`` are hotter than 1.5 to 4 times their mean over the body, 0 elsewhere."""
    return hotter_than(image, uniform(len(image), 1.5, 4.0, rng))


def hotter_than(image: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
    """1 where images ``(n, size, size)`` exceed so many ``times`` (n,) their mean over the body, 0 elsewhere.

    A coarse segmentation without a learned parameter, as a clinician's region would be (TMA, arXiv 2509.09130).
    """
    coarse = torch.nn.functional.avg_pool2d(image[:, None], 3, 1, 1)[:, 0].clamp_min(0)
    body = coarse > 0.1 * coarse.flatten(1).quantile(0.99, dim=1)[:, None, None]
    mean = (coarse * body).sum(dim=(1, 2)) / body.sum(dim=(1, 2)).clamp_min(image.shape[-1])
    return (coarse > (mean * times)[:, None, None]).float()


RECIPES: dict[str, Callable[[Any, Path, int], Recipe]] = {
    "base": Base,
    "base-256": Large,
    "low-dose": LowDose,
    "tasks": Tasks,
    "attention": Attention,
}
