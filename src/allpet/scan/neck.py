"""Head and neck: a procedural body from the orbits to the thoracic inlet.

z = 0 is the hard palate; the axis of the cervical spine is a little behind x = y = 0. The outline and the neck's width
are formulas of the level; organs are superellipsoids drawn one over the other, as in the trunk.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from allpet.scan.organ import Fields, Layer, Organ, Posed, about, bumps, near, solid, superellipse
from allpet.scan.phantom import MU_BONE, MU_CORTICAL, MU_GAS, Canvas, Lesion, Waves, draw_levels

RANGE_MM = (-100.0, 42.0)
# level, half width, half depth, middle in y (mm)
_OUTLINE = np.array(
    [
        (-140.0, 190.0, 92.0, -12.0),
        (-112.0, 138.0, 82.0, -10.0),
        (-92.0, 78.0, 68.0, -8.0),
        (-70.0, 60.0, 60.0, -6.0),
        (-42.0, 58.0, 64.0, -2.0),
        (-22.0, 63.0, 82.0, 8.0),
        (0.0, 68.0, 92.0, 6.0),
        (30.0, 73.0, 96.0, 4.0),
        (60.0, 75.0, 96.0, 2.0),
    ]
)


@dataclass(frozen=True)
class HeadNeck(Posed):
    """One subject's head and neck; see :class:`allpet.scan.trunk.Trunk` for the fields that have the same names."""

    size: tuple[float, float, float]
    fat_mm: float
    chin_mm: float
    squareness: float
    organs: tuple[Organ, ...]
    spine: tuple[float, float, float]
    lesions: tuple[Lesion, ...]
    weight_kg: float
    levels: np.ndarray

    def render(self, x: np.ndarray, y: np.ndarray, z: float) -> Canvas:
        """Draw the slice at level `z` (mm) on rows `y` and columns `x` (mm)."""
        whole = Canvas.blank(x, y, z)
        width, depth, middle = self._outline(z)
        canvas = whole.part(self.pose[1], self.pose[2] + middle, max(width, depth) + self.fat_mm + self.chin_mm + 40)
        u, v = self.coordinates(canvas)
        fine, coarse = self.textures(canvas)
        radius = superellipse(u, v - middle, width, depth, self.squareness)
        canvas.paint(superellipse(u, v - middle, width + self.fat_mm, depth + self.fat_mm, self.squareness) < 1, "fat")
        flesh = radius < 1
        canvas.paint(flesh, "muscle", 0.12 * fine + 0.1 * coarse)
        canvas.paint(flesh & (np.abs(fine + 0.5 * coarse) < 0.16), "fat", 0.2 * coarse)
        fields = Fields(u, v, fine, coarse, flesh, np.zeros_like(u), z)
        if z < 14:
            self._draw_spine(canvas, fields)
        for organ in self.organs:
            organ.draw(canvas, fields)
        for number, lesion in enumerate(self.lesions):
            canvas.add_lesion(lesion, number)
        return whole

    def _outline(self, z: float) -> tuple[float, float, float]:
        """Half width, half depth and middle in y of the muscle outline at a level, mm."""
        width, depth, middle = (float(np.interp(z, _OUTLINE[:, 0], column)) for column in _OUTLINE.T[1:])
        chin = self.chin_mm * math.exp(-(((z + 22) / 16) ** 2))
        return width * self.size[0], depth * self.size[1] + chin / 2, middle + chin / 2

    def _draw_spine(self, canvas: Canvas, fields: Fields) -> None:
        """Cervical vertebrae with discs, cord and processes."""
        radius, pitch, offset = self.spine
        u, v = fields.u, fields.v
        y = -20.0 + 0.06 * fields.z
        phase = (fields.z / pitch + offset) % 1
        disc = phase < 0.2
        body = (u / (1.25 * radius)) ** 2 + ((v - y) / (0.85 * radius)) ** 2
        arch = (u / (1.5 * radius)) ** 2 + ((v - y + 1.6 * radius) / (1.0 * radius)) ** 2 < 1
        process = (np.abs(u) < 3.5) & (v < y - 2.2 * radius) & (v > y - 3.4 * radius) & (phase > 0.55)
        canvas.paint(arch & (phase > 0.35), "marrow", 0.1 * fields.fine, MU_BONE, gain=0.7)
        canvas.paint(process, "marrow", mu=MU_BONE, gain=0.7)
        canvas.paint((u / 9) ** 2 + ((v - y + 1.5 * radius) / 7.5) ** 2 < 1, "csf")
        canvas.paint((u / 6) ** 2 + ((v - y + 1.5 * radius) / 4.5) ** 2 < 1, "spinal cord")
        bone = body < 1
        canvas.paint(bone, "marrow", 0.1 * fields.fine, None if not disc else 0.0098, gain=0.4 if disc else 1.0)
        if not disc:
            canvas.mu[bone & (body > 0.78)] = MU_BONE


