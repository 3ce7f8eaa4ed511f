"""The choice of a layer, on layers of which one is made to tell the emotion."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.preprocessing import StandardScaler

from mser.probe import choose_layer, dev_uar, fit_logistic
from mser.protocol import Fold, Split

SIZE, LAYERS, DIM = 120, 4, 6


def features(labels: np.ndarray, telling: int, strength: float = 3.0) -> np.ndarray:
    """Noise (N, L, D); in layer ``telling`` feature ``label`` stands out by ``strength``."""
    found = np.random.default_rng(telling).normal(5, 2, (len(labels), LAYERS, DIM)).astype(np.float32)
    found[np.arange(len(labels)), telling, labels] += 2 * strength
    return found


@pytest.fixture
def labels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 3, SIZE)


@pytest.fixture
def fold() -> Fold:
    """Test rows 0 to 29; three splits of the others."""
    train = np.arange(30, SIZE)
    parts = np.array_split(train, 3)
    return Fold("toy", train, np.arange(30), tuple(Split(np.setdiff1d(train, dev), dev) for dev in parts))


@pytest.mark.parametrize("telling", range(LAYERS))
def test_the_layer_that_tells_the_emotion_is_chosen(labels: np.ndarray, fold: Fold, telling: int) -> None:
    choice = choose_layer(features(labels, telling), labels, fold)
    assert choice.layer == telling
    assert choice.dev_uar.shape == (LAYERS,)
    assert choice.dev_uar[telling] > 90
    assert np.delete(choice.dev_uar, telling).max() < 60


def test_the_earlier_of_equal_layers_is_chosen(labels: np.ndarray, fold: Fold) -> None:
    x = features(labels, 1)
    x[:, 3] = x[:, 1]
    assert choose_layer(x, labels, fold).layer == 1


def test_test_rows_are_never_touched(labels: np.ndarray, fold: Fold) -> None:
    x = features(labels, 2, strength=1.0)
    expected = choose_layer(x, labels, fold)
    x[fold.test] = np.nan
    spoiled = labels.copy()
    spoiled[fold.test] = 99
    found = choose_layer(x, spoiled, fold)
    np.testing.assert_array_equal(found.dev_uar, expected.dev_uar)


def test_dev_uar_is_the_mean_over_splits_as_scikit_learn_scores_them(labels: np.ndarray, fold: Fold) -> None:
    layers = features(labels, 0, strength=1.0)
    x = layers[:, 0]
    expected = []
    for split in fold.splits:
        scaler = StandardScaler().fit(x[split.train])
        classifier = LogisticRegression(max_iter=2000).fit(scaler.transform(x[split.train]), labels[split.train])
        predicted = classifier.predict(scaler.transform(x[split.dev]))
        expected.append(100 * balanced_accuracy_score(labels[split.dev], predicted))
    np.testing.assert_allclose(dev_uar(x, labels, fold.splits), np.mean(expected))
    np.testing.assert_allclose(choose_layer(layers, labels, fold).dev_uar[0], np.mean(expected))


def test_of_one_emotion_it_is_certain_whatever_it_hears() -> None:
    x = np.random.default_rng(0).normal(size=(6, DIM))
    fitted = fit_logistic(x[:4], np.full(4, 2))
    assert fitted.classes_.tolist() == [2]
    np.testing.assert_array_equal(fitted.predict_proba(100 * x[4:]), np.ones((2, 1)))
    assert fitted.predict(x[4:]).tolist() == [2, 2]


def test_a_split_whose_training_part_has_one_emotion_is_scored_like_the_others(fold: Fold) -> None:
    labels = np.zeros(SIZE, int)
    labels[fold.splits[0].dev] = np.arange(len(fold.splits[0].dev)) % 2
    x = features(labels, 1)
    assert dev_uar(x[:, 1], labels, fold.splits[:1]) == 50
    assert choose_layer(x, labels, fold).dev_uar.shape == (LAYERS,)
