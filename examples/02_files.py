"""Files: the same scan through Interfile and back, bit by bit."""

from pathlib import Path
from tempfile import TemporaryDirectory

import torch

import allpet

counts = torch.poisson(torch.full((3, 60, 48), 4.0))
scan = allpet.Scan.from_array(counts, bin_mm=4.0, tracer="FDG", isotope="18F", region="brain", plane_mm=2.0)
with TemporaryDirectory() as folder:
    path = Path(folder) / "scan.hs"
    allpet.write(scan, path)
    print(path.read_text().splitlines()[0], "...", path.with_suffix(".s").stat().st_size, "bytes of data")
    again = allpet.read(path)
assert torch.equal(again.sinogram, scan.sinogram)
assert again.geometry == scan.geometry and again.region == "brain"
