"""How good generated sinograms are: consistency, distance to unseen people, memorisation.

Every figure stands beside the same figure of simulated people that the model never saw, and of
noise. Distances are between sinograms divided by their mean, averaged to 32 x 32; "real
against real" compares two disjoint sets of unseen people of the same size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import adaptive_avg_pool2d

from allpet.geometry import ParallelBeam
from allpet.metrics import memorisation, mirror_seam, moment_residual, range_residual, sliced_wasserstein
from allpet.project import Projector

if TYPE_CHECKING:
    from allpet.model import AllPET


def features(sinograms: torch.Tensor) -> torch.Tensor:
    """What distances are taken of: ``(n, 1024)``."""
    shape = sinograms / sinograms.mean(dim=(-2, -1), keepdim=True)
    return adaptive_avg_pool2d(shape[:, None], 32).flatten(1)


def first_stage_floor(model: AllPET, sinograms: torch.Tensor, beam: ParallelBeam) -> dict[str, float]:
    """PSNR (dB, to each one's maximum) and consistency of sinograms sent through the first stage and back."""
    from allpet.metrics import psnr

    basis = model.need("basis")
    unit = sinograms / sinograms.mean(dim=(-2, -1), keepdim=True)
    back = basis.decode(basis.encode(unit))
    return {"psnr": float(psnr(back, unit).mean()), **consistency(back, beam)}


def consistency(sinograms: torch.Tensor, beam: ParallelBeam) -> dict[str, float]:
    """Means of mirror seam, moment residual and range residual."""
    projector = Projector(beam, beam.image_grid())
    return {
        "mirror_seam": float(mirror_seam(sinograms).mean()),
        "moment_residual": float(moment_residual(sinograms, beam).mean()),
        "range_residual": float(range_residual(sinograms, projector).mean()),
    }


def evaluate_generation(
    model: AllPET, n: int = 48, seed: int = 0, progress: Callable[[int, int], None] | None = None
) -> list[dict[str, Any]]:
    """One row for each region and set: generated, the network alone, unseen people, first stage, noise.

    Parameters
    ----------
    n : sinograms of each set (unseen people: one slice each). seed : of the draws.
    """
    from allpet.scan.simulate import simulate

    rows = []
    for done, region in enumerate(model.config["regions"]):
        prompt = f"{model.config['tracers'][0]} {region}"
        made = model.generate(prompt, n=n, seed=seed)
        raw = model.generate(prompt, n=n, seed=seed, consistent=False)
        beam = made.geometry
        assert isinstance(beam, ParallelBeam)
        size = dict(region=region, views=beam.views, bins=beam.bins, bin_mm=beam.bin_mm, seed=0)
        unseen = torch.from_numpy(simulate(2 * n, **size, split="test", slices_per_subject=1).sinogram)
        train = torch.from_numpy(simulate(n, **size, split="train", slices_per_subject=4).sinogram)
        noise = torch.rand(n, *beam.shape, generator=torch.Generator().manual_seed(seed))
        real, other = features(unseen[:n]), features(unseen[n:])
        sets = {"generated": made.sinogram, "network alone": raw.sinogram, "unseen people": unseen[n:]}
        for name, sinograms in {**sets, "noise": noise}.items():
            row = dict(region=region, set=name, n=n, **consistency(sinograms, beam))
            row["distance"] = sliced_wasserstein(features(sinograms), real)
            rows.append(row)
        copied = memorisation(features(made.sinogram), features(train), other)
        rows[-4] |= dict(
            nearest_training=copied.to_train,
            nearest_unseen=copied.to_held_out,
            unseen_to_training=copied.held_out_to_train,
            closer_to_training=copied.closer_to_train,
        )
        rows.append(dict(region=region, set="first stage", n=n, **first_stage_floor(model, unseen[:n], beam)))
        if progress:
            progress(done + 1, len(model.config["regions"]))
    return rows


def markdown(rows: list[dict[str, Any]]) -> str:
    """The rows as a Markdown table."""
    lines = [
        "| region | set | mirror seam | moment residual | range residual | distance to unseen people | n |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        distance = f"{row['distance']:.3f}" if "distance" in row else f"(PSNR {row['psnr']:.1f} dB)"
        scores = f"{row['mirror_seam']:.2f} | {row['moment_residual']:.1e} | {row['range_residual']:.4f}"
        lines.append(f"| {row['region']} | {row['set']} | {scores} | {distance} | {row['n']} |")
    return "\n".join(lines)
