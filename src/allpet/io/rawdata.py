"""The binary file beside an Interfile header: where it is, what its numbers are, and whether it is whole."""

from __future__ import annotations

import math
import os
from pathlib import Path, PureWindowsPath

import numpy as np

from allpet.io.files import file_size
from allpet.io.header import Header, as_decimal

KEYS = {
    "name of data file",
    "data offset in bytes",
    "data starting block",
    "imagedata byte order",
    "number format",
    "number of bytes per pixel",
    "image scaling factor",
    "scale factor",
    "quantification units",
    "number of time frames",
}

_KINDS = {
    "signed integer": ("i", (1, 2, 4, 8)),
    "unsigned integer": ("u", (1, 2, 4, 8)),
    "float": ("f", (4, 8)),
    "short float": ("f", (4,)),
    "long float": ("f", (8,)),
}
_SHORT = {"short float": 4, "long float": 8}


def number_type(header: Header) -> np.dtype:
    """Type of the numbers in the file; unsigned integers and big endian where the header does not say (Interfile 3.3).

    Raises
    ------
    AllpetError : a format, a width or a byte order that does not exist.
    """
    name = " ".join(header.text("number format", "unsigned integer").lower().split())
    if name not in _KINDS:
        raise header.fail(f"'number format' is '{name}'; known are {', '.join(_KINDS)}")
    kind, widths = _KINDS[name]
    width = header.integer("number of bytes per pixel", _SHORT.get(name))
    if width not in widths:
        raise header.fail(f"'number of bytes per pixel' is {width}; for {name} it must be one of {widths}")
    order = "".join(header.text("imagedata byte order", "BIGENDIAN").split()).upper()
    if order not in ("LITTLEENDIAN", "BIGENDIAN"):
        raise header.fail(f"'imagedata byte order' is '{order}'; it must be LITTLEENDIAN or BIGENDIAN")
    return np.dtype(f"{'<' if order == 'LITTLEENDIAN' else '>'}{kind}{width}")


def scale_factor(header: Header) -> float:
    """What every number is to be multiplied by: ``image scaling factor``, else ``quantification units`` (STIR).

    Raises
    ------
    AllpetError : not a number, zero, or a list of different numbers.
    """
    for key in ("image scaling factor", "scale factor", "quantification units"):
        text = header.text(key, "")
        if not text:
            continue
        factors = {float(as_decimal(part)) for part in text.strip("{} ").split(",")}
        if key == "quantification units" and any(map(math.isnan, factors)):  # elsewhere it names the unit
            continue
        if len(factors) != 1 or not all(map(math.isfinite, factors)) or 0.0 in factors:
            raise header.fail(f"'{key}' is '{text}'; it must be one number other than 0")
        factor = factors.pop()
        if factor != 1.0:
            return factor
    return 1.0


def data_path(header: Header) -> Path:
    """The data file, looked for relative to the header, then by its bare name beside the header.

    Raises
    ------
    AllpetError : the header names none, or it does not exist.
    """
    name = header.text("name of data file")
    beside = header.path.parent / PureWindowsPath(name).name
    for path in (header.path.parent / name, beside):
        if os.path.isfile(path):  # unlike Path.is_file, False for names that no file can have
            return path
    raise header.fail(f"its data file '{name}' does not exist; put it beside the header")


def map_data(header: Header, count: int) -> np.ndarray:
    """The ``count`` numbers of the data file as they stand there, mapped into memory read-only.

    Raises
    ------
    AllpetError : the data file is missing or does not hold exactly ``count`` numbers after the offset.
    """
    if header.integer("number of time frames", 1) != 1:
        raise header.fail("holds several time frames; give a header of one frame")
    dtype = number_type(header)
    path = data_path(header)
    offset = header.integer("data offset in bytes", 2048 * header.integer("data starting block", 0))
    size = file_size(path) - offset
    if size != count * dtype.itemsize:
        raise header.fail(
            f"its data file '{path.name}' holds {max(size, 0)} bytes after the offset of {offset}; "
            f"the header's sizes need {count * dtype.itemsize}"
        )
    return np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=(count,))


def to_float32(data: np.ndarray, factor: float) -> np.ndarray:
    """``data * factor`` rounded once to float32, in the machine's byte order."""
    with np.errstate(over="ignore", invalid="ignore"):  # too large becomes infinite, which check_finite reports
        if factor == 1.0:
            return data.astype(np.float32)
        return (data.astype(np.float64) * factor).astype(np.float32)
