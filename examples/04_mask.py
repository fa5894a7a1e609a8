"""Mask: random shapes, projected, split a sinogram into parts that sum to it exactly."""

import torch

from allpet.mask import MaskedSinograms
from allpet.scan.simulate import simulate

data = simulate(2, region="brain", views=64, bins=64, seed=2)
masked = MaskedSinograms(torch.from_numpy(data.sinogram), data.beam, seed=0)
print(f"{len(data)} sinograms make {len(masked)} masked samples, drawn when asked for")

batch = masked.batch([0, 1, 1000])
assert torch.equal(batch.positive + batch.negative, batch.sinogram)
for k, part in enumerate(batch.positive):
    print(
        f"sample {int(batch.index[k])}: {100 * float(part.sum() / batch.sinogram[k].sum()):.0f} % in the positive part"
    )
