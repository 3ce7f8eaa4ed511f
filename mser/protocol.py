"""Speaker-disjoint folds with dev speakers inside each, and the audit of what still leaks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from mser.errors import ProtocolError
from mser.manifest import Utterance

#: Up to this many speakers each is a test fold of its own; above, speakers are grouped.
LEAVE_ONE_OUT_SPEAKERS = 12
GROUPED_FOLDS = 5
#: Ways to split the training speakers of a fold into training and dev, at most.
DEV_SPLITS = 3
#: Texts are taken to tell the emotion when more than this share of them carries one emotion only.
TEXT_WARNING = 0.5


@dataclass(frozen=True)
class Split:
    """Row numbers of two speaker-disjoint parts of a fold's training speakers."""

    train: np.ndarray
    dev: np.ndarray


@dataclass(frozen=True)
class Fold:
    """One test fold.

    Attributes:
        name: the test speaker, or ``group-0`` and so on.
        train: rows of the training speakers. test: rows of the test speakers, used once.
        splits: for every choice: ways to part ``train`` by speaker into training and dev.
    """

    name: str
    train: np.ndarray
    test: np.ndarray
    splits: tuple[Split, ...]


@dataclass(frozen=True)
class Audit:
    """What the folds of a corpus leak, and what its labels are tied to.

    Attributes:
        speaker_overlap: test utterances whose speaker is in training; more than 0 is an error.
        duplicates: test utterances whose very recording is in training.
        sentence_overlap: share of the test utterances with a known text whose text is in training; None
            where no text is known.
        single_emotion_speakers: speakers all of whose utterances carry one emotion.
        single_emotion_texts: texts all of whose utterances carry one emotion, of ``texts`` texts.
        messages: what a reader must know, in sentences.
    """

    corpus: str
    protocol: str
    utterances: int
    speakers: int
    speaker_overlap: int
    duplicates: int
    sentence_overlap: float | None
    single_emotion_speakers: int
    single_emotion_texts: int
    texts: int
    messages: tuple[str, ...] = field(default=())


def protocol_name(utterances: Sequence[Utterance]) -> str:
    """``leave-one-speaker-out`` or the grouped folds, by the number of speakers."""
    speakers = len({row.speaker_id for row in utterances})
    few = speakers <= LEAVE_ONE_OUT_SPEAKERS
    return "leave-one-speaker-out" if few else f"{GROUPED_FOLDS} folds of grouped speakers"


def make_folds(utterances: Sequence[Utterance]) -> list[Fold]:
    """The folds of a language's utterances; the same for the same rows, whatever the seed of a study.

    Raises:
        ProtocolError: fewer than three speakers: test, dev and training need one each.
    """
    speakers = np.array([row.speaker_id for row in utterances])
    emotions = np.array([row.emotion for row in utterances])
    names = sorted(set(speakers))
    if len(names) < 3:
        raise ProtocolError(
            "Too few speakers for speaker-independent folds.",
            field="speaker",
            expected="3 or more: a test, a dev and a training speaker",
            found=f"{len(names)}: {', '.join(names)}",
            hint="add recordings of other speakers, or another corpus of the language",
        )
    if len(names) <= LEAVE_ONE_OUT_SPEAKERS:
        tests = {label: np.flatnonzero(speakers == name) for label, name in zip(_labels(names), names, strict=True)}
    else:
        tests = {f"group-{number}": rows for number, rows in enumerate(_grouped(speakers, emotions, GROUPED_FOLDS))}
    folds = []
    for name, test in tests.items():
        train = np.setdiff1d(np.arange(len(utterances)), test)
        folds.append(Fold(name, train, test, _dev_splits(train, speakers, emotions)))
    return folds


def _labels(speaker_ids: Sequence[str]) -> list[str]:
    """Names of folds: the speakers, with their corpora where two corpora have speakers of one name."""
    short = [name.partition("/")[2] for name in speaker_ids]
    return short if len(set(short)) == len(short) else [name.replace("/", "-") for name in speaker_ids]


