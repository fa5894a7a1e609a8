"""Dynamic frames of a scan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from allpet.errors import AllpetError


@dataclass(frozen=True)
class Dynamic:
    """Counts in frames, beside the static scan that they go with.

    Parameters
    ----------
    counts : ``(n, frame, view, radial)``. background : expected randoms and scatter in them, same shape.
    start_s, duration_s : of every frame, s after the (first) injection.
    """

    counts: torch.Tensor
    background: torch.Tensor
    start_s: tuple[float, ...]
    duration_s: tuple[float, ...]

    def __post_init__(self) -> None:
        frames = self.counts.shape[1] if self.counts.ndim == 4 else -1
        if not frames == len(self.start_s) == len(self.duration_s) or self.background.shape != self.counts.shape:
            raise AllpetError(
                f"frames have shape {tuple(self.counts.shape)}, background {tuple(self.background.shape)}, "
                f"{len(self.start_s)} starts and {len(self.duration_s)} durations; it must be (n, frame, view, radial) "
                "with one of each"
            )
        if min(self.duration_s) <= 0:
            raise AllpetError(f"a frame lasts {min(self.duration_s):g} s; durations must be positive")

    def __getitem__(self, index: slice) -> Dynamic:
        return replace(self, counts=self.counts[index], background=self.background[index])

    def changed(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Dynamic:
        """Every frame's counts and background ``(n, view, radial)`` changed alike."""
        counts, background = (
            torch.stack([change(frame) for frame in x.unbind(1)], dim=1) for x in (self.counts, self.background)
        )
        return replace(self, counts=counts, background=background)

    def rebinned(self, frames: int) -> Dynamic:
        """The same counts in so many frames of equal length over the same time.

        Each frame's counts are shared evenly over its time; what lies in a gap between frames stays empty and is made
        up for in the durations.
        """
        if len(self.start_s) == frames:
            return self
        start = np.array(self.start_s)
        stop = start + np.array(self.duration_s)
        edges = np.linspace(start.min(), stop.max(), frames + 1)
        overlap = np.minimum(stop[None], edges[1:, None]) - np.maximum(start[None], edges[:-1, None])
        overlap = overlap.clip(0)
        share = torch.from_numpy(overlap / (stop - start)).float()
        covered = np.maximum(overlap.sum(axis=1), 1e-3)
        counts, background = (torch.einsum("kf,nfvr->nkvr", share, x) for x in (self.counts, self.background))
        return Dynamic(counts, background, tuple(edges[:-1].tolist()), tuple(covered.tolist()))
