"""Project: one matched pair of operators, differentiable, in mm."""

import torch

from allpet.geometry import ImageGrid, ParallelBeam
from allpet.project import Projector

A = Projector(ParallelBeam(views=90, bins=96, bin_mm=4.0), ImageGrid(size=96, pixel_mm=4.0))
x = torch.rand(96, 96, generator=torch.Generator().manual_seed(0), requires_grad=True)
y = A(x)
print("image", tuple(x.shape), "-> sinogram", tuple(y.shape))

other = torch.rand(y.shape, generator=torch.Generator().manual_seed(1))
left, right = (y * other).sum().item(), (x * A.adjoint(other)).sum().item()
print(f"<A x, y> = {left:.2f}, <x, A' y> = {right:.2f}")
assert abs(left - right) < 1e-5 * abs(left)

(y * other).sum().backward()  # the backward pass is the adjoint
assert torch.allclose(x.grad, A.adjoint(other))
