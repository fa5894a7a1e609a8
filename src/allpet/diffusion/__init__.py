"""Samplers and schedules of the latent diffusion."""

from allpet.diffusion.edm import SAMPLERS, sample, scheduler, seeded_noise

__all__ = ["SAMPLERS", "sample", "scheduler", "seeded_noise"]
