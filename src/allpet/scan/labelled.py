"""Bodies from a labelled volume of the user's: ``allpet simulate --labels LABELS.nii.gz --table ORGANS.csv``.

The table has a row for each label value, or for a range such as ``100-250``: ``label`` and ``tissue`` (a name of
:data:`allpet.scan.phantom.LABELS`), and optionally ``name``, ``gain`` (uptake relative to the tissue's) and ``mu``
(1/mm at 511 keV). A CT of the same grid gives mu instead; then a row for label 0 says what unlabelled voxels above
-300 HU are. ``totalsegmentator`` in place of
a table's path names the one that comes with the package (class numbers of TotalSegmentator 2).
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from allpet.errors import AllpetError
from allpet.scan.mumap import LARGEST_MU, WATER, hu_to_mu
from allpet.scan.phantom import LABEL, LABELS, MU, Canvas, Lesion, Waves, draw_levels

if TYPE_CHECKING:
    from allpet.scan.core import Image

COLUMNS = ("label", "name", "tissue", "gain", "mu")
TABLES = Path(__file__).parent / "tables"
BODY_HU = -300.0


@dataclass(frozen=True)
class Row:
    """Labels from `low` to `high`: the tissue that they stand for, uptake relative to it, and mu in 1/mm."""

    low: float
    high: float
    tissue: str
    gain: float
    mu: float


AIR = Row(0.0, 0.0, "air", 1.0, 0.0)


@dataclass(frozen=True, eq=False)
class Volume:
    """A labelled volume in the project's axes (plane 0 at the head, row 0 anterior, column 0 the patient's right).

    Parameters
    ----------
    tissue : uint8 ``(plane, row, column)``, values of `LABELS`. gain, mu : float32 by label map, the same shape.
    """

    tissue: np.ndarray
    gain: np.ndarray
    mu: np.ndarray
    pixel_mm: float
    plane_mm: float

    @property
    def used(self) -> np.ndarray:
        """Planes with any tissue, ascending."""
        return np.flatnonzero(self.tissue.any(axis=(1, 2)))

    @property
    def fov_mm(self) -> float:
        """Diameter of the circle about the middle that holds all tissue."""
        rows, columns = np.nonzero((self.tissue > 0).any(axis=0))
        half = (self.tissue.shape[1] - 1) / 2
        return 2.04 * (float(np.hypot(rows - half, columns - half).max()) + 1) * self.pixel_mm


def table_path(name: Path | str) -> Path:
    """A table that comes with the package by its bare name, else the path itself."""
    shipped = TABLES / f"{name}.csv"
    return shipped if shipped.is_file() else Path(name)


def read_table(path: Path | str) -> list[Row]:
    """Rows of a table, by rising label.

    Raises
    ------
    AllpetError : no such file, a column missing or unknown, a tissue unknown, a number that is none, a label twice.
    """
    path = table_path(path)
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            lines = list(csv.DictReader(file, skipinitialspace=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise AllpetError(f"{path}: cannot be read ({error}); give a table as comma-separated text") from None
    columns = set(lines[0]) - {None} if lines else set()
    if not {"label", "tissue"} <= columns or columns - set(COLUMNS):
        raise AllpetError(
            f"{path}: has columns {', '.join(sorted(map(str, columns))) or 'none'}; it must have label and tissue, and "
            "may have name, gain and mu"
        )
    rows = sorted((_row(path, number, line) for number, line in enumerate(lines, 2)), key=lambda row: row.low)
    for one, other in pairwise(rows):
        if other.low <= one.high:
            raise AllpetError(f"{path}: label {other.low:g} has two rows; give one for each label")
    return rows


def _row(path: Path, number: int, line: dict[str, str]) -> Row:
    where = f"{path}: line {number}"
    label = (line["label"] or "").strip()
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(?:\s*-\s*(\d+(?:\.\d+)?))?", label)
    if match is None or float(match[2] or match[1]) < float(match[1]):
        raise AllpetError(f"{where}: label is '{label}'; it must be a number or a range such as 100-250")
    tissue = (line["tissue"] or "").strip().lower()
    if tissue not in LABELS or tissue.startswith("lesion"):
        known = ", ".join(name for name in LABELS if not name.startswith("lesion"))
        raise AllpetError(f"{where}: tissue '{tissue}' is unknown; known are {known}")
    gain, mu = _number(where, line, "gain", 1.0), _number(where, line, "mu", MU[tissue])
    if mu > LARGEST_MU:
        raise AllpetError(f"{where}: mu is {mu:g}; in 1/mm at 511 keV it lies below {LARGEST_MU} (water {WATER})")
    return Row(float(match[1]), float(match[2] or match[1]), tissue, gain, mu)


def _number(where: str, line: dict[str, str], column: str, default: float) -> float:
    text = (line.get(column) or "").strip()
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not (np.isfinite(value) and value >= 0):
        raise AllpetError(f"{where}: {column} is '{text}'; it must be a number, 0 or more")
    return value


@lru_cache(maxsize=2)
def load_volume(labels: str, table: str, ct: str | None = None) -> Volume:
    """Read a labelled volume with its table, and its CT where there is one.

    Raises
    ------
    AllpetError : a file that cannot be read, labels without a row, a CT on another grid or not in Hounsfield units.
    """
    image = _read_image(labels)
    rows = read_table(table)
    values = image.array.numpy()
    background = next((row for row in rows if row.high == 0), None)
    rows = [AIR, *(row for row in rows if row.high > 0)]
    row = np.searchsorted([one.low for one in rows], values, side="right") - 1
    within = (row >= 0) & (values <= np.array([one.high for one in rows], np.float32)[row])
    if not within.all():
        missing = np.unique(values[~within])
        shown = ", ".join(f"{value:g}" for value in missing[:12]) + (", ..." if len(missing) > 12 else "")
        raise AllpetError(f"{table}: has no row for label {shown} of {Path(labels).name}; add one for each")
    tissue = np.array([LABEL[one.tissue] for one in rows], np.uint8)[row]
    gain = np.array([one.gain for one in rows], np.float32)[row]
    mu = np.array([one.mu for one in rows], np.float32)[row]
    if ct is not None:
        hu = _same_grid(ct, image, Path(labels).name)
        if background is not None:
            body = (row == 0) & (hu > BODY_HU)
            tissue = np.where(body, np.uint8(LABEL[background.tissue]), tissue)
            gain = np.where(body, np.float32(background.gain), gain)
        try:
            mu = np.where(tissue > 0, hu_to_mu(hu), 0).astype(np.float32)
        except AllpetError as error:
            raise AllpetError(f"{ct}: {error}") from None
    if not tissue.any():
        raise AllpetError(f"{labels}: holds only background; at least one label with tissue is needed")
    return Volume(tissue, gain, mu, image.grid.pixel_mm, image.plane_mm)


def _same_grid(ct: str, labels: Image, name: str) -> np.ndarray:
    """Values of a CT that lies on the labels' grid."""
    scan = _read_image(ct)
    if scan.array.shape != labels.array.shape or abs(scan.grid.pixel_mm - labels.grid.pixel_mm) > 1e-3:
        raise AllpetError(
            f"{ct}: has {tuple(scan.array.shape)} voxels of {scan.grid.pixel_mm:g} mm, {name} has "
            f"{tuple(labels.array.shape)} of {labels.grid.pixel_mm:g} mm; both must lie on one grid"
        )
    return np.asarray(scan.array.numpy())


