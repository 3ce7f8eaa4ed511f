"""Methods against the bar, by exchanges that are counted out one by one."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score

from mser.significance import holm, paired_permutation
from train.compare import PAIRS, comparisons, pairs
from train.methods import METHODS

SPEAKERS = np.repeat(np.arange(5), 6)
LABELS = np.arange(30) % 3


EVERY = np.arange(30)


def data(tested: np.ndarray = EVERY) -> Any:
    """What is asked of a language's data."""
    return SimpleNamespace(
        language="de", tested=tested, labels=torch.from_numpy(LABELS), speakers=torch.from_numpy(SPEAKERS)
    )


def predictions(share: float, seed: int, seeds: int = 2) -> np.ndarray:
    """(seeds, N): right in about this share."""
    rng = np.random.default_rng(seed)
    wrong = (LABELS + rng.integers(1, 3, (seeds, 30))) % 3
    return np.where(rng.random((seeds, 30)) < share, LABELS, wrong)


SAID = {"logistic": predictions(0.5, 0, 1), "fixed": predictions(0.75, 1), "searched": predictions(0.9, 2)}


def uar(truth: np.ndarray, said: np.ndarray) -> float:
    return float(np.mean([100 * balanced_accuracy_score(truth, one) for one in said]))


def counted_out(first: np.ndarray, second: np.ndarray) -> float:
    """The share of exchanges of whole speakers that part the methods at least as far, all 2^5 looked at.

    Seeds are averaged for each utterance first, which a method with one seed needs for an exchange with two.
    """
    rows = [np.flatnonzero(speaker == SPEAKERS) for speaker in range(5)]
    seeds = np.lcm(len(first), len(second))
    first, second = np.tile(first, (seeds // len(first), 1)), np.tile(second, (seeds // len(second), 1))
    observed, count = abs(uar(LABELS, first) - uar(LABELS, second)), 0
    for exchanged in itertools.product([False, True], repeat=5):
        a, b = first.copy(), second.copy()
        for flag, own in zip(exchanged, rows, strict=True):
            if flag:
                a[:, own], b[:, own] = second[:, own], first[:, own]
        count += abs(uar(LABELS, a) - uar(LABELS, b)) >= observed - 1e-9
    return count / 32


def test_every_method_is_compared_with_the_bar_by_counting_out_exchanges_of_speakers() -> None:
    found = comparisons(data(), SAID)
    assert [(one["language"], one["method"], one["against"]) for one in found] == [
        ("de", "fixed", "logistic"),
        ("de", "searched", "logistic"),
    ]
    raw = [counted_out(SAID[one["method"]], SAID["logistic"]) for one in found]
    # Holm by hand: of two, the smaller times two, the larger at least as large.
    small, large = sorted(raw)
    adjusted = {small: min(1, 2 * small), large: min(1, max(2 * small, large))}
    for one, p in zip(found, raw, strict=True):
        expected = uar(LABELS, SAID[one["method"]]) - uar(LABELS, SAID["logistic"])
        assert one["difference"] == pytest.approx(expected)
        assert one["p_speakers"] == pytest.approx(adjusted[p])
        assert one["least_p"] == pytest.approx(2 / 32)


def test_exchanges_of_utterances_are_those_of_the_test_with_each_utterance_for_itself() -> None:
    found = comparisons(data(), SAID)
    tests = [
        paired_permutation(LABELS, SAID[name], SAID["logistic"], np.arange(30)).p for name in ("fixed", "searched")
    ]
    np.testing.assert_allclose([one["p_utterances"] for one in found], holm(tests))


def test_rows_that_no_fold_tests_do_not_count() -> None:
    tested = np.flatnonzero(SPEAKERS != 2)
    masked = {name: np.where(SPEAKERS == 2, -1, said) for name, said in SAID.items()}
    others = {name: np.where(SPEAKERS == 2, (LABELS + 1) % 3, said) for name, said in SAID.items()}
    assert comparisons(data(tested), masked) == comparisons(data(tested), others)
    assert comparisons(data(tested), masked)[0]["least_p"] == pytest.approx(2 / 16)


@pytest.mark.parametrize("names", [("logistic",), ("fixed", "searched"), ()])
def test_without_the_bar_or_without_another_method_there_is_nothing_to_compare(names: tuple[str, ...]) -> None:
    assert comparisons(data(), {name: SAID[name] for name in names}) == []


def test_equal_methods_do_not_differ() -> None:
    (found,) = comparisons(data(), {"logistic": SAID["fixed"], "fixed": SAID["fixed"]})
    assert (found["difference"], found["p_speakers"], found["p_utterances"]) == (0, 1, 1)


def test_pairs_are_those_of_which_both_were_trained_corrected_among_themselves() -> None:
    said = {**SAID, "random": predictions(0.6, 3), "gate-none": predictions(0.4, 4)}
    found = pairs(data(), said)
    assert [(one["method"], one["against"]) for one in found] == [
        ("searched", "random"),
        ("searched", "fixed"),
        ("gate-none", "fixed"),
    ]
    raw = [counted_out(said[one["method"]], said[one["against"]]) for one in found]
    np.testing.assert_allclose([one["p_speakers"] for one in found], holm(raw))
    assert pairs(data(), {name: said[name] for name in ("logistic", "random")}) == []


def test_every_pair_names_methods_that_there_are() -> None:
    assert {name for pair in PAIRS for name in pair} <= set(METHODS)
    assert len(set(PAIRS)) == len(PAIRS)
