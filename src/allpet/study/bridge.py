"""A bridge or a regressor? Denoising diffusion bridges for the tasks, beside the translator trained for the same time.

The bridge (Zhou et al., arXiv 2309.16948) runs from the image that is seen to the one that is wanted, in logarithms,
and is sampled in ten evaluations at most (DBIM, arXiv 2405.15885; :mod:`allpet.diffusion.bridge`). Its network is the
translator's, told the bridge's state and time as well. One draw is a possible image; the mean of several is an
estimate to be compared with the regressor's, and their standard deviation an error bar.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from allpet.diffusion import BridgeScheduler, bridge_sample
from allpet.io.files import replacing
from allpet.model import AllPET
from allpet.model.denoiser import plane_positions
from allpet.model.moebius import PlaneConv, UNet
from allpet.model.prompt import TASKS
from allpet.model.translator import FRAMES, TOLD, Ask, Translator, Views, answer
from allpet.precision import autocast
from allpet.report.tasks_table import case_rows, doubt, means_in_cells, ours, score
from allpet.study.cases import CASES, Case
from allpet.train import train
from allpet.train.pairs import PairSet, forgotten, moved
from allpet.train.tasks import FLOOR, Tasks
from allpet.uncertainty import image_factor

BRIDGED = ("low-dose", "delayed", "convert")
"""Tasks from one image of activity to another."""
SHOWN = ("low-dose 1/20: FDG chest", "delayed 60 min: FDG abdomen", "convert to PSMA: FDG abdomen")
"""Cases that are judged."""
END, LEAST = 0.5, 0.01
"""T, and the last time before 0, in logarithms of 1 + uptake: what is seen and what is wanted differ by less than T."""
AT_END = 0.3
"""Share of training pairs at t = T, where the bridge's state is the image that is seen."""
DRAWS, STEPS = 8, 10
"""Draws behind a mean, and evaluations of each."""
REGRESSOR, ONE, MEAN, START = "regressor", "bridge, one draw", f"bridge, mean of {DRAWS}", "bridge, first evaluation"
KEYS = {"psnr_sinogram": "PSNR sinogram (dB)", "psnr_image": "PSNR image (dB)", "organ_error": "organ error (%)"}
DOUBTS = {"coverage": "90 % covers (%)", "correlation": "deviation follows error"}


def endpoint(views: Views, question: Ask) -> torch.Tensor:
    """Where a bridge starts: the image that is seen, decayed, ``(n, bins, bins)``, as the logarithm of 1 + uptake."""
    return torch.log1p(views.image * question.decay[:, None, None])


class BridgeNet(Translator):
    """The translator's network, told the state of a bridge and its time, too."""

    def __init__(self, widths: tuple[int, ...] = (24, 48, 80, 112), n_cond: int = 96, precision: str = "auto") -> None:
        super().__init__(widths, n_cond, precision)
        coarse = (len(widths) - 1,)
        self.embed = nn.Sequential(nn.Linear(len(TOLD) + 2, n_cond), nn.SiLU(), nn.Linear(n_cond, n_cond))
        self.unet = UNet(4 * (4 + FRAMES) + 3, 8, widths, n_cond, PlaneConv, attention=coarse)
        self.unet.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def clean(self, state: torch.Tensor, t: torch.Tensor, views: Views, question: Ask) -> torch.Tensor:
        """What is expected to be at t = 0, given the state at times t ``(n,)``; both as the logarithm of 1 + uptake."""
        seen = views.stack()
        seen = torch.cat([torch.sign(seen) * torch.log1p(seen.abs()), state[:, None]], dim=1)
        x = F.pixel_unshuffle(seen, 2)
        x = torch.cat([x, plane_positions(x.shape[-1], x.new_zeros(len(x)))], dim=1)
        level = (t / END).clamp_min(LEAST / END).log()[:, None]
        vector = self.condition(torch.cat([question.told, level / 2, (level / 2).square() - 1], dim=1), question)
        with autocast(x.device, self.precision):
            out = self.unet(x.contiguous(memory_format=torch.channels_last), F.silu(vector))
        change, more = F.pixel_shuffle(out.float(), 2).unbind(1)
        return torch.log1p(answer(views.image, change, more, question)[:, 0])


