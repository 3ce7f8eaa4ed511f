"""Temporal operations: the same alone and in a padded batch, whatever stands behind the end."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from toys import examples

from mser.heads import frame_mask
from mser.nas.operations import OPERATIONS, PARAMETER_FREE, Operation, make_operation

DIM = 8


def made(name: str) -> Operation:
    torch.manual_seed(0)
    return make_operation(name, DIM)


@pytest.mark.parametrize("name", OPERATIONS)
@examples
@given(counts=st.lists(st.integers(1, 9), min_size=1, max_size=4), seed=st.integers(0, 99))
def test_an_utterance_is_the_same_alone_and_padded(name: str, counts: list[int], seed: int) -> None:
    torch.manual_seed(seed)
    utterances = [torch.randn(count, DIM) for count in counts]
    padded = torch.nn.utils.rnn.pad_sequence(utterances, batch_first=True)
    operation = made(name)
    found = operation(padded, torch.tensor(counts))
    assert found.shape == padded.shape
    for row, x in zip(found, utterances, strict=True):
        alone = operation(x[None], torch.tensor([len(x)]))[0]
        torch.testing.assert_close(row[: len(x)], alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("garbage", [1e6, float("inf"), float("nan")])
@pytest.mark.parametrize("name", OPERATIONS)
def test_what_stands_behind_the_end_changes_no_frame(name: str, garbage: float) -> None:
    torch.manual_seed(1)
    lengths = torch.tensor([2, 5, 7])
    inside = frame_mask(lengths, 7) > 0
    x = torch.where(inside, torch.randn(3, 7, DIM), 0.0)
    operation = made(name)
    clean, spoiled = operation(x, lengths), operation(torch.where(inside, x, garbage), lengths)
    torch.testing.assert_close(spoiled[inside[:, :, 0]], clean[inside[:, :, 0]], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", OPERATIONS)
def test_training_and_prediction_agree(name: str) -> None:
    torch.manual_seed(2)
    lengths, x = torch.tensor([1, 4, 6]), torch.randn(3, 6, DIM)
    inside = frame_mask(lengths, 6)[:, :, 0] > 0
    operation = made(name)
    trained = operation(x, lengths)[inside]
    with torch.inference_mode():
        predicted = operation.eval()(x, lengths)[inside]
    torch.testing.assert_close(predicted, trained, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", OPERATIONS)
def test_only_zero_and_skip_have_no_parameters(name: str) -> None:
    assert (not list(made(name).parameters())) == (name in PARAMETER_FREE)


@pytest.mark.parametrize(("name", "kernel", "dilation"), [("conv3", 3, 1), ("conv5", 5, 1), ("dilated3", 3, 2)])
def test_convolutions_equal_a_loop_over_frames(name: str, kernel: int, dilation: int) -> None:
    torch.manual_seed(3)
    x, operation = torch.randn(1, 6, DIM), made(name)
    weight, bias = (value.detach().numpy() for value in operation.parameters())
    expected = np.tile(bias, (6, 1))
    for frame in range(6):
        for tap in range(kernel):
            source = frame + (tap - kernel // 2) * dilation
            if 0 <= source < 6:
                expected[frame] += weight[:, :, tap] @ x[0, source].numpy()
    found = operation(x, torch.tensor([6]))[0].detach()
    np.testing.assert_allclose(found, np.maximum(expected, 0), atol=1e-5)


def test_attention_equals_its_equations() -> None:
    torch.manual_seed(4)
    x, operation = torch.randn(1, 5, DIM), made("attention")
    joined, bias, out, out_bias = (value.detach() for value in operation.attention.parameters())
    query, key, value = (x[0] @ joined.T + bias).split(DIM, dim=1)
    heads = []
    for part in torch.arange(DIM).split(DIM // operation.HEADS):
        scores = query[:, part] @ key[:, part].T / math.sqrt(len(part))
        heads.append(scores.softmax(1) @ value[:, part])
    expected = x[0] + torch.cat(heads, dim=1) @ out.T + out_bias
    torch.testing.assert_close(operation(x, torch.tensor([5]))[0], expected, rtol=0, atol=1e-5)


def test_skip_hands_on_and_zero_silences() -> None:
    x, lengths = torch.randn(2, 3, DIM), torch.tensor([3, 2])
    assert torch.equal(made("skip")(x, lengths), x)
    assert not made("zero")(x, lengths).any()


def test_each_direction_of_the_gru_sees_its_side_only() -> None:
    torch.manual_seed(5)
    x, operation = torch.randn(1, 6, DIM), made("bigru")
    changed = x.clone()
    changed[0, 3] += 1
    moved = (operation(changed, torch.tensor([6])) != operation(x, torch.tensor([6])))[0]
    forwards, backwards = moved.split(DIM // 2, dim=1)
    assert forwards.any(1).tolist() == [False, False, False, True, True, True]
    assert backwards.any(1).tolist() == [True, True, True, True, False, False]
