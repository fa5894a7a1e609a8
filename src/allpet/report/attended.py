"""What attention leaves in files: a folder for ``allpet attend``, a table and an audit beside a task's result."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from allpet import audit
from allpet.errors import AllpetError
from allpet.io.files import replacing
from allpet.io.regions import label_image, write_regions
from allpet.provenance import provenance
from allpet.report.attention import write_attention_report
from allpet.save import save

if TYPE_CHECKING:
    from allpet.mask.attend import Attended
    from allpet.mask.region import Region
    from allpet.model.allpet import Result

REGIONS, AUDIT, REPORT, LABELS = "regions.json", "audit.jsonl", "report.html", "roi.nii.gz"
IMAGE, ATTENTION, EMPHASISED = "image.nii.gz", "attention.hs", "emphasised.hs"


def write_attended(folder: Path, attended: Attended) -> list[Path]:
    """Write image, label map, regions, weights, emphasised scan, audit and report; gives their paths.

    Parameters
    ----------
    folder : made if there is none; files of these names are replaced, an audit grows.

    Raises
    ------
    AllpetError : the folder cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AllpetError(f"{folder}: cannot be made ({error.strerror or error})") from None
    save(label_image(attended.regions, attended.image), folder / LABELS)
    write_regions(attended.regions, folder / REGIONS)
    write_planes(folder, attended)
    audit.append(folder / AUDIT, audit.entry("attended", attended.regions))
    write_attention_report(folder / REPORT, attended, audit.read(folder / AUDIT))
    return [folder / name for name in (IMAGE, LABELS, REGIONS, ATTENTION, EMPHASISED, AUDIT, REPORT)]


def write_planes(folder: Path, attended: Attended) -> None:
    """Write the image, the weights and the emphasised scan."""
    save(attended.image, folder / IMAGE)
    save(attended.weights_scan, folder / ATTENTION)
    save(attended.emphasised, folder / EMPHASISED)


def write_region_table(
    table: Path, log: Path, task: str, result: Result, regions: Sequence[Region], seed: int, model_hash: str
) -> None:
    """Write the regions' uptake before and after a task as JSON, and a line of audit.

    Parameters
    ----------
    table, log : files to write; the log grows. regions : that the task attended to.
    """
    rows = [asdict(one) for one in result.regions]
    facts = provenance(seed=seed, model_hash=model_hash)
    content = {"task": task, "notes": list(result.notes), "regions": rows, "provenance": facts}
    with replacing(table) as (part,):
        part.write_text(json.dumps(content, indent=1), encoding="utf-8")
    audit.append(log, audit.entry(f"applied {task}", regions, seed, model_hash, results=rows))
