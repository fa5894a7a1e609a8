"""Adapting: little is written, the base stays, and it only loads on the base that it was made for."""

import json

import pytest
import torch

from allpet.errors import AllpetError
from allpet.model import AllPET
from allpet.model.adapter import adaptable, adapter_of, with_adapter
from allpet.scan.simulate import simulate
from allpet.task.rivals import net
from allpet.train import train
from allpet.train.adapt import adapt, gain
from allpet.train.pairs import PairSet, _seen, facts_of
from allpet.uncertainty import body_of, image_factor, ratios
from model_support import tiny


@pytest.fixture(scope="module")
def pairs() -> PairSet:
    options = dict(task="delayed", region="abdomen", views=32, bins=32, slices_per_subject=1)
    return PairSet.from_dataset(simulate(8, delay_minutes=120.0, **options), tiny().restorer)


def test_an_adapter_begins_as_nothing_and_merges_exactly(pairs):
    base = tiny().translator
    free = adaptable(base)
    assert {n for n, p in free.named_parameters() if p.requires_grad} == {
        n for n, _ in free.named_parameters() if n.endswith((".down", ".up"))
    }
    with torch.no_grad():
        before = base(pairs.views, pairs.question)[0]
        assert torch.equal(free(pairs.views, pairs.question)[0], before)
        for name, p in free.named_parameters():
            if name.endswith(".up"):
                p.add_(0.05 * torch.randn(p.shape))
        merged = with_adapter(base, adapter_of(free))
        after = merged(pairs.views, pairs.question)[0]
        assert not torch.allclose(after, before)
        assert torch.allclose(free(pairs.views, pairs.question)[0], after, atol=2e-2 * float(after.max()))
        assert torch.equal(base(pairs.views, pairs.question)[0], before)
    with pytest.raises(AllpetError, match="another network"):
        with_adapter(base, {"nowhere.down": torch.zeros(1), "nowhere.up": torch.zeros(1)})


@pytest.mark.parametrize(("after", "factor", "said"), [(2.0, 1.3, "gained nothing"), (0.5, 2159.0, "do not rely")])
def test_what_was_not_gained_is_said(tmp_path, after, factor, said):
    facts = {"held_out_before": 1.0, "held_out": after, "kept": 1, "calibration": {"image": factor}}
    (tmp_path / "config.json").write_text(json.dumps({"adapters": {"low-dose": facts}}))
    lines = gain(tmp_path, "low-dose")
    assert len(lines) == 2 and lines[1].startswith("WARNING") and said in lines[1]


def test_adapting_learns_and_loads_on_its_base_only(pairs, tmp_path):
    tiny().save_pretrained(tmp_path / "base")
    out = tmp_path / "mine"
    model = adapt("delayed", pairs, out, None, 40, model=tmp_path / "base", report_steps=10, tensorboard=False)
    config = json.loads((out / "config.json").read_text())
    facts = config["adapters"]["delayed"]
    assert facts["data"]["pairs"] == 8 and facts["calibration"]["image"] > 0
    assert (out / "adapter-delayed.safetensors").stat().st_size < 100_000
    assert not (out / "restorer.safetensors").exists() and "8 pairs of 8 subjects" in (out / "README.md").read_text()
    assert facts["held_out"] < facts["held_out_before"] and facts["kept"] >= 1
    (line,) = gain(out, "delayed")
    assert f"{facts['held_out_before']:.4g} before, {facts['held_out']:.4g} after" in line
    lines = [json.loads(line) for line in (out / "stats.jsonl").read_text().splitlines()]
    assert min(line["held_out"] for line in lines) < lines[0]["held_out"]
    again = AllPET.from_pretrained(out)
    base = AllPET.from_pretrained(tmp_path / "base")
    assert again.hash == model.hash != again.base_hash == base.weights_hash
    base.config["emphasis"] = {"abdomen": 1.5}  # no weight: the adapter fits as before
    base.save_pretrained(tmp_path / "base")
    assert AllPET.from_pretrained(out).config["emphasis"] == {"abdomen": 1.5}
    assert again.config["calibration"]["delayed"]["image"] == facts["calibration"]["image"]
    for one in (again, model):
        assert one.translator_of("convert") is one.translator and one.translator_of("delayed") is not one.translator
    # a second task joins the first
    options = dict(task="low-dose", region="abdomen", views=32, bins=32, slices_per_subject=1)
    others = PairSet.from_dataset(simulate(4, **options), again.restorer)
    adapt("low-dose", others, out, None, 2, model=tmp_path / "base", tensorboard=False)
    assert set(AllPET.from_pretrained(out).adapted) == {"delayed", "low-dose"}
    tiny(seed=1).save_pretrained(tmp_path / "base")
    with pytest.raises(AllpetError, match="was adapted from a base"):
        AllPET.from_pretrained(out)
    with pytest.raises(AllpetError, match="was adapted from another base"):
        adapt("low-dose", others, out, None, 2, model=tmp_path / "base", tensorboard=False)


