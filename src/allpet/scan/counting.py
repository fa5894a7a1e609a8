"""From projections to counts: background, efficiencies, Poisson noise, and what each task's input and truth are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from allpet.scan.acquire import Coincidences, Expected, draw_counts, expected_counts, smooth_background
from allpet.scan.plan import DOSE_RANGE, DYNAMIC_FRAMES, GENERIC, SCANNER, SLICES, Plan
from allpet.scan.scanners import scanner
from allpet.scan.tracers import TRACERS

Rows = dict[str, np.ndarray]


@dataclass(frozen=True)
class Seen:
    """Some slices of a subject without noise.

    Parameters
    ----------
    ideal : projections of every channel, ``(channel, n, views, bins)`` in kBq/mL*mm.
    attenuation : factors ``(n, views, bins)``. images : activity of every channel, ``(channel, n, bins, bins)`` in
        kBq/mL. mumap : ``(n, bins, bins)`` in 1/mm.
    """

    ideal: np.ndarray
    attenuation: np.ndarray
    images: np.ndarray
    mumap: np.ndarray


def count_slices(plan: Plan, subject: int, slices: Sequence[int], seen: Seen) -> Rows:
    """Counts of some slices: array name -> ``(n, ...)``; see :func:`allpet.scan.simulate.simulate` for the names."""
    trues = _input(plan, seen.ideal) * seen.attenuation
    streams = [plan.stream(subject, SLICES, k) for k in slices]
    scatter, randoms = _background(plan, seen, trues, streams)
    normalisation = None
    if plan.preset is not None:
        from allpet.scan.normalise import draw_normalisation

        normalisation = draw_normalisation(plan.stream(subject, SCANNER), plan.beam, plan.preset)
    rows: list[Rows] = []
    for i, rng in enumerate(streams):
        drawn = float(np.exp(rng.uniform(*np.log(DOSE_RANGE))))
        counts = float(np.exp(rng.uniform(*np.log(plan.counts))))
        expected = expected_counts(Coincidences(trues[i], scatter[i], randoms[i]), counts, normalisation)
        full = plan.task != "low-dose"
        fraction = plan.dose_fraction or (1.0 if full else drawn)
        one = Seen(seen.ideal[:, i], seen.attenuation[i], seen.images[:, i], seen.mumap[i])
        row: Rows = {
            "observed": _observe(plan, expected, fraction, rng),
            "background": expected.background,
            "randoms": expected.randoms,
            "counts_per_unit": np.asarray(expected.counts_per_unit * _branching(plan)[0], np.float32),
            "dose_fraction": np.asarray(fraction, np.float32),
        }
        if normalisation is not None:
            row["normalisation"] = normalisation
        rows.append(row | _truth(plan, one, expected, normalisation, rng))
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def _branching(plan: Plan) -> np.ndarray:
    """Positrons per decay of each channel."""
    return np.array([TRACERS[plan.tracers[c.tracer]].isotope.branching for c in plan.channels], np.float32)


def _input(plan: Plan, channels: np.ndarray) -> np.ndarray:
    """What the task's input is made from: the first frame, of both tracers where they are mixed; per positron."""
    share = _branching(plan)
    if plan.task != "separate":
        return np.asarray(channels[0] * share[0])
    second = DYNAMIC_FRAMES + 1
    return np.asarray(channels[0] * share[0] + channels[second] * share[second])


def _background(
    plan: Plan, seen: Seen, trues: np.ndarray, streams: Sequence[np.random.Generator]
) -> tuple[np.ndarray, np.ndarray]:
    """Scatter and randoms of every slice in the unit of the trues."""
    # one draw each whether it is used or not, so that counts do not depend on how the background is made
    shares = [(rng.uniform(0.15, 0.25), rng.uniform(0.25, 0.40), rng.uniform(0.05, 0.35)) for rng in streams]
    if plan.background == "simulated":
        from allpet.scan.singles import background_estimate

        activity = _input(plan, seen.images)
        return background_estimate(activity, seen.mumap, plan.beam, plan.preset or scanner(GENERIC))
    brain = plan.region == "brain"
    pairs = [
        smooth_background(line, plan.beam, head if brain else trunk, randoms)
        for line, (head, trunk, randoms) in zip(trues, shares, strict=True)
    ]
    return np.stack([scatter for scatter, _ in pairs]), np.stack([randoms for _, randoms in pairs])


def _observe(plan: Plan, expected: Expected, fraction: float, rng: np.random.Generator) -> np.ndarray:
    """Counts at a share of the full dose: a shorter time, or less activity, which makes fewer randoms yet."""
    if plan.thinning == "time":
        return draw_counts(expected.prompts, fraction, rng)
    single = np.maximum(expected.prompts - expected.randoms, 0)
    return draw_counts(single, fraction, rng) + draw_counts(expected.randoms, fraction**2, rng)


def _truth(
    plan: Plan, seen: Seen, expected: Expected, normalisation: np.ndarray | None, rng: np.random.Generator
) -> Rows:
    """What the task should give, in counts at the full dose, and the images that belong to it."""
    efficiency = np.float32(expected.counts_per_unit) * (1 if normalisation is None else normalisation)
    share = _branching(plan)
    if plan.task == "low-dose":
        return {"sinogram": expected.prompts, "image": seen.images[0]}
    if plan.task == "attenuation":
        return {"sinogram": efficiency * share[0] * seen.ideal[0], "image": seen.images[0]}
    detected = efficiency * seen.attenuation
    if plan.task in ("delayed", "convert"):
        target = {"sinogram": detected * share[1] * seen.ideal[1], "image": seen.images[1]}
        return {**target, "image_observed": seen.images[0], "frames": seen.ideal}
    second = DYNAMIC_FRAMES + 1
    frames, background = _dynamic(plan, seen, expected, detected, rng)
    return {
        "sinogram": detected * share[0] * seen.ideal[0],
        "second": detected * share[second] * seen.ideal[second],
        "image": seen.images[0],
        "image_second": seen.images[second],
        "frames": frames,
        "frames_background": background,
    }


def _dynamic(
    plan: Plan, seen: Seen, expected: Expected, detected: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Counts of every dynamic frame of two tracers, and their expected background.

    Scatter follows the trues of the frame in total and the static frame in shape, randoms the square of the activity.
    """
    share, half = _branching(plan), DYNAMIC_FRAMES + 1
    static = plan.channels[0]
    trues = [
        detected * (share[k] * seen.ideal[k] + share[half + k] * seen.ideal[half + k])
        for k in range(DYNAMIC_FRAMES + 1)
    ]
    scatter = expected.background - expected.randoms
    frames, background = [], []
    for k in range(1, half):
        channel = plan.channels[k]
        length = (channel.stop_s - channel.start_s) / (static.stop_s - static.start_s)
        activity = float(trues[k].sum() / max(float(trues[0].sum()), 1e-30))
        extra = np.asarray(length * (activity * scatter + activity**2 * expected.randoms), np.float32)
        frames.append(draw_counts(length * trues[k] + extra, 1.0, rng))
        background.append(extra)
    return np.stack(frames), np.stack(background)
