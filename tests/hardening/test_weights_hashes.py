"""Weights and configs carry their hash: what is changed in them is refused by name, a file without one is told of."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from allpet import doctor
from allpet.errors import AllpetError
from allpet.io.convert import describe
from allpet.model import AllPET
from allpet.model.allpet import SHIPPED
from allpet.model.sealed import DIGESTS, digests, not_as_listed, read_weights, seal
from allpet.train.checkpoint import Checkpoint, Counters, write
from model_support import tiny


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny().save_pretrained(tmp_path / "m")
    return tmp_path / "m"


def test_shipped_files_are_those_of_the_list_in_the_package() -> None:
    """After training anew: ``allpet.model.sealed.seal(folder)`` writes hashes and list."""
    assert json.loads((SHIPPED.parent / DIGESTS).read_text()) == {SHIPPED.name: digests(SHIPPED)}
    model = AllPET.from_pretrained()
    assert model.hash == "32fc78719db2a24e" and model.unhashed == ()


def test_one_changed_number_in_any_file_is_refused(folder: Path) -> None:
    for file in sorted(folder.glob("*.safetensors")):
        whole = file.read_bytes()
        for place in (-1, -len(whole) // 3):
            damaged = bytearray(whole)
            damaged[place] ^= 1
            file.write_bytes(damaged)
            with pytest.raises(AllpetError, match=rf"{file.name}: does not match its sha256") as caught:
                AllPET.from_pretrained(folder)
            assert "\n" not in str(caught.value)
        tensors = load_file(file)
        name = min(tensors)
        for other in ({**tensors, name: -tensors[name] - 1}, {**tensors, "more": torch.ones(1)}):
            save_file(other, file, {"sha256": read_hash(whole, folder)})
            with pytest.raises(AllpetError, match="does not match its sha256"):
                AllPET.from_pretrained(folder)
        file.write_bytes(whole)
    assert AllPET.from_pretrained(folder).unhashed == ()


def read_hash(whole: bytes, folder: Path) -> str:
    """The hash in a safetensors file's header, as the format describes it."""
    header = json.loads(whole[8 : 8 + int.from_bytes(whole[:8], "little")])
    return str(header["__metadata__"]["sha256"])


def test_a_changed_config_is_refused(folder: Path) -> None:
    file = folder / "config.json"
    file.write_text(file.read_text().replace('"brain": 256.0', '"brain": 255.0'))
    with pytest.raises(AllpetError, match=r"config\.json: does not match its sha256"):
        AllPET.from_pretrained(folder)
    file.write_text("[1]")
    with pytest.raises(AllpetError, match=r"config\.json: cannot be read"):
        AllPET.from_pretrained(folder)


def test_files_without_a_hash_load_and_are_named(folder: Path) -> None:
    assert describe(folder)["hashes"] == "verified (sha256)"
    file = folder / "focus.safetensors"
    save_file(load_file(file), file)
    config = json.loads((folder / "config.json").read_text())
    del config["sha256"]
    (folder / "config.json").write_text(json.dumps(config))
    model = AllPET.from_pretrained(folder)
    assert model.hash == tiny().hash and model.unhashed == ("config.json", "focus.safetensors")
    assert describe(folder)["hashes"].startswith("none in config.json, focus.safetensors")
    seal(folder)
    assert AllPET.from_pretrained(folder).unhashed == () and not_as_listed(folder) == []
    (folder / "more.txt").write_text("x")
    assert not_as_listed(folder) == ["more.txt"]


def test_every_kind_of_tensor_keeps_its_bits(tmp_path: Path) -> None:
    kinds = (torch.float16, torch.bfloat16, torch.float32, torch.int64, torch.uint8, torch.bool)
    tensors = {str(kind): torch.arange(6).reshape(2, 3).to(kind) for kind in kinds}
    tensors |= {"scalar": torch.tensor(3.0), "empty": torch.zeros(0, 4), "turned": torch.rand(3, 4).T}
    from allpet.model.sealed import weights_bytes

    (tmp_path / "w.safetensors").write_bytes(weights_bytes(tensors))
    known = read_weights(tmp_path / "w.safetensors")
    assert known.hashed and all(torch.equal(known.tensors[name], value) for name, value in tensors.items())


def test_a_checkpoint_s_counters_are_covered_too(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint-x.safetensors"
    write(path, "x", Counters(step=1234), {"net.a": torch.ones(3)})
    assert Checkpoint(path, "x").counters.step == 1234
    path.write_bytes(path.read_bytes().replace(b"1234", b"1334"))
    with pytest.raises(AllpetError, match=r"checkpoint-x\.safetensors: .*sha256"):
        Checkpoint(path, "x")


def test_the_doctor_tells_when_shipped_files_are_others(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "every file as shipped" in next(one.found for one in doctor.examine() if one.what == "weights")
    monkeypatch.setattr("allpet.model.sealed.digests", lambda folder: {"config.json": "0"})
    (found,) = (one for one in doctor.examine() if one.what == "weights")
    assert not found.well and "not as shipped: README.md, config.json, denoiser.safetensors" in found.found