def _brain_and_skull(rng: np.random.Generator) -> list[Organ]:
    """What the upper levels show of the brain: hind brain, brain stem and the lower part of both temporal lobes."""
    out = [
        Organ((0.0, -6.0, 74.0), (73, 88, 84), (Layer(1.0, "skull"), Layer(0.93, "csf")), bump=bumps(rng, 60, 0.02)),
        Organ((0.0, -20.0, 20.0), (13, 13, 60), solid("white matter", 1.2)),
    ]
    for sign in (-1.0, 1.0):
        hind = (Layer(1.0, "cerebellum"), Layer(0.55, "white matter", 1.4))
        out.append(Organ((sign * 22, -54, 24), about(rng, (29, 26, 25), 0.05), hind, bump=bumps(rng, 15, 0.08)))
        lobe = (Layer(1.0, "grey matter", 0.95), Layer(0.72, "white matter"))
        out.append(Organ((sign * 44, 2, 40), about(rng, (21, 32, 24), 0.05), lobe, bump=bumps(rng, 14, 0.1)))
    return out


def _airways(rng: np.random.Generator) -> list[Organ]:
    """Nasal cavity, maxillary sinuses, throat, larynx and windpipe."""
    air = Layer(0.8, "air", mu=MU_GAS)
    nose = Organ((0.0, 62.0, 22.0), about(rng, (12, 34, 19), 0.08), (Layer(1.0, "mucosa"), air), power=2.5)
    out = [nose, Organ((0.0, 102.0, 18.0), (13, 13, 15), solid("muscle"))]
    for sign in (-1.0, 1.0):
        sinus = (Layer(1.0, "cortical bone", mu=MU_BONE), Layer(0.9, "mucosa", 0.7), Layer(0.83, "air", mu=MU_GAS))
        out.append(Organ((sign * 29, 55, 20), about(rng, (15, 17, 17), 0.1), sinus, bump=bumps(rng, 20, 0.05)))
    tube = (Layer(1.0, "mucosa", 0.9), Layer(0.7, "air", mu=MU_GAS))
    out.append(Organ((0.0, 22.0, 12.0), about(rng, (14, 9, 16), 0.1), tube))
    out.append(Organ((0.0, 13.0, -25.0), about(rng, (14, 10, 34), 0.1), tube))
    larynx = (Layer(1.0, "mucosa", float(rng.uniform(0.8, 1.8))), Layer(0.5, "air", mu=MU_GAS))
    out.append(Organ((0.0, 30.0, -58.0), about(rng, (17, 17, 20), 0.08), larynx))
    wall = (Layer(1.0, "mucosa", 0.8), Layer(0.78, "air", mu=MU_GAS))
    out.append(Organ((0.0, 24.0, -150.0), (11, 10, 90), wall))
    out.append(Organ((3.0, 8.0, -150.0), (7, 5, 95), solid("mucosa", 0.9)))
    return out


def _mouth(rng: np.random.Generator) -> list[Organ]:
    """Jaws (open to the back), palate, tongue, cheek bones."""
    arch = math.pi / 2  # the long axis points forward; the opening cuts the back off
    out = []
    for z, axes, reach in ((-24.0, (52, 46, 15), 0.84), (0.0, (44, 40, 12), 0.8)):
        layers = (Layer(1.0, "cortical bone", mu=MU_CORTICAL), Layer(reach, "tongue", 0.8))
        out.append(Organ((0.0, 36.0, z), about(rng, axes, 0.04), layers, power=2.4, turn=(-arch, 0.0), opening=0.35))
    for sign in (-1.0, 1.0):
        out.append(Organ((sign * 49, 16, -8), (6, 13, 24), solid("marrow", 0.6, MU_CORTICAL)))
        out.append(Organ((sign * 57, 46, 24), (8, 16, 7), solid("marrow", 0.5, MU_BONE)))
    out.append(Organ((0.0, 44.0, -14.0), about(rng, (25, 33, 20), 0.08), solid("tongue"), bump=bumps(rng, 30, 0.05)))
    return out


