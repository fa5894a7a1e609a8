"""PETSIRD: files written with its own package, a point whose sine wave is known, efficiencies counted one by one."""

from __future__ import annotations

import builtins
from pathlib import Path

import numpy as np
import pytest

from allpet.errors import AllpetError
from allpet.io import read as read_scan
from allpet.io.convert import convert, describe
from allpet.io.petsird import read_petsird
from allpet.io.petsird_scanner import PetsirdScanner

petsird = pytest.importorskip("petsird")
DateTime = petsird.yardl_types.DateTime

MODULES, ALONG, RINGS = 12, 4, 6
"""Modules on the ring, elements of a module along the ring and along the axis."""
RADIUS, RING_MM = 300.0, 5.0
CRYSTALS = MODULES * ALONG


def ring_scanner(gap: bool = False, energies: int = 1, shift: float = 0.0) -> petsird.ScannerInformation:
    """A round ring of 48 positions and 6 rings; a module is a sector, turned about the axis.

    ``gap`` leaves out every module's first position; ``shift`` turns the ring by so many positions.
    """
    half = np.array([(x, y, z) for x in (-9, 9) for y in (-2, 2) for z in (-2, 2)], np.float32)
    box = petsird.BoxShape(corners=[petsird.Coordinate(c=corner) for corner in half])
    elements = petsird.ReplicatedBoxSolidVolume(object=petsird.BoxSolidVolume(shape=box, material_id=1))
    for k in range(1 if gap else 0, ALONG):
        for ring in range(RINGS):
            turned = rotation((k + shift) / CRYSTALS)
            turned[:, 3] = turned[:, :3] @ (RADIUS, 0, 0) + (0, 0, (ring - (RINGS - 1) / 2) * RING_MM)
            elements.transforms.append(petsird.RigidTransformation(matrix=turned.astype(np.float32)))
    modules = petsird.ReplicatedDetectorModule(object=petsird.DetectorModule(detecting_elements=elements))
    for k in range(MODULES):
        modules.transforms.append(petsird.RigidTransformation(matrix=rotation(k / MODULES).astype(np.float32)))
    return petsird.ScannerInformation(
        model_name="Ring",
        scanner_geometry=petsird.ScannerGeometry(replicated_modules=[modules]),
        tof_bin_edges=[[petsird.BinEdges(edges=np.linspace(-300, 300, 6, dtype=np.float32))]],
        tof_resolution=[[30.0]],
        event_energy_bin_edges=[petsird.BinEdges(edges=np.linspace(430, 650, energies + 1, dtype=np.float32))],
        energy_resolution_at_511=[0.1],
        prompt_event_policy=petsird.CoincidencePolicy.REJECT_HIGHER_MULTIPLES,
        delayed_event_policy=petsird.CoincidencePolicy.REJECT_HIGHER_MULTIPLES,
    )


def rotation(turns: float) -> np.ndarray:
    """A turn about z, 3 x 4."""
    c, s = np.cos(2 * np.pi * turns), np.sin(2 * np.pi * turns)
    return np.array([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, 1, 0]])


def position(bins: np.ndarray) -> np.ndarray:
    """Where a detection bin of the scanner without gaps stands in PETSIRD's axes, worked out by hand."""
    module, element = np.divmod(bins, ALONG * RINGS)
    k, ring = np.divmod(element, RINGS)
    angle = 2 * np.pi * (module * ALONG + k) / CRYSTALS
    z = (ring - (RINGS - 1) / 2) * RING_MM
    return np.stack([RADIUS * np.cos(angle), RADIUS * np.sin(angle), z], axis=-1)


def exam() -> petsird.ExamInformation:
    def code(meaning: str) -> petsird.DICOMBasicCodeSequence:
        return petsird.DICOMBasicCodeSequence(code_meaning=meaning)

    return petsird.ExamInformation(
        patient=petsird.DICOMPatientInformation(
            patient_id="SECRET-1", patients_sex="F", patients_size=1.62, patients_weight=65.4
        ),
        patient_orientation=petsird.DICOMPatientOrientationInformation(
            patient_orientation_modifier_code_sequence=code("supine"),
            patient_gantry_relationship_code_sequence=code("headfirst"),
        ),
        start_of_acquisition=DateTime(np.datetime64("2024-05-06T10:00:00", "ns")),
        radiopharmaceuticals=[
            petsird.DICOMRadiopharmaceuticalInformation(
                radiopharmaceutical_start_date_time=DateTime(np.datetime64("2024-05-06T09:00:00", "ns")),
                radionuclide_total_dose=180.5,
                radiopharmaceutical_code_sequence=code("Fluorodeoxyglucose F^18^"),
                radionuclide_code_sequence=code("^18^Fluorine"),
            )
        ],
    )


