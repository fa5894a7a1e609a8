"""A task on a dataset store, a block of planes at a time: memory for a block, whatever the store's size.

The noise of a plane goes by its number, and planes do not know of each other; so the result is that of the task on the
whole store. What the samples of the whole store have in common (a dose fraction, a duration) is found first, for a
block alone may have more in common.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from allpet.dist.model import Weights
from allpet.errors import AllpetError
from allpet.io.build import block_for, build_stores
from allpet.io.hashes import KEY, digest
from allpet.io.job import Job
from allpet.io.mapped import Store, open_store
from allpet.io.remote import Place, place_of
from allpet.io.samples import as_scan, common_facts
from allpet.save import as_dataset
from allpet.scan.core import Image, Scan

if TYPE_CHECKING:
    from allpet.model import AllPET
    from allpet.model.allpet import Result

IMAGES = {"-mumap": "mumap", "-retention": "retention", "-image": "image", "-image-std": "image_std"}
"""Suffix of an image that goes with a result -> the array of the result's store that it becomes."""


@dataclass(frozen=True)
class Work:
    """What is done to which store: a task with its options, and what the samples have in common.

    Parameters
    ----------
    source : the store. identity : what a worker has to find there. options : of the task, plain JSON.
    """

    source: Place
    identity: str
    task: str
    seed: int
    facts: dict[str, Any]
    options: dict[str, Any] = field(default_factory=dict)

    def result(self, model: AllPET, store: Store, first: int, stop: int) -> Result:
        """The task's result for samples `first` to `stop` - 1."""
        scan = replace(as_scan(store, slice(first, stop), self.facts), neighbours=False)
        return model.apply(self.task, scan, seed=self.seed, first_plane=first, **self.options)


def apply_stores(
    source: Place,
    out: Place,
    task: str,
    model: AllPET,
    seed: int,
    options: dict[str, Any],
    extra: dict[str, Any],
    workers: int | None = 1,
    scheduler: str | None = None,
    progress: bool = False,
) -> tuple[list[Place], list[str]]:
    """Run a task on a store; killed at any moment, the same call goes on.

    Sinograms that go with the result (``-std``, ``-second``) become stores beside it, as the plain command has them;
    images (``-mumap``, ``-retention``, ``-image``) become arrays of the result's store, see :data:`IMAGES`.

    Parameters
    ----------
    source, out : stores, paths or URLs. options : of the task. extra : more attributes (provenance, seed).
    workers, scheduler : as :func:`allpet.io.build.build_store`.

    Returns
    -------
    the stores, the result first; and the task's notes, of all blocks.

    Raises
    ------
    AllpetError : sinograms of another size than the model's, whose planes are worked on together; as the task and
        :func:`allpet.io.build.build_store`.
    """
    from allpet.task.planes import PLANES

    store = open_store(source)
    if store.beam.shape != model.beam.shape:
        found, own = ("{} x {}".format(*shape) for shape in (store.beam.shape, model.beam.shape))
        raise AllpetError(
            f"{source}: has sinograms of {found}, the model works on {own}; what part of the field of view it takes is "
            "then found from all planes together, so leave out --workers and --scheduler"
        )
    if place_of(source).absolute() == place_of(out).absolute():
        raise AllpetError(f"{out}: is the input itself; name another output")
    work = Work(
        store.path.absolute(), identity_of(store), task, seed, common_facts(store, len(store), store.block), options
    )
    with_first = work.result(model, store, 0, 1)  # whatever is wrong with the options is found here
    scans, images = _outputs(with_first)
    facts = {side: as_dataset(scan, place_of(out), extra).attributes for side, scan in scans.items()}
    for name, image in images.items():
        facts[""]["units"][name] = image.unit
    n, sides = len(store), tuple(side for side in scans if side)
    make = partial(make_rows, Weights.of(model), work)
    job = Job(place_of(out).absolute(), n, store.beam, make, block_for(n, 2 * PLANES), sides)
    key = {"apply": task, "source": work.identity, "seed": seed, "model": model.hash, **options}
    markers = build_stores(job, facts, workers, progress, resume_key=key, scheduler=scheduler)
    notes = [note for marker in markers for note in marker.get("facts", {}).get("notes", ())]
    if store.attributes.get("acquisition", {}).get("neighbours"):
        notes.append("planes are restored one by one, for a block does not know those beside it")
    return [job.outputs[""], *(job.outputs[side] for side in sides)], merged(notes)


def make_rows(weights: Weights, work: Work, first: int, stop: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Samples `first` to `stop` - 1: array name -> rows, as :class:`allpet.io.job.Job` has them, and the notes."""
    result = work.result(weights.load(), _open(work.source, work.identity), first, stop)
    scans, images = _outputs(result)
    rows = {name: image.array.numpy() for name, image in images.items()}
    for side, scan in scans.items():
        arrays = as_dataset(scan, work.source, {}).arrays  # type: ignore[arg-type]
        rows |= {f"{side}/{name}" if side else name: values for name, values in arrays.items()}
    return rows, {"notes": list(result.notes)}


def merged(notes: Sequence[str]) -> list[str]:
    """Notes of many blocks: one of those that differ in numbers alone, with how many there are like it."""
    alike: dict[str, list[str]] = {}
    for note in notes:
        alike.setdefault(re.sub(r"\d+(\.\d+)?", "0", note), []).append(note)
    return [
        own[0] if len({*own}) == 1 else f"{own[0]} (so in {len(own)} blocks, this is one)" for own in alike.values()
    ]


def _outputs(result: Result) -> tuple[dict[str, Scan], dict[str, Image]]:
    """Scans by the suffix of their store, and images by the name of their array."""
    values = {"": result.expected, "-std": result.std, **result.extras}
    scans = {side: value for side, value in values.items() if isinstance(value, Scan)}
    return scans, {IMAGES[side]: value for side, value in values.items() if isinstance(value, Image)}


@lru_cache(maxsize=1)
def _open(source: Place, identity: str) -> Store:
    """The store in a worker.

    Raises
    ------
    AllpetError : it is another one there.
    """
    store = open_store(source)
    if identity_of(store) != identity:
        raise AllpetError(f"{source}: is another store for a worker, or was changed meanwhile; give all the same one")
    return store


def identity_of(store: Store) -> str:
    """What stands for the content of a store: the hash of its attributes, which name those of all arrays."""
    known = store.attributes.get(KEY)
    return str(known["attributes"]) if known else digest((store.path / "zarr.json").read_bytes())
