"""One readable file to another (``allpet convert``), and what a file holds (``allpet info``)."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from allpet.errors import AllpetError
from allpet.geometry import ParallelBeam
from allpet.io import DATASET, IMAGE, LIST_MODE, PETSIRD, kind_of, read
from allpet.io.files import replacing
from allpet.io.images import UNKNOWN_UNIT
from allpet.io.place import not_an_input
from allpet.io.remote import Place, place_of
from allpet.io.store import open_store
from allpet.provenance import provenance
from allpet.save import HEADER_KEY, put_dataset, save
from allpet.scan.core import FACTORS, Acquired, Image, Scan
from allpet.scan.dataset import Dataset
from allpet.scan.rebin import rebinned
from allpet.scan.units import ACTIVITY, COUNTS, HU, MU


def convert(
    src: Place | str,
    dst: Place | str,
    span: int | None = None,
    start_s: float | None = None,
    stop_s: float | None = None,
    to_mu: bool = False,
    to_suv: bool = False,
    rebin: bool = False,
) -> tuple[str, ...]:
    """Read any readable file and write it in another format.

    List mode becomes raw counts of the direct planes after SSRB, not arc-corrected, with delayeds and normalisation
    beside them; ``span=1`` keeps all span-1 planes (16-bit counts, one segment for each ring difference).

    Parameters
    ----------
    span : 1, or None for the direct planes; for list mode to ``.hs`` only.
    start_s, stop_s : keep the events of this time; for list mode only.
    to_mu : turn a CT image in HU into attenuation at 511 keV in 1/mm; an unknown unit is taken for HU.
    to_suv : turn an image in kBq/mL into SUV by body weight; see :mod:`allpet.scan.suv`.
    rebin : sum the planes of several segments into direct planes; see :func:`allpet.scan.rebin.rebinned`.

    Returns
    -------
    what the other format does not hold, in words.

    Raises
    ------
    AllpetError : endings that do not go together, anything wrong with the input, an output that cannot be written.
    """
    src, dst = place_of(src), place_of(dst)
    source, target = kind_of(src), kind_of(dst)
    if isinstance(src, Path) and not src.exists():
        raise AllpetError(f"{src}: does not exist; give an existing file")
    not_an_input(dst, src)
    if target in (LIST_MODE, PETSIRD):
        raise AllpetError(f"{dst}: list mode cannot be written; use .hs")
    if (source == IMAGE) != (target == IMAGE):
        hint = "use 'allpet recon' to make an image" if target == IMAGE else "an image is no sinogram"
        raise AllpetError(f"{src}: {source} cannot be converted to {target}; {hint}")
    if span not in (None, 1):
        raise AllpetError(f"span {span} is not known; use 1 for all planes, or none for the direct planes")
    if source != LIST_MODE:
        if span is not None or start_s is not None or stop_s is not None:
            raise AllpetError(f"{src}: span and times are for list mode in .l files; leave them out")
        if source == target == DATASET and not (to_mu or to_suv or rebin):
            return _copy(src, dst)
        value = read(src)
        if to_mu and to_suv:
            raise AllpetError(f"{src}: cannot become a mu map and SUV at once; choose one")
        if rebin:
            value = _rebinned(src, value)
        save(_mu(src, value) if to_mu else _to_suv(src, value) if to_suv else value, dst)
        notes = []
        if isinstance(value, Scan) and value.dynamic is not None and target != DATASET:
            notes.append(f"dynamic frames are left out: {dst.name} holds one frame; a .zarr keeps them all")
        if source == DATASET and "observed" in open_store(src):
            notes.append(f"{dst.name} holds what was measured; the truth beside it stays in {src.name}")
        return tuple(notes)
    if to_mu or to_suv:
        raise AllpetError(f"{src}: is {source}; only an image becomes a mu map or SUV")
    if rebin:
        raise AllpetError(f"{src}: list mode is rebinned anyway; leave rebin out")
    from allpet.io.listmode import read_listmode

    if span is None:
        save(read_listmode(str(src), start_s, stop_s), dst)
        return ()
    if not dst.name.lower().endswith(".hs"):
        raise AllpetError(f"{dst}: span 1 is written as .hs only; name such a file")
    _span1(Path(str(src)), Path(str(dst)), start_s, stop_s)
    return ()


def _rebinned(src: Place, value: Scan | Image) -> Scan:
    """A scan of several segments as one of direct planes."""
    direct = rebinned(value) if isinstance(value, Scan) else value
    if direct is value or not isinstance(direct, Scan):
        raise AllpetError(f"{src}: is no sinogram of several segments; leave rebin out")
    return direct


def _copy(src: Place, dst: Place) -> tuple[str, ...]:
    """A store as it is, with all of its arrays and attributes."""
    store = open_store(src)
    arrays = {name: store.rows(name) for name in store}
    put_dataset(Dataset(arrays, store.beam, dict(store.attributes)), dst)
    return ()


def _mu(src: Place, value: Scan | Image) -> Image:
    """Attenuation at 511 keV in 1/mm of a CT: by the tube voltage nearest to its own where it says one, else 120 kV."""
    from allpet.io.dicom_facts import VOLTAGE_KEY
    from allpet.scan.mumap import VOLTAGES, hu_to_mu

    if not isinstance(value, Image) or value.unit not in (HU, UNKNOWN_UNIT):
        what = f"is in '{value.unit}'" if isinstance(value, Image) else "is a sinogram"
        raise AllpetError(f"{src}: {what}; only a CT image in {HU} becomes a mu map")
    header = {str(key).lower(): text for key, text in value.header.items()}
    try:
        voltage = float(header.get(VOLTAGE_KEY, 120.0))
    except (TypeError, ValueError):
        voltage = 120.0
    mu = hu_to_mu(value.array.numpy(), min(VOLTAGES, key=lambda kv: abs(kv - voltage)))
    return replace(value, array=torch.as_tensor(np.asarray(mu, np.float32)), unit=MU)


def _to_suv(src: Place, value: Scan | Image) -> Image:
    """SUV by body weight of an image."""
    from allpet.scan.suv import to_suv

    if not isinstance(value, Image):
        raise AllpetError(f"{src}: is a sinogram; only an image becomes SUV")
    try:
        return to_suv(value)
    except AllpetError as error:
        raise AllpetError(f"{src}: {error}") from None


def _span1(src: Path, dst: Path, start_s: float | None, stop_s: float | None) -> None:
    """Histogram list mode into all span-1 planes, straight into the output files."""
    from allpet.io.interfile import companion
    from allpet.io.layout import sinogram_header, span1_segments
    from allpet.io.listmode import Tally, check_events, events, facts, open_listmode

    source = open_listmode(src)
    scanner = source.scanner
    stored = span1_segments(scanner.rings, scanner.max_ring_difference)
    shape = (sum(stored.planes), *scanner.beam.shape)
    parts = (dst, companion(dst, "delayeds"))
    tally = Tally()
    targets = [path for part in parts for path in (part.with_suffix(".s"), part)]
    with replacing(*targets, headers=True) as temporary:
        histograms = [np.memmap(temporary[k], "<u2", "w+", shape=int(np.prod(shape))) for k in (0, 2)]
        for chunk in events(source, tally, start_s, stop_s):
            for histogram, address in zip(histograms, chunk, strict=True):
                before = histogram[address]
                np.add.at(histogram, address, np.uint16(1))
                if (histogram[address] <= before).any():
                    raise AllpetError(f"{src}: a bin holds more than 65535 counts; read a shorter time")
        check_events(source, tally)
        for histogram in histograms:
            histogram.flush()
        known = facts(source, tally)
        known["header"] |= stored.as_header() | {HEADER_KEY: json.dumps(provenance())}
        like = Scan(
            torch.zeros(1, *scanner.beam.shape),
            scanner.beam,
            COUNTS,
            plane_mm=scanner.ring_mm,
            neighbours=True,
            **known,
        )
        for k, part in enumerate(parts):
            own = {"part of": dst.name} if k else {}
            text = sinogram_header(like, shape[0], part.with_suffix(".s").name, own, "<u2")
            temporary[2 * k + 1].write_text(text, "utf-8")


def describe(path: Place | str) -> dict[str, Any]:
    """What a file holds, as plain values in the order they are to be shown.

    Raises
    ------
    AllpetError : as :func:`allpet.io.read`.
    """
    path = place_of(path)
    if isinstance(path, Path) and (path / "config.json").is_file():
        return _describe_model(path)
    kind = kind_of(path)
    facts: dict[str, Any] = {"file": str(path), "kind": kind}
    if kind == LIST_MODE and isinstance(path, Path):
        return facts | _describe_listmode(path)
    if kind == DATASET:
        facts["hashes"] = _hashes(path)
    what = read(path)
    return facts | (_describe_image(what) if isinstance(what, Image) else _describe_scan(what))


def _hashes(path: Place) -> str:
    """Whether a store's files are those that were written."""
    from allpet.io.store import open_store

    files = open_store(path).verify_hashes()
    if files is None:
        return "none (of an older version or another program); nothing tells whether it was changed"
    return f"verified (sha256 of {files} files)"


