"""The scans that are offered: read once, shared by all sessions, and never changed."""

from __future__ import annotations

import gzip
import hashlib
import tempfile
import threading
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from allpet.errors import AllpetError
from allpet.io import DATASET, LIST_MODE, PETSIRD, SINOGRAM, kind_of, read
from allpet.io.samples import Samples, as_scan
from allpet.mask.attend import likely_regions, quick_image
from allpet.metrics.region import Uptake, peak_image, uptake
from allpet.scan.arc import line_coordinates
from allpet.scan.core import FACTORS, Image, Scan
from allpet.scan.units import ACTIVITY
from allpet.ui.item import Item
from allpet.ui.refused import CONFLICT, MISSING, Refused
from allpet.ui.shares import Shares

SIMULATED = "simulated abdomen"
"""Name of the scan that stands in where none is given."""
MAX_SCANS = 4
"""Scans that are held at once; one more drops the one not used for longest, which is read again when needed."""
MAX_OFFERED = 1000
MAX_FACTS = 1 << 14
MAX_SUGGESTIONS = 100
_KINDS = (SINOGRAM, DATASET, LIST_MODE, PETSIRD)
_TRUE = {"low-dose": "image", "attenuation": "image", "delayed": "image_observed", "convert": "image_observed"}
"""Array that holds the true activity of a simulated scan itself, by the task that it was simulated for."""


