"""Paired tests against swapping by hand and scipy; Holm's correction against values worked out by hand."""

from __future__ import annotations

from itertools import product
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from toys import examples

from mser.metrics import score
from mser.significance import holm, paired_permutation


def problem(
    rng: np.random.Generator, utterances: int, clusters: int, seeds: tuple[int, int], right: float = 0.4
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Truth, two methods that are right about as often, and clusters; every cluster occurs."""
    truth = rng.integers(0, 3, utterances)
    first, second = (
        np.where(rng.random((n, utterances)) < right, truth, rng.integers(0, 4, (n, utterances))) for n in seeds
    )
    return truth, first, second, rng.permutation(np.arange(utterances) % clusters)


def mean_score(truth: np.ndarray, predictions: list[np.ndarray], metric: str) -> float:
    return float(np.mean([getattr(score(truth, one), metric) for one in predictions]))


@pytest.mark.parametrize("metric", ["uar", "wa"])
@pytest.mark.parametrize("case", range(4))
def test_exact_test_is_that_of_swapping_all_predictions_of_a_cluster(case: int, metric: str) -> None:
    truth, first, second, cluster = problem(np.random.default_rng(case), 25, 6, (3, 3))
    differences = []
    for swapped in product([False, True], repeat=6):
        swap = np.array(swapped)[cluster]
        one, other = np.where(swap, second, first), np.where(swap, first, second)
        differences.append(mean_score(truth, list(one), metric) - mean_score(truth, list(other), metric))
    found = paired_permutation(truth, first, second, cluster, metric)
    assert found.difference == pytest.approx(differences[0])
    assert found.p == (np.abs(differences) >= abs(differences[0]) - 1e-9).mean()
    assert (found.exchanges, found.exact, found.least_p) == (64, True, 2 / 64)


def test_methods_of_unlike_numbers_of_seeds_are_swapped_by_cluster() -> None:
    # The score of a method that is handed the other's predictions in some clusters is the mean over the pairs of an
    # own seed and one of the other's.
    truth, first, second, cluster = problem(np.random.default_rng(5), 30, 5, (3, 1))
    differences = []
    for swapped in product([False, True], repeat=5):
        swap = np.array(swapped)[cluster]
        pairs = list(product(first, second))
        one = [np.where(swap, b, a) for a, b in pairs]
        other = [np.where(swap, a, b) for a, b in pairs]
        differences.append(mean_score(truth, one, "uar") - mean_score(truth, other, "uar"))
    found = paired_permutation(truth, first, second, cluster)
    assert found.difference == pytest.approx(differences[0])
    assert found.p == (np.abs(differences) >= abs(differences[0]) - 1e-9).mean()


@pytest.mark.parametrize("utterances", [8, 11])
def test_utterance_level_agrees_with_scipy(utterances: int) -> None:
    truth, first, second, cluster = problem(np.random.default_rng(utterances), utterances, utterances, (2, 2))
    _, emotion, totals = np.unique(truth, return_inverse=True, return_counts=True)
    weights = 1 / totals[emotion]
    reference = stats.permutation_test(
        ((first == truth).mean(0) * weights, (second == truth).mean(0) * weights),
        lambda a, b: (a - b).sum(),
        permutation_type="samples",
        vectorized=False,
        n_resamples=np.inf,
    )
    found = paired_permutation(truth, first, second, cluster)
    assert found.unit == "utterance"
    assert found.p == pytest.approx(reference.pvalue)
    assert found.difference == pytest.approx(100 * reference.statistic / len(totals))


def test_with_four_speakers_no_p_is_below_an_eighth() -> None:
    truth, cluster = np.arange(40) % 4, np.repeat(["DC", "JE", "JK", "KL"], 10)
    found = paired_permutation(truth, truth[None], (truth[None] + 1) % 4, cluster)
    assert found.difference == pytest.approx(100)
    assert (found.p, found.least_p) == (0.125, 0.125)
    assert (found.unit, found.clusters, found.exchanges) == ("speaker", 4, 16)


def test_random_exchanges_approach_the_exact_p_and_count_the_observed_one() -> None:
    truth, first, second, cluster = problem(np.random.default_rng(1), 60, 12, (3, 2))
    exact = paired_permutation(truth, first, second, cluster)
    drawn = paired_permutation(truth, first, second, cluster, draws=4000)
    assert (exact.exact, drawn.exact) == (True, False)
    assert (exact.exchanges, drawn.exchanges) == (4096, 4001)
    assert abs(drawn.p - exact.p) < 4 * np.sqrt(exact.p * (1 - exact.p) / 4000)
    assert drawn == paired_permutation(truth, first, second, cluster, draws=4000)
    assert drawn != paired_permutation(truth, first, second, cluster, draws=4000, seed=1)


def test_random_p_is_never_zero() -> None:
    truth = np.arange(300) % 3
    found = paired_permutation(truth, truth[None], (truth[None] + 1) % 3, np.arange(300), draws=999)
    assert found.p == found.least_p == 1 / 1000


@examples
@given(st.integers(0, 2**16), st.integers(2, 40), st.sampled_from(["uar", "wa"]), st.sampled_from([1, 60]))
def test_properties(seed: int, utterances: int, metric: str, draws: int) -> None:
    rng = np.random.default_rng(seed)
    clusters = int(rng.integers(1, utterances + 1))
    truth, first, second, cluster = problem(rng, utterances, clusters, (2, 3))
    found = paired_permutation(truth, first, second, cluster, metric, draws)
    assert found.least_p <= 1
    assert 0 < found.p <= 1
    assert not found.exact or found.p >= found.least_p - 1e-12
    # Methods in the other order: the opposite difference, the same p.
    other = paired_permutation(truth, second, first, cluster, metric, draws)
    assert other.difference == pytest.approx(-found.difference, abs=1e-9)
    assert other.p == pytest.approx(found.p)
    # Other names of clusters and emotions: the same test.
    names = np.array([f"speaker {number}" for number in rng.permutation(clusters)])
    emotions = np.array(["joy", "fear", "anger", "sadness"])
    renamed = paired_permutation(emotions[truth], emotions[first], emotions[second], names[cluster], metric, draws)
    assert renamed.difference == pytest.approx(found.difference)
    if found.exact:
        assert renamed.p == found.p
    assert paired_permutation(truth, first, first, cluster, metric, draws).p == 1


@pytest.mark.parametrize("utterances_each", [6, 1])
def test_p_is_about_uniform_where_methods_are_alike(utterances_each: int) -> None:
    # 300 experiments: shares of p below a level lie within three deviations of the level, or below it (ties).
    rng, found = np.random.default_rng(0), []
    for _ in range(300):
        truth, first, second, cluster = problem(rng, 9 * utterances_each, 9, (3, 3))
        found.append(paired_permutation(truth, first, second, cluster).p)
    p = np.array(found)
    for level in (0.05, 0.1, 0.25, 0.5):
        assert (p <= level).mean() < level + 3 * np.sqrt(level * (1 - level) / 300)
    if utterances_each > 1:
        assert (p <= 0.5).mean() > 0.4


def test_a_better_method_is_found() -> None:
    rng = np.random.default_rng(0)
    truth, first, _, cluster = problem(rng, 200, 10, (3, 3), right=0.8)
    second = np.where(rng.random((3, 200)) < 0.5, truth, rng.integers(0, 4, (3, 200)))
    found = paired_permutation(truth, first, second, cluster)
    assert found.difference > 10
    assert found.p == found.least_p == 2 / 1024


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"truth": np.zeros(0)}, "truth and clusters"),
        ({"clusters": np.zeros(3)}, "truth and clusters"),
        ({"first": np.zeros(4)}, "seeds, 4"),
        ({"second": np.zeros((0, 4))}, "seeds, 4"),
        ({"second": np.zeros((2, 5))}, "seeds, 4"),
        ({"metric": "macro_f1"}, "uar, wa"),
        ({"draws": 0}, "one draw"),
    ],
)
def test_what_does_not_fit_is_refused(changed: dict, match: str) -> None:
    given_ = {"truth": np.zeros(4), "first": np.zeros((1, 4)), "second": np.zeros((1, 4)), "clusters": np.arange(4)}
    with pytest.raises(ValueError, match=match):
        paired_permutation(**{**given_, **changed})


@pytest.mark.parametrize(
    ("p", "adjusted"),
    [
        ([], []),
        ([0.04], [0.04]),
        # 4 x 0.005, 3 x 0.01, 2 x 0.03, then 1 x 0.04, which may not be less than the one before it.
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        # 3 x 0.5 is more than 1.
        ([0.5, 0.5, 0.9], [1, 1, 1]),
        ([0.02, 0.02], [0.04, 0.04]),
        ([0, 1, 0.001], [0, 1, 0.002]),
    ],
)
def test_holm_by_hand(p: list[float], adjusted: list[float]) -> None:
    np.testing.assert_allclose(holm(p), adjusted)


@examples
@given(st.lists(st.floats(0, 1), max_size=12), st.randoms(use_true_random=False))
def test_holm_keeps_order_and_lies_between_p_and_bonferroni(p: list[float], random: Random) -> None:
    adjusted = holm(p)
    assert (adjusted >= np.array(p)).all()
    assert (adjusted <= np.minimum(np.array(p) * len(p), 1) + 1e-15).all()
    order = np.argsort(p, kind="stable")
    assert (np.diff(adjusted[order]) >= 0).all()
    shuffled = list(range(len(p)))
    random.shuffle(shuffled)
    np.testing.assert_array_equal(holm([p[number] for number in shuffled]), adjusted[shuffled])


@pytest.mark.parametrize("p", [[0.5, 1.1], [-0.1], [float("nan")], [[0.1]]])
def test_holm_refuses_what_is_no_p(p: list) -> None:
    with pytest.raises(ValueError, match="from 0 to 1"):
        holm(p)
