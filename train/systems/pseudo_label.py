"""Learning from judgements of unlabelled speech of the target (Agarla et al. 2022, arXiv 2207.06767).

A model of the source, tuned on the labelled target clips if there are any, judges the unlabelled ones. Those of which
it is sure enough are learnt from as if they were labelled, beside the source and the labelled clips, and the model that
comes of it judges anew. Hard pseudo-labels are the likeliest emotion, soft ones the whole distribution.

Of the paper the abstract alone was at hand: what is named open below is a decision of this project.

E emotions, n utterances of a part.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch

from train.systems.descent import Steps, parameters_of
from train.systems.task import FEW_SHOT, ZERO_SHOT, Answer, Task
from train.systems.transformer import Group, Transformer, require, train_on


def threshold_at(number: int, rounds: int, start: float, end: float) -> float:
    """The least confidence in a round: linear from ``start`` in the first to ``end`` in the last of ``rounds``.

    >>> [threshold_at(number, 3, 0.75, 0.25) for number in range(3)]
    [0.75, 0.5, 0.25]
    """
    return start + (end - start) * number / max(1, rounds - 1)


def confident(said: np.ndarray, threshold: float) -> np.ndarray:
    """Positions of the utterances whose likeliest emotion has at least this probability: (n, E) -> (m,) int64."""
    return np.flatnonzero(said.max(1) >= threshold)


def pseudo_targets(said: np.ndarray, labels: str, temperature: float = 1.0) -> np.ndarray:
    """What is learnt from judgements (n, E), as distributions (n, E).

    Args:
        labels: ``hard``: 1 for the likeliest emotion. ``soft``: p^(1 / temperature), made to sum to 1; below 1 it is
            sharper than what was said.
    """
    if labels == "hard":
        return np.eye(said.shape[1])[said.argmax(1)]
    powers = (said / said.max(1, keepdims=True)) ** (1 / temperature)
    return np.asarray(powers / powers.sum(1, keepdims=True))


@dataclass(frozen=True)
class PseudoLabel(Transformer):
    """The transformer, and rounds of learning from its own judgements of the target's unlabelled utterances.

    A round in which none is kept trains nothing. The model goes on from round to round, not anew from the source.
    Utterances of emotions that the task does not tell apart are among the unlabelled ones, as they would be in truth.

    Attributes:
        labels: ``hard`` or ``soft``. temperature: of soft ones; 1: as said.
        start, end: the least confidence of a kept utterance, in the first round and in the last. Open: it falls, as a
            model that has adapted is to be trusted with more.
        rounds: how often judgements are made anew. Open.
        pseudo_weight: of the pseudo-labelled utterances' mean loss beside the source's. Open.
        round_steps: of each round, over the source.
    """

    labels: str = "hard"
    temperature: float = 1.0
    start: float = 0.95
    end: float = 0.8
    rounds: int = 3
    pseudo_weight: float = 1.0
    round_steps: Steps = field(default=Steps(epochs=2, rate=5e-4, decay=1e-2, least_steps=30, clip=1.0))
    protocols: ClassVar[tuple[str, ...]] = (ZERO_SHOT, FEW_SHOT)
    adapts: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.labels in ("hard", "soft"), "labels", "hard or soft", self.labels)
        require(self.temperature > 0, "temperature", "above 0", self.temperature)
        for name in ("start", "end"):
            require(0 <= getattr(self, name) <= 1, name, "a probability", getattr(self, name))
        require(self.rounds > 0, "rounds", "1 or more", self.rounds)
        require(self.pseudo_weight > 0, "pseudo_weight", "above 0", self.pseudo_weight)

    def answer(self, task: Task) -> Answer:
        begun = self.begin(task)
        model, test = begun.model, begun.read(task.test)
        unknown = task.adapt.at(np.flatnonzero(~np.isin(task.adapt.rows, task.shots.rows)))
        frames = begun.read(unknown)
        thresholds, kept, curves, answers = [], [], [], {"rounds-0": model.judge(test)}
        torch.manual_seed(task.seed)
        for number in range(self.rounds):
            thresholds.append(threshold_at(number, self.rounds, self.start, self.end))
            said = model.judge(frames)
            sure = confident(said, thresholds[-1])
            kept.append(len(sure))
            if len(sure):
                targets = pseudo_targets(said[sure], self.labels, self.temperature)
                pseudo = Group.of(begun.read(unknown.at(sure)), targets, self.pseudo_weight)
                curves += train_on(model, [*begun.groups, pseudo], self.round_steps, task.seed + number)
            answers[f"rounds-{number + 1}"] = model.judge(test)
        facts = {
            **begun.facts, "unlabelled": len(unknown), "thresholds": thresholds, "kept": kept, "round_losses": curves
        }  # fmt: skip
        return Answer(answers.pop(f"rounds-{self.rounds}"), parameters_of(model), facts, answers)
