"""Asks all ways onto a new language, draw by draw; each half of a draw keeps its answers in a file of its own.

A file holds what every way said of every test utterance, so all numbers can be computed again, and a key of what it was
made from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mser.config import Workspace, fingerprint, read_if_whole, write_json
from mser.errors import ConfigError
from train.adapt.target import Start, Target, opened
from train.adapt.ways import Adapter, AdaptSettings, Asked, Half, Said, ways_at
from train.halves import random_halves

#: Version of how a new language is asked: a change that makes other answers raises it.
RECIPE = 2
ANSWER_FIELDS = ("key", "draw", "asked", "adapt", "utterance_ids", "answers", "near")
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
    """Asks the ways of one half of a draw what they were not asked before, and adds their answers."""
    start, target = adaptation.open()
    key, path = adaptation.key(start, target), adaptation.path(draw, number)
    found = _found(path, key)
    if found is not None and not _missing(found, adaptation.shots):
        return
    half = half_of(target, draw, number)
    adapter = Adapter(start, target, adaptation.settings, torch.device(adaptation.device), adaptation.placement)
    if found is None:
        distances = adapter.distances(target.standard(half.adapt if len(half.adapt) else half.test))
        ids = [target.data.utterances[row].utterance_id for row in half.test]
        found = {"key": key, "draw": draw, "half": number, "near": distances, "utterance_ids": ids,
                 "adapt": len(half.adapt), "asked": {}, "answers": []}  # fmt: skip
    asked = _missing(found, adaptation.shots)
    answers = adapter.answers(half, asked, without=not found["answers"])
    found["answers"] += [_content(said, target) for said in answers]
    for k, names in asked.items():
        found["asked"][str(word_of(k))] = [*found["asked"].get(str(word_of(k)), []), *names]
    write_json(path, found)


def answered(path: Path, key: str, shots: Sequence[int | None]) -> dict[str, Any] | None:
    """The answers of a half, if they are there, whole, and of at least these shots; None otherwise."""
    found = _found(path, key)
    return None if found is None or _missing(found, shots) else found


def _found(path: Path, key: str) -> dict[str, Any] | None:
    """What a half's file holds, if it is whole and made from what the key says."""
    found = read_if_whole(path, ANSWER_FIELDS) if path.is_file() else None
    return None if found is None or found["key"] != key else found


def _missing(found: Mapping[str, Any], shots: Sequence[int | None]) -> Asked:
    """The ways with labelled clips that a half was not asked yet; none where nothing may be learned of the language."""
    wanted = ways_at(shots) if found["adapt"] else {}
    known = {k: set(found["asked"].get(str(word_of(k)), ())) for k in wanted}
    missing = {k: [name for name in names if name not in known[k]] for k, names in wanted.items()}
    return {k: names for k, names in missing.items() if names}


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