class BridgeTasks(Tasks):
    """Recipe: a bridge on the pairs of the translator, with its optimiser and augmentation."""

    def __init__(self, data: PairSet, folder: Path, seed: int) -> None:
        super().__init__(data, folder, seed)
        torch.manual_seed(seed)
        self.network = BridgeNet()
        self.bridge = BridgeScheduler(sigma_min=LEAST, sigma_max=END)

    def loss(self, network: Translator, rng: torch.Generator) -> torch.Tensor:
        """Mean over pairs of the logarithm of the relative square error of what is expected at t = 0."""
        network.precision = self.precision
        pick = self.rows[torch.randint(len(self.rows), (self.batch,), generator=rng)]
        return self._misfit(network, forgotten(moved(self.data[pick], rng), rng), rng)

    def _misfit(self, network: Translator, pairs: PairSet, rng: torch.Generator) -> torch.Tensor:
        assert isinstance(network, BridgeNet)
        start, wanted = endpoint(pairs.views, pairs.question), torch.log1p(pairs.target[:, 0].float())
        u, last = torch.rand(2, len(pairs), generator=rng)
        t = torch.where(last < AT_END, END, LEAST * (END / LEAST) ** u)
        noise = torch.randn(wanted.shape, generator=rng)
        state = self.bridge.add_noise(wanted, start, noise, t)
        error = network.clean(state, t, pairs.views, pairs.question) - wanted
        size = wanted.square().mean(dim=(-2, -1)).clamp_min(1e-6)
        return (error.square().mean(dim=(-2, -1)) / size + FLOOR).log().mean()

    def held_out(self, network: Translator, rng: torch.Generator) -> float | None:
        if not len(self.kept):
            return None
        parts = [self.kept[slice(k, k + 32)] for k in range(0, min(len(self.kept), 256), 32)]
        return sum(float(self._misfit(network, part, rng)) * len(part) for part in parts) / sum(map(len, parts))

    def export(self, network: Translator, record: dict[str, Any]) -> None:
        from safetensors.torch import save

        with replacing(self.folder / "bridge.safetensors") as (part,):
            part.write_bytes(save({name: value.contiguous() for name, value in network.state_dict().items()}))


class Regressor(Tasks):
    """Recipe: the translator from scratch, saved as it is."""

    export = BridgeTasks.export


def trained(recipe: type[BridgeTasks] | type[Regressor], pairs: PairSet, out: Path, minutes: float, seed: int) -> Any:
    """The network of a recipe, trained for minutes of processor time; an interrupted call goes on."""
    from safetensors.torch import load_file

    train(pairs, out, recipe, minutes, seed=seed, clock="cpu", tensorboard=False)  # type: ignore[arg-type]
    network = BridgeNet() if recipe is BridgeTasks else Translator()
    network.load_state_dict(load_file(out / "bridge.safetensors"))
    return network.eval()


