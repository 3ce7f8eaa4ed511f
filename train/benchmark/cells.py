"""What the benchmark asks: the cells of its tables, and the tasks whose answers make each cell.

Across languages the target's speakers are parted into two halves: the utterances of one may be adapted to, those of the
other are tested, and then the other way round. So every utterance of the target is tested once a seed, and its speaker
was never heard before, labelled or not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import torch

from mser.errors import ProtocolError
from mser.manifest import Utterance
from mser.mapping import LabelMapping, load_mapping
from mser.protocol import Split, everyone
from train.halves import draw_shots, speaker_halves
from train.systems.task import FEW_SHOT, WITHIN, ZERO_SHOT, Language, Part, Task


@dataclass(frozen=True, order=True)
class Pair:
    """A source and a target that are computed together; within a language both are the same.

    Attributes:
        labels: what emotions count as: the name or path of a :mod:`mser.mapping`.
    """

    labels: str
    source: str
    target: str

    @property
    def within(self) -> bool:
        return self.source == self.target

    @property
    def name(self) -> str:
        return self.source if self.within else f"{self.source}-{self.target}"


def protocols_of(label_set: str, protocols: Sequence[str], labels: Sequence[str]) -> tuple[str, ...]:
    """The first label set is asked under every protocol, a further one across languages without shots.

    >>> protocols_of("valence", ("within", "zero-shot", "few-shot"), ("emotions", "valence"))
    ('zero-shot',)
    """
    return tuple(name for name in protocols if label_set == labels[0] or name == ZERO_SHOT)


def pairs(languages: Sequence[str], protocols: Sequence[str], labels: Sequence[str]) -> list[Pair]:
    """Every language by itself, then every ordered pair, as far as the label set is asked so."""
    across = [pair for pair in product(languages, languages) if pair[0] != pair[1]]
    found = [Pair(labels[0], name, name) for name in languages if WITHIN in protocols]
    for kind in labels:
        if {ZERO_SHOT, FEW_SHOT} & set(protocols_of(kind, protocols, labels)):
            found += [Pair(kind, *pair) for pair in across]
    return found


def shared_labels(source: Language, target: Language, mapping: LabelMapping) -> tuple[str, ...]:
    """The labels that both languages have, sorted.

    Raises:
        ProtocolError: fewer than two: nothing can be told apart. ConfigError: the mapping does not name an emotion.
    """
    own = [set(mapping.parts({row.emotion for row in one.data.utterances})) for one in (source, target)]
    found = tuple(sorted(own[0] & own[1]))
    if len(found) < 2:
        names = dict.fromkeys([source.name, target.name])
        raise ProtocolError(
            f"There are no two labels to tell apart in {' and '.join(names)}.",
            file=mapping.path,
            field=mapping.name,
            expected="two or more, the same in source and target",
            found=" / ".join(", ".join(sorted(one)) or "none" for one in own[: len(names)]),
        )
    return found


def halves(language: Language) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers of two halves of the speakers, with the emotions in about equal shares.

    Raises:
        ProtocolError: a single speaker, who cannot be adapted to and be tested as well.
    """
    return speaker_halves(language.data.utterances, language.name)


def part_of(language: Language, rows: np.ndarray, emotions: Sequence[str], mapping: LabelMapping) -> Part:
    """The rows whose label is one of ``emotions``, with their labels."""
    names = [mapping[language.data.utterances[row].emotion] for row in rows]
    kept = np.array([name in emotions for name in names], dtype=bool)
    indices = np.array([emotions.index(name) for name in names if name in emotions], dtype=np.int64)
    return Part(language, rows[kept], indices)


def drawn(part: Part, emotions: Sequence[str], k: int, seed: int) -> Part:
    """k utterances of each label, drawn by the seed; those of a smaller k are among those of a larger one.

    Raises:
        ProtocolError: a label of which there is none.
    """
    for number, emotion in enumerate(emotions):
        if number not in part.labels:
            raise ProtocolError(
                f"The target {part.language.name} has no labelled utterance of {emotion} to learn from.",
                field="emotion",
                expected="one or more by speakers that are not tested",
                found=f"0 of {len(part)} utterances",
                hint="add recordings of it by other speakers",
            )
    return part.at(draw_shots(part.labels, len(emotions), k, seed))


