"""Rows of unknown emotions: against scikit-learn, and against a solver's own optimum."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from train.adapt.rows import solved


def test_with_every_row_unknown_it_is_multinomial_logistic_regression() -> None:
    rng = np.random.default_rng(0)
    truth = np.repeat(np.arange(3), 20)
    features = rng.normal(size=(60, 5)) + 2 * np.eye(5)[truth]
    expected = LogisticRegression(C=1.0, tol=1e-8, max_iter=1000).fit(features, truth)
    embedding = torch.from_numpy(features)
    weight, bias = solved(embedding, torch.zeros(60, 3, dtype=torch.float64), torch.from_numpy(truth), torch.arange(3))
    # Biases are held here and free there; only their differences matter, and these hardly.
    np.testing.assert_allclose(weight.numpy(), expected.coef_, atol=0.02)
    np.testing.assert_allclose(
        (bias - bias.mean()).numpy(), expected.intercept_ - expected.intercept_.mean(), atol=0.05
    )


def test_known_rows_stay_and_the_new_one_is_at_its_optimum() -> None:
    rng = torch.Generator().manual_seed(1)
    embedding, known = torch.randn(30, 4, generator=rng), torch.randn(30, 3, generator=rng)
    truth = torch.arange(30) % 3
    embedding[truth == 1] += 2
    weight, bias = solved(embedding, known, truth, torch.tensor([1]))

    def cost(weight: torch.Tensor, bias: torch.Tensor) -> float:
        logits = known.clone()
        logits[:, 1] = embedding @ weight[0] + bias[0]
        own = torch.nn.functional.cross_entropy(logits, truth, reduction="sum")
        return float(own + 0.5 * weight.square().sum() + 0.05 * bias.square().sum())

    best = cost(weight, bias)
    for _ in range(50):
        step = 0.05 * torch.randn(5, generator=rng)
        assert cost(weight + step[:4], bias + step[4:]) >= best - 1e-4


def test_an_emotion_without_a_clip_is_said_less_but_stays_finite() -> None:
    weight, bias = solved(torch.randn(12, 3), torch.zeros(12, 3), torch.arange(12) % 2, torch.tensor([2]))
    assert weight.isfinite().all()
    assert -20 < float(bias[0]) < 0
