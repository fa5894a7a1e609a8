"""NIfTI images (``.nii``, ``.nii.gz``).

Our rows go from anterior to posterior, columns from the patient's right to left, planes from head to feet (the order
of STIR for head first, supine). In NIfTI's axes (x to the right, y anterior, z superior of the patient, in mm) pixel
(row i, column j, plane k) is at ``x = -(j - (n-1)/2) pixel_mm, y = -(i - (n-1)/2) pixel_mm, z = -k plane_mm``; the
array in the file is ``(column, row, plane)``. A file in any other orientation is turned to this one, to the nearest
axes where it is oblique. Unit and header stand in a comment extension as JSON.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch

from allpet.errors import AllpetError
from allpet.geometry import ImageGrid
from allpet.io.files import check_finite, file_size, replacing, square
from allpet.io.images import UNKNOWN_UNIT
from allpet.scan.core import Image

_COMMENT = 6  # code of a NIfTI extension that holds plain text


def load(path: Path | str) -> Any:
    """Open with nibabel.

    Raises
    ------
    AllpetError : missing, not NIfTI, not three-dimensional.
    """
    import warnings

    import nibabel
    from nibabel.imageglobals import LoggingOutputSuppressor

    path = Path(path)
    file_size(path)
    try:
        with LoggingOutputSuppressor(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            nifti = nibabel.Nifti1Image.from_filename(path)
    except Exception as error:  # nibabel raises many kinds on damaged files
        raise AllpetError(f"{path}: is not a readable NIfTI file ({_one_line(error)}); give a whole .nii.gz") from None
    shape = nifti.shape
    if len(shape) < 3 or any(side != 1 for side in shape[3:]) or min(shape) < 1:
        raise AllpetError(f"{path}: has shape {' x '.join(map(str, shape))}; a single 3-D image is needed")
    return nifti


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def geometry(nifti: Any, path: Path) -> tuple[np.ndarray, float, float]:
    """Orientation towards (L, P, I), pixel side and distance between planes in mm.

    Raises
    ------
    AllpetError : no usable affine, pixels that are not square.
    """
    from nibabel import orientations

    affine = np.asarray(nifti.affine, float)
    axes = orientations.io_orientation(affine) if np.isfinite(affine).all() else np.full((3, 2), np.nan)
    if np.isnan(axes).any():
        raise AllpetError(f"{path}: its affine is singular or not finite; a NIfTI image with sizes in mm is needed")
    turn = orientations.ornt_transform(axes, orientations.axcodes2ornt("LPI"))
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    width, height, plane_mm = (float(sizes[int(np.flatnonzero(turn[:, 0] == k)[0])]) for k in range(3))
    if abs(width - height) > 1e-3 * width:
        raise AllpetError(f"{path}: has pixels of {width:g} x {height:g} mm; they must be square")
    return turn, width, plane_mm


def read_nifti(path: Path | str) -> Image:
    """Read a NIfTI image; one that is not square is padded to a centred square.

    Raises
    ------
    AllpetError : see :func:`load` and :func:`geometry`; truncated data, NaN.
    """
    from nibabel import orientations

    path = Path(path)
    nifti = load(path)
    turn, pixel_mm, plane_mm = geometry(nifti, path)
    try:
        array = np.asarray(nifti.get_fdata(dtype=np.float32, caching="unchanged"))
    except Exception as error:
        raise AllpetError(f"{path}: its data cannot be read ({_one_line(error)}); copy the file again") from None
    array = orientations.apply_orientation(array.reshape(array.shape[:3]), turn)
    array = np.ascontiguousarray(array.transpose(2, 1, 0))
    check_finite(path, array)
    array, note = square(array)
    known = _comment(nifti)
    unit = known.pop("unit", None) or UNKNOWN_UNIT
    pixel_mm, plane_mm = known.pop("pixel_mm", pixel_mm), known.pop("plane_mm", plane_mm)
    return Image(torch.from_numpy(array), ImageGrid(array.shape[-1], pixel_mm), unit, plane_mm, header=known | note)


def _comment(nifti: Any) -> dict[str, Any]:
    """What :func:`write_nifti` put in the comment; sizes only where the affine still agrees with them."""
    for extension in nifti.header.extensions:
        try:
            text = extension.get_content()
            text = text.decode("utf-8") if isinstance(text, bytes) else str(text)
            known = json.loads(text.rstrip("\0"))["allpet"]
            unit, header = str(known["unit"]), dict(known["header"])
            pixel_mm, plane_mm = float(known["pixel_mm"]), float(known["plane_mm"])
        except (ValueError, KeyError, TypeError, UnicodeDecodeError):
            continue
        zooms = nifti.header.get_zooms()[:3]
        same = np.allclose(zooms, (pixel_mm, pixel_mm, plane_mm), rtol=1e-5)
        return {**header, "unit": unit, **({"pixel_mm": pixel_mm, "plane_mm": plane_mm} if same else {})}
    match = re.search(r"unit=(\S+)", bytes(nifti.header["descrip"]).decode("latin-1"))
    return {"unit": match[1]} if match else {}


def write_nifti(image: Image, path: Path | str) -> None:
    """Write an image as float32 NIfTI; nothing is left where it fails.

    Raises
    ------
    AllpetError : the folder does not exist or cannot be written.
    """
    import gzip

    import nibabel

    path = Path(path)
    half = (image.grid.size - 1) / 2 * image.grid.pixel_mm
    affine = np.diag([-image.grid.pixel_mm, -image.grid.pixel_mm, -image.plane_mm, 1.0])
    affine[:2, 3] = half
    nifti = nibabel.Nifti1Image(image.array.detach().cpu().numpy().transpose(2, 1, 0), affine)
    nifti.header.set_xyzt_units("mm", "sec")
    nifti.header["descrip"] = f"allpet unit={image.unit}".encode()[:79]
    nifti.set_qform(affine, 1)
    nifti.set_sform(affine, 1)
    sizes = {"pixel_mm": image.grid.pixel_mm, "plane_mm": image.plane_mm}
    known = {"allpet": {"unit": image.unit, **sizes, "header": {str(k): str(v) for k, v in image.header.items()}}}
    nifti.header.extensions.append(nibabel.nifti1.Nifti1Extension(_COMMENT, json.dumps(known).encode()))
    content = nifti.to_bytes()
    with replacing(path) as (part,):
        part.write_bytes(gzip.compress(content, 6, mtime=0) if path.name.lower().endswith(".gz") else content)
