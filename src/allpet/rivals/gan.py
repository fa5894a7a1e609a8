"""Conditional GAN of sinograms: hinge losses and spectral norm (Miyato et al., arXiv 1802.05957), words by projection
(Miyato and Koyama, arXiv 1802.05637); the augmentation is on both sides, since both networks are told it."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from allpet.rivals.common import Decoder, Encoder, Network, Noise, RivalRecipe, Words

LATENT, N_COND = 64, 64


class Discriminator(nn.Module):
    """How real a sinogram looks, given its words ``(n,)``."""

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.body = Encoder(size, 128, norm=False)
        for module in self.body.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                spectral_norm(module)
        self.words, self.score = Words(128), nn.Linear(128, 1)

    def forward(self, s: torch.Tensor, label: dict[str, torch.Tensor]) -> torch.Tensor:
        h = F.leaky_relu(self.body(s), 0.2)
        return self.score(h)[:, 0].float() + (self.words(label) * h).sum(dim=1).float() / 128**0.5


class GANNetwork(Network):
    """Generator and discriminator in one module, trained by one optimiser."""

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__(size)
        self.words, self.generator = Words(N_COND), Decoder(size, LATENT, N_COND)
        self.discriminator = Discriminator(size)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def draw(self, noise: Noise, label: dict[str, torch.Tensor]) -> torch.Tensor:
        return self.generator(noise((LATENT,), 0), self.words(label))[:, 0]


class GAN(RivalRecipe):
    """Train a GAN; every step moves both sides."""

    kind = "gan"
    rate, ema = 2e-4, 0.995
    betas = (0.0, 0.99)

    def loss(self, network: GANNetwork, rng: torch.Generator) -> torch.Tensor:
        """The discriminator's hinge loss on frozen fakes and the generator's under a frozen discriminator."""
        s, label = self.draw(rng)
        judge = network.discriminator
        with self.cast():
            fake = network.generator(torch.randn(len(s), LATENT, generator=rng), network.words(label))
            fake = fake / fake.mean(dim=(-2, -1), keepdim=True).clamp_min(1e-3)
            real, drawn = judge(s, label), judge(fake.detach(), label)
            judge.requires_grad_(False)
            fooled = judge(fake, label)
            judge.requires_grad_(True)
        return F.relu(1 - real).mean() + F.relu(1 + drawn).mean() - fooled.mean()