def everyone(utterances: Sequence[Utterance]) -> Fold:
    """All speakers for training and none for test: for a model that is to be used, not measured."""
    speakers = np.array([row.speaker_id for row in utterances])
    emotions = np.array([row.emotion for row in utterances])
    train = np.arange(len(utterances))
    return Fold("everyone", train, train[:0], _dev_splits(train, speakers, emotions))


def _grouped(speakers: np.ndarray, emotions: np.ndarray, count: int) -> list[np.ndarray]:
    """Rows of ``count`` groups of whole speakers, each with the emotions in about equal shares."""
    splitter = StratifiedGroupKFold(count, shuffle=True, random_state=0)
    return [test for _, test in splitter.split(np.zeros(len(speakers)), emotions, speakers)]


def _dev_splits(train: np.ndarray, speakers: np.ndarray, emotions: np.ndarray) -> tuple[Split, ...]:
    count = min(DEV_SPLITS, len(set(speakers[train])))
    groups = _grouped(speakers[train], emotions[train], count)
    return tuple(Split(np.setdiff1d(train, train[dev]), train[dev]) for dev in groups)


def audit(corpus: str, utterances: Sequence[Utterance], folds: Sequence[Fold]) -> Audit:
    """Checks folds against the manifest, independently of how they were made."""
    overlap, duplicates, sentences, with_text = 0, 0, 0, 0
    for fold in folds:
        train = [utterances[row] for row in fold.train]
        speakers, texts = {row.speaker_id for row in train}, {(row.corpus, row.text_id) for row in train}
        recordings = {row.sha256 for row in train}
        for row in (utterances[number] for number in fold.test):
            overlap += row.speaker_id in speakers
            duplicates += row.sha256 in recordings
            if row.text_id:
                with_text += 1
                sentences += (row.corpus, row.text_id) in texts
    by_speaker: dict[str, set[str]] = defaultdict(set)
    by_text: dict[tuple[str, str], set[str]] = defaultdict(set)
    for row in utterances:
        by_speaker[row.speaker_id].add(row.emotion)
        if row.text_id:
            by_text[row.corpus, row.text_id].add(row.emotion)
    report = Audit(
        corpus,
        protocol_name(utterances),
        len(utterances),
        len(by_speaker),
        overlap,
        duplicates,
        sentences / with_text if with_text else None,
        sum(len(emotions) == 1 for emotions in by_speaker.values()),
        sum(len(emotions) == 1 for emotions in by_text.values()),
        len(by_text),
    )
    return Audit(**{**report.__dict__, "messages": tuple(_messages(report))})


def _messages(report: Audit) -> list[str]:
    found = []
    if report.speaker_overlap:
        found.append(f"LEAKY: the speakers of {report.speaker_overlap} test utterances are in training.")
    if report.duplicates:
        found.append(f"LEAKY: {report.duplicates} test recordings are in training, sample for sample.")
    if report.single_emotion_speakers:
        found.append(
            f"{report.single_emotion_speakers} of {report.speakers} speakers carry a single emotion: a model can tell "
            "the emotion by the voice in training, and a split that shares speakers would score far too high."
        )
    if report.texts and report.single_emotion_texts / report.texts > TEXT_WARNING:
        found.append(
            f"{report.single_emotion_texts} of {report.texts} texts are spoken in a single emotion, and "
            f"{100 * (report.sentence_overlap or 0):.0f} % of the test utterances say a text that is in training: "
            "recognising the words is enough, so layers that know words score too high."
        )
    elif report.sentence_overlap:
        found.append(
            f"{100 * report.sentence_overlap:.0f} % of the test utterances say a text that other speakers say in "
            "training; each text is spoken in several emotions, so it does not give the emotion away."
        )
    if report.sentence_overlap is None:
        found.append("No texts are known, so overlap of sentences cannot be checked.")
    return found


def require_disjoint(report: Audit) -> None:
    """Raises ProtocolError where test speakers or recordings are in training."""
    if report.speaker_overlap or report.duplicates:
        raise ProtocolError(
            f"The folds of {report.corpus} leak.",
            expected="no test speaker and no test recording in training",
            found=" ".join(report.messages),
            hint="remove duplicates from the corpus, or mend its speakers",
        )
