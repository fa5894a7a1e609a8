"""Brains: MNI152 grey and white matter, deformed per subject, with ventricles, skull and scalp.

The tissue maps are those that ship with nilearn (ICBM 2009a nonlinear asymmetric, 1 mm). A head point is taken
to the template by scale, tilt and a smooth random displacement whose part beyond any affine map is at least
5 mm rms over the brain. Striatum and cerebellum are where the template has grey matter inside ellipsoids at their
places in MNI space.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import ndimage

from allpet.scan.phantom import MU_BONE, MU_CORTICAL, Canvas, Lesion, Waves, draw_levels

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
    asymmetry : relative left-right difference. pattern : relative cortical pattern. csf_bias : weight of CSF (atrophy).
    skull : inner gap, bone and scalp in mm.
    """

    affine: np.ndarray
    waves: tuple[Waves, Waves, Waves]
    ventricles: float
    sharpness: float
    asymmetry: float
    csf_bias: float
    pattern: Waves
    texture: Waves
    skull: tuple[float, float, float]
    skull_waves: Waves
    face: tuple[float, float, float]
    lesions: tuple[Lesion, ...]
    weight_kg: float
    levels: np.ndarray

    def displacement(self, head: np.ndarray) -> np.ndarray:
        """Smooth displacement in mm at head points ``(n, 3)`` -> ``(n, 3)``."""
        return np.stack([wave.at(head) for wave in self.waves], axis=1)

    def _place(self, x: np.ndarray, y: np.ndarray, z: float) -> list[np.ndarray]:
        """Template coordinates in mm of every point of the grid."""
        return [
            ((row[0] * x)[None, :] + (row[1] * y)[:, None] + (row[2] * z + row[3])).astype(np.float32)
            + wave.on_grid(x, y, z)
            for row, wave in zip(self.affine, self.waves, strict=True)
        ]

    def render(self, x: np.ndarray, y: np.ndarray, z: float) -> Canvas:
        """Draw the slice at level `z` (mm) on rows `y` and columns `x` (mm)."""
        whole = Canvas.blank(x, y, z)
        canvas = whole.part(0.0, 0.0, _REACH_MM)
        place = self._place(canvas.x, canvas.y, z)
        outside, *tissue = self._look_up(canvas.x, canvas.y, z)
        self._draw_head(canvas, outside, place)
        index = np.flatnonzero(outside < 1)
        weights = self._tissue(canvas, index, [part.ravel()[index] for part in (*tissue, *place)])
        rows, columns = np.unravel_index(index, canvas.tissue.shape)
        first = whole.window(0.0, 0.0, _REACH_MM)
        whole.mix((rows + first[0].start) * len(x) + columns + first[1].start, weights)
        for number, lesion in enumerate(self.lesions):
            whole.add_lesion(lesion, number)
        return whole

    def _look_up(self, x: np.ndarray, y: np.ndarray, z: float) -> list[np.ndarray]:
        """Signed distance to the brain surface in mm, grey, white and ventricles.

        Looked up at about the template's own spacing and interpolated between.
        """
        step = max(int(LOOK_UP_MM / max(x[1] - x[0], 1e-3)), 1)
        few_x, few_y = (_thinned(axis, step) for axis in (x, y))
        maps = template()
        place = self._place(few_x, few_y, z)
        smooth = (maps.distance, maps.ventricles)  # on voxels of 2 mm: looked up at half as many points again
        thin = [part[::2, ::2] for part in (np.pad(part, (0, 1), mode="edge") for part in place)]
        outside, near = (
            _between(_between(_sample(volume, thin, 2.0), len(few_y), 2).T, len(few_x), 2).T for volume in smooth
        )
        index = np.flatnonzero(outside < 4)
        at = [part.ravel()[index] for part in place]
        out = [outside]
        for volume in (maps.grey, maps.white):
            values = np.zeros(outside.shape, np.float32)
            values.ravel()[index] = _sample(volume, at)
            out.append(values)
        out.append(near)
        if step == 1:
            return out
        return [_between(_between(values, len(y), step).T, len(x), step).T for values in out]

    def _draw_head(self, canvas: Canvas, outside: np.ndarray, place: list[np.ndarray]) -> None:
        """Scalp, skull and, low down, the soft tissue of the face and neck."""
        gap, bone, scalp = self.skull
        uneven = self.skull_waves.on_grid(canvas.x, canvas.y, canvas.z)
        outer = gap + bone * (1 + 0.25 * uneven)
        depth, width, drop = self.face
        low = (place[0] / width) ** 2 + ((place[1] - 18) / depth) ** 2 + ((place[2] + 62) / drop) ** 2
        texture = self.texture.on_grid(canvas.x, canvas.y, canvas.z)
        canvas.paint((outside < outer + scalp) | (low < 1), "scalp", 0.35 * texture)
        sinus = (low < 0.6) & (texture < -0.8) & (place[2] < -15) & (outside > outer)
        canvas.paint(sinus, "air", mu=0.001)
        skull = (outside >= gap) & (outside < outer)
        canvas.paint(skull, "skull")
        middle = np.abs(outside - (gap + outer) / 2) < 1.5
        canvas.mu[skull] = np.where(middle[skull], MU_BONE, MU_CORTICAL)
        canvas.paint(outside < gap, "csf")

    def _tissue(self, canvas: Canvas, index: np.ndarray, found: list[np.ndarray]) -> dict[str, np.ndarray]:
        """Share of each tissue in the brain's pixels times its relative uptake.

        Parameters
        ----------
        index : flat indices of the pixels. found : grey, white, ventricles and the template coordinates there.
        """
        grey, white, near, *at = found
        csf = np.clip(1 - grey - white, 0, 1)
        grey, white, csf = _set_ventricles((grey, white, csf), near, self.ventricles)
        csf = csf * self.csf_bias
        grey, white, csf = grey**self.sharpness, white**self.sharpness, csf**self.sharpness
        total = grey + white + csf + 1e-6
        side = np.tanh(at[0] / 15)
        behind = 1 / (1 + np.exp((at[2] + 22) / 4)) / (1 + np.exp((at[1] + 38) / 5))
        deep = _striatum(at)
        pattern = self.pattern.on_grid(canvas.x, canvas.y, canvas.z).ravel()[index]
        local = (1 + np.clip(pattern, -0.6, 1)) * (1 + self.asymmetry * side / 2)
        share = grey * local / total
        return {
            "grey matter": share * (1 - deep) * (1 - behind),
            "striatum": share * deep,
            "cerebellum": share * behind * (1 - deep),
            "white matter": white * local / total,
            "csf": csf / total,
        }


