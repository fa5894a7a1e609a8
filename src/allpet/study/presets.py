"""The atlas behind the presets: mean ellipses of organs in the outlines of simulated people."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from allpet.scan.phantom import LABEL
from allpet.scan.simulate import simulate

ORGANS: dict[str, dict[str, tuple[tuple[str, ...], str, bool]]] = {
    "brain": {"striatum": (("striatum",), "hot", True), "cerebellum": (("cerebellum",), "roi", False)},
    "head-neck": {
        "salivary gland": (("salivary gland",), "hot", True),
        "submandibular gland": (("submandibular gland",), "hot", True),
        "thyroid": (("thyroid",), "hot", True),
        "tonsil": (("tonsil",), "hot", True),
    },
    "chest": {
        "heart": (("myocardium", "blood"), "hot", False),
        "lung": (("lung",), "cold", True),
        "mediastinum": (("mediastinum",), "roi", False),
    },
    "abdomen": {
        "liver": (("liver",), "roi", False),
        "spleen": (("spleen",), "roi", False),
        "kidney": (("kidney cortex", "kidney medulla"), "hot", True),
        "pancreas": (("pancreas",), "roi", False),
    },
    "pelvis": {
        "bladder": (("urine",), "hot", False),
        "prostate": (("prostate",), "roi", False),
        "uterus": (("uterus",), "roi", False),
    },
}
"""Region -> preset -> tissues, kind, and whether there is one on either side."""

PLACED: dict[str, list[tuple[str, str, list[tuple[float, float, float, float, float]]]]] = {
    "brain": [
        ("frontal lobe, right", "roi", [(-0.3, 0.55, 0.26, 0.3, 0.0)]),
        ("frontal lobe, left", "roi", [(0.3, 0.55, 0.26, 0.3, 0.0)]),
        ("temporal lobe, right", "roi", [(-0.64, 0.05, 0.18, 0.34, 0.0)]),
        ("temporal lobe, left", "roi", [(0.64, 0.05, 0.18, 0.34, 0.0)]),
        ("parietal lobe, right", "roi", [(-0.48, -0.32, 0.26, 0.26, 0.0)]),
        ("parietal lobe, left", "roi", [(0.48, -0.32, 0.26, 0.26, 0.0)]),
        ("occipital lobe", "roi", [(-0.2, -0.68, 0.18, 0.16, 0.0), (0.2, -0.68, 0.18, 0.16, 0.0)]),
        ("brainstem", "roi", [(0.0, -0.14, 0.16, 0.13, 0.0)]),
    ],
    "head-neck": [
        ("lymph nodes, level I", "hot", [(-0.22, 0.55, 0.14, 0.12, 0.0), (0.22, 0.55, 0.14, 0.12, 0.0)]),
        ("lymph nodes, levels II to IV, right", "hot", [(-0.55, 0.05, 0.16, 0.2, 0.0)]),
        ("lymph nodes, levels II to IV, left", "hot", [(0.55, 0.05, 0.16, 0.2, 0.0)]),
        ("lymph nodes, level V", "hot", [(-0.62, -0.38, 0.16, 0.18, 0.0), (0.62, -0.38, 0.16, 0.18, 0.0)]),
    ],
    "chest": [
        ("lymph nodes, mediastinum", "hot", [(0.0, 0.12, 0.16, 0.26, 0.0)]),
        ("lymph nodes, hilum", "hot", [(-0.22, 0.02, 0.1, 0.16, 0.0), (0.22, 0.02, 0.1, 0.16, 0.0)]),
        ("lymph nodes, axilla", "hot", [(-0.8, 0.15, 0.13, 0.22, 0.0), (0.8, 0.15, 0.13, 0.22, 0.0)]),
    ],
    "abdomen": [("lymph nodes, retroperitoneum", "hot", [(0.0, -0.12, 0.2, 0.16, 0.0)])],
    "pelvis": [
        ("lymph nodes, iliac", "hot", [(-0.36, 0.12, 0.12, 0.22, 0.0), (0.36, 0.12, 0.12, 0.22, 0.0)]),
        ("lymph nodes, groin", "hot", [(-0.38, 0.6, 0.14, 0.18, 0.0), (0.38, 0.6, 0.14, 0.18, 0.0)]),
    ],
}
"""What simulated people do not have: centre, half-axes (shares of the body's half-width and half-height), degrees."""
LEAST = 12
"""Pixels from which on an organ counts as seen in a slice."""
MIDLINE = ("cerebellum", "mediastinum", "bladder", "prostate", "uterus")
"""Organs whose ellipse is made symmetric."""


def atlas(people: int = 60, seed: int = 61) -> dict[str, Any]:
    """The table of presets: region -> entries."""
    out: dict[str, Any] = {}
    for region, organs in ORGANS.items():
        data = simulate(people, region=region, split="train", seed=seed, slices_per_subject=1)
        entries = []
        for name, (tissues, kind, twice) in organs.items():
            for side, word in ((-1, ", right"), (1, ", left")) if twice else ((0, ""),):
                shape = _mean_ellipse(data["labels"], [LABEL[t] for t in tissues], side, name in MIDLINE)
                if shape is not None:
                    source = f"{people} simulated people, seed {seed}"
                    entries.append({"name": name + word, "kind": kind, "shapes": [shape], "source": source})
        for name, kind, shapes in PLACED[region]:
            keys = ("u", "v", "a", "b", "angle")
            made = [dict(zip(keys, shape, strict=True)) for shape in shapes]
            entries.append({"name": name, "kind": kind, "shapes": made, "source": "textbook place"})
        out[region] = sorted(entries, key=lambda one: str(one["name"]))
    return {"about": "Ellipses in shares of a body's half-width and half-height; v grows anteriorly.", "regions": out}


def _mean_ellipse(labels: np.ndarray, values: list[int], side: int, midline: bool) -> dict[str, float] | None:
    """Mean centre and spread of some tissues over the slices that show them; `side`: -1 right, 1 left, 0 both."""
    size = labels.shape[-1]
    axis = np.arange(size) - (size - 1) / 2
    found = []
    for plane in labels:
        rows, columns = np.nonzero(plane > 0)
        part = np.isin(plane, values)
        if not len(rows):
            continue
        x, y = (axis[columns.min()] + axis[columns.max()]) / 2, -(axis[rows.min()] + axis[rows.max()]) / 2
        half = (np.ptp(columns) + 1) / 2, (np.ptp(rows) + 1) / 2
        r, c = np.nonzero(part)
        u, v = (axis[c] - x) / half[0], (-axis[r] - y) / half[1]
        if side:
            u, v = u[u * side > 0], v[u * side > 0]
        if midline:
            u, v = np.concatenate([u, -u]), np.concatenate([v, v])
        if len(u) >= LEAST:
            found.append((np.array([u.mean(), v.mean()]), np.cov(np.stack([u, v]), bias=True)))
    if len(found) < 3:
        return None
    centre, spread = (np.mean([one[k] for one in found], axis=0) for k in (0, 1))
    squares, vectors = np.linalg.eigh(spread)
    a, b = 2 * np.sqrt(squares)
    angle = float(np.degrees(np.arctan2(vectors[1, 0], vectors[0, 0])))
    return {name: round(float(x), 3) for name, x in zip("uvab", (*centre, a, b), strict=True)} | {
        "angle": round(angle, 1)
    }


def write_atlas(path: Path, people: int = 60, seed: int = 61) -> None:
    """Write the table."""
    path.write_text(json.dumps(atlas(people, seed), indent=1) + "\n", encoding="utf-8")
