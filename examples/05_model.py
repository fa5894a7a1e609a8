"""Model: sinograms for a prompt, from the weights in the package."""

import torch

from allpet import AllPET
from allpet.metrics import mirror_seam, moment_residual

model = AllPET.from_pretrained()
scan = model.generate("18F-FDG brain", n=2, seed=0)
print(f"{tuple(scan.sinogram.shape)} in {scan.unit}, model {model.hash}")
print("mirror seam", mirror_seam(scan.sinogram).tolist())
print("moment residual", moment_residual(scan.sinogram, scan.geometry).tolist())

alone = model.generate("18F-FDG brain", n=1, seed=0)  # a sample does not depend on how many are drawn
assert torch.equal(alone.sinogram[0], scan.sinogram[0])
