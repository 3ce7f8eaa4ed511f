"""Speaker-disjoint folds with dev speakers inside each, published ones by name, and the audit of what still leaks."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from mser.errors import ConfigError, ProtocolError
from mser.grouping import grouped_parts
from mser.manifest import Utterance
from mser.published import PublishedFold, deal, emobox, random_fifths, serab

#: Up to this many speakers each is a test fold of its own; above, speakers are grouped.
LEAVE_ONE_OUT_SPEAKERS = 12
GROUPED_FOLDS = 5
#: The fold that tests nobody.
EVERYONE = "everyone"
#: Ways to split the training speakers of a fold into training and dev, at most.
DEV_SPLITS = 3
#: Texts are taken to tell the emotion when more than this share of them carries one emotion only.
TEXT_WARNING = 0.5
#: What each protocol is, by the name it is asked for; every one but the first is published, and may leak.
PROTOCOLS = {
    "speakers": "each speaker a test fold, or groups of speakers: no speaker crosses",
    "random-70-10-20": "random utterances, as in the code of Wang et al. 2022: speakers are on all sides",
    "serab": "the one split by speaker of SERAB; tests its test speakers only",
    "emobox": "the folds of EmoBox, from the files of its project; some share speakers",
}


@dataclass(frozen=True)
class Split:
    """Row numbers of two parts of a fold's training rows, speaker-disjoint wherever the fold allows it."""

    train: np.ndarray
    dev: np.ndarray


@dataclass(frozen=True)
class Fold:
    """One test fold.

    Attributes:
        name: the test speaker, or ``group-0`` and so on; of published folds ``fifth-0``, ``serab``, ``fold-1``.
        train: rows of the training speakers. test: rows of the test speakers, used once. They share no row; rows in
            neither part are not used (published folds only).
        splits: for every choice: ways to part ``train`` into training and dev, by speaker but for published folds
            that part it otherwise.
    """

    name: str
    train: np.ndarray
    test: np.ndarray
    splits: tuple[Split, ...]


