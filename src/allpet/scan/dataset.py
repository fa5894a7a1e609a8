"""A data set in memory: numeric arrays with one row per sample, and what they mean."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from allpet.errors import AllpetError
from allpet.geometry import ImageGrid, ParallelBeam

if TYPE_CHECKING:
    from allpet.io.samples import Index
    from allpet.scan.core import Scan


def _positions(index: Index | None) -> slice | np.ndarray:
    if index is None or isinstance(index, slice):
        return slice(None) if index is None else index
    return np.atleast_1d(np.asarray(index))


@dataclass(frozen=True)
class Dataset:
    """Samples of one tracer and region on one grid.

    Arrays are reached as ``data["image"]`` or ``data.image``; all have n rows.

    Parameters
    ----------
    arrays : name -> array; see :func:`allpet.scan.simulate.simulate` for names, shapes and units, and
        :mod:`allpet.io.schema` for all that a store knows.
    beam : geometry of the sinograms.
    attributes : units per array, prompt (tracer, isotope, region, task), acquisition (facts that all samples share:
        scanner, start_s, fwhm_mm, ...), seed, version, label names.
    """

    arrays: dict[str, np.ndarray]
    beam: ParallelBeam
    attributes: dict[str, Any]

    def __len__(self) -> int:
        return len(self.arrays["sinogram"])

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self.arrays:
            raise AllpetError(f"the data set has no array {name!r}; it has {', '.join(sorted(self.arrays))}")
        return self.arrays[name]

    def __getattr__(self, name: str) -> np.ndarray:
        arrays = self.__dict__.get("arrays", {})
        if name in arrays:
            return arrays[name]
        raise AttributeError(f"Dataset has no array or attribute {name!r}")

    def rows(self, name: str, index: Index | None = None) -> np.ndarray:
        """Some rows of an array, all by default.

        Raises
        ------
        AllpetError : no such array or row.
        """
        try:
            return np.asarray(self[name][_positions(index)])
        except IndexError:
            last = len(self) - 1
            raise AllpetError(f"there is no sample {index}; the data set has samples 0 to {last}") from None

    def scan(self, index: Index | None = None) -> Scan:
        """What the scanner measured in some samples, all by default; see :func:`allpet.io.samples.as_scan`."""
        from allpet.io.samples import as_scan

        return as_scan(self, index)

    def __contains__(self, name: str) -> bool:
        return name in self.arrays

    def __iter__(self) -> Iterator[str]:
        return iter(self.arrays)

    def without_frames(self) -> Dataset:
        """The same as static scans: without dynamic frames."""
        kept = {name: values for name, values in self.arrays.items() if not name.startswith("frames")}
        return replace(self, arrays=kept)

    @property
    def grid(self) -> ImageGrid:
        """Grid of the images: one pixel per bin."""
        return self.beam.image_grid()

    @property
    def unit(self) -> str:
        """Unit of `sinogram`: ``"kBq/mL*mm"`` or ``"counts"``."""
        return str(self.attributes["units"]["sinogram"])

    @property
    def prompt(self) -> dict[str, Any]:
        """Tracer, isotope, region and task of the samples."""
        return dict(self.attributes["prompt"])
