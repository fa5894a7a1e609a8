"""Plain latent diffusion (Rombach et al., arXiv 2112.10752): a small convolutional KL autoencoder, trained first, and
`diffusers`' U-Net on its latents, noise prediction, DDIM with 50 steps. No masks, no parts, no consistency."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from allpet.model.condition import TOLD
from allpet.model.prompt import REGIONS, TRACERS
from allpet.rivals.common import Network, Noise, RivalRecipe

CHANNELS, STEPS, LEVELS = 4, 50, 1000
FIRST = 0.4
"""Share of the budget that goes to the autoencoder."""
DIVERGENCE = 1e-6


class Autoencoder(nn.Module):
    """Eight times smaller along each side, four channels."""

    def __init__(self) -> None:
        super().__init__()

        def block(n_in: int, n_out: int, stride: int = 1) -> nn.Sequential:
            return nn.Sequential(nn.Conv2d(n_in, n_out, 3, stride, 1), nn.GroupNorm(8, n_out), nn.SiLU())

        def up(n_in: int, n_out: int) -> nn.Sequential:
            return nn.Sequential(nn.Upsample(scale_factor=2), block(n_in, n_out), block(n_out, n_out))

        self.encoder = nn.Sequential(
            block(1, 32), block(32, 64, 2), block(64, 128, 2), block(128, 128, 2), nn.Conv2d(128, 2 * CHANNELS, 1)
        )
        self.decoder = nn.Sequential(
            block(CHANNELS, 128), up(128, 128), up(128, 64), up(64, 32), nn.Conv2d(32, 1, 3, padding=1)
        )


class LDMNetwork(Network):
    """Autoencoder, denoiser, and the latents' scale."""

    evaluations = STEPS
    scale: torch.Tensor

    def __init__(self, size: tuple[int, int]) -> None:
        from diffusers.models.unets.unet_2d import UNet2DModel

        super().__init__(size)
        self.autoencoder = Autoencoder()
        self.unet = UNet2DModel(
            in_channels=CHANNELS + len(TOLD) + 1,
            out_channels=CHANNELS,
            layers_per_block=1,
            block_out_channels=(96, 160, 224),
            down_block_types=("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
            num_class_embeds=(len(TRACERS) + 1) * (len(REGIONS) + 1),
        )
        self.register_buffer("scale", torch.ones(()))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def noise_in(self, z: torch.Tensor, t: torch.Tensor, label: dict[str, torch.Tensor]) -> torch.Tensor:
        """The noise that the denoiser sees in ``z``; what is told of the augmentation comes as constant channels."""
        told = torch.cat([label["told"], 5 * label["turn"][:, None]], dim=1)[:, :, None, None]
        x = torch.cat([z, told.expand(-1, -1, *z.shape[-2:])], dim=1)
        word = label["tracer"] * (len(REGIONS) + 1) + label["region"]
        return self.unet(x.contiguous(memory_format=torch.channels_last), t, class_labels=word).sample.float()

    def draw(self, noise: Noise, label: dict[str, torch.Tensor]) -> torch.Tensor:
        scheduler = _scheduler()
        scheduler.set_timesteps(STEPS)
        z = noise((CHANNELS, self.size[0] // 8, self.size[1] // 8), 0)
        for t in scheduler.timesteps:
            z = scheduler.step(self.noise_in(z, t.expand(len(z)), label), t, z).prev_sample
        return self.autoencoder.decoder(z * self.scale)[:, 0]


def _scheduler() -> Any:
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    return DDIMScheduler(num_train_timesteps=LEVELS, beta_schedule="squaredcos_cap_v2", clip_sample=False)


class LDM(RivalRecipe):
    """Train the autoencoder, then the denoiser."""

    kind = "ldm"

    def loss(self, network: LDMNetwork, rng: torch.Generator) -> torch.Tensor:
        """Of the phase the budget is in; the autoencoder rests in the second."""
        s, label = self.draw(rng)
        encode, decode = network.autoencoder.encoder, network.autoencoder.decoder
        if self.progress < FIRST:
            with self.cast():
                mean, log_variance = encode(s).float().chunk(2, dim=1)
                log_variance = log_variance.clamp(-20, 4)
                z = mean + (log_variance / 2).exp() * torch.randn(mean.shape, generator=rng)
                out = decode(z).float()
            with torch.no_grad():
                network.scale.lerp_(mean.square().mean().sqrt(), 0.05)
            divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=(1, 2, 3)).mean()
            return (out - s).abs().mean() + (out - s).square().mean() + DIVERGENCE * divergence
        with self.cast():
            with torch.no_grad():
                z = encode(s).float().chunk(2, dim=1)[0] / network.scale
            t = torch.randint(LEVELS, (len(s),), generator=rng)
            noise = torch.randn(z.shape, generator=rng)
            seen = network.noise_in(_scheduler().add_noise(z, noise, t), t, label)
        return F.mse_loss(seen, noise)
