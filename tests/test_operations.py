"""Temporal operations: the same alone and in a padded batch, whatever stands behind the end."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from toys import examples

from mser.heads import POOLINGS, frame_mask
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
        predicted = operation(x, lengths)[inside]
    torch.testing.assert_close(predicted, trained, rtol=0, atol=1e-5)


def test_all_operations_but_the_recurrent_one_can_be_batched() -> None:
    assert [name for name in OPERATIONS if not made(name).batchable] == ["bigru"]


BATCHABLE = [name for name in OPERATIONS if name != "bigru"]


@pytest.mark.filterwarnings("error:There is a performance drop")
@pytest.mark.parametrize("kind", [*BATCHABLE, *POOLINGS])
def test_many_networks_at_once_equal_each_alone(kind: str) -> None:
    """Values and gradients, with parameters, frames and lengths of each network's own."""
    networks = [make_operation(kind, DIM) if kind in OPERATIONS else POOLINGS[kind](DIM) for _ in range(3)]
    for number, network in enumerate(networks):
        torch.manual_seed(number)
        for value in network.parameters():
            torch.nn.init.normal_(value, std=0.5)
    torch.manual_seed(9)
    x, lengths = torch.randn(3, 4, 6, DIM), torch.tensor([[6, 1, 3, 2], [2, 6, 6, 5], [4, 1, 1, 1]])
    # Garbage behind the ends, as stacked networks may share a padded batch.
    inside = torch.stack([frame_mask(row, 6) for row in lengths]) > 0
    x = torch.where(inside, x, 7.0)
    counted = inside.float() if kind in OPERATIONS else torch.ones(3, 1, 1)

    def loss(
        parameters: dict[str, torch.Tensor], x: torch.Tensor, lengths: torch.Tensor, counted: torch.Tensor
    ) -> torch.Tensor:
        return (torch.func.functional_call(networks[0], parameters, (x, lengths)).sin() * counted).sum()

    stacked, _ = torch.func.stack_module_state(networks)
    gradients = torch.func.vmap(torch.func.grad_and_value(loss, argnums=(0, 1)))(stacked, x, lengths, counted)
    (found, moved), values = gradients
    for number, network in enumerate(networks):
        own = x[number].clone().requires_grad_()
        # The last term ties zero, which ignores its frames, to them.
        alone = (network(own, lengths[number]).sin() * counted[number]).sum() + 0 * own.sum()
        names = dict(network.named_parameters())
        expected = torch.autograd.grad(alone, [*names.values(), own], materialize_grads=True)
        torch.testing.assert_close(values[number], alone, rtol=1e-5, atol=1e-5)
        for name, gradient in zip(names, expected, strict=False):
            torch.testing.assert_close(found[name][number], gradient, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(moved[number], expected[-1], rtol=1e-4, atol=1e-5)


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
    joined, bias, out, out_bias = (value.detach() for value in operation.parameters())
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