def _read_image(path: str) -> Image:
    from allpet.io import read
    from allpet.scan.core import Image

    image = read(path)
    if not isinstance(image, Image):
        raise AllpetError(f"{path}: is a sinogram; give an image (.nii.gz or .hv)")
    return image


@dataclass(frozen=True)
class LabelledBody:
    """One subject drawn from a labelled volume: its shape a little changed, with uptake textures of its own.

    Parameters
    ----------
    warp : in-plane displacement fields in mm. texture, coarse : relative change of uptake, fine and coarse.
    """

    volume: Volume
    warp: tuple[Waves, Waves]
    texture: Waves
    coarse: Waves
    lesions: tuple[Lesion, ...]
    weight_kg: float
    levels: np.ndarray

    def render(self, x: np.ndarray, y: np.ndarray, z: float) -> Canvas:
        """Draw the slice at level `z` (mm, falling from head to feet) on rows `y` and columns `x` (mm)."""
        canvas = Canvas.blank(x, y, z)
        volume = self.volume
        size = volume.tissue.shape[1]
        plane = int(np.clip(round(-z / volume.plane_mm), 0, len(volume.tissue) - 1))
        column = (x[None, :] + self.warp[0].on_grid(x, y, z)) / volume.pixel_mm + (size - 1) / 2
        row = (size - 1) / 2 - (y[:, None] + self.warp[1].on_grid(x, y, z)) / volume.pixel_mm
        inside = (column > -0.5) & (column < size - 0.5) & (row > -0.5) & (row < size - 0.5)
        at = np.clip(np.rint(row), 0, size - 1).astype(int), np.clip(np.rint(column), 0, size - 1).astype(int)
        canvas.tissue[:] = np.where(inside, volume.tissue[plane][at], 0)
        change = 1 + 0.06 * self.texture.on_grid(x, y, z) + 0.06 * self.coarse.on_grid(x, y, z)
        canvas.change[:] = volume.gain[plane][at] * np.clip(change, 0.2, 3)
        canvas.mu[:] = np.where(inside, volume.mu[plane][at], 0)
        for number, lesion in enumerate(self.lesions):
            canvas.add_lesion(lesion, number)
        return canvas


def labelled_body(
    rng: np.random.Generator, slices: int, volume: Volume, spacing_mm: float | None = None
) -> LabelledBody:
    """A subject from a volume, and `slices` of its planes; hot and cold lesions in up to a third of them."""
    used = volume.used
    low, high = -float(used[-1]) * volume.plane_mm, -float(used[0]) * volume.plane_mm
    levels = draw_levels(rng, low, high, slices, spacing_mm)
    lesions = []
    for _ in range(rng.choice(3, p=(0.5, 0.3, 0.2))):
        level = float(rng.choice(levels))
        plane = volume.tissue[int(np.clip(round(-level / volume.plane_mm), 0, len(volume.tissue) - 1))]
        rows, columns = np.nonzero(plane)
        kind = "hot" if rng.random() < 0.7 else "cold"
        if not rows.size:
            continue
        pick = int(rng.integers(len(rows)))
        half = (plane.shape[0] - 1) / 2
        centre = ((columns[pick] - half) * volume.pixel_mm, (half - rows[pick]) * volume.pixel_mm, level)
        lesions.append(Lesion.draw(rng, centre, kind, LABELS[int(plane[rows[pick], columns[pick]])]))
    return LabelledBody(
        volume=volume,
        warp=(Waves.draw(rng, 80.0, 250.0, rms=2.5), Waves.draw(rng, 80.0, 250.0, rms=2.5)),
        texture=Waves.draw(rng, 12.0, 45.0, rms=1.0, count=24),
        coarse=Waves.draw(rng, 50.0, 140.0, rms=1.0, count=8),
        lesions=tuple(lesions),
        weight_kg=float(np.clip(rng.normal(75, 14), 42, 130)),
        levels=levels,
    )
