"""PETSIRD list mode (ETSI, binary files), histogrammed block by block into parallel-beam sinograms.

The package ``petsird`` (``pip install 'allpet[petsird]'``) decodes the header; the time blocks are decoded here, many
events at a time and in bounded memory, after a check that the file's own schema is the one known here.
:mod:`allpet.io.petsird_scanner` turns the scanner's detecting elements into lines.

Prompts and delayeds of every energy window and every time-of-flight bin are summed. Singles, triples, dead time and
external signals are not used; a moved bed or gantry is refused. Nothing that names a person is read out.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from allpet.errors import AllpetError
from allpet.io.acquired import mass_first
from allpet.io.dicom_facts import named_tracer
from allpet.io.files import file_size
from allpet.io.petsird_scanner import PetsirdScanner
from allpet.scan.core import Scan
from allpet.scan.units import COUNTS

_PIECE = 1 << 18  # bytes of events decoded at once
_BLOCKS = (
    "EventTimeBlock",
    "ExternalSignalTimeBlock",
    "BedMovementTimeBlock",
    "GantryMovementTimeBlock",
    "DeadTimeTimeBlock",
    "SinglesHistogramTimeBlock",
)
_FIELDS = {
    "TimeInterval": ("start", "stop"),
    "CoincidenceEvent": ("detectionBins", "tofIdx"),
    "EventTimeBlock": (
        "timeInterval",
        "singleEvents",
        "promptEvents",
        "delayedEvents",
        "tripleEvents",
        "quadrupleEvents",
    ),
}


class Stream:
    """Bytes of a file, read from front to end; what :mod:`petsird.binary` asks of a stream, and whole runs of numbers.

    Every method raises EOFError before anything is made that the rest of the file could not fill.
    """

    def __init__(self, data: np.ndarray) -> None:
        self.data = data
        self.position = 0

    def read_bytes(self, count: int) -> bytes:
        """The next bytes."""
        if count > len(self.data) - self.position:
            raise EOFError("the file ends too early")
        self.position += count
        return self.data[self.position - count : self.position].tobytes()

    def read(self, formatter: struct.Struct) -> tuple[Any, ...]:
        """The next values of a fixed format."""
        return formatter.unpack(self.read_bytes(formatter.size))

    def read_view(self, count: int) -> memoryview:
        """The next bytes as a view."""
        return memoryview(self.read_bytes(count))

    def read_bytearray(self, count: int) -> bytearray:
        """The next bytes as an array that can be changed."""
        return bytearray(self.read_bytes(count))

    def read_byte(self) -> int:
        """The next byte."""
        return self.read_bytes(1)[0]

    def read_unsigned_varint(self) -> int:
        """The next number: seven bits a byte, lowest first, the eighth bit set on all but the last."""
        result = 0
        for shift in range(0, 70, 7):
            byte = self.read_byte()
            result |= (byte & 0x7F) << shift
            if byte < 0x80:
                return result
        raise ValueError("a number has more than ten bytes")

    def read_signed_varint(self) -> int:
        """The next number, its sign in the lowest bit."""
        value = self.read_unsigned_varint()
        return (value >> 1) ^ -(value & 1)

    def runs(self, count: int, each: int) -> Iterator[np.ndarray]:
        """The next ``count`` records of ``each`` unsigned numbers, int64 ``(some, each)`` at a time."""
        while count:
            piece = self.data[self.position : self.position + _PIECE]
            ends = np.flatnonzero(piece < 0x80)
            some = min(len(ends) // each, count)
            if some == 0:
                raise EOFError("the file ends within an event")
            ends = ends[: some * each]
            starts = np.concatenate([[0], ends[:-1] + 1])
            lengths = ends - starts + 1
            if lengths.max() > 9:
                raise ValueError("an event holds a number of more than 63 bits")
            values = np.zeros(len(ends), np.int64)
            for k in range(int(lengths.max())):
                more = lengths > k
                values[more] |= (piece[starts[more] + k] & 0x7F).astype(np.int64) << (7 * k)
            self.position += int(ends[-1]) + 1
            count -= some
            yield values.reshape(some, each)

    def each(self, step: Callable[[], object]) -> int:
        """Call ``step`` for every element of a vector; how many there were."""
        count = self.read_unsigned_varint()
        for _ in range(count):
            step()
        return count

    def skip_records(self, numbers: int, depth: int) -> int:
        """Pass over vectors nested ``depth`` deep of records of so many numbers; how many records there were."""
        if depth == 1:
            return sum(len(run) for run in self.runs(self.read_unsigned_varint(), numbers))
        return sum(self.skip_records(numbers, depth - 1) for _ in range(self.read_unsigned_varint()))

    def skip_floats(self, depth: int = 1) -> None:
        """Pass over vectors nested ``depth`` deep of 32-bit floats."""
        if depth > 1:
            self.each(lambda: self.skip_floats(depth - 1))
        else:
            self.read_bytes(4 * self.read_unsigned_varint())


@dataclass
class Tally:
    """What the time blocks held: histograms in counts, times in ms, events that were left out."""

    scanner: PetsirdScanner
    prompts: np.ndarray
    delayeds: np.ndarray
    first_ms: int = 2**32
    duration_ms: int = 0
    has_delayeds: bool = False
    left_out: dict[str, int] = field(default_factory=dict)

    def leave_out(self, what: str, count: int) -> None:
        """Count what has no place in a sinogram."""
        if count:
            self.left_out[what] = self.left_out.get(what, 0) + count


def read_petsird(path: Path | str) -> Scan:
    """Histogram a binary PETSIRD file by SSRB.

    Returns
    -------
    Scan of counts on a :class:`ParallelBeam`: as many views as half a ring has elements, bins half an element wide;
    prompts as ``sinogram``, delayeds where the file has any, and as ``normalisation`` the number of element pairs that
    meet in a bin, times their efficiencies where the file gives them (0: no pair does).

    Raises
    ------
    AllpetError : no such file, no package ``petsird``, another version of PETSIRD, a damaged file, elements that stand
        in no rings, a bed or gantry that moves, no coincidences.
    """
    path = Path(path)
    size = file_size(path)
    try:
        from petsird import BinaryPETSIRDReader
        from petsird.binary import HeaderSerializer
    except ImportError:
        raise AllpetError(f"{path}: PETSIRD needs the package 'petsird'; pip install 'allpet[petsird]'") from None
    try:
        stream = Stream(np.memmap(path, np.uint8, "r") if size else np.empty(0, np.uint8))
        _check_schema(path, stream, BinaryPETSIRDReader.schema)
        header = HeaderSerializer().read(stream)  # type: ignore[arg-type]
        scanner = PetsirdScanner.of(path, header.scanner)
        shape = (scanner.planes, scanner.beam.views * scanner.beam.bins)
        tally = Tally(scanner, np.zeros(shape, np.float32), np.zeros(shape, np.float32))
        while count := stream.read_unsigned_varint():
            for _ in range(count):
                _read_block(path, stream, tally)
        return _scan(path, header, tally)
    except AllpetError:
        raise
    except Exception as error:  # the decoder raises many kinds on damaged files
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise AllpetError(f"{path}: is not a whole PETSIRD file ({reason}); copy it again") from None


def _check_schema(path: Path, stream: Stream, known: str) -> None:
    """Magic bytes, format 1, and a schema that is both the installed package's and the one decoded here."""
    if len(stream.data) < 10 or stream.read_bytes(9) != b"yardl\x01\x00\x00\x00":
        raise AllpetError(f"{path}: is not a binary PETSIRD file; give one that begins with 'yardl'")
    schema = json.loads(stream.read_bytes(stream.read_unsigned_varint()))
    fields = {kind["name"]: tuple(part["name"] for part in kind.get("fields", ())) for kind in schema["types"]}
    blocks = next(kind["type"] for kind in schema["types"] if kind["name"] == "TimeBlock")
    same = all(fields[name] == parts for name, parts in _FIELDS.items())
    if schema != json.loads(known) or not same or tuple(block["tag"] for block in blocks) != _BLOCKS:
        from petsird.version import version

        raise AllpetError(f"{path}: is of another PETSIRD version than the package's {version}; convert it first")


