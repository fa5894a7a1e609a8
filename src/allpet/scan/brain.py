"""Brains: MNI152 grey and white matter, deformed per subject, with ventricles, skull and scalp.

The tissue maps are those that ship with nilearn (ICBM 2009a nonlinear asymmetric, 1 mm). A head point is taken
to the template by scale, tilt and a smooth random displacement whose part beyond any affine map is at least
5 mm rms over the brain.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import ndimage

from allpet.scan.phantom import (
    LABEL,
    MU_BONE,
    MU_CORTICAL,
    MU_SOFT,
    Canvas,
    Lesion,
    Waves,
    draw_levels,
)

LOWEST_MM, HIGHEST_MM = -34.0, 62.0
_ORIGIN = np.array([98.0, 134.0, 72.0])


@dataclass(frozen=True)
class Template:
    """Template maps, x right, y anterior, z cranial, index 0 at `-_ORIGIN`; 1 mm, distance and ventricles 2 mm."""

    grey: np.ndarray
    white: np.ndarray
    distance: np.ndarray
    ventricles: np.ndarray
    points: np.ndarray


@lru_cache(maxsize=1)
def template() -> Template:
    """Grey and white matter, signed distance to the brain surface in mm (negative inside), ventricles smoothed with
    4 mm, and some brain points."""
    from nilearn.datasets import load_mni152_brain_mask, load_mni152_gm_template, load_mni152_wm_template

    grey, white, mask = (
        np.asarray(load(resolution=1).dataobj, dtype=np.float32)
        for load in (load_mni152_gm_template, load_mni152_wm_template, load_mni152_brain_mask)
    )
    brain = mask > 0.5
    coarse = brain[::2, ::2, ::2]
    distance = 2 * (ndimage.distance_transform_edt(~coarse) - ndimage.distance_transform_edt(coarse))
    deep = ((1 - grey - white)[::2, ::2, ::2] > 0.5) & (distance < -14) & _ventricle_region(coarse.shape)
    ventricles = ndimage.gaussian_filter(deep.astype(np.float32), 2.0)
    inside = np.argwhere(brain)
    points = inside[:: len(inside) // 3000] - _ORIGIN
    return Template(grey, white, distance.astype(np.float32), ventricles, points)


def _ventricle_region(shape: tuple[int, ...]) -> np.ndarray:
    """Where deep CSF is ventricle, not fissure or cistern, on the 2 mm template grid."""
    x, y, z = (2.0 * np.arange(n) - o for n, o in zip(shape, _ORIGIN, strict=True))
    x, y, z = np.abs(x)[:, None, None], y[None, :, None], z[None, None, :]
    lateral = (x >= 4) & ((x >= 13) | (y > -34))
    third = (y > -28) & (y < 6) & (z > -14) & (z < 8)
    fourth = (x < 10) & (y > -58) & (y < -38) & (z < -18)
    return np.asarray(lateral | third | fourth)


@dataclass(frozen=True)
class Brain:
    """One subject's head.

    Parameters
    ----------
    affine : head to template, ``(3, 4)``, mm (scale, tilt, shift, left-right flip; without the waves' linear part).
    waves : displacement along each template axis in mm, 3 fields over head coordinates.
    ventricles : growth of the ventricles, -1 to 1. sharpness : exponent that turns group averages into tissue.
    grey, white, csf, scalp : SUV. asymmetry : relative left-right difference. cerebellum : relative uptake.
    pattern : relative cortical pattern. csf_bias : weight of CSF (atrophy). skull : inner gap, bone and scalp in mm.
    """

    affine: np.ndarray
    waves: tuple[Waves, Waves, Waves]
    ventricles: float
    sharpness: float
    grey: float
    white: float
    csf: float
    scalp: float
    asymmetry: float
    cerebellum: float
    csf_bias: float
    pattern: Waves
    texture: Waves
    skull: tuple[float, float, float]
    skull_waves: Waves
    face: tuple[float, float, float]
    lesions: tuple[Lesion, ...]
    kbq_per_suv: float
    levels: np.ndarray

    def displacement(self, head: np.ndarray) -> np.ndarray:
        """Smooth displacement in mm at head points ``(n, 3)`` -> ``(n, 3)``."""
        return np.stack([wave.at(head) for wave in self.waves], axis=1)

    def render(self, x: np.ndarray, y: np.ndarray, z: float) -> Canvas:
        """Draw the slice at level `z` (mm) on rows `y` and columns `x` (mm)."""
        canvas = Canvas.blank(x, y, z)
        place = [
            (row[0] * x)[None, :] + (row[1] * y)[:, None] + (row[2] * z + row[3]) + wave.on_grid(x, y, z)
            for row, wave in zip(self.affine, self.waves, strict=True)
        ]
        maps = template()
        outside = _sample(maps.distance, place, 2.0)
        self._draw_head(canvas, outside, place)
        self._draw_brain(canvas, outside, place, maps)
        for lesion in self.lesions:
            canvas.add_lesion(lesion)
        return canvas

    def _draw_head(self, canvas: Canvas, outside: np.ndarray, place: list[np.ndarray]) -> None:
        """Scalp, skull and, low down, the soft tissue of the face and neck."""
        gap, bone, scalp = self.skull
        uneven = self.skull_waves.on_grid(canvas.x, canvas.y, canvas.z)
        outer = gap + bone * (1 + 0.25 * uneven)
        depth, width, drop = self.face
        low = (place[0] / width) ** 2 + ((place[1] - 18) / depth) ** 2 + ((place[2] + 62) / drop) ** 2
        texture = self.texture.on_grid(canvas.x, canvas.y, canvas.z)
        soft = (outside < outer + scalp) | (low < 1)
        canvas.suv[soft] = self.scalp * np.clip(1 + 0.35 * texture[soft], 0.2, 2.0)
        canvas.mu[soft] = MU_SOFT
        canvas.labels[soft] = LABEL["scalp"]
        sinus = (low < 0.6) & (texture < -0.8) & (place[2] < -15) & (outside > outer)
        canvas.suv[sinus], canvas.mu[sinus] = 0.0, 0.001
        skull = (outside >= gap) & (outside < outer)
        canvas.suv[skull] = 0.6 * self.scalp
        canvas.mu[skull] = np.where(np.abs(outside[skull] - (gap + outer[skull]) / 2) < 1.5, MU_BONE, MU_CORTICAL)
        canvas.labels[skull] = LABEL["bone"]
        fluid = outside < gap
        canvas.suv[fluid] = self.csf
        canvas.mu[fluid] = MU_SOFT
        canvas.labels[fluid] = LABEL["csf"]

    def _draw_brain(self, canvas: Canvas, outside: np.ndarray, place: list[np.ndarray], maps: Template) -> None:
        """Grey matter, white matter and CSF with the subject's uptake."""
        rows, columns = np.nonzero(outside < 1)
        if rows.size == 0:
            return
        at = [part[rows, columns] for part in place]
        grey, white = _sample(maps.grey, at), _sample(maps.white, at)
        csf = np.clip(1 - grey - white, 0, 1)
        near = _sample(maps.ventricles, at, 2.0)
        grey, white, csf = _set_ventricles((grey, white, csf), near, self.ventricles)
        csf = csf * self.csf_bias
        grey, white, csf = grey**self.sharpness, white**self.sharpness, csf**self.sharpness
        total = grey + white + csf + 1e-6
        side = np.tanh(at[0] / 15)
        behind = 1 / (1 + np.exp((at[2] + 22) / 4)) / (1 + np.exp((at[1] + 38) / 5))
        deep = np.exp(-((np.abs(at[0]) - 16) ** 2 + (at[1] + 4) ** 2 / 2 + (at[2] - 4) ** 2) / (2 * 14**2))
        pattern = self.pattern.on_grid(canvas.x, canvas.y, canvas.z)[rows, columns]
        local = (1 + pattern) * (1 + self.asymmetry * side / 2) * (1 - (1 - self.cerebellum) * behind)
        uptake = (self.grey * local * (1 + 0.1 * deep) * grey + self.white * local * white + self.csf * csf) / total
        canvas.suv[rows, columns] = np.maximum(uptake, 0)
        canvas.mu[rows, columns] = MU_SOFT
        tissue = np.argmax(np.stack((grey, white, csf)), axis=0)
        canvas.labels[rows, columns] = LABEL["grey matter"] + tissue.astype(np.uint8)


def _sample(volume: np.ndarray, place: list[np.ndarray], voxel_mm: float = 1.0) -> np.ndarray:
    """Trilinear value of a template map at template points in mm."""
    index = [(part + origin) / voxel_mm for part, origin in zip(place, _ORIGIN, strict=True)]
    return ndimage.map_coordinates(volume, index, order=1, mode="nearest", output=np.float32)


def _set_ventricles(
    tissue: tuple[np.ndarray, np.ndarray, np.ndarray], near: np.ndarray, growth: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Grey, white and CSF with the ventricles' edge moved to another level of their smoothed map."""
    grey, white, csf = tissue
    fluid = 1 / (1 + np.exp((0.45 * (1 - growth) - near) / 0.05))
    solid = (1 - fluid) / (grey + white + 0.02)
    deep = near > 0.04
    return (
        np.where(deep, grey * solid, grey),
        np.where(deep, (white + 0.02) * solid, white),
        np.where(deep, fluid, csf),
    )


def _rotation(degrees: np.ndarray) -> np.ndarray:
    a, b, c = np.deg2rad(degrees)
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    about_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return about_x @ about_y @ about_z


def _warp(rng: np.random.Generator) -> tuple[np.ndarray, tuple[Waves, Waves, Waves]]:
    """Affine and displacement; the displacement beyond its own best affine fit is 5.3 to 7 mm rms."""
    points = template().points
    # Left and right deform alike for the most part, as in real heads: x is odd under reflection, y and z even.
    waves = [Waves.draw(rng, 75.0, 170.0, rms=1.0, count=10).mirrored(share) for share in (-0.65, 0.65, 0.65)]
    field = np.stack([wave.at(points) for wave in waves], axis=1)
    design = np.column_stack((points, np.ones(len(points))))
    linear = np.linalg.lstsq(design, field, rcond=None)[0]
    rest = field - design @ linear
    gain = rng.uniform(5.3, 7.0) / np.sqrt(np.mean(np.sum(rest**2, axis=1)))
    across, along, up = (Waves(w.k, w.phase, w.amplitude * gain) for w in waves)
    size = np.exp(rng.normal(0, 0.04)) * np.exp(rng.normal(0, 0.03, 3))
    flip = np.array([-1.0 if rng.random() < 0.5 else 1.0, 1.0, 1.0])
    turn = _rotation(rng.normal(0, (6.0, 3.0, 4.0)))
    matrix = np.diag(flip / size) @ turn
    shift = rng.normal(0, (3.0, 4.0, 3.0)) + np.array([0.0, -16.0, 0.0])
    affine = np.column_stack((matrix, shift)) - gain * linear.T
    return affine, (across, along, up)


def _draw_lesions(rng: np.random.Generator, levels: np.ndarray, grey: float, affine: np.ndarray) -> tuple[Lesion, ...]:
    points = template().points
    out = []
    for _ in range(rng.choice(5, p=(0.4, 0.25, 0.15, 0.1, 0.1))):
        inside = points[rng.integers(len(points))] * 0.9
        head = np.linalg.solve(affine[:, :3], inside - affine[:, 3])
        level = float(rng.choice(levels) + rng.normal(0, 4))
        hot = rng.random() < 0.5
        suv = grey * (rng.uniform(0.9, 2.2) if hot else rng.uniform(0.1, 0.5))
        out.append(Lesion.draw(rng, (float(head[0]), float(head[1]), level), suv))
    return tuple(out)


def random_brain(rng: np.random.Generator, slices: int) -> Brain:
    """A head with its own shape, pose, uptake and lesions, and `slices` levels from cerebellum to vertex."""
    affine, waves = _warp(rng)
    levels = draw_levels(rng, LOWEST_MM, HIGHEST_MM, slices)
    grey = float(np.clip(rng.normal(7.5, 1.5), 4, 12))
    return Brain(
        affine=affine,
        waves=waves,
        ventricles=float(rng.uniform(-0.3, 0.6)),
        sharpness=float(rng.uniform(1.6, 3.0)),
        grey=grey,
        white=grey / float(rng.uniform(3.2, 4.6)),
        csf=grey * float(rng.uniform(0.02, 0.08)),
        scalp=float(rng.uniform(0.4, 1.2)),
        asymmetry=float(rng.normal(0, 0.06)),
        cerebellum=float(rng.uniform(0.7, 1.0)),
        csf_bias=float(np.exp(rng.normal(0.0, 0.35))),
        pattern=Waves.draw(rng, 30.0, 120.0, rms=float(rng.uniform(0.05, 0.12)), count=12),
        texture=Waves.draw(rng, 12.0, 40.0, rms=1.0, count=16),
        skull=(float(rng.uniform(1.0, 3.0)), float(rng.uniform(4.5, 8.5)), float(rng.uniform(3.5, 8.0))),
        skull_waves=Waves.draw(rng, 40.0, 120.0, rms=1.0),
        face=(float(rng.uniform(72, 84)), float(rng.uniform(62, 72)), float(rng.uniform(55, 68))),
        lesions=_draw_lesions(rng, levels, grey, affine),
        kbq_per_suv=float(rng.uniform(3, 6)),
        levels=levels,
    )
