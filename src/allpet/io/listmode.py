"""Siemens Biograph mMR 32-bit list mode: one word per coincidence or tag, read in chunks.

Bit 31 set: a tag; bits 31-29 = 100: a time tag, whose low 29 bits are the time in ms. Else an event: bit 30 set for
a prompt, clear for a delayed; bits 0-29 are the bin address ``(plane * views + view) * bins + radial`` in the span-1
sinogram (:mod:`allpet.scan.rebin` has the order of its planes). An event belongs to the last time tag before it,
events before the first tag to the first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch

from allpet.errors import AllpetError
from allpet.io.acquired import acquired
from allpet.io.files import file_size
from allpet.io.header import Header, parse_header
from allpet.io.rawdata import data_path
from allpet.scan.core import Scan
from allpet.scan.rebin import direct_plane_of, ring_pairs
from allpet.scan.scanners import Scanner, find_scanner
from allpet.scan.units import COUNTS

CHUNK_WORDS = 1 << 20
HEADER_ENDINGS = (".hdr", ".hdr.stir")

_TAG = np.uint32(1 << 31)
_PROMPT = np.uint32(1 << 30)
_ADDRESS = np.uint32((1 << 30) - 1)
_MILLISECONDS = np.uint32((1 << 29) - 1)

_KNOWN = {
    "name of data file",
    "data offset in bytes",
    "imagedata byte order",
    "data format",
    "number of rings",
    "distance between rings (cm)",
    "gantry crystal radius (cm)",
    "bin size (cm)",
    "number of energy windows",
    "%sms-mi header name space",
    "%sms-mi version number",
    "%total listmode word counts",
    "%lm event and tag words format (bits)",
    "%timing tagwords interval (msec)",
    "%axial compression",
    "%maximum ring difference",
    "%number of projections",
    "%number of views",
    "%number of segments",
    "%segment table",
    "%patient orientation",
    "pet data type",
    "type of data",
}


@dataclass(frozen=True)
class ListMode:
    """A list-mode file and what its header says of it."""

    header: Header
    data: Path
    scanner: Scanner
    offset: int
    words: int
    dtype: np.dtype

    @property
    def promised_words(self) -> int | None:
        """Words the header promises, or None where it does not say."""
        key = "%total listmode word counts"
        return self.header.integer(key) if key in self.header else None


@dataclass
class Tally:
    """What one pass over the words found; times in ms, -1 where no tag was seen."""

    prompts: int = 0
    delayeds: int = 0
    time_tags: int = 0
    other_words: int = 0
    first_ms: int = -1
    last_ms: int = -1

    @property
    def duration_s(self) -> float | None:
        """Time covered by the tags counted, both ends included, in s."""
        return None if self.time_tags == 0 else (self.last_ms - self.first_ms + 1) / 1000


def find_header(path: Path) -> Path:
    """The header of a list-mode file: the path itself, or for a ``.l`` the header beside it that names it.

    Raises
    ------
    AllpetError : no header names the file.
    """
    if path.suffix.lower() != ".l":
        return path
    file_size(path)
    for candidate in sorted(path.parent.iterdir()):
        if not candidate.name.lower().endswith(HEADER_ENDINGS) or not candidate.is_file():
            continue
        try:
            if data_path(parse_header(candidate)).samefile(path):
                return candidate
        except AllpetError:
            continue
    raise AllpetError(f"{path}: no header (.hdr or .hdr.STIR) beside it names it; put its header there")


def open_listmode(path: Path | str) -> ListMode:
    """Read the header and check that the data can be what it says, without reading the words.

    Raises
    ------
    AllpetError : no header, another scanner or word format, data missing, empty or cut within a word.
    """
    header = parse_header(find_header(Path(path)))
    name = header.text("originating system", "")
    scanner = find_scanner(name)
    if scanner is None or scanner != find_scanner("mMR"):
        raise header.fail(f"'originating system' is '{name}'; list mode of the Siemens mMR (2008) can be read")
    for key, right in {
        "%lm event and tag words format (bits)": 32,
        "%axial compression": 1,
        "%maximum ring difference": scanner.max_ring_difference,
        "%number of projections": scanner.bins,
        "%number of views": scanner.views,
        "number of rings": scanner.rings,
    }.items():
        if header.integer(key, right) != right:
            raise header.fail(f"'{key}' is {header.text(key)}; for {scanner.name} list mode it must be {right}")
    data = data_path(header)
    offset = header.integer("data offset in bytes", 0)
    size = file_size(data) - offset
    if size <= 0:
        raise AllpetError(f"{data}: holds no words after the offset of {offset} bytes; give a list-mode file with data")
    if size % 4:
        raise AllpetError(
            f"{data}: is truncated: {size} bytes are not a whole number of 32-bit words; copy the file again"
        )
    big = "".join(header.text("imagedata byte order", "LITTLEENDIAN").split()).upper() == "BIGENDIAN"
    return ListMode(header, data, scanner, offset, size // 4, np.dtype(">u4" if big else "<u4"))


def events(
    source: ListMode, tally: Tally, start_s: float | None = None, stop_s: float | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Span-1 bin addresses chunk by chunk: ``(prompts, delayeds)``, each int64; ``tally`` counts along.

    Raises
    ------
    AllpetError : an address beyond the sinogram (the message gives the word), a time range without time tags.
    """
    scanner = source.scanner
    planes = len(direct_plane_of(scanner.rings, scanner.max_ring_difference))
    limit = planes * scanner.views * scanner.bins
    whole = start_s is None and stop_s is None
    low = -np.inf if start_s is None else start_s * 1000
    high = np.inf if stop_s is None else stop_s * 1000
    now = -1
    for first in range(0, source.words, CHUNK_WORDS):
        count = min(CHUNK_WORDS, source.words - first)
        words = np.fromfile(source.data, source.dtype, count, offset=source.offset + 4 * first).astype(np.uint32)
        is_tag = (words & _TAG) != 0
        is_time = (words >> 29) == 4
        address = (words & _ADDRESS).astype(np.int64)
        wrong = np.flatnonzero(~is_tag & (address >= limit))
        if wrong.size:
            raise AllpetError(
                f"{source.data}: word {first + int(wrong[0])} has bin address {int(address[wrong[0]])}; "
                f"{scanner.name} list mode has addresses below {limit}"
            )
        ms = (words[is_time] & _MILLISECONDS).astype(np.int64)
        keep, keep_ms = ~is_tag, ms
        if not whole:
            if now < 0 and not ms.size:
                raise AllpetError(f"{source.data}: has no time tags; read it without a time range")
            times = np.concatenate([[now if now >= 0 else ms[0]], ms])[np.cumsum(is_time)]
            keep &= (times >= low) & (times < high)
            keep_ms = ms[(ms >= low) & (ms < high)]
        if ms.size:
            now = int(ms[-1])
        if keep_ms.size:
            tally.first_ms = int(keep_ms[0]) if tally.time_tags == 0 else tally.first_ms
            tally.last_ms = int(keep_ms[-1])
        prompt = keep & ((words & _PROMPT) != 0)
        delayed = keep & ~prompt
        tally.time_tags += int(keep_ms.size)
        tally.other_words += int(np.count_nonzero(is_tag & ~is_time))
        tally.prompts += int(np.count_nonzero(prompt))
        tally.delayeds += int(np.count_nonzero(delayed))
        yield address[prompt], address[delayed]


