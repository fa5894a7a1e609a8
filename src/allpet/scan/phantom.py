"""What all digital bodies share: random smooth fields, tissue constants, lesions and the canvas they are drawn on.

Bodies are analytic: every shape is a formula in millimetres, so a slice can be drawn at any level and any
pixel size. Axes are those of :mod:`allpet.geometry` (x to the patient's left, y anterior) and z cranial.
Activity is drawn in SUV and turned into kBq/mL by the subject's own factor.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Linear attenuation coefficients at 511 keV in 1/mm (NIST XCOM mass coefficients times ICRU 44 densities).
MU_SOFT = 0.0096
MU_FAT = 0.0090
MU_LUNG = 0.0026
MU_MARROW = 0.0112
MU_BONE = 0.0140
MU_CORTICAL = 0.0165

LABELS = (
    "air",
    "fat",
    "muscle",
    "bone",
    "grey matter",
    "white matter",
    "csf",
    "scalp",
    "lung",
    "blood pool",
    "myocardium",
    "mediastinum",
    "liver",
    "spleen",
    "kidney",
    "stomach",
    "bowel",
    "arm",
    "breast",
    "lesion",
    "lesion centre",
)
"""Names of the values of a label map: value i stands for ``LABELS[i]``."""

LABEL = {name: number for number, name in enumerate(LABELS)}


@dataclass(frozen=True)
class Waves:
    """Smooth random scalar field: a sum of plane cosine waves, cheap on a regular grid.

    ``f(x, y, z) = sum_m amplitude_m cos(k_m . (x, y, z) + phase_m)``

    Parameters
    ----------
    k : wave vectors in radians per mm, float64 ``(m, 3)``.
    phase : radians, ``(m,)``. amplitude : ``(m,)``, in the field's unit.
    """

    k: np.ndarray
    phase: np.ndarray
    amplitude: np.ndarray

    @classmethod
    def draw(cls, rng: np.random.Generator, shortest_mm: float, longest_mm: float, rms: float, count: int = 8) -> Waves:
        """Random directions, log-uniform wavelengths between the two given, root mean square `rms`."""
        direction = rng.normal(size=(count, 3))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        length = np.exp(rng.uniform(np.log(shortest_mm), np.log(longest_mm), count))
        weight = length / np.sqrt(np.mean(length**2))
        return cls(
            k=direction * (2 * np.pi / length)[:, None],
            phase=rng.uniform(0, 2 * np.pi, count),
            amplitude=rms * weight * np.sqrt(2 / count),
        )

    def mirrored(self, share: float) -> Waves:
        """This field plus `share` times its mirror image in x."""
        return Waves(
            k=np.concatenate((self.k, self.k * (-1, 1, 1))),
            phase=np.tile(self.phase, 2),
            amplitude=np.concatenate((self.amplitude, share * self.amplitude)),
        )

    def on_grid(self, x: np.ndarray, y: np.ndarray, z: float) -> np.ndarray:
        """Values on the grid of rows `y` and columns `x` at level `z`, float32 ``(len(y), len(x))``."""
        across = x[:, None] * self.k[:, 0]
        along = y[:, None] * self.k[:, 1] + (z * self.k[:, 2] + self.phase)
        rows = np.concatenate((np.cos(along) * self.amplitude, np.sin(along) * -self.amplitude), axis=1)
        columns = np.concatenate((np.cos(across), np.sin(across)), axis=1)
        return rows.astype(np.float32) @ columns.astype(np.float32).T

    def at(self, points: np.ndarray) -> np.ndarray:
        """Values at `points` in mm, ``(n, 3)`` -> float64 ``(n,)``."""
        return np.cos(points @ self.k.T + self.phase) @ self.amplitude


@dataclass(frozen=True)
class Lesion:
    """A hot or cold focus: an ellipsoid with an uneven surface, sometimes with a necrotic centre.

    Parameters
    ----------
    centre : mm, in the body's frame. axes : semi-axes in mm. suv : uptake.
    core : share of the radius that is necrotic, 0 for none. bump : unevenness of the surface, relative.
    """

    centre: tuple[float, float, float]
    axes: tuple[float, float, float]
    suv: float
    core: float
    bump: Waves

    @classmethod
    def draw(cls, rng: np.random.Generator, centre: tuple[float, float, float], suv: float) -> Lesion:
        """Radius 4 to 15 mm, smaller ones more often; a third of those above 8 mm have a necrotic centre."""
        radius = float(np.exp(rng.uniform(np.log(4.0), np.log(15.0))))
        axes = radius * np.exp(rng.normal(0, 0.12, 3))
        core = float(rng.uniform(0.4, 0.7)) if radius > 8 and rng.random() < 0.33 else 0.0
        bump = Waves.draw(rng, 1.5 * radius, 4 * radius, rms=0.1, count=4)
        return cls(centre, (float(axes[0]), float(axes[1]), float(axes[2])), suv, core, bump)

    def level(self, rows: np.ndarray, columns: np.ndarray, z: float) -> np.ndarray | None:
        """Relative radius (below 1 inside) on the grid, or None where the slice misses it."""
        height = (z - self.centre[2]) / self.axes[2]
        if abs(height) > 1.4:
            return None
        across = ((columns - self.centre[0]) / self.axes[0]) ** 2
        along = ((rows - self.centre[1]) / self.axes[1]) ** 2
        return np.sqrt(along[:, None] + across[None, :] + height**2) + self.bump.on_grid(columns, rows, z)


@dataclass
class Canvas:
    """One slice being drawn: uptake (SUV), mu (1/mm) and label maps on rows `y` and columns `x` at level `z`."""

    x: np.ndarray
    y: np.ndarray
    z: float
    suv: np.ndarray
    mu: np.ndarray
    labels: np.ndarray

    @classmethod
    def blank(cls, x: np.ndarray, y: np.ndarray, z: float) -> Canvas:
        """An empty slice (air)."""
        shape = (len(y), len(x))
        return cls(x, y, z, np.zeros(shape, np.float32), np.zeros(shape, np.float32), np.zeros(shape, np.uint8))

    def window(self, x: float, y: float, reach: float) -> tuple[slice, slice]:
        """Rows and columns within `reach` mm of a point."""
        columns = np.searchsorted(self.x, (x - reach, x + reach))
        rows = len(self.y) - np.searchsorted(self.y[::-1], (y + reach, y - reach))
        return slice(int(rows[0]), int(rows[1])), slice(int(columns[0]), int(columns[1]))

    def add_lesion(self, lesion: Lesion) -> None:
        """Draw a lesion where there is tissue; its necrotic centre keeps a tenth of the uptake."""
        rows, columns = self.window(lesion.centre[0], lesion.centre[1], 1.5 * max(lesion.axes))
        level = lesion.level(self.y[rows], self.x[columns], self.z)
        if level is None or level.size == 0:
            return
        inside = (level < 1) & (self.labels[rows, columns] != LABEL["air"])
        core = inside & (level < lesion.core)
        self.suv[rows, columns][inside] = lesion.suv
        self.suv[rows, columns][core] = 0.1 * lesion.suv
        self.mu[rows, columns][inside] = np.maximum(self.mu[rows, columns][inside], MU_SOFT)
        self.labels[rows, columns][inside] = LABEL["lesion"]
        self.labels[rows, columns][core] = LABEL["lesion centre"]


def draw_levels(rng: np.random.Generator, low_mm: float, high_mm: float, count: int) -> np.ndarray:
    """Sorted slice levels in mm: one at random in the middle of each of `count` equal parts of the range."""
    part = (high_mm - low_mm) / count
    return low_mm + part * (np.arange(count) + rng.uniform(0.1, 0.9, count))
