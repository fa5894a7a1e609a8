"""The model: Moebius layers, first stage, denoiser, restorer, prompts, and `AllPET` around them."""

from allpet.model.allpet import AllPET, Result
from allpet.model.prompt import Prompt, parse_prompt

__all__ = ["AllPET", "Prompt", "Result", "parse_prompt"]