def _describe_model(path: Path) -> dict[str, Any]:
    """A run or model folder: what it can do, what it was trained on, and whether its files are as they were written."""
    from allpet.model.allpet import KINDS, AllPET

    model = AllPET.from_pretrained(path)
    parts = [name for name in KINDS if getattr(model, name) is not None]
    bare = ", ".join(model.unhashed)
    facts: dict[str, Any] = {
        "file": str(path),
        "kind": "model",
        "model hash": model.hash,
        "hashes": f"none in {bare}; nothing tells whether they were changed" if bare else "verified (sha256)",
        "parts": ", ".join(parts),
        "tracers": ", ".join(model.config.get("tracers", ())),
        "regions": ", ".join(model.config.get("regions", ())),
    }
    if model.adapted:
        facts |= {"adapted to": ", ".join(model.adapted), "base": model.config["base"]["path"]}
    for name, record in model.config.get("trained", {}).items():
        facts[f"trained {name}"] = f"{record.get('steps')} steps, {record.get('seconds')} s"
    return facts


def _describe_listmode(path: Path) -> dict[str, Any]:
    from allpet.io.listmode import Tally, events, open_listmode
    from allpet.io.listmode import facts as known_facts

    source, tally = open_listmode(path), Tally()
    for _ in events(source, tally):
        pass
    known = known_facts(source, tally)
    return {
        "scanner": source.scanner.name,
        "words": source.words,
        "prompts": tally.prompts,
        "delayeds": tally.delayeds,
        "time tags": tally.time_tags,
        "other words": tally.other_words,
        **{part.name: known[part.name] for part in fields(Acquired) if known.get(part.name) is not None},
        **known["header"],
    }


