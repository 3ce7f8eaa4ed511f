"""Losses against loops that follow the papers' equations, scikit-learn and exact gradients."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight
from toys import examples

from mser.losses import GE2ESoftmaxLoss, SupervisedContrastiveLoss, balanced_weights

LABELS = st.lists(st.integers(0, 3), min_size=2, max_size=12)


def embeddings_for(labels: list[int], seed: int) -> torch.Tensor:
    return torch.randn(len(labels), 5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def naive_ge2e(e: np.ndarray, labels: list[int], scale: float = 10.0, shift: float = -5.0) -> float:
    """Equations 5, 6, 8 and 9 of Wan et al. 2018, for classes with two utterances or more."""
    classes = sorted({label for label in labels if labels.count(label) > 1})
    losses = []
    for i, label in enumerate(labels):
        if label not in classes:
            continue
        similarity = {}
        for k in classes:
            members = [e[m] for m in range(len(labels)) if labels[m] == k and m != i]
            similarity[k] = scale * cosine(e[i], np.mean(members, axis=0)) + shift
        losses.append(-similarity[label] + math.log(sum(math.exp(s) for s in similarity.values())))
    return float(np.mean(losses))


def naive_supcon(e: np.ndarray, labels: list[int], temperature: float) -> float:
    """Equation 2 of Khosla et al. 2020; anchors without a positive do not count."""
    losses = []
    for i, label in enumerate(labels):
        positives = [p for p in range(len(labels)) if p != i and labels[p] == label]
        if not positives:
            continue
        others = sum(math.exp(cosine(e[i], e[a]) / temperature) for a in range(len(labels)) if a != i)
        terms = [math.log(math.exp(cosine(e[i], e[p]) / temperature) / others) for p in positives]
        losses.append(-sum(terms) / len(positives))
    return float(np.mean(losses))


@examples
@given(LABELS, st.integers(0, 99))
def test_ge2e_equals_the_equations_written_as_loops(labels: list[int], seed: int) -> None:
    assume(sum(labels.count(label) > 1 for label in set(labels)) >= 2)
    e = embeddings_for(labels, seed)
    found = GE2ESoftmaxLoss().double()(e, torch.tensor(labels))
    np.testing.assert_allclose(found.item(), naive_ge2e(e.numpy(), labels), rtol=1e-6)


@examples
@given(LABELS, st.integers(0, 99), st.sampled_from([0.1, 0.5]))
def test_supcon_equals_the_equation_written_as_loops(labels: list[int], seed: int, temperature: float) -> None:
    assume(len(set(labels)) < len(labels))
    e = embeddings_for(labels, seed)
    found = SupervisedContrastiveLoss(temperature)(e, torch.tensor(labels))
    np.testing.assert_allclose(found.item(), naive_supcon(e.numpy(), labels, temperature), rtol=1e-9)


@pytest.mark.parametrize("loss", [GE2ESoftmaxLoss(), SupervisedContrastiveLoss()])
@pytest.mark.parametrize("labels", [[0, 0, 1, 1], [2, 0, 2, 0, 1, 0], [3, 3, 3, 1, 1, 0, 2]])
def test_gradients_are_exact(loss: torch.nn.Module, labels: list[int]) -> None:
    e = embeddings_for(labels, seed=0).requires_grad_()
    assert torch.autograd.gradcheck(lambda e: loss.double()(e, torch.tensor(labels)), (e,))


def test_gradients_of_scale_and_shift_are_exact() -> None:
    labels = torch.tensor([0, 0, 1, 1, 1])
    loss = GE2ESoftmaxLoss().double()
    e = embeddings_for(labels.tolist(), seed=0)
    scale, shift = (torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (3.0, -1.0))
    assert torch.autograd.gradcheck(
        lambda w, b: torch.func.functional_call(loss, {"scale": w, "shift": b}, (e, labels)), (scale, shift)
    )


@pytest.mark.parametrize(
    ("loss", "labels"),
    [
        (GE2ESoftmaxLoss(), [0]),
        (GE2ESoftmaxLoss(), [0, 0, 0]),
        (GE2ESoftmaxLoss(), [0, 1, 2]),
        (GE2ESoftmaxLoss(), [0, 0, 1]),
        (SupervisedContrastiveLoss(), [0]),
        (SupervisedContrastiveLoss(), [0, 1, 2]),
    ],
)
def test_batches_without_a_pair_give_0_with_a_gradient(loss: torch.nn.Module, labels: list[int]) -> None:
    e = torch.randn(len(labels), 4, requires_grad=True)
    found = loss(e, torch.tensor(labels))
    found.backward()
    assert found.item() == 0
    assert e.grad is not None
    assert (e.grad == 0).all()


@pytest.mark.parametrize("loss", [GE2ESoftmaxLoss(), SupervisedContrastiveLoss()])
def test_embeddings_of_zeros_give_finite_gradients(loss: torch.nn.Module) -> None:
    e = torch.zeros(4, 3, requires_grad=True)
    loss(e, torch.tensor([0, 0, 1, 1])).backward()
    assert e.grad is not None
    assert e.grad.isfinite().all()


@pytest.mark.parametrize("loss", [GE2ESoftmaxLoss(), SupervisedContrastiveLoss()])
def test_emotions_that_stand_apart_cost_less(loss: torch.nn.Module) -> None:
    apart = torch.tensor([[1.0, 0], [1, 0.1], [0, 1], [0.1, 1]])
    labels = torch.tensor([0, 0, 1, 1])
    assert loss(apart, labels) < loss(apart, torch.tensor([0, 1, 0, 1]))


@examples
@given(st.lists(st.integers(0, 4), min_size=1, max_size=30))
def test_balanced_weights_equal_scikit_learn(labels: list[int]) -> None:
    present = np.unique(labels)
    expected = np.zeros(5)
    expected[present] = compute_class_weight("balanced", classes=present, y=np.array(labels))
    np.testing.assert_allclose(balanced_weights(torch.tensor(labels), 5), expected, rtol=1e-6)
