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

from mser.gating import (
    GATES,
    Concatenation,
    ConditionedGate,
    ConstantGate,
    LayerMix,
    gate_imbalance,
    make_gate,
)

LOGITS = st.lists(st.floats(-20, 20), min_size=1, max_size=6)


def plain_mix(logits: torch.Tensor, dim: int = 1) -> LayerMix:
    """A mixture of states as they are."""
    return LayerMix(logits, torch.zeros(len(logits), dim), torch.ones(len(logits), dim))


@examples
@given(LOGITS)
def test_layer_weights_are_positive_and_sum_to_1(logits: list[float]) -> None:
    weights = plain_mix(torch.tensor(logits)).weights()
    assert (weights > 0).all()
    np.testing.assert_allclose(weights.sum().item(), 1, rtol=1e-5)


@pytest.mark.parametrize("layers", [1, 2, 5])
def test_layer_mix_standardises_each_layer_and_mixes_as_numpy_does(layers: int) -> None:
    rng = np.random.default_rng(layers)
    states, logits = rng.normal(3, 2, (3, 7, layers, 4)), rng.normal(size=layers)
    shift, scale = rng.normal(3, 1, (layers, 4)), rng.uniform(0.1, 2, (layers, 4))
    scale[0, 1] = 0  # a feature that does not vary
    mix = LayerMix(*(torch.tensor(value, dtype=torch.float32) for value in (logits, shift, scale)))
    expected = np.einsum("l,btld->btd", softmax(logits), (states - shift) * scale)
    found = mix(torch.tensor(states, dtype=torch.float32)).detach()
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_layer_mix_has_exact_gradients() -> None:
    torch.manual_seed(0)
    mix = LayerMix(torch.zeros(3), torch.randn(3, 2), torch.rand(3, 2)).double()
    states = torch.randn(2, 4, 3, 2, dtype=torch.float64, requires_grad=True)
    logits = torch.randn(3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a, x: functional_call(mix, {"logits": a}, (x,)), (logits, states))


def test_layer_mix_learns_its_logits_alone_and_keeps_the_standard_with_the_weights() -> None:
    mix = plain_mix(torch.zeros(3), dim=4)
    assert [name for name, _ in mix.named_parameters()] == ["logits"]
    assert set(mix.state_dict()) == {"logits", "shift", "scale"}


def test_layer_mix_shares_nothing_with_what_it_was_made_from() -> None:
    start, shift, scale = torch.zeros(3), torch.zeros(3, 2), torch.ones(3, 2)
    mix = LayerMix(start, shift, scale)
    with torch.no_grad():
        for value in (mix.logits, mix.shift, mix.scale):
            value += 1
    assert start.tolist() == [0, 0, 0]
    assert not shift.any()
    assert (scale == 1).all()


@examples
@given(LOGITS, st.sampled_from(GATES), st.integers(0, 9))
def test_gate_weights_are_positive_and_sum_to_1(logits: list[float], kind: str, seed: int) -> None:
    torch.manual_seed(seed)
    gate = make_gate(kind, torch.tensor(logits), dim=4)
    for parameter in gate.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    fused, weights = gate(torch.randn(5, len(logits), 4))
    assert fused.shape == (5, 4)
    assert weights.shape == (5, len(logits))
    assert (weights > 0).all()
    np.testing.assert_allclose(weights.sum(1).detach(), 1, rtol=1e-5)


@pytest.mark.parametrize("kind", ["constant", "conditioned"])
def test_gates_begin_at_their_start_for_every_utterance(kind: str) -> None:
    start = torch.tensor([0.3, -1.2, 2.0])
    _, weights = make_gate(kind, start, dim=4)(10 * torch.randn(6, 3, 4))
    np.testing.assert_allclose(weights.detach(), np.tile(softmax(start.numpy()), (6, 1)), rtol=1e-5)


