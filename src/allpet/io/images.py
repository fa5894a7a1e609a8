"""Interfile images (``.hv/.v``, also ``.h33/.i33``) in STIR's dialect.

Rows go from anterior to posterior, columns from the patient's right to left, planes in file order (STIR: from the
gantry towards the bed, so towards the feet for head first). :class:`ImageGrid` is always centred on the axis: where a
file's ``first pixel offset (mm)`` says something else, it stays in the header and is written back as it was, and a
note tells where an image lies more than half a pixel off (STIR's own images of even size lie half a pixel off).

``slice thickness (pixels)`` is in pixels (Interfile 3.3). Some programs write mm there; it is taken for mm where it
equals the pixel's side, or where planes would else lie more than two pixels apart and mm give a nearly cubic voxel.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from allpet.geometry import ImageGrid
from allpet.io import rawdata
from allpet.io.acquired import UNKNOWN_SCANNER, acquired, closing_text, opening_lines
from allpet.io.files import check_aspect, check_finite, replacing, square
from allpet.io.header import Header, as_decimal, parse_header, standard_key
from allpet.scan.core import Image

UNKNOWN_UNIT = "unknown"
_OFFSET = "first pixel offset (mm)"
OFFSET_Z = f"{_OFFSET} [3]"
"""Key of the header for where plane 0 lies, in mm from the scanner's first plane."""

_KNOWN = rawdata.KEYS | {
    "centre-centre slice separation (pixels)",
    "imaging modality",
    "matrix axis label",
    "matrix size",
    "number of dimensions",
    "number of slices",
    "pet data type",
    "process status",
    "scaling factor (mm/pixel)",
    "slice thickness (pixels)",
    "total number of images",
    "type of data",
    "version of keys",
}


def image_layout(header: Header) -> tuple[tuple[int, int, int], float, float, dict[str, str]]:
    """``(planes, rows, columns)``, pixel side and distance between planes in mm, and notes for the header.

    Raises
    ------
    AllpetError : a size missing or impossible, other axes than x, y, z, pixels that are not square.
    """
    labels = [header.text(f"matrix axis label[{k}]", name).lower() for k, name in enumerate("xyz", 1)]
    if labels != ["x", "y", "z"] or header.integer("number of dimensions", 3, 1, 9) not in (2, 3):
        raise header.fail(f"has axes {', '.join(labels)}; an image needs x, y, z (sinograms end in .hs)")
    columns, rows = (header.integer(f"matrix size[{k}]", low=1, high=2**16) for k in (1, 2))
    slices = "number of slices" if "number of slices" in header else "total number of images"
    key = "matrix size[3]" if "matrix size[3]" in header else slices
    planes = header.integer(key, 1, 1, 2**20)
    width, height = (header.number(f"scaling factor (mm/pixel)[{k}]", 1.0) for k in (1, 2))
    if width <= 0 or abs(width - height) > 1e-3 * width:
        raise header.fail(f"has pixels of {width} x {height} mm; they must be square")
    check_aspect(header.path, rows, columns)
    notes = {}
    key = "centre-centre slice separation (pixels)"
    thickness = header.number(key if key in header else "slice thickness (pixels)", 1.0)
    if width != 1.0 and (abs(thickness - width) < 1e-3 * width or 2.0 < thickness <= 1.5 * width):
        notes["plane distance note"] = f"slice thickness (pixels) of {thickness:g} read as mm"
    plane_mm = header.number("scaling factor (mm/pixel)[3]", thickness if notes else thickness * width)
    if not 0 < plane_mm < np.inf:
        raise header.fail(f"has planes {plane_mm} mm apart; the distance must be positive")
    return (planes, rows, columns), width, plane_mm, {} if "scaling factor (mm/pixel)[3]" in header else notes