def block(prompts: np.ndarray, delayeds: np.ndarray | None = None, start: int = 0) -> petsird.TimeBlock:
    def events(pairs: np.ndarray) -> list:
        return [
            petsird.CoincidenceEvent(detection_bins=[int(a), int(b)], tof_idx=k % 5) for k, (a, b) in enumerate(pairs)
        ]

    return petsird.TimeBlock.EventTimeBlock(
        petsird.EventTimeBlock(
            time_interval=petsird.TimeInterval(start=start, stop=start + 250),
            prompt_events=[[events(prompts)]],
            delayed_events=[] if delayeds is None else [[events(delayeds)]],
        )
    )


def write(path: Path, scanner: petsird.ScannerInformation, blocks: list, about: object = None) -> Path:
    with petsird.BinaryPETSIRDWriter(str(path)) as writer:
        writer.write_header(petsird.Header(scanner=scanner, exam=about))
        writer.write_time_blocks(blocks)
    return path


def pairs_through(point: np.ndarray, within: float) -> np.ndarray:
    """All pairs of detection bins whose line passes a point in PETSIRD's axes within so many mm, larger bin first."""
    everything = position(np.arange(CRYSTALS * RINGS))
    first, second = np.tril_indices(len(everything), -1)
    p, q = everything[first], everything[second]
    along = (q - p) / np.linalg.norm(q - p, axis=1, keepdims=True)
    away = point - p
    distance = np.linalg.norm(away - (away * along).sum(1, keepdims=True) * along, axis=1)
    far = np.hypot(*(q - p)[:, :2].T) > RADIUS  # not along one column
    return np.stack([first, second], axis=1)[(distance < within) & far]


def test_a_point_makes_its_sine_wave_in_its_plane(tmp_path: Path) -> None:
    """A point at the patient's left, back and head of the centre: x > 0, y > 0 (down), z > 0 in PETSIRD's axes."""
    point = np.array([60.0, 95.0, 7.5])
    pairs = pairs_through(point, 6.0)
    assert len(pairs) > 30
    scan = read_petsird(
        write(tmp_path / "a.petsird", ring_scanner(), [block(pairs[:20]), block(pairs[20:], start=250)])
    )
    assert scan.sinogram.sum() == len(pairs) and scan.delayeds is None
    assert scan.geometry.views == CRYSTALS // 2 and len(scan) == 2 * RINGS - 1
    assert np.isclose(scan.geometry.bin_mm, np.pi * RADIUS / CRYSTALS) and scan.plane_mm == RING_MM / 2
    _, view, radial = np.nonzero(scan.sinogram.numpy())
    phi = scan.geometry.angles[view]
    wave = point[0] * np.cos(phi) - point[1] * np.sin(phi)  # our y points to the front
    slack = 6.0 + scan.geometry.bin_mm / 2 + np.hypot(*point[:2]) * np.pi / CRYSTALS  # line, bin, half a view
    assert np.abs(scan.geometry.radii[radial] - wave).max() <= slack
    assert len(set(view)) > 10 and np.ptp(scan.geometry.radii[radial]) > 150
    # planes run from the head, z = 12.5 mm is plane 0; a line belongs to the plane midway between its ends (SSRB)
    middle = position(pairs)[..., 2].mean(axis=1)
    expected = np.bincount(np.rint((12.5 - middle) / 2.5).astype(int), minlength=2 * RINGS - 1)
    assert np.array_equal(scan.sinogram.sum(dim=(1, 2)).numpy(), expected)
    flat = pairs[(position(pairs)[..., 2] == point[2]).all(axis=1)]
    direct = read_petsird(write(tmp_path / "b.petsird", ring_scanner(), [block(flat)]))
    assert len(flat) > 10 and set(np.nonzero(direct.sinogram.numpy())[0]) == {2}


