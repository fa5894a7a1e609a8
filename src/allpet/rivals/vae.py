"""Conditional variational autoencoder (Kingma and Welling, arXiv 1312.6114) of sinograms."""

from __future__ import annotations

import torch
from torch import nn

from allpet.rivals.common import Decoder, Encoder, Network, Noise, RivalRecipe, Words

LATENT, N_COND = 64, 64
BETA = 2e-4
"""Weight of the divergence against the mean square error of a bin."""
WARM_UP = 0.2
"""Share of the budget over which that weight rises from 0."""


class VAENetwork(Network):
    """Encoder, decoder, words."""

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__(size)
        self.words = Words(N_COND)
        self.encoder, self.decoder = Encoder(size, 2 * LATENT, N_COND), Decoder(size, LATENT, N_COND)
        nn.init.zeros_(self.encoder.head.weight[LATENT:].data)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def draw(self, noise: Noise, label: dict[str, torch.Tensor]) -> torch.Tensor:
        return self.decoder(noise((LATENT,), 0), self.words(label))[:, 0]


class VAE(RivalRecipe):
    """Train a VAE."""

    kind = "vae"

    def loss(self, network: VAENetwork, rng: torch.Generator) -> torch.Tensor:
        """Mean square error and divergence, warmed up."""
        s, label = self.draw(rng)
        with self.cast():
            words = network.words(label)
            mean, log_variance = network.encoder(s, words).chunk(2, dim=1)
            log_variance = log_variance.clamp(-12, 6)
            z = mean + (log_variance / 2).exp() * torch.randn(mean.shape, generator=rng)
            out = network.decoder(z, words)
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1).mean()
        return (out - s).square().mean() + BETA * min(1.0, self.progress / WARM_UP) * divergence
