"""What is known of the model for use before it is trained: which way is better with all clips, and how sure it may be.

Both are read from the draws, whose answers are of speakers that the network was not trained on. The model for use hears
twice as many speakers, so it should be no worse than what is measured here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mser.calibration import expected_calibration_error, fit_temperature, negative_log_likelihood, tempered
from train.adapt.study import ALL
from train.adapt.target import Target
from train.adapt.ways import KEPT

Answered = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Kept:
    """How the model for use is made.

    Attributes:
        way: one of :data:`train.adapt.ways.KEPT`.
        temperature: None where no draw tells one; 1 where the fitted one makes held-out labels no likelier.
    """

    way: str = KEPT[0]
    temperature: float | None = None


def calibrations(found: Sequence[Mapping[str, Any]], target: Target) -> list[dict[str, Any]]:
    """How far the probabilities with all clips are right, as they are and with a temperature.

    A half's temperature is fitted on the other half of its draw, so on answers about speakers whose clips trained the
    network that is judged, but never on an answer about the speakers that are judged.

    Args:
        found: contents of the answers' files, one a half of a draw.

    Returns:
        For each of the ways that a model for use may be made by, if it answered: means over draws of ECE (percent) and
        NLL (nats), each over all N utterances of the language, and ``temperature``, fitted on the answers of all draws.
    """
    measured = []
    for way in KEPT:
        draws: dict[int, list[Answered]] = {}
        for one in found:
            for answer in one["answers"]:
                if (answer["way"], str(answer["k"])) == (way, ALL):
                    draws.setdefault(one["draw"], []).append(_answered(one["utterance_ids"], answer, target))
        whole = [halves for halves in draws.values() if len(halves) == 2]
        if whole:
            measured.append({"way": way, "draws": len(whole), **_measured(whole)})
    return measured


def kept_way(scores: Mapping[str, float], measured: Sequence[Mapping[str, Any]]) -> Kept:
    """The way with the higher score with all clips, with its temperature.

    Args:
        scores: UAR by way. measured: by :func:`calibrations`.
    """
    way = max(KEPT, key=lambda name: scores.get(name, -1.0))
    for one in measured:
        if one["way"] == way:
            return Kept(way, one["temperature"] if one["nll_after"] < one["nll_before"] else 1.0)
    return Kept(way)


def _answered(ids: Sequence[str], answer: Mapping[str, Any], target: Target) -> Answered:
    """Probabilities (n, E) and labels (n,) of a half."""
    rows = [target.row_of[name] for name in ids]
    return np.asarray(answer["probabilities"]), target.labels[rows]


def _measured(draws: Sequence[Sequence[Answered]]) -> dict[str, Any]:
    scores: dict[str, list[float]] = {"ece_before": [], "ece_after": [], "nll_before": [], "nll_after": []}
    for first, second in draws:
        truth = np.concatenate([first[1], second[1]])
        before = np.concatenate([first[0], second[0]])
        by_the_other = (tempered(first[0], fit_temperature(*second)), tempered(second[0], fit_temperature(*first)))
        after = np.concatenate(by_the_other)
        for when, said in (("before", before), ("after", after)):
            scores[f"ece_{when}"].append(100 * expected_calibration_error(said, truth))
            scores[f"nll_{when}"].append(negative_log_likelihood(said, truth))
    every = [half for halves in draws for half in halves]
    joined = (np.concatenate([half[part] for half in every]) for part in (0, 1))
    means = {name: float(np.mean(values)) for name, values in scores.items()}
    return {"utterances": len(truth), "temperature": fit_temperature(*joined), **means}
