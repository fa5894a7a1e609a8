"""Trunks: procedural chest, abdomen and pelvis, one body from the upper lungs to the hip joints.

z = 0 is the top of the right diaphragm in mid-breath. Outline, cavity and diaphragm are formulas of the level; organs
are superellipsoids with uneven surfaces, cut by the cavity and the diaphragm, drawn one over the other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from allpet.scan.abdomen import kidneys, lower_abdomen, upper_abdomen
from allpet.scan.organ import Fields, Organ, Posed, superellipse
from allpet.scan.pelvis import pelvic_bones, pelvic_muscles, pelvic_organs
from allpet.scan.phantom import LABEL, MU_BONE, MU_LUNG, MU_MARROW, MU_SOFT, Canvas, Lesion, Waves, draw_levels
from allpet.scan.thorax import abdominal_vessels, chest_bones, chest_vessels, heart

RANGE_MM = {"chest": (-15.0, 150.0), "abdomen": (-185.0, -10.0), "pelvis": (-340.0, -205.0)}
_KNOTS = np.array([-380.0, -330.0, -280.0, -230.0, -180.0, -110.0, -40.0, 40.0, 110.0, 160.0, 230.0])
_WIDTH = np.array([1.12, 1.14, 1.10, 1.02, 1.0, 0.93, 0.97, 1.03, 1.06, 1.1, 1.05])
_DEPTH = np.array([0.86, 0.92, 0.96, 0.95, 1.0, 1.0, 1.0, 1.0, 0.97, 0.9, 0.75])
_NO_SPINE_MM = -212.0


@dataclass(frozen=True)
class Arm:
    """An arm beside the body: x, y at z = 0 (mm), slope per mm, radius and bone radius in mm."""

    x: float
    y: float
    slope: tuple[float, float]
    radius: float
    bone: float


@dataclass(frozen=True)
class Trunk(Posed):
    """One subject's trunk.

    Parameters
    ----------
    width, depth : half-widths of the muscle outline in mm at the knots of z. squareness : exponent of the outline.
    fat_mm : subcutaneous fat at side and front. wall_mm : thickness of chest or belly wall, back_mm : at the back.
    dome : top of the left diaphragm below the right one, and its drop towards the edge, in mm.
    breath_mm : how far the diaphragm stands below (breathing in) mid-breath; the upper abdomen moves with it.
    organs : drawn in order.
    """

    width: np.ndarray
    depth: np.ndarray
    squareness: float
    fat_mm: tuple[float, float]
    wall_mm: float
    back_mm: float
    dome: tuple[float, float]
    breath_mm: float
    mediastinum_mm: float
    gland: float
    organs: tuple[Organ, ...]
    arms: tuple[Arm, ...]
    breasts: float
    ribs: tuple[float, float, float]
    spine: tuple[float, float, float]
    lesions: tuple[Lesion, ...]
    weight_kg: float
    levels: np.ndarray

    def render(self, x: np.ndarray, y: np.ndarray, z: float) -> Canvas:
        """Draw the slice at level `z` (mm) on rows `y` and columns `x` (mm)."""
        whole = Canvas.blank(x, y, z)
        a, _ = self.half_axes(z)
        reach = a + self.fat_mm[0] + 40 + (2.4 * self.arms[0].radius if self.arms else 0.0)
        canvas = whole.part(0.0, 0.0, reach)
        self._draw(canvas)
        for number, lesion in enumerate(self.lesions):
            canvas.add_lesion(lesion, number)
        return whole

    def _draw(self, canvas: Canvas) -> None:
        z = canvas.z
        u, v = self.coordinates(canvas)
        fine, coarse = self.textures(canvas)
        cavity, below = self._draw_wall(canvas, u, v, fine, coarse)
        moved = z + self.breath_mm * float(np.clip((z + 220) / 180, 0, 1) * np.clip((70 - z) / 70, 0, 1))
        fields = Fields(u, v, fine, coarse, cavity, below, moved)
        self._draw_inside(canvas, fields)
        if z > _NO_SPINE_MM:
            self._draw_spine(canvas, u, v, fine)
        for organ in self.organs:
            organ.draw(canvas, fields)
        self._draw_arms(canvas, u, v, fine)

    def half_axes(self, z: float) -> tuple[float, float]:
        """Half width and half depth of the muscle outline at level z, mm."""
        return float(np.interp(z, _KNOTS, self.width)), float(np.interp(z, _KNOTS, self.depth))

    def _breasts(self, u: np.ndarray, v: np.ndarray, z: float, side: float, front: float) -> np.ndarray:
        """Relative radius of the breasts (below 1 inside); they lie flat and sideways in a supine body."""
        size = math.sqrt(1 - ((z - 60) / 75) ** 2)
        across = (np.abs(u) - 0.58 * side) / (0.46 * side * size)
        along = (v - 0.62 * front) / ((0.3 * front + self.breasts) * size)
        return np.sqrt(across**2 + along**2)

    def _draw_wall(
        self, canvas: Canvas, u: np.ndarray, v: np.ndarray, fine: np.ndarray, coarse: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Skin, fat, muscle, ribs; returns the cavity (bool) and the depth below the diaphragm in mm."""
        z = canvas.z
        a, b = self.half_axes(z)
        p = self.squareness
        side, front = self.fat_mm
        skin = superellipse(u, v - 0.3 * front, a + side, b + front, p) < 1
        muscle = superellipse(u, v, a, b, p) < 1
        if self.breasts > 0 and ((z - 60) / 75) ** 2 < 0.95:
            breast = self._breasts(u, v, z, a, b + front)
            canvas.paint(skin | (breast < 1), "fat", 0.25 * fine)
            canvas.paint((breast + 0.12 * coarse < 0.75) & ~muscle, "breast", 0.12 * fine, gain=self.gland)
        else:
            canvas.paint(skin, "fat", 0.25 * fine)
        canvas.paint(muscle, "muscle", 0.1 * fine + 0.1 * coarse)
        shrink = math.sqrt(max(0.05, 1 - (max(z - 95.0, 0) / 110) ** 2))
        funnel = float(np.interp(z, (-350.0, -300.0, -240.0, -200.0), (0.42, 0.56, 0.86, 1.0)))
        ca = (a - self.wall_mm) * shrink * funnel
        cb = (b - (self.wall_mm + self.back_mm) / 2) * shrink * (0.5 + 0.5 * funnel)
        inner = superellipse(u, v - (self.back_mm - self.wall_mm) / 2, ca, cb, p)
        cavity = inner < 1
        if z < -225:
            septa = muscle & ~cavity & (np.abs(fine + 0.6 * coarse) < 0.13)
            canvas.paint(septa, "fat", 0.2 * coarse)
        if z > -0.5 * self.dome[1] - 40:
            pitch, slope, duty = self.ribs
            phase = np.cos(2 * math.pi * (z + slope * v + 0.1 * np.abs(u)) / pitch)
            rib = (inner > 1.02) & (inner < 1.02 + 8.0 / cb) & (phase > duty) & (v > -0.95 * b)
            canvas.paint(rib, "marrow", 0.2 * fine, MU_BONE, gain=0.7)
        drop_left, drop = self.dome
        centre = 0.45 * ca
        radius = np.minimum((u + centre) ** 2, (u - centre) ** 2) / (0.62 * ca) ** 2
        radius = radius + np.where(v > 10, 0.5, 1.0) * ((v - 10) / cb) ** 2
        top = np.where(u > 0, -drop_left, 0.0) - drop * np.minimum(radius, 1.2) - self.breath_mm
        return cavity, top - z

    def _draw_inside(self, canvas: Canvas, fields: Fields) -> None:
        """Lungs above the diaphragm with their vessels and gravity, mediastinum, belly fat below."""
        u, v, fine, coarse, cavity, below = fields.u, fields.v, fields.fine, fields.coarse, fields.cavity, fields.below
        canvas.paint(cavity & (below >= 0), "visceral fat", 0.2 * fine + 0.2 * coarse)
        if float(below.min()) >= 0:
            return
        shape = 0.4 + 0.8 * np.exp(-(((v + 15) / 55) ** 2)) + 0.3 * math.tanh((canvas.z - 110) / 50)
        half = self.mediastinum_mm * shape * (1 + 0.18 * coarse + 0.04 * fine)
        middle = np.abs(u - 4) < half
        lung = cavity & (below < 0) & ~middle
        gravity = -0.25 * np.tanh(v / 60)
        vessels = np.where(fine > 1.3, 1.0, 0.0) * np.exp(-((np.abs(u) - half - 20) ** 2) / 40**2)
        density = math.exp(-self.breath_mm / 60)
        canvas.paint(lung, "lung", gravity + 0.12 * fine + 0.8 * vessels, gain=density)
        canvas.mu[lung] = density * MU_LUNG * np.clip(1 + gravity + 0.8 * vessels, 0.6, 3)[lung]
        canvas.paint(cavity & (below < 0) & middle, "mediastinum", 0.15 * fine + 0.2 * coarse)

    def _draw_spine(self, canvas: Canvas, u: np.ndarray, v: np.ndarray, fine: np.ndarray) -> None:
        """Vertebral body with discs, canal, arch and processes."""
        radius, pitch, offset = self.spine
        grown = radius * (1.12 if canvas.z < -60 else 1.0 - 0.0006 * max(canvas.z, 0))
        _, b = self.half_axes(canvas.z)
        y = -b + self.back_mm + 4
        rows, columns = canvas.window(self.pose[1], y + self.pose[2], 3.4 * grown + 12)
        at = (rows, columns)
        part = Canvas(canvas.x[columns], canvas.y[rows], canvas.z, canvas.tissue[at], canvas.change[at], canvas.mu[at])
        u, v, fine = u[at], v[at], fine[at]
        phase = (canvas.z / pitch + offset) % 1
        disc = phase < 0.18
        body = (u / (1.15 * grown)) ** 2 + ((v - y) / (0.85 * grown)) ** 2
        arch = ((u / (1.05 * grown)) ** 2 + ((v - y + 1.25 * grown) / (0.8 * grown)) ** 2 < 1) & (phase > 0.35)
        process = (np.abs(u) < 4.5) & (v < y - 1.5 * grown) & (v > y - 2.6 * grown) & (phase > 0.5)
        wing = (np.abs(v - y + 1.2 * grown + 0.1 * np.abs(u)) < 5) & (np.abs(u) < 2.1 * grown) & (phase > 0.65)
        for bone in (arch, process, wing):
            part.paint(bone, "marrow", 0.15 * fine, MU_BONE, gain=0.7)
        canal = (u / (0.5 * grown)) ** 2 + ((v - y + 1.2 * grown) / (0.42 * grown)) ** 2 < 1
        part.paint(canal, "spinal cord")
        part.paint(body < 1, "marrow", 0.12 * fine, MU_SOFT if disc else MU_MARROW, gain=0.4 if disc else 1.0)
        if not disc:
            part.mu[(body < 1) & (body > 0.82)] = MU_BONE

    def _draw_arms(self, canvas: Canvas, u: np.ndarray, v: np.ndarray, fine: np.ndarray) -> None:
        """Arms at the sides, only where there is no body yet."""
        for arm in self.arms:
            x, y = arm.x + arm.slope[0] * canvas.z, arm.y + arm.slope[1] * canvas.z
            taper = float(np.interp(canvas.z, (-340.0, -200.0, 0.0), (0.62, 0.75, 1.0)))
            distance = np.sqrt((u - x) ** 2 + ((v - y) / 1.15) ** 2)
            free = canvas.tissue == LABEL["air"]
            canvas.paint(free & (distance < taper * arm.radius), "fat", 0.2 * fine)
            canvas.paint(free & (distance < taper * arm.radius - 0.4 * self.fat_mm[0]), "muscle", 0.2 * fine)
            canvas.paint(free & (distance < taper * arm.bone), "cortical bone", mu=MU_BONE)


