"""Finds out which piece of names, or column of a table, is the speaker, by how it goes with the emotion."""

from __future__ import annotations

import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from math import log10

from mser.corpora.codes import genders_of, label_values
from mser.corpora.names import ANYTHING, Field

#: Scores below which there is no emotion, and no speaker.
LEAST_EMOTION, LEAST_SPEAKER = 0.35, 0.4
PERSON = re.compile(r"(?i).*(actor|actress|speaker|spkr?|subj(ect)?|person|talker|voice|participant|spk)[ _.-]?")
#: Names of parts that hold several speakers, or parts of one.
PART = re.compile(
    r"(?i).*(ses(s|sion)?|part|dis[ck]|cd|day|set|fold|split|batch|block|train|test|dev|valid(ation)?|eval)[ _.-]?\d*"
)

#: What columns of tables are called: those of speakers, of emotions, of texts, and those that are none of these.
HEADS = {
    "speaker": re.compile(r"(?i).*(speaker|spk|actor|actress|subject|talker|client|user|person|participant|voice).*"),
    "emotion": re.compile(r"(?i).*(emo|label|class|categor|affect|mood|sentiment).*"),
    "text": re.compile(r"(?i).*(sentence|text|transcri|utterance|prompt|phrase|script|words?|statement).*"),
    "other": re.compile(
        r"(?i).*(age|year|dur|length|start|end|time|valence|arousal|domin|score|rat|ses|date|lang|fold|split|set|type|count|size|file|path|name|intens).*"
    ),
}


def find_speaker(fields: Sequence[Field], emotion: Field) -> tuple[Field | None, float, tuple[Field, ...]]:
    """The speaker, its score, and the others that might be it."""
    possible = [
        one for one in fields
        if not one.overlaps(emotion) and 2 <= len(one.counts) <= len(one.values) / 2 and _may_be_a_name(one, emotion)
    ]  # fmt: skip
    partitions: dict[tuple[int, ...], set[int]] = defaultdict(set)
    shapes = {id(one): partition_of(one.values) for one in possible}
    for one in possible:
        if not PART.fullmatch(_sample(one)):
            partitions[shapes[id(one)]].add(one.view.level)
    genders = [one for one in fields if not one.overlaps(emotion) and genders_of(set(one.counts))]
    scored = []
    for number, one in enumerate(possible):
        told = len(one.counts) > 2 and any(not one.overlaps(other) and one_each(one, other) for other in genders)
        agreed = len(partitions[shapes[id(one)]]) > 1
        scored.append((speaker_score(one, emotion, agreed) + 0.3 * told, -number, one))
    scored.sort(key=lambda item: item[:2], reverse=True)
    if not scored or scored[0][0] < LEAST_SPEAKER:
        return None, 0.0, tuple(one for _, _, one in scored[:3])
    score, _, best = scored[0]
    same = shapes[id(best)]
    near = [
        one for value, _, one in scored[1:]
        if value > score - 0.25 and shapes[id(one)] != same and not one.overlaps(best)
    ]  # fmt: skip
    return best, score, tuple(near[:2])


def _may_be_a_name(one: Field, emotion: Field) -> bool:
    """Whole runs: letters, digits, letters and then digits, or a whole token. The emotion may end or begin a run."""
    beside = one.view is emotion.view and (one.start == emotion.stop or one.stop == emotion.start)
    if not beside and not one.view.whole_runs(one.start, one.stop):
        return False
    runs = {piece.run: piece.kind for piece in one.pieces}
    usual = (["letters"], ["digits"], ["letters", "digits"])
    return one.view.whole_token(one.start, one.stop) or list(runs.values()) in usual


def partition_of(values: Sequence[str | None]) -> tuple[int, ...]:
    """Files that have the same value, whatever it is."""
    numbers: dict[str | None, int] = {}
    return tuple(numbers.setdefault(value, len(numbers)) for value in values)