_REACH_MM = 125.0
LOOK_UP_MM = 1.4
# centre (|x|, y, z) and axes in mm of MNI space: head and body of the caudate nucleus, putamen
_STRIATUM = (
    ((12.0, 14.0, 4.0), (6.5, 10.0, 9.0)),
    ((15.0, 2.0, 18.0), (5.5, 13.0, 6.0)),
    ((26.0, 3.0, 1.0), (7.0, 16.0, 9.5)),
)


def _striatum(at: list[np.ndarray]) -> np.ndarray:
    """Soft membership (0 to 1) of template points in the striatum."""
    inside = np.zeros_like(at[0])
    close = np.flatnonzero((np.abs(at[0]) < 38) & (at[1] > -18) & (at[1] < 30) & (at[2] > -14) & (at[2] < 28))
    x, y, z = np.abs(at[0][close]), at[1][close], at[2][close]
    for (cx, cy, cz), (a, b, c) in _STRIATUM:
        radius = np.sqrt(((x - cx) / a) ** 2 + ((y - cy) / b) ** 2 + ((z - cz) / c) ** 2)
        inside[close] = np.maximum(inside[close], 1 / (1 + np.exp((radius - 1) / 0.08)))
    return inside


def _thinned(axis: np.ndarray, step: int) -> np.ndarray:
    """Every `step`-th point of an even axis, up to its end or beyond."""
    return axis if step == 1 else axis[0] + (axis[1] - axis[0]) * step * np.arange((len(axis) - 2) // step + 2)


def _between(values: np.ndarray, count: int, step: int) -> np.ndarray:
    """`count` rows from every `step`-th one, by linear interpolation."""
    whole, rest = np.divmod(np.arange(count), step)
    weight = (rest / step).astype(np.float32)[:, None]
    return np.asarray(values[whole] * (1 - weight) + values[np.minimum(whole + 1, len(values) - 1)] * weight)


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


def _draw_lesions(rng: np.random.Generator, levels: np.ndarray, affine: np.ndarray) -> tuple[Lesion, ...]:
    points = template().points
    out = []
    for _ in range(rng.choice(5, p=(0.4, 0.25, 0.15, 0.1, 0.1))):
        inside = points[rng.integers(len(points))] * 0.9
        head = np.linalg.solve(affine[:, :3], inside - affine[:, 3])
        level = float(rng.choice(levels) + rng.normal(0, 4))
        kind = "hot" if rng.random() < 0.5 else "cold"
        out.append(Lesion.draw(rng, (head[0], head[1], level), kind, str(rng.choice(("grey matter", "white matter")))))
    return tuple(out)


def random_brain(rng: np.random.Generator, slices: int, spacing_mm: float | None = None) -> Brain:
    """A head with its own shape, pose and lesions, and `slices` levels from vertex to cerebellum."""
    affine, waves = _warp(rng)
    levels = draw_levels(rng, LOWEST_MM, HIGHEST_MM, slices, spacing_mm)
    return Brain(
        affine=affine,
        waves=waves,
        ventricles=float(rng.uniform(-0.3, 0.6)),
        sharpness=float(rng.uniform(1.6, 3.0)),
        asymmetry=float(rng.normal(0, 0.06)),
        csf_bias=float(np.exp(rng.normal(0.0, 0.35))),
        pattern=Waves.draw(rng, 30.0, 120.0, rms=float(rng.uniform(0.05, 0.12)), count=12),
        texture=Waves.draw(rng, 12.0, 40.0, rms=1.0, count=16),
        skull=(float(rng.uniform(1.0, 3.0)), float(rng.uniform(4.5, 8.5)), float(rng.uniform(3.5, 8.0))),
        skull_waves=Waves.draw(rng, 40.0, 120.0, rms=1.0),
        face=(float(rng.uniform(72, 84)), float(rng.uniform(62, 72)), float(rng.uniform(55, 68))),
        lesions=_draw_lesions(rng, levels, affine),
        weight_kg=float(np.clip(rng.normal(75, 14), 42, 130)),
        levels=levels,
    )
