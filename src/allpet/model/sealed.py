"""Weights and configs that carry their own SHA-256: a file that was changed is refused, one without a hash is accepted.

A safetensors file has it as ``sha256`` in its metadata: of every tensor's name, type, shape and bytes and of the other
metadata. A ``config.json`` has it as the key ``sha256``: of all else in it. Each file speaks of itself alone, so that a
process killed between two files of a run folder leaves a folder that loads. A hash tells that nothing has changed, not
who wrote it.

:func:`seal` gives the files of a model folder their hashes and writes, beside the folder, ``digests.json``: the hash of
every whole file in it, which ships with the package.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from allpet.errors import AllpetError
from allpet.io.files import replacing

KEY = "sha256"
DIGESTS = "digests.json"


@dataclass(frozen=True)
class Weights:
    """What a safetensors file holds: tensors, other metadata, and whether it had a hash (which then was right)."""

    tensors: dict[str, torch.Tensor]
    facts: dict[str, str]
    hashed: bool


def _digest(tensors: Mapping[str, torch.Tensor], facts: Mapping[str, str]) -> str:
    out = hashlib.sha256(json.dumps(dict(facts), sort_keys=True).encode())
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        out.update(f"\0{name}\0{value.dtype}\0{tuple(value.shape)}\0".encode())
        out.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return out.hexdigest()


def with_hash(tensors: Mapping[str, torch.Tensor], facts: Mapping[str, str] | None = None) -> dict[str, str]:
    """The metadata of a safetensors file: `facts` and the hash."""
    plain = dict(facts or {})
    return {**plain, KEY: _digest(tensors, plain)}


def weights_bytes(tensors: Mapping[str, torch.Tensor]) -> bytes:
    """A safetensors file with its hash."""
    from safetensors.torch import save

    kept = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    return save(kept, with_hash(kept))


def read_weights(path: Path) -> Weights:
    """Read a safetensors file and compare it with its hash.

    Raises
    ------
    AllpetError : it is not what was written. SafetensorError, OSError : it cannot be read at all.
    """
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        facts = dict(file.metadata() or {})
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    wanted = facts.pop(KEY, None)
    if wanted is not None and wanted != _digest(tensors, facts):
        raise changed(path)
    return Weights(tensors, facts, wanted is not None)


def config_text(config: Mapping[str, Any]) -> str:
    """A config with its hash, as JSON."""
    plain = json.loads(json.dumps({name: value for name, value in config.items() if name != KEY}))
    return json.dumps({**plain, KEY: _of_config(plain)}, indent=1)


def read_config(path: Path) -> tuple[dict[str, Any], bool]:
    """A config without its hash, and whether it had one.

    Raises
    ------
    AllpetError : it is not what was written, or no JSON object.
    """
    try:
        config: Any = json.loads(path.read_text(encoding="utf-8"))
        wanted = config.pop(KEY, None)
    except (OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
        raise AllpetError(f"{path}: cannot be read ({str(error).splitlines()[0][:200]})") from None
    if wanted is not None and wanted != _of_config(config):
        raise changed(path)
    return config, wanted is not None


def _of_config(plain: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def changed(path: Path) -> AllpetError:
    """What is said of a file that does not match its hash."""
    return AllpetError(
        f"{path}: does not match its sha256, it was changed after it was written; use another copy or train it again"
    )


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file in a model folder, by name."""
    files = sorted(file for file in folder.iterdir() if file.is_file())
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def not_as_listed(folder: Path) -> list[str]:
    """Files of a folder that are not what ``digests.json`` beside it says: changed, missing or added."""
    known: dict[str, str] = json.loads((folder.parent / DIGESTS).read_text(encoding="utf-8"))[folder.name]
    found = digests(folder)
    return sorted(name for name in {*known, *found} if known.get(name) != found.get(name))


def seal(folder: Path) -> None:
    """Give every file of a model folder its hash, tensors untouched, and list the whole files beside the folder."""
    from allpet.model.allpet import CONFIG

    for file in sorted(folder.glob("*.safetensors")):
        with replacing(file) as (part,):
            part.write_bytes(weights_bytes(read_weights(file).tensors))
    with replacing(folder / CONFIG) as (part,):
        part.write_text(config_text(read_config(folder / CONFIG)[0]), encoding="utf-8")
    with replacing(folder.parent / DIGESTS) as (part,):
        part.write_text(json.dumps({folder.name: digests(folder)}, indent=1) + "\n", encoding="utf-8")
