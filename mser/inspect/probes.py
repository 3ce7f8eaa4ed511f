"""Where the emotion is: logistic regression on each layer, and on the same layers what else could give it away.

Emotions are probed as stage two's bar is (:mod:`mser.probe`): folds and dev splits by speaker, layers compared on dev
speakers, the chosen one asked once about the test speakers. The confounds (speaker, gender, sentence) are
cross-validated with folds of their own; a layer that tells them well may tell the emotion by them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mser.errors import ProtocolError
from mser.grouping import grouped_parts
from mser.manifest import Utterance
from mser.metrics import score
from mser.probe import choose_layer, fit_logistic
from mser.protocol import GROUPED_FOLDS, LEAVE_ONE_OUT_SPEAKERS, Fold, make_folds
from mser.published import deal

#: Folds of a cross-validated confound, at most.
FOLDS = 5
#: Speakers are parted by sentence where more than this share of the utterances has a known one.
KNOWN_SENTENCES = 0.5

#: Told after each fold of a target: may raise, to stop.
Advance = Callable[[], None]


@dataclass(frozen=True)
class Probe:
    """How well each layer of an upstream tells one thing.

    Attributes:
        target: one of :data:`mser.inspect.wanted.TARGETS`.
        uar: (L,) percent; None where it cannot be asked, with the reason in ``trouble``.
        chance: percent, one over ``classes``.
        utterances: that the UAR is over. split: how training and test are parted, in words.
    """

    target: str
    uar: tuple[float, ...] | None = None
    chance: float = 0.0
    classes: int = 0
    utterances: int = 0
    speakers: int = 0
    split: str = ""
    trouble: str = ""


@dataclass(frozen=True)
class Tested:
    """The emotion on test speakers, by layers that dev speakers chose.

    Attributes:
        chosen: index into the layers -> folds that chose it.
        uar: percent, over all tested utterances together. utterances, emotions: its denominators.
        dev_uar: percent, mean over the folds of the chosen layer's.
    """

    chosen: dict[int, int]
    uar: float
    utterances: int
    emotions: int
    folds: int
    dev_uar: float


class _CannotAskError(Exception):
    """Why a probe makes no sense on these utterances, in a sentence."""


def probe_emotion(
    means: np.ndarray, utterances: Sequence[Utterance], advance: Advance | None = None
) -> tuple[Probe, Tested | None]:
    """Probes each layer on dev speakers, and the chosen one on test speakers.

    Args:
        means: (N, L, D).

    Returns:
        Each layer's UAR, the mean over folds of :func:`mser.probe.choose_layer`; and the test, where there is one.
    """
    emotions = np.array([row.emotion for row in utterances])
    classes, speakers = len(set(emotions)), len({row.speaker_id for row in utterances})
    facts: dict[str, Any] = {"classes": classes, "utterances": len(emotions), "speakers": speakers}
    try:
        if classes < 2:
            raise _CannotAskError(f"all utterances carry one emotion, {emotions[0]}")
        folds = make_folds(utterances)
        _require_classes(emotions, folds)
    except (_CannotAskError, ValueError) as error:
        return Probe("emotion", trouble=_said(error), **facts), None
    choices, predicted = [], np.zeros(len(emotions), dtype=emotions.dtype)
    for fold in folds:
        choice = choose_layer(means, emotions, fold)
        choices.append(choice)
        fitted = fit_logistic(means[fold.train, choice.layer], emotions[fold.train])
        predicted[fold.test] = fitted.predict(means[fold.test, choice.layer])
        if advance:
            advance()
    uar = np.mean([choice.dev_uar for choice in choices], axis=0)
    splits = sum(len(fold.splits) for fold in folds)
    split = f"dev speakers: mean of {splits} splits, those of {len(folds)} test folds; no test speaker is used"
    found = score(emotions, predicted)
    best = float(np.mean([choice.dev_uar[choice.layer] for choice in choices]))
    chosen = dict(Counter(choice.layer for choice in choices).most_common())
    tested = Tested(chosen, found.uar, found.utterances, found.emotions, len(folds), best)
    return Probe("emotion", tuple(uar.tolist()), 100 / classes, split=split, **facts), tested


def probe_confound(
    target: str, means: np.ndarray, utterances: Sequence[Utterance], advance: Advance | None = None
) -> Probe:
    """Cross-validates one of ``speaker``, ``gender`` and ``sentence`` on each layer (N, L, D)."""
    try:
        parting = _PARTED[target](utterances)
    except _CannotAskError as error:
        return Probe(target, trouble=str(error))
    labels, parts = parting.labels, parting.parts
    features = means[parting.rows]
    predicted = np.zeros((means.shape[1], len(labels)), dtype=labels.dtype)
    for part in range(parts.max() + 1):
        train, test = np.flatnonzero(parts != part), np.flatnonzero(parts == part)
        for layer, own in enumerate(predicted):
            own[test] = fit_logistic(features[train, layer], labels[train]).predict(features[test, layer])
        if advance:
            advance()
    uar = [score(labels, own).uar for own in predicted]
    classes = len(set(labels))
    speakers = len({utterances[row].speaker_id for row in parting.rows})
    return Probe(target, tuple(uar), 100 / classes, classes, len(labels), speakers, parting.split)


def rounds(utterances: Sequence[Utterance], targets: Sequence[str]) -> int:
    """How often probes of these targets call ``advance``, at most."""
    speakers = len({row.speaker_id for row in utterances})
    folds = speakers if speakers <= LEAVE_ONE_OUT_SPEAKERS else GROUPED_FOLDS
    return sum(folds if target == "emotion" else FOLDS for target in targets)


def _require_classes(emotions: np.ndarray, folds: Sequence[Fold]) -> None:
    """Refuses where a split has but one emotion to train on: there is nothing to choose a layer by."""
    splits = [split for fold in folds for split in fold.splits]
    single = sum(len(set(emotions[split.train])) < 2 or not len(split.dev) for split in splits)
    if single:
        raise _CannotAskError(f"{single} of {len(splits)} dev splits have a single emotion to train on")


@dataclass(frozen=True)
class Parting:
    """How the utterances that a confound is asked of are dealt to folds.

    Attributes:
        rows: (n,) of the utterances; the others are left out, as ``split`` says. labels: (n,) to be told.
        parts: (n,) number of the fold that tests each; every label is in two or more, so it is always trained on.
    """

    rows: np.ndarray
    labels: np.ndarray
    parts: np.ndarray
    split: str


def _by_speaker(utterances: Sequence[Utterance]) -> Parting:
    speakers, texts = _speakers(utterances), _texts(utterances)
    known = np.flatnonzero(texts != "")
    most_known = len(known) > KNOWN_SENTENCES * len(texts)
    candidates = known if most_known else np.arange(len(texts))
    counts = Counter(speakers[candidates].tolist())
    rows = np.array([row for row in candidates if counts[speakers[row]] > 1], dtype=int)
    labels = speakers[rows]
    if len(set(labels)) < 2:
        of_known = " whose sentence is known" if len(candidates) < len(texts) else ""
        raise _CannotAskError(f"fewer than two speakers have two utterances or more{of_known}")
    left_out = {
        "whose sentence is not known": len(texts) - len(candidates),
        "with the single utterance of a speaker": len(candidates) - len(rows),
    }
    if most_known and len(set(texts[rows])) > 1:
        said = "folds by sentence: no sentence of a test fold is in training; its speakers are, as voices must be heard"
        return _parting("speaker", rows, labels, _grouped(labels, texts[rows]), said, left_out)
    few = f"the sentences of only {len(known)} of {len(texts)} utterances are known"
    reason = "all say one sentence" if most_known else few if len(known) else "no sentences are known"
    said = f"folds of utterances: {reason}, so the same ones may be in training"
    return _parting("speaker", rows, labels, deal(labels, FOLDS), said, left_out)


def _by_gender(utterances: Sequence[Utterance]) -> Parting:
    genders = np.array([row.gender for row in utterances])
    rows = np.flatnonzero(genders != "")
    if not len(rows):
        raise _CannotAskError("the corpus does not give genders")
    labels = genders[rows]
    speakers = _speakers(utterances)[rows]
    by_gender = {name: sorted(set(speakers[labels == name])) for name in sorted(set(labels))}
    if len(by_gender) < 2:
        raise _CannotAskError(f"all speakers are {labels[0]}")
    for name, own in by_gender.items():
        if len(own) < 2:
            raise _CannotAskError(f"a single speaker is {name}, and cannot be in training and test")
    split = "folds by speaker: no speaker of a test fold is in training"
    left_out = {"whose speaker's gender is not known": len(utterances) - len(rows)}
    return _parting("gender", rows, labels, _grouped(labels, speakers), split, left_out)


def _by_sentence(utterances: Sequence[Utterance]) -> Parting:
    texts, speakers = _texts(utterances), _speakers(utterances)
    if not any(texts):
        raise _CannotAskError("the corpus does not give sentences")
    said_by = {text: len(set(speakers[texts == text])) for text in set(texts) if text}
    if len(set(speakers)) < 2:
        raise _CannotAskError("there is a single speaker, who cannot be in training and test")
    rows = np.array([number for number, text in enumerate(texts) if text and said_by[text] > 1], dtype=int)
    labels = texts[rows]
    if len(set(labels)) < 2:
        raise _CannotAskError("fewer than two sentences are spoken by two speakers or more")
    unknown = int((texts == "").sum())
    left_out = {
        "whose sentence is not known": unknown,
        "with a sentence that one speaker alone says": len(texts) - unknown - len(rows),
    }
    split = "folds by speaker: no speaker of a test fold is in training, the sentences are"
    return _parting("sentence", rows, labels, _grouped(labels, speakers[rows]), split, left_out)


_PARTED: dict[str, Callable[[Sequence[Utterance]], Parting]] = {
    "speaker": _by_speaker,
    "gender": _by_gender,
    "sentence": _by_sentence,
}


def _parting(
    target: str, rows: np.ndarray, labels: np.ndarray, parts: np.ndarray, split: str, left_out: Mapping[str, int]
) -> Parting:
    """The parting without labels that lie in a single fold: they would be tested by what never saw them, and score 0.

    Args:
        left_out: which utterances are left out already -> how many.

    Raises:
        _CannotAskError: fewer than two labels are left.
    """
    folds = {label: len(set(parts[labels == label])) for label in set(labels)}
    kept = np.array([folds[label] > 1 for label in labels])
    lost = sum(count < 2 for count in folds.values())
    if len(folds) - lost < 2:
        raise _CannotAskError(
            f"{lost} of {len(folds)} {target}s would be tested without training, as all they have falls into a single "
            f"fold ({split})"
        )
    counts = {**left_out, f"of {lost} {target}s, each of which falls into a single fold": int((~kept).sum())}
    said = ", ".join(f"{count} {which}" for which, count in counts.items() if count)
    parts = np.unique(parts[kept], return_inverse=True)[1]
    return Parting(rows[kept], labels[kept], parts, split + (f"; left out: {said}" if said else ""))


def _speakers(utterances: Sequence[Utterance]) -> np.ndarray:
    return np.array([row.speaker_id for row in utterances])


def _texts(utterances: Sequence[Utterance]) -> np.ndarray:
    """The sentence of each utterance, unique across corpora; empty where it is not known."""
    return np.array([f"{row.corpus}/{row.text_id}" if row.text_id else "" for row in utterances])


def _grouped(labels: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """The fold (N,) of each row: whole groups, the labels in about equal shares."""
    folds = min(FOLDS, len(set(groups)), max(Counter(labels.tolist()).values()))
    return np.unique(grouped_parts(labels, groups, folds), return_inverse=True)[1]


def _said(error: Exception) -> str:
    """What folds cannot be made for; scikit-learn's own words where it refuses."""
    if not isinstance(error, ProtocolError):
        return str(error)
    return f"{error.what[:1].lower()}{error.what[1:]} ({error.field}: {error.found})"
