"""Metrics of a classification, each with its denominator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn import metrics


@dataclass(frozen=True)
class Scores:
    """Scores of one set of predictions, in percent.

    Attributes:
        uar: unweighted average recall: the mean of the recalls of the ``emotions`` emotions that occur.
        wa: weighted accuracy: the share of the ``utterances`` that are right.
        macro_f1: the mean F1 of the same ``emotions`` emotions.
        utterances: N, the denominator of ``wa``.
        emotions: the number of emotions that occur, the denominator of ``uar`` and ``macro_f1``.
    """

    uar: float
    wa: float
    macro_f1: float
    utterances: int
    emotions: int


def score(truth: np.ndarray, predicted: np.ndarray) -> Scores:
    """Scores predictions (N,) against the truth (N,), both emotions by index or name.

    Raises:
        ValueError: no utterances, or unlike lengths.
    """
    if not len(truth) or len(truth) != len(predicted):
        raise ValueError(f"expected as many predictions as truths, and some: {len(truth)} truths, {len(predicted)}")
    present = np.unique(truth)
    _, recall, f1, _ = metrics.precision_recall_fscore_support(
        truth, predicted, labels=present, average=None, zero_division=0
    )
    accuracy = metrics.accuracy_score(truth, predicted)
    return Scores(100 * recall.mean(), 100 * float(accuracy), 100 * f1.mean(), len(truth), len(present))


def confusion(truth: np.ndarray, predicted: np.ndarray, emotions: Sequence[str]) -> np.ndarray:
    """Counts (E, E): row the true emotion, column the predicted one; indices into ``emotions``."""
    return metrics.confusion_matrix(truth, predicted, labels=np.arange(len(emotions)))


def clustered_intervals(
    truth: np.ndarray,
    predictions: np.ndarray,
    clusters: np.ndarray,
    level: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """Bootstrap intervals of ``uar``, ``wa`` and ``macro_f1``, averaged over seeds, in percent.

    Utterances of one speaker are not independent, so whole speakers are drawn again (Field & Welsh 2007, Journal of
    the Royal Statistical Society B 69). An emotion that a draw lacks does not count in that draw, as in :func:`score`.

    Args:
        truth: (N,) emotion indices. predictions: (seeds, N). clusters: (N,) speaker of each utterance.
    """
    names, cluster = np.unique(clusters, return_inverse=True)
    emotions = int(max(truth.max(), predictions.max())) + 1
    counts = np.zeros((len(predictions), len(names), emotions, emotions))
    for number, predicted in enumerate(predictions):
        np.add.at(counts[number], (cluster, truth, predicted), 1)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws)
    # (draws, seeds, true, predicted)
    matrices = np.einsum("dc,sctp->dstp", drawn, counts)
    right, true, said = np.einsum("dstt->dst", matrices), matrices.sum(3), matrices.sum(2)
    occurs = true > 0
    recall = np.divide(right, true, out=np.zeros_like(right), where=occurs)
    f1 = np.divide(2 * right, true + said, out=np.zeros_like(right), where=occurs)
    values = {
        "uar": recall.sum(2) / occurs.sum(2),
        "wa": right.sum(2) / true.sum(2),
        "macro_f1": f1.sum(2) / occurs.sum(2),
    }
    bounds = [(1 - level) / 2, (1 + level) / 2]
    found = {name: np.quantile(100 * value.mean(1), bounds) for name, value in values.items()}
    return {name: (float(low), float(high)) for name, (low, high) in found.items()}
