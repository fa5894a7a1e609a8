"""Adapt a task to a user's own pairs: a low-rank adapter on the frozen translator."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import torch

from allpet.errors import AllpetError
from allpet.io.files import replacing
from allpet.io.store import open_store
from allpet.mask.region import STRONGEST
from allpet.model.adapter import adaptable, adapter_of, with_adapter
from allpet.model.allpet import CONFIG, AllPET, adapter_file
from allpet.model.sealed import config_text, read_config, weights_bytes
from allpet.model.translator import Translator
from allpet.scan.core import Scan
from allpet.task.temper import image_of, usual
from allpet.train.pairs import TASKS, PairSet
from allpet.train.tasks import Tasks
from allpet.uncertainty import image_factor

PATIENCE = 12
"""Reports without a lower held-out loss after which adapting ends."""
HELD = 0.2
"""Share of the subjects that are kept apart to see when to stop."""
TRUSTED = 10.0
"""Factor on standard deviations above which they say nothing; chosen: the shipped tasks' are 1.2 to 1.5."""


def adapt(
    task: str,
    pairs: str | Path | PairSet | Sequence[str | Path],
    out: str | Path,
    max_minutes: float | None = 5.0,
    max_steps: int | None = None,
    model: str | Path | AllPET | None = None,
    seed: int = 0,
    progress: bool = False,
    attention: float = 0.0,
    **options: Any,
) -> AllPET:
    """Fit an adapter and write a model folder that refers to the base by its hash.

    Parameters
    ----------
    task : name in :data:`allpet.task.TASKS`. pairs : stores of that task's pairs (see ``allpet simulate --task``),
        scans that they are made of (see :func:`pairs_of_scans`), or restored pairs. out : folder; the
        adapters of other tasks in it stay. max_minutes, max_steps : limits.
    model : base, default the shipped weights. attention : strength with which hot and cold regions of the truth weigh
        more in the loss, 0 or more (see :func:`allpet.train.tasks.translation_loss`). options : of
        :func:`allpet.train.train`.

    Returns
    -------
    the adapted model.

    Raises
    ------
    AllpetError : unknown task, pairs of another task or too few, a folder that was adapted from another base.
    """
    from allpet.task import TASKS
    from allpet.train.loop import train

    if task not in TASKS:
        raise AllpetError(f"task '{task}' is unknown; known: {', '.join(TASKS)}")
    if not 0 <= attention <= STRONGEST:
        raise AllpetError(f"attention is {attention}; it must be 0 to {STRONGEST:g}")
    strength = attention
    base = model if isinstance(model, AllPET) else AllPET.from_pretrained(model)
    if base.adapted:
        raise AllpetError(
            f"{base.source}: is adapted ({', '.join(base.adapted)}); adapt from its base, with this as --out to add"
        )
    start = base.translator_of(task)
    if isinstance(pairs, PairSet):
        data = pairs
    else:
        paths = [pairs] if isinstance(pairs, str | Path) else list(pairs)
        if not paths:
            raise AllpetError("no pairs are named; give at least one store (.zarr) or scan")
        data = _read_pairs(task, paths, base, seed)
    others = sorted(set(data.tasks) - {task})
    if others:
        raise AllpetError(f"these are pairs of {', '.join(others)}; {task} needs its own")
    if len(data.subject.unique()) < 2:
        raise AllpetError(f"{len(data)} pairs of one subject; at least two subjects are needed, one to check with")
    if base.source == "memory":
        raise AllpetError("the adapter refers to its base by a path: save the base first, and give its folder")
    folder = Path(out)
    _config(base, folder)

    class Adapting(Tasks):
        name = f"adapt-{task}"
        rate, held, batch = 3e-3, HELD, min(16, max(4, len(data)))
        attention = strength
        options: ClassVar[dict[str, Any]] = {"attention": attention, "base": base.base_hash}

        def __init__(self, data: PairSet, folder: Path, seed: int) -> None:
            torch.manual_seed(seed)
            super().__init__(data, folder, seed, adaptable(start))
            if not len(self.kept):
                last = data.subject == data.subject.unique()[-1]
                self.rows, self.kept = torch.nonzero(~last).flatten(), data[torch.nonzero(last).flatten()]
            with torch.no_grad():
                before = self.held_out(self.network, torch.Generator())
            self.before = before if before is not None and math.isfinite(before) else None

        def optimizer(self, network: Translator) -> torch.optim.Optimizer:
            return torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=self.rate)

        def export(self, network: Translator, record: dict[str, Any]) -> None:
            facts = dict(pairs=len(data), subjects=len(data.subject.unique()), fingerprint=data.fingerprint())
            merged = with_adapter(start, adapter_of(network))
            factor, name = image_factor(merged, self.kept), image_of(task)
            sinogram = usual(base, task, "sinogram") * factor / usual(base, task, name)
            factors = {name: factor, "sinogram": sinogram}  # they err alike: a sinogram is that of the image
            known = {"data": facts, "attention": attention, "held_out_before": self.before}
            known["kept"] = len(self.kept.subject.unique())
            _write(base, task, adapter_of(network), record | known | {"calibration": factors}, folder)

    train(data, folder, Adapting, max_minutes, max_steps, seed, progress, patience=PATIENCE, **options)
    return AllPET.from_pretrained(folder)


