"""Organs of the trunk: superellipsoids with uneven surfaces and layers of uptake from rim to centre."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from allpet.scan.phantom import LABEL, MU_BONE, MU_FAT, MU_SOFT, Canvas, Waves

Layer = tuple[float, float, float]
"""Relative radius up to which it reaches, SUV, mu in 1/mm; the outermost first."""


@dataclass(frozen=True)
class Organ:
    """One organ.

    Parameters
    ----------
    label : name of `LABELS`. centre, axes : mm. layers : from the rim inwards. power : 2 for an ellipsoid.
    turn : rotation about z and about y in radians. bump : relative unevenness of the surface.
    place : "below" the diaphragm, "cavity" or "any". texture : relative fine and coarse change of uptake.
    gate : if set, only where this field lies within +-`band` (loops of bowel), or beyond it if `band` < 0.
    opening : share of the long axis beyond which the organ is missing (the heart's base), 1 for none.
    """

    label: str
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

    def draw(
        self,
        canvas: Canvas,
        u: np.ndarray,
        v: np.ndarray,
        cavity: np.ndarray,
        below: np.ndarray,
        fine: np.ndarray,
        coarse: np.ndarray,
    ) -> None:
        """Draw the part of the organ that lies in the slice."""
        if abs(canvas.z - self.centre[2]) > 1.3 * max(self.axes):
            return
        reach = 1.3 * max(self.axes if self.turn[1] else self.axes[:2]) + 25
        rows, columns = canvas.window(self.centre[0], self.centre[1], reach)
        if rows.start >= rows.stop or columns.start >= columns.stop:
            return
        at = (rows, columns)
        level, long = self._level(u[at], v[at], canvas.z)
        x, y = canvas.x[columns], canvas.y[rows]
        if self.bump is not None:
            level = level + self.bump.on_grid(x, y, canvas.z)
        inside = level < 1
        if self.opening < 1:
            inside &= long < self.opening
        if self.place != "any":
            inside &= cavity[at]
        if self.place == "below":
            inside &= below[at] > 2
        if self.gate is not None:
            field = np.abs(self.gate.on_grid(x, y, canvas.z))
            inside &= (field < self.band) if self.band > 0 else (field > -self.band)
        if not inside.any():
            return
        change = np.clip(1 + self.texture[0] * fine[at] + self.texture[1] * coarse[at], 0.2, 3)
        for radius, suv, mu in self.layers:
            layer = inside & (level < radius)
            canvas.suv[at][layer] = suv * change[layer]
            canvas.mu[at][layer] = mu
        canvas.labels[at][inside] = LABEL[self.label]

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


def _near(rng: np.random.Generator, point: tuple[float, float, float], spread: float) -> tuple[float, float, float]:
    x, y, z = rng.normal(point, spread)
    return float(x), float(y), float(z)


def _about(rng: np.random.Generator, axes: tuple[float, float, float], spread: float) -> tuple[float, float, float]:
    a, b, c = np.array(axes) * np.exp(rng.normal(0, spread, 3)) * np.exp(rng.normal(0, spread))
    return float(a), float(b), float(c)


def _bump(rng: np.random.Generator, size: float, rms: float = 0.07) -> Waves:
    return Waves.draw(rng, size, 3 * size, rms, count=6)


def _heart(rng: np.random.Generator, blood: float) -> list[Organ]:
    """Right heart and atria as blood, left ventricle as a cup open towards the base, with or without uptake."""
    x, y, z = _near(rng, (28.0, 28.0, 42.0), 5.0)
    size = float(np.exp(rng.normal(0, 0.1)))
    turn, tilt = float(rng.normal(0.75, 0.15)), float(rng.normal(-0.45, 0.12))
    hot = rng.random() < 0.6
    muscle = float(np.exp(rng.uniform(np.log(3.5), np.log(13)))) if hot else blood * float(rng.uniform(1.0, 1.5))
    wall = float(rng.uniform(0.30, 0.40))
    right = blood * float(rng.uniform(1.0, 1.4))
    dx, dy = np.cos(turn) * 12, np.sin(turn) * 12
    fat = Organ(
        "mediastinum",
        (x, y, z),
        (62 * size, 46 * size, 48 * size),
        ((1, 0.5 * blood, MU_FAT),),
        turn=(turn - 0.9, 0.0),
        bump=_bump(rng, 50, 0.04),
    )
    atria = Organ(
        "blood pool",
        (x - 18, y - 24, z + 14),
        _about(rng, (38, 26, 28), 0.08),
        ((1, blood, MU_SOFT),),
        bump=_bump(rng, 30),
    )
    ventricle = Organ(
        "blood pool",
        (x - 14, y + 14, z - 4),
        _about(rng, (38, 24, 34), 0.08),
        ((1, right, MU_SOFT), (0.86, blood, MU_SOFT)),
        turn=(-0.35, 0.0),
        bump=_bump(rng, 30),
    )
    cup = Organ(
        "myocardium",
        (x + dx + 2, y + dy * 0.3 - 4, z - 4),
        (44 * size, 30 * size, 30 * size),
        ((1, muscle, MU_SOFT), (1 - wall, blood, MU_SOFT)),
        turn=(turn - 0.1, tilt),
        bump=_bump(rng, 30, 0.04),
        texture=(0.06, 0.15),
    )
    # The cup's axis points forward and left; its base (towards the atria) has no wall.
    base = Organ(
        "blood pool",
        (x + dx - 26 * np.cos(turn) * size, y + dy * 0.3 - 4 - 30 * np.sin(turn) * size, z + 2),
        (24 * size, 19 * size, 20 * size),
        ((1, blood, MU_SOFT),),
        turn=(turn, tilt),
    )
    return [fat, atria, ventricle, cup, base]


def _vessels(rng: np.random.Generator, blood: float, depth: float, back: float) -> list[Organ]:
    """Great vessels and airways; long ellipsoids along z are nearly cylinders in the middle."""
    aorta, cava = float(rng.uniform(10, 15)), float(rng.uniform(9, 13))
    spine = -depth + back
    pool = ((1.0, blood, MU_SOFT),)
    wall = ((1.0, blood * float(rng.uniform(1.0, 1.3)), MU_SOFT), (0.8, blood, MU_SOFT))
    air = ((1.0, 0.6, MU_SOFT), (0.75, 0.1, 0.0005))
    return [
        Organ("blood pool", _near(rng, (20, spine + 22, 40), 3), (aorta, aorta, 400), wall, place="cavity"),
        Organ("blood pool", _near(rng, (-22, spine + 34, -60), 3), (cava, 0.8 * cava, 300), pool, place="cavity"),
        Organ("blood pool", _near(rng, (-14, 30, 85), 3), (aorta * 1.15, aorta * 1.15, 48), wall, place="cavity"),
        Organ("blood pool", _near(rng, (-30, 12, 110), 3), (9, 9, 70), pool, place="cavity"),
        Organ("blood pool", _near(rng, (12, 18, 92), 3), (26, 12, 14), pool, place="cavity"),
        Organ("blood pool", _near(rng, (4, 8, 122), 3), (34, 13, 12), wall, turn=(-0.9, 0.0), place="cavity"),
        Organ("mediastinum", _near(rng, (0, spine + 38, 175), 2), (9, 9, 90), air),
        Organ("mediastinum", _near(rng, (24, spine + 40, 92), 2), (30, 7, 9), air, turn=(0.2, 0.4)),
        Organ("mediastinum", _near(rng, (-24, spine + 40, 92), 2), (30, 7, 9), air, turn=(-0.2, -0.4)),
        Organ(
            "mediastinum",
            _near(rng, (4, spine + 24, 100), 2),
            (7, 6, 130),
            ((1, blood * float(rng.uniform(0.9, 1.6)), MU_SOFT),),
        ),
    ]


def _bones(rng: np.random.Generator, marrow: float, width: float, depth: float) -> list[Organ]:
    """Sternum, shoulder blades and iliac wings."""
    shell = ((1.0, 0.7 * marrow, MU_BONE),)
    out = [Organ("bone", (0.0, depth * 0.93, 80.0), (19, 6, 85), ((1.0, 0.9 * marrow, MU_BONE),), power=2.5)]
    for sign in (-1.0, 1.0):
        turn = sign * float(rng.normal(-0.65, 0.12))
        out.append(Organ("bone", (sign * 0.68 * width, -0.72 * depth, 115.0), (44, 4.5, 70), shell, turn=(turn, 0.0)))
        wing = sign * float(rng.normal(-0.9, 0.1))
        out.append(
            Organ(
                "bone",
                (sign * 0.62 * width, -0.35 * depth, -235.0),
                (55, 8, 62),
                ((1.0, marrow, MU_BONE),),
                turn=(wing, 0.0),
            )
        )
    return out


def _upper_abdomen(rng: np.random.Generator, suv: dict[str, float], width: float, depth: float) -> list[Organ]:
    """Liver (two lobes, gall bladder), spleen, stomach, pancreas."""
    liver = suv["liver"]
    layer = ((1.0, liver, MU_SOFT * 1.03),)
    size = float(np.exp(rng.normal(0, 0.09)))
    x = -0.47 * width
    spleen = liver * float(rng.uniform(0.65, 0.95))
    wall, inside = float(np.exp(rng.normal(np.log(1.6), 0.35))), float(rng.uniform(0.2, 1.0))
    gas = rng.random() < 0.4
    stomach = (
        (1.0, wall, MU_SOFT),
        (float(rng.uniform(0.68, 0.82)), 0.1 if gas else inside, 0.0005 if gas else MU_SOFT),
    )
    return [
        Organ(
            "stomach",
            _near(rng, (0.36 * width, 0.30 * depth, -48), 6),
            _about(rng, (46, 32, 48), 0.15),
            stomach,
            turn=(float(rng.normal(0.5, 0.3)), 0.5),
            bump=_bump(rng, 45),
            place="below",
        ),
        Organ(
            "liver",
            _near(rng, (x, 0.05 * depth, -58), 5),
            (82 * size, 88 * size, float(rng.normal(92, 10))),
            layer,
            turn=(float(rng.normal(0, 0.2)), 0.35),
            bump=_bump(rng, 60, 0.09),
            place="below",
        ),
        Organ(
            "liver",
            _near(rng, (0.02 * width, 0.42 * depth, -38), 6),
            _about(rng, (75, 34, 42), 0.13),
            layer,
            turn=(float(rng.normal(-0.2, 0.12)), 0.1),
            bump=_bump(rng, 60),
            place="below",
        ),
        Organ(
            "liver",
            _near(rng, (-0.25 * width, 0.42 * depth, -95), 5),
            _about(rng, (14, 20, 26), 0.15),
            ((1.0, 0.4 * liver, MU_SOFT),),
            place="below",
        ),
        Organ(
            "spleen",
            _near(rng, (0.66 * width, -0.35 * depth, -48), 5),
            _about(rng, (30, 46, 52), 0.14),
            ((1.0, spleen, MU_SOFT * 1.03),),
            turn=(float(rng.normal(-0.3, 0.2)), 0.0),
            bump=_bump(rng, 40, 0.1),
            place="below",
        ),
        Organ(
            "bowel",
            _near(rng, (0.10 * width, 0.05 * depth, -92), 5),
            _about(rng, (62, 11, 16), 0.15),
            ((1.0, float(rng.uniform(1.2, 2.0)), MU_SOFT),),
            turn=(float(rng.normal(0.35, 0.15)), 0.2),
            bump=_bump(rng, 30, 0.12),
            place="below",
        ),
    ]


def _kidneys(rng: np.random.Generator, depth: float, back: float) -> list[Organ]:
    """Cortex, medulla and a renal pelvis that may hold hot urine."""
    out = []
    cortex = float(np.exp(rng.normal(np.log(3.2), 0.3)))
    for sign in (-1.0, 1.0):
        urine = float(np.exp(rng.uniform(np.log(2.0), np.log(25))))
        x, y, z = _near(rng, (sign * 62.0, -depth + back + 14, -105.0 + 6 * sign), 5)
        axes = _about(rng, (31, 25, 55), 0.1)
        turn = (-sign * float(rng.normal(0.7, 0.2)), sign * 0.15)
        layers = ((1.0, cortex, MU_SOFT), (0.62, 0.75 * cortex, MU_SOFT))
        out.append(Organ("kidney", (x, y, z), axes, layers, turn=turn, bump=_bump(rng, 40, 0.05), place="below"))
        size = float(rng.uniform(5, 11))
        pelvis = (x - sign * 12.0, y + 4.0, z)
        out.append(Organ("kidney", pelvis, (size, size * 0.8, 2.2 * size), ((1.0, urine, MU_SOFT),), place="below"))
    return out


def _lower_abdomen(
    rng: np.random.Generator, suv: dict[str, float], width: float, depth: float, back: float
) -> list[Organ]:
    """Psoas, loops of small bowel, colon."""
    out = []
    spine = -depth + back
    for sign in (-1.0, 1.0):
        size = float(rng.uniform(0.85, 1.2))
        out.append(
            Organ(
                "muscle",
                (sign * 40.0, spine + 4, -190.0),
                (20 * size, 23 * size, 110),
                ((1.0, suv["muscle"], MU_SOFT),),
                place="cavity",
            )
        )
    loops = float(np.exp(rng.normal(np.log(1.3), 0.35)))
    width_of_loop = float(rng.uniform(28, 40))
    gate = Waves.draw(rng, width_of_loop * 1.4, width_of_loop * 2.4, rms=1.0, count=14)
    out.append(
        Organ(
            "bowel",
            (0.0, 0.22 * depth, -165.0),
            (0.72 * width, 0.62 * depth, 85),
            ((1.0, loops, MU_SOFT),),
            power=2.5,
            gate=gate,
            band=float(rng.uniform(0.5, 0.9)),
            place="below",
            texture=(0.25, 0.3),
        )
    )
    hot = float(np.exp(rng.normal(np.log(1.6), 0.5)))
    gas = rng.random() < 0.5
    inner = (0.7, 0.15, 0.001) if gas else (0.6, 0.6 * hot, MU_SOFT)
    for sign, z in ((-1.0, -165.0), (1.0, -145.0)):
        radius = float(rng.uniform(17, 26))
        out.append(
            Organ(
                "bowel",
                (sign * 0.66 * width, float(rng.normal(-8, 6)), z),
                (radius, radius, 105),
                ((1.0, hot, MU_SOFT), inner),
                power=2.5,
                bump=_bump(rng, 30, 0.1),
                place="below",
                texture=(0.2, 0.4),
            )
        )
    out.append(
        Organ(
            "bowel",
            (0.0, float(rng.normal(0.55 * depth, 5)), float(rng.normal(-125, 15))),
            (0.62 * width, 19, 20),
            ((1.0, hot, MU_SOFT), inner),
            power=2.5,
            bump=_bump(rng, 35, 0.15),
            place="below",
            texture=(0.2, 0.4),
        )
    )
    return out


def draw_organs(
    rng: np.random.Generator, suv: dict[str, float], width: float, depth: float, back: float
) -> tuple[Organ, ...]:
    """All organs of one subject in drawing order.

    Parameters
    ----------
    suv : normal uptakes by tissue. width, depth : half axes of the muscle outline in mm. back : thickness of the
        back in mm, which puts the spine.
    """
    return (
        *_bones(rng, suv["marrow"], width, depth),
        *_lower_abdomen(rng, suv, width, depth, back),
        *_upper_abdomen(rng, suv, width, depth),
        *_kidneys(rng, depth, back),
        *_vessels(rng, suv["blood"], depth, back)[:2],
        *_heart(rng, suv["blood"]),
        *_vessels(rng, suv["blood"], depth, back)[2:],
    )
