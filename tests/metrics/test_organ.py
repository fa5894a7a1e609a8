"""Recovery in organs away from their edges."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from allpet.errors import AllpetError
from allpet.metrics.organ import organ_recovery

NAMES = ("air", "liver", "muscle")


def two_organs() -> tuple[np.ndarray, np.ndarray]:
    labels = np.zeros((60, 60), int)
    labels[5:55, 5:30], labels[5:55, 30:55] = 1, 2
    return np.array([0.0, 4.0, 1.0])[labels], labels


def test_bias_is_that_put_in_and_edges_do_not_count() -> None:
    truth, labels = two_organs()
    image = truth * np.array([1.0, 1.03, 0.9])[labels]
    found = organ_recovery(image, truth, labels, NAMES, 2.0, 6.0)
    assert [(one.organ, round(one.bias, 6)) for one in found] == [("liver", 0.03), ("muscle", -0.1)]
    assert found[0].pixels == (50 - 6) * (25 - 6) and found[0].truth == 4.0
    blurred = gaussian_filter(truth, 1.0)
    near, far = (organ_recovery(blurred, truth, labels, NAMES, 2.0, mm)[1].bias for mm in (0.0, 8.0))
    assert abs(near) > 0.01 and abs(far) < 1e-3


def test_small_organs_are_left_out_and_shapes_checked() -> None:
    truth, labels = two_organs()
    assert organ_recovery(truth, truth, labels, NAMES, 2.0, 6.0, least_pixels=10_000) == []
    assert organ_recovery(truth, truth, labels, NAMES, 2.0, 90.0) == []
    with pytest.raises(AllpetError, match="must be the same"):
        organ_recovery(truth[:-1], truth, labels, NAMES, 2.0, 6.0)