def read_listmode(path: Path | str, start_s: float | None = None, stop_s: float | None = None) -> Scan:
    """Histogram list mode into the direct planes by SSRB, in one pass and bounded memory.

    Parameters
    ----------
    path : header (``.hdr``, ``.hdr.STIR``) or data file (``.l``).
    start_s, stop_s : keep events with ``start_s <= time < stop_s``; all where None.

    Returns
    -------
    Scan of raw counts ``(2 * rings - 1, view, radial)`` on a :class:`RingBeam`: prompts as ``sinogram``, delayeds
    as ``delayeds``, ring pairs per direct plane (0 in the gaps) as ``normalisation``, the time read as ``duration_s``.

    Raises
    ------
    AllpetError : see :func:`open_listmode` and :func:`events`; no event in the range.
    """
    source = open_listmode(path)
    scanner = source.scanner
    shape = (scanner.direct_planes, *scanner.beam.shape)
    per_plane = scanner.views * scanner.bins
    target = direct_plane_of(scanner.rings, scanner.max_ring_difference) * per_plane
    histograms = [np.zeros(shape, np.float32) for _ in range(2)]
    tally = Tally()
    for chunk in events(source, tally, start_s, stop_s):
        for histogram, address in zip(histograms, chunk, strict=True):
            plane, rest = np.divmod(address, per_plane)
            np.add.at(histogram.reshape(-1), target[plane] + rest, np.float32(1))
    check_events(source, tally)
    pairs = ring_pairs(scanner.rings, scanner.max_ring_difference).astype(np.float32)
    return Scan(
        torch.from_numpy(histograms[0]),
        scanner.beam,
        COUNTS,
        normalisation=torch.from_numpy(pairs[:, None, None] * scanner.beam.live()),
        delayeds=torch.from_numpy(histograms[1]),
        plane_mm=scanner.ring_mm / 2,
        neighbours=True,
        **facts(source, tally),
    )


