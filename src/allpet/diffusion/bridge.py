"""`BridgeScheduler`: denoising diffusion bridges to the scheduler contract of `diffusers`, which has none.

The bridge (Zhou et al., arXiv 2309.16948, variance exploding) runs from clean data x0 at t = 0 to a given endpoint
y at t = T = sigma_max, both hit exactly::

    x_t = w y + (1 - w) x0 + t sqrt(1 - w) noise,   w = t^2 / T^2

It is sampled with the implicit rule of Zheng et al. (DBIM, arXiv 2405.15885)::

    x_t = w_t y + (1 - w_t) x0 + sqrt(c_t^2 - rho^2) e + rho noise,   c_t = t sqrt(1 - w_t)

where x0 is the network's estimate at s > t, e the noise that x_s would then hold, and ``rho = eta t sqrt(1 -
t^2/s^2)``: at eta = 1 the bridge's own posterior of x_t given x_s and x0 (ancestral), at eta = 0 none. The first step
starts from a single point, y, and draws all of its noise whatever eta is.

**Why an ordinary denoiser serves.** ``z = (x_t - w y) / (1 - w) = x0 + sigma noise`` with
``sigma = t / sqrt(1 - w)``. If y says nothing about x0 (the mean of a prompt, say), what is expected of x0 given
(x_t, y) is what is expected of it given z alone: ``denoise(z, sigma)``. In z the rule above is DDIM's at eta = 0 and
DDPM's at eta = 1, whatever T is: such a bridge is a diffusion, and no better than one. An endpoint that does say
something (an observation of x0) needs a network that is told y.
"""

from __future__ import annotations

import math

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.schedulers.scheduling_utils import SchedulerMixin, SchedulerOutput
from diffusers.utils.torch_utils import randn_tensor

from allpet.diffusion.edm import RHO, SIGMA_MAX, SIGMA_MIN, levels
from allpet.errors import AllpetError

AT_END = 1 - 1e-6
"""Share of T from which on a time is T: float32 times are no closer."""