@pytest.mark.parametrize("kind", ["constant", "conditioned"])
def test_what_is_fused_is_the_weighted_sum_of_the_embeddings(kind: str) -> None:
    torch.manual_seed(0)
    gate, embeddings = make_gate(kind, torch.tensor([0.3, -1.2, 2.0]), dim=4), torch.randn(6, 3, 4)
    torch.nn.init.normal_(list(gate.parameters())[-1])
    fused, weights = gate(embeddings)
    expected = np.einsum("bk,bkh->bh", weights.detach().numpy(), embeddings.numpy())
    np.testing.assert_allclose(fused.detach(), expected, atol=1e-6)


@pytest.mark.parametrize("kind", ["constant", "conditioned"])
@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0, 100.0])
def test_the_temperature_divides_the_logits(kind: str, temperature: float) -> None:
    start = torch.tensor([0.3, -1.2, 2.0])
    _, weights = make_gate(kind, start, dim=4, temperature=temperature)(torch.randn(2, 3, 4))
    expected = softmax(start.double().numpy() / temperature)
    np.testing.assert_allclose(weights.detach(), np.tile(expected, (2, 1)), rtol=1e-4, atol=1e-7)


def test_without_a_gate_the_embeddings_are_joined_and_mapped_and_weights_are_equal() -> None:
    torch.manual_seed(0)
    gate, embeddings = make_gate("none", torch.tensor([5.0, -5.0]), dim=3), torch.randn(4, 2, 3)
    assert isinstance(gate, Concatenation)
    fused, weights = gate(embeddings)
    matrix, bias = gate.linear.weight.detach().numpy(), gate.linear.bias.detach().numpy()
    expected = [np.concatenate([one[0], one[1]]) @ matrix.T + bias for one in embeddings.numpy()]
    np.testing.assert_allclose(fused.detach(), expected, atol=1e-6)
    assert weights.tolist() == [[0.5, 0.5]] * 4


@examples
@given(st.integers(1, 6), st.integers(1, 8), st.integers(0, 999))
def test_gate_imbalance_is_the_squared_coefficient_of_variation_of_mean_weights(
    experts: int, utterances: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    weights = softmax(rng.normal(0, 3, (utterances, experts)), axis=1)
    counted = rng.integers(0, 2, utterances)
    counted[0] = 1
    means = weights[counted == 1].mean(0)
    expected = (means.std() / means.mean()) ** 2
    found = gate_imbalance(torch.tensor(weights), torch.tensor(counted).double()).item()
    np.testing.assert_allclose(found, expected, atol=1e-9)
    assert -1e-9 <= found <= experts - 1 + 1e-9


def test_gate_imbalance_is_0_for_equal_use_and_largest_for_one_expert() -> None:
    taking_turns, one = torch.eye(3), torch.tensor([[0.0, 1, 0]] * 3)
    assert gate_imbalance(taking_turns, torch.ones(3)).item() == pytest.approx(0, abs=1e-6)
    assert gate_imbalance(one, torch.ones(3)).item() == pytest.approx(2)


def test_gate_imbalance_of_no_utterance_has_a_gradient_of_zeros() -> None:
    weights = torch.rand(3, 2, requires_grad=True)
    gate_imbalance(weights, torch.zeros(3)).backward()
    assert weights.grad is not None
    assert (weights.grad == 0).all()


def one_step(gate: torch.nn.Module, embeddings: torch.Tensor) -> torch.Tensor:
    """The weights after one step that asks for expert 0 in utterance 0 and for expert 1 in utterance 1."""
    optimizer = torch.optim.SGD(gate.parameters(), lr=1.0)
    (-gate(embeddings)[1][[0, 1], [0, 1]].sum()).backward()
    optimizer.step()
    return gate(embeddings)[1].detach()


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


@pytest.mark.parametrize("kind", GATES)
def test_gate_gradients_are_exact(kind: str) -> None:
    torch.manual_seed(0)
    gate = make_gate(kind, torch.zeros(2), dim=3, temperature=0.7).double()
    for parameter in gate.parameters():
        torch.nn.init.normal_(parameter)
    embeddings = torch.randn(2, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(gate, (embeddings,))