def check_events(source: ListMode, tally: Tally) -> None:
    """Raise an AllpetError where no event was found."""
    if tally.prompts + tally.delayeds == 0:
        raise AllpetError(f"{source.data}: holds no events in the time asked for; give a range within the acquisition")


def facts(source: ListMode, tally: Tally) -> dict[str, Any]:
    """Fields of a Scan that the header and the tags give, and the header's other keys.

    The start comes from the dates and times of study and injection, later by the first time tag; Siemens headers
    give 0 as relative time of injection even where the dates differ.
    """
    header = source.header
    known, used = acquired(header)
    rest = header.rest(_KNOWN | used)
    lies = header.text("%patient orientation", "").upper()
    if lies in ("HFS", "HFP", "FFS", "FFP"):
        rest |= {
            "patient orientation": "head_in" if lies[0] == "H" else "feet_in",
            "patient rotation": "supine" if lies[2] == "S" else "prone",
        }
    promised = source.promised_words
    if promised is not None and promised != source.words:
        rest["list mode note"] = f"the header promises {promised} words, the file holds {source.words}"
    return {
        **known,
        "scanner": source.scanner.name,
        "start_s": _start_s(header, tally),
        "duration_s": tally.duration_s,
        "decay_reference": "none",
        "header": rest,
    }


def _start_s(header: Header, tally: Tally) -> float | None:
    """First event after the injection in s, None where the header has no dates or they are more than a day apart."""
    study, injection = _moment(header, "study"), _moment(header, "tracer injection")
    if study is None or injection is None or not timedelta(0) <= study - injection < timedelta(days=1):
        return None
    return (study - injection).total_seconds() + max(tally.first_ms, 0) / 1000


def _moment(header: Header, event: str) -> datetime | None:
    """Date and time of an event (``%study date (yyyy:mm:dd)``, ``%study time (hh:mm:ss GMT+00:00)``)."""
    date = header.text(f"%{event} date (yyyy:mm:dd)", "")
    for key, value in header.values.items():
        if match := re.fullmatch(rf"%{event} time \(hh:mm:ss gmt([+-]\d\d:\d\d)\)", key):
            try:
                return datetime.strptime(f"{date} {value} {match[1]}", "%Y:%m:%d %H:%M:%S %z")
            except ValueError:
                return None
    return None
