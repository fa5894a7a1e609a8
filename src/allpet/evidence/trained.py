"""What has to be trained first: arms and rivals, the U-Net of the tasks, few pairs, synthetic sinograms."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from allpet.evidence.table import Found, Part, Setting, Table
from allpet.report.table import plain

HERE = "allpet.evidence.trained"
MOST = 5000
ARMS = ("ours", "geometric", "half", "none", "rmas+dmm", "ours-50", "ours-5000", "vae", "gan", "score", "ldm")
"""The published ones."""
SEVERAL = ("ours", "vae")
"""Arms that are trained with three seeds."""
ARM_MINUTES, PLAIN_MINUTES, BASE_MINUTES, PAIRS_MINUTES, SYNTHETIC_MINUTES = 5.0, 28.0, 12.0, 2.0, 5.0


def sinograms(*, work: str, count: int) -> dict[str, Any]:
    """Simulate the training sinograms."""
    from allpet.study.data import simulate_all

    simulate_all(Path(work) / "data", count)
    return {"sinograms": count}


def pairs(*, work: str) -> dict[str, Any]:
    """Simulate the training pairs."""
    from allpet.study.data import pair_stores, simulate_pairs

    simulate_pairs(Path(work) / "pairs")
    return {"pairs": sum(count for _, count, _ in pair_stores(Path(work)))}


def _pair_paths(work: str) -> list[Path]:
    from allpet.study.data import pair_stores

    return [path for path, _, _ in pair_stores(Path(work) / "pairs")]


def plain_net(*, work: str, minutes: float) -> dict[str, Any]:
    """Train the U-Net beside the tasks."""
    from allpet.study.plain import train_plain

    train_plain(_pair_paths(work), Path(work) / "plain", minutes)
    return {"minutes": minutes}


def base(*, work: str, minutes: float) -> dict[str, Any]:
    """Train a base that has not seen the task of few pairs."""
    from allpet.study.lowshot import train_base

    train_base(_pair_paths(work), Path(work) / "lowshot" / "base", minutes)
    return {"minutes": minutes}


def arm(*, work: str, name: str, seed: int, minutes: float, n: int) -> dict[str, Any]:
    """Train and score one arm."""
    from allpet.study.arms import run_arm

    folder = Path(work)
    return plain(run_arm(name, folder / "data", folder / "arms", seed, minutes, n))


def unadapted(*, work: str) -> dict[str, Any]:
    """Few pairs: what needs none."""
    from allpet.study.lowshot import unadapted as rows

    return {"rows": plain(rows(Path(work) / "lowshot" / "base"))}


def few_pairs(*, work: str, count: int, minutes: float) -> dict[str, Any]:
    """Few pairs: adapter and U-Net."""
    from allpet.study.lowshot import with_pairs

    folder = Path(work) / "lowshot"
    return {"rows": plain(with_pairs(folder / "base", folder, count, minutes=minutes))}


def synthetic(
    *, work: str, model: str | None, digest: str, precision: str, minutes: float, seed: int
) -> dict[str, Any]:
    """Train on synthetic, test on real, one seed."""
    from allpet.study.synthetic import compare

    rows = compare(Path(work) / "data", None if model is None else Path(model), minutes=minutes, seeds=(seed,))
    return {"rows": plain(rows)}


def sinograms_part(work: str) -> Part:
    """The piece that simulates what arms learn from."""
    return Part("training.sinograms", f"{HERE}:sinograms", dict(work=work, count=MOST), 600, False, 0)


def pairs_part(work: str) -> Part:
    """The piece that simulates the pairs of all tasks."""
    return Part("training.pairs", f"{HERE}:pairs", dict(work=work), 900, False, 0)


def plain_part(work: str) -> Part:
    """The piece that trains the U-Net beside the tasks."""
    options = dict(work=work, minutes=PLAIN_MINUTES)
    return Part("training.plain", f"{HERE}:plain_net", options, 60 * PLAIN_MINUTES, False, 1)


def _first(seeds: Sequence[Found]) -> Any:
    return [row for one in seeds[0].values() for row in one.get("rows", ())]


def _arm_parts(setting: Setting, seed: int) -> list[Part]:
    if not setting.size.trained or seed % setting.size.repeats:
        return []
    out = [sinograms_part(setting.work)]
    for name in ARMS:
        for own in range(3 if name in SEVERAL else 1):
            options = dict(work=setting.work, name=name, seed=own, minutes=ARM_MINUTES, n=48)
            out.append(Part(f"{name}-{own}".replace("+", "-"), f"{HERE}:arm", options, 60 * ARM_MINUTES + 400, False))
    return out


def _arm_gather(seeds: Sequence[Found]) -> Any:
    return [one for one in seeds[0].values() if "arm" in one]


def _arm_text(rows: Any) -> str:
    from allpet.study.arms import markdown

    return markdown(rows)


ARMS_TABLE = Table(
    "arms",
    "Arms, data sizes and rivals",
    lambda setting: [
        f"Every arm with {ARM_MINUTES:g} minutes of processor time on one core, 48 drawn of each of 15 prompts "
        "against 48 of people never seen; ratios to 48 others.",
        f"The same alone: python -m allpet.study arms --arms {' '.join(ARMS)}.",
    ],
    _arm_parts,
    _arm_gather,
    _arm_text,
)


def _lowshot_parts(setting: Setting, seed: int) -> list[Part]:
    from allpet.study.lowshot import COUNTS

    if not setting.size.trained or seed % setting.size.repeats:
        return []
    work = setting.work
    made = [
        pairs_part(work),
        Part("base", f"{HERE}:base", dict(work=work, minutes=BASE_MINUTES), 60 * BASE_MINUTES, False, 1),
        Part("unadapted", f"{HERE}:unadapted", dict(work=work), 20, False),
    ]
    for count in COUNTS:
        options = dict(work=work, count=count, minutes=PAIRS_MINUTES)
        made.append(Part(f"pairs-{count}", f"{HERE}:few_pairs", options, 120 * PAIRS_MINUTES + 90, False))
    return made


def _lowshot_text(rows: Any) -> str:
    from allpet.study.lowshot import markdown

    return markdown(rows)


LOWSHOT = Table(
    "low-shot",
    "Few pairs",
    lambda setting: [
        "FDG to PSMA in the abdomen with 10 to 500 pairs: an adapter on a base that was trained without any pair of "
        f"conversion beside a U-Net from scratch, {PAIRS_MINUTES:g} minutes of processor time each.",
        f"The same alone: python -m allpet.study lowshot --base-minutes {BASE_MINUTES:g} --minutes {PAIRS_MINUTES:g}.",
    ],
    _lowshot_parts,
    _first,
    _lowshot_text,
)


def _synthetic_parts(setting: Setting, seed: int) -> list[Part]:
    if not setting.size.trained:
        return []
    options = dict(work=setting.work, minutes=SYNTHETIC_MINUTES, seed=seed)
    return [
        sinograms_part(setting.work),
        Part("synthetic", f"{HERE}:synthetic", options, 4 * 60 * SYNTHETIC_MINUTES + 200),
    ]


def _synthetic_text(rows: Any) -> str:
    from allpet.study.synthetic import markdown

    return markdown(rows)


SYNTHETIC = Table(
    "synthetic",
    "Train on synthetic, test on real",
    lambda setting: [
        "A low-dose U-Net trained on 100 real sinograms, on these with exact geometry, and with 900 generated "
        "ones added; tested on people that neither it nor the generator saw.",
        "The same alone: python -m allpet.study synthetic --data DIR.",
    ],
    _synthetic_parts,
    lambda seeds: [row for found in seeds for one in found.values() for row in one["rows"]],
    _synthetic_text,
)
