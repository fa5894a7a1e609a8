"""Trunks: procedural chest and abdomen, one body from the upper lungs to the iliac crest.

z = 0 is the top of the right diaphragm. Outline, cavity and diaphragm are formulas of the level; organs are
superellipsoids with uneven surfaces, cut by the cavity and the diaphragm, drawn one over the other.
Uptake ranges follow published normal FDG values (SUV): blood 1.2-2, liver 1.8-3, muscle 0.5-0.8, lung 0.3-0.6.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from allpet.scan.organs import Organ, draw_organs
from allpet.scan.phantom import (
    LABEL,
    MU_BONE,
    MU_FAT,
    MU_LUNG,
    MU_MARROW,
    MU_SOFT,
    Canvas,
    Lesion,
    Waves,
    draw_levels,
)

RANGE_MM = {"chest": (-15.0, 150.0), "abdomen": (-185.0, -10.0)}
_KNOTS = np.array([-230.0, -180.0, -110.0, -40.0, 40.0, 110.0, 160.0, 230.0])


@dataclass(frozen=True)
class Arm:
    """An arm beside the body: x, y at z = 0 (mm), slope per mm, radius and bone radius in mm."""

    x: float
    y: float
    slope: tuple[float, float]
    radius: float
    bone: float


@dataclass(frozen=True)
class Trunk:
    """One subject's trunk.

    Parameters
    ----------
    width, depth : half-widths of the muscle outline in mm at the knots of z. squareness : exponent of the outline.
    fat_mm : subcutaneous fat at side and front. wall_mm : thickness of chest or belly wall, back_mm : at the back.
    dome : top of the left diaphragm below the right one, and its drop towards the edge, in mm.
    organs : drawn in order. warp : in-plane displacement fields in mm. pose : turn in radians, shift x, y in mm.
    """

    width: np.ndarray
    depth: np.ndarray
    squareness: float
    fat_mm: tuple[float, float]
    wall_mm: float
    back_mm: float
    dome: tuple[float, float]
    mediastinum_mm: float
    suv: dict[str, float]
    organs: tuple[Organ, ...]
    arms: tuple[Arm, ...]
    breasts: float
    ribs: tuple[float, float, float]
    spine: tuple[float, float, float]
    warp: tuple[Waves, Waves]
    pose: tuple[float, float, float]
    texture: Waves
    coarse: Waves
    lesions: tuple[Lesion, ...]
    kbq_per_suv: float
    levels: np.ndarray

    def render(self, x: np.ndarray, y: np.ndarray, z: float) -> Canvas:
        """Draw the slice at level `z` (mm) on rows `y` and columns `x` (mm)."""
        canvas = Canvas.blank(x, y, z)
        turn, dx, dy = self.pose
        u = (np.cos(turn) * (x - dx))[None, :] + (np.sin(turn) * (y - dy))[:, None] + self.warp[0].on_grid(x, y, z)
        v = (np.cos(turn) * (y - dy))[:, None] - (np.sin(turn) * (x - dx))[None, :] + self.warp[1].on_grid(x, y, z)
        u, v = u.astype(np.float32), v.astype(np.float32)
        fine, coarse = self.texture.on_grid(x, y, z), self.coarse.on_grid(x, y, z)
        cavity, below = self._draw_wall(canvas, u, v, fine, coarse)
        self._draw_chest(canvas, u, v, cavity, below, fine, coarse)
        self._draw_spine(canvas, u, v, fine)
        for organ in self.organs:
            organ.draw(canvas, u, v, cavity, below, fine, coarse)
        self._draw_arms(canvas, u, v, fine)
        for lesion in self.lesions:
            canvas.add_lesion(lesion)
        return canvas

    def half_axes(self, z: float) -> tuple[float, float]:
        """Half width and half depth of the muscle outline at level z, mm."""
        return float(np.interp(z, _KNOTS, self.width)), float(np.interp(z, _KNOTS, self.depth))

    def _breasts(self, u: np.ndarray, v: np.ndarray, z: float, side: float, front: float) -> np.ndarray:
        """Relative radius of the breasts (below 1 inside); they lie flat and sideways in a supine body."""
        height = 1 - ((z - 60) / 75) ** 2
        if self.breasts <= 0 or height <= 0.05:
            return np.full_like(u, np.inf)
        size = math.sqrt(height)
        across = (np.abs(u) - 0.58 * side) / (0.46 * side * size)
        along = (v - 0.62 * front) / ((0.3 * front + self.breasts) * size)
        return np.sqrt(across**2 + along**2)

    def _draw_wall(
        self, canvas: Canvas, u: np.ndarray, v: np.ndarray, fine: np.ndarray, coarse: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Skin, fat, muscle, ribs; returns the cavity (bool) and the height above the diaphragm, negated, in mm."""
        a, b = self.half_axes(canvas.z)
        p = self.squareness
        side, front = self.fat_mm
        skin = _superellipse(u, v - 0.3 * front, a + side, b + front, p) < 1
        breast = self._breasts(u, v, canvas.z, a, b + front)
        muscle = _superellipse(u, v, a, b, p) < 1
        _fill(canvas, skin | (breast < 1), self.suv["fat"], MU_FAT, "fat", 0.25 * fine)
        gland = (breast + 0.12 * coarse < 0.75) & ~muscle
        _fill(canvas, gland, self.suv["gland"], MU_SOFT, "breast", 0.12 * fine)
        _fill(canvas, muscle, self.suv["muscle"], MU_SOFT, "muscle", 0.1 * fine + 0.1 * coarse)
        shrink = math.sqrt(max(0.05, 1 - (max(canvas.z - 95.0, 0) / 110) ** 2))
        ca, cb = (a - self.wall_mm) * shrink, (b - (self.wall_mm + self.back_mm) / 2) * shrink
        inner = _superellipse(u, v - (self.back_mm - self.wall_mm) / 2, ca, cb, p)
        cavity = inner < 1
        lower = -0.5 * self.dome[1]
        if canvas.z > lower - 40:
            pitch, slope, duty = self.ribs
            phase = np.cos(2 * math.pi * (canvas.z + slope * v + 0.1 * np.abs(u)) / pitch)
            rib = (inner > 1.02) & (inner < 1.02 + 8.0 / cb) & (phase > duty) & (v > -0.95 * b)
            _fill(canvas, rib, self.suv["marrow"] * 0.7, MU_BONE, "bone", 0.2 * fine)
        drop_left, drop = self.dome
        centre = 0.45 * ca
        radius = np.minimum((u + centre) ** 2, (u - centre) ** 2) / (0.62 * ca) ** 2
        radius = radius + np.where(v > 10, 0.5, 1.0) * ((v - 10) / cb) ** 2
        top = np.where(u > 0, -drop_left, 0.0) - drop * np.minimum(radius, 1.2)
        return cavity, top - canvas.z

    def _draw_chest(
        self,
        canvas: Canvas,
        u: np.ndarray,
        v: np.ndarray,
        cavity: np.ndarray,
        below: np.ndarray,
        fine: np.ndarray,
        coarse: np.ndarray,
    ) -> None:
        """Lungs above the diaphragm with their vessels and gravity, mediastinum, belly fat below."""
        shape = 0.4 + 0.8 * np.exp(-(((v + 15) / 55) ** 2)) + 0.3 * math.tanh((canvas.z - 110) / 50)
        half = self.mediastinum_mm * shape * (1 + 0.18 * coarse + 0.04 * fine)
        middle = np.abs(u - 4) < half
        lung = cavity & (below < 0) & ~middle
        chest = cavity & (below < 0) & middle
        gravity = -0.25 * np.tanh(v / 60)
        vessels = np.where(fine > 1.3, 1.0, 0.0) * np.exp(-((np.abs(u) - half - 20) ** 2) / 40**2)
        _fill(canvas, lung, self.suv["lung"], MU_LUNG, "lung", gravity + 0.12 * fine + 0.8 * vessels)
        canvas.mu[lung] *= np.clip(1 + gravity + 0.8 * vessels, 0.6, 3)[lung]
        _fill(canvas, chest, self.suv["mediastinum"], MU_SOFT, "mediastinum", 0.15 * fine + 0.2 * coarse)
        belly = cavity & (below >= 0)
        _fill(canvas, belly, self.suv["visceral fat"], MU_FAT, "fat", 0.2 * fine + 0.2 * coarse)

    def _draw_spine(self, canvas: Canvas, u: np.ndarray, v: np.ndarray, fine: np.ndarray) -> None:
        """Vertebral body with discs, canal, arch and processes."""
        radius, pitch, offset = self.spine
        grown = radius * (1.12 if canvas.z < -60 else 1.0 - 0.0006 * max(canvas.z, 0))
        _, b = self.half_axes(canvas.z)
        y = -b + self.back_mm + 4
        phase = (canvas.z / pitch + offset) % 1
        disc = phase < 0.18
        body = (u / (1.15 * grown)) ** 2 + ((v - y) / (0.85 * grown)) ** 2
        arch = ((u / (1.05 * grown)) ** 2 + ((v - y + 1.25 * grown) / (0.8 * grown)) ** 2 < 1) & (phase > 0.35)
        process = (np.abs(u) < 4.5) & (v < y - 1.5 * grown) & (v > y - 2.6 * grown) & (phase > 0.5)
        wing = (np.abs(v - y + 1.2 * grown + 0.1 * np.abs(u)) < 5) & (np.abs(u) < 2.1 * grown) & (phase > 0.65)
        marrow = self.suv["marrow"]
        for part in (arch, process, wing):
            _fill(canvas, part, 0.7 * marrow, MU_BONE, "bone", 0.15 * fine)
        canal = (u / (0.5 * grown)) ** 2 + ((v - y + 1.2 * grown) / (0.42 * grown)) ** 2 < 1
        _fill(canvas, canal, 1.1, MU_SOFT, "csf", 0.0 * fine)
        _fill(canvas, body < 1, (0.5 if disc else 1.0) * marrow, MU_SOFT if disc else MU_MARROW, "bone", 0.12 * fine)
        if not disc:
            canvas.mu[(body < 1) & (body > 0.82)] = MU_BONE

    def _draw_arms(self, canvas: Canvas, u: np.ndarray, v: np.ndarray, fine: np.ndarray) -> None:
        """Arms at the sides, only where there is no body yet."""
        for arm in self.arms:
            x, y = arm.x + arm.slope[0] * canvas.z, arm.y + arm.slope[1] * canvas.z
            distance = np.sqrt((u - x) ** 2 + ((v - y) / 1.15) ** 2)
            free = canvas.labels == LABEL["air"]
            _fill(canvas, free & (distance < arm.radius), self.suv["fat"], MU_FAT, "arm", 0.2 * fine)
            flesh = free & (distance < arm.radius - 0.4 * self.fat_mm[0])
            _fill(canvas, flesh, self.suv["muscle"], MU_SOFT, "arm", 0.2 * fine)
            bone = free & (distance < arm.bone)
            _fill(canvas, bone, 0.5 * self.suv["marrow"], MU_BONE, "bone", 0.0 * fine)