def test_pairs_that_do_not_fit_are_one_clear_line(pairs, tmp_path):
    for task, data, message in (
        ("magic", pairs, "task 'magic' is unknown; known: low-dose"),
        ("convert", pairs, "these are pairs of delayed; convert needs its own"),
        ("delayed", pairs[slice(0, 1)], "1 pairs of one subject"),
    ):
        with pytest.raises(AllpetError, match=message):
            adapt(task, data, tmp_path / "x", max_steps=1, model=tiny())
    assert not (tmp_path / "x").exists()


def test_recipe_tasks_trains_resumes_and_exports(pairs, tmp_path):
    tiny().save_pretrained(tmp_path)
    train(pairs, tmp_path, "tasks", max_steps=3, tensorboard=False)
    train(pairs, tmp_path, "tasks", max_steps=5, tensorboard=False)
    model = AllPET.from_pretrained(tmp_path)
    assert model.config["trained"]["tasks"]["steps"] == 5 and model.config["trained"]["tasks"]["data"]["pairs"] == 8
    assert model.restorer is not None and model.denoiser is not None
    with pytest.raises(AllpetError, match="no translator yet; train it with --recipe tasks"):
        AllPET({}, None, None, None).need("translator")


def test_the_factor_makes_intervals_cover(pairs):
    network = tiny().translator
    factor = image_factor(network, pairs)
    inside = (torch.cat(ratios(network, pairs)).abs() <= 1.6448536 * factor).float().mean()
    assert float(inside) == pytest.approx(0.9, abs=0.002)
    body = body_of(pairs.target[:, 0].float(), pairs.attenuation)
    assert 0.02 < float(body.float().mean()) < 0.9


def test_randoms_of_less_activity_go_with_its_square():
    known = dict(task="low-dose", region="abdomen", views=32, bins=32, slices_per_subject=1, dose_fraction=0.05)
    data = simulate(2, thinning="activity", background="quick", **known)
    wanted, restorer = data.scan().background, tiny().restorer
    assert float(wanted.sum()) < 0.9 * float((0.05 * data.background).sum())
    assert torch.allclose(_seen(data, facts_of(data, restorer, "x"), slice(0, 2))[0].background, wanted)
    assert torch.allclose(net(data), (data.scan().sinogram - wanted) / 0.05, rtol=1e-4, atol=1e-3)


def test_going_on_with_another_attention_or_base_is_refused(pairs, tmp_path):
    with pytest.raises(AllpetError, match="save the base first"):
        adapt("delayed", pairs, tmp_path / "out", None, 1, model=tiny(), tensorboard=False)
    tiny().save_pretrained(tmp_path / "base")
    options = dict(model=tmp_path / "base", tensorboard=False)
    adapt("delayed", pairs, tmp_path / "out", None, 1, **options)
    with pytest.raises(AllpetError, match="begun with another attention"):
        adapt("delayed", pairs, tmp_path / "out", None, 2, attention=1.0, **options)
