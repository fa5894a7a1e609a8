"""Task: a scan of a twentieth of the dose, restored to the expected counts of the full dose."""

import torch

from allpet import AllPET
from allpet.metrics import psnr
from allpet.scan.simulate import simulate

data = simulate(2, region="abdomen", task="low-dose", dose_fraction=0.05, seed=3, split="test")
scan = data.scan()
result = AllPET.from_pretrained().apply("low-dose", scan, dose_fraction=0.05, samples=2, seed=0)
truth = torch.from_numpy(data.sinogram)
before, after = psnr(scan.sinogram / 0.05, truth), psnr(result.expected.sinogram, truth)
print(f"PSNR before {before.tolist()} dB, after {after.tolist()} dB")
assert (after > before).all()
