"""Scan: a simulated person on a simulated scanner, as counts with geometry, factors and units."""

from allpet.scan.simulate import simulate

data = simulate(2, tracer="PSMA", region="pelvis", task="low-dose", dose_fraction=0.25, views=64, bins=64, seed=1)
scan = data.scan()
print(f"{len(scan)} planes of {scan.geometry.views} views x {scan.geometry.bins} bins, {scan.geometry.bin_mm} mm apart")
print(f"{float(scan.sinogram.sum()):.0f} {scan.unit}, of which about {float(scan.background.sum()):.0f} are background")
print(f"{scan.isotope}-{scan.tracer}, {scan.duration_s:.0f} s from {scan.start_s:.0f} s after the injection on")
assert float(scan.sinogram.sum()) > 100_000