def gain(folder: str | Path, task: str) -> list[str]:
    """What adapting did to the subjects kept apart, in words for a person; a warning where it is not to be trusted."""
    facts = read_config(Path(folder) / CONFIG)[0]["adapters"][task]
    before, after = facts.get("held_out_before"), facts.get("held_out")
    factor = facts["calibration"].get(image_of(task), facts["calibration"].get("image"))
    if before is None or after is None:
        return []
    kept = facts["kept"]
    lines = [
        f"held-out loss {before:.4g} before, {after:.4g} after (lower is better), on {kept} "
        f"subject{'' if kept == 1 else 's'} kept apart, whose truth has noise if it was made of a scan; "
        f"standard deviations are multiplied by {factor:.3g}"
    ]
    if after >= before:
        lines.append("WARNING: adapting gained nothing on the subjects kept apart; use the base model")
    if factor > TRUSTED:
        lines.append(
            f"WARNING: the network's standard deviations had to be multiplied by {factor:.3g}: it does not "
            "fit these scans (few counts or subjects, missing factors?); do not rely on this model"
        )
    return lines


def _read_pairs(task: str, paths: Sequence[str | Path], base: AllPET, seed: int) -> PairSet:
    """Stores of pairs, and scans that pairs are made of (see :func:`pairs_of_scans`)."""
    from allpet.io import kind_of, read
    from allpet.terminal import as_scan

    restorer = base.need("restorer")
    stores = [path for path in paths if kind_of(path) == "dataset" and _holds_pairs(path)]
    scans = [Path(path) for path in paths if path not in stores]
    sets = [PairSet.load(stores, restorer)] if stores else []
    if scans:
        found = pairs_of_scans(task, [as_scan(path, read(path)) for path in scans], base, seed, str(scans[0].parent))
        sets.append(replace(found, subject=found.subject + 1_000_000 * len(stores)))
    return PairSet.join(sets)


def _holds_pairs(path: str | Path) -> bool:
    """Whether a store holds pairs of a task; one that does not may hold scans."""
    return open_store(path).attributes.get("prompt", {}).get("task") in TASKS


def pairs_of_scans(task: str, scans: Sequence[Scan], base: AllPET, seed: int = 0, name: str = "the scans") -> PairSet:
    """Pairs made of a user's own scans (see :func:`allpet.train.own.own_sets`), restored; every scan is a subject."""
    from allpet.train.own import own_sets

    sets = own_sets(task, scans, base.beam.shape, seed)
    return PairSet.join([PairSet.from_dataset(data, base.need("restorer"), name) for data in sets])


def _config(base: AllPET, folder: Path) -> dict[str, Any]:
    """The folder's config: what it is adapted from, and what is there already.

    Raises
    ------
    AllpetError : the folder holds another model, or adapters of another base.
    """
    if not (folder / CONFIG).is_file():
        known = base.config.get("base", {"path": "shipped" if base.shipped else str(Path(base.source).resolve())})
        return {"base": {**known, "hash": base.base_hash}, "adapters": {}}
    old = read_config(folder / CONFIG)[0]
    if "adapters" not in old:
        raise AllpetError(f"{folder}: holds a whole model; use another folder for adapters")
    if old["base"]["hash"] != base.base_hash:
        raise AllpetError(f"{folder}: was adapted from another base; use another folder")
    return old


def _write(
    base: AllPET,
    task: str,
    adapter: dict[str, torch.Tensor],
    record: dict[str, Any],
    folder: Path,
) -> None:
    """Adapter, config and card, every file in one step."""
    config = _config(base, folder)
    known = config["base"]
    config["adapters"][task] = record
    card = [
        f"# Adapted from {known['path']} ({known['hash']})",
        "",
        *(
            f"- **{name}**: {facts['data']['pairs']} pairs of {facts['data']['subjects']} subjects, "
            f"{facts['steps']} steps, held-out loss {facts.get('held_out')}"
            for name, facts in config["adapters"].items()
        ),
        "",
        "For research only; judge it on subjects that are not among these pairs.",
        "",
    ]
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / adapter_file(task)) as (part,):
        part.write_bytes(weights_bytes({k: v.half() for k, v in adapter.items()}))
    with replacing(folder / "README.md", folder / CONFIG) as (text, facts):
        text.write_text("\n".join(card), encoding="utf-8")
        facts.write_text(config_text(config), encoding="utf-8")
