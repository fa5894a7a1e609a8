"""Generation and tasks block by block: what the plain commands give, to the bit, wherever the stores lie."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from allpet.cli import main
from allpet.dist.applied import merged
from allpet.dist.model import Weights
from allpet.errors import AllpetError
from allpet.geometry import ParallelBeam
from allpet.io import read
from allpet.io.processes import single_threaded
from allpet.io.store import open_store, write_store
from allpet.model import AllPET
from allpet.scan.dataset import Dataset
from model_support import tiny

PROMPT = "18F-FDG brain"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model, a store of counts whose samples have some facts in common, and one of other weights."""
    out = tmp_path_factory.mktemp("model")
    tiny().save_pretrained(out / "model")
    tiny(seed=1).save_pretrained(out / "other")
    rng = np.random.default_rng(5)
    n, beam = 19, ParallelBeam(32, 32, 8.0)
    shape = (n, *beam.shape)
    arrays: dict[str, np.ndarray] = {
        "sinogram": rng.uniform(0, 50, shape).astype(np.float32),
        "observed": rng.poisson(9.0, shape).astype(np.float32),
        "background": np.full(shape, 2.0, np.float32),
        "attenuation": rng.uniform(0.2, 0.9, shape).astype(np.float32),
        "counts_per_unit": rng.uniform(1, 2, n),
        "dose_fraction": np.repeat(np.float32([0.1, 0.2]), [16, 3]),  # alike in the first blocks, not in all
        "duration_s": np.full(n, 600.0, np.float32),
        "weight_kg": np.linspace(50, 90, n, dtype=np.float32),
    }
    units = {"sinogram": "counts", "observed": "counts"}
    prompt = {"tracer": "FDG", "isotope": "18F", "region": "brain", "task": "low-dose"}
    write_store(Dataset(arrays, beam, {"units": units, "prompt": prompt}), out / "in.zarr")
    return out


def run(*words: object) -> None:
    assert main([str(word) for word in words]) == 0


def assert_same(one: Any, other: Any, extra: tuple[str, ...] = ()) -> None:
    """Arrays to the bit, attributes but for where they come from."""
    a, b = open_store(one), open_store(other)
    assert sorted([*a, *extra]) == sorted(b)
    for name in a:
        assert a[name].dtype == b[name].dtype and np.array_equal(a.rows(name), b.rows(name)), name
    facts = [{k: v for k, v in s.attributes.items() if k not in ("sha256", "provenance", "block")} for s in (a, b)]
    for name in extra:
        facts[1]["units"].pop(name)
    assert facts[0] == facts[1]


def test_generation_over_a_cluster(folder: Path, address: str, tmp_path: Path) -> None:
    words = ("generate", "--prompt", PROMPT, "-n", 21, "--seed", 4, "--parts", "--model", folder / "model")
    with single_threaded():
        run(*words, "--out", tmp_path / "plain.zarr")
    run(*words, "--out", tmp_path / "blocks.zarr", "--scheduler", address)
    run(*words, "--out", "memory://generated/far.zarr")
    for suffix in ("", "-positive", "-negative", "-mask"):
        assert_same(tmp_path / f"plain{suffix}.zarr", tmp_path / f"blocks{suffix}.zarr")
        assert_same(tmp_path / f"plain{suffix}.zarr", f"memory://generated/far{suffix}.zarr")
    facts = open_store(tmp_path / "blocks.zarr").attributes
    assert facts["seed"] == 4 and facts["provenance"]["model_hash"] == AllPET.from_pretrained(folder / "model").hash
    assert sorted(path.name[0] for path in tmp_path.iterdir()) == ["b"] * 4 + ["p"] * 4


