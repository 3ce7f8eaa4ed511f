"""Poolings against plain loops over utterances without padding, and the classifier against numpy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import erf, softmax
from toys import examples, noise_for

from mser.heads import POOLINGS, Head, Pooling, frame_mask

NAIVE: dict[str, Callable[[np.ndarray, Pooling], np.ndarray]] = {
    "mean": lambda x, _: x.mean(0),
    # The code adds 1e-5 to the variance, for the gradient's sake.
    "mean_std": lambda x, _: np.concatenate([x.mean(0), np.sqrt(x.var(0) + 1e-5)]),
    "max": lambda x, _: x.max(0),
    "attention": lambda x, pooling: softmax(x @ pooling.query.weight.detach().numpy()[0]) @ x,
    "last": lambda x, _: x[-1],
}


def made(name: str, dim: int = 4) -> Pooling:
    torch.manual_seed(1)
    return POOLINGS[name](dim)


def test_every_pooling_has_a_reference() -> None:
    assert set(NAIVE) == set(POOLINGS)


def test_frame_mask_is_1_on_frames_and_0_behind() -> None:
    mask = frame_mask(torch.tensor([1, 3, 2]), 3)
    assert mask.squeeze(2).tolist() == [[1, 0, 0], [1, 1, 1], [1, 1, 0]]


@pytest.mark.parametrize("name", POOLINGS)
@examples
@given(counts=st.lists(st.integers(1, 9), min_size=1, max_size=5), seed=st.integers(0, 99))
def test_pooling_of_a_padded_batch_equals_a_loop_without_padding(name: str, counts: list[int], seed: int) -> None:
    torch.manual_seed(seed)
    utterances = [3 * torch.randn(count, 4) for count in counts]
    padded = torch.nn.utils.rnn.pad_sequence(utterances, batch_first=True)
    pooling = made(name)
    found = pooling(padded, torch.tensor(counts)).detach().numpy()
    assert found.shape == (len(counts), pooling.size)
    np.testing.assert_allclose(found, [NAIVE[name](x.numpy(), pooling) for x in utterances], atol=1e-5)


@pytest.mark.parametrize("garbage", [1e6, float("inf"), float("nan")])
@pytest.mark.parametrize("name", POOLINGS)
def test_pooling_does_not_see_what_stands_behind_the_end(name: str, garbage: float) -> None:
    torch.manual_seed(0)
    lengths = torch.tensor([1, 4, 6])
    x = torch.randn(3, 6, 4) * frame_mask(lengths, 6)
    spoiled = torch.where(frame_mask(lengths, 6) > 0, x, torch.tensor(garbage))
    pooling = made(name)
    torch.testing.assert_close(pooling(spoiled, lengths), pooling(x, lengths), rtol=0, atol=0)


@pytest.mark.parametrize("name", POOLINGS)
def test_gradients_are_exact_and_zero_behind_the_end(name: str) -> None:
    torch.manual_seed(0)
    lengths = torch.tensor([1, 3, 4])
    pooling = made(name, dim=2).double()
    x = torch.randn(3, 4, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: pooling(x, lengths), (x,))
    (gradient,) = torch.autograd.grad(pooling(x, lengths).square().sum(), x)
    assert (gradient[frame_mask(lengths, 4)[:, :, 0] == 0] == 0).all()


@pytest.mark.parametrize("name", POOLINGS)
def test_gradients_are_finite_for_utterances_of_one_frame(name: str) -> None:
    x = torch.zeros(2, 3, 4, requires_grad=True)
    made(name)(x, torch.tensor([1, 1])).square().sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


ACTIVATE: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
    "gelu": lambda x: x * (1 + erf(x / np.sqrt(2))) / 2,
}


@pytest.mark.parametrize("activation", ACTIVATE)
@pytest.mark.parametrize(("depth", "width"), [(0, 0), (1, 5), (2, 3)])
def test_head_equals_numpy(depth: int, width: int, activation: str) -> None:
    torch.manual_seed(0)
    head = Head(6, 4, depth, width, activation, dropout=0.5)
    fused = torch.randn(3, 6)
    embedding, logits = head(fused)
    expected = fused.numpy()
    parameters = [value.detach().numpy() for value in head.parameters()]
    for weight, bias in zip(parameters[:-2:2], parameters[1:-2:2], strict=True):
        expected = ACTIVATE[activation](expected @ weight.T + bias)
    assert len(parameters) == 2 * (depth + 1)
    np.testing.assert_allclose(embedding.detach(), expected, atol=1e-6)
    np.testing.assert_allclose(logits.detach(), expected @ parameters[-2].T + parameters[-1], atol=1e-6)


def test_head_drops_where_there_is_noise_only_and_otherwise_in_every_step() -> None:
    torch.manual_seed(0)
    head = Head(6, 4, 1, 64, "relu", dropout=0.5)
    fused = torch.randn(2, 6)
    dropped, _ = head(fused, noise_for([0, 1]))
    assert torch.equal(head(fused)[0], head.train()(fused)[0])
    assert torch.equal(head(fused, noise_for([0, 1]))[0], dropped)
    assert not torch.equal(head(fused, noise_for([0, 1], step=1))[0], dropped)
    kept = dropped != 0
    torch.testing.assert_close(dropped[kept], 2 * head(fused)[0][kept])
