"""Masks: random shapes (RMAS, DMM), their projection, exact splits and transparent attention."""

from allpet.mask.dataset import MaskedBatch, MaskedSinograms
from allpet.mask.shapes import MaskFamily, draw_masks
from allpet.mask.split import attention, project_mask, split

__all__ = ["MaskFamily", "MaskedBatch", "MaskedSinograms", "attention", "draw_masks", "project_mask", "split"]