def _superellipse(u: np.ndarray, v: np.ndarray, a: float, b: float, p: float) -> np.ndarray:
    """Relative radius (below 1 inside) of a superellipse that is flatter at the back."""
    across, along = np.abs(u) / a, np.abs(v) / b
    front = across**p + along**p
    back = across ** (p + 0.6) + along ** (p + 0.6)
    return np.where(v > 0, front ** (1 / p), back ** (1 / (p + 0.6)))


def _fill(canvas: Canvas, where: np.ndarray, suv: float, mu: float, label: str, change: np.ndarray) -> None:
    """Set uptake (with a relative change), mu and label."""
    canvas.suv[where] = suv * np.clip(1 + change[where], 0.1, 3)
    canvas.mu[where] = mu
    canvas.labels[where] = LABEL[label]


def _draw_suv(rng: np.random.Generator) -> dict[str, float]:
    """Normal uptake of the tissues, each log-normal round its literature mean."""
    mean = {
        "fat": (0.25, 0.25),
        "visceral fat": (0.4, 0.25),
        "muscle": (0.65, 0.2),
        "lung": (0.42, 0.2),
        "mediastinum": (1.1, 0.15),
        "marrow": (1.5, 0.3),
        "gland": (0.75, 0.25),
        "blood": (1.6, 0.15),
        "liver": (2.3, 0.15),
    }
    return {name: float(value * np.exp(rng.normal(0, spread))) for name, (value, spread) in mean.items()}


