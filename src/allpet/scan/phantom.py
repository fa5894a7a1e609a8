"""What all digital bodies share: tissues, random smooth fields, lesions and the canvas they are drawn on.

Bodies are analytic: every shape is a formula in millimetres, so a slice can be drawn at any level and any pixel size.
Axes are those of :mod:`allpet.geometry` (x to the patient's left, y anterior) and z cranial. A drawing says *which
tissue* is where and how it deviates from the tissue's mean; what a tracer does in that tissue at a given time is looked
up afterwards (:meth:`Canvas.activity`), so one drawing serves every tracer and every frame.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from allpet.scan.mumap import WATER
from allpet.scan.tracers import TISSUES

LABELS = ("air", *(name for name in TISSUES if name != "air"), "lesion", "lesion centre")
"""Names of the values of a label map: value i stands for ``LABELS[i]``."""

LABEL = {name: number for number, name in enumerate(LABELS)}

_MIXED = 127
_LESION = 128
MAX_LESIONS = (256 - _LESION) // 2

# Linear attenuation coefficients at 511 keV in 1/mm (NIST XCOM mass coefficients times ICRU 44 densities).
MU_SOFT = WATER
MU_FAT = 0.0090
MU_LUNG = 0.0026
MU_MARROW = 0.0112
MU_BONE = 0.0140
MU_CORTICAL = 0.0165
MU_GAS = 0.0005

MU: dict[str, float] = {
    **dict.fromkeys(TISSUES, MU_SOFT),
    "air": 0.0,
    "fat": MU_FAT,
    "visceral fat": MU_FAT,
    "lung": MU_LUNG,
    "liver": 0.0099,
    "spleen": 0.0099,
    "marrow": MU_MARROW,
    "cortical bone": MU_CORTICAL,
    "skull": MU_CORTICAL,
    "breast": 0.0095,
}
"""Linear attenuation coefficient of each tissue at 511 keV in 1/mm."""


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
    centre : mm, in the body's frame. axes : semi-axes in mm. kind : "hot" or "cold". host : tissue that it grows in.
    core : share of the radius that is necrotic, 0 for none. bump : unevenness of the surface, relative.
    """

    centre: tuple[float, float, float]
    axes: tuple[float, float, float]
    kind: str
    host: str
    core: float
    bump: Waves

    @classmethod
    def draw(cls, rng: np.random.Generator, centre: Sequence[float], kind: str, host: str) -> Lesion:
        """Radius 4 to 15 mm, smaller ones more often; a third of the hot ones above 8 mm have a necrotic centre."""
        radius = float(np.exp(rng.uniform(np.log(4.0), np.log(15.0))))
        a, b, c = (float(axis) for axis in radius * np.exp(rng.normal(0, 0.12, 3)))
        necrotic = radius > 8 and rng.random() < 0.33 and kind == "hot"
        core = float(rng.uniform(0.4, 0.7)) if necrotic else 0.0
        bump = Waves.draw(rng, 1.5 * radius, 4 * radius, rms=0.1, count=4)
        x, y, z = (float(part) for part in centre)
        return cls((x, y, z), (a, b, c), kind, host, core, bump)

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
    """One slice being drawn on rows `y` and columns `x` at level `z`.

    Parameters
    ----------
    tissue : uint8, a value of `LABELS`, or above those a lesion's own number, or "mixed".
    change : float32, uptake relative to the tissue's mean. mu : float32, 1/mm.
    mixtures : tissues that share pixels: ``tissue name -> weight map`` over the pixels marked mixed.
    """

    x: np.ndarray
    y: np.ndarray
    z: float
    tissue: np.ndarray
    change: np.ndarray
    mu: np.ndarray
    mixtures: list[tuple[np.ndarray, dict[str, np.ndarray]]] = field(default_factory=list)

    @classmethod
    def blank(cls, x: np.ndarray, y: np.ndarray, z: float) -> Canvas:
        """An empty slice (air)."""
        shape = (len(y), len(x))
        return cls(x, y, z, np.zeros(shape, np.uint8), np.ones(shape, np.float32), np.zeros(shape, np.float32))

    def window(self, x: float, y: float, reach: float) -> tuple[slice, slice]:
        """Rows and columns within `reach` mm of a point."""
        columns = np.searchsorted(self.x, (x - reach, x + reach))
        rows = len(self.y) - np.searchsorted(self.y[::-1], (y + reach, y - reach))
        return slice(int(rows[0]), int(rows[1])), slice(int(columns[0]), int(columns[1]))

    def part(self, x: float, y: float, reach: float) -> Canvas:
        """The part within `reach` mm of a point; drawing on it draws on this canvas."""
        rows, columns = self.window(x, y, reach)
        at = (rows, columns)
        return Canvas(self.x[columns], self.y[rows], self.z, self.tissue[at], self.change[at], self.mu[at])

    def paint(
        self,
        where: np.ndarray,
        tissue: str,
        change: np.ndarray | float = 0.0,
        mu: float | None = None,
        gain: float = 1.0,
    ) -> None:
        """Fill pixels with a tissue.

        Parameters
        ----------
        where : bool map. change : relative change of uptake, a map or one number; kept within 0.1 to 3 of the mean.
        mu : 1/mm, by default the tissue's own. gain : factor of the uptake.
        """
        self.tissue[where] = LABEL[tissue]
        if isinstance(change, np.ndarray):
            self.change[where] = gain * np.clip(1 + change[where], 0.1, 3)
        else:
            self.change[where] = gain * (1 + change)
        self.mu[where] = MU[tissue] if mu is None else mu

    def mix(self, index: np.ndarray, weights: Mapping[str, np.ndarray]) -> None:
        """Let tissues share pixels.

        Parameters
        ----------
        index : flat indices of the pixels, ``(m,)``. weights : tissue -> share times relative uptake, ``(m,)``.
        """
        self.tissue.ravel()[index] = _MIXED
        self.mu.ravel()[index] = MU_SOFT
        self.mixtures.append((index, dict(weights)))

    def add_lesion(self, lesion: Lesion, number: int) -> None:
        """Draw the subject's lesion of this number where there is tissue."""
        rows, columns = self.window(lesion.centre[0], lesion.centre[1], 1.5 * max(lesion.axes))
        level = lesion.level(self.y[rows], self.x[columns], self.z)
        if level is None or level.size == 0 or number >= MAX_LESIONS:
            return
        at = (rows, columns)
        inside = (level < 1) & (self.tissue[at] != LABEL["air"])
        self.tissue[at][inside] = _LESION + 2 * number
        self.tissue[at][inside & (level < lesion.core)] = _LESION + 2 * number + 1
        self.change[at][inside] = 1.0
        self.mu[at][inside] = np.maximum(self.mu[at][inside], MU_SOFT)

    def activity(
        self, tissues: Mapping[str, np.ndarray], lesions: Sequence[tuple[np.ndarray, np.ndarray]]
    ) -> np.ndarray:
        """What the tissues' mean uptakes become in this slice.

        Parameters
        ----------
        tissues : mean uptake of every tissue, ``(k,)`` each: k tracers or frames.
        lesions : mean uptake of every lesion and of its centre, ``(k,)`` each.

        Returns
        -------
        float32 ``(k, rows, columns)`` in the uptakes' unit.
        """
        count = len(next(iter(tissues.values())))
        table = np.zeros((count, 256), np.float32)
        for name, value in tissues.items():
            table[:, LABEL[name]] = value
        for number, (rim, centre) in enumerate(lesions[:MAX_LESIONS]):
            table[:, _LESION + 2 * number], table[:, _LESION + 2 * number + 1] = rim, centre
        out = table[:, self.tissue] * self.change
        for index, weights in self.mixtures:
            mixed = self.tissue.ravel()[index] == _MIXED
            where = index[mixed]
            shares = np.stack([weight[mixed] for weight in weights.values()])
            values = np.stack([tissues[name] for name in weights], axis=1).astype(np.float32)
            out.reshape(count, -1)[:, where] = values @ shares
        return out

    @property
    def labels(self) -> np.ndarray:
        """uint8 label map, values as in `LABELS`; mixed pixels take the tissue with the largest share."""
        return self.thin_labels(1)

    def thin_labels(self, step: int) -> np.ndarray:
        """The label map of the middle pixel of every `step` by `step` pixels, see :attr:`labels`."""
        middle = slice(step // 2, None, step)
        out = self.tissue[middle, middle].copy()
        lesion = out >= _LESION
        out[lesion] = np.where(out[lesion] % 2 == 1, LABEL["lesion centre"], LABEL["lesion"])
        for index, weights in self.mixtures:
            rows, columns = np.divmod(index, self.tissue.shape[1])
            seen = (rows % step == step // 2) & (columns % step == step // 2)
            rows, columns = rows[seen] // step, columns[seen] // step
            mixed = out[rows, columns] == _MIXED
            largest = np.argmax(np.stack([weight[seen][mixed] for weight in weights.values()]), axis=0)
            names = np.array([LABEL[name] for name in weights], np.uint8)
            out[rows[mixed], columns[mixed]] = names[largest]
        return out


class Body(Protocol):
    """A digital body: where its slices are and how one is drawn."""

    @property
    def levels(self) -> np.ndarray:
        """Heights of its slices in mm."""
        ...

    @property
    def lesions(self) -> tuple[Lesion, ...]:
        """Its lesions, whether a slice meets them or not."""
        ...

    @property
    def weight_kg(self) -> float:
        """Weight of the whole person in kg."""
        ...

    def render(self, x: np.ndarray, y: np.ndarray, z: float) -> Canvas:
        """Draw the slice at level `z` (mm) on rows `y` and columns `x` (mm)."""
        ...


def draw_levels(
    rng: np.random.Generator, low_mm: float, high_mm: float, count: int, spacing_mm: float | None = None
) -> np.ndarray:
    """Slice levels in mm from head to feet.

    Without a spacing one level at random in the middle of each of `count` equal parts of the range; with one,
    neighbours that far apart, the stack somewhere in the range (about its middle if it is longer than that).
    """
    if spacing_mm is not None:
        length = spacing_mm * (count - 1)
        room = max(high_mm - low_mm - length, 0.0)
        lowest = (low_mm + high_mm - length - room) / 2 + room * rng.random()
        return lowest + spacing_mm * np.arange(count)[::-1]
    part = (high_mm - low_mm) / count
    return (low_mm + part * (np.arange(count) + rng.uniform(0.1, 0.9, count)))[::-1]
