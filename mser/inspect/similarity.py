"""How alike two layers lay out the same utterances: linear centred kernel alignment."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

#: Values of Gram matrices that are made at a time.
GRAM_VALUES = 1 << 23


def linear_cka(layers: Sequence[np.ndarray]) -> np.ndarray:
    """Similarity of every pair of M layers, between 0 and 1 (Kornblith et al. 2019, arXiv 1905.00414, linear CKA).

    For features X (N, p) and Y (N, q) with each feature's mean taken off:
    ``|Y'X|^2 / (|X'X| |Y'Y|)`` in Frobenius norms. The same numbers follow from the (p, q) products of features and
    from the (N, N) products of utterances; the cheaper ones are computed. It is 1 for layers that differ by a rotation
    and a scale, and too high where N is not much larger than p and q.

    Args:
        layers: M arrays (N, D_m), rows of all the same utterances.

    Returns:
        (M, M) float64; NaN where a layer is the same for all utterances.

    >>> x = np.random.default_rng(0).normal(size=(20, 3))
    >>> linear_cka([x, 2 * x[:, ::-1] + 1]).round(6).tolist()
    [[1.0, 1.0], [1.0, 1.0]]
    """
    centred = [_centred(layer) for layer in layers]
    count, dims = len(layers[0]), [layer.shape[1] for layer in layers]
    by_features = count * sum(dims) ** 2 / 2
    by_utterances = count**2 * (sum(dims) + len(dims) ** 2 / 2)
    products = _by_features(centred) if by_features <= by_utterances else _by_utterances(centred)
    own = products.diagonal().sqrt()
    # A layer that does not vary has no direction: 0 / 0.
    return (products / torch.outer(own, own)).clamp(max=1).numpy()


def _centred(layer: np.ndarray) -> Tensor:
    """In float32, each feature's mean taken off and the whole scaled: neither squares nor sums overflow."""
    features = torch.from_numpy(layer).double()
    features = features - features.mean(0)
    length = torch.linalg.vector_norm(features)
    return (features / length if length > 0 else features).float()


def _by_features(layers: Sequence[Tensor]) -> Tensor:
    """Squared Frobenius norms of the products of features: (M, M) float64."""
    found = torch.zeros(len(layers), len(layers), dtype=torch.float64)
    for row, one in enumerate(layers):
        for column, other in enumerate(layers[: row + 1]):
            found[row, column] = found[column, row] = (one.T @ other).square().sum(dtype=torch.float64)
    return found


def _by_utterances(layers: Sequence[Tensor]) -> Tensor:
    """Inner products of the layers' Gram matrices, which are the same: (M, M) float64."""
    found = torch.zeros(len(layers), len(layers), dtype=torch.float64)
    rows = max(1, GRAM_VALUES // (len(layers) * len(layers[0])))
    for start in range(0, len(layers[0]), rows):
        grams = torch.stack([(layer[start : start + rows] @ layer.T).flatten() for layer in layers]).double()
        found += grams @ grams.T
    return found
