"""Logistic regression on single layers: the bar every head must pass, and the layers' ranking."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mser.metrics import score
from mser.protocol import Fold, Split


@dataclass(frozen=True)
class LayerChoice:
    """The layer that the dev speakers of a fold prefer.

    Attributes:
        layer: index into L; the earlier one of equals.
        dev_uar: (L,) mean UAR over the fold's dev splits, percent.
    """

    layer: int
    dev_uar: np.ndarray


def fit_logistic(features: np.ndarray, labels: np.ndarray) -> ClassifierMixin:
    """Standardised features (N, D) and labels (N,) -> a fitted multinomial regression, C = 1.

    Of a single emotion there is nothing to tell apart: what is fitted then says it, whatever the features.
    """
    if len(np.unique(labels)) == 1:
        return DummyClassifier(strategy="prior").fit(features, labels)
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=200, tol=1e-3))
    with warnings.catch_warnings():
        # Separable data never converge; the regularised optimum moves no prediction after this many steps.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return classifier.fit(features, labels)


def dev_uar(features: np.ndarray, labels: np.ndarray, splits: Sequence[Split]) -> float:
    """Mean UAR on the dev speakers of features (N, D), percent."""
    found = [
        score(
            labels[split.dev], fit_logistic(features[split.train], labels[split.train]).predict(features[split.dev])
        ).uar
        for split in splits
    ]
    return float(np.mean(found))


def choose_layer(features: np.ndarray, labels: np.ndarray, fold: Fold) -> LayerChoice:
    """Picks a layer by the dev speakers of a fold; the test speakers are not touched.

    Args:
        features: (N, L, D), means over frames.
        labels: (N,) emotion indices.
    """
    scores = np.array([dev_uar(features[:, layer], labels, fold.splits) for layer in range(features.shape[1])])
    return LayerChoice(int(scores.argmax()), scores)