def _read_block(path: Path, stream: Stream, tally: Tally) -> None:
    """One time block; what is not an event is passed over, movement is refused."""
    kind = _BLOCKS[stream.read_byte()]
    start, stop = stream.read_unsigned_varint(), stream.read_unsigned_varint()
    match kind:
        case "EventTimeBlock":
            tally.first_ms = min(tally.first_ms, start)
            tally.duration_ms += max(stop - start, 0)
            stream.skip_records(2, 2)
            _histogram(path, stream, tally, tally.prompts)
            tally.has_delayeds |= _histogram(path, stream, tally, tally.delayeds) > 0
            tally.leave_out("triples", stream.skip_records(5, 4))
            tally.leave_out("quadruples", stream.skip_records(5, 5))  # in the schema they are stored as triples
        case "ExternalSignalTimeBlock":
            stream.read_unsigned_varint()
            stream.skip_floats()
        case "BedMovementTimeBlock":
            _refuse_movement(path, stream, "bed")
        case "GantryMovementTimeBlock":
            stream.each(lambda: _refuse_movement(path, stream, "gantry"))
        case "DeadTimeTimeBlock":
            stream.skip_floats(2)
            stream.each(lambda: stream.each(lambda: _skip_array(stream)))
        case "SinglesHistogramTimeBlock":
            stream.each(lambda: stream.skip_records(1, 1))
            stream.each(lambda: stream.skip_records(1, 1))


