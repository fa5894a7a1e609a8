"""The bridge's scheduler: its ends, its contract, its rule against closed forms."""

import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from allpet.diffusion import SIGMA_MAX, BridgeScheduler
from allpet.errors import AllpetError


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_bridge_has_both_ends():
    solver = BridgeScheduler(sigma_max=2.7)
    x0, y, noise = (normal(3, 4, 2, seed=k) for k in range(3))
    assert torch.equal(solver.add_noise(x0, y, noise, torch.full((3,), 2.7)), y)
    assert torch.equal(solver.add_noise(x0, y, noise, torch.zeros(3)), x0)


@settings(max_examples=50)
@given(st.floats(0.05, 80.0))
def test_its_own_first_timestep_is_the_end_however_it_rounds(high):
    solver = BridgeScheduler(sigma_min=1e-3, sigma_max=high)
    solver.set_timesteps(4)
    x0, y, noise = (normal(1, 8, seed=k) for k in range(3))
    assert torch.equal(solver.add_noise(x0, y, noise, solver.timesteps[:1]), y)
    assert math.isinf(solver.effective_sigma(float(solver.timesteps[0])))


@settings(max_examples=50)
@given(st.floats(0.01, 0.99), st.floats(0.05, 80.0))
def test_between_them_it_has_the_mean_and_variance_of_the_paper(share, high):
    t = share * high
    solver = BridgeScheduler(sigma_min=1e-3, sigma_max=high)
    x0, y, noise = torch.tensor([[3.0]]), torch.tensor([[-1.0]]), torch.tensor([[1.0]])
    mean = solver.add_noise(x0, y, 0 * noise, torch.tensor([t]))
    drawn = solver.add_noise(x0, y, noise, torch.tensor([t]))
    assert float(mean) == pytest.approx(share**2 * -1 + (1 - share**2) * 3, rel=1e-4, abs=1e-4)
    assert float(drawn - mean) == pytest.approx(t * math.sqrt(1 - share**2), rel=1e-3, abs=1e-5)
    assert solver.effective_sigma(t) == pytest.approx(1 / math.sqrt(1 / t**2 - 1 / high**2), rel=1e-6)


def test_its_options_survive_the_disk(tmp_path):
    solver = BridgeScheduler(sigma_min=0.05, sigma_max=4.0, rho=7.0, eta=0.3, solver_order=1)
    solver.save_pretrained(tmp_path)
    again = BridgeScheduler.from_pretrained(tmp_path)
    assert json.loads((tmp_path / "scheduler_config.json").read_text())["_class_name"] == "BridgeScheduler"
    told, kept = ({k: v for k, v in s.config.items() if not k.startswith("_")} for s in (solver, again))
    assert told == kept and kept["sigma_max"] == 4.0 and kept["eta"] == 0.3
    x, y = normal(2, 3), normal(2, 3, seed=1)
    for one in (solver, again):
        one.set_timesteps(5)
    assert torch.equal(solver.timesteps, again.timesteps)
    for t in solver.timesteps:
        noise = normal(2, 3, seed=2)
        here = solver.step(0.5 * x, t, x, y, noise=noise).prev_sample
        assert torch.equal(here, again.step(0.5 * x, t, x, y, noise=noise).prev_sample)
        x = here


def test_it_keeps_the_contract():
    solver = BridgeScheduler(num_train_timesteps=30)
    assert len(solver) == 30 == len(solver.timesteps) and solver.step_index is None
    solver.set_timesteps(4)
    assert solver.timesteps.tolist() == pytest.approx(solver.sigmas.tolist()[:-1]) and float(solver.sigmas[-1]) == 0
    assert bool((solver.sigmas.diff() < 0).all()) and float(solver.timesteps[0]) == SIGMA_MAX
    x = normal(2, 3)
    assert solver.scale_model_input(x, solver.timesteps[0]) is x
    (moved,) = solver.step(x, solver.timesteps[0], x, x, noise=x, return_dict=False)
    assert moved.shape == x.shape and solver.step_index == 1


