"""Report: figures with units on one self-contained page."""

from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from allpet.provenance import provenance
from allpet.report import Section, Table, draw, image_panel, sinogram_panel, write_page
from allpet.scan.simulate import simulate

data = simulate(1, region="brain", views=64, bins=64, seed=5)
sinogram, image = torch.from_numpy(data.sinogram[0]), torch.from_numpy(data.image[0])
figure = draw(
    [[sinogram_panel(sinogram, data.beam, "sinogram", data.unit), image_panel(image, data.grid, "activity", "kBq/mL")]]
)
table = Table("Means over the plane.", ["what", "mean"], [["activity", f"{float(image.mean()):.2f} kBq/mL"]])
with TemporaryDirectory() as folder:
    page = Path(folder) / "report.html"
    section = Section("A brain", ["A simulated person."], [(figure, "Sinogram and activity.")], [table])
    write_page(page, "An example", ["One page, nothing loaded from elsewhere."], [section], provenance(seed=5))
    print(f"{page.name}: {page.stat().st_size // 1024} kB")