def _skip_array(stream: Stream) -> None:
    """Pass over an array of any dimensions whose elements are matrices of floats."""
    count = 1
    for _ in range(stream.read_unsigned_varint()):
        count *= stream.read_unsigned_varint()
        if count > len(stream.data):
            raise EOFError("the file ends within an array")
    for _ in range(count):
        stream.skip_floats(2)


def _refuse_movement(path: Path, stream: Stream, what: str) -> None:
    matrix = np.frombuffer(stream.read_bytes(48), "<f4").reshape(3, 4)
    if not np.allclose(matrix, np.eye(3, 4), atol=1e-3):
        raise AllpetError(f"{path}: its {what} moves; only files of one position can be read")


def _histogram(path: Path, stream: Stream, tally: Tally, histogram: np.ndarray) -> int:
    """Coincidences of every pair of module types; how many there were."""
    scanner, total = tally.scanner, 0
    for first in range(stream.read_unsigned_varint()):
        for second in range(stream.read_unsigned_varint()):
            for events in stream.runs(stream.read_unsigned_varint(), 3):
                bins = scanner.bins_of(path, (first, second), events[:, :2])
                np.add.at(histogram.reshape(-1), bins[bins >= 0], np.float32(1))
                tally.leave_out("coincidences along one column", int(np.count_nonzero(bins < 0)))
                total += len(events)
    return total


def _scan(path: Path, header: Any, tally: Tally) -> Scan:
    """The scan, cut to the bins that some pair of elements reaches."""
    scanner = tally.scanner
    if not tally.prompts.any() and not tally.delayeds.any():
        raise AllpetError(f"{path}: holds no coincidences; give a file with events")
    beam = scanner.beam
    parts = [tally.prompts, scanner.efficiencies(path), *([tally.delayeds] if tally.has_delayeds else [])]
    parts = [part.reshape(-1, *beam.shape) for part in parts]
    used = np.flatnonzero(np.any([part.any(axis=(0, 1)) for part in parts], axis=0))
    edge = min(int(used[0]), beam.bins - 1 - int(used[-1])) if used.size else 0
    tensors = [torch.from_numpy(np.ascontiguousarray(part[..., edge : beam.bins - edge])) for part in parts]
    return Scan(
        tensors[0],
        scanner.cut(edge),
        COUNTS,
        normalisation=tensors[1],
        delayeds=tensors[2] if tally.has_delayeds else None,
        plane_mm=scanner.plane_mm,
        neighbours=True,
        **_facts(header, tally),
    )


