"""List mode: synthetic words whose counts are known, and the real scan's exact numbers."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from allpet.errors import AllpetError
from allpet.io import listmode, read
from allpet.io.convert import convert, describe
from allpet.io.listmode import read_listmode
from allpet.scan.rebin import direct_plane_of, ring_pairs, ssrb
from allpet.scan.scanners import MMR

TAG = 0x80000000
PROMPT = 0x40000000
LIMIT = 4084 * 252 * 344

real = pytest.mark.skipif("ALLPET_DATA" not in os.environ, reason="ALLPET_DATA is not set: no measured list mode")


def real_file() -> Path:
    return Path(os.environ["ALLPET_DATA"]) / "mmr_fdg_listmode" / "small_listmode_file.l"


def write_words(folder: Path, words: list[int], header: str = "", offset: int = 0, dtype: str = "<u4") -> Path:
    (folder / "events.l").write_bytes(b"o" * offset + np.array(words, dtype).tobytes())
    path = folder / "events.l.hdr"
    path.write_text(
        "!INTERFILE:=\n!originating system:=2008\nname of data file:=C:\\scans\\events.l\n"
        f"!data offset in bytes:={offset}\n%LM event and tag words format (bits):=32\n"
        f"%maximum ring difference:=60\nradiopharmaceutical:=FDG\nisotope name:=F-18\n{header}"
    )
    return path


@settings(max_examples=15)
@given(seed=st.integers(0, 999), offset=st.sampled_from([0, 7]), dtype=st.sampled_from(["<u4", ">u4"]))
def test_every_event_lands_in_its_direct_plane(
    tmp_path_factory: pytest.TempPathFactory, seed: int, offset: int, dtype: str
) -> None:
    rng = np.random.default_rng(seed)
    address = rng.integers(0, LIMIT, 50)
    prompt = rng.random(50) < 0.7
    words = [int(a) | (PROMPT if p else 0) for a, p in zip(address, prompt, strict=True)]
    words[10:10] = [TAG | 5]
    order = "imagedata byte order := BIGENDIAN\n" if dtype == ">u4" else ""
    scan = read_listmode(write_words(tmp_path_factory.mktemp("l"), words, order, offset, dtype))
    plane, rest = np.divmod(address, 252 * 344)
    for values, mine in ((scan.sinogram, prompt), (scan.delayeds, ~prompt)):
        expected = np.zeros((127, 252 * 344), np.float32)
        np.add.at(expected, (direct_plane_of(64, 60)[plane[mine]], rest[mine]), 1)
        assert np.array_equal(values.numpy().reshape(127, -1), expected)
    assert scan.duration_s == 0.001


def test_time_ranges_part_the_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the chunks: an event belongs to the tag before it, the first ones to the first tag."""
    words = [PROMPT | 1, PROMPT | 2]
    for ms in range(100, 110):
        words += [TAG | ms, *[PROMPT | ms] * (ms - 99), 3, 0xE0000000]
    path = write_words(tmp_path, words)
    for chunk in (3, 7, 1 << 20):
        monkeypatch.setattr(listmode, "CHUNK_WORDS", chunk)
        first, second = read_listmode(path, stop_s=0.104), read_listmode(path, start_s=0.104)
        assert first.sinogram.sum() == 2 + 1 + 2 + 3 + 4 and first.delayeds.sum() == 4
        assert second.sinogram.sum() == 5 + 6 + 7 + 8 + 9 + 10 and second.delayeds.sum() == 6
        assert (first.duration_s, second.duration_s) == (0.004, 0.006)
        facts = describe(path)
        assert (facts["prompts"], facts["delayeds"], facts["time tags"], facts["other words"]) == (57, 10, 10, 10)
    with pytest.raises(AllpetError, match="no events"):
        read_listmode(path, start_s=5.0)


def test_facts_and_factors(tmp_path: Path) -> None:
    path = write_words(tmp_path, [PROMPT, TAG], "%total listmode word counts := 77\n%patient orientation := HFS\n")
    scan = read(tmp_path / "events.l")
    assert torch.equal(scan.sinogram, read(path).sinogram)
    assert (scan.tracer, scan.isotope, scan.plane_mm, scan.geometry) == ("FDG", "18F", 2.03125, MMR.beam)
    assert "77" in scan.header["list mode note"] and scan.header["patient orientation"] == "head_in"
    live = torch.from_numpy(MMR.beam.live())
    assert (scan.normalisation[:, ~live] == 0).all()
    assert np.array_equal(scan.normalisation[:, live].amin(dim=1).numpy(), ring_pairs(64, 60))
    assert np.array_equal(scan.normalisation[:, live].amax(dim=1).numpy(), ring_pairs(64, 60))


