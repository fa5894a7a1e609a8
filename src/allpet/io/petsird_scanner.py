"""The detecting elements of a PETSIRD scanner as columns and rings, and the sinogram bin of every pair of them.

PETSIRD leaves the sense of its axes to the scanner's maker. They are taken to be the patient's of a head-first supine
scan, as in DICOM: x to the left, y to the back, z to the head. Ours are x to the left and y to the front, and planes
run from head to feet. A line stands at the centres of its two elements. Elements that differ in z only form a column;
two columns give the line's view and bin, two rings its plane (SSRB: midway between them), so a table of column pairs
and one of ring pairs say where an event belongs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from allpet.errors import AllpetError
from allpet.geometry import ParallelBeam

MAX_COLUMNS = 4096
"""More columns than a ring of any scanner: the elements then stand in no rings."""
_SAME_MM = 0.05  # closer than this is the same column or ring: float32 rounding, not a crystal
_HALF = 0.5 + 1e-4  # lines midway between two views or bins all go the same way, whatever the rounding


@dataclass(frozen=True)
class PetsirdScanner:
    """Where the elements stand and which bin a pair of them belongs to.

    Parameters
    ----------
    beam : views and bins of the sinogram. planes, plane_mm : direct planes.
    columns, rings : column and ring of each element, by type of module, each int64 ``(modules, elements)``.
    energies : energy windows by type of module.
    line : bin ``view * bins + radial`` of two columns, int32 ``(columns, columns)``, -1 for none.
    plane : direct plane of two rings, int32 ``(rings, rings)``.
    efficiency : the file's detection efficiencies.
    """

    beam: ParallelBeam
    planes: int
    plane_mm: float
    columns: list[np.ndarray]
    rings: list[np.ndarray]
    energies: list[int]
    line: np.ndarray
    plane: np.ndarray
    efficiency: Any = field(repr=False)

    @classmethod
    def of(cls, path: Path, scanner: Any) -> PetsirdScanner:
        """Find columns, rings and bins.

        Raises
        ------
        AllpetError : no elements, impossible positions, elements that stand in no rings.
        """
        positions = [_positions(part) for part in scanner.scanner_geometry.replicated_modules]
        edges = scanner.event_energy_bin_edges
        energies = [max(part.number_of_bins(), 1) for part in edges] or [1] * len(positions)
        if not positions or len(energies) != len(positions) or not all(part.size for part in positions):
            raise AllpetError(f"{path}: describes no scanner; it must give modules, elements and energy windows")
        points = np.concatenate([part.reshape(-1, 3) for part in positions])
        if not np.abs(points).max() < 1e5:
            raise AllpetError(f"{path}: has elements at impossible positions; they must be finite and in mm")
        levels, ring = _levels(points[:, 2])
        cells, column = np.unique(np.round(points[:, :2] / _SAME_MM), axis=0, return_inverse=True)
        if len(cells) > MAX_COLUMNS or len(cells) < 2:
            raise AllpetError(f"{path}: its elements stand in {len(cells)} columns; rings have up to {MAX_COLUMNS}")
        column = column.reshape(-1)
        sums = [np.bincount(column, points[:, axis]) for axis in (0, 1)]
        centres = np.stack(sums, axis=1) / np.bincount(column)[:, None]
        beam = _beam(path, centres)
        plane_mm = float(np.median(np.diff(levels))) / 2 if len(levels) > 1 else 1.0
        planes = round((levels[-1] - levels[0]) / plane_mm) + 1
        if planes > 4 * len(levels):
            raise AllpetError(f"{path}: its {len(levels)} rings are unevenly spaced, most of them {2 * plane_mm:g} mm")
        sizes = np.cumsum([0] + [part.shape[0] * part.shape[1] for part in positions])
        parts = [(slice(a, b), part.shape[:2]) for a, b, part in zip(sizes, sizes[1:], positions, strict=False)]
        middle = (levels[:, None] + levels) / 2 - levels[0]
        return cls(
            beam,
            planes,
            plane_mm,
            [column[part].reshape(shape) for part, shape in parts],
            [ring[part].reshape(shape) for part, shape in parts],
            energies,
            _lines(centres, beam),
            np.floor(middle / plane_mm + _HALF).astype(np.int32),
            scanner.detection_efficiencies,
        )

    def cut(self, edge: int) -> ParallelBeam:
        """The beam with so many bins fewer on either side."""
        return ParallelBeam(self.beam.views, self.beam.bins - 2 * edge, self.beam.bin_mm)

    def bins_of(self, path: Path, types: tuple[int, int], detections: np.ndarray) -> np.ndarray:
        """Flat bin ``(plane, view, radial)`` of coincidences, int64 ``(n,)``, -1 where both elements are one column.

        Parameters
        ----------
        types : of the two modules. detections : detection bins, int64 ``(n, 2)``.

        Raises
        ------
        AllpetError : a detection bin or a type that the scanner does not have.
        """
        found = []
        for kind, bins in zip(types, detections.T, strict=True):
            limit = self.columns[kind].size * self.energies[kind] if kind < len(self.columns) else 0
            if bins.max() >= limit:
                raise AllpetError(f"{path}: has detection bin {int(bins.max())}; type {kind} has bins below {limit}")
            element = bins // self.energies[kind]
            found.append((self.columns[kind].reshape(-1)[element], self.rings[kind].reshape(-1)[element]))
        (column1, ring1), (column2, ring2) = found
        line = self.line[column1, column2].astype(np.int64)
        return np.where(line < 0, -1, self.plane[ring1, ring2] * (self.beam.views * self.beam.bins) + line)

    def efficiencies(self, path: Path) -> np.ndarray:
        """Sum of the efficiencies of all pairs of elements in each bin, float32 ``(planes, views * bins)``.

        An efficiency is that of both detection bins times that of the module pair, 1 for what the file does not give
        and summed over energy windows; the file's calibration factor is left to the header.

        Raises
        ------
        AllpetError : efficiencies that do not fit the scanner, negative or not finite.
        """
        out = np.zeros((self.beam.views * self.beam.bins, self.planes), np.float32)
        try:
            with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused below
                for first in range(len(self.columns)):
                    for second in range(first + 1):
                        energies = (self.energies[first], self.energies[second])
                        pair = _ModulePair.of(self.efficiency, (first, second), energies)
                        for window1 in range(energies[0]):
                            for window2 in range(energies[1]):
                                self._add(out, pair, (first, second), (window1, window2))
        except (ValueError, IndexError, TypeError):
            raise AllpetError(f"{path}: its detection efficiencies do not fit its scanner; write it again") from None
        if not np.isfinite(out).all() or (out < 0).any():
            raise AllpetError(f"{path}: has negative or infinite detection efficiencies; they must be positive")
        return np.ascontiguousarray(out.T)

    def _add(self, out: np.ndarray, pair: _ModulePair, types: tuple[int, int], windows: tuple[int, int]) -> None:
        """Add the pairs of two types of modules in two energy windows to ``out``."""
        first, second = types
        weight1, weight2 = (self._weights(kind, window) for kind, window in zip(types, windows, strict=True))
        rings = len(self.plane)
        index1 = self._index(first) if pair.group is not None else None
        index2 = self._index(second) if index1 is not None else None
        for one in np.flatnonzero(weight1.any(axis=1)):
            others = np.flatnonzero((self.line[one] >= 0) & weight2.any(axis=1))
            if first == second:
                others = others[others < one]
            if not others.size:
                continue
            if index1 is None or index2 is None:
                kernel = np.zeros((rings, self.planes), np.float32)  # of the other ring, into planes
                np.add.at(kernel, (np.arange(rings)[None].repeat(rings, 0), self.plane), weight1[one][:, None])
                sums = weight2[others] @ kernel
            else:
                sums = np.zeros((len(others), self.planes), np.float32)
                for ring in np.flatnonzero(weight1[one]):
                    factor = pair.factor(index1[one, ring], index2[others], windows)
                    share = weight1[one, ring] * weight2[others] * factor
                    for other in range(rings):
                        sums[:, self.plane[ring, other]] += share[:, other]
            np.add.at(out, self.line[one, others], sums)

    def _weights(self, kind: int, window: int) -> np.ndarray:
        """Efficiency of the detection bins of one type and window, float32 ``(columns, rings)``; 0: no element."""
        given = self.efficiency.detection_bin_efficiencies
        values = np.ones(self.columns[kind].size * self.energies[kind], np.float32)
        if given and given[kind]:
            values = np.array(given[kind], np.float32).reshape(values.shape)
        table = np.zeros((len(self.line), len(self.plane)), np.float32)
        place = (self.columns[kind].reshape(-1), self.rings[kind].reshape(-1))
        np.add.at(table, place, values[window :: self.energies[kind]])
        return table

    def _index(self, kind: int) -> np.ndarray:
        """Module and element at each column and ring, int64 ``(columns, rings, 2)``, 0 where there is none."""
        index = np.zeros((len(self.line), len(self.plane), 2), np.int64)
        modules, elements = self.columns[kind].shape
        index[self.columns[kind], self.rings[kind], 0] = np.arange(modules)[:, None]
        index[self.columns[kind], self.rings[kind], 1] = np.arange(elements)[None]
        return index


@dataclass(frozen=True)
class _ModulePair:
    """Efficiencies of the module pairs of two types: symmetry group of each pair, and a table for each group.

    Parameters
    ----------
    group : int64 ``(modules, modules)``, negative for pairs not in coincidence, or None for all in coincidence.
    table : float32 ``(groups, element * windows + window, the same of the other)``, or None for 1.
    same : both modules are of one type; the lower half of ``group`` is given, the larger module comes first.
    energies : energy windows of both types, to find a detection bin within its module.
    """

    group: np.ndarray | None
    table: np.ndarray | None
    same: bool
    energies: tuple[int, int]

    @classmethod
    def of(cls, efficiency: Any, types: tuple[int, int], energies: tuple[int, int]) -> _ModulePair:
        """What the file gives for two types of modules."""
        first, second = types
        group = table = None
        if efficiency.module_pair_sgidlut:
            rows = efficiency.module_pair_sgidlut[first][second]
            group = np.full((len(rows), max(map(len, rows), default=0)), -1, np.int64)
            for k, row in enumerate(rows):
                group[k, : len(row)] = row
            if first == second:
                group = np.where(np.tri(len(rows), dtype=bool), group, group.T)
        if efficiency.module_pair_efficiencies_vectors:
            parts = efficiency.module_pair_efficiencies_vectors[first][second]
            table = np.array([part.values for part in parts], np.float32) if parts else None
        return cls(group, table, first == second, energies)

    def factor(self, one: np.ndarray, others: np.ndarray, windows: tuple[int, int]) -> np.ndarray:
        """Efficiency of one element ``(2,)`` with others ``(..., 2)``, each given by module and element."""
        module1, element1 = np.broadcast_to(one[0], others.shape[:-1]), np.broadcast_to(one[1], others.shape[:-1])
        module2, element2 = others[..., 0], others[..., 1]
        if self.group is None:
            return np.ones(others.shape[:-1], np.float32)
        group = self.group[module1, module2]
        if self.table is None:
            return (group >= 0).astype(np.float32)
        inner1, inner2 = element1 * self.energies[0] + windows[0], element2 * self.energies[1] + windows[1]
        if self.same:
            turned = module1 < module2
            inner1, inner2 = np.where(turned, inner2, inner1), np.where(turned, inner1, inner2)
        return np.where(group >= 0, self.table[np.maximum(group, 0), inner1, inner2], 0)


def _positions(modules: Any) -> np.ndarray:
    """Centres of a type's elements in mm: x to the left, y to the front, z to the feet, ``(modules, elements, 3)``."""
    elements = modules.object.detecting_elements
    with np.errstate(all="ignore"):  # what is not finite is refused later
        centre = np.mean([corner.c for corner in elements.object.shape.corners], axis=0, dtype=float)
        inner = np.array([part.matrix for part in elements.transforms], float).reshape(-1, 3, 4)
        outer = np.array([part.matrix for part in modules.transforms], float).reshape(-1, 3, 4)
        local = inner[..., :3] @ centre + inner[..., 3]
        points = np.einsum("mij,ej->mei", outer[..., :3], local) + outer[:, None, :, 3]
    return points * (1.0, -1.0, -1.0)


