"""Regions that are often wanted, placed in the outline of a body by an atlas of proportions.

Organs are the mean ellipses of the package's own simulated people (``python -m allpet.study presets``); lobes of the
brain and lymph-node stations, which those do not have, stand at textbook places. An atlas knows no person: what it
places is a beginning, to be moved and reshaped. Where a label map of the person exists, use that (``--roi``).
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from allpet.errors import AllpetError
from allpet.geometry import ImageGrid
from allpet.mask.body import find_body
from allpet.mask.outline import draw, grow

TABLE = Path(__file__).parent / "presets.json"
LESION = "lesion"
"""The hottest spot of the plane, grown to 41 % of its maximum."""


@lru_cache(maxsize=1)
def table() -> dict[str, list[dict[str, Any]]]:
    """Region -> presets: name, kind, shapes in units of the body's half-width and half-height, where they come from."""
    found: dict[str, list[dict[str, Any]]] = json.loads(TABLE.read_text(encoding="utf-8"))["regions"]
    return found


def names(region: str | None) -> list[str]:
    """Presets of a body region, those of all regions where it is not known."""
    places = [region] if region in table() else list(table())
    return [LESION, *dict.fromkeys(one["name"] for place in places for one in table()[place])]


def place(name: str, plane: np.ndarray, grid: ImageGrid, region: str | None) -> tuple[np.ndarray, str, str]:
    """Weights ``(row, column)`` of a preset in a plane of an image, its kind, and how it was placed.

    Raises
    ------
    AllpetError : a name that is unknown for this region, or a plane without a body.
    """
    if name == LESION:
        return _hottest(plane), "hot", "grown from the hottest voxel of the plane to 41 % of its value"
    known = [one for at in ([region] if region in table() else list(table())) for one in table()[at]]
    entry = next((one for one in known if one["name"] == name), None)
    if entry is None:
        raise AllpetError(f"preset '{name[:60]}' is unknown here; known: {', '.join(names(region))}")
    body = find_body(plane, grid.pixel_mm)
    if body is None:
        raise AllpetError(f"preset '{name}': there is no body on this plane to place it in")
    (left, right), (top, bottom) = (_ends(np.asarray(body.mask.any(axis=axis))) for axis in (0, 1))
    x, y = (grid.x[left] + grid.x[right]) / 2, (grid.y[top] + grid.y[bottom]) / 2
    half = (grid.x[right] - grid.x[left] + grid.pixel_mm) / 2, (grid.y[top] - grid.y[bottom] + grid.pixel_mm) / 2
    total = np.zeros(grid.shape, np.float32)
    for shape in entry["shapes"]:
        total = np.maximum(total, draw(in_mm(shape, (x, y), half), grid))
    total = total * body.mask
    if not total.any():
        raise AllpetError(f"preset '{name}': covers no voxel of the body on this plane")
    return total, str(entry["kind"]), f"placed in the body's outline by the atlas ({entry['source']})"


def in_mm(shape: dict[str, float], centre: tuple[float, float], half: tuple[float, float]) -> dict[str, Any]:
    """An ellipse of the atlas in a body of this centre and half-sides in mm."""
    angle = np.radians(shape.get("angle", 0.0))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    spread = turn @ np.diag(np.square([shape["a"], shape["b"]])) @ turn.T
    spread = np.diag(half) @ spread @ np.diag(half)
    values, vectors = np.linalg.eigh(spread)
    return {
        "type": "ellipse",
        "centre_mm": [centre[0] + shape["u"] * half[0], centre[1] + shape["v"] * half[1]],
        "axes_mm": [float(max(np.sqrt(value), 1.0)) for value in values],
        "angle_deg": float(np.degrees(np.arctan2(vectors[1, 0], vectors[0, 0]))),
    }


def _hottest(plane: np.ndarray) -> np.ndarray:
    row, column = np.unravel_index(int(plane.argmax()), plane.shape)
    return grow(plane[None], (0, int(row), int(column)))[0].astype(np.float32)


def _ends(used: np.ndarray) -> tuple[int, int]:
    where = np.flatnonzero(used)
    return int(where[0]), int(where[-1])
