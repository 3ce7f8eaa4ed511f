"""Pseudo-labels: unlabelled utterances that a model is sure of, to be learned from as if they were labelled."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

#: The share of each emotion's most confident clips that is learned from.
CONFIDENT = 0.5


def confident(
    known: Sequence[str], said: np.ndarray, emotions: Sequence[str], rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Rows with pseudo-labels: of each emotion that both sides know, the half that the answer is surest of.

    Args:
        known: of the answer ``said`` (n, E) on ``rows`` (n,). emotions: of the language.

    Returns:
        Rows, sorted, and indices into ``emotions``.
    """
    columns = [number for number, name in enumerate(known) if name in emotions]
    if len(columns) < 2:
        return rows[:0], rows[:0]
    among = said[:, columns]
    best, surety = among.argmax(1), among.max(1)
    chosen = []
    for number in range(len(columns)):
        own = np.flatnonzero(best == number)
        chosen.append(own[np.argsort(-surety[own], kind="stable")][: int(np.ceil(CONFIDENT * len(own)))])
    places = np.sort(np.concatenate(chosen))
    labels = np.array([list(emotions).index(known[column]) for column in columns], dtype=np.int64)
    return rows[places], labels[best[places]]