def _describe_scan(scan: Scan) -> dict[str, Any]:
    views, bins = scan.geometry.shape
    facts: dict[str, Any] = {"planes": len(scan), "views": views, "bins": bins, "plane_mm": scan.plane_mm}
    if isinstance(scan.geometry, ParallelBeam):
        facts |= {"geometry": "parallel beam, arc-corrected", "bin_mm": scan.geometry.bin_mm}
    else:
        facts |= {"geometry": "ring, not arc-corrected", "radius_mm": scan.geometry.radius_mm}
    values = scan.sinogram
    facts |= {
        "unit": scan.unit,
        "total": float(values.sum(dtype=torch.float64)),
        "minimum": float(values.min()),
        "maximum": float(values.max()),
        "missing bins": f"{100 * float(1 - scan.live[:1].float().mean()):.1f} %",
        "factors": ", ".join(name for name in FACTORS if getattr(scan, name) is not None) or "none",
    }
    for name in ("counts_per_unit", "fwhm_mm"):
        value = getattr(scan, name)
        if isinstance(value, torch.Tensor) and value.numel() > 1:
            value = f"{float(value.min()):.4g} to {float(value.max()):.4g}"
        if value is not None:
            facts[name] = value
    return facts | _acquired(scan)


def _acquired(what: Acquired) -> dict[str, Any]:
    """What is known of the acquisition, the header's keys last."""
    known = {part.name: getattr(what, part.name) for part in fields(Acquired) if part.name != "header"}
    return {name: value for name, value in known.items() if value is not None} | what.header


def _describe_image(image: Image) -> dict[str, Any]:
    values = image.array
    facts = {
        "planes": len(image),
        "size": image.grid.size,
        "pixel_mm": image.grid.pixel_mm,
        "plane_mm": image.plane_mm,
        "unit": image.unit,
        "mean": float(values.mean(dtype=torch.float64)),
        "minimum": float(values.min()),
        "maximum": float(values.max()),
    }
    if image.unit == ACTIVITY and (image.injected_mbq is not None or image.weight_kg is not None):
        facts["SUV for 1 kBq/mL"] = _suv(image)
    return facts | _acquired(image)


def _suv(image: Image) -> float | str:
    """Factor to SUVbw, or why there is none."""
    from allpet.scan.suv import suv_factor

    try:
        return suv_factor(image)
    except AllpetError as error:
        return f"none ({error})"