@dataclass(eq=False)
class Loaded:
    """A scan with all that is derived from it.

    Parameters
    ----------
    name : by which it is offered. hash : of the data. truth : images of the true activity on the quick image's grid,
    None where nobody knows it.
    """

    name: str
    scan: Scan
    image: Image
    suggestions: tuple[Item, ...]
    hash: str
    truth: np.ndarray | None
    shares: Shares
    _facts: OrderedDict[str, Uptake] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Planes, rows and columns of the image."""
        return (len(self.image), *self.image.grid.shape)

    @cached_property
    def peaks(self) -> np.ndarray:
        """See :func:`allpet.metrics.region.peak_image`."""
        return peak_image(self.image.array.numpy(), self.image.grid, self.image.plane_mm, self.scan.neighbours)

    def uptake(self, item: Item) -> Uptake:
        """Of a region in the quick image."""
        with self._lock:
            if item.key in self._facts:
                self._facts.move_to_end(item.key)
                return self._facts[item.key]
        image = self.image
        together = self.scan.neighbours
        found = uptake(image.array.numpy(), item.region, image.grid, image.plane_mm, self.peaks, together)
        with self._lock:
            self._facts[item.key] = found
            while len(self._facts) > MAX_FACTS:
                self._facts.popitem(last=False)
        return found

    @cached_property
    def image_file(self) -> bytes:
        """The quick image as .nii.gz."""
        return nifti_bytes(self.image)

    @cached_property
    def lines(self) -> dict[str, list[float]]:
        """phi of the views and s of the bins."""
        phi, s = line_coordinates(self.scan.geometry)
        middle = phi.shape[1] // 2
        return {"phi": np.round(phi[:, middle], 6).tolist(), "s": np.round(s[0], 4).tolist()}

    @cached_property
    def window(self) -> tuple[float, float]:
        """Values from white to black."""
        high = float(np.quantile(self.image.array.numpy(), 0.999))
        return 0.0, high if high > 0 else 1.0


def nifti_bytes(image: Image) -> bytes:
    """An image as a .nii.gz file, quickly packed."""
    from allpet.io.nifti import write_nifti

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image.nii"
        write_nifti(image, path)
        return gzip.compress(path.read_bytes(), 1, mtime=0)


class Library:
    """Parameters
    ----------
    source : a scan, a folder of scans (nothing outside of it is offered), or None for a simulated scan.
    out : where work folders are made; default beside the scan.

    Raises
    ------
    AllpetError : there is no such file, or no scan in it.
    """

    def __init__(self, source: Path | None = None, out: Path | None = None) -> None:
        self.source, self.out = source, out
        self._loaded: OrderedDict[str, Loaded] = OrderedDict()
        self._lock = threading.Lock()
        self._loading: dict[str, threading.Lock] = {}
        if source is not None and not source.exists():
            raise AllpetError(f"{source}: does not exist; give a scan or a folder of scans")
        if out is not None and out.exists() and not out.is_dir():
            raise AllpetError(f"{out}: is a file; name a folder")
        if not self.names():
            raise AllpetError(
                f"{source}: holds no scan; give a sinogram (.hs, .zarr), list mode, or a folder of them (images, "
                "DICOM or other, hold no counts)"
            )
        if out is not None:
            try:
                out.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise AllpetError(f"{out}: cannot be made ({error.strerror or error})") from None

    def names(self) -> list[str]:
        """The scans on offer."""
        if self.source is None:
            return [SIMULATED]
        if _is_scan(self.source):
            return [self.source.name]
        if not self.source.is_dir():
            return []
        home = self.source.resolve()
        inside = [path for path in sorted(self.source.iterdir()) if path.resolve().is_relative_to(home)]
        found = [path.name for path in inside if not path.name.startswith(".") and _is_scan(path)]
        return [name for name in found if not _beside(name, found)][:MAX_OFFERED]

    def folder(self, name: str, word: str | None = None) -> Path:
        """Work folder of a scan; `word` names another one than the usual."""
        path = self._path(name)
        if path is None:
            stem, parent = "simulated", Path()
        else:
            stems = Counter(_stem(other) for other in self.names())
            stem, parent = (_stem(name) if stems[_stem(name)] == 1 else name), path.parent
        return (self.out or parent) / (f"{stem}-attention" + (f"-{word}" if word else ""))

    def get(self, name: str, known: str | None = None) -> Loaded:
        """A scan, read and reconstructed where that has not been done yet.

        Parameters
        ----------
        known : hash of the data that a session works on.

        Raises
        ------
        Refused : no such scan, or its file has changed since. AllpetError : it cannot be read.
        """
        with self._lock:
            found = self._loaded.get(name)
            if found is not None:
                self._loaded.move_to_end(name)
            elif name not in self.names():
                raise Refused(MISSING, f"there is no scan '{name[:80]}' here")
            turn = self._loading.setdefault(name, threading.Lock())
        if found is None:
            with turn:
                with self._lock:
                    found = self._loaded.get(name)
                if found is None:
                    found = self._load(name)
                    with self._lock:
                        self._loaded[name] = found
                        while len(self._loaded) > MAX_SCANS:
                            self._loaded.popitem(last=False)
        if known is not None and found.hash != known:
            raise Refused(CONFLICT, f"scan '{name}' has changed on the disk; open it in a new session")
        return found

    def read(self, name: str) -> tuple[Scan, Samples | None]:
        """The scan, and the samples that it is made of, where there are such."""
        path = self._path(name)
        if path is None:
            data = simulated()
            return data.scan(), data
        if kind_of(path) == DATASET:
            from allpet.io.store import open_store

            store = open_store(path)
            return as_scan(store), store
        scan = read(path)
        if not isinstance(scan, Scan):
            raise AllpetError(f"{path}: is an image; give a sinogram (.hs, .l.hdr or .zarr)")
        return scan, None

    def _path(self, name: str) -> Path | None:
        if self.source is None:
            return None
        return self.source if _is_scan(self.source) else self.source / name

    def _load(self, name: str) -> Loaded:
        scan, samples = self.read(name)
        digest = hashlib.sha256(f"{scan.geometry}".encode() + scan.sinogram.contiguous().numpy().tobytes())
        image = quick_image(scan)
        likely = likely_regions(scan, image)[:MAX_SUGGESTIONS]
        found = tuple(Item(f"s{k}", region, "suggested", f"s{k}") for k, region in enumerate(likely, 1))
        shares = Shares(scan.geometry)
        loaded = Loaded(name, scan, image, found, digest.hexdigest()[:16], _truth(samples, image), shares)
        for item in found:
            shares.of(item)
            loaded.uptake(item)
        return loaded


def simulated() -> Any:
    """A low-dose FDG scan of an abdomen with two hot lesions, the same each time."""
    from allpet.scan.simulate import simulate

    return simulate(
        5,
        region="abdomen",
        task="low-dose",
        dose_fraction=0.1,
        slices_per_subject=5,
        slice_mm=5.0,
        background="quick",
        seed=9,
    )


def _is_scan(path: Path) -> bool:
    """By its name; a folder is one where it is a store."""
    if path.is_dir() and path.suffix.lower() != ".zarr":
        return False
    try:
        return kind_of(path) in _KINDS
    except (AllpetError, OSError):
        return False


def _beside(name: str, names: Sequence[str]) -> bool:
    """True for what belongs to another file: a scan's factors, list mode whose header is there."""
    stem = _stem(name)
    whole, _, factor = stem.rpartition("-")
    if factor in FACTORS and f"{whole}.hs" in names:
        return True
    return name.lower().endswith(".l") and any(other != name and _stem(other) == stem for other in names)


def _stem(name: str) -> str:
    """A file's name without its endings: ``scan.l.hdr`` is ``scan``."""
    lower = name.lower()
    endings: Sequence[str] = (".hdr.stir", ".l.hdr", ".hdr", ".l", ".petsird", ".prd", ".zarr", ".hs")
    return next((name[: -len(ending)] for ending in endings if lower.endswith(ending)), name)


def _truth(samples: Samples | None, image: Image) -> np.ndarray | None:
    """True activity on the image's grid, where the scan is a simulated one."""
    if samples is None or image.unit != ACTIVITY:
        return None
    name = _TRUE.get(str(samples.attributes.get("prompt", {}).get("task")))
    if name is None or name not in samples or samples.attributes["units"].get(name) != ACTIVITY:
        return None
    values = samples.rows(name).astype(np.float32)
    return values if values.shape == tuple(image.array.shape) else None
