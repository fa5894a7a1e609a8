"""Seeded noise: sample i of a seed depends neither on how many are drawn nor on the batch it is drawn in."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from allpet.errors import AllpetError

Denoise = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""``denoise(z, sigma) -> clean``: expected clean state given ``z = clean + sigma * noise``; sigma is ``(n,)``."""

Noise = Callable[[int], torch.Tensor]
"""``noise(stream) -> (n, *shape)``: standard normal; another stream is independent noise of the same samples."""

START, STEPS = 0, 100
"""Streams of a seed: the start of a draw, and from `STEPS` on one stream for each step."""


def seeded_noise(
    shape: Sequence[int], seed: int, indices: Sequence[int], stream: int = START, device: str | torch.device = "cpu"
) -> torch.Tensor:
    """Standard normal noise ``(len(indices), *shape)``; row k depends on (seed, stream, indices[k]) alone.

    Drawn on the CPU (Philox, a counter-based generator) whatever the device, so that a GPU gets the same noise.

    Raises
    ------
    AllpetError : no indices, or a seed, stream or index that is negative or too large.
    """
    import numpy as np

    if len(indices) == 0:
        raise AllpetError("no samples asked for; give at least one index")
    if min(seed, stream, *indices) < 0:
        raise AllpetError(f"seed {seed}, stream {stream} and indices from {min(indices)} on: none may be negative")
    if max(seed, stream) >= 2**32:  # a longer number takes two words, and could be read as another one and a stream
        raise AllpetError(f"seed is {seed}, stream {stream}; they must be less than 2**32")
    rows = []
    for i in indices:
        rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, stream, int(i)])))
        rows.append(torch.from_numpy(np.asarray(rng.standard_normal(tuple(shape), dtype=np.float32))))
    return torch.stack(rows).to(device)
