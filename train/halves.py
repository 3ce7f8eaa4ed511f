"""Two halves of a language's speakers, and labelled clips drawn from one: what may be learned from is never tested."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mser.errors import ProtocolError
from mser.grouping import grouped_parts
from mser.manifest import Utterance

#: Random halves of which the most even is taken.
CANDIDATES = 10


def speaker_halves(utterances: Sequence[Utterance], language: str, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers of two halves of the speakers, with the emotions in about equal shares.

    Raises:
        ProtocolError: a single speaker, who cannot be adapted to and be tested as well.
    """
    speakers = np.array([row.speaker_id for row in utterances])
    emotions = np.array([row.emotion for row in utterances])
    if len(set(speakers)) < 2:
        raise ProtocolError(
            f"The target {language} has a single speaker, who cannot be adapted to and be tested as well.",
            field="speaker",
            expected="2 speakers or more",
            found=", ".join(sorted(set(speakers.tolist()))),
            hint="add recordings of other speakers, or use it as a source only",
        )
    parts = grouped_parts(emotions, speakers, 2, seed)
    return np.flatnonzero(parts == 0), np.flatnonzero(parts == 1)


def random_halves(utterances: Sequence[Utterance], language: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers of two random halves of the speakers: of several draws the one that parts the emotions most evenly.

    Unlike :func:`speaker_halves`, whose stratification decides nearly all, other seeds give other halves.

    Raises:
        ProtocolError: a single speaker.
    """
    speakers, own = np.unique([row.speaker_id for row in utterances], return_inverse=True)
    emotions, labels = np.unique([row.emotion for row in utterances], return_inverse=True)
    if len(speakers) < 2:
        return speaker_halves(utterances, language, seed)  # says why not
    counts = np.zeros((len(speakers), len(emotions)))
    np.add.at(counts, (own, labels), 1)
    rng = np.random.default_rng(seed)
    drawn = [rng.permutation(len(speakers))[: len(speakers) // 2] for _ in range(CANDIDATES)]
    total = counts.sum(0)
    uneven = [float(np.abs(2 * counts[chosen].sum(0) / total - 1).max()) for chosen in drawn]
    first = np.isin(own, drawn[int(np.argmin(uneven))])
    return np.flatnonzero(first), np.flatnonzero(~first)


def draw_shots(labels: np.ndarray, classes: int, k: int | None, seed: int | Sequence[int]) -> np.ndarray:
    """Positions of k of each label, fewer where there are fewer, sorted; those of a smaller k are among a larger one's.

    Args:
        labels: (n,) below ``classes``. k: all if None.
    """
    seeds = [seed] if isinstance(seed, int) else list(seed)
    chosen = [
        np.random.default_rng([*seeds, number]).permutation(np.flatnonzero(labels == number))[:k]
        for number in range(classes)
    ]
    return np.sort(np.concatenate(chosen))
