"""Each method against the bar, pair by pair on the same test utterances."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mser.significance import holm, paired_permutation
from train.data import LanguageData

#: What every other method is compared with, where it was trained.
BAR = "logistic"


def comparisons(data: LanguageData, predictions: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """Paired permutation tests of UAR against the bar, corrected over the methods of the language (Holm 1979).

    Once with whole speakers exchanged, which speaks for new speakers, and once with single utterances exchanged, which
    speaks for new utterances of these speakers only.

    Args:
        predictions: for each method (seeds, N), -1 where nothing was tested.

    Returns:
        For each method but the bar: ``difference`` in points, ``p_speakers`` and ``p_utterances`` (corrected), and
        ``least_p``: the least that the number of speakers allows, before correction.
    """
    others = [method for method in predictions if method != BAR]
    if BAR not in predictions or not others:
        return []
    rows, truth = data.tested, data.labels.numpy()[data.tested]
    speakers = data.speakers.numpy()[rows]
    bar = predictions[BAR][:, rows]
    by_speaker = [paired_permutation(truth, predictions[one][:, rows], bar, speakers) for one in others]
    by_utterance = [paired_permutation(truth, predictions[one][:, rows], bar, np.arange(len(rows))) for one in others]
    corrected = [holm([test.p for test in tests]).tolist() for tests in (by_speaker, by_utterance)]
    return [
        {
            "language": data.language,
            "method": method,
            "against": BAR,
            "difference": test.difference,
            "p_speakers": speaker_p,
            "p_utterances": utterance_p,
            "least_p": test.least_p,
        }
        for method, test, speaker_p, utterance_p in zip(others, by_speaker, *corrected, strict=True)
    ]