def speaker_score(one: Field, emotion: Field, agreed: bool) -> float:
    """How likely a field is the speaker: where it stands, how it is written, and how it goes with the emotions.

    Args:
        agreed: whether a folder and the name tell it alike.
    """
    pairs = Counter((a, b) for a, b in zip(one.values, emotion.values, strict=True) if a is not None and b is not None)
    emotions: dict[str, set[str]] = defaultdict(set)
    for speaker, label in pairs:
        emotions[speaker].add(label)
    crossing = len(pairs) / max(1, len(one.counts) * len(emotion.counts))
    if one.view.column:
        called = bool(HEADS["speaker"].fullmatch(one.view.column))
        other = any(HEADS[kind].fullmatch(one.view.column) for kind in ("text", "emotion", "other"))
        known = genders_of(set(one.counts)) is not None
        # A column that is called so is the speaker where it is filled; another has to be filled as the emotion is.
        lacking = 0.0 if called else 1 - pairs.total() / emotion.counts.total()
        return 0.5 * crossing + 0.6 * called - 0.6 * (other and not called) - 0.8 * known - lacking
    alone = one.first and len(Field(one.view, one.stop, len(one.view.pieces)).counts) <= 1
    sample = _sample(one)
    score = 0.5 * crossing + 0.3 * agreed + 0.2 * (one.first and one.view.level == 0)
    score += (0.35 if alone else 0.1) * (one.view.level > 0)
    score += 0.3 * bool(PERSON.fullmatch(sample.rstrip("0123456789")))
    score += 0.3 * (gender_within(one) is not None and len(one.counts) > 2)
    score -= 0.6 * bool(PART.fullmatch(sample)) + 0.3 * (len(one.counts) > len(one.values) / 3)
    score -= 0.8 * (genders_of(set(one.counts)) is not None or label_values(one.counts).score > LEAST_EMOTION)
    # Some of its values hold what are two parts of a name elsewhere.
    score -= 0.3 * (one.view.level == 0 and any(piece.regex == ANYTHING for piece in one.pieces))
    # Another spelling of the emotions, or groups of them.
    score -= 0.5 * (len(one.counts) <= 2 * len(emotion.counts) and _disjoint(list(emotions.values())))
    following = one.view.pieces[one.stop : one.stop + 1]
    score -= 0.2 * any(piece.token == one.pieces[-1].token and piece.kind == "digits" for piece in following)
    score += 0.1 * min(1.0, log10(len(one.counts)))
    # As many files of a value and an emotion as there are of a numbering.
    score -= 0.4 * (pairs.total() < 1.5 * len(pairs)) + 0.5 * _falls(one.counts)
    return score


def _disjoint(emotions: list[set[str]]) -> bool:
    """Whether values share no emotion, or carry one each."""
    return all(len(of) == 1 for of in emotions) or len(set().union(*emotions)) == sum(map(len, emotions))


def _sample(one: Field) -> str:
    """A value with what stands before it in its level."""
    row = next((row for row in one.view.rows if row is not None), ())
    return "".join(row[: one.stop])


def numbers_of(values: Iterable[str]) -> list[int] | None:
    """The numbers of values that have digits alone behind one and the same text."""
    found = [re.fullmatch(r"(\D*)(\d+)", value) for value in values]
    if not all(found) or len({match[1] for match in found if match}) != 1:
        return None
    return [int(match[2]) for match in found if match]


def _falls(counts: Counter[str]) -> bool:
    """Whether fewer files have a number the higher it is: files of groups of unlike sizes were counted."""
    numbers = numbers_of(counts)
    if numbers is None or len(numbers) < 4 or sorted(numbers) != list(range(min(numbers), max(numbers) + 1)):
        return False
    ordered = [counts[value] for _, value in sorted(zip(numbers, counts, strict=True))]
    rises = sum(later > earlier for earlier, later in itertools.pairwise(ordered))
    return max(ordered) >= 3 * min(ordered) and rises <= len(ordered) // 10


def gender_within(speaker: Field) -> Field | None:
    """A letter or word of the speaker's name that tells the gender."""
    for start in range(speaker.start, speaker.stop):
        for stop in range(start + 1, speaker.stop + 1):
            one = Field(speaker.view, start, stop)
            if genders_of(set(one.counts)):
                return one
    return None


def one_each(speaker: Field | None, gender: Field) -> bool:
    if speaker is None:
        return gender.view.whole_token(gender.start, gender.stop)
    pairs = set(zip(speaker.values, gender.values, strict=True))
    return len({one for one, _ in pairs if one is not None}) == len([1 for one, _ in pairs if one is not None])
