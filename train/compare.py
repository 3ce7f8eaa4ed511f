"""Methods against the bar, and method against method, pair by pair on the same test utterances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mser.significance import holm, paired_permutation
from train.data import LanguageData

#: What every other method is compared with, where it was trained.
BAR = "logistic"
#: What else a study asks, each method against what it adds something to; named before any result is seen.
PAIRS = (
    ("searched", "random"),
    ("searched", "fixed"),
    ("gate-none", "fixed"),
    ("gate-conditioned", "fixed"),
    ("contrastive-none", "fixed"),
    ("contrastive-ge2e", "fixed"),
    ("fixed-multi", "fixed"),
    ("multi-domain", "searched"),
    ("multi-domain", "fixed-multi"),
    ("best", "multi-domain"),
    ("best", "shared-logistic"),
    ("best", "faithful"),
)


def comparisons(data: LanguageData, predictions: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """Paired permutation tests of UAR of each method against the bar, corrected over the methods of the language.

    As :func:`compared`.
    """
    if BAR not in predictions:
        return []
    return compared(data, predictions, [(method, BAR) for method in predictions if method != BAR])


def pairs(data: LanguageData, predictions: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """The same of :data:`PAIRS`, of which both were trained; corrected over these pairs, apart from the bar's."""
    return compared(data, predictions, [pair for pair in PAIRS if set(pair) <= set(predictions)])


def compared(
    data: LanguageData, predictions: Mapping[str, np.ndarray], wanted: Sequence[tuple[str, str]]
) -> list[dict[str, Any]]:
    """Paired permutation tests of UAR, corrected over all that are ``wanted`` (Holm 1979).

    Once with whole speakers exchanged, which speaks for new speakers, and once with single utterances exchanged, which
    speaks for new utterances of these speakers only.

    Args:
        predictions: for each method (seeds, N), -1 where nothing was tested. wanted: method, and what it is against.

    Returns:
        For each pair: ``difference`` in points, ``p_speakers`` and ``p_utterances`` (corrected), and ``least_p``: the
        least that the number of speakers allows, before correction.
    """
    if not wanted:
        return []
    rows, truth = data.tested, data.labels.numpy()[data.tested]
    speakers = data.speakers.numpy()[rows]

    def tests(groups: np.ndarray) -> list[Any]:
        said = {name: one[:, rows] for name, one in predictions.items()}
        return [paired_permutation(truth, said[one], said[other], groups) for one, other in wanted]

    by_speaker, by_utterance = tests(speakers), tests(np.arange(len(rows)))
    corrected = [holm([test.p for test in each]).tolist() for each in (by_speaker, by_utterance)]
    return [
        {
            "language": data.language,
            "method": method,
            "against": against,
            "difference": test.difference,
            "p_speakers": speaker_p,
            "p_utterances": utterance_p,
            "least_p": test.least_p,
        }
        for (method, against), test, speaker_p, utterance_p in zip(wanted, by_speaker, *corrected, strict=True)
    ]
