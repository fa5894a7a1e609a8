"""bfloat16 where the hardware has it: only the network's arithmetic, never its weights, optimiser or average."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache

import torch

from allpet.errors import AllpetError

PRECISIONS = ("auto", "bf16", "fp32")


def autocast(device: torch.device | str, precision: str = "auto") -> AbstractContextManager[None]:
    """Context in which convolutions and matrix products run in bfloat16, or an empty one for float32.

    Put it around the network's forward pass alone: sparse products (the projector leaves it by itself), closed-form
    priors and losses want float32. Results come out as bfloat16; make them float32 before subtracting.

    Raises
    ------
    AllpetError : unknown precision.
    """
    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=resolve(precision, device) == "bf16")


def resolve(precision: str, device: torch.device | str) -> str:
    """``"bf16"`` or ``"fp32"``: what is asked for; ``"auto"`` is bfloat16 where the device computes in it natively.

    Raises
    ------
    AllpetError : unknown precision.
    """
    if precision not in PRECISIONS:
        raise AllpetError(f"precision '{precision}' is unknown; known: {', '.join(PRECISIONS)}")
    if precision != "auto":
        return precision
    return "bf16" if native_bf16(torch.device(device).type) else "fp32"


@cache
def native_bf16(kind: str) -> bool:
    """Whether a kind of device (``"cpu"``, ``"cuda"``) multiplies bfloat16 in hardware.

    CPUs that lack it (AMX or AVX-512 BF16 on x86) emulate it at a loss.
    """
    if kind == "cpu":
        tests = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
        return any(getattr(torch.cpu, name, bool)() for name in tests)
    return kind == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
