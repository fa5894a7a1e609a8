"""Moments made exact: consistent sinograms stay, small errors go, zeros stay zero."""

import torch

from allpet.geometry import ImageGrid, ParallelBeam
from allpet.mask import draw_masks
from allpet.metrics import moment_residual
from allpet.project import Projector
from allpet.project.moments import match_moments

BEAM = ParallelBeam(48, 64, 3.0)


def disks() -> torch.Tensor:
    return Projector(BEAM, ImageGrid(64, 3.0))(draw_masks(range(5), 64))


def test_the_residual_goes_and_the_sinogram_stays():
    s = disks()
    out = match_moments(s, BEAM)
    assert float(moment_residual(s, BEAM).min()) > 1e-9
    assert float(moment_residual(out, BEAM).median()) < 1e-14
    assert float(moment_residual(out, BEAM).max()) < 1e-9  # one is three bins wide, and five moments too many for it
    assert float((out - s).norm() / s.norm()) < 3e-3 and bool((out >= 0).all())
    assert bool((out[s == 0] == 0).all())
    again = match_moments(out, BEAM)
    assert float((again - out).norm() / out.norm()) < 3e-4


def test_the_change_is_the_size_of_the_error():
    s = disks()
    wobble = 1 + 0.01 * torch.sin(7 * torch.arange(48) * torch.pi / 24)[:, None]
    out = match_moments(s * wobble, BEAM)
    assert float((out - s).norm()) < 0.15 * float((s * wobble - s).norm()) + 2e-3 * float(s.norm())


def test_empty_and_single_sinograms():
    assert float(match_moments(torch.zeros(2, 48, 64), BEAM).abs().max()) == 0
    s = disks()[0]
    assert match_moments(s, BEAM).shape == (48, 64) and match_moments(s, BEAM).dtype == torch.float32
