"""Files: ``read(path)`` and ``write(scan_or_image, path)``, by the path's ending; see also :mod:`allpet.io.convert`."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from allpet.errors import AllpetError
from allpet.io.remote import Place, Remote, place_of

if TYPE_CHECKING:
    from allpet.scan.core import Image, Scan

__all__ = ["kind_of", "read", "writable", "write"]

LIST_MODE, SINOGRAM, IMAGE, DATASET = "list mode", "sinogram", "image", "dataset"
PETSIRD = "PETSIRD list mode"

_DICOM = (IMAGE, "dicom:read_dicom", "dicom_write:write_dicom")
# ending: (what it is, reader, writer or None), the functions as "module:name"
_ENDINGS: dict[str, tuple[str, str, str | None]] = {
    ".hs": (SINOGRAM, "interfile:read_sinogram", "interfile:write_sinogram"),
    ".hv": (IMAGE, "images:read_image", "images:write_image"),
    ".h33": (IMAGE, "images:read_image", None),
    ".nii.gz": (IMAGE, "nifti:read_nifti", "nifti:write_nifti"),
    ".nii": (IMAGE, "nifti:read_nifti", "nifti:write_nifti"),
    ".zarr": (DATASET, "store:read_store", None),
    ".l": (LIST_MODE, "listmode:read_listmode", None),
    ".hdr": (LIST_MODE, "listmode:read_listmode", None),
    ".hdr.stir": (LIST_MODE, "listmode:read_listmode", None),
    ".petsird": (PETSIRD, "petsird:read_petsird", None),
    ".prd": (PETSIRD, "petsird:read_petsird", None),
    ".dicom": _DICOM,
    ".dcm": (*_DICOM[:2], None),
    ".ima": (*_DICOM[:2], None),
}


def _ending(path: Place, writing: bool) -> tuple[str, str, str | None]:
    name = path.name.lower()
    if isinstance(path, Remote) and not name.endswith(".zarr"):
        raise AllpetError(f"{path}: a URL names a dataset store (.zarr); give other files by their path")
    for ending, entry in _ENDINGS.items():
        if name.endswith(ending) and len(name) > len(ending) and not (writing and entry[2] is None):
            return entry
    if _holds_dicom(path, writing):
        return _DICOM
    known = ", ".join(ending for ending, entry in _ENDINGS.items() if not (writing and entry[2] is None))
    raise AllpetError(
        f"{path}: cannot be {'written' if writing else 'read'} by its ending; known are {known}, a DICOM folder"
    )


def _holds_dicom(path: Place, writing: bool) -> bool:
    """An existing folder is one of DICOM; a file without a known ending may be DICOM, by its first bytes."""
    from allpet.io.dicom import is_dicom

    return not isinstance(path, Remote) and (path.is_dir() or (not writing and is_dicom(path)))


def _function(name: str) -> Any:
    module, function = name.split(":")
    return getattr(import_module(f"allpet.io.{module}"), function)


def kind_of(path: Place | str, writing: bool = False) -> str:
    """``"list mode"``, ``"PETSIRD list mode"``, ``"sinogram"``, ``"image"`` or ``"dataset"``, by the ending.

    A folder that exists, and a file that begins as DICOM does, is an image.

    Raises
    ------
    AllpetError : an unknown ending; the message lists the known ones.
    """
    return _ending(place_of(path), writing)[0]


def read(path: Place | str) -> Scan | Image:
    """Read a scan (``.hs``, list mode, ``.zarr`` also at a URL) or an image (``.hv``, ``.nii.gz``, DICOM).

    Raises
    ------
    AllpetError : an unknown ending, no such file, or anything wrong with what it holds.
    """
    path = place_of(path)
    _, reader, _ = _ending(path, writing=False)
    if not isinstance(path, Remote) and not path.exists():
        raise AllpetError(f"{path}: does not exist; give an existing file")
    return _function(reader)(path)


def writable(path: Place, kinds: tuple[str, ...]) -> None:
    """Fail before the work rather than after it: an ending that stands for something else, a folder that is not there.

    Raises
    ------
    AllpetError : see above.
    """
    name = path.name.lower()
    if not name.endswith((*_ENDINGS, ".dicom")) and not _holds_dicom(path, writing=True):
        known = [
            ending for ending, entry in _ENDINGS.items() if entry[0] in kinds and (entry[2] or entry[0] == DATASET)
        ]
        raise AllpetError(f"{path}: its ending stands for no format; this writes {', '.join(known)}")
    kind = kind_of(path, writing=not name.endswith(".zarr"))  # a store is what save() writes
    if kind not in kinds:
        raise AllpetError(f"{path}: its ending stands for {kind}; this writes {' or '.join(kinds)}")
    if not isinstance(path, Remote) and not path.absolute().parent.is_dir():
        raise AllpetError(f"{path}: folder '{path.parent}' does not exist; create it first")
    if kind == SINOGRAM and not isinstance(path, Remote):
        from allpet.io.interfile import foreign_part, part_of

        if whole := part_of(path):
            raise AllpetError(
                f"{path}: would be read as a part of {whole.name}, which lies beside it; name it otherwise"
            )
        if other := foreign_part(path):
            raise AllpetError(
                f"{other}: lies there already and would be read as a part of {path.name}; name it otherwise"
            )


def write(what: Scan | Image, path: Path | str) -> None:
    """Write a scan (``.hs``) or an image (``.hv``, ``.nii.gz``, a DICOM folder), whole or not at all.

    A DICOM folder's name ends in ``.dicom``, or it exists and is empty or an earlier output.

    Raises
    ------
    AllpetError : an ending that is unknown or not for this, or a folder that cannot be written.
    """
    from allpet.scan.core import Image

    path = Path(path)
    kind, _, writer = _ending(path, writing=True)
    if isinstance(what, Image) != (kind == IMAGE):
        name, right = ("an image", ".hv, .nii.gz or .dicom") if isinstance(what, Image) else ("a scan", ".hs")
        raise AllpetError(f"{path}: {name} cannot be written as {kind}; use {right}")
    assert writer is not None
    _function(writer)(what, path)
