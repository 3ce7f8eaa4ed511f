"""Losses against loops that follow the papers' equations, scikit-learn and exact gradients."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.special import log_softmax, softmax
from sklearn.metrics import log_loss
from sklearn.utils.class_weight import compute_class_weight
from toys import examples

from mser.losses import GE2ESoftmaxLoss, SupervisedContrastiveLoss, balanced_weights, weighted_cross_entropy

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


def truncated(labels: list[int]) -> list[int]:
    """The first utterances of each emotion, as many as the rarest has."""
    rarest = min(labels.count(label) for label in set(labels))
    return [i for i, label in enumerate(labels) if labels[:i].count(label) < rarest]


def counting(labels: list[int]) -> torch.Tensor:
    return torch.ones(len(labels))


def ge2e(truncate: bool = False) -> GE2ESoftmaxLoss:
    return GE2ESoftmaxLoss(classes=4, truncate=truncate)


@examples
@given(LABELS, st.integers(0, 99))
def test_ge2e_equals_the_equations_written_as_loops(labels: list[int], seed: int) -> None:
    assume(sum(labels.count(label) > 1 for label in set(labels)) >= 2)
    e = embeddings_for(labels, seed)
    found = ge2e().double()(e, torch.tensor(labels), counting(labels))
    np.testing.assert_allclose(found.item(), naive_ge2e(e.numpy(), labels), rtol=1e-6)


#: At least two utterances of each of two or three emotions.
PAIRED = st.tuples(st.lists(st.integers(0, 1), max_size=7), st.lists(st.just(2), max_size=3)).flatmap(
    lambda extra: st.permutations([0, 0, 1, 1, *extra[0], *(extra[1] + [2] if extra[1] else [])])
)


@examples
@given(PAIRED, st.integers(0, 99))
def test_truncated_ge2e_equals_the_equations_on_the_first_utterances_of_each_emotion(
    labels: list[int], seed: int
) -> None:
    kept = truncated(labels)
    left = [labels[i] for i in kept]
    e = embeddings_for(labels, seed)
    found = ge2e(truncate=True).double()(e, torch.tensor(labels), counting(labels))
    np.testing.assert_allclose(found.item(), naive_ge2e(e.numpy()[kept], left), rtol=1e-6)


@examples
@given(LABELS, st.integers(0, 99), st.sampled_from([0.1, 0.5]))
def test_supcon_equals_the_equation_written_as_loops(labels: list[int], seed: int, temperature: float) -> None:
    assume(len(set(labels)) < len(labels))
    e = embeddings_for(labels, seed)
    found = SupervisedContrastiveLoss(temperature)(e, torch.tensor(labels), counting(labels))
    np.testing.assert_allclose(found.item(), naive_supcon(e.numpy(), labels, temperature), rtol=1e-9)


LOSSES = [ge2e(), ge2e(truncate=True), SupervisedContrastiveLoss()]


@pytest.mark.parametrize("loss", LOSSES)
@examples
@given(labels=LABELS, counted=st.lists(st.integers(0, 1), min_size=12, max_size=12), seed=st.integers(0, 99))
def test_rows_that_do_not_count_do_not_matter_at_all(
    loss: torch.nn.Module, labels: list[int], counted: list[int], seed: int
) -> None:
    counts = torch.tensor(counted[: len(labels)]).double()
    kept = [i for i in range(len(labels)) if counts[i]]
    assume(kept)
    e, loss = embeddings_for(labels, seed), loss.double()
    left, own = torch.tensor([labels[i] for i in kept]), e[kept].requires_grad_()
    alone = loss(own, left, torch.ones(len(kept)))
    (expected,) = torch.autograd.grad(alone, own)
    for strangers in (e, 1e3 * embeddings_for(labels, seed + 100), torch.zeros_like(e)):
        x = strangers.clone()
        x[kept] = e[kept]
        x.requires_grad_()
        found = loss(x, torch.tensor(labels), counts)
        np.testing.assert_allclose(found.item(), alone.item(), rtol=1e-9, atol=1e-12)
        (gradient,) = torch.autograd.grad(found, x)
        np.testing.assert_allclose(gradient[kept], expected, atol=1e-9)
        assert (gradient[counts == 0] == 0).all()


@pytest.mark.parametrize("loss", LOSSES)
def test_a_batch_of_which_nothing_counts_gives_0_with_a_gradient_of_zeros(loss: torch.nn.Module) -> None:
    e = torch.randn(4, 5, requires_grad=True, dtype=torch.float64)
    found = loss.double()(e, torch.tensor([0, 0, 1, 1]), torch.zeros(4))
    (gradient,) = torch.autograd.grad(found, e)
    assert found.item() == 0
    assert (gradient == 0).all()


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("labels", [[0, 0, 1, 1], [2, 0, 2, 0, 1, 0], [3, 3, 3, 1, 1, 0, 2]])
def test_gradients_are_exact(loss: torch.nn.Module, labels: list[int]) -> None:
    e = embeddings_for(labels, seed=0).requires_grad_()
    counts = torch.tensor([1.0] * (len(labels) - 1) + [0.0])
    assert torch.autograd.gradcheck(lambda e: loss.double()(e, torch.tensor(labels), counts), (e,))


def test_gradients_of_scale_and_shift_are_exact() -> None:
    labels = torch.tensor([0, 0, 1, 1, 1])
    loss = ge2e().double()
    e = embeddings_for(labels.tolist(), seed=0)
    scale, shift = (torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (3.0, -1.0))
    assert torch.autograd.gradcheck(
        lambda w, b: torch.func.functional_call(loss, {"scale": w, "shift": b}, (e, labels, torch.ones(5))),
        (scale, shift),
    )


@pytest.mark.parametrize(
    ("loss", "labels"),
    [
        (ge2e(), [0]),
        (ge2e(), [0, 0, 0]),
        (ge2e(), [0, 1, 2]),
        (ge2e(), [0, 0, 1]),
        (ge2e(truncate=True), [0, 0, 1]),
        (SupervisedContrastiveLoss(), [0]),
        (SupervisedContrastiveLoss(), [0, 1, 2]),
    ],
)
def test_batches_without_a_pair_give_0_with_a_gradient(loss: torch.nn.Module, labels: list[int]) -> None:
    e = torch.randn(len(labels), 4, requires_grad=True)
    found = loss(e, torch.tensor(labels), counting(labels))
    found.backward()
    assert found.item() == 0
    assert e.grad is not None
    assert (e.grad == 0).all()


@pytest.mark.parametrize("loss", [ge2e(), SupervisedContrastiveLoss()])
def test_embeddings_of_zeros_give_finite_gradients(loss: torch.nn.Module) -> None:
    e = torch.zeros(4, 3, requires_grad=True)
    loss(e, torch.tensor([0, 0, 1, 1]), torch.ones(4)).backward()
    assert e.grad is not None
    assert e.grad.isfinite().all()


@pytest.mark.parametrize("loss", [ge2e(), SupervisedContrastiveLoss()])
def test_emotions_that_stand_apart_cost_less(loss: torch.nn.Module) -> None:
    apart = torch.tensor([[1.0, 0], [1, 0.1], [0, 1], [0.1, 1]])
    labels, counts = torch.tensor([0, 0, 1, 1]), torch.ones(4)
    assert loss(apart, labels, counts) < loss(apart, torch.tensor([0, 1, 0, 1]), counts)


@examples
@given(st.lists(st.integers(0, 3), min_size=1, max_size=12), st.sampled_from([0.0, 0.1, 0.5]), st.integers(0, 99))
def test_weighted_cross_entropy_equals_scikit_learn(labels: list[int], smoothing: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits, weights = rng.normal(0, 2, (len(labels), 4)), rng.uniform(0.1, 3, len(labels))
    found = weighted_cross_entropy(*map(torch.tensor, (logits, labels, weights)), smoothing).item()
    truth = log_loss(labels, softmax(logits, axis=1), labels=range(4), sample_weight=weights, normalize=False)
    spread = -(weights[:, None] * log_softmax(logits, axis=1)).sum() / 4
    np.testing.assert_allclose(found, (1 - smoothing) * truth + smoothing * spread, rtol=1e-9)


@examples
@given(st.lists(st.integers(0, 4), min_size=1, max_size=30))
def test_balanced_weights_equal_scikit_learn(labels: list[int]) -> None:
    present = np.unique(labels)
    expected = np.zeros(5)
    expected[present] = compute_class_weight("balanced", classes=present, y=np.array(labels))
    np.testing.assert_allclose(balanced_weights(torch.tensor(labels), 5), expected, rtol=1e-6)
