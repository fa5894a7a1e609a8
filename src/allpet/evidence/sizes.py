"""How much is measured: quick for every change, standard for a machine's spare hour, full for what is published."""

from __future__ import annotations

from dataclasses import dataclass

QUICK_CASES = (
    "low-dose 1/20: FDG chest",
    "attenuation: FDG brain",
    "delayed 60 min: FDG abdomen",
    "convert to DOPA: FDG brain",
    "separate, 6 frames: FDG + PSMA abdomen",
)
FIGURE_CASES = (
    "low-dose 1/20: FDG chest",
    "attenuation: FDG chest",
    "delayed 120 min: PSMA abdomen",
    "convert to PSMA: FDG abdomen",
    "separate, 6 frames: FDG + PSMA abdomen",
)


@dataclass(frozen=True)
class Size:
    """Numbers of everything.

    Parameters
    ----------
    repeats : evaluation seeds, each with people and draws of its own; 0 of a number below leaves a table out.
    prompts : of the generation tables; empty: all. n : sinograms of each; few : of samplers and conditions, for
    few_prompts (empty: all); told : of the classifier. cases : of the tasks; empty: all. people : of each case.
    training : pairs behind the baselines' numbers. figures : cases shown. low_dose : people of each region.
    lesions : people of each of the lesion_cases (empty: all) looked through. marks : how lesions are pointed at.
    fractions : of the dose. pairs : of the observer. regions : people of each of the region_prompts (empty: all).
    doses : of the suggestions; examples : some are drawn. strange : people of each tracer and of the strange_regions
    (empty: all). masks : of each family. cost : sinograms that are timed, cost_rival : beside a plain LDM.
    trained : arms, rivals, few pairs and the U-Net are trained, too.
    left_out : what this size does without, for the report.
    """

    name: str
    repeats: int
    prompts: tuple[str, ...] = ()
    n: int = 48
    few: int = 0
    few_prompts: tuple[str, ...] = ()
    told: int = 0
    cases: tuple[str, ...] = ()
    people: int = 8
    training: int = 34
    figures: tuple[str, ...] = FIGURE_CASES
    low_dose: int = 0
    lesions: int = 20
    marks: tuple[str, ...] = ("told", "untold", "suggested")
    fractions: tuple[float, ...] = (1 / 20, 1 / 100)
    lesion_cases: tuple[str, ...] = ()
    pairs: int = 0
    regions: int = 12
    region_prompts: tuple[str, ...] = ()
    doses: tuple[float, ...] = (1.0, 0.05)
    strange: int = 12
    strange_regions: tuple[str, ...] = ()
    masks: int = 400
    cost: int = 16
    cost_rival: bool = True
    examples: bool = True
    trained: bool = False
    left_out: tuple[str, ...] = ()


TRAINED = (
    "Nothing is trained: the ablation (arms), the rivals (VAE, GAN, score model, plain LDM), the U-Net beside "
    "the tasks, few pairs and training on synthetic sinograms are only in the full size."
)
REAL = (
    "Real data (patients, a measured scan) are no part of the project; allpet evaluate low-dose --patients, python -m "
    "allpet.study regions --data and heldout --scan have their tables."
)
SIZES = {
    "quick": Size(
        "quick",
        repeats=1,
        prompts=("FDG brain", "PSMA abdomen"),
        n=16,
        cases=QUICK_CASES,
        people=4,
        training=8,
        figures=("low-dose 1/20: FDG chest", "separate, 6 frames: FDG + PSMA abdomen"),
        lesions=12,
        marks=("told",),
        fractions=(1 / 20,),
        lesion_cases=("FDG chest", "FDG abdomen"),
        regions=8,
        region_prompts=("FDG chest", "FDG abdomen"),
        doses=(1.0,),
        strange=6,
        strange_regions=("chest",),
        masks=100,
        cost=8,
        cost_rival=False,
        examples=False,
        left_out=(
            "2 of 15 prompts, 5 of 24 task cases, 2 of 15 prompts of the suggestions, one region of the unfamiliar "
            "scans, few people: this size is there to notice that something broke, not to say how good the model is.",
            "Not at all: classifier of prompts, samplers and conditions, the low-dose table with the linear MMSE "
            "estimate, the observer, attention at 1/100 and to what is suggested, the plain LDM's cost.",
            TRAINED,
            REAL,
        ),
    ),
    "standard": Size(
        "standard",
        repeats=3,
        n=32,
        few=8,
        few_prompts=("FDG brain", "DOPA head-neck", "FDG chest", "PSMA abdomen", "PSMA pelvis"),
        told=16,
        low_dose=8,
        pairs=40,
        left_out=(
            "n is smaller than in the published tables where these took hours: 32 sinograms of each prompt and "
            "seed instead of 500, samplers and conditions of 5 of the 15, 12 people of each prompt for the suggestions "
            "instead of 38.",
            TRAINED,
            REAL,
        ),
    ),
    "full": Size(
        "full", repeats=3, n=500, few=8, told=500, low_dose=10, pairs=100, regions=38, trained=True, left_out=(REAL,)
    ),
}
