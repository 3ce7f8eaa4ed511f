"""Logistic regression that several corpora share: the other corpora's utterances are training data for one language.

One weight matrix for all corpora, since a middle layer of a speech model tells anger from sadness in one language much
as in another; a bias for each corpus, since their emotions are not equally frequent. Each corpus is standardised by
itself, which takes off what is common to its recordings. How much the other corpora count, and how strong the penalty
is, dev speakers of the language decide.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from mser.metrics import score
from mser.protocol import Fold

#: What is tried on dev speakers: the weight of the other corpora's utterances, and the inverse penalty.
WEIGHTS, PENALTIES = (0.0, 0.3, 1.0, 2.0), (1.5, 5.0, 15.0)
#: Directions of largest variance that are kept: beyond them the penalty leaves nothing.
DIRECTIONS = 300


@dataclass(frozen=True)
class Corpus:
    """Features (N, D) and emotions (N,), by name, of one corpus."""

    features: np.ndarray
    emotions: np.ndarray


@dataclass(frozen=True)
class SharedChoice:
    """What dev speakers prefer: the weight of other corpora, the inverse penalty, and UAR of each split, percent."""

    weight: float
    penalty: float
    dev_uar: tuple[float, ...] = ()


def window(dev_uar: Sequence[float]) -> range:
    """Half of an upstream's layers, side by side, with the highest mean dev UAR.

    >>> window([10, 20, 60, 70, 65, 50, 30])
    range(2, 6)
    """
    size = (len(dev_uar) + 1) // 2
    starts = range(len(dev_uar) - size + 1)
    best = max(starts, key=lambda start: float(np.mean(dev_uar[start : start + size])))
    return range(best, best + size)


def choose(own: Corpus, others: Sequence[Corpus], fold: Fold) -> SharedChoice:
    """Tries every weight and penalty on the fold's dev speakers; the earlier of equals."""
    weights = WEIGHTS if others else WEIGHTS[:1]
    scores = np.zeros((len(weights), len(PENALTIES), len(fold.splits)))
    for number, split in enumerate(fold.splits):
        truth = own.emotions[split.dev]
        for row, weight in zip(scores, weights, strict=True):
            inputs = Inputs.of(own, others if weight else [], split.train, split.dev)
            for place, said in enumerate(inputs.predictions(weight, PENALTIES)):
                row[place, number] = score(truth, inputs.known[said.argmax(1)]).uar
    means = scores.mean(2)
    best = np.unravel_index(int(means.argmax()), means.shape)
    return SharedChoice(weights[best[0]], PENALTIES[best[1]], tuple(scores[best].tolist()))


def predict_shared(
    own: Corpus, others: Sequence[Corpus], train: np.ndarray, test: np.ndarray, choice: SharedChoice
) -> tuple[np.ndarray, np.ndarray]:
    """Fits on the training rows of a corpus and on other corpora, and asks for the test rows.

    Returns:
        Emotions (E,) by name, those of the training rows, and probabilities (N, E).
    """
    inputs = Inputs.of(own, others if choice.weight else [], train, test)
    return inputs.known, inputs.predictions(choice.weight, [choice.penalty])[0]


@dataclass(frozen=True)
class Inputs:
    """What is fitted: standardised, projected on the directions of largest variance, with an indicator of the corpus.

    Attributes:
        known: (E,) emotions of the own training rows; other corpora's utterances with other emotions are left out.
        rows, emotions: (n, d), (n,). foreign: (n,) bool, of another corpus. asked: (N, d).
    """

    known: np.ndarray
    rows: np.ndarray
    emotions: np.ndarray
    foreign: np.ndarray
    asked: np.ndarray

    @classmethod
    def of(cls, own: Corpus, others: Sequence[Corpus], train: np.ndarray, test: np.ndarray) -> Inputs:
        known = np.unique(own.emotions[train])
        kept = [(other, np.isin(other.emotions, known)) for other in others]
        parts = [(own.features[train], own.emotions[train])]
        parts += [(other.features[mask], other.emotions[mask]) for other, mask in kept if mask.any()]
        scalers = [StandardScaler().fit(features) for features, _ in parts]
        rows = np.concatenate([scaler.transform(part[0]) for scaler, part in zip(scalers, parts, strict=True)])
        basis = PCA(min(DIRECTIONS, *rows.shape), svd_solver="randomized", random_state=0).fit(rows)
        size = np.sqrt(rows.shape[1])
        place = np.repeat(np.arange(len(parts)), [len(emotions) for _, emotions in parts])
        indicators = np.eye(len(parts))
        asked = basis.transform(scalers[0].transform(own.features[test])) / size
        return cls(
            known,
            np.concatenate([basis.transform(rows) / size, indicators[place]], axis=1),
            np.concatenate([emotions for _, emotions in parts]),
            place > 0,
            np.concatenate([asked, indicators[np.zeros(len(asked), dtype=int)]], axis=1),
        )

    def predictions(self, weight: float, penalties: Sequence[float]) -> list[np.ndarray]:
        """Probabilities (N, E) for each inverse penalty; each fit goes on from the one before.

        Of a single emotion there is nothing to fit: it is certain.
        """
        if len(self.known) == 1:
            return [np.ones((len(self.asked), 1)) for _ in penalties]
        classifier = LogisticRegression(max_iter=200, tol=1e-3, warm_start=True)
        weights = np.where(self.foreign, weight, 1.0)
        said = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            for penalty in penalties:
                classifier.set_params(C=penalty).fit(self.rows, self.emotions, sample_weight=weights)
                said.append(classifier.predict_proba(self.asked))
        return said