def _draw_arms(rng: np.random.Generator, side: float) -> tuple[Arm, ...]:
    """Two arms beside a body of half width `side`, kept inside a radius of 248 mm."""
    arms = []
    radius = float(rng.uniform(36, 48))
    for sign in (-1, 1):
        y = float(rng.uniform(-30, 40))
        reach = np.sqrt(248.0**2 - y**2) - radius
        x = min(side + radius + rng.uniform(2, 15), reach)
        arms.append(
            Arm(sign * float(x), y, (sign * 0.0, float(rng.uniform(-0.2, 0.0))), radius, float(rng.uniform(9, 13)))
        )
    return tuple(arms)


def _draw_lesions(
    rng: np.random.Generator, levels: np.ndarray, side: float, front: float, suv: dict[str, float]
) -> tuple[Lesion, ...]:
    out = []
    for _ in range(rng.choice(5, p=(0.3, 0.25, 0.2, 0.15, 0.1))):
        radius, angle = 0.85 * np.sqrt(rng.random()), rng.uniform(0, 2 * np.pi)
        level = float(rng.choice(levels) + rng.normal(0, 4))
        hot = rng.random() < 0.8
        uptake = (
            float(np.exp(rng.uniform(np.log(2.5), np.log(15)))) if hot else float(rng.uniform(0.1, 0.5)) * suv["liver"]
        )
        centre = (float(side * radius * np.cos(angle)), float(front * radius * np.sin(angle)), level)
        out.append(Lesion.draw(rng, centre, uptake))
    return tuple(out)


