"""Asks all ways onto a new language, draw by draw; each half of a draw keeps its answers in a file of its own.

A file holds what every way said of every test utterance, so all numbers can be computed again, and a key of what it was
made from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mser.config import Workspace, fingerprint, read_if_whole, write_json
from mser.errors import ConfigError
from train.adapt.target import Start, Target, opened
from train.adapt.ways import Adapter, AdaptSettings, Half, Said
from train.halves import random_halves

#: Version of how a new language is asked: a change that makes other answers raises it.
RECIPE = 2
ANSWER_FIELDS = ("key", "draw", "shots", "adapt", "utterance_ids", "answers", "near")
#: Digits of probabilities that are kept: not decimals, as a closed answer is one among small ones.
DIGITS = 5
#: In file names and tables, for all labelled clips of the other half.
ALL = "all"


@dataclass(frozen=True)
class Adaptation:
    """What is asked.

    Attributes:
        root: of the workspace. run: a run's name, folder or model file. folder: of the answers.
        shots: values of k, None for all there are. draws: of halves and shots.

    Raises:
        ConfigError: no draw, or a k below 1.
    """

    root: Path
    run: Path
    language: str
    folder: Path
    shots: tuple[int | None, ...]
    draws: int
    mapping: str = "emotions"
    device: str = "cpu"
    placement: str = "auto"
    settings: AdaptSettings = field(default_factory=AdaptSettings)

    def __post_init__(self) -> None:
        if self.draws < 1 or any(k is not None and k < 1 for k in self.shots):
            raise ConfigError(
                "No adaptation can be measured so.",
                field="SHOTS, DRAWS",
                expected="whole numbers above 0, or all",
                found=f"{self.shots}, {self.draws}",
            )

    @property
    def workspace(self) -> Workspace:
        return Workspace(self.root)

    def open(self) -> tuple[Start, Target]:
        """The run and the language."""
        return opened(self.root, self.run, self.language, self.mapping)

    def key(self, start: Start, target: Target) -> str:
        """Hash of everything an answer comes from, but its draw and shots."""
        return fingerprint([RECIPE, start.key, target.data.fingerprint, target.mapping.fingerprint, self.settings.key])

    def blocks(self, target: Target) -> list[tuple[Any, ...]]:
        """Arguments of :func:`adapt_block`; a single speaker is one half, that is only tested."""
        halves = 2 if len(target.tested) > 1 else 1
        return [(self, draw, number) for draw in range(self.draws if halves == 2 else 1) for number in range(halves)]

    def path(self, draw: int, number: int) -> Path:
        return self.folder / f"draw-{draw}-half-{number}.json"


def half_of(target: Target, draw: int, number: int) -> Half:
    """The utterances of a draw's half that are tested, and all of the speakers that are not tested."""
    if len(target.tested) == 1:
        return Half(draw, number, target.rows[:0], target.rows)
    # Of those that count alone: a half with none of them could not be tested.
    counted = [target.data.utterances[row] for row in target.rows]
    test = target.rows[random_halves(counted, target.name, draw)[number]]
    return Half(draw, number, np.flatnonzero(~np.isin(target.speakers, target.speakers[test])), test)


def adapt_block(adaptation: Adaptation, draw: int, number: int) -> None:
    """Asks every way of one half of a draw, unless that was done with these shots before."""
    start, target = adaptation.open()
    key, path = adaptation.key(start, target), adaptation.path(draw, number)
    if answered(path, key, adaptation.shots) is not None:
        return
    half = half_of(target, draw, number)
    adapter = Adapter(start, target, adaptation.settings, torch.device(adaptation.device), adaptation.placement)
    shots = adaptation.shots if len(half.adapt) else ()
    content = [_content(said, target) for said in adapter.answers(half, shots)]
    distances = adapter.distances(target.standard(half.adapt if len(half.adapt) else half.test))
    ids = [target.data.utterances[row].utterance_id for row in half.test]
    write_json(
        path,
        {"key": key, "draw": draw, "half": number, "shots": [word_of(k) for k in shots], "near": distances,
         "utterance_ids": ids, "adapt": len(half.adapt), "answers": content},
    )  # fmt: skip


def answered(path: Path, key: str, shots: Sequence[int | None]) -> dict[str, Any] | None:
    """The answers of a half, if they are there, whole, and of at least these shots; None otherwise."""
    found = read_if_whole(path, ANSWER_FIELDS) if path.is_file() else None
    if found is None or found["key"] != key:
        return None
    return found if not found["adapt"] or {word_of(k) for k in shots} <= set(found["shots"]) else None


def word_of(k: int | None) -> int | str:
    """A value of k as files and tables write it."""
    return ALL if k is None else k


def _content(said: Said, target: Target) -> dict[str, Any]:
    return {
        "way": said.way,
        "k": word_of(said.k),
        "emotions": list(said.emotions),
        "probabilities": [[float(f"{value:.{DIGITS}g}") for value in row] for row in said.probabilities.tolist()],
        "shots": [target.data.utterances[row].utterance_id for row in said.shots],
    }