def _facts(header: Any, tally: Tally) -> dict[str, Any]:
    """What is known of the acquisition; of the patient only weight, height and sex."""
    scanner = header.scanner
    kept: dict[str, Any] = {}
    notes = [f"{count} {what} left out" for what, count in tally.left_out.items()]
    tof = max((max(edges.number_of_bins(), 1) for row in scanner.tof_bin_edges for edges in row), default=1)
    if tof > 1:
        notes.append(f"{tof} time-of-flight bins summed")
    if max(tally.scanner.energies) > 1:
        notes.append(f"{max(tally.scanner.energies)} energy windows summed")
    if factor := float(scanner.detection_efficiencies.calibration_factor):
        kept["calibration factor"] = repr(factor)
    facts: dict[str, Any] = {
        "scanner": scanner.model_name or None,
        "duration_s": tally.duration_ms / 1000 or None,
        "decay_reference": "none",
        "header": kept,
    }
    if (exam := header.exam) is not None:
        facts |= _patient(exam.patient)
        kept |= _position(exam.patient_orientation)
        if len(exam.radiopharmaceuticals) > 1:
            notes.append(f"{len(exam.radiopharmaceuticals)} radiopharmaceuticals, facts of the first")
        if exam.radiopharmaceuticals:
            facts |= _tracer(exam.radiopharmaceuticals[0], exam.start_of_acquisition, tally.first_ms)
    if notes:
        kept["petsird note"] = "; ".join(notes)
    return facts


def _positive(value: float) -> float | None:
    """A float32 as the shortest decimal that names it, None unless it is positive."""
    return float(str(np.float32(value))) if np.isfinite(value) and value > 0 else None


def _patient(patient: Any) -> dict[str, Any]:
    return {
        "sex": patient.patients_sex if patient.patients_sex in ("F", "M", "O") else None,
        "weight_kg": _positive(patient.patients_weight),
        "height_m": _positive(patient.patients_size),
    }


def _position(orientation: Any) -> dict[str, str]:
    """Interfile's words for how the patient lies."""
    gantry = orientation.patient_gantry_relationship_code_sequence.code_meaning.lower().replace("-", "")
    lies = orientation.patient_orientation_modifier_code_sequence.code_meaning.lower()
    kept = {}
    if gantry.replace(" ", "") in ("headfirst", "feetfirst"):
        kept["patient orientation"] = "head_in" if gantry.startswith("head") else "feet_in"
    if lies in ("supine", "prone"):
        kept["patient rotation"] = lies
    return kept


def _tracer(injected: Any, acquisition: Any, first_ms: int) -> dict[str, Any]:
    """Tracer, isotope, injected activity and the start of the first block after the injection."""
    name = injected.radiopharmaceutical_code_sequence.code_meaning
    word = named_tracer([name]) or name or None
    facts = {
        "tracer": word,
        "isotope": mass_first(injected.radionuclide_code_sequence.code_meaning),
        "injected_mbq": _positive(injected.radionuclide_total_dose),
    }
    epoch = np.datetime64(0, "ns")
    injection = injected.radiopharmaceutical_start_date_time.numpy_value
    if acquisition is not None and min(acquisition.numpy_value, injection) > epoch:
        seconds = float((acquisition.numpy_value - injection) / np.timedelta64(1, "s")) + first_ms / 1000
        facts["start_s"] = seconds if 0 <= seconds < 86400 else None
    return facts