@pytest.mark.parametrize("shift", [0.0, 0.5, 0.3])
def test_every_pair_is_counted_once(tmp_path: Path, shift: float) -> None:
    """One event for each pair of elements fills the sinogram with exactly the normalisation: no efficiency but 1."""
    count = CRYSTALS * RINGS
    first, second = np.tril_indices(count, -1)
    column = (np.arange(count) // (ALONG * RINGS)) * ALONG + np.arange(count) % (ALONG * RINGS) // RINGS
    pairs = np.stack([first, second], axis=1)[column[first] != column[second]]
    scan = read_petsird(write(tmp_path / "a.petsird", ring_scanner(shift=shift), [block(pairs, pairs[::2])]))
    assert np.array_equal(scan.sinogram.numpy(), scan.normalisation.numpy())
    assert scan.normalisation.sum() == len(pairs) and scan.delayeds.sum() == len(pairs[::2])
    inner = np.abs(scan.geometry.radii) < 0.9 * RADIUS
    assert (scan.normalisation[:, :, inner] > 0).all()


def test_gaps_are_missing(tmp_path: Path) -> None:
    scan = read_petsird(write(tmp_path / "a.petsird", ring_scanner(gap=True), [block(np.array([[100, 0]]))]))
    missing = 1 - scan.live.float().mean()
    assert 0.05 < missing < 0.6 and (scan.sinogram[~scan.live] == 0).all()
    positions = 3 * MODULES
    assert scan.normalisation.sum() == positions * (positions - 1) // 2 * RINGS**2


def test_efficiencies_are_those_of_the_package(tmp_path: Path) -> None:
    """Against ``petsird.helpers.get_detection_efficiency``, summed pair by pair and window by window."""
    from petsird.helpers import get_detection_efficiency

    rng = np.random.default_rng(3)
    scanner = ring_scanner(energies=2)
    inside = ALONG * RINGS * 2
    group = [[int((a - b) % 5) if 3 <= a - b <= 9 else -1 for b in range(a + 1)] for a in range(MODULES)]
    scanner.detection_efficiencies = petsird.DetectionEfficiencies(
        calibration_factor=2.0,
        detection_bin_efficiencies=[rng.uniform(0.5, 1, MODULES * inside).astype(np.float32).tolist()],
        module_pair_sgidlut=[[group]],
        module_pair_efficiencies_vectors=[
            [
                [
                    petsird.ModulePairEfficiencies(values=rng.uniform(0.5, 1, (inside, inside)).tolist(), sgid=k)
                    for k in range(5)
                ]
            ]
        ],
    )
    path = write(tmp_path / "a.petsird", scanner, [block(np.array([[400, 0]]))])
    scan = read_petsird(path)
    assert scan.header["calibration factor"] == "2.0" and "2 energy windows" in scan.header["petsird note"]
    known = PetsirdScanner.of(path, scanner)
    values = known.efficiencies(path).reshape(-1)
    pairs = np.stack(np.tril_indices(MODULES * inside, -1), axis=1)
    bins = known.bins_of(path, (0, 0), pairs)
    for wanted in [*rng.choice(np.flatnonzero(values), 12), *rng.choice(np.flatnonzero(values == 0), 4)]:
        mine = pairs[bins == wanted].tolist()
        expected = sum(get_detection_efficiency(scanner, [0, 0], a, b, False) for a, b in mine)
        assert values[wanted] == pytest.approx(expected, rel=1e-5)
    edge = (known.beam.bins - scan.geometry.bins) // 2
    whole = values.reshape(known.planes, *known.beam.shape)
    assert np.array_equal(scan.normalisation.numpy(), whole[..., edge : known.beam.bins - edge])
    assert edge > 0 and whole[..., :edge].max() == 0  # neighbouring modules are not in coincidence


def test_facts_without_the_person(tmp_path: Path) -> None:
    scan = read_petsird(write(tmp_path / "a.petsird", ring_scanner(), [block(np.array([[100, 0]]), start=500)], exam()))
    assert (scan.tracer, scan.isotope, scan.scanner) == ("FDG", "18F", "Ring")
    assert (scan.sex, scan.weight_kg, scan.height_m, scan.injected_mbq) == ("F", 65.4, 1.62, 180.5)
    assert (scan.start_s, scan.duration_s, scan.decay_reference) == (3600.5, 0.25, "none")
    assert scan.header["patient orientation"] == "head_in" and scan.header["patient rotation"] == "supine"
    assert "5 time-of-flight bins summed" in scan.header["petsird note"]
    assert "SECRET" not in repr(scan)


def test_other_blocks_are_passed_over_and_movement_is_refused(tmp_path: Path) -> None:
    still = petsird.RigidTransformation(matrix=np.eye(3, 4, dtype=np.float32))
    moved = petsird.RigidTransformation(matrix=np.eye(3, 4, 1, dtype=np.float32))
    array = np.empty((1,), object)
    array[0] = [[0.5, 0.25], [1.0]]
    others = [
        petsird.TimeBlock.BedMovementTimeBlock(petsird.BedMovementTimeBlock(transform=still)),
        petsird.TimeBlock.GantryMovementTimeBlock(petsird.GantryMovementTimeBlock(transforms=[still])),
        petsird.TimeBlock.ExternalSignalTimeBlock(
            petsird.ExternalSignalTimeBlock(signal_id=3, signal_values=[1.0, 2.0])
        ),
        petsird.TimeBlock.DeadTimeTimeBlock(
            petsird.DeadTimeTimeBlock(
                alive_time_fractions=petsird.AliveTimeFractions(
                    singles_alive_time_fractions=[np.ones(7, np.float32)], module_pair_alive_time_fractions=[[array]]
                )
            )
        ),
        petsird.TimeBlock.SinglesHistogramTimeBlock(
            petsird.SinglesHistogramTimeBlock(singles_per_singles_unit_histogram=[[1, 2**40], [3]])
        ),
        petsird.TimeBlock.EventTimeBlock(
            petsird.EventTimeBlock(
                single_events=[[petsird.SingleEvent(detection_bin=5, time_offset_in_time_block=2**31)]],
                triple_events=[[[[petsird.TripleEvent(detection_bins=[5, 4, 3])]]]],
            )
        ),
    ]
    event = block(np.array([[100, 0]]))
    scan = read_petsird(write(tmp_path / "a.petsird", ring_scanner(), [*others, event]))
    assert scan.sinogram.sum() == 1 and "1 triples left out" in scan.header["petsird note"]
    moving = petsird.TimeBlock.BedMovementTimeBlock(petsird.BedMovementTimeBlock(transform=moved))
    with pytest.raises(AllpetError, match="bed moves"):
        read_petsird(write(tmp_path / "b.petsird", ring_scanner(), [moving, event]))


def test_bad_files_are_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def message(path: Path) -> str:
        with pytest.raises(AllpetError) as raised:
            read_petsird(path)
        assert "\n" not in str(raised.value) and path.name in str(raised.value)
        return str(raised.value)

    path = write(tmp_path / "a.petsird", ring_scanner(), [block(np.array([[100, 0], [90, 7]]))])
    whole = path.read_bytes()
    assert "detection bin 288" in message(write(tmp_path / "b.petsird", ring_scanner(), [block(np.array([[288, 0]]))]))
    assert "no coincidences" in message(write(tmp_path / "b.petsird", ring_scanner(), []))
    assert "no scanner" in message(write(tmp_path / "b.petsird", petsird.ScannerInformation(), []))
    (tmp_path / "b.petsird").write_bytes(whole[:-3])
    assert "whole" in message(tmp_path / "b.petsird")
    (tmp_path / "b.petsird").write_bytes(whole.replace(b"promptEvents", b"promptOthers"))
    assert "version" in message(tmp_path / "b.petsird")
    (tmp_path / "b.petsird").write_bytes(b"")
    assert "yardl" in message(tmp_path / "b.petsird")
    assert "does not exist" in message(tmp_path / "gone.petsird")
    imported = builtins.__import__

    def without(name: str, *rest: object) -> object:
        if name.startswith("petsird"):
            raise ImportError(name)
        return imported(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    assert "pip install 'allpet[petsird]'" in message(path)


def test_convert_and_info_take_it(tmp_path: Path) -> None:
    pairs = pairs_through(np.array([40.0, 20.0, 7.5]), 6.0)
    path = write(tmp_path / "a.petsird", ring_scanner(), [block(pairs)])
    convert(path, tmp_path / "a.hs")
    made, scan = read_scan(tmp_path / "a.hs"), read_petsird(path)
    assert np.array_equal(made.sinogram, scan.sinogram) and np.array_equal(made.normalisation, scan.normalisation)
    assert describe(path)["total"] == len(pairs)
