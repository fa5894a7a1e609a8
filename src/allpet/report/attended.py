"""What attention leaves in files: a folder for ``allpet attend``, a table and an audit beside a task's result."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from allpet import audit
from allpet.errors import AllpetError
from allpet.io.files import part_of, replacing
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
    with _at_once(folder) as part:
        save(label_image(attended.regions, attended.image), part / LABELS)
        write_regions(attended.regions, part / REGIONS)
        write_planes(part, attended)
        known = audit.read(folder / AUDIT) if (folder / AUDIT).exists() else []
        line = audit.entry("attended", attended.regions)
        write_attention_report(part / REPORT, attended, [*known, line])
        audit.append(folder / AUDIT, line)
    return [folder / name for name in (IMAGE, LABELS, REGIONS, ATTENTION, EMPHASISED, AUDIT, REPORT)]


@contextmanager
def _at_once(folder: Path) -> Iterator[Path]:
    """A hidden folder whose files take their places in `folder` when the block ends without an error.

    Older headers go first, and new ones come last, so that no kill leaves a header with data of another run.

    Raises
    ------
    AllpetError : the folder cannot be written; errors of the block name the files' places.
    """
    part = None
    try:
        part = Path(tempfile.mkdtemp(prefix=part_of(folder / "attended"), suffix=".part", dir=folder))
        yield part
        files = sorted(part.iterdir(), key=lambda file: file.suffix == ".hs")
        for file in files:
            if file.suffix == ".hs":
                (folder / file.name).unlink(missing_ok=True)
        for file in files:
            os.replace(file, folder / file.name)
    except AllpetError as error:
        raise AllpetError(str(error).replace(str(part), str(folder))) from None
    except OSError as error:
        raise AllpetError(f"{folder}: cannot be written ({error.strerror or error})") from None
    finally:
        if part is not None:
            shutil.rmtree(part, ignore_errors=True)


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