@dataclass(frozen=True)
class Audit:
    """What the folds of a corpus leak, and what its labels are tied to.

    Attributes:
        protocol: ``leave-one-speaker-out``, ``5 folds of grouped speakers``, or the name of a published protocol.
        speaker_overlap: test utterances whose speaker is in training; more than 0 is an error, but for published folds.
        duplicates: test utterances whose very recording is in training; likewise.
        sentence_overlap: share of the test utterances with a known text whose text is in training; None
            where no text is known.
        single_emotion_speakers: speakers all of whose utterances carry one emotion.
        single_emotion_texts: texts all of whose utterances carry one emotion, of ``texts`` texts.
        leaky: whether a test speaker or a test recording is in training.
        tested: utterances that are in a test fold.
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
    leaky: bool
    tested: int
    messages: tuple[str, ...] = field(default=())


def protocol_name(utterances: Sequence[Utterance], protocol: str = "speakers") -> str:
    """``leave-one-speaker-out`` or the grouped folds, by the number of speakers; published protocols as they are."""
    if protocol != "speakers":
        return protocol
    speakers = len({row.speaker_id for row in utterances})
    few = speakers <= LEAVE_ONE_OUT_SPEAKERS
    return "leave-one-speaker-out" if few else f"{GROUPED_FOLDS} folds of grouped speakers"


def make_folds(
    utterances: Sequence[Utterance], protocol: str = "speakers", published: Path | None = None
) -> list[Fold]:
    """The folds of a language's utterances; the same for the same rows, whatever the seed of a study.

    Args:
        protocol: one of :data:`PROTOCOLS`.
        published: for ``emobox``: the project's folder of fold files.

    Raises:
        ConfigError: no such protocol.
        ProtocolError: fewer than three speakers, where test, dev and training need one each; too few utterances to
            part; or utterances that a published protocol does not fit (:mod:`mser.published`).
    """
    if protocol == "speakers":
        return _speaker_folds(utterances)
    if protocol == "random-70-10-20":
        found = random_fifths(utterances)
    elif protocol == "serab":
        found = serab(utterances)
    elif protocol == "emobox":
        found = emobox(utterances, published)
    else:
        raise ConfigError("Unknown protocol.", field="PROTOCOL", expected=", ".join(PROTOCOLS), found=protocol)
    speakers = np.array([row.speaker_id for row in utterances])
    emotions = np.array([row.emotion for row in utterances])
    return [Fold(one.name, one.train, one.test, _published_splits(one, speakers, emotions)) for one in found]


def _speaker_folds(utterances: Sequence[Utterance]) -> list[Fold]:
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
        groups = _grouped(speakers, emotions, GROUPED_FOLDS, "test folds")
        tests = {f"group-{number}": rows for number, rows in enumerate(groups)}
    folds = []
    for name, test in tests.items():
        train = np.setdiff1d(np.arange(len(utterances)), test)
        folds.append(Fold(name, train, test, _dev_splits(name, train, speakers, emotions)))
    return folds


def _labels(speaker_ids: Sequence[str]) -> list[str]:
    """Names of folds: the speakers, with their corpora where a name alone could mean something else as well."""
    short = [name.partition("/")[2] for name in speaker_ids]
    plain = len({*short, EVERYONE}) == len(short) + 1
    return short if plain else [name.replace("/", "-") for name in speaker_ids]


def everyone(utterances: Sequence[Utterance]) -> Fold:
    """All speakers for training and none for test: for a model that is to be used, not measured.

    Raises:
        ProtocolError: too few utterances to part them into training and dev.
    """
    speakers = np.array([row.speaker_id for row in utterances])
    emotions = np.array([row.emotion for row in utterances])
    train = np.arange(len(utterances))
    return Fold(EVERYONE, train, train[:0], _dev_splits(EVERYONE, train, speakers, emotions))


def _grouped(speakers: np.ndarray, emotions: np.ndarray, count: int, what: str) -> list[np.ndarray]:
    """Rows of ``count`` groups of whole speakers, each with the emotions in about equal shares.

    Args:
        what: the groups are, for a message.

    Raises:
        ProtocolError: no emotion has an utterance for each group.
    """
    counts = Counter(emotions.tolist())
    if max(counts.values()) < count:
        raise ProtocolError(
            f"Too few utterances of every emotion for {count} {what}.",
            field="emotion",
            expected=f"{count} utterances or more of some emotion",
            found=f"{', '.join(f'{name}: {own}' for name, own in sorted(counts.items()))}, "
            f"of speakers {', '.join(sorted(set(speakers.tolist())))}",
            hint="add recordings, or another corpus of the language",
        )
    parts = grouped_parts(emotions, speakers, count)
    return [np.flatnonzero(parts == number) for number in range(count)]


def _dev_splits(fold: str, train: np.ndarray, speakers: np.ndarray, emotions: np.ndarray) -> tuple[Split, ...]:
    """Dev speakers, or random rows of a single training speaker."""
    names = sorted(set(speakers[train].tolist()))
    if len(names) > 1:
        what = f"groups of dev speakers of fold {fold}"
        groups = _grouped(speakers[train], emotions[train], min(DEV_SPLITS, len(names)), what)
        return tuple(Split(np.setdiff1d(train, train[dev]), train[dev]) for dev in groups)
    if len(train) < DEV_SPLITS:
        raise ProtocolError(
            f"Fold {fold} has too few utterances to part them into training and dev.",
            field="speaker",
            expected=f"{DEV_SPLITS} utterances or more of a single training speaker",
            found=f"{len(train)} of {', '.join(names) or 'no speaker'}",
            hint="add recordings, or another corpus of the language",
        )
    part = deal(emotions[train], DEV_SPLITS)
    return tuple(Split(train[part != number], train[part == number]) for number in range(DEV_SPLITS))


def _published_splits(fold: PublishedFold, speakers: np.ndarray, emotions: np.ndarray) -> tuple[Split, ...]:
    """The published dev rows if there are any, else as of folds by speaker."""
    if fold.dev is not None:
        return (Split(np.setdiff1d(fold.train, fold.dev), fold.dev),)
    return _dev_splits(fold.name, fold.train, speakers, emotions)


def audit(corpus: str, utterances: Sequence[Utterance], folds: Sequence[Fold], protocol: str = "speakers") -> Audit:
    """Checks folds against the manifest, independently of how they were made; ``protocol`` is what they are called."""
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
        protocol_name(utterances, protocol),
        len(utterances),
        len(by_speaker),
        overlap,
        duplicates,
        sentences / with_text if with_text else None,
        sum(len(emotions) == 1 for emotions in by_speaker.values()),
        sum(len(emotions) == 1 for emotions in by_text.values()),
        len(by_text),
        overlap + duplicates > 0,
        len({row for fold in folds for row in fold.test.tolist()}),
    )
    lacking = (*_untrained(utterances, folds), *_of_one_emotion(utterances, folds))
    return replace(report, messages=(*_messages(report), *lacking))


def _untrained(utterances: Sequence[Utterance], folds: Sequence[Fold]) -> list[str]:
    """A sentence on the folds whose training lacks an emotion that their test has."""
    found, lost, short = [], 0, 0
    for fold in folds:
        trained = {utterances[row].emotion for row in fold.train}
        absent = Counter(emotion for row in fold.test if (emotion := utterances[row].emotion) not in trained)
        found += [f"{fold.name}: {count} of {emotion}" for emotion, count in sorted(absent.items())]
        lost, short = lost + absent.total(), short + bool(absent)
    if not found:
        return []
    return [
        f"In {short} of {len(folds)} folds the training has no utterance of an emotion that the test has "
        f"({'; '.join(found)}): these {lost} test utterances cannot be recognised, and pull UAR down."
    ]


def _of_one_emotion(utterances: Sequence[Utterance], folds: Sequence[Fold]) -> list[str]:
    """A sentence on the folds whose training, or what is left of it beside dev speakers, has a single emotion."""
    found = []
    for fold in folds:
        parts = [fold.train, *(split.train for split in fold.splits)]
        emotions = [{utterances[row].emotion for row in part} for part in parts]
        only = sorted(set().union(*(one for one in emotions if len(one) == 1)))
        found += [f"{fold.name}: {', '.join(only)}"] if only else []
    if not found:
        return []
    return [
        f"In {len(found)} of {len(folds)} folds the training speakers, or those of them that are left beside dev "
        f"speakers, carry a single emotion ({'; '.join(found)}): a model trained on these says it of every utterance."
    ]


def _messages(report: Audit) -> list[str]:
    found = []
    if report.speaker_overlap:
        found.append(f"LEAKY: the speakers of {report.speaker_overlap} test utterances are in training.")
    if report.duplicates:
        found.append(f"LEAKY: {report.duplicates} test recordings are in training, sample for sample.")
    if report.tested < report.utterances:
        found.append(
            f"{report.tested} of {report.utterances} utterances are tested: the folds have the others for training "
            "or not at all."
        )
    if report.single_emotion_speakers:
        found.append(
            f"{report.single_emotion_speakers} of {report.speakers} speakers carry a single emotion: a model can tell "
            "the emotion by the voice in training, and a split that shares speakers"
            f"{', as this one does, scores' if report.speaker_overlap else ' would score'} far too high."
        )
    if report.texts and report.single_emotion_texts / report.texts > TEXT_WARNING:
        found.append(
            f"{report.single_emotion_texts} of {report.texts} texts are spoken in a single emotion, and "
            f"{100 * (report.sentence_overlap or 0):.0f} % of the test utterances say a text that is in training: "
            "recognising the words is enough, so layers that know words score too high."
        )
    elif report.sentence_overlap:
        found.append(
            f"{100 * report.sentence_overlap:.0f} % of the test utterances say a text that "
            f"{'is said' if report.speaker_overlap else 'other speakers say'} in training; each text is spoken in "
            "several emotions, so it does not give the emotion away."
        )
    if report.sentence_overlap is None:
        found.append("No texts are known, so overlap of sentences cannot be checked.")
    return found


def require_disjoint(report: Audit) -> None:
    """Raises ProtocolError where test speakers or recordings are in training, but for published protocols.

    Those are what they are, and are marked :attr:`Audit.leaky`.
    """
    if report.leaky and report.protocol not in PROTOCOLS:
        raise ProtocolError(
            f"The folds of {report.corpus} leak.",
            expected="no test speaker and no test recording in training",
            found=" ".join(report.messages),
            hint="remove duplicates from the corpus, or mend its speakers",
        )