@dataclass(frozen=True)
class Drawn:
    """A bridge as a translator: mean and standard deviation of draws, in units of the scan.

    Parameters
    ----------
    draws : 1 gives no deviation. steps : evaluations of each; 1 asks at t = T alone, where there is nothing to draw.
    """

    network: BridgeNet
    draws: int
    steps: int

    def __call__(self, views: Views, question: Ask) -> tuple[torch.Tensor, torch.Tensor]:
        start = endpoint(views, question)

        def denoise(x: torch.Tensor, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return self.network.clean(x, t, views, question)

        def drawn(k: int) -> torch.Tensor:
            some = range(k * len(start), (k + 1) * len(start))
            known = dict(steps=self.steps, sigma_data=LEAST / 0.02, sigma_max=END)
            return torch.expm1(bridge_sample(denoise, start, 0, some, **known)).clamp_min(0)  # type: ignore[arg-type]

        made = torch.stack([drawn(k) for k in range(self.draws)])
        spread = made.std(dim=0) if self.draws > 1 else torch.zeros_like(made[0])
        return tuple(torch.stack([x, torch.zeros_like(x)], dim=1) for x in (made.mean(dim=0), spread))  # type: ignore[return-value]


def only(pairs: PairSet, tasks: Sequence[str] = BRIDGED) -> PairSet:
    """The pairs of these tasks alone."""
    kept = torch.tensor([TASKS.index(task) + 1 for task in tasks])
    return pairs[torch.nonzero(torch.isin(pairs.question.task, kept)).flatten()]


def compare(
    stores: Sequence[Path],
    out: Path,
    minutes: float,
    people: int,
    seeds: Sequence[int],
    seed: int = 0,
    cases: Sequence[Case] | None = None,
) -> list[dict[str, Any]]:
    """A row for each case and method: means over people that nobody trained on.

    Parameters
    ----------
    stores : pairs, of which those of :data:`BRIDGED` are used. minutes : processor time of each of the two trainings.
    people, seeds : test people of each case and seed, and as many validation people for the factor on deviations.
    """
    model = AllPET.from_pretrained()
    pairs = only(PairSet.load(stores, model.need("restorer")))
    bridge = trained(BridgeTasks, pairs, out / "bridge", minutes, seed)
    networks = {
        REGRESSOR: trained(Regressor, pairs, out / "regressor", minutes, seed),
        START: Drawn(bridge, 1, 1),
        ONE: Drawn(bridge, 1, STEPS),
        MEAN: Drawn(bridge, DRAWS, STEPS),
    }
    return judge(model, networks, people, seeds, cases)


def judge(
    model: AllPET, networks: dict[str, Any], people: int, seeds: Sequence[int], cases: Sequence[Case] | None = None
) -> list[dict[str, Any]]:
    """Every network in the translator's place."""
    model.familiar = None  # all of them are asked about every plane
    out = []
    for case in [case for case in CASES if case.name in SHOWN] if cases is None else cases:
        known = PairSet.from_dataset(case.simulate(people, "validation", 5, model.beam.shape), model.need("restorer"))
        factors = {name: image_factor(networks[name], known) for name in (REGRESSOR, MEAN)}
        found: list[dict[str, Any]] = []
        for seed in seeds:
            data = case.simulate(people, "test", seed, model.beam.shape)
            each, doubts = {}, {}
            for name, network in networks.items():
                model.adapted = {case.task: network}
                each[name] = score(ours(model, data), data)
                if name in factors:
                    model.config["calibration"] = {case.task: {"image": factors[name]}}
                    doubts[name] = doubt(model, data)
            found.append(dict(each=each, doubt={}, doubts=doubts))
        for row in case_rows(case, found):
            kept = {name: row[name] for key in KEYS for name in (key, f"{key}_se")}
            told = [one["doubts"][row["method"]] for one in found if row["method"] in one["doubts"]]
            kept |= {key: sum(one[key] for one in told) / len(told) for key in DOUBTS if told}
            out.append(dict(case=case.name, method=row["method"], n=row["n"]) | kept)
    return out


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as a Markdown table."""
    heads = {**KEYS, **DOUBTS}
    lines = ["| case | method | " + " | ".join(heads.values()) + " | n |", "|---" * (len(heads) + 3) + "|"]
    for row in rows:
        cells = means_in_cells(row, KEYS)
        for key, digits in (("coverage", 1), ("correlation", 2)):
            cells.append(f"{(100 if key == 'coverage' else 1) * row[key]:.{digits}f}" if key in row else "")
        lines.append(f"| {row['case']} | {row['method']} | {' | '.join(cells)} | {row['n']} |")
    return "\n".join(lines)