def test_it_can_begin_in_the_middle():
    whole, part = BridgeScheduler(solver_order=1), BridgeScheduler(solver_order=1)
    x, y = normal(2, 3), normal(2, 3, seed=1)
    for solver in (whole, part):
        solver.set_timesteps(6)
    part.set_begin_index(3)
    by_time = whole.step(0.5 * x, whole.timesteps[3], x, y).prev_sample
    assert torch.equal(part.step(0.5 * x, part.timesteps[3], x, y).prev_sample, by_time)


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
def test_with_the_truth_as_estimate_every_step_stays_on_the_bridge(eta):
    """Known x0: the state at each time has the bridge's mean and variance, whatever eta; it ends in x0."""
    solver = BridgeScheduler(sigma_max=2.0, eta=eta)
    solver.set_timesteps(6)
    n = 20000
    x0, y = torch.full((n,), 0.7), torch.full((n,), -1.2)
    x = y
    for k, (t, after) in enumerate(zip(solver.timesteps, solver.sigmas[1:].tolist(), strict=True)):
        x = solver.step(x0, t, x, y, noise=normal(n, seed=k)).prev_sample
        w = after**2 / 4
        deviation = after * math.sqrt(1 - w)
        assert float(x.mean()) == pytest.approx(0.7 * (1 - w) - 1.2 * w, abs=4 * deviation / math.sqrt(n) + 1e-6)
        assert float(x.std()) == pytest.approx(deviation, rel=4 / math.sqrt(2 * n), abs=1e-6)
    assert torch.equal(x, x0)


def test_at_eta_1_a_step_is_the_bridges_own_posterior():
    """Given x_s and x0 the bridge forgets y: mean x0 + (t/s)^2 (x_s - x0), variance t^2 (1 - t^2/s^2)."""
    solver = BridgeScheduler(eta=1.0, solver_order=1)
    solver.set_timesteps(8)
    s, t = solver.sigmas[3:5].double().tolist()
    x, x0, y, noise = (normal(50, seed=k) for k in range(4))
    moved = solver.step(x0, solver.timesteps[3], x, y, noise=noise).prev_sample
    expected = x0 + (t / s) ** 2 * (x - x0) + t * math.sqrt(1 - (t / s) ** 2) * noise
    assert torch.allclose(moved, expected, atol=1e-4)


def test_noise_comes_from_the_generator_if_not_given():
    def run(seed):
        solver = BridgeScheduler(eta=1.0)
        solver.set_timesteps(3)
        x, y, rng = torch.ones(2, 3), torch.ones(2, 3), torch.Generator().manual_seed(seed)
        for t in solver.timesteps[:2]:
            x = solver.step(0.5 * x, t, x, y, generator=rng).prev_sample
        return x

    assert torch.equal(run(0), run(0)) and not torch.isclose(run(0), run(1)).any()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (dict(sigma_min=0.0), "0 < sigma_min < sigma_max"),
        (dict(sigma_min=3.0, sigma_max=2.0), "0 < sigma_min < sigma_max"),
        (dict(eta=1.5), "eta is 1.5"),
        (dict(solver_order=3), "solver_order is 3"),
        (dict(rho=0.0), "rho is 0.0"),
        (dict(num_train_timesteps=0), "num_train_timesteps is 0"),
    ],
)
def test_bad_options_are_said(options, says):
    with pytest.raises(AllpetError, match=says):
        BridgeScheduler(**options)


def test_misuse_is_said():
    solver, x = BridgeScheduler(), torch.ones(2, 3)
    with pytest.raises(AllpetError, match="call set_timesteps first"):
        solver.step(x, SIGMA_MAX, x, x)
    with pytest.raises(AllpetError, match="at least 1"):
        solver.set_timesteps(0)
    with pytest.raises(AllpetError, match="from 0 to 40"):
        solver.add_noise(x, x, x, torch.tensor([1.0, 41.0]))
    solver.set_timesteps(1)
    with pytest.raises(AllpetError, match="none of the scheduler's"):
        solver.step(x, 3.0, x, x)
    solver.step(x, SIGMA_MAX, x, x)
    with pytest.raises(AllpetError, match="has reached t = 0"):
        solver.step(x, SIGMA_MAX, x, x)
