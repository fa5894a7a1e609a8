"""The bridge study: a bridge that ends where it should, trained and judged in the translator's place."""

from __future__ import annotations

import json
import sys

import pytest
import torch

from allpet.io.store import write_store
from allpet.model.translator import Translator
from allpet.study import __main__ as study
from allpet.study import bridge
from allpet.study.bridge import END, MEAN, REGRESSOR, BridgeNet, BridgeTasks, Drawn, endpoint, judge, markdown, only
from allpet.study.cases import Case
from allpet.train import train
from allpet.train.pairs import PairSet
from model_support import tiny

CASES = [Case("delayed", "PSMA", "abdomen", {"delay_minutes": 120.0})]
WIDTHS = (8, 8, 16)


@pytest.fixture(scope="module")
def pairs():
    model = tiny()
    sets = [
        Case(task, "FDG", "abdomen", options).simulate(4, "train", 3, (32, 32))
        for task, options in (("low-dose", {"dose_fraction": 0.1}), ("attenuation", {}))
    ]
    sets.append(CASES[0].simulate(4, "train", 3, (32, 32)))
    return PairSet.join([PairSet.from_dataset(data, model.need("restorer")) for data in sets])


def test_pairs_whose_target_is_no_activity_are_left_out(pairs):
    assert set(only(pairs).tasks) == {"low-dose", "delayed"} and len(only(pairs)) == 8


def test_a_bridge_that_knows_its_end_gets_there_and_starts_from_what_is_seen(pairs, monkeypatch):
    some = only(pairs)
    wanted, network, asked = some.target[:, 0].float(), BridgeNet(WIDTHS, 16), []
    start = endpoint(some.views, some.question)
    assert torch.allclose(torch.expm1(start[-1]), some.views.image[-1] * some.question.decay[-1], atol=1e-4)

    def knows(self, state, t, views, question):
        asked.append((state, t))
        return torch.log1p(wanted)

    monkeypatch.setattr(BridgeNet, "clean", knows)
    mean, spread = Drawn(network, 3, 5)(some.views, some.question)
    assert torch.allclose(mean[:, 0], wanted, rtol=1e-4, atol=1e-4) and float(spread.abs().max()) < 1e-4
    assert len(asked) == 15 and torch.equal(asked[0][0], start) and bool((asked[0][1] == END).all())
    assert not torch.equal(asked[1][0], asked[6][0])  # every draw has noise of its own


def test_its_loss_is_least_where_the_answer_is_right_and_it_learns(pairs, tmp_path, monkeypatch):
    task = BridgeTasks(only(pairs), tmp_path, 0)
    task.network = BridgeNet(WIDTHS, 16)
    first, again = (float(task.loss(task.network, torch.Generator().manual_seed(1)).detach()) for _ in range(2))
    assert first == again
    optimizer, rng = task.optimizer(task.network), torch.Generator().manual_seed(2)
    losses = []
    for _ in range(25):
        loss = task.loss(task.network, rng)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-5:]) < sum(losses[:5])
    wanted = torch.log1p(only(pairs).target[:, 0].float())
    monkeypatch.setattr(BridgeNet, "clean", lambda *_: wanted)
    perfect = task._misfit(task.network, only(pairs), rng)
    assert float(perfect) == pytest.approx(torch.tensor(bridge.FLOOR).log().item(), abs=1e-3)


def test_all_methods_are_judged_in_the_translators_place(pairs):
    model, regressor, network = tiny(), Translator(WIDTHS, 16), BridgeNet(WIDTHS, 16)
    torch.manual_seed(0)
    for weight in (*regressor.unet.parameters(), *network.unet.parameters()):
        torch.nn.init.normal_(weight, std=0.05)  # untrained, they state one deviation everywhere
    networks = {REGRESSOR: regressor, MEAN: Drawn(network, 2, 2)}
    rows = judge(model, networks, 2, (5,), CASES)
    assert [row["method"] for row in rows] == [REGRESSOR, MEAN] and {row["n"] for row in rows} == {2}
    assert rows[0]["psnr_image"] != rows[1]["psnr_image"]
    assert all(0 <= row["coverage"] <= 1 and -1 <= row["correlation"] <= 1 for row in rows)
    text = markdown(rows)
    assert text.splitlines()[2].startswith(f"| {CASES[0].name} | {REGRESSOR} | {rows[0]['psnr_sinogram']:.1f} ± ")
    assert f" | {100 * rows[1]['coverage']:.1f} | {rows[1]['correlation']:.2f} | 2 |" in text


def test_the_command_trains_both_and_goes_on_where_it_was(tmp_path, monkeypatch, capsys):
    steps = []

    def short(pairs, out, recipe, minutes, **options):
        steps.append((out.name, minutes, len(pairs)))
        return train(pairs, out, recipe, None, 1, **options)

    for name, case in (("a", CASES[0]), ("b", Case("attenuation", "FDG", "abdomen"))):
        write_store(case.simulate(4, "train", 3, (32, 32)), tmp_path / f"{name}.zarr")
    monkeypatch.setattr(bridge, "train", short)
    monkeypatch.setattr(bridge.AllPET, "from_pretrained", tiny)
    monkeypatch.setattr(bridge, "CASES", CASES)
    monkeypatch.setattr(bridge, "STEPS", 2)
    monkeypatch.setattr(bridge, "SHOWN", (CASES[0].name,))
    stores = [str(tmp_path / "a.zarr"), str(tmp_path / "b.zarr")]
    words = ["study", "bridge", "--pairs", *stores, "--out", str(tmp_path / "o"), "--minutes", "3"]
    monkeypatch.setattr(sys, "argv", [*words, "--people", "2", "--seeds", "4"])
    printed = []
    for _ in range(2):
        assert study.main() == 0
        printed.append(capsys.readouterr().out)
    assert steps == 2 * [("bridge", 3.0, 4), ("regressor", 3.0, 4)]
    assert printed[0].splitlines()[-6:] == printed[1].splitlines()[-6:]
    rows = json.loads((tmp_path / "o" / "bridge.json").read_text())["rows"]
    assert [row["method"] for row in rows] == [REGRESSOR, bridge.START, bridge.ONE, MEAN]
