"""An untrained model, shared by several tests."""

import torch

from allpet.model import AllPET
from allpet.model.denoiser import Denoiser
from allpet.model.focus import Focus
from allpet.model.latent import FirstStage
from allpet.model.restorer import Restorer
from allpet.model.translator import Translator


def blobs(n: int, size: int = 32, seed: int = 0) -> torch.Tensor:
    """n sinograms of a few disks, mean 1, ``(n, size, size)``."""
    from allpet.geometry import ImageGrid, ParallelBeam
    from allpet.mask import draw_masks
    from allpet.project import Projector

    s = Projector(ParallelBeam(size, size, 1.0), ImageGrid(size, 1.0))(draw_masks(range(n), size, seed) + 1e-3)
    return s / s.mean(dim=(-2, -1), keepdim=True)


def tiny(seed: int = 0, surface: str = "plane", idle: bool = False) -> AllPET:
    """An untrained model of 32 x 32; with `idle` networks it leaves images as they are."""
    torch.manual_seed(seed)
    first = FirstStage(32, 32, surface, patch=4, channels=6).fit(blobs(8))
    denoiser = Denoiser.of(first, widths=(16, 32), n_cond=16)
    denoiser.mean[1, ..., :6, :, :] = first.encode(blobs(8)).mean(dim=0)
    denoiser.mean[0] = denoiser.mean[1, ..., :6, :, :].repeat(1, 1, 2, 1, 1) / 2
    denoiser.variance.fill_(0.1)
    denoiser.variance[1, ..., 6:, :, :] = 0
    with torch.no_grad():
        for p in denoiser.unet.parameters():
            p.add_(0.05 * torch.randn(p.shape))
    config = dict(
        views=32,
        bins=32,
        trained={},
        tracers=["FDG", "PSMA"],
        regions=["brain"],
        field_of_view_mm={"brain": 256.0},
        log_mean={"FDG brain": [7.0, 0.2]},
    )
    translator = Translator((8, 16), 16)
    with torch.no_grad():
        for p in () if idle else translator.unet.parameters():
            p.add_(0.05 * torch.randn(p.shape))
    focus = Focus((8, 16), 8)
    with torch.no_grad():
        for p in () if idle else focus.unet.parameters():
            p.add_(0.05 * torch.randn(p.shape))
    restorer = Restorer(32, 32, (8, 16), (8, 16), 16)
    return AllPET(config, first, denoiser, restorer, translator, focus=focus)
