"""Where does the error of separation come from: from the two tracers' shares, or from the restored sum?

``separate`` restores the sum of both tracers and splits it, bin by bin, by the shares that the network's two images
give. Here the one and the other are replaced by the truth, which nobody has outside of a simulation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from allpet.mask import split
from allpet.model import AllPET
from allpet.report.tasks_table import case_rows, means_in_cells, score
from allpet.scan.dataset import Dataset
from allpet.study.cases import CASES, Case
from allpet.task.planes import begin, parts, question
from allpet.task.rivals import truth
from allpet.task.separate import share_of
from allpet.train.pairs import PairSet

KEYS = {
    "psnr_sinogram": "PSNR sinogram (dB)",
    "psnr_image": "PSNR image (dB)",
    "organ_error": "organ error (%)",
    "cross_talk": "cross-talk (%)",
}
NAMES = ("allpet", "true shares", "true sum")


def estimates(model: AllPET, data: Dataset) -> dict[str, torch.Tensor]:
    """Trues of both tracers ``(n, 2, view, radial)`` as allpet gives them, with true shares, and with the true sum."""
    network, whole = model.translator_of("separate"), truth(data).sum(dim=1)
    right = PairSet.from_dataset(data, model.need("restorer")).target.float()
    out: dict[str, list[torch.Tensor]] = {name: [] for name in NAMES}
    for k in range(len(data)):
        scan, words = begin("separate", model, data.scan([k]), None, [])
        dynamic = scan.dynamic is not None
        for part in parts(model, scan, scan.attenuation, frames=dynamic):
            with torch.no_grad():
                mean, _ = network(part.seen.views, question("separate", words, part, frames=dynamic))
            mine, true = (share_of(part, images, model) for images in (mean, right[k : k + 1]))
            for name, total, share in zip(
                NAMES, (part.trues(), part.trues(), whole[k : k + 1]), (mine, true, mine), strict=True
            ):
                out[name].append(torch.stack(split(total, share), dim=1))
    return {name: torch.cat(each) for name, each in out.items()}


def judge(
    model: AllPET, people: int, seeds: Sequence[int], cases: Sequence[Case] | None = None
) -> list[dict[str, Any]]:
    """A row for each case and estimate: mean and standard error over people."""
    rows = []
    for case in [case for case in CASES if case.task == "separate"] if cases is None else cases:
        found = []
        for seed in seeds:
            data = case.simulate(people, "test", seed, model.beam.shape)
            each = {name: score(estimate, data) for name, estimate in estimates(model, data).items()}
            found.append(dict(each=each, doubt={}))
        for row in case_rows(case, found):
            scores = {name: row[name] for key in KEYS for name in (key, f"{key}_se")}
            rows.append(dict(case=case.name, estimate=row["method"], n=row["n"]) | scores)
    return rows


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as a Markdown table."""
    lines = ["| case | estimate | " + " | ".join(KEYS.values()) + " | n |", "|---" * (len(KEYS) + 3) + "|"]
    for row in rows:
        cells = means_in_cells(row, KEYS)
        lines.append(f"| {row['case']} | {row['estimate']} | {' | '.join(cells)} | {row['n']} |")
    return "\n".join(lines)