class BridgeScheduler(SchedulerMixin, ConfigMixin):  # type: ignore[misc]  # both say config_name, alike
    """Steps along a variance-exploding bridge; timesteps are the times t themselves, T first.

    Parameters
    ----------
    sigma_min, sigma_max : last time before 0 and T, in the unit of the data. rho : their spacing, as in EDM.
    eta : 0 deterministic after the first step, 1 the ancestral bridge.
    solver_order : 2 extrapolates the estimate of x0 from the last two (in log sigma, as DPM-Solver++ 2M does), 1
        does not.
    num_train_timesteps : how many timesteps there are before `set_timesteps`.

    Raises
    ------
    AllpetError : a number out of range.
    """

    _compatibles: list[str] = []
    order = 1
    init_noise_sigma = 1.0  # a draw starts at the endpoint itself

    @register_to_config
    def __init__(
        self,
        sigma_min: float = SIGMA_MIN,
        sigma_max: float = SIGMA_MAX,
        rho: float = RHO,
        eta: float = 0.0,
        solver_order: int = 2,
        num_train_timesteps: int = 1000,
    ) -> None:
        if not 0 < sigma_min < sigma_max < math.inf:
            raise AllpetError(f"sigma_min is {sigma_min}, sigma_max {sigma_max}; 0 < sigma_min < sigma_max must hold")
        if not 0 <= eta <= 1:
            raise AllpetError(f"eta is {eta}; it must be from 0 (deterministic) to 1 (ancestral)")
        if solver_order not in (1, 2):
            raise AllpetError(f"solver_order is {solver_order}; it must be 1 or 2")
        if not rho > 0:
            raise AllpetError(f"rho is {rho}; it must be positive")
        if num_train_timesteps < 1:
            raise AllpetError(f"num_train_timesteps is {num_train_timesteps}; it must be at least 1")
        self.num_inference_steps: int | None = None
        self._step_index: int | None = None
        self._begin_index: int | None = None
        self._previous: torch.Tensor | None = None
        self._low, self._high, self._rho, self._eta, self._second = sigma_min, sigma_max, rho, eta, solver_order == 2
        self._place(num_train_timesteps, None)

    def __len__(self) -> int:
        return int(self.config["num_train_timesteps"])

    @property
    def step_index(self) -> int | None:
        """Index of the step to come; None before the first."""
        return self._step_index

    @property
    def begin_index(self) -> int | None:
        """Index of the first step, if it was set."""
        return self._begin_index

    def set_begin_index(self, begin_index: int = 0) -> None:
        """Begin at this step instead of looking its timestep up."""
        self._begin_index = begin_index

    def set_timesteps(self, num_inference_steps: int, device: str | torch.device | None = None) -> None:
        """Times from T to sigma_min; `sigmas` holds them and the final 0."""
        if num_inference_steps < 1:
            raise AllpetError(f"steps is {num_inference_steps}; it must be at least 1")
        self.num_inference_steps = num_inference_steps
        self._place(num_inference_steps, device)

    def _place(self, steps: int, device: str | torch.device | None) -> None:
        times = levels(steps, self._low, self._high, self._rho)
        self._times = [*times, 0.0]
        self.sigmas = torch.tensor(self._times)
        self.timesteps = torch.tensor(times, device=device)
        self._step_index = self._begin_index = self._previous = None

    def scale_model_input(self, sample: torch.Tensor, timestep: float | torch.Tensor | None = None) -> torch.Tensor:
        """The sample as it is: preconditioning is the network's."""
        return sample

    def index_for_timestep(self, timestep: float | torch.Tensor) -> int:
        """Position of a timestep in `timesteps`."""
        found = (self.timesteps.cpu() == torch.as_tensor(timestep, dtype=self.timesteps.dtype).cpu()).nonzero()
        if len(found) == 0:
            raise AllpetError(f"timestep {float(timestep)} is none of the scheduler's; take them from .timesteps")
        return int(found[0])

    def weight(self, t: float) -> float:
        """w = t^2 / T^2, the endpoint's share of the state; in [0, 1]."""
        share = t / self._high
        return share**2 if share < AT_END else 1.0

    def effective_sigma(self, t: float) -> float:
        """Noise level of ``(x_t - w y) / (1 - w)``; infinite at T."""
        w = self.weight(t)
        return t / math.sqrt(1 - w) if w < 1 else math.inf

    def step(
        self,
        model_output: torch.Tensor,
        timestep: float | torch.Tensor,
        sample: torch.Tensor,
        endpoint: torch.Tensor,
        generator: torch.Generator | None = None,
        noise: torch.Tensor | None = None,
        return_dict: bool = True,
    ) -> SchedulerOutput | tuple[torch.Tensor]:
        """The state at the next smaller time.

        Parameters
        ----------
        model_output : the network's estimate of x0 from (x_t, t, y). timestep : t, one of `timesteps`.
        sample : x_t. endpoint : y. noise : standard normal; drawn from the generator if not given and needed.

        Raises
        ------
        AllpetError : `set_timesteps` was not called, or the timestep is none of them.
        """
        if self.num_inference_steps is None:
            raise AllpetError("the scheduler has no steps yet; call set_timesteps first")
        if self._step_index is None:
            self._step_index = self.index_for_timestep(timestep) if self._begin_index is None else self._begin_index
        k = self._step_index
        if k >= self.num_inference_steps:
            raise AllpetError("the scheduler has reached t = 0; call set_timesteps to start again")
        s, t = self._times[k], self._times[k + 1]
        clean = self._extrapolated(model_output, k)
        self._step_index, self._previous = k + 1, model_output
        if t == 0:
            moved = model_output
        else:
            w, c2 = self.weight(t), t**2 * (1 - self.weight(t))
            first = self.weight(s) == 1
            rho2 = c2 if first else min((self._eta * t) ** 2 * (1 - (t / s) ** 2), c2)
            moved = w * endpoint + (1 - w) * clean
            if not first:
                inside = sample - self.weight(s) * endpoint - (1 - self.weight(s)) * clean
                moved = moved + math.sqrt((c2 - rho2) / (s**2 * (1 - self.weight(s)))) * inside
            if rho2 > 0:
                if noise is None:
                    noise = randn_tensor(sample.shape, generator=generator, device=sample.device, dtype=sample.dtype)
                moved = moved + math.sqrt(rho2) * noise
        return SchedulerOutput(prev_sample=moved) if return_dict else (moved,)

    def _extrapolated(self, clean: torch.Tensor, k: int) -> torch.Tensor:
        """The estimate of x0 that makes the first-order rule second order (midpoint, equal to DPM-Solver++ 2M)."""
        if not self._second or self._previous is None or self._times[k + 1] == 0:
            return clean
        last, here, next_ = (self.effective_sigma(t) for t in self._times[k - 1 : k + 2])
        if math.isinf(last):
            return clean
        return clean + 0.5 * math.log(here / next_) / math.log(last / here) * (clean - self._previous)

    def add_noise(
        self, original_samples: torch.Tensor, endpoint: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor
    ) -> torch.Tensor:
        """x_t for training: a draw of the bridge between clean samples and endpoints at times in [0, T], ``(n,)``."""
        high = self._high
        t = timesteps.to(original_samples).reshape(-1, *[1] * (original_samples.ndim - 1))
        if bool((t < 0).any()) or bool((t > high * (1 + 1e-6)).any()):
            raise AllpetError(f"times from {float(t.min())} to {float(t.max())}; a bridge has those from 0 to {high}")
        share = t / high
        w = torch.where(share < AT_END, share, 1.0).square()
        return w * endpoint + (1 - w) * original_samples + t * (1 - w).sqrt() * noise
