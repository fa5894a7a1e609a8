"""Units of arrays, as text; the width of a Gaussian in either of its usual measures."""

import math

COUNTS = "counts"
ACTIVITY_MM = "kBq/mL*mm"
ACTIVITY = "kBq/mL"
MU = "1/mm"
HU = "HU"
UNCALIBRATED = "counts/mm"
"""Of an image whose scan has no calibration: proportional to activity."""
LABEL = "label"
"""Of an image of regions: whole numbers, 0 for none."""
SHARE = "1"
"""Of weights."""


def sigma_of(fwhm: float) -> float:
    """Standard deviation of a Gaussian with a full width at half maximum, in the same unit."""
    return fwhm / math.sqrt(8 * math.log(2))
