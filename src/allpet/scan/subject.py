"""One simulated subject: body, uptake and acquisition, slice by slice.

Every random number comes from a stream keyed by (seed, region, split, subject) and what it is for, so a slice depends
neither on which others are made nor on the order. The body does not depend on the tracer: the same subject can be
scanned with another one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from allpet.scan.acquire import OVERSAMPLING, block_mean, project_slices
from allpet.scan.brain import random_brain
from allpet.scan.counting import Seen, count_slices
from allpet.scan.labelled import labelled_body, load_volume
from allpet.scan.neck import random_neck
from allpet.scan.phantom import Body, Lesion
from allpet.scan.plan import BODY, LESIONS, PATIENT, RATIO_RANGE, TRACER_NUMBER, UPTAKE, Plan
from allpet.scan.tracer_tables import TISSUES
from allpet.scan.tracers import TRACERS, Uptake, draw_uptake
from allpet.scan.trunk import random_trunk

SLICES_AT_ONCE = 4


def make_body(plan: Plan, subject: int) -> Body:
    """The subject's digital body, always the same for the same plan and number."""
    rng = plan.stream(subject, BODY)
    if plan.labels is not None:
        return labelled_body(rng, plan.slices, load_volume(*plan.labels), plan.spacing_mm)
    if plan.region == "brain":
        return random_brain(rng, plan.slices, plan.spacing_mm)
    if plan.region == "head-neck":
        return random_neck(rng, plan.slices, plan.spacing_mm)
    return random_trunk(rng, plan.slices, plan.region, plan.spacing_mm)


@dataclass(frozen=True)
class Patient:
    """What was injected, and where it went.

    Parameters
    ----------
    weight_kg : of the body. injected_mbq : by tracer, at its injection.
    tissues : mean uptake of every tissue by channel, kBq/mL: decay-corrected to the start of the frame, or for two
        tracers together the mean over the frame as it was. lesions : the same for rim and centre of every lesion.
    """

    weight_kg: float
    injected_mbq: tuple[float, ...]
    tissues: dict[str, np.ndarray]
    lesions: tuple[tuple[np.ndarray, np.ndarray], ...]


def make_patient(plan: Plan, subject: int, body: Body) -> Patient:
    """The subject's own kinetics and injections."""
    streams = [plan.stream(subject, PATIENT, TRACER_NUMBER[name]) for name in plan.tracers]
    dose = [
        TRACERS[name].draw_injected_mbq(rng, body.weight_kg) for name, rng in zip(plan.tracers, streams, strict=True)
    ]
    if plan.task == "separate":
        drawn = float(np.exp(streams[1].uniform(*np.log(RATIO_RANGE))))
        dose[1] = dose[0] * (drawn if plan.ratio is None else plan.ratio)
    tissues: list[np.ndarray] = []
    lesions: list[np.ndarray] = []
    for number, name in enumerate(plan.tracers):
        mine = [channel for channel in plan.channels if channel.tracer == number]
        later = plan.stagger_s if plan.task == "separate" and number else 0.0
        start, stop = (np.array([getattr(channel, end) for channel in mine]) - later for end in ("start_s", "stop_s"))
        begin, end = np.maximum(start, 0), np.maximum(stop, 1e-3)
        isotope = TRACERS[name].isotope
        if plan.task == "separate":  # nothing of a tracer before its injection
            left = isotope.mean_decay(begin, end) * np.clip((stop - begin) / (stop - start), 0, 1)
        else:
            left = isotope.decay(start)
        gain = dose[number] / body.weight_kg * left
        uptake = draw_uptake(plan.stream(subject, UPTAKE, TRACER_NUMBER[name]), name)
        tissues.append(uptake.suv(begin, end) * gain)
        foci = [_lesion(plan, subject, k, body.lesions[k], uptake, begin, end) for k in range(len(body.lesions))]
        lesions.append(np.reshape(foci, (len(foci), 2, len(mine))) * gain)
    by_tissue = dict(zip(TISSUES, np.concatenate(tissues, axis=1), strict=True))
    rims_and_cores = tuple((rim, core) for rim, core in np.concatenate(lesions, axis=2))
    return Patient(body.weight_kg, tuple(dose), by_tissue, rims_and_cores)


def _lesion(
    plan: Plan, subject: int, number: int, lesion: Lesion, uptake: Uptake, begin: np.ndarray, end: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """SUV of a lesion's rim and centre by frame; a quarter of the lesions hot with FDG lack another tracer's target."""
    rng = plan.stream(subject, LESIONS, number, TRACER_NUMBER[uptake.tracer])
    lacks = rng.random() < 0.25 and uptake.tracer != "FDG"
    kind = "cold" if lacks else lesion.kind
    rim, core = uptake.lesion(kind, lesion.host, rng), uptake.lesion("necrotic", lesion.host, rng)
    return rim.suv(begin, end), core.suv(begin, end)


def scan_subject(plan: Plan, subject: int, slices: Sequence[int]) -> dict[str, np.ndarray]:
    """Samples of some of a subject's slices: array name -> ``(slices, ...)``."""
    body = make_body(plan, subject)
    patient = make_patient(plan, subject, body)
    parts = [
        _scan_slices(plan, subject, body, patient, slices[first : first + SLICES_AT_ONCE])
        for first in range(0, len(slices), SLICES_AT_ONCE)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _scan_slices(
    plan: Plan, subject: int, body: Body, patient: Patient, slices: Sequence[int]
) -> dict[str, np.ndarray]:
    grid = plan.beam.image_grid(plan.beam.bins * OVERSAMPLING)
    seen = (grid.x[None, :] ** 2 + grid.y[:, None] ** 2 <= (plan.beam.fov_mm / 2) ** 2).astype(np.float32)
    drawn = [body.render(grid.x, grid.y, float(body.levels[k])) for k in slices]
    activity = np.stack([canvas.activity(patient.tissues, patient.lesions) for canvas in drawn], axis=1) * seen
    mu = np.stack([canvas.mu for canvas in drawn]) * seen
    middle = slice(OVERSAMPLING // 2, None, OVERSAMPLING)
    isotopes = [TRACERS[plan.tracers[channel.tracer]].isotope.name for channel in plan.channels]
    ideal, attenuation = project_slices(activity, mu, plan.beam, plan.fwhm_mm, isotopes)
    images = block_mean(activity, (-1, -2))
    inside = seen[middle, middle] > 0
    count = len(slices)
    out = {
        "mumap": block_mean(mu, (-1, -2)),
        "labels": np.stack([canvas.thin_labels(OVERSAMPLING) * inside for canvas in drawn]),
        "attenuation": attenuation,
        "subject": np.full(count, subject, np.int32),
        "level_mm": body.levels[list(slices)].astype(np.float32),
        "weight_kg": np.full(count, patient.weight_kg, np.float32),
        "injected_mbq": np.full(count, patient.injected_mbq[0], np.float32),
    }
    if plan.task is None:
        return {"sinogram": ideal[0], "image": images[0], **out}
    if len(plan.tracers) > 1:
        out["second_injected_mbq"] = np.full(count, patient.injected_mbq[1], np.float32)
    seen_by = Seen(ideal, attenuation, images, out["mumap"])
    return {**out, **count_slices(plan, subject, slices, seen_by)}
