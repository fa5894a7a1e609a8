"""Recon: FBP and OSEM give the activity in its own unit, with attenuation and background in the model."""

import torch

from allpet.demo import images_of
from allpet.geometry import ImageGrid, ParallelBeam
from allpet.project import Projector
from allpet.recon import fbp, osem
from allpet.scan.simulate import simulate

A = Projector(ParallelBeam(views=120, bins=96, bin_mm=4.0), ImageGrid(size=96, pixel_mm=4.0))
truth = torch.zeros(96, 96)
truth[30:60, 35:65] = 3.0  # kBq/mL
for name, image in (("fbp", fbp(A(truth), A)), ("osem", osem(A(truth), A, iterations=10))):
    inside = float(image[35:55, 40:60].mean())
    print(f"{name}: {inside:.3f} kBq/mL where there are 3")
    assert abs(inside - 3) < 0.05

data = simulate(1, region="chest", task="low-dose", views=96, bins=96, seed=4)
image = images_of(torch.from_numpy(data.sinogram), data)
print(f"a person: {float(image.mean()):.3f} kBq/mL on average, {float(data.image.mean()):.3f} in truth")
