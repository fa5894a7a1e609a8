"""Attenuation at 511 keV from CT.

Bilinear (Carney et al. 2006, Med Phys 33:976, Table II): below a break point a voxel is a mixture of air and water,
above it one of water and bone; the second slope depends on the tube voltage.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from allpet.errors import AllpetError

WATER, LARGEST_MU = 0.0096, 0.05
"""Attenuation of water at 511 keV in 1/mm, and more than any tissue has."""
WATER_PER_HU = 9.6e-6
"""1/mm for each (HU + 1000) below the break point: water is 0.0096 / mm."""

MAX_HU = 32767.0

# tube voltage in kV: slope in 1/mm for each (HU + 1000) and offset in 1/mm above the break point, break point in HU
_BONE = {
    80: (3.64e-6, 6.26e-3, 50.0),
    100: (4.43e-6, 5.44e-3, 52.0),
    110: (4.92e-6, 4.88e-3, 43.0),
    120: (5.10e-6, 4.71e-3, 47.0),
    130: (5.51e-6, 4.24e-3, 37.0),
    140: (5.64e-6, 4.08e-3, 30.0),
}
VOLTAGES = tuple(_BONE)
"""Tube voltages that are known, in kV."""


def hu_to_mu(hu: ArrayLike, kv: int = 120) -> np.ndarray:
    """Linear attenuation coefficient at 511 keV of CT numbers.

    Parameters
    ----------
    hu : Hounsfield units, any shape; below -1000 (padding outside the scanned circle) counts as air.
    kv : tube voltage: 80, 100, 110, 120, 130 or 140.

    Returns
    -------
    float32, 1/mm, 0 or more.

    Raises
    ------
    AllpetError : an unknown tube voltage, values that are not finite, or no Hounsfield units at all.
    """
    if kv not in _BONE:
        raise AllpetError(f"tube voltage {kv} kV is unknown; known are {', '.join(map(str, _BONE))}")
    values = np.asarray(hu, np.float32)
    if not np.isfinite(values).all():
        raise AllpetError("CT holds NaN or infinite values; every value must be finite")
    if values.size and not (float(values.min()) < -500 and float(values.max()) < MAX_HU):
        raise AllpetError(
            f"CT ranges from {float(values.min()):g} to {float(values.max()):g}; Hounsfield units hold air near -1000"
        )
    slope, offset, break_hu = _BONE[kv]
    above = np.maximum(values + np.float32(1000), 0)
    return np.where(values <= break_hu, np.float32(WATER_PER_HU) * above, slope * above + offset).astype(np.float32)
