"""An organ: a superellipsoid with an uneven surface and layers of tissue from rim to centre."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from allpet.scan.phantom import Canvas, Waves


@dataclass(frozen=True)
class Layer:
    """One layer of an organ.

    Parameters
    ----------
    reach : relative radius up to which it reaches (1 is the surface). tissue : a name of `LABELS`.
    gain : uptake relative to the tissue's mean. mu : 1/mm, by default the tissue's own.
    """

    reach: float
    tissue: str
    gain: float = 1.0
    mu: float | None = None


@dataclass(frozen=True)
class Posed:
    """What a body needs to have coordinates of its own.

    Parameters
    ----------
    warp : in-plane displacement fields in mm. pose : turn in radians, shift x, y in mm.
    texture, coarse : fine and coarse random fields of unit rms, for uptake.
    """

    warp: tuple[Waves, Waves]
    pose: tuple[float, float, float]
    texture: Waves
    coarse: Waves

    def coordinates(self, canvas: Canvas) -> tuple[np.ndarray, np.ndarray]:
        """The body's own x and y of every pixel in mm, float32 ``(rows, columns)``."""
        x, y, z = canvas.x, canvas.y, canvas.z
        turn, dx, dy = self.pose
        u = (np.cos(turn) * (x - dx))[None, :] + (np.sin(turn) * (y - dy))[:, None] + self.warp[0].on_grid(x, y, z)
        v = (np.cos(turn) * (y - dy))[:, None] - (np.sin(turn) * (x - dx))[None, :] + self.warp[1].on_grid(x, y, z)
        return u.astype(np.float32), v.astype(np.float32)

    def textures(self, canvas: Canvas) -> tuple[np.ndarray, np.ndarray]:
        """Fine and coarse texture of every pixel, float32 ``(rows, columns)``."""
        where = (canvas.x, canvas.y, canvas.z)
        return self.texture.on_grid(*where), self.coarse.on_grid(*where)


@dataclass(frozen=True)
class Fields:
    """What the drawing of one slice shares.

    Parameters
    ----------
    u, v : the body's own coordinates of every pixel in mm. fine, coarse : random textures of unit rms.
    cavity : bool map of the inside of the wall. below : mm below the diaphragm (positive below). z : body level in mm.
    """

    u: np.ndarray
    v: np.ndarray
    fine: np.ndarray
    coarse: np.ndarray
    cavity: np.ndarray
    below: np.ndarray
    z: float


@dataclass(frozen=True)
class Organ:
    """One organ.

    Parameters
    ----------
    centre, axes : mm. layers : from the rim inwards. power : 2 for an ellipsoid.
    turn : rotation about z and about y in radians. bump : relative unevenness of the surface.
    place : "below" the diaphragm, "cavity" or "any". texture : relative fine and coarse change of uptake.
    gate : if set, only where this field lies within +-`band` (loops of bowel).
    opening : share of the long axis beyond which the organ is missing (the heart's base), 1 for none.
    """

    centre: tuple[float, float, float]
    axes: tuple[float, float, float]
    layers: tuple[Layer, ...]
    power: float = 2.0
    turn: tuple[float, float] = (0.0, 0.0)
    bump: Waves | None = None
    place: str = "any"
    texture: tuple[float, float] = (0.05, 0.06)
    gate: Waves | None = None
    band: float = 0.5
    opening: float = 1.0

    def draw(self, canvas: Canvas, fields: Fields) -> None:
        """Draw the part of the organ that lies in the slice."""
        if abs(fields.z - self.centre[2]) > 1.3 * max(self.axes):
            return
        reach = 1.3 * max(self.axes if self.turn[1] else self.axes[:2]) + 25
        rows, columns = canvas.window(self.centre[0], self.centre[1], reach)
        if rows.start >= rows.stop or columns.start >= columns.stop:
            return
        at = (rows, columns)
        level, long = self._level(fields.u[at], fields.v[at], fields.z)
        x, y = canvas.x[columns], canvas.y[rows]
        if self.bump is not None:
            level = level + self.bump.on_grid(x, y, fields.z)
        inside = level < 1
        if self.opening < 1:
            inside &= long < self.opening
        if self.place != "any":
            inside &= fields.cavity[at]
        if self.place == "below":
            inside &= fields.below[at] > 2
        if self.gate is not None:
            inside &= np.abs(self.gate.on_grid(x, y, fields.z)) < self.band
        if not inside.any():
            return
        part = Canvas(x, y, canvas.z, canvas.tissue[at], canvas.change[at], canvas.mu[at])
        change = self.texture[0] * fields.fine[at] + self.texture[1] * fields.coarse[at]
        for layer in self.layers:
            where = inside if layer.reach >= 1 else inside & (level < layer.reach)
            part.paint(where, layer.tissue, change, layer.mu, layer.gain)

    def _level(self, u: np.ndarray, v: np.ndarray, z: float) -> tuple[np.ndarray, np.ndarray]:
        """Relative radius, and relative position along the (turned) first axis."""
        du, dv, dz = u - self.centre[0], v - self.centre[1], z - self.centre[2]
        c, s = math.cos(self.turn[0]), math.sin(self.turn[0])
        first, second = c * du + s * dv, c * dv - s * du
        c, s = math.cos(self.turn[1]), math.sin(self.turn[1])
        first, third = c * first + s * dz, c * dz - s * first
        parts = (first / self.axes[0], second / self.axes[1], third / self.axes[2])
        if self.power == 2:
            return np.sqrt(parts[0] ** 2 + parts[1] ** 2 + parts[2] ** 2), parts[0]
        p = self.power
        return (np.abs(parts[0]) ** p + np.abs(parts[1]) ** p + np.abs(parts[2]) ** p) ** (1 / p), parts[0]


def solid(tissue: str, gain: float = 1.0, mu: float | None = None) -> tuple[Layer, ...]:
    """One layer of one tissue."""
    return (Layer(1.0, tissue, gain, mu),)


def hollow(wall: str, inside: str, reach: float, gains: tuple[float, float] = (1.0, 1.0)) -> tuple[Layer, ...]:
    """A wall round a content that reaches to this relative radius."""
    return (Layer(1.0, wall, gains[0]), Layer(reach, inside, gains[1]))


def near(rng: np.random.Generator, point: tuple[float, float, float], spread: float) -> tuple[float, float, float]:
    """A point moved at random, mm."""
    x, y, z = rng.normal(point, spread)
    return float(x), float(y), float(z)


def about(rng: np.random.Generator, axes: tuple[float, float, float], spread: float) -> tuple[float, float, float]:
    """Axes changed at random, each by itself and all together; relative spread."""
    a, b, c = np.array(axes) * np.exp(rng.normal(0, spread, 3)) * np.exp(rng.normal(0, spread))
    return float(a), float(b), float(c)


def bumps(rng: np.random.Generator, size: float, rms: float = 0.07) -> Waves:
    """Unevenness of a surface with waves from `size` to three times that in mm."""
    return Waves.draw(rng, size, 3 * size, rms, count=6)


def superellipse(u: np.ndarray, v: np.ndarray, a: float, b: float, p: float) -> np.ndarray:
    """Relative radius (below 1 inside) of a superellipse that is flatter at the back."""
    across, along = np.abs(u / np.float32(a)), np.abs(v / np.float32(b))
    power = np.where(v > 0, np.float32(p), np.float32(p + 0.6))
    return (across**power + along**power) ** (1 / power)