def no_shots(pair: Pair, languages: Mapping[str, Language]) -> ProtocolError | None:
    """Why a half of the target's speakers has no labelled clips to give; None where both have some of each label.

    Raises:
        ProtocolError, ConfigError: the pair cannot be asked at all.
    """
    mapping, target = load_mapping(pair.labels), languages[pair.target]
    emotions, parts = shared_labels(languages[pair.source], target, mapping), halves(target)
    try:
        for half in parts:
            drawn(part_of(target, half, emotions, mapping), emotions, 1, 0)
    except ProtocolError as error:
        return error
    return None


@dataclass(frozen=True)
class Asked:
    """A task with what only the benchmark knows: the truth of its test, indices into the task's emotions (n,)."""

    task: Task
    truth: np.ndarray


def rows_of(part: Part) -> list[Utterance]:
    """What the manifest says of a part's utterances, with all that a system is not told."""
    return [part.language.data.utterances[row] for row in part.rows]


def tasks_of(
    pair: Pair,
    languages: Mapping[str, Language],
    protocols: Sequence[str],
    shots: Sequence[int],
    seeds: Sequence[int],
    device: torch.device,
    probes: Path | None = None,
) -> list[Asked]:
    """All tasks of a pair, those that share a source and a seed one after the other.

    Args:
        protocols: that the pair is asked under (:func:`protocols_of`). shots: values of k.
        probes: folder in which scores of single layers are kept.

    Raises:
        ProtocolError: the languages cannot be asked so; says why. ConfigError: there is no such mapping.
    """
    if pair.within:
        return _within(pair, languages[pair.source], seeds, device, probes)
    return _across(pair, languages[pair.source], languages[pair.target], protocols, shots, seeds, device, probes)


def _within(
    pair: Pair, language: Language, seeds: Sequence[int], device: torch.device, probes: Path | None
) -> list[Asked]:
    mapping = load_mapping(pair.labels)
    emotions = shared_labels(language, language, mapping)
    nobody = Part(language, np.zeros(0, dtype=np.int64))
    found = []
    for fold in language.data.folds:
        source = part_of(language, fold.train, emotions, mapping)
        test = part_of(language, fold.test, emotions, mapping)
        path = probes / f"{mapping.name}-within-{language.name}-{fold.name}.json" if probes else None
        for seed in seeds:
            task = Task(
                fold.name, WITHIN, emotions, source, _positions(fold.splits, source), nobody, nobody,
                Part(language, test.rows), seed, device, probes_path=path, meanings=mapping.parts(mapping.labels),
            )  # fmt: skip
            found.append(Asked(task, test.labels))
    return found


def _across(
    pair: Pair,
    source: Language,
    target: Language,
    protocols: Sequence[str],
    shots: Sequence[int],
    seeds: Sequence[int],
    device: torch.device,
    probes: Path | None,
) -> list[Asked]:
    mapping = load_mapping(pair.labels)
    emotions = shared_labels(source, target, mapping)
    rows = np.arange(len(source))
    learnt = part_of(source, rows, emotions, mapping)
    splits = _positions(everyone(source.data.utterances).splits, learnt)
    path = probes / f"{mapping.name}-{pair.name}.json" if probes else None
    parts = halves(target)
    counts = [0] if ZERO_SHOT in protocols else []
    counts += shots if FEW_SHOT in protocols else []
    found = []
    for seed in seeds:
        shared: dict[object, object] = {}
        for (number, tested), k in product(enumerate(parts), counts):
            others = parts[1 - number]
            test = part_of(target, tested, emotions, mapping)
            labelled = part_of(target, others, emotions, mapping)
            task = Task(
                f"half-{number}", FEW_SHOT if k else ZERO_SHOT, emotions, learnt, splits,
                drawn(labelled, emotions, k, seed) if k else Part(target, others[:0]),
                Part(target, others), Part(target, test.rows), seed, device, k, shared, path,
                mapping.parts(mapping.labels),
            )  # fmt: skip
            found.append(Asked(task, test.labels))
    return found


def _positions(splits: Sequence[Split], part: Part) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """Splits of row numbers as positions in a part, without the rows that it lacks."""
    return tuple(
        (np.flatnonzero(np.isin(part.rows, split.train)), np.flatnonzero(np.isin(part.rows, split.dev)))
        for split in splits
    )