def test_time_after_the_injection(tmp_path: Path) -> None:
    """From the dates and time zones of the header, on to the first tag kept; without dates nothing is said."""
    dates = (
        "%study date (yyyy:mm:dd):=2017:03:28\n%study time (hh:mm:ss GMT+01:00):=00:10:00\n"
        "%tracer injection date (yyyy:mm:dd):=2017:03:27\n%tracer injection time (hh:mm:ss GMT+00:00):=22:40:30\n"
        "relative time of tracer injection (sec):=0\ntracer activity at time of injection (Bq):=1.85E+008\n"
    )
    path = write_words(tmp_path, [TAG | 500, PROMPT, TAG | 700, PROMPT], dates)
    scan = read_listmode(path)
    assert (scan.start_s, scan.duration_s, scan.injected_mbq) == (1770.5, 0.201, 185.0)
    assert read_listmode(path, start_s=0.6).start_s == 1770.7
    assert (scan.scanner, scan.decay_reference) == ("Siemens mMR", "none")
    assert read_listmode(write_words(tmp_path, [PROMPT, TAG])).start_s is None
    assert (
        read_listmode(write_words(tmp_path, [PROMPT, TAG], dates.replace("2017:03:27", "2017:13:27"))).start_s is None
    )


def test_bad_files_are_told_in_one_line(tmp_path: Path) -> None:
    def message(path: Path) -> str:
        with pytest.raises(AllpetError) as raised:
            read(path)
        assert "\n" not in str(raised.value)
        return str(raised.value)

    path = write_words(tmp_path, [PROMPT, TAG, PROMPT | LIMIT])
    assert "events.l: word 2 has bin address" in message(path)
    (tmp_path / "events.l").write_bytes(b"\0" * 9)
    assert "truncated" in message(path)
    (tmp_path / "events.l").write_bytes(b"")
    assert "no words" in message(path)
    assert "no events" in message(write_words(tmp_path, [TAG, TAG | 1]))
    for line, expected in {
        "number of rings := 55": "number of rings",
        "%LM event and tag words format (bits) := 64": "must be 32",
        "originating system := 1104": "1104",
        "%axial compression := 11": "axial compression",
        "data offset in bytes := 4000": "offset",
        "data offset in bytes := x": "data offset",
    }.items():
        assert expected in message(write_words(tmp_path, [PROMPT], line + "\n"))
    (tmp_path / "events.l").unlink()
    assert "does not exist" in message(path)
    (tmp_path / "lonely.l").write_bytes(b"\0" * 8)
    assert "no header" in message(tmp_path / "lonely.l")


def test_span1_conversion(tmp_path: Path) -> None:
    words = [PROMPT | 5, PROMPT | 5, PROMPT | (LIMIT - 1), 7]
    convert(write_words(tmp_path, words), tmp_path / "out.hs", span=1)
    stored = np.memmap(tmp_path / "out.s", "<u2", "r", shape=(4084, 252, 344))
    assert stored[0, 0, 5] == 2 and stored[-1, -1, -1] == 1
    assert (tmp_path / "out.s").stat().st_size == 2 * LIMIT
    delayeds = np.memmap(tmp_path / "out-delayeds.s", "<u2", "r", shape=(4084, 252, 344))
    assert delayeds[0, 0, 7] == 1
    header = (tmp_path / "out.hs").read_text()
    assert "!matrix size [4] := 121" in header and "segment := { 0,1,-1," in header


def test_span1_refuses_what_16_bits_cannot_hold(tmp_path: Path) -> None:
    path = write_words(tmp_path, [PROMPT] * 65536)
    with pytest.raises(AllpetError, match="65535"):
        convert(path, tmp_path / "out.hs", span=1)
    with pytest.raises(AllpetError, match=r"\.hs only"):
        convert(path, tmp_path / "out.zarr", span=1)
    assert {item.name for item in tmp_path.iterdir()} == {"events.l", "events.l.hdr"}


@real
def test_real_scan_has_exactly_its_counts() -> None:
    facts = describe(real_file())
    assert (facts["prompts"], facts["delayeds"], facts["time tags"], facts["other words"]) == (218_881, 35_320, 613, 2)
    scan = read(real_file())
    assert scan.sinogram.shape == (127, 252, 344)
    assert scan.sinogram.sum(dtype=torch.float64) == 218_881
    assert scan.delayeds.sum(dtype=torch.float64) == 35_320
    assert scan.duration_s == 0.613
    assert (scan.tracer, scan.isotope, scan.injected_mbq, scan.start_s) == ("FDG", "18F", 46.5, 3215.0)
    gap = ~torch.from_numpy(scan.geometry.live())
    assert 0.20 < gap.float().mean() < 0.22
    assert scan.sinogram[:, gap].sum() == 0 and scan.delayeds[:, gap].sum() == 0
    halves = [read_listmode(real_file(), stop_s=0.3), read_listmode(real_file(), start_s=0.3)]
    assert torch.equal(halves[0].sinogram + halves[1].sinogram, scan.sinogram)


@real
def test_real_scan_round_trips_and_span1_rebins_to_it(tmp_path: Path) -> None:
    scan = read(real_file())
    convert(real_file(), tmp_path / "direct.hs")
    back = read(tmp_path / "direct.hs")
    for name in ("sinogram", "delayeds", "normalisation"):
        assert torch.equal(getattr(back, name), getattr(scan, name)), name
    assert "allpet_version" in back.header.pop("provenance")
    assert (back.geometry, back.plane_mm) == (scan.geometry, scan.plane_mm)
    assert back.acquired() == scan.acquired()
    convert(real_file(), tmp_path / "all.hs", span=1)
    planes = np.memmap(tmp_path / "all.s", "<u2", "r", shape=(4084, 252, 344))
    assert np.array_equal(ssrb(planes, 64, 60), scan.sinogram.numpy())
