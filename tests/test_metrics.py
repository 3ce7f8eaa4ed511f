"""Metrics against scikit-learn and plain loops."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics
from toys import examples

from mser.metrics import clustered_intervals, confusion, score

PAIRS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), min_size=1, max_size=40)


@examples
@given(PAIRS)
def test_scores_equal_scikit_learn_also_where_emotions_are_absent(pairs: list[tuple[int, int]]) -> None:
    truth, predicted = np.array(pairs).T
    found = score(truth, predicted)
    present = np.unique(truth)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a predicted emotion that does not occur, or one that was never predicted
        uar = metrics.balanced_accuracy_score(truth, predicted)
        f1 = metrics.f1_score(truth, predicted, labels=present, average="macro", zero_division=0)
    np.testing.assert_allclose(found.uar, 100 * uar)
    np.testing.assert_allclose(found.wa, 100 * metrics.accuracy_score(truth, predicted))
    np.testing.assert_allclose(found.macro_f1, 100 * f1)
    assert (found.utterances, found.emotions) == (len(truth), len(present))


def test_scores_of_a_small_table_worked_by_hand() -> None:
    found = score(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1]))
    np.testing.assert_allclose([found.uar, found.wa, found.macro_f1], [100 * 5 / 6, 75, 100 * (0.8 + 2 / 3) / 2])


def test_names_score_as_indices_do() -> None:
    truth, predicted = np.array([0, 1, 2, 1]), np.array([0, 2, 2, 1])
    names = np.array(["anger", "fear", "joy"])
    assert score(names[truth], names[predicted]) == score(truth, predicted)


@pytest.mark.parametrize(("truth", "predicted"), [([], []), ([0, 1], [0])])
def test_no_utterances_or_unlike_lengths_are_refused(truth: list[int], predicted: list[int]) -> None:
    with pytest.raises(ValueError, match="as many predictions as truths"):
        score(np.array(truth), np.array(predicted))


@examples
@given(PAIRS)
def test_confusion_counts_rows_of_truth_and_columns_of_predictions(pairs: list[tuple[int, int]]) -> None:
    truth, predicted = np.array(pairs).T
    expected = np.zeros((5, 5))
    for row, column in pairs:
        expected[row, column] += 1
    np.testing.assert_array_equal(confusion(truth, predicted, list("abcde")), expected)


def naive_intervals(
    truth: np.ndarray, predictions: np.ndarray, clusters: np.ndarray, level: float, draws: int, seed: int
) -> dict[str, np.ndarray]:
    """Draws speakers with replacement, joins all their utterances, and scores each seed by scikit-learn."""
    names = np.unique(clusters)
    share = np.full(len(names), 1 / len(names))
    found: dict[str, list[float]] = {"uar": [], "wa": [], "macro_f1": []}
    for times in np.random.default_rng(seed).multinomial(len(names), share, size=draws):
        drawn = np.repeat(names, times)
        rows = np.concatenate([np.flatnonzero(clusters == name) for name in drawn])
        y, present = truth[rows], np.unique(truth[rows])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found["uar"].append(np.mean([metrics.balanced_accuracy_score(y, one[rows]) for one in predictions]))
            f1 = [
                metrics.f1_score(y, one[rows], labels=present, average="macro", zero_division=0) for one in predictions
            ]
        found["macro_f1"].append(np.mean(f1))
        found["wa"].append(np.mean([metrics.accuracy_score(y, one[rows]) for one in predictions]))
    bounds = [(1 - level) / 2, (1 + level) / 2]
    return {name: np.quantile(100 * np.array(values), bounds) for name, values in found.items()}


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("single_emotion_speakers", [False, True])
def test_clustered_intervals_equal_a_loop_that_draws_speakers(seeds: int, single_emotion_speakers: bool) -> None:
    rng = np.random.default_rng(seeds)
    clusters = np.array(list("aabbbbcccdddde"))
    # With one emotion a speaker, draws lack emotions.
    truth = np.array([0, 0, 1, 1, 1, 1, 2, 2, 2, 0, 0, 0, 0, 1])
    truth = truth if single_emotion_speakers else rng.integers(0, 3, len(clusters))
    predictions = np.where(rng.random((seeds, len(truth))) < 0.6, truth, rng.integers(0, 4, (seeds, len(truth))))
    found = clustered_intervals(truth, predictions, clusters, level=0.9, draws=60, seed=4)
    expected = naive_intervals(truth, predictions, clusters, 0.9, 60, 4)
    assert set(found) == set(expected)
    for name, bounds in expected.items():
        np.testing.assert_allclose(found[name], bounds, err_msg=name)


def test_clustered_intervals_are_wider_than_those_over_utterances() -> None:
    clusters = np.repeat(np.arange(6), 40)
    truth = np.tile([0, 1], 120)
    predictions = np.where(clusters < 3, truth, 1 - truth)[None]  # right for half of the speakers, wrong for the others
    by_speaker = clustered_intervals(truth, predictions, clusters)
    by_utterance = clustered_intervals(truth, predictions, np.arange(240))
    for name, (low, high) in by_speaker.items():
        assert high - low > 3 * (by_utterance[name][1] - by_utterance[name][0])
        assert low < 50 < high


def test_clustered_intervals_are_about_as_wide_as_the_normal_approximation() -> None:
    rng = np.random.default_rng(0)
    hits = rng.random(400) < 0.7
    low, high = clustered_intervals(np.zeros(400, dtype=int), (~hits).astype(int)[None], np.arange(400))["wa"]
    error = 100 * np.sqrt(hits.mean() * (1 - hits.mean()) / 400)
    np.testing.assert_allclose([low, high], 100 * hits.mean() + 1.96 * error * np.array([-1, 1]), atol=0.6)


def test_clustered_intervals_of_perfect_predictions_are_100() -> None:
    truth = np.array([0, 1, 0, 1, 2])
    assert set(clustered_intervals(truth, truth[None], np.array(list("aabbc"))).values()) == {(100, 100)}