def _draw_arms(rng: np.random.Generator, side: float) -> tuple[Arm, ...]:
    """Two arms beside a body of half width `side`, kept inside a radius of 248 mm."""
    arms = []
    radius = float(rng.uniform(36, 48))
    for sign in (-1, 1):
        y = float(rng.uniform(-30, 40))
        reach = np.sqrt(248.0**2 - y**2) - radius
        x = min(side + radius + rng.uniform(2, 15), reach)
        slope = (0.0, float(rng.uniform(-0.1, 0.05)))
        arms.append(Arm(sign * float(x), y, slope, radius, float(rng.uniform(9, 13))))
    return tuple(arms)


_HOSTS = {
    "chest": ("lung", "lung", "mediastinum", "marrow", "muscle"),
    "abdomen": ("liver", "liver", "visceral fat", "marrow", "muscle"),
    "pelvis": ("visceral fat", "marrow", "prostate", "muscle"),
}


def _draw_lesions(
    rng: np.random.Generator, levels: np.ndarray, side: float, front: float, region: str
) -> tuple[Lesion, ...]:
    out = []
    for _ in range(rng.choice(5, p=(0.3, 0.25, 0.2, 0.15, 0.1))):
        radius, angle = 0.85 * np.sqrt(rng.random()), rng.uniform(0, 2 * np.pi)
        level = float(rng.choice(levels) + rng.normal(0, 4))
        kind = "hot" if rng.random() < 0.8 else "cold"
        centre = (side * radius * np.cos(angle), front * radius * np.sin(angle), level)
        out.append(Lesion.draw(rng, centre, kind, str(rng.choice(_HOSTS[region]))))
    return tuple(out)


