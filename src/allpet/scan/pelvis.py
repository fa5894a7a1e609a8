"""Organs of the pelvis: bones, bladder, rectum, prostate or uterus, vessels and the muscles of hip and buttock.

z is that of :mod:`allpet.scan.trunk`: the iliac crest is near -200, the sacrum from -215 to -300, the hip joints near
-325.
"""

from __future__ import annotations

import numpy as np

from allpet.scan.organ import Layer, Organ, about, bumps, solid
from allpet.scan.phantom import MU_BONE, MU_CORTICAL, MU_MARROW, Waves

BLADDER_ML = (40.0, 450.0)


def _bone(shell: float = 0.82) -> tuple[Layer, ...]:
    return (Layer(1.0, "cortical bone", mu=MU_CORTICAL), Layer(shell, "marrow", 0.8, MU_MARROW))


def pelvic_bones(rng: np.random.Generator, width: float, depth: float, spine: float) -> list[Organ]:
    """Iliac wings, sacrum and tail bone, hip sockets, femoral heads and shafts, pubic bones, seat bones."""
    sacrum = (float(rng.normal(0, 1.5)), spine - 12, -258.0)
    out = [
        Organ(sacrum, about(rng, (48, 24, 48), 0.06), (Layer(1.0, "cortical bone"), Layer(0.85, "marrow")), power=2.4),
        Organ((0.0, spine - 24, -318.0), (16, 9, 26), _bone()),
    ]
    wing_turn, hip = float(rng.normal(0.9, 0.08)), 0.62 * width
    for sign in (-1.0, 1.0):
        wing = (sign * 0.60 * width, spine + 38, -245.0)
        out.append(Organ(wing, (56, 9, 60), _bone(0.7), turn=(-sign * wing_turn, 0.0), bump=bumps(rng, 40, 0.05)))
        out.append(Organ((sign * hip, spine + 62, -322.0), (30, 28, 30), _bone(0.8)))
        out.append(Organ((sign * hip, spine + 62, -322.0), (26.5, 25, 26), solid("cortical bone", mu=MU_BONE)))
        head = (Layer(1.0, "cortical bone", mu=MU_BONE), Layer(0.92, "marrow", 0.6))
        out.append(Organ((sign * (hip + 3), spine + 62, -323.0), (23.5, 22.5, 23.5), head))
        neck = (sign * (hip + 30), spine + 58, -340.0)
        out.append(Organ(neck, (34, 15, 15), _bone(), turn=(0.0, sign * 0.65)))
        out.append(Organ((sign * (hip + 48), spine + 54, -352.0), (19, 20, 34), _bone()))
        out.append(Organ((sign * 0.24 * width, 0.55 * depth, -338.0), (34, 9, 15), _bone(), turn=(sign * 0.25, 0.0)))
        out.append(Organ((sign * 0.42 * width, spine + 12, -368.0), (17, 17, 34), _bone()))
    return out


def pelvic_muscles(rng: np.random.Generator, width: float, spine: float) -> list[Organ]:
    """Buttocks, iliacus and psoas, the deep hip muscles; fat lies between them."""
    size = float(rng.uniform(0.9, 1.12))
    out = []
    for sign in (-1.0, 1.0):
        buttock = (sign * 0.48 * width, spine - 18, -305.0)
        turn = (sign * 0.35, 0.0)
        out.append(Organ(buttock, (66 * size, 32 * size, 78), solid("muscle"), turn=turn, bump=bumps(rng, 50, 0.06)))
        out.append(Organ((sign * 0.40 * width, spine + 62, -272.0), (24, 26, 70), solid("muscle"), place="cavity"))
        out.append(Organ((sign * 0.36 * width, spine + 48, -330.0), (13, 34, 26), solid("muscle"), place="any"))
    return out


def pelvic_organs(rng: np.random.Generator, width: float, depth: float, spine: float, female: bool) -> list[Organ]:
    """Bladder by its filling, rectum, sigmoid, prostate or uterus and ovaries, vessels, small bowel above."""
    volume = float(np.exp(rng.uniform(*np.log(BLADDER_ML))))
    radius = (volume * 1000 * 0.75 / np.pi) ** (1 / 3)
    floor = -346.0 + (0.0 if female else 10.0)
    bladder = (float(rng.normal(0, 3)), 0.30 * depth, floor + 0.92 * radius)
    loops = Organ(  # ileum, which takes up what the colon does, far less than the upper bowel
        (0.0, 0.30 * depth, -235.0),
        (0.62 * width, 0.5 * depth, 70),
        solid("colon", float(np.exp(rng.normal(0, 0.25)))),
        gate=Waves.draw(rng, 45, 80, rms=1.0, count=14),
        band=float(rng.uniform(0.5, 0.85)),
        place="cavity",
        texture=(0.25, 0.3),
    )
    rectum = about(rng, (17, 19, 52), 0.12)
    gas = rng.random() < 0.4
    gut = (Layer(1.0, "colon"), Layer(0.68, "air", mu=0.001) if gas else Layer(0.68, "colon", 0.7))
    out = [
        loops,
        Organ((float(rng.normal(26, 8)), spine + 52, -262.0), (46, 17, 20), gut, turn=(0.5, 0.35), bump=bumps(rng, 30)),
        Organ((float(rng.normal(0, 3)), spine + 20, -312.0), rectum, gut, bump=bumps(rng, 30, 0.05)),
    ]
    for sign in (-1.0, 1.0):
        iliac = (sign * 0.30 * width, spine + 52, -275.0)
        out.append(Organ(iliac, (9, 9, 85), solid("blood"), turn=(0.0, sign * -0.25)))
        out.append(Organ((sign * 0.36 * width, 0.52 * depth, -340.0), (9, 9, 45), solid("blood")))
    if female:
        womb = (float(rng.normal(0, 5)), spine + 62, floor + 46)
        axes = about(rng, (26, 22, 34), 0.15)
        out.append(Organ(womb, axes, (Layer(1.0, "uterus"), Layer(0.3, "uterus", float(rng.uniform(0.8, 2.0))))))
        for sign in (-1.0, 1.0):
            out.append(Organ((womb[0] + sign * 38, womb[1] - 4, womb[2] + 12), (14, 10, 16), solid("uterus", 0.9)))
    else:
        size = float(np.exp(rng.normal(0, 0.18)))
        out.append(Organ((0.0, 0.16 * depth, -347.0), (24 * size, 18 * size, 19 * size), solid("prostate")))
        for sign in (-1.0, 1.0):
            out.append(Organ((sign * 18.0, 0.08 * depth, -326.0), (19, 7, 8), solid("prostate", 0.7)))
    wall = (Layer(1.0, "muscle", 1.4), Layer(0.93, "urine"))
    axes = about(rng, (1.12, 0.9, 0.98), 0.05)
    shape = (float(axes[0] * radius), float(axes[1] * radius), float(axes[2] * radius))
    out.append(Organ(bladder, shape, wall, power=2.2, bump=bumps(rng, 60, 0.03), texture=(0.0, 0.02)))
    return out