def random_trunk(rng: np.random.Generator, slices: int, region: str) -> Trunk:
    """A trunk with its own build, pose, organs and lesions, and `slices` levels in the chest or abdomen."""
    low, high = RANGE_MM[region]
    levels = draw_levels(rng, low, high, slices)
    obesity = float(np.clip(rng.normal(0.3, 0.9), -1.0, 2.2))
    frame = float(np.exp(rng.normal(0, 0.05)))
    shape = np.array([1.02, 1.0, 0.93, 0.97, 1.03, 1.06, 1.1, 1.05]) * np.exp(rng.normal(0, 0.02, len(_KNOTS)))
    width = 147 * frame * shape
    belly = np.array([0.95, 1.0, 1.0, 1.0, 1.0, 0.97, 0.9, 0.75]) + 0.06 * obesity * (_KNOTS < 0)
    depth = 103 * frame * belly * np.exp(rng.normal(0, 0.05)) * np.exp(rng.normal(0, 0.02, len(_KNOTS)))
    fat = float(np.clip(11 + 11 * obesity + rng.normal(0, 3), 4, 36))
    fat_mm = (fat, float(np.clip(fat * rng.uniform(0.6, 1.3), 4, 45)))
    suv = _draw_suv(rng)
    back = float(rng.uniform(34, 48))
    arms_down = rng.random() < 0.4
    side = float(width.max()) + fat_mm[0]
    return Trunk(
        width=width,
        depth=depth,
        squareness=float(rng.uniform(2.1, 2.8)),
        fat_mm=fat_mm,
        wall_mm=float(rng.uniform(14, 22)),
        back_mm=back,
        dome=(float(rng.uniform(0, 20)), float(rng.uniform(55, 85))),
        mediastinum_mm=float(rng.uniform(26, 38)),
        suv=suv,
        organs=draw_organs(rng, suv, float(width[3]), float(depth[3]), back),
        arms=_draw_arms(rng, side) if arms_down else (),
        breasts=float(rng.uniform(8, 40)) if rng.random() < 0.45 else 0.0,
        ribs=(float(rng.uniform(24, 30)), float(rng.uniform(0.35, 0.7)), float(rng.uniform(0.2, 0.5))),
        spine=(float(rng.uniform(16, 20)), float(rng.uniform(26, 34)), float(rng.random())),
        warp=(Waves.draw(rng, 90.0, 260.0, rms=4.0), Waves.draw(rng, 90.0, 260.0, rms=4.0)),
        pose=(float(rng.normal(0, 0.06)), float(rng.normal(0, 5)), float(rng.normal(0, 10))),
        texture=Waves.draw(rng, 12.0, 45.0, rms=1.0, count=40),
        coarse=Waves.draw(rng, 50.0, 140.0, rms=1.0, count=10),
        lesions=_draw_lesions(rng, levels, float(width[3]), float(depth[3]), suv),
        kbq_per_suv=float(rng.uniform(3, 6)),
        levels=levels,
    )
