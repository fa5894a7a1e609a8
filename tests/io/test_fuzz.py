"""Damaged headers and data: whatever comes in, nothing but an AllpetError of one line comes out."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from allpet.errors import AllpetError
from allpet.geometry import ImageGrid, ParallelBeam, RingBeam
from allpet.io import read, write
from allpet.io.listmode import open_listmode
from allpet.scan.core import Image, Scan

VALUES = st.sampled_from(
    [
        "",
        "0",
        "-1",
        "nan",
        "inf",
        "1e308",
        "1e-400",
        "9" * 30,
        "{",
        "{}",
        "{1,2}",
        "{1,,2}",
        "../..",
        "/",
        "\0",
        "x" * 300,
        "float",
        "bit",
        "2",
        "4",
        "segment",
        "view",
        "{None}",
        "[1]",
        ":=",
        "BIGENDIAN",
        "Siemens mMR",
        "0.1",
        "{0 }",
    ]
)


@contextlib.contextmanager
def only_allpet_errors() -> object:
    try:
        yield
    except AllpetError as error:
        assert "\n" not in str(error)


def damage(text: bytes, data: st.DataObject) -> bytes:
    lines = text.split(b"\n")
    for _ in range(data.draw(st.integers(1, 3))):
        k = data.draw(st.integers(0, len(lines) - 1))
        what = data.draw(st.sampled_from(["value", "value", "value", "drop", "bytes", "cut"]))
        if what == "value":
            lines[k] = lines[k].split(b":=")[0] + b":= " + data.draw(VALUES).encode()
        elif what == "drop":
            del lines[k : k + 1]
        elif what == "bytes":
            lines[k] = data.draw(st.binary(max_size=40))
        else:
            del lines[k + 1 :]
        lines = lines or [b""]
    return b"\n".join(lines)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("fuzz")
    write(Scan(torch.ones(2, 6, 5), ParallelBeam(6, 5, 2.0), tracer="FDG"), folder / "a.hs")
    write(Scan(torch.ones(2, 6, 5), RingBeam(6, 5, 100.0, 3)), folder / "ring.hs")
    write(Image(torch.ones(2, 4, 4), ImageGrid(4, 2.0)), folder / "b.hv")
    write(Image(torch.ones(2, 4, 4), ImageGrid(4, 2.0)), folder / "c.nii")
    (folder / "d.l").write_bytes(np.arange(50, dtype="<u4").tobytes())
    (folder / "d.hdr").write_text(
        "!INTERFILE:=\noriginating system:=2008\nname of data file:=d.l\ndata offset in bytes:=0\n"
        "%axial compression:=1\nnumber of rings:=64\n%total listmode word counts:=50\nimage duration (sec):=900\n"
    )
    return {path.name: path for path in folder.iterdir()}


@pytest.mark.parametrize("name", ["a.hs", "ring.hs", "b.hv", "d.hdr"])
@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_damaged_headers(files: dict[str, Path], name: str, data: st.DataObject) -> None:
    path = files[name].with_name(f"damaged{files[name].suffix}")
    path.write_bytes(damage(files[name].read_bytes(), data))
    with only_allpet_errors():
        if name == "d.hdr":
            open_listmode(path)
        else:
            read(path)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damaged_nifti(files: dict[str, Path], data: st.DataObject) -> None:
    raw = bytearray(files["c.nii"].read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, min(len(raw), 400) - 1))] = data.draw(st.integers(0, 255))
    path = files["c.nii"].with_name("damaged.nii")
    path.write_bytes(raw[: data.draw(st.integers(0, len(raw)))] if data.draw(st.booleans()) else raw)
    with only_allpet_errors():
        read(path)


@settings(max_examples=40, deadline=None)
@given(words=st.binary(max_size=200))
def test_random_list_mode(files: dict[str, Path], words: bytes) -> None:
    from allpet.io.convert import describe

    folder = files["d.hdr"].parent / "words"
    folder.mkdir(exist_ok=True)
    (folder / "d.l").write_bytes(words)
    (folder / "d.hdr").write_bytes(files["d.hdr"].read_bytes())
    with only_allpet_errors():
        describe(folder / "d.hdr")