def _glands(rng: np.random.Generator) -> list[Organ]:
    """Salivary and lacrimal glands, tonsils, thyroid, eyes, vessels."""
    out = []
    for sign in (-1.0, 1.0):
        parotid = near(rng, (sign * 54, -2, -8), 2)
        out.append(Organ(parotid, about(rng, (10, 18, 23), 0.12), solid("salivary gland"), bump=bumps(rng, 20, 0.08)))
        lower = near(rng, (sign * 31, 24, -40), 2)
        out.append(Organ(lower, about(rng, (9, 14, 11), 0.12), solid("submandibular gland")))
        out.append(Organ(near(rng, (sign * 17, 19, -13), 1), about(rng, (6, 9, 12), 0.15), solid("tonsil")))
        out.append(Organ(near(rng, (sign * 17, 27, -80), 1.5), about(rng, (8, 10, 21), 0.15), solid("thyroid")))
        out.append(Organ((sign * 31, 76, 37), (12, 12, 12), solid("eye")))
        out.append(Organ((sign * 36, 70, 46), about(rng, (5, 8, 5), 0.1), solid("lacrimal gland")))
        out.append(Organ(near(rng, (sign * 27, 5, -50), 2), (4.0, 4.0, 90), solid("blood")))
        out.append(Organ(near(rng, (sign * 35, 0, -50), 2), (6.5, 5.0, 90), solid("blood")))
    out.append(Organ((0.0, 13.0, 20.0), about(rng, (11, 5, 8), 0.2), solid("tonsil", 0.8)))
    return out


def _inlet(rng: np.random.Generator) -> list[Organ]:
    """Lung tips, collar bones, shoulder heads."""
    out = []
    for sign in (-1.0, 1.0):
        out.append(Organ((sign * 48, -8, -142), about(rng, (32, 40, 44), 0.06), solid("lung")))
        turn = (-sign * 0.35, 0.0)
        out.append(Organ((sign * 68, 42, -106), (62, 7, 8), solid("marrow", 0.8, MU_BONE), turn=turn))
        out.append(Organ((sign * 160, -8, -135), (25, 25, 30), (Layer(1.0, "cortical bone"), Layer(0.88, "marrow"))))
    return out


def random_neck(rng: np.random.Generator, slices: int, spacing_mm: float | None = None) -> HeadNeck:
    """A head and neck with its own size, pose, organs and lesions, and `slices` levels."""
    levels = draw_levels(rng, *RANGE_MM, slices, spacing_mm)
    lesions = []
    for _ in range(rng.choice(5, p=(0.35, 0.25, 0.2, 0.1, 0.1))):
        side = float(rng.choice((-1.0, 1.0)))
        host = str(rng.choice(("muscle", "mucosa", "tongue", "fat")))
        spot = (side * rng.uniform(8, 48), rng.uniform(-30, 45), float(rng.choice(levels) + rng.normal(0, 4)))
        lesions.append(Lesion.draw(rng, spot, "hot" if rng.random() < 0.85 else "cold", host))
    organs = [*_brain_and_skull(rng), *_mouth(rng), *_airways(rng), *_glands(rng), *_inlet(rng)]
    frame = float(np.exp(rng.normal(0, 0.04)))
    fat = float(np.clip(rng.normal(7, 3), 2.5, 18))
    return HeadNeck(
        size=(frame * float(np.exp(rng.normal(0, 0.03))), frame * float(np.exp(rng.normal(0, 0.03))), frame),
        fat_mm=fat,
        chin_mm=float(rng.uniform(4, 16)),
        squareness=float(rng.uniform(2.0, 2.4)),
        organs=tuple(organs),
        spine=(float(rng.uniform(9.5, 12)), float(rng.uniform(16, 20)), float(rng.random())),
        warp=(Waves.draw(rng, 70.0, 200.0, rms=2.2), Waves.draw(rng, 70.0, 200.0, rms=2.2)),
        pose=(float(rng.normal(0, 0.08)), float(rng.normal(0, 4)), float(rng.normal(-8, 6))),
        texture=Waves.draw(rng, 10.0, 35.0, rms=1.0, count=30),
        coarse=Waves.draw(rng, 40.0, 110.0, rms=1.0, count=10),
        lesions=tuple(lesions),
        weight_kg=float(np.clip(52 + 3.2 * fat + rng.normal(0, 8), 40, 150)),
        levels=levels,
    )
