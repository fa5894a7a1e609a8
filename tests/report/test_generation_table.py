"""Tables and figures of generation, on an untrained model and on one that hands out real people."""

import json

import pytest
import torch

from allpet.cli import main
from allpet.diffusion import SAMPLERS
from allpet.errors import AllpetError
from allpet.report.generation_figures import beside
from allpet.report.generation_table import evaluate_generation, markdown, marked_regions, own_beam
from allpet.study.data import unseen
from model_support import tiny


@pytest.fixture(scope="module")
def model():
    """An untrained model of two prompts."""
    model = tiny()
    model.config |= dict(
        regions=["brain", "chest"],
        field_of_view_mm={"brain": 256.0, "chest": 512.0},
        log_mean={"FDG brain": [7.0, 0.2], "FDG chest": [6.0, 0.2]},
        data=dict(sinograms=68),
    )
    return model


@pytest.fixture(scope="module")
def result(model):
    return evaluate_generation(model, n=6, few=2)


def test_every_prompt_sampler_and_condition_has_its_row(result):
    assert [row["label"] for row in result["rows"]] == ["FDG brain", "FDG chest"]
    assert [row["sampler"] for row in result["samplers"]] == list(SAMPLERS)
    assert [row["condition"] for row in result["conditions"]][:3] == ["all said", "tracer unsaid", "region unsaid"]
    assert result["cost"]["evaluations"] == 10 and result["cost"]["seconds_a_sinogram"] > 0
    json.dumps(result)


def test_goals_are_counted_from_the_rows(result):
    goals = {goal["goal"]: goal for goal in result["goals"]}
    distance = goals["distance of sinograms, over real against real"]
    values = [row["sinogram_distance_ratio"] for row in result["rows"]]
    assert distance["worst"] == max(values) and distance["kept"] == sum(v <= 1.5 for v in values)
    assert goals["no copies (p above 0.01)"]["prompts"] == 2
    text = markdown(result)
    for words in ("| FDG chest | image |", "| sde |", "| tracer unsaid |", "n = 6 of each prompt, seed 0"):
        assert words in text


def test_real_people_pass(model, monkeypatch):
    """A perfect generator is at the floor: other unseen people instead of what the network draws."""
    from dataclasses import replace

    real = type(model).generate

    def honest(self, prompt, n=1, **options):
        scan = real(self, prompt, n, **options)
        tracer, region = str(prompt).replace("18F-", "").split()
        return replace(scan, sinogram=unseen(None, tracer, region, 2 * 12 + n, 32, 32)[2 * 12 :])

    monkeypatch.setattr(type(model), "generate", honest)
    found = evaluate_generation(model, n=12, few=0)
    for row in found["rows"]:
        assert 0.6 < row["sinogram_distance_ratio"] < 1.6 and row["passed"]
        assert 0.5 < row["mirror_seam_ratio"] < 1.5
    assert "samplers" not in found


def test_marked_regions_are_the_hot_ones(model):
    s, beam = unseen(None, "FDG", "chest", 4, 32, 32), own_beam(model, "FDG chest")
    hot, images = marked_regions(s, beam)
    assert set(hot.unique().tolist()) <= {0.0, 1.0} and 0 < float(hot.mean()) < 0.2
    assert float(images[hot > 0].mean()) > 2 * float(images[hot == 0].mean())


def test_the_figure_has_a_row_a_prompt(model):
    s = {"FDG brain": torch.rand(3, 32, 32) + 1, "FDG chest": torch.rand(3, 32, 32) + 1}
    figure = beside(s, s, {prompt: own_beam(model, prompt) for prompt in s})
    titles = [axes.get_title() for axes in figure.axes]
    assert titles.count("generated") == 2 and titles.count("people never seen") == 2
    images = [axes for axes in figure.axes if axes.images]
    windows = [axes.images[0].get_clim() for axes in images[:6]]
    assert len(set(windows)) == 1  # what is compared has one window
    bars = [axes.get_ylabel() for axes in figure.axes if not axes.images]
    assert bars.count("sinogram / mean") == 2 and bars.count("FBP × width / mean") == 2


def test_the_command_writes_tables_page_and_figures(model, tmp_path, capsys):
    model.save_pretrained(tmp_path / "m")
    out = tmp_path / "out"
    words = [
        "evaluate",
        "generation",
        "-n",
        "6",
        "--few",
        "0",
        "--prompts",
        "FDG brain",
        "--model",
        str(tmp_path / "m"),
    ]
    assert main([*words, "--out", str(out)]) == 0
    names = {path.name for path in out.iterdir()}
    assert names == {"generation.json", "generation.md", "generation.html", "generation-FDG.png"}
    assert "| FDG brain | sinogram |" in capsys.readouterr().out
    assert "https://" not in (out / "generation.html").read_text()


def test_too_few_are_refused(model):
    with pytest.raises(AllpetError, match="n is 3; scores of a distribution need at least 6"):
        evaluate_generation(model, n=3)
