"""Interfile images (``.hv/.v``, also ``.h33/.i33``) in STIR's dialect.

Rows go from anterior to posterior, columns from the patient's right to left, planes in file order (STIR: from the
gantry towards the bed, so towards the feet for head first). The first pixel's offset is written for an image centred
on the axis and is not read: :class:`ImageGrid` is always centred.
"""

from __future__ import annotations

from pathlib import Path

import torch

from allpet.geometry import ImageGrid
from allpet.io import rawdata
from allpet.io.files import check_finite, replacing, square
from allpet.io.header import NOTES, OWN, Header, header_line, note_lines, parse_header, standard_key
from allpet.scan.core import Image

UNKNOWN_UNIT = "unknown"

_KNOWN = rawdata.KEYS | {
    "first pixel offset (mm)",
    "imaging modality",
    "matrix axis label",
    "matrix size",
    "number of dimensions",
    "number of slices",
    "originating system",
    "pet data type",
    "process status",
    "scaling factor (mm/pixel)",
    "slice thickness (pixels)",
    "total number of images",
    "type of data",
    "version of keys",
}


def image_layout(header: Header) -> tuple[tuple[int, int, int], float, float]:
    """``(planes, rows, columns)``, pixel side and distance between planes in mm.

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
    thickness = header.number("slice thickness (pixels)", 1.0) * width
    plane_mm = header.number("scaling factor (mm/pixel)[3]", thickness)
    if plane_mm <= 0:
        raise header.fail(f"has planes {plane_mm} mm apart; the distance must be positive")
    return (planes, rows, columns), width, plane_mm


def read_image(path: Path | str) -> Image:
    """Read an Interfile image; one that is not square is padded to a centred square.

    Raises
    ------
    AllpetError : see :func:`image_layout`; data missing or of the wrong size, NaN.
    """
    header = parse_header(Path(path))
    shape, pixel_mm, plane_mm = image_layout(header)
    data = rawdata.map_data(header, shape[0] * shape[1] * shape[2])
    array = rawdata.to_float32(data, rawdata.scale_factor(header)).reshape(shape)
    check_finite(header.path, array)
    array, note = square(array)
    return Image(
        torch.from_numpy(array),
        ImageGrid(array.shape[-1], pixel_mm),
        header.own("unit") or UNKNOWN_UNIT,
        plane_mm,
        header=header.rest(_KNOWN) | note,
    )


def write_image(image: Image, path: Path | str) -> None:
    """Write an image as float32 Interfile; nothing is left where it fails.

    Raises
    ------
    AllpetError : the folder does not exist or cannot be written.
    """
    path = Path(path)
    data = path.with_suffix(".v")
    with replacing(data, path) as (data_part, header_part):
        data_part.write_bytes(image.array.detach().cpu().contiguous().numpy().astype("<f4").tobytes())
        header_part.write_text(image_header(image, data.name), "utf-8")


def image_header(image: Image, data_name: str) -> str:
    """Text of the header of an image whose planes stand in ``data_name``."""
    facts = {standard_key(key): value for key, value in image.header.items()}
    n = image.grid.size
    sizes = ((n, image.grid.pixel_mm), (n, image.grid.pixel_mm), (len(image), image.plane_mm))
    lines: list[tuple[str, object]] = [
        ("!INTERFILE", ""),
        ("!imaging modality", "PT"),
        ("name of data file", data_name),
        ("!version of keys", "STIR3.0"),
        ("!GENERAL DATA", ""),
        ("!GENERAL IMAGE DATA", ""),
        ("!type of data", "PET"),
        ("patient orientation", facts.get("patient orientation", "head_in")),
        ("patient rotation", facts.get("patient rotation", "supine")),
        ("imagedata byte order", "LITTLEENDIAN"),
        ("!PET STUDY (General)", ""),
        ("!PET data type", "Image"),
        ("process status", "Reconstructed"),
        ("!number format", "float"),
        ("!number of bytes per pixel", 4),
        ("number of dimensions", 3),
    ]
    for k, (size, step) in enumerate(sizes, 1):
        lines += [
            (f"matrix axis label [{k}]", "xyz"[k - 1]),
            (f"!matrix size [{k}]", size),
            (f"scaling factor (mm/pixel) [{k}]", repr(float(step))),
        ]
    for k, (size, step) in enumerate(sizes, 1):
        lines.append((f"first pixel offset (mm) [{k}]", repr(0.0 if k == 3 else -(size - 1) / 2 * step)))
    lines.append(("number of time frames", 1))
    written = {standard_key(key) for key, _ in lines} | _KNOWN | set(NOTES)
    lines += [(key, value) for key, value in image.header.items() if standard_key(key) not in written]
    lines += [(f"; {OWN}unit", image.unit), *note_lines(facts), ("!END OF INTERFILE", "")]
    return "".join(header_line(key, value) for key, value in lines)
