"""Logistic regression over several corpora, against scikit-learn without projections and against made-up corpora."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from mser.protocol import Fold, Split
from mser.shared_probe import PENALTIES, Corpus, Inputs, SharedChoice, choose, predict_shared, window

EMOTIONS = np.array(["anger", "joy", "sadness"])


def corpus(seed: int, count: int = 60, dim: int = 12, noise: float = 1.0, shift: float = 0.0) -> Corpus:
    """Emotions lie along fixed directions that all corpora share, beside noise of the corpus' own."""
    rng = np.random.default_rng(seed)
    directions = np.random.default_rng(99).normal(size=(3, dim))
    labels = np.arange(count) % 3
    return Corpus(shift + directions[labels] + noise * rng.normal(size=(count, dim)), EMOTIONS[labels])


def test_alone_it_is_the_logistic_regression_of_standardised_features() -> None:
    own = corpus(0)
    train, test = np.arange(40), np.arange(40, 60)
    known, said = predict_shared(own, [], train, test, SharedChoice(0.0, 5.0))
    mean, deviation = own.features[train].mean(0), own.features[train].std(0)
    inputs = (own.features - mean) / deviation / np.sqrt(12)
    # The indicator of the only corpus is the same for every row: a penalised second bias.
    inputs = np.concatenate([inputs, np.ones((60, 1))], axis=1)
    plain = LogisticRegression(C=5.0, max_iter=2000, tol=1e-8).fit(inputs[train], own.emotions[train])
    np.testing.assert_array_equal(known, plain.classes_)
    np.testing.assert_allclose(said, plain.predict_proba(inputs[test]), atol=0.02)


def test_utterances_of_other_corpora_count_by_their_weight() -> None:
    own, other = corpus(0, count=30), corpus(1, count=45, shift=50.0)
    train = np.arange(24)
    inputs = Inputs.of(own, [other], train, np.arange(24, 30))
    weights = np.where(inputs.foreign, 2.0, 1.0)
    twice = np.repeat(np.arange(len(weights)), weights.astype(int))
    plain = LogisticRegression(C=1.5, max_iter=2000, tol=1e-8).fit(inputs.rows[twice], inputs.emotions[twice])
    np.testing.assert_allclose(inputs.predictions(2.0, [1.5])[0], plain.predict_proba(inputs.asked), atol=0.02)
    assert inputs.foreign.sum() == 45


def test_each_corpus_is_standardised_by_itself_and_test_rows_by_the_training_rows() -> None:
    own, other = corpus(0), corpus(1, shift=1000.0)
    train, test = np.arange(40), np.arange(40, 60)
    inputs = Inputs.of(own, [other], train, test)
    for mask in (inputs.foreign, ~inputs.foreign):
        np.testing.assert_allclose(inputs.rows[mask, :12].mean(0), 0, atol=0.1)
    changed = own.features.copy()
    changed[50] = 1e6
    again = Inputs.of(Corpus(changed, own.emotions), [other], train, test)
    np.testing.assert_allclose(again.rows, inputs.rows)
    np.testing.assert_allclose(np.delete(again.asked, 10, axis=0), np.delete(inputs.asked, 10, axis=0))


def test_emotions_that_the_language_lacks_are_left_out() -> None:
    own, other = corpus(0), corpus(1)
    only = Corpus(own.features, np.where(own.emotions == "joy", "anger", own.emotions))
    inputs = Inputs.of(only, [other], np.arange(40), np.arange(40, 60))
    assert inputs.known.tolist() == ["anger", "sadness"]
    assert inputs.foreign.sum() == (other.emotions != "joy").sum()


def fold_of(count: int) -> Fold:
    train = np.arange(count - 9)
    return Fold(
        "last", train, np.arange(count - 9, count), (Split(train[9:], train[:9]), Split(train[:-9], train[-9:]))
    )


def test_dev_speakers_take_other_corpora_where_they_help_and_leave_them_where_they_mislead() -> None:
    own = corpus(0, count=36, dim=60, noise=4.0)
    helping = [corpus(seed, count=900, dim=60, noise=4.0) for seed in (1, 2)]
    misleading = [Corpus(one.features, np.roll(one.emotions, 1)) for one in helping]
    assert choose(own, helping, fold_of(36)).weight > 0
    assert choose(own, misleading, fold_of(36)).weight == 0
    alone = choose(own, [], fold_of(36))
    assert alone.weight == 0
    assert alone.penalty in PENALTIES


def test_the_choice_never_reads_the_test_rows() -> None:
    own, others = corpus(0, count=36), [corpus(1, count=60)]
    fold = fold_of(36)
    spoiled = own.features.copy()
    spoiled[fold.test] = np.nan
    emotions = own.emotions.copy()
    emotions[fold.test] = "unknown"
    assert choose(Corpus(spoiled, emotions), others, fold) == choose(own, others, fold)


@pytest.mark.parametrize(("uars", "expected"), [([50.0], range(1)), ([10, 90], range(1, 2)), ([9, 8, 7], range(2))])
def test_a_window_is_half_of_the_layers_with_the_best_mean(uars: list[float], expected: range) -> None:
    assert window(uars) == expected


def test_of_one_emotion_it_is_certain_whatever_other_corpora_say() -> None:
    own, other = corpus(0), corpus(1)
    rows = np.flatnonzero(own.emotions == "joy")
    known, said = predict_shared(own, [other], rows, np.arange(7), SharedChoice(1.0, 5.0))
    assert known.tolist() == ["joy"]
    np.testing.assert_array_equal(said, np.ones((7, 1)))
    fold = Fold("a", np.arange(60), np.arange(0), (Split(rows, np.arange(60)),))
    assert choose(own, [other], fold).dev_uar == pytest.approx((100 / 3,))


def test_a_corpus_of_other_emotions_alone_is_left_out() -> None:
    own = corpus(0)
    stranger = Corpus(corpus(1).features, np.full(60, "boredom"))
    train, test = np.arange(40), np.arange(40, 60)
    alone, beside = (predict_shared(own, others, train, test, SharedChoice(1.0, 5.0)) for others in ([], [stranger]))
    np.testing.assert_array_equal(alone[0], beside[0])
    np.testing.assert_allclose(alone[1], beside[1])
