"""Prompts in free text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allpet.errors import AllpetError
from allpet.model.prompt import Prompt, parse_prompt


@pytest.mark.parametrize(
    "text",
    ["18F-FDG brain", "FDG brain", "F-18 FDG, brain", "brain 18f-fdg", "  FDG   Brain ", "F18-FDG brain", "FDG head"],
)
def test_many_ways_of_saying_it(text):
    assert parse_prompt(text) == Prompt("FDG", "brain", "18F")


def test_other_tracers_and_regions():
    assert parse_prompt("Ga-68 PSMA, abdomen") == Prompt("PSMA", "abdomen", "68Ga")
    assert str(parse_prompt("18F-FDOPA head-neck")) == "18F-DOPA head-neck"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("18F-FDG knee", r"'knee' is unknown; known tracers: FDG.*known regions: brain"),
        ("FDG", "must name a tracer and a region"),
        ("", "must name a tracer and a region"),
        ("FDG brain chest", "two words for the region"),
        ("68Ga-FDG brain", "FDG is labelled with 18F"),
    ],
)
def test_bad_prompts_say_what_is_known(text, message):
    with pytest.raises(AllpetError, match=message):
        parse_prompt(text)


def test_only_what_the_model_learned_is_known():
    with pytest.raises(AllpetError, match="'PSMA' is unknown; known tracers: FDG; known regions: brain"):
        parse_prompt("PSMA brain", ("FDG",), ("brain",))


@given(st.text(max_size=40))
def test_any_text_is_a_prompt_or_one_clear_line(text):
    try:
        assert parse_prompt(text).tracer
    except AllpetError as error:
        assert "known" in str(error) or "give one" in str(error) or "labelled" in str(error)
