"""Organs of the abdomen: liver, spleen, stomach, pancreas, kidneys, adrenals, bowel, psoas."""

from __future__ import annotations

import numpy as np

from allpet.scan.organ import Layer, Organ, about, bumps, hollow, near, solid
from allpet.scan.phantom import MU_GAS, Waves


def upper_abdomen(rng: np.random.Generator, width: float, depth: float) -> list[Organ]:
    """Stomach, liver (two lobes, gall bladder), spleen, pancreas, duodenum."""
    size = float(np.exp(rng.normal(0, 0.09)))
    inner = float(rng.uniform(0.68, 0.82))
    gas = rng.random() < 0.4
    content = Layer(inner, "air", mu=MU_GAS) if gas else Layer(inner, "stomach content", float(rng.uniform(0.5, 1.5)))
    wall = float(np.exp(rng.normal(0, 0.3)))
    pancreas = near(rng, (0.10 * width, 0.05 * depth, -92), 5)
    return [
        Organ(
            near(rng, (0.36 * width, 0.30 * depth, -48), 6),
            about(rng, (46, 32, 48), 0.15),
            (Layer(1.0, "stomach wall", wall), content),
            turn=(float(rng.normal(0.5, 0.3)), 0.5),
            bump=bumps(rng, 45),
            place="below",
        ),
        Organ(
            near(rng, (-0.47 * width, 0.05 * depth, -58), 5),
            (82 * size, 88 * size, float(rng.normal(92, 10))),
            solid("liver"),
            turn=(float(rng.normal(0, 0.2)), 0.35),
            bump=bumps(rng, 60, 0.09),
            place="below",
        ),
        Organ(
            near(rng, (0.02 * width, 0.42 * depth, -38), 6),
            about(rng, (75, 34, 42), 0.13),
            solid("liver"),
            turn=(float(rng.normal(-0.2, 0.12)), 0.1),
            bump=bumps(rng, 60),
            place="below",
        ),
        Organ(
            near(rng, (-0.25 * width, 0.42 * depth, -95), 5),
            about(rng, (14, 20, 26), 0.15),
            solid("bile"),
            place="below",
        ),
        Organ(
            near(rng, (0.66 * width, -0.35 * depth, -48), 5),
            about(rng, (30, 46, 52), 0.14),
            solid("spleen"),
            turn=(float(rng.normal(-0.3, 0.2)), 0.0),
            bump=bumps(rng, 40, 0.1),
            place="below",
        ),
        Organ(
            pancreas,
            about(rng, (62, 11, 16), 0.15),
            solid("pancreas"),
            turn=(float(rng.normal(0.35, 0.15)), 0.2),
            bump=bumps(rng, 30, 0.12),
            place="below",
        ),
        Organ(
            (pancreas[0] - 48, pancreas[1] - 2, pancreas[2] - 12),
            about(rng, (13, 13, 34), 0.12),
            hollow("duodenum", "bowel", 0.5),
            bump=bumps(rng, 25, 0.1),
            place="below",
            texture=(0.15, 0.2),
        ),
    ]


def kidneys(rng: np.random.Generator, spine: float) -> list[Organ]:
    """Cortex, medulla and a renal pelvis with urine; adrenals above."""
    out = []
    for sign in (-1.0, 1.0):
        x, y, z = near(rng, (sign * 62.0, spine + 14, -105.0 + 6 * sign), 5)
        axes = about(rng, (31, 25, 55), 0.1)
        turn = (-sign * float(rng.normal(0.7, 0.2)), sign * 0.15)
        layers = (Layer(1.0, "kidney cortex"), Layer(0.62, "kidney medulla"))
        out.append(Organ((x, y, z), axes, layers, turn=turn, bump=bumps(rng, 40, 0.05), place="below"))
        size = float(rng.uniform(5, 11))
        urine = solid("urine", float(np.exp(rng.uniform(np.log(0.15), np.log(1.5)))))
        out.append(Organ((x - sign * 12.0, y + 4.0, z), (size, size * 0.8, 2.2 * size), urine, place="below"))
        gland = near(rng, (sign * 42.0, spine + 26, -58.0 + 6 * sign), 4)
        out.append(Organ(gland, (14, 4, 12), solid("adrenal"), turn=(sign * 0.9, 0.0), place="below"))
        ureter = (sign * 44.0, spine + 30.0, -185.0)
        out.append(Organ(ureter, (3.0, 3.0, 70), solid("urine", float(rng.uniform(0.0, 0.4))), place="cavity"))
    return out


def lower_abdomen(rng: np.random.Generator, width: float, depth: float, spine: float) -> list[Organ]:
    """Psoas, loops of small bowel, colon."""
    out = []
    for sign in (-1.0, 1.0):
        size = float(rng.uniform(0.85, 1.2))
        axes = (20 * size, 23 * size, 110)
        out.append(Organ((sign * 40.0, spine + 4, -190.0), axes, solid("muscle"), place="cavity"))
    width_of_loop = float(rng.uniform(28, 40))
    out.append(
        Organ(
            (0.0, 0.22 * depth, -165.0),
            (0.72 * width, 0.62 * depth, 85),
            solid("bowel", float(np.exp(rng.normal(0, 0.25)))),
            power=2.5,
            gate=Waves.draw(rng, width_of_loop * 1.4, width_of_loop * 2.4, rms=1.0, count=14),
            band=float(rng.uniform(0.5, 0.9)),
            place="below",
            texture=(0.25, 0.3),
        )
    )
    hot = float(np.exp(rng.normal(0, 0.4)))
    inner = Layer(0.7, "air", mu=0.001) if rng.random() < 0.5 else Layer(0.6, "colon", 0.6 * hot)
    layers = (Layer(1.0, "colon", hot), inner)
    for sign, z in ((-1.0, -165.0), (1.0, -145.0)):
        radius = float(rng.uniform(17, 26))
        out.append(
            Organ(
                (sign * 0.66 * width, float(rng.normal(-8, 6)), z),
                (radius, radius, 105),
                layers,
                power=2.5,
                bump=bumps(rng, 30, 0.1),
                place="below",
                texture=(0.2, 0.4),
            )
        )
    out.append(
        Organ(
            (0.0, float(rng.normal(0.55 * depth, 5)), float(rng.normal(-125, 15))),
            (0.62 * width, 19, 20),
            layers,
            power=2.5,
            bump=bumps(rng, 35, 0.15),
            place="below",
            texture=(0.2, 0.4),
        )
    )
    return out
