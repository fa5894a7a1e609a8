"""Winograd's convolution is the direct one, and stands for it only where it may."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from allpet.model import winograd
from allpet.model.moebius import Mix, PlaneConv


@given(
    n=st.integers(1, 3),
    n_in=st.integers(1, 40),
    n_out=st.integers(1, 40),
    down=st.integers(1, 5),
    across=st.integers(1, 5),
    last=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(max_examples=40)
def test_it_is_the_padded_convolution(n, n_in, n_out, down, across, last, seed):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, n_in, 4 * down, 4 * across, generator=g)
    weight, bias = torch.randn(n_out, n_in, 3, 3, generator=g), torch.randn(n_out, generator=g)
    if last:
        x = x.contiguous(memory_format=torch.channels_last)
    wanted = torch.nn.functional.conv2d(x.double(), weight.double(), bias.double(), padding=1)
    found = winograd.convolve(x, winograd.kernel(weight), bias)
    assert found.shape == wanted.shape
    assert float((found - wanted).abs().max()) < 2e-5 * float(wanted.abs().max())
    plain = winograd.convolve(x, winograd.kernel(weight), None)
    assert torch.allclose(plain + bias[:, None, None], found, atol=1e-5 * float(wanted.abs().max()))


def conv() -> PlaneConv:
    torch.manual_seed(0)
    return PlaneConv(winograd.LEAST, winograd.LEAST)


def test_a_layer_takes_it_without_gradients_alone(monkeypatch):
    layer, x = conv(), torch.randn(2, winograd.LEAST, 8, 8)
    used = []
    known = winograd.convolve
    monkeypatch.setattr(winograd, "convolve", lambda *a: used.append(1) or known(*a))
    direct = layer(x)
    assert not used and direct.requires_grad
    with torch.no_grad():
        quick = layer(x)
        assert used == [1] and torch.allclose(quick, direct, atol=1e-5) and not torch.equal(quick, direct)
        for other in (x[..., :7], x.double()):  # sizes and types that it cannot take
            (layer if other.dtype == x.dtype else copy.deepcopy(layer).double())(other)
        with torch.autocast("cpu", torch.bfloat16):
            layer(x)
        assert used == [1]


@pytest.mark.parametrize("how", ["step", "load", "copy", "other"])
def test_changed_weights_are_noticed(how):
    layer, x = conv(), torch.randn(1, winograd.LEAST, 4, 4)
    with torch.no_grad():
        layer(x)
        if how == "step":
            layer.conv.weight.mul_(2)
        elif how == "load":
            layer.load_state_dict({name: 2 * value for name, value in layer.state_dict().items()})
        elif how == "copy":
            layer = copy.deepcopy(layer)
            layer.conv.weight.mul_(-1)
        else:
            layer.conv.weight.data = -layer.conv.weight.data
        assert torch.allclose(layer(x), layer.conv(x), atol=1e-5)


def test_mixing_is_a_convolution_of_one_by_one():
    layer, x = Mix(5, 7), torch.randn(2, 5, 3, 4)
    wanted = torch.nn.functional.conv2d(x, layer.weight, layer.bias)
    assert torch.allclose(layer(x), wanted, atol=1e-5)
    assert set(layer.state_dict()) == {"weight", "bias"} and layer.weight.shape == (7, 5, 1, 1)