def _levels(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct levels in ascending order, and the level of each element."""
    order = np.argsort(z, kind="stable")
    number = np.concatenate([[0], np.cumsum(np.diff(z[order]) > _SAME_MM)])
    level = np.empty(len(z), np.int64)
    level[order] = number
    return np.bincount(number, z[order]) / np.bincount(number), level


def _beam(path: Path, centres: np.ndarray) -> ParallelBeam:
    """Half a view for each element of a ring, bins half an element wide, out to the elements themselves."""
    from scipy.spatial import cKDTree

    near, _ = cKDTree(centres).query(centres, k=min(6, len(centres)))
    near = np.where(near > 2 * _SAME_MM, near, np.inf).min(axis=1)
    pitch, radius = float(np.median(near)), float(np.median(np.hypot(*centres.T)))
    if not 0 < pitch < 2 * radius:
        raise AllpetError(f"{path}: its elements stand in no ring about the axis; only scanners of rings can be read")
    crystals = max(round(math.pi / math.asin(pitch / (2 * radius))), 2)
    bin_mm = math.pi * radius / crystals
    views = max(crystals // 2, 1)
    bins = 2 * math.ceil(float(np.hypot(*centres.T).max()) / bin_mm) + 1
    if crystals > 2 * len(centres) or bins > 2 * crystals + 1:
        raise AllpetError(f"{path}: its elements stand in no ring about the axis; only scanners of rings can be read")
    return ParallelBeam(views, bins, bin_mm)


def _lines(centres: np.ndarray, beam: ParallelBeam) -> np.ndarray:
    """Bin ``view * bins + radial`` of every pair of columns, int32 ``(columns, columns)``, -1 on the diagonal."""
    line = np.full((len(centres), len(centres)), -1, np.int32)
    for one in range(1, len(centres)):
        x, y = centres[one]
        dx, dy = (centres[:one] - centres[one]).T
        phi = np.arctan2(dx, -dy) % np.pi  # of the normal of the line
        view = np.floor(phi * beam.views / np.pi + _HALF).astype(int)
        s = x * np.cos(phi) + y * np.sin(phi)
        s = np.where(view == beam.views, -s, s)  # phi = pi is view 0 seen from behind
        radial = np.floor(s / beam.bin_mm + (beam.bins - 1) / 2 + _HALF).astype(int)
        bins = np.where(np.hypot(dx, dy) > 2 * _SAME_MM, view % beam.views * beam.bins + radial, -1)
        line[one, :one] = line[:one, one] = bins
    return line
