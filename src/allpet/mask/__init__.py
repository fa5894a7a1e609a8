"""Masks: random shapes (RMAS, DMM), their projection, exact splits, regions and transparent attention."""

from allpet.mask.attention import Lines, attention, attention_of, emphasise, undo
from allpet.mask.dataset import MaskedBatch, MaskedSinograms
from allpet.mask.region import Region, difference, intersection, label_map, union
from allpet.mask.shapes import MaskFamily, draw_masks
from allpet.mask.split import project_mask, split

__all__ = [
    "Lines",
    "MaskFamily",
    "MaskedBatch",
    "MaskedSinograms",
    "Region",
    "attention",
    "attention_of",
    "difference",
    "draw_masks",
    "emphasise",
    "intersection",
    "label_map",
    "project_mask",
    "split",
    "undo",
    "union",
]
