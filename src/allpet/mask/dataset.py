"""The virtual dataset of RMAS: hundreds of thousands of masked samples from a few hundred sinograms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from allpet.errors import AllpetError
from allpet.geometry import ImageGrid, ParallelBeam
from allpet.mask.shapes import MaskFamily, draw_masks
from allpet.mask.split import project_mask, split
from allpet.project import Projector

GROUP = 16


@dataclass(frozen=True)
class MaskedBatch:
    """Masked samples: all float32 ``(n, view, radial)``; ``positive + negative == sinogram`` to the bit."""

    index: torch.Tensor
    sinogram: torch.Tensor
    mask: torch.Tensor
    positive: torch.Tensor
    negative: torch.Tensor


class MaskedSinograms:
    """Pairs (sinogram, projected random mask), addressed by index and drawn when asked for.

    Parameters
    ----------
    sinograms : float32 ``(n, view, radial)``. beam : their geometry.
    masks_per_sinogram : how many masks each sinogram meets; the length is their product
        (500 sinograms x 512 masks = 256,000 samples).
    mask_size : pixels of the image-domain mask, over the same field of view. Half the bins
        suffice: a projected mask is smooth.

    Notes
    -----
    Sample i shows sinogram ``i % n`` under mask i of the seed (RMAS, arXiv 2509.09130). For PyTorch:
    ``DataLoader(range(len(data)), batch_size=16, shuffle=True, collate_fn=data.batch)``.
    """

    def __init__(
        self,
        sinograms: torch.Tensor,
        beam: ParallelBeam,
        seed: int = 0,
        masks_per_sinogram: int = 512,
        family: MaskFamily | None = None,
        mask_size: int | None = None,
    ) -> None:
        sinograms = torch.as_tensor(sinograms)
        if sinograms.ndim != 3 or tuple(sinograms.shape[1:]) != beam.shape or len(sinograms) == 0:
            raise AllpetError(f"sinograms have shape {tuple(sinograms.shape)}; must be (n, {beam.views}, {beam.bins})")
        self.sinograms, self.seed, self.family = sinograms, seed, family or MaskFamily()
        self.masks_per_sinogram = masks_per_sinogram
        size = mask_size or max(16, beam.bins // 2)
        self.projector = Projector(beam, ImageGrid(size, beam.fov_mm / size))

    def __len__(self) -> int:
        return len(self.sinograms) * self.masks_per_sinogram

    def image_masks(self, indices: Sequence[int]) -> torch.Tensor:
        """The masks in the image domain, ``(len(indices), size, size)``."""
        return draw_masks(indices, self.projector.grid.size, self.seed, self.family)

    def masks(self, indices: Sequence[int]) -> torch.Tensor:
        """The projected masks M in [0, 1], ``(len(indices), view, radial)``.

        Projected in groups of one fixed size: products of different width round differently, and a
        sample must not depend on the batch it is drawn in.
        """
        images = self.image_masks(indices)
        n = len(images)
        images = torch.cat([images, images.new_zeros(-n % GROUP, *images.shape[1:])])
        return torch.cat([project_mask(part, self.projector) for part in images.split(GROUP)])[:n]

    def batch(self, indices: Sequence[int]) -> MaskedBatch:
        """The samples with these indices.

        Raises
        ------
        IndexError : an index outside ``[0, len)``.
        """
        index = torch.as_tensor(indices)
        if len(index) and (int(index.min()) < 0 or int(index.max()) >= len(self)):
            raise IndexError(f"indices must lie in [0, {len(self)})")
        mask = self.masks(index.tolist())
        sinogram = self.sinograms[index % len(self.sinograms)]
        return MaskedBatch(index, sinogram, mask, *split(sinogram, mask))

    def __getitem__(self, index: int) -> MaskedBatch:
        return self.batch([index])