def test_a_task_over_a_cluster(folder: Path, address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("apply", "low-dose", folder / "in.zarr", "--samples", 3, "--images", "--model", folder / "model")
    with single_threaded():
        run(*words, "--out", tmp_path / "plain.zarr")
    plain = capsys.readouterr()
    run(*words, "--out", tmp_path / "blocks.zarr", "--scheduler", address)
    blocks = capsys.readouterr()
    assert "dose fraction" not in plain.err and blocks.err == plain.err  # the store says that of every sample
    assert blocks.out.split() == [str(tmp_path / f"blocks{suffix}.zarr") for suffix in ("", "-std")]
    assert_same(tmp_path / "plain.zarr", tmp_path / "blocks.zarr", ("image", "image_std"))
    assert_same(tmp_path / "plain-std.zarr", tmp_path / "blocks-std.zarr")
    for suffix, name in (("-image", "image"), ("-image-std", "image_std")):
        assert np.array_equal(
            read(tmp_path / f"plain{suffix}.nii.gz").array.numpy(), open_store(tmp_path / "blocks.zarr").rows(name)
        )


@pytest.mark.parametrize(
    ("task", "options", "sides", "images"),
    [
        ("attenuation", (), ("", "-std"), ("mumap",)),
        ("delayed", ("--delay-minutes", 60), ("", "-std"), ("retention",)),
        ("convert", ("--to", "PSMA"), ("", "-std"), ()),
        ("separate", ("--prompt", "FDG + PSMA brain"), ("", "-std", "-second"), ()),
    ],
)
def test_every_task_from_and_to_a_url(
    folder: Path, tmp_path: Path, task: str, options: tuple[Any, ...], sides: tuple[str, ...], images: tuple[str, ...]
) -> None:
    source = f"memory://{task}/in.zarr"
    run("convert", folder / "in.zarr", source)
    words = ("apply", task, source, "--samples", 2, "--model", folder / "model", *options)
    with single_threaded():
        run(*words, "--out", tmp_path / "plain.zarr")
    run(*words, "--out", f"memory://{task}/out.zarr")
    for side in sides:
        assert_same(tmp_path / f"plain{side}.zarr", f"memory://{task}/out{side}.zarr", images if not side else ())
    for name in images:
        image = read(tmp_path / f"plain-{name}.nii.gz").array.numpy()
        assert np.array_equal(image, open_store(f"memory://{task}/out.zarr").rows(name))


def test_memory_is_that_of_a_block(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from allpet.io.mapped import Store

    asked: list[int] = []
    rows = Store.rows

    def counted(self: Store, name: str, index: Any = None) -> np.ndarray:
        out = rows(self, name, index)
        asked.append(out.size)
        return out

    monkeypatch.setattr(Store, "rows", counted)
    words = ("apply", "low-dose", folder / "in.zarr", "--samples", 0, "--model", folder / "model")
    run(*words, "--out", tmp_path / "out.zarr", "--workers", 1)
    assert max(asked) == 8 * 32 * 32 and len(open_store(tmp_path / "out.zarr")) == 19


def test_what_looks_at_all_planes_is_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    small = Dataset(
        {"sinogram": np.ones((2, 16, 16), np.float32)}, ParallelBeam(16, 16, 8.0), {"units": {"sinogram": "counts"}}
    )
    write_store(small, tmp_path / "small.zarr")
    base = ("--model", folder / "model", "--workers", 1, "--out")
    for words, says in (
        (
            ("apply", "low-dose", folder / "in.zarr", *base, tmp_path / "o.zarr", "--roi", "r.json"),
            "--roi looks at all",
        ),
        (("apply", "attenuation", folder / "in.zarr", *base, tmp_path / "o.zarr", "--ct", "c.nii.gz"), "--ct looks at"),
        (
            ("apply", "low-dose", tmp_path / "small.zarr", *base, tmp_path / "o.zarr"),
            "has sinograms of 16 x 16, the model",
        ),
        (("apply", "low-dose", folder / "in.zarr", *base, folder / "in.zarr"), "is the input itself"),
        (("apply", "low-dose", tmp_path / "s.hs", *base, tmp_path / "o.zarr"), "only a dataset store"),
        (("generate", "--prompt", PROMPT, *base, tmp_path / "o.hs"), "only a dataset store"),
        (("generate", "--prompt", PROMPT, *base, "s3://bucket/o.hs"), "a URL names a dataset store"),
        (("generate", "--prompt", PROMPT, *base, tmp_path / "o.zarr", "--scheduler", "tcp://a:1"), "leave it out"),
        (("generate", "--prompt", PROMPT, *base, tmp_path / "o.zarr", "--sampler", "nix"), "sampler 'nix' is unknown"),
        (("generate", "--prompt", PROMPT, *base, tmp_path / "o.zarr", "--steps", 0), "steps"),
        (("generate", "--prompt", PROMPT, *base, tmp_path / "o.zarr", "-n", 0), "n is 0"),
    ):
        assert main([str(word) for word in words]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and says in error and error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["small.zarr"]


def test_other_weights_or_another_store_in_a_worker(folder: Path, address: str, tmp_path: Path) -> None:
    from allpet.dist.applied import Work, make_rows
    from allpet.dist.cluster import results_of

    right = AllPET.from_pretrained(folder / "model")
    wrong = Weights(str(folder / "other"), "0" * 16)
    work = Work(folder / "in.zarr", "0" * 64, "low-dose", 0, {})
    with pytest.raises(AllpetError, match=r"worker on \S+: the model .*other is \w+ there, the command uses 0{16}"):
        list(results_of(make_rows, [(wrong, work, 0, 8)], ["x"], address))
    with pytest.raises(AllpetError, match=r"in\.zarr: is another store for a worker, or was changed meanwhile"):
        list(results_of(make_rows, [(Weights(str(folder / "model"), right.hash), work, 0, 8)], ["x"], address))


def test_a_range_of_samples_is_that_of_all() -> None:
    model = tiny()
    whole = model.generate(PROMPT, 19, seed=2).sinogram
    assert torch.equal(model.generate(PROMPT, 3, seed=2, first=16).sinogram, whole[16:])
    with pytest.raises(AllpetError, match="first is 3; it must be a multiple of 8"):
        model.generate(PROMPT, 3, first=3)


def test_notes_of_many_blocks() -> None:
    assert merged(["a 1.", "b", "a 1.", "b"]) == ["a 1.", "b"]
    assert merged(["3 of 8 planes", "b", "4 of 8 planes"]) == ["3 of 8 planes (so in 2 blocks, this is one)", "b"]


def test_without_dask(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert main(["simulate", str(tmp_path / "d.zarr"), "-n", "1", "--scheduler", "local"]) == 2
    assert "pip install 'allpet[dist]'" in capsys.readouterr().err
