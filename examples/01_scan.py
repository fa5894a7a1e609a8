"""Scan: a simulated person on a simulated scanner, as counts with geometry, factors and units."""

import torch

from allpet import Scan
from allpet.scan.simulate import simulate

data = simulate(2, region="chest", task="low-dose", dose_fraction=0.25, views=64, bins=64, seed=1)
scan = Scan(
    torch.from_numpy(data.observed),
    data.beam,
    attenuation=torch.from_numpy(data.attenuation),
    background=torch.from_numpy(data.background) * 0.25,
    tracer="FDG",
    isotope="18F",
    region="chest",
    dose_fraction=0.25,
)
print(f"{len(scan)} planes of {scan.geometry.views} views x {scan.geometry.bins} bins, {scan.geometry.bin_mm} mm apart")
print(f"{float(scan.sinogram.sum()):.0f} {scan.unit}, of which about {float(scan.background.sum()):.0f} are background")
assert float(scan.sinogram.sum()) > 100_000