def read_image(path: Path | str) -> Image:
    """Read an Interfile image; one that is not square is padded to a centred square.

    Raises
    ------
    AllpetError : see :func:`image_layout`; data missing or of the wrong size, NaN.
    """
    header = parse_header(Path(path))
    shape, pixel_mm, plane_mm, notes = image_layout(header)
    data = rawdata.map_data(header, shape[0] * shape[1] * shape[2]).reshape(shape)
    factor = rawdata.scale_factor(header)
    array = np.empty(shape, np.float32)
    for k, plane in enumerate(data):
        array[k] = rawdata.to_float32(plane, factor)
    check_finite(header.path, array)
    notes |= _offsets(header, shape, (plane_mm, pixel_mm, pixel_mm))
    array, note = square(header.path, array)
    known, used = acquired(header)
    return Image(
        torch.from_numpy(array),
        ImageGrid(array.shape[-1], pixel_mm),
        header.own("unit") or _unit(header),
        plane_mm,
        header=header.rest(_KNOWN | used | {_OFFSET}) | notes | note,
        **known,
    )


def _unit(header: Header) -> str:
    """The unit that ``quantification units`` names where it is no number."""
    text = header.text("quantification units", "")
    return text if text and as_decimal(text).is_nan() else UNKNOWN_UNIT


def _offsets(header: Header, shape: tuple[int, int, int], steps: tuple[float, float, float]) -> dict[str, str]:
    """Offsets of the first pixel that differ from those of a centred image, and a note where it matters.

    Offsets of a padded image are those of its first padded pixel.
    """
    kept, shifts = {}, []
    for k, (size, step) in enumerate(zip(reversed(shape), reversed(steps), strict=True), 1):
        text = header.indexed(_OFFSET, k)
        if text is None:
            continue
        offset = header.number(f"{_OFFSET}[{k}]")
        centred = _centred(k, size, step)
        if offset != centred:
            before = (max(shape[1:]) - size) // 2 if k < 3 else 0
            kept[header.spelling[f"{_OFFSET}[{k}]"]] = repr(offset - before * step) if before else text
        if k < 3 and abs(offset - centred) > 0.5001 * step:
            shifts.append(f"{offset - centred:g} mm along {'xy'[k - 1]}")
    if shifts:
        kept["position note"] = f"the image lies {', '.join(shifts)} off the axis; it is taken for centred here"
    return kept


def _centred(k: int, size: int, step: float) -> float:
    """Offset of the first pixel along axis k (1: x, 2: y, 3: z) of a centred image in mm; planes start at 0."""
    return 0.0 if k == 3 else -(size - 1) / 2 * step


def write_image(image: Image, path: Path | str) -> None:
    """Write an image as float32 Interfile; nothing is left where it fails.

    Raises
    ------
    AllpetError : the folder does not exist or cannot be written.
    """
    path = Path(path)
    data = path.with_suffix(".v")
    with replacing(data, path, headers=True) as (data_part, header_part):
        data_part.write_bytes(image.array.detach().cpu().contiguous().numpy().astype("<f4").tobytes())
        header_part.write_text(image_header(image, data.name), "utf-8")


def image_header(image: Image, data_name: str) -> str:
    """Text of the header of an image whose planes stand in ``data_name``."""
    facts = {standard_key(key): value for key, value in image.header.items()}
    n = image.grid.size
    sizes = ((n, image.grid.pixel_mm), (n, image.grid.pixel_mm), (len(image), image.plane_mm))
    system = str(image.scanner or facts.get("originating system") or UNKNOWN_SCANNER)
    lines = opening_lines(data_name, facts, system, "Image", ("process status", "Reconstructed"), "<f4")
    lines.append(("number of dimensions", 3))
    for k, (size, step) in enumerate(sizes, 1):
        lines += [
            (f"matrix axis label [{k}]", "xyz"[k - 1]),
            (f"!matrix size [{k}]", size),
            (f"scaling factor (mm/pixel) [{k}]", repr(float(step))),
        ]
    for k, (size, step) in enumerate(sizes, 1):
        lines.append((f"{_OFFSET} [{k}]", facts.get(f"{_OFFSET}[{k}]", repr(float(_centred(k, size, step))))))
    return closing_text(image, lines, _KNOWN, {"unit": image.unit})
