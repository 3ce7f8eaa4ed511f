"""Paired permutation tests between two methods, and Holm's correction for many of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

#: Metrics whose value is a sum over utterances, so that swapping methods flips signs; macro-F1 is not one of them.
METRICS = ("uar", "wa")
#: Sums that differ by less than this share of the largest are taken as equal: they are added in other orders.
TIE = 1e-10


@dataclass(frozen=True)
class PairedTest:
    """A paired permutation test of two methods.

    Attributes:
        difference: the first method's metric less the second's, each the mean over its seeds, in percentage points.
        p: two-sided: the share of exchanges with a difference as large as this one.
        exchanges: exchanges looked at: all ``2 ** clusters``, or the random ones and the one that was observed.
        least_p: the least p that so many clusters and exchanges can give, whatever the methods; above 0.05 the test
            can show nothing at that level.
        unit: what is exchanged: ``utterance`` if each is a cluster of its own, else ``speaker``.
        clusters: the number of units.
    """

    difference: float
    p: float
    exchanges: int
    least_p: float
    unit: str
    clusters: int

    @property
    def exact(self) -> bool:
        """Whether all exchanges were looked at."""
        return self.exchanges == 2**self.clusters


# Why an exchange is a flip of signs. Utterance i has emotion e(i); E emotions occur, emotion e in n_e utterances. Let
# a_i and b_i be the shares of seeds in which the first and the second method are right on i. Then
#
#     UAR_a = 1/E sum_e 1/n_e sum_{i: e(i) = e} a_i = sum_i w_i a_i,   w_i = 1 / (E n_{e(i)})
#
# and the same with b: n_e is counted from the truth, so no weight depends on a method or changes by an exchange (for
# accuracy w_i = 1/N; the F1 of an emotion divides by how often it is predicted, and has no such form). With the
# utterances summed by cluster c,
#
#     UAR_a - UAR_b = sum_c d_c,   d_c = sum_{i in c} w_i (a_i - b_i)
#
# and handing the predictions of cluster c, all seeds at once, to the other method swaps a_i with b_i there: it turns
# d_c into -d_c and leaves the rest. Under the null all 2^C patterns of signs are equally likely. The algebra holds for
# any two numbers of seeds; where they differ, the null is that d_c is symmetric about zero.
def paired_permutation(
    truth: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    clusters: np.ndarray,
    metric: str = "uar",
    draws: int = 10_000,
    seed: int = 0,
) -> PairedTest:
    """Tests whether two methods differ, by exchanging their predictions within whole clusters.

    With speakers as clusters the question is whether the methods differ on new speakers like these; with each
    utterance a cluster it is whether they differ on new utterances of these very speakers. All exchanges are looked
    at where there are at most ``draws``; otherwise ``draws`` random ones and the observed one, which keeps p above 0
    and the test valid (Phipson & Smyth 2010, Statistical Applications in Genetics and Molecular Biology 9).

    Args:
        truth: (N,) emotions, by index or name. clusters: (N,) speaker, or number, of each utterance.
        first, second: (seeds, N) predicted emotions; the methods may have different numbers of seeds.
        metric: ``uar`` or ``wa``, over all N utterances joined, as in :func:`mser.metrics.score`.
        draws: random exchanges at most. seed: of the random exchanges.

    Raises:
        ValueError: shapes that do not fit, no utterance or seed, another metric, or fewer than one draw.
    """
    if metric not in METRICS:
        raise ValueError(f"expected one of the metrics {', '.join(METRICS)}: {metric}")
    if draws < 1:
        raise ValueError(f"expected one draw or more: {draws}")
    names, cluster = _checked_clusters(truth, first, second, clusters)
    _, emotion, totals = np.unique(truth, return_inverse=True, return_counts=True)
    weights = 1 / (len(totals) * totals[emotion]) if metric == "uar" else np.full(len(truth), 1 / len(truth))
    gain = weights * ((first == truth).mean(0) - (second == truth).mean(0))
    differences = np.bincount(cluster, gain, minlength=len(names))

    exact = 2 ** len(names) <= draws
    sums = _all_sums(differences) if exact else _random_sums(differences, draws, np.random.default_rng(seed))
    observed = differences.sum()
    as_large = int((np.abs(sums) >= abs(observed) - TIE * np.abs(differences).sum()).sum())
    exchanges = len(sums) if exact else draws + 1
    return PairedTest(
        difference=100 * float(observed),
        p=(as_large if exact else as_large + 1) / exchanges,
        exchanges=exchanges,
        # An exchange and its opposite are equally large, so at best two of all are.
        least_p=max(2.0 ** (1 - len(names)), 1 / exchanges),
        unit="utterance" if len(names) == len(truth) else "speaker",
        clusters=len(names),
    )


def _checked_clusters(
    truth: np.ndarray, first: np.ndarray, second: np.ndarray, clusters: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Names (C,) of the clusters and the number of each utterance's (N,)."""
    if truth.ndim != 1 or not len(truth) or clusters.shape != truth.shape:
        raise ValueError(f"expected truth and clusters of one shape (N,): {truth.shape}, {clusters.shape}")
    for predicted in (first, second):
        if predicted.ndim != 2 or not len(predicted) or predicted.shape[1] != len(truth):
            raise ValueError(f"expected predictions of shape (seeds, {len(truth)}): {predicted.shape}")
    return np.unique(clusters, return_inverse=True)


def _all_sums(differences: np.ndarray) -> np.ndarray:
    """Sums (2 ** C,) of differences (C,) under every pattern of signs."""
    sums = np.zeros(1)
    for one in differences:
        sums = np.concatenate([sums + one, sums - one])
    return sums


def _random_sums(differences: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Sums (draws,) of differences (C,) under random signs.

    Of m differences of one size v, a binomial number k keeps its sign, and their sum is v (2k - m): few sizes occur
    among many utterances.
    """
    sizes, counts = np.unique(np.abs(differences), return_counts=True)
    sums = np.zeros(draws)
    for size, count in zip(sizes, counts, strict=True):
        sums += size * (2 * rng.binomial(count, 0.5, draws) - count)
    return sums


def holm(p_values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Adjusted p-values (M,) of M tests, in the order given (Holm 1979, Scandinavian Journal of Statistics 6).

    The least p is multiplied by M, the next by M - 1, and so on; none becomes less than one before it, or more
    than 1. Rejecting where the adjusted p is at most 0.05 makes a false rejection among the M at most 5 % likely,
    however the tests depend on each other.

    Raises:
        ValueError: a value outside 0 to 1.

    >>> holm([0.01, 0.04, 0.03]).round(6).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, dtype=float)
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"expected p-values (M,) from 0 to 1: {p}")
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1)
    return adjusted
