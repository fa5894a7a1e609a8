"""Organs of the chest: heart, great vessels, airways, breast bone and shoulder blades."""

from __future__ import annotations

import math

import numpy as np

from allpet.scan.organ import Layer, Organ, about, bumps, hollow, near, solid
from allpet.scan.phantom import MU_BONE, MU_FAT, MU_GAS


def heart(rng: np.random.Generator) -> list[Organ]:
    """Right heart and atria as blood, left ventricle as a cup open towards the base."""
    x, y, z = near(rng, (28.0, 28.0, 42.0), 5.0)
    size = float(np.exp(rng.normal(0, 0.1)))
    turn, tilt = float(rng.normal(0.75, 0.15)), float(rng.normal(-0.45, 0.12))
    dx, dy = math.cos(turn) * 12, math.sin(turn) * 12
    wall = float(rng.uniform(0.30, 0.40))
    fat = Organ(
        (x, y, z),
        (62 * size, 46 * size, 48 * size),
        solid("mediastinum", 0.7, MU_FAT),
        turn=(turn - 0.9, 0.0),
        bump=bumps(rng, 50, 0.04),
    )
    atria = Organ((x - 18, y - 24, z + 14), about(rng, (38, 26, 28), 0.08), solid("blood"), bump=bumps(rng, 30))
    ventricle = Organ(
        (x - 14, y + 14, z - 4),
        about(rng, (38, 24, 34), 0.08),
        (Layer(1.0, "blood", float(rng.uniform(1.0, 1.4))), Layer(0.86, "blood")),
        turn=(-0.35, 0.0),
        bump=bumps(rng, 30),
    )
    cup = Organ(
        (x + dx + 2, y + dy * 0.3 - 4, z - 4),
        (44 * size, 30 * size, 30 * size),
        hollow("myocardium", "blood", 1 - wall),
        turn=(turn - 0.1, tilt),
        bump=bumps(rng, 30, 0.04),
        texture=(0.06, 0.15),
    )
    # The cup's axis points forward and left; its base (towards the atria) has no wall.
    base = Organ(
        (x + dx - 26 * math.cos(turn) * size, y + dy * 0.3 - 4 - 30 * math.sin(turn) * size, z + 2),
        (24 * size, 19 * size, 20 * size),
        solid("blood"),
        turn=(turn, tilt),
    )
    return [fat, atria, ventricle, cup, base]


def abdominal_vessels(rng: np.random.Generator, spine: float) -> list[Organ]:
    """Aorta and lower vena cava down to where they divide; long ellipsoids along z are nearly cylinders."""
    aorta, cava = float(rng.uniform(9, 13)), float(rng.uniform(9, 13))
    return [
        Organ(near(rng, (18, spine + 22, 10), 3), (aorta, aorta, 300), _vessel_wall(rng), place="cavity"),
        Organ(near(rng, (-22, spine + 32, -80), 3), (cava, 0.8 * cava, 220), solid("blood"), place="cavity"),
    ]


def _vessel_wall(rng: np.random.Generator) -> tuple[Layer, ...]:
    return (Layer(1.0, "blood", float(rng.uniform(1.0, 1.3))), Layer(0.8, "blood"))


def chest_vessels(rng: np.random.Generator, spine: float) -> list[Organ]:
    """Vessels of the upper mediastinum, windpipe and gullet."""
    aorta = float(rng.uniform(11, 16))
    air = (Layer(1.0, "mucosa"), Layer(0.75, "air", mu=MU_GAS))
    blood = solid("blood")
    return [
        Organ(near(rng, (-14, 30, 85), 3), (aorta, aorta, 48), _vessel_wall(rng), place="cavity"),
        Organ(near(rng, (-30, 12, 110), 3), (9, 9, 70), blood, place="cavity"),
        Organ(near(rng, (12, 18, 92), 3), (26, 12, 14), blood, place="cavity"),
        Organ(near(rng, (4, 8, 122), 3), (34, 13, 12), _vessel_wall(rng), turn=(-0.9, 0.0), place="cavity"),
        Organ(near(rng, (0, spine + 38, 175), 2), (9, 9, 90), air),
        Organ(near(rng, (24, spine + 40, 92), 2), (30, 7, 9), air, turn=(0.2, 0.4)),
        Organ(near(rng, (-24, spine + 40, 92), 2), (30, 7, 9), air, turn=(-0.2, -0.4)),
        Organ(near(rng, (4, spine + 24, 100), 2), (7, 6, 130), solid("mediastinum", float(rng.uniform(0.9, 1.6)))),
    ]


def chest_bones(rng: np.random.Generator, width: float, depth: float) -> list[Organ]:
    """Breast bone and shoulder blades."""
    out = [Organ((0.0, depth * 0.93, 80.0), (19, 6, 85), solid("marrow", 0.9, MU_BONE), power=2.5)]
    for sign in (-1.0, 1.0):
        turn = sign * float(rng.normal(-0.65, 0.12))
        blade = (sign * 0.68 * width, -0.72 * depth, 115.0)
        out.append(Organ(blade, (44, 4.5, 70), solid("marrow", 0.7, MU_BONE), turn=(turn, 0.0)))
    return out