def random_trunk(rng: np.random.Generator, slices: int, region: str, spacing_mm: float | None = None) -> Trunk:
    """A trunk with its own build, pose, breath, organs and lesions, and `slices` levels in the region."""
    levels = draw_levels(rng, *RANGE_MM[region], slices, spacing_mm)
    female = bool(rng.random() < 0.5)
    obesity = float(np.clip(rng.normal(0.3, 0.9), -1.0, 2.2))
    frame = float(np.exp(rng.normal(0, 0.05)))
    width = 147 * frame * _WIDTH * np.exp(rng.normal(0, 0.02, len(_KNOTS)))
    width = np.where(_KNOTS < -200, width * (1.05 if female else 0.98), width)
    belly = _DEPTH + 0.06 * obesity * (_KNOTS < 0)
    depth = 103 * frame * belly * np.exp(rng.normal(0, 0.05)) * np.exp(rng.normal(0, 0.02, len(_KNOTS)))
    fat = float(np.clip(11 + 11 * obesity + rng.normal(0, 3), 4, 36))
    fat_mm = (fat, float(np.clip(fat * rng.uniform(0.6, 1.3), 4, 45)))
    back = float(rng.uniform(34, 48))
    arms_down = rng.random() < 0.4
    waist, girth = float(np.interp(-40.0, _KNOTS, width)), float(np.interp(-40.0, _KNOTS, depth))
    hips, seat = float(np.interp(-280.0, _KNOTS, width)), float(np.interp(-280.0, _KNOTS, depth))
    height_cm = float(rng.normal(164 if female else 177, 7)) * frame**0.5
    area_cm2 = math.pi * (waist + fat_mm[0]) * (girth + 0.7 * fat_mm[1]) / 100
    organs: list[Organ] = []
    if region == "pelvis":
        organs += [*pelvic_muscles(rng, hips, -seat + back), *pelvic_bones(rng, hips, seat, -seat + back)]
        organs += pelvic_organs(rng, hips, seat, -seat + back, female)
    else:
        spine = -girth + back
        organs += [*chest_bones(rng, waist, girth), *lower_abdomen(rng, waist, girth, spine)]
        organs += [*upper_abdomen(rng, waist, girth), *kidneys(rng, spine), *abdominal_vessels(rng, spine)]
        organs += [*heart(rng), *chest_vessels(rng, spine)]
    return Trunk(
        width=width,
        depth=depth,
        squareness=float(rng.uniform(2.1, 2.8)),
        fat_mm=fat_mm,
        wall_mm=float(rng.uniform(14, 22)),
        back_mm=back,
        dome=(float(rng.uniform(0, 20)), float(rng.uniform(55, 85))),
        breath_mm=float(np.clip(rng.normal(0, 9), -15, 25)),
        mediastinum_mm=float(rng.uniform(26, 38)),
        gland=float(np.exp(rng.normal(0, 0.25))),
        organs=tuple(organs),
        arms=_draw_arms(rng, float(width.max()) + fat_mm[0]) if arms_down else (),
        breasts=float(rng.uniform(8, 40)) if female else 0.0,
        ribs=(float(rng.uniform(24, 30)), float(rng.uniform(0.35, 0.7)), float(rng.uniform(0.2, 0.5))),
        spine=(float(rng.uniform(16, 20)), float(rng.uniform(26, 34)), float(rng.random())),
        warp=(Waves.draw(rng, 90.0, 260.0, rms=4.0), Waves.draw(rng, 90.0, 260.0, rms=4.0)),
        pose=(float(rng.normal(0, 0.06)), float(rng.normal(0, 5)), float(rng.normal(0, 10))),
        texture=Waves.draw(rng, 12.0, 45.0, rms=1.0, count=40),
        coarse=Waves.draw(rng, 50.0, 140.0, rms=1.0, count=10),
        lesions=_draw_lesions(rng, levels, waist, girth, region),
        weight_kg=float(np.clip(0.6e-3 * area_cm2 * height_cm, 40, 150)),
        levels=levels,
    )
