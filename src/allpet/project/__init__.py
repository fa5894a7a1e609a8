"""The projector, its adjoint and the attenuation factors; least squares with it."""

from allpet.project.projector import Projector
from allpet.project.solve import least_squares

__all__ = ["Projector", "least_squares"]
