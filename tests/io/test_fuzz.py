"""Damaged files: whatever comes in, nothing but an AllpetError of one line comes out, soon, quietly, in little memory.

The long run is ``benchmarks/fuzz_readers.py --count 10000``, ``tests/hardening/test_fuzz_readers.py`` runs it for some
seconds a format. Here: that the fuzzer sees what is wrong, and headers with values chosen to hurt.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from allpet.errors import AllpetError
from allpet.geometry import ImageGrid, ParallelBeam, RingBeam
from allpet.io import read, write
from allpet.io.listmode import open_listmode
from allpet.scan.core import Image, Scan

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
fuzzer = import_module("fuzz_readers")
files_of = import_module("fuzz_files")


def test_the_fuzzer_sees_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers that raise, talk, warn, hang or take too much are told apart."""
    import warnings

    def hang(_: Path) -> None:
        while True:
            pass

    def raises(_: Path) -> None:
        raise KeyError("x")

    monkeypatch.setattr(fuzzer, "SECONDS", 1)
    for broken, told, count in (
        (raises, "KeyError", 3),
        (lambda _: os.write(2, b"hello"), "said", 3),
        (lambda _: warnings.warn("careful", stacklevel=1), "warning", 3),
        (lambda _: bytearray(50 << 20), "took", 3),
        (hang, "more than 1 s", 1),
    ):
        calls = iter([lambda _: None] + [broken] * count)  # the whole file, then the damaged ones
        entry = (fuzzer.FORMATS["ring"][0], lambda path, calls=calls: next(calls)(path), "allpet")
        monkeypatch.setitem(fuzzer.FORMATS, "broken", entry)
        outcome = fuzzer.fuzz("broken", count, 0, tmp_path)
        assert len(outcome.failures) == count and told in outcome.failures[0]


VALUES = st.sampled_from(
    [
        *"|0|-1|nan|inf|1e308|1e-400|9999999999999999999999|{|{}|{1,2}|{1,,2}|../..|/|\0|float|bit|2|4|segment".split(
            "|"
        ),
        *"view|{None}|[1]|:=|BIGENDIAN|Siemens mMR|0.1|{0 }|+1.0+00|^18^Fluorine".split("|"),
        "x" * 300,
        "9" * 5000,
    ]
)


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
    known = {"tracer": "FDG", "injected_mbq": 46.5, "start_s": 60.0, "duration_s": 60.0, "weight_kg": 70.0}
    write(Scan(torch.ones(2, 6, 5), ParallelBeam(6, 5, 2.0), **known), folder / "a.hs")
    write(Scan(torch.ones(2, 6, 5), RingBeam(6, 5, 100.0, 3)), folder / "ring.hs")
    write(Image(torch.ones(2, 4, 4), ImageGrid(4, 2.0), **known), folder / "b.hv")
    files_of.list_mode(folder).rename(folder / "d.hdr")
    return {path.name: path for path in folder.iterdir()}


@pytest.mark.parametrize("name", ["a.hs", "ring.hs", "b.hv", "d.hdr"])
@settings(max_examples=120)
@given(data=st.data())
def test_headers_with_odd_values(files: dict[str, Path], name: str, data: st.DataObject) -> None:
    path = files[name].with_name(f"damaged{files[name].suffix}")
    path.write_bytes(damage(files[name].read_bytes(), data))
    try:
        open_listmode(path) if name == "d.hdr" else read(path)
    except AllpetError as error:
        assert "\n" not in str(error)
