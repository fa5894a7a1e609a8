"""Training: samples, recipes and the loop."""

from allpet.train.loop import train

__all__ = ["train"]
