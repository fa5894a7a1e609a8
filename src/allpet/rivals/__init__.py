"""Generators to be compared with, trained by the same loop on the same data: VAE, GAN, score model, plain LDM."""

from allpet.rivals.common import Rival, load_rival
from allpet.rivals.gan import GAN
from allpet.rivals.ldm import LDM
from allpet.rivals.score import Score
from allpet.rivals.vae import VAE

RIVALS = {"vae": VAE, "gan": GAN, "score": Score, "ldm": LDM}
"""Recipes by name, for :func:`allpet.train.train`."""

__all__ = ["GAN", "LDM", "RIVALS", "VAE", "Rival", "Score", "load_rival"]
