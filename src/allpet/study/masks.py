"""How diverse masks are: RMAS, RMAS with DMM, and the sliding block of the paper."""

from __future__ import annotations

from typing import Any

import torch

from allpet.geometry import ImageGrid, ParallelBeam
from allpet.mask import MaskFamily, draw_masks, project_mask
from allpet.metrics import mean_pairwise_correlation, participation_ratio, sliding_block_masks, vendi_score
from allpet.project import Projector
from allpet.train.recipes import ONE_SHAPE


def diversity(n: int = 400, size: int = 128) -> list[dict[str, Any]]:
    """A row for each family: n masks in sinogram space, ``(n, size, size)``, and how alike they are.

    A block of half the grid (64 of 128, the paper's) slides over the sinogram itself; random shapes are projected.
    """
    projector = Projector(ParallelBeam(size, size, 1.0), ImageGrid(size, 1.0))
    shapes = {"RMAS (one shape)": ONE_SHAPE, "RMAS + DMM": MaskFamily()}
    families = {
        name: project_mask(draw_masks(range(n), size, family=family), projector) for name, family in shapes.items()
    }
    stride = max(1, int((size // 2 + 1) / n**0.5))
    blocks = sliding_block_masks(size, size // 2, stride).float()
    families[f"sliding block of {size // 2}"] = blocks[torch.linspace(0, len(blocks) - 1, min(n, len(blocks))).long()]
    rows = []
    for name, masks in families.items():
        flat = masks.flatten(1)
        rows.append(
            dict(
                family=name,
                n=len(flat),
                mean_pairwise_correlation=mean_pairwise_correlation(flat),
                participation_ratio=participation_ratio(flat),
                vendi_score=vendi_score(flat),
            )
        )
    return rows


def markdown(rows: list[dict[str, Any]]) -> str:
    """The rows as a Markdown table."""
    lines = ["| masks | n | mean pairwise correlation | participation ratio | Vendi score |", "|---|---|---|---|---|"]
    for row in rows:
        values = f"{row['mean_pairwise_correlation']:.3f} | {row['participation_ratio']:.1f} | {row['vendi_score']:.1f}"
        lines.append(f"| {row['family']} | {row['n']} | {values} |")
    return "\n".join(lines)
