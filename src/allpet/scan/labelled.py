"""Bodies from a labelled volume of the user's: ``allpet simulate --labels LABELS.nii.gz --table ORGANS.csv``.

The table has a row for each label value: ``label`` and ``tissue`` (a name of :data:`allpet.scan.phantom.LABELS`), and
optionally ``name``, ``gain`` (uptake relative to the tissue's) and ``mu`` (1/mm at 511 keV). A CT of the same grid
gives mu instead.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from allpet.errors import AllpetError
from allpet.scan.mumap import hu_to_mu
from allpet.scan.phantom import LABEL, LABELS, MU, Canvas, Lesion, Waves, draw_levels

COLUMNS = ("label", "name", "tissue", "gain", "mu")


@dataclass(frozen=True)
class Row:
    """One label: the tissue that it stands for, uptake relative to it, and mu in 1/mm."""

    tissue: str
    gain: float
    mu: float


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


def read_table(path: Path | str) -> dict[int, Row]:
    """Rows of a table by label value.

    Raises
    ------
    AllpetError : no such file, a column missing or unknown, a tissue unknown, a number that is none, a label twice.
    """
    path = Path(path)
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
    rows: dict[int, Row] = {}
    for number, line in enumerate(lines, 2):
        label = int(_number(path, number, line, "label", 0.0, whole=True))
        tissue = (line["tissue"] or "").strip().lower()
        if tissue not in LABELS or tissue.startswith("lesion"):
            known = ", ".join(name for name in LABELS if not name.startswith("lesion"))
            raise AllpetError(f"{path}: line {number}: tissue '{tissue}' is unknown; known are {known}")
        if label in rows:
            raise AllpetError(f"{path}: line {number}: label {label} has a row already; give one for each label")
        gain = _number(path, number, line, "gain", 1.0)
        rows[label] = Row(tissue, gain, _number(path, number, line, "mu", MU[tissue]))
    return rows


def _number(path: Path, number: int, line: dict[str, str], column: str, default: float, whole: bool = False) -> float:
    text = (line.get(column) or "").strip()
    if not text and column != "label":
        return default
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not (np.isfinite(value) and value >= 0) or (whole and value != int(value)):
        kind = "a whole number, 0 or more" if whole else "a number, 0 or more"
        raise AllpetError(f"{path}: line {number}: {column} is '{text}'; it must be {kind}")
    if column == "mu" and value > 0.05:
        raise AllpetError(f"{path}: line {number}: mu is {text}; in 1/mm at 511 keV it lies below 0.05 (water 0.0096)")
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
    values = np.rint(image.array.numpy()).astype(np.int64)
    if np.abs(image.array.numpy() - values).max() > 1e-3 or values.min() < 0:
        raise AllpetError(f"{labels}: holds values that are no labels; whole numbers from 0 on are needed")
    found = np.unique(values)
    missing = [int(value) for value in found if value not in rows and value != 0]
    if missing:
        shown = ", ".join(map(str, missing[:12])) + (", ..." if len(missing) > 12 else "")
        raise AllpetError(f"{table}: has no row for label {shown} of {Path(labels).name}; add one for each")
    index = np.searchsorted(found, values)
    row = [rows.get(int(value), Row("air", 1.0, 0.0)) for value in found]
    tissue = np.array([LABEL[one.tissue] for one in row], np.uint8)[index]
    gain = np.array([one.gain for one in row], np.float32)[index]
    mu = np.array([one.mu for one in row], np.float32)[index]
    if not tissue.any():
        raise AllpetError(f"{labels}: holds only background; at least one label with tissue is needed")
    if ct is not None:
        scan = _read_image(ct)
        if scan.array.shape != image.array.shape or abs(scan.grid.pixel_mm - image.grid.pixel_mm) > 1e-3:
            raise AllpetError(
                f"{ct}: has {tuple(scan.array.shape)} voxels of {scan.grid.pixel_mm:g} mm, {Path(labels).name} has "
                f"{tuple(image.array.shape)} of {image.grid.pixel_mm:g} mm; both must lie on one grid"
            )
        try:
            mu = np.where(tissue > 0, hu_to_mu(scan.array.numpy()), 0).astype(np.float32)
        except AllpetError as error:
            raise AllpetError(f"{ct}: {error}") from None
    return Volume(tissue, gain, mu, image.grid.pixel_mm, image.plane_mm)


def _read_image(path: str):  # type: ignore[no-untyped-def]
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
