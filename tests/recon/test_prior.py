"""Relative difference prior: gradient, curvature, and the minimum that SciPy finds."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from allpet.errors import AllpetError
from allpet.geometry import ImageGrid, ParallelBeam
from allpet.project import Projector
from allpet.recon import RelativeDifference, mlem, osem
from allpet.recon.fbp import field_of_view
from allpet.recon.prior import penalty, slope_and_curvature

BEAM, GRID = ParallelBeam(16, 12, 4.0), ImageGrid(12, 4.0)
A = Projector(BEAM, GRID)
SEEN = field_of_view(A, torch.float64)
PRIORS = [RelativeDifference(3.0, 2.0, 0.1), RelativeDifference(1.0, 0.0, 0.0), RelativeDifference(2.0, 0.5, 0.3, 1.5)]


def positive(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.05


def by_hand(x: np.ndarray, prior: RelativeDifference) -> float:
    """The usual double sum over a pixel and each neighbour with a factor 1/2, in loops."""
    total = 0.0
    for at in np.ndindex(x.shape):
        for step in np.ndindex(3, 3, 3):
            other = tuple(i + s - 1 for i, s in zip(at, step, strict=True))
            if other == at or not all(0 <= i < n for i, n in zip(other, x.shape, strict=True)):
                continue
            if prior.plane_pixels is None and other[0] != at[0]:
                continue
            distance = math.dist(np.multiply(at, (prior.plane_pixels or 1, 1, 1)),
                                 np.multiply(other, (prior.plane_pixels or 1, 1, 1)))  # fmt: skip
            a, b = x[at], x[other]
            total += 0.5 * (a - b) ** 2 / (a + b + prior.gamma * abs(a - b) + prior.epsilon) / distance
    return prior.beta * total


@pytest.mark.parametrize("prior", PRIORS)
def test_value_is_the_sum_over_neighbours(prior: RelativeDifference):
    x = positive((3, 5, 4))
    assert float(penalty(x, prior).sum()) == pytest.approx(by_hand(x.numpy(), prior), rel=1e-12)
    assert penalty(x, prior).shape == ((3,) if prior.axes == 2 else ())


@settings(max_examples=20)
@given(gamma=st.floats(0, 4), epsilon=st.floats(0, 1), plane=st.sampled_from([None, 0.5, 2.0]), seed=st.integers(0, 99))
def test_gradient_agrees_with_autograd_and_curvature_bounds_the_hessian(gamma, epsilon, plane, seed):
    prior = RelativeDifference(2.0, gamma, epsilon, plane)
    inside = torch.ones(5, 4, dtype=torch.float64)
    inside[0, 0] = inside[3, 2] = 0
    x = positive((3, 5, 4), seed).requires_grad_()
    (expected,) = torch.autograd.grad(penalty(x, prior, inside).sum(), x)
    gradient, curvature = slope_and_curvature(x.detach(), prior, inside)
    torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-11)
    hessian = torch.autograd.functional.hessian(lambda v: penalty(v, prior, inside).sum(), x.detach()).reshape(60, 60)
    assert float(torch.linalg.eigvalsh(hessian).min()) > -1e-9  # convex
    torch.testing.assert_close(curvature.flatten(), hessian.abs().sum(1), rtol=1e-8, atol=1e-9)


def problem(seed: int = 3, level: float = 4.0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    truth = torch.zeros(12, 12, dtype=torch.float64)
    truth[2:10, 3:9] = 2.0
    truth[4:7, 4:7] = 6.0
    efficiency = torch.from_numpy(rng.uniform(0.2, 0.6, BEAM.shape))
    efficiency[rng.random(BEAM.shape) < 0.15] = 0
    background = torch.full(BEAM.shape, 3.0, dtype=torch.float64)
    counts = torch.from_numpy(rng.poisson(level * efficiency * A(truth) + background)).double()
    return counts, efficiency, background


def objective(x: torch.Tensor, data: tuple[torch.Tensor, ...], prior: RelativeDifference) -> torch.Tensor:
    counts, efficiency, background = data
    expected = efficiency * A(x) + background
    return (expected - counts * expected.log()).sum() + penalty(x, prior, SEEN).sum()


@pytest.mark.parametrize("beta", [0.3, 3.0, 30.0])
def test_it_falls_at_every_iteration_to_the_minimum_that_scipy_finds(beta: float):
    data, prior = problem(), RelativeDifference(beta, 2.0, 0.2)

    def both(flat: np.ndarray) -> tuple[float, np.ndarray]:
        x = torch.from_numpy(flat).reshape(12, 12).requires_grad_()
        value = objective(x * SEEN, data, prior)
        value.backward()
        return float(value.detach()), x.grad.flatten().numpy()

    options = {"maxiter": 20000, "maxfun": 40000, "ftol": 1e-15, "gtol": 1e-9, "maxcor": 50}
    found = minimize(both, np.ones(144), jac=True, method="L-BFGS-B", bounds=[(1e-12, None)] * 144, options=options)
    values, image = [], None
    for _ in range(30):
        image = mlem(data[0], A, 1, *data[1:], start=image, prior=prior)
        values.append(float(objective(image, data, prior)))
    assert (np.diff(values) <= 1e-9).all()
    image = mlem(data[0], A, 1000, *data[1:], prior=prior)
    assert float(objective(image, data, prior)) == pytest.approx(found.fun, abs=1e-3)
    scipy_image = torch.from_numpy(found.x).reshape(12, 12) * SEEN
    assert float((image - scipy_image).abs().max()) < 5e-3 * float(scipy_image.max())


def test_relaxed_subsets_end_at_the_minimum_and_others_in_a_limit_cycle():
    data, prior = problem(), RelativeDifference(3.0, 2.0, 0.2)
    best = mlem(data[0], A, 500, *data[1:], prior=prior)
    error = {}
    for rate, iterations in ((0.0, 200), (0.1, 200), (0.1, 20)):
        image = osem(data[0], A, iterations, 4, *data[1:], prior=prior, relaxation=rate)
        error[rate, iterations] = float((image - best).norm() / best.norm())
    assert error[0.1, 200] < 2e-3 < 0.1 * error[0.0, 200]
    assert error[0.1, 20] < 0.02


def test_no_weight_is_em_and_planes_do_not_know_each_other():
    counts, efficiency, background = problem()
    free = mlem(counts, A, 5, efficiency, background)
    held = mlem(counts, A, 5, efficiency, background, prior=RelativeDifference(0.0))
    torch.testing.assert_close(held, free, rtol=1e-9, atol=1e-12)
    prior = RelativeDifference(2.0, epsilon=0.1)
    other = torch.poisson(counts * 3, generator=torch.Generator().manual_seed(0))
    for method in (lambda y, *k: mlem(y, A, 20, *k, prior=prior), lambda y, *k: osem(y, A, 5, 4, *k, prior=prior)):
        both = method(torch.stack([counts, other]), efficiency.expand(2, -1, -1), background.expand(2, -1, -1))
        torch.testing.assert_close(both[0], method(counts, efficiency, background), rtol=1e-7, atol=1e-9)


def test_a_prior_across_planes_falls_and_ties_planes_together():
    counts, efficiency, background = problem()
    generator = torch.Generator().manual_seed(1)
    stack = [torch.poisson(counts, generator=generator) for _ in range(4)]
    data = torch.stack(stack), efficiency.expand(4, -1, -1), background.expand(4, -1, -1)
    spread = {}
    for plane in (None, 1.0):
        prior = RelativeDifference(2.0, 2.0, 0.2, plane)
        image, values = None, []
        for _ in range(30):
            image = mlem(data[0], A, 1, *data[1:], start=image, prior=prior)
            values.append(float(objective(image, data, prior)))
        assert (np.diff(values) <= 1e-9).all()
        spread[plane] = float(image.std(0).mean())
    assert spread[1.0] < 0.8 * spread[None]


def test_the_same_weight_smooths_alike_at_any_count_level():
    counts, efficiency, background = problem()
    few = mlem(counts, A, 500, efficiency, background, prior=RelativeDifference(2.0, 2.0, 0.2))
    many = mlem(counts * 100, A, 500, efficiency, background * 100, prior=RelativeDifference(2.0, 2.0, 20.0))
    torch.testing.assert_close(many / 100, few, rtol=0, atol=0.01 * float(few.max()))


@pytest.mark.parametrize("name, value", [("beta", -1.0), ("beta", float("nan")), ("gamma", -1.0),
                                         ("epsilon", float("inf")), ("plane_pixels", 0.0)])  # fmt: skip
def test_bad_weights_are_refused(name: str, value: float):
    with pytest.raises(AllpetError, match="of the prior is"):
        RelativeDifference(**{"beta": 1.0, name: value})


def test_a_bad_relaxation_is_refused():
    with pytest.raises(AllpetError, match="relaxation is -1"):
        osem(torch.ones(BEAM.shape), A, relaxation=-1)
