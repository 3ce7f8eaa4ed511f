"""Mixtures of layers and of experts, against numpy and exact gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax
from torch.func import functional_call
from toys import examples

from mser.gating import ConditionedGate, ConstantGate, LayerMix, make_gate

LOGITS = st.lists(st.floats(-20, 20), min_size=1, max_size=6)


@examples
@given(LOGITS)
def test_layer_weights_are_positive_and_sum_to_1(logits: list[float]) -> None:
    weights = LayerMix(torch.tensor(logits)).weights()
    assert (weights > 0).all()
    np.testing.assert_allclose(weights.sum().item(), 1, rtol=1e-5)


@pytest.mark.parametrize("layers", [1, 2, 5])
def test_layer_mix_equals_numpy(layers: int) -> None:
    torch.manual_seed(layers)
    states, logits = torch.randn(3, layers, 7, 4), torch.randn(layers)
    expected = np.einsum("l,bltd->btd", softmax(logits.numpy()), states.numpy())
    np.testing.assert_allclose(LayerMix(logits)(states).detach().numpy(), expected, atol=1e-6)


def test_layer_mix_has_exact_gradients() -> None:
    torch.manual_seed(0)
    mix = LayerMix(torch.zeros(3)).double()
    states = torch.randn(2, 3, 4, 2, dtype=torch.float64, requires_grad=True)
    logits = torch.randn(3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a, x: functional_call(mix, {"logits": a}, (x,)), (logits, states))


def test_layer_mix_does_not_share_its_start() -> None:
    start = torch.zeros(3)
    mix = LayerMix(start)
    with torch.no_grad():
        mix.logits += 1
    assert start.tolist() == [0, 0, 0]


@examples
@given(LOGITS, st.sampled_from(["constant", "conditioned"]), st.integers(0, 9))
def test_gate_weights_are_positive_and_sum_to_1(logits: list[float], kind: str, seed: int) -> None:
    torch.manual_seed(seed)
    gate = make_gate(kind, torch.tensor(logits), dim=4)
    for parameter in gate.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    weights = gate(torch.randn(5, len(logits), 4))
    assert weights.shape == (5, len(logits))
    assert (weights > 0).all()
    np.testing.assert_allclose(weights.sum(1).detach(), 1, rtol=1e-5)


@pytest.mark.parametrize("kind", ["constant", "conditioned"])
def test_gates_begin_at_their_start_for_every_utterance(kind: str) -> None:
    start = torch.tensor([0.3, -1.2, 2.0])
    weights = make_gate(kind, start, dim=4)(10 * torch.randn(6, 3, 4))
    np.testing.assert_allclose(weights.detach(), np.tile(softmax(start.numpy()), (6, 1)), rtol=1e-5)


def one_step(gate: torch.nn.Module, embeddings: torch.Tensor) -> torch.Tensor:
    """The weights after one step that asks for expert 0 in utterance 0 and for expert 1 in utterance 1."""
    optimizer = torch.optim.SGD(gate.parameters(), lr=1.0)
    (-gate(embeddings)[[0, 1], [0, 1]].sum()).backward()
    optimizer.step()
    return gate(embeddings).detach()


def test_conditioned_gate_depends_on_the_utterance_after_a_step() -> None:
    torch.manual_seed(0)
    embeddings = torch.randn(2, 2, 8)
    weights = one_step(ConditionedGate(torch.zeros(2), dim=8), embeddings)
    assert weights[0, 0] > weights[1, 0] + 1e-4


def test_constant_gate_never_depends_on_the_utterance() -> None:
    torch.manual_seed(0)
    weights = one_step(ConstantGate(torch.zeros(3)), torch.randn(2, 3, 8))
    assert torch.equal(weights[0], weights[1])
    assert weights[0, 2] < 1 / 3


def test_gate_gradients_are_exact() -> None:
    torch.manual_seed(0)
    gate = ConditionedGate(torch.zeros(2), dim=3).double()
    torch.nn.init.normal_(gate.mlp[-1].weight)
    embeddings = torch.randn(2, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(gate, (embeddings,))
