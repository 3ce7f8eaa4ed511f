"""Utterances as points in a plane: PCA, t-SNE and UMAP."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.preprocessing import StandardScaler

from mser.cores import torch_threads
from mser.errors import ConfigError
from mser.inspect.wanted import METHODS

#: Directions of largest variance that t-SNE and UMAP see, as is usual for t-SNE.
DIRECTIONS = 50
#: Neighbours that an utterance is laid beside: the perplexity of t-SNE, and of UMAP.
PERPLEXITY, NEIGHBOURS = 30.0, 15
#: Fewer utterances make no map.
LEAST = 5
SEED = 0


@dataclass(frozen=True)
class Map:
    """A map of N utterances.

    Attributes:
        method: one of :data:`mser.inspect.wanted.METHODS`.
        points: (N, 2) float32; None where it cannot be drawn, with the reason in ``trouble``.
        note: how it was made, in a sentence.
    """

    method: str
    points: np.ndarray | None = None
    note: str = ""
    trouble: str = ""


def make_map(features: np.ndarray, method: str) -> Map:
    """Lays out features (N, D), each standardised over the N utterances.

    t-SNE and UMAP show who is near whom; distances between groups, their sizes and the axes mean nothing. The same
    features give the same map.

    Raises:
        ConfigError: no such method.
    """
    if method not in METHODS:
        raise ConfigError("Unknown kind of map.", field="methods", expected=" ".join(METHODS), found=method)
    if len(features) < LEAST:
        return Map(method, trouble=f"{len(features)} utterances are too few for a map; {LEAST} make one")
    # Layers may hold values whose squares float32 cannot.
    scaled = StandardScaler().fit_transform(features.astype(np.float64)).astype(np.float32)
    if not scaled.any():
        return Map(method, trouble="all utterances have the same features")
    return {"pca": _pca, "tsne": _tsne, "umap": _umap}[method](scaled)


def _pca(scaled: np.ndarray) -> Map:
    points, shares = _directions(scaled, 2)
    if points.shape[1] < 2:
        points = np.pad(points, ((0, 0), (0, 2 - points.shape[1])))
    said = " and ".join(f"{100 * share:.1f} %" for share in shares)
    return Map("pca", points, f"the two directions of largest variance, which hold {said} of it")


def _tsne(scaled: np.ndarray) -> Map:
    # A point has at most a third of the others as neighbours, as in the reference implementation.
    perplexity = min(PERPLEXITY, (len(scaled) - 1) / 3)
    inputs, note = _reduced(scaled)
    # A single feature has no two directions to start from.
    start = "pca" if inputs.shape[1] > 1 else "random"
    points = TSNE(perplexity=perplexity, init=start, random_state=SEED).fit_transform(inputs)
    fewer = f", lowered from {PERPLEXITY:.0f} since there are {len(scaled)} utterances" * (perplexity < PERPLEXITY)
    return Map("tsne", points.astype(np.float32), f"perplexity {perplexity:.0f}{fewer}; {note}")


def _umap(scaled: np.ndarray) -> Map:
    try:
        import umap
    except ImportError:
        return Map("umap", trouble='umap-learn is not installed: run pip install "mser[umap]"')
    neighbours = min(NEIGHBOURS, len(scaled) - 1)
    inputs, note = _reduced(scaled)
    # The spectral start needs more points than it has directions; few points are laid out well from anywhere.
    start = "spectral" if len(scaled) > 2 * NEIGHBOURS else "random"
    layout: Any = umap.UMAP(n_neighbors=neighbours, init=start, random_state=SEED, n_jobs=1)
    with warnings.catch_warnings(), torch_threads():
        warnings.simplefilter("ignore")
        points = layout.fit_transform(inputs)
    fewer = f", fewer than {NEIGHBOURS} since there are {len(scaled)} utterances" * (neighbours < NEIGHBOURS)
    return Map("umap", np.asarray(points, dtype=np.float32), f"{neighbours} neighbours{fewer}; {note}")


def _reduced(scaled: np.ndarray) -> tuple[np.ndarray, str]:
    if min(scaled.shape) <= DIRECTIONS:
        return scaled, f"of all {scaled.shape[1]} features"
    points, shares = _directions(scaled, DIRECTIONS)
    return points, f"of the {DIRECTIONS} directions of largest variance, which hold {100 * shares.sum():.0f} % of it"


def _directions(scaled: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Points (N, count) along the directions of largest variance, and the share of the variance that each holds."""
    basis = PCA(min(count, *scaled.shape), random_state=SEED).fit(scaled)
    return basis.transform(scaled), basis.explained_variance_ratio_
