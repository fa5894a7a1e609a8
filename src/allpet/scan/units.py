"""Units of arrays, as text."""

COUNTS = "counts"
ACTIVITY_MM = "kBq/mL*mm"
ACTIVITY = "kBq/mL"
MU = "1/mm"
HU = "HU"
UNCALIBRATED = "counts/mm"
"""Of an image whose scan has no calibration: proportional to activity."""
