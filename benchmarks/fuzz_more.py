"""Small whole files of the formats that are this package's own or a user's tables, and how they are read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np


def _image() -> Any:
    import torch

    from allpet.geometry import ImageGrid
    from allpet.scan.core import Image

    return Image(torch.zeros(3, 16, 16), ImageGrid(16, 2.05), "kBq/mL", 3.0)


def _regions() -> Any:
    from allpet.mask import Region

    soft = np.zeros((3, 16, 16))
    soft[1, 4:8, 5:9], soft[2, 4:6, 5:7] = 1.0, 0.5
    hard = np.zeros((3, 16, 16))
    hard[0, 10:13, 2:6] = 1.0
    return [
        Region.from_mask("lesion", soft, strength=2.0),
        Region.from_mask("liver", hard, kind="roi", why="asked for"),
    ]


def regions(folder: Path) -> Path:
    """Two regions by voxels and one by shapes, as JSON."""
    from allpet.io.regions import write_regions

    path = folder / "regions.json"
    write_regions(_regions(), path)
    content = json.loads(path.read_text())
    shapes = [
        {"type": "ellipse", "centre_mm": [3.0, -4.0], "axes_mm": [5.0, 7.0], "angle_deg": 30.0},
        {"type": "pen", "points_mm": [[-3.0, 1.0], [6.0, 2.0]], "width_mm": 3.0},
        {"type": "polygon", "points_mm": [[-8.0, -8.0], [8.0, -8.0], [0.0, 8.0]]},
    ]
    content["regions"].append({"name": "drawn", "shapes": shapes, "planes": [0, 2], "combine": "union"})
    path.write_text(json.dumps(content, indent=1))
    return path


def labels(folder: Path) -> Path:
    """The same regions as a label map with names."""
    from allpet.io import write
    from allpet.io.regions import label_image

    write(label_image(_regions(), _image()), folder / "labels.nii")
    return folder / "labels.nii"


def read_regions(path: Path) -> None:
    """Regions of an image, from either."""
    from allpet.io.regions import read_regions as read

    read(path, _image())


def model(folder: Path) -> Path:
    """A model folder of one small part, without hashes, so that they do not shield what stands behind them."""
    import torch
    from safetensors.torch import save_file

    from allpet.model.focus import Focus

    torch.manual_seed(0)
    focus = Focus((8, 16), 8)
    save_file({k: v.contiguous() for k, v in focus.state_dict().items()}, folder / "focus.safetensors")
    words = {"tracers": ["FDG"], "regions": ["brain"], "field_of_view_mm": {"brain": 256.0}}
    config = {"views": 32, "bins": 32, "trained": {}, **words, "parts": {"focus": focus.config}}
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    return folder / "config.json"


def read_model(path: Path) -> None:
    """The model folder that a config belongs to."""
    from allpet.model import AllPET

    assert AllPET.from_pretrained(path.parent).hash


def checkpoint(folder: Path) -> Path:
    """A run's state, without its hash."""
    import torch
    from safetensors.torch import save_file

    from allpet.train.checkpoint import Counters

    facts = {"recipe": "x", **vars(Counters(step=12, best=0.5, best_step=10)), "seconds": "000000012.000000"}
    tensors = {"net.a": torch.ones(3, 4), "ema.a": torch.zeros(3, 4)}
    save_file(tensors, folder / "c.safetensors", {"state": json.dumps(facts)})
    return folder / "c.safetensors"


def read_checkpoint(path: Path) -> None:
    """A checkpoint, and its weights into a module."""
    import torch
    from torch import nn

    from allpet.train.checkpoint import Checkpoint

    class One(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Parameter(torch.zeros(3, 4))

    Checkpoint(path, "x").fill("net", One())


def audit(folder: Path) -> Path:
    """An audit log."""
    from allpet import audit as log

    path = folder / "audit.jsonl"
    log.append(path, *(log.entry(f"drew {k}", _regions(), seed=k) for k in range(5)))
    return path


def read_audit(path: Path) -> None:
    """All whole lines; torn ones are passed over, so that most damage is no error."""
    from allpet import audit as log

    log.read(path)


def scanner(folder: Path) -> Path:
    """A scanner of a user's own."""
    from importlib.resources import files

    text = files("allpet.scan").joinpath("scanners.toml").read_text(encoding="utf-8")
    (folder / "mine.toml").write_text(text, encoding="utf-8")
    return folder / "mine.toml"


def read_scanner(path: Path) -> None:
    """All scanners of a file."""
    from allpet.scan.scanners import load_scanners

    load_scanners(path)


def table(folder: Path) -> Path:
    """The table of a labelled volume."""
    from allpet.scan.labelled import table_path

    lines = table_path("totalsegmentator").read_text(encoding="utf-8").splitlines()
    (folder / "table.csv").write_text("\n".join(lines[:30]) + "\n", encoding="utf-8")
    return folder / "table.csv"


def read_table(path: Path) -> None:
    """All rows."""
    from allpet.scan.labelled import read_table as read

    read(path)


def bare_store(folder: Path) -> Path:
    """A store as another program or an older version writes it: nothing but zarr's own checksums protects it."""
    import fuzz_files

    path = fuzz_files.store(folder)
    meta = json.loads((path / "zarr.json").read_text())
    del meta["attributes"]["sha256"]
    (path / "zarr.json").write_text(json.dumps(meta, indent=2))
    for place in path.glob("*/sha256-*.txt"):
        place.unlink()
    return path
