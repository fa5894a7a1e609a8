"""The projector, its adjoint and the attenuation factors."""

from allpet.project.projector import Projector

__all__ = ["Projector"]
