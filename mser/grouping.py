"""Rows parted so that whole groups stay together, such as the utterances of a speaker."""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold


def grouped_parts(labels: np.ndarray, groups: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """Parts each group belongs to as a whole, with the labels in about equal shares.

    Args:
        labels: (N,). groups: (N,), such as speakers. count: of parts, at most the number of rows of some label.

    Returns:
        The part (N,) of each row, 0 to ``count`` - 1.
    """
    parts = np.zeros(len(labels), dtype=int)
    splitter = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # It warns of a label with fewer rows than there are parts; some parts lack it then, which is no harm here.
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        for number, (_, test) in enumerate(splitter.split(labels, labels, groups)):
            parts[test] = number
    return parts
