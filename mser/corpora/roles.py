"""Finds out which pieces of names are the emotion, the speaker, the gender and the text, by how they go together."""

from __future__ import annotations

import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import log10

from mser.corpora.codes import Labelling, genders_of, label_values, load_vocabulary, words_in
from mser.corpora.names import ANYTHING, Field, View

#: Distinct values of a field beyond which it is no emotion.
MOST_EMOTIONS = 40
#: Candidates for the emotion that are each tried with every speaker.
TRIED = 6
#: Scores below which there is no emotion, no speaker and no text.
LEAST_EMOTION, LEAST_SPEAKER, LEAST_TEXT = 0.35, 0.4, 0.3
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


@dataclass(frozen=True)
class Roles:
    """What the fields of the names are.

    Attributes:
        gender: lies within the speaker, or elsewhere. genders: its values -> female or male.
        rest: stretches that vary and have no role.
        score: to compare proposals.
    """

    emotion: Field
    labelling: Labelling
    speaker: Field | None = None
    gender: Field | None = None
    genders: dict[str, str] = field(default_factory=dict)
    text: Field | None = None
    intensity: Field | None = None
    rest: tuple[Field, ...] = ()
    score: float = 0.0
    others: tuple[Field, ...] = ()

    @property
    def named(self) -> dict[str, Field]:
        """Group name -> field, as the definition reads them."""
        found = {"speaker": self.speaker, "gender": self.gender, "emotion": self.emotion}
        found |= {"text_id": self.text, "intensity": self.intensity}
        given = {name: one for name, one in found.items() if one is not None}
        read = any(one.view.level == 0 for one in given.values())
        return given | ({"take": self.rest[0]} if len(self.rest) == 1 and read else {})


def find_roles(views: Sequence[View], language: str = "") -> Roles | None:
    """The best reading of the names; None where nothing in them looks like emotions."""
    best: Roles | None = None
    fields = [Field(view, start, stop) for view in views for start, stop in view.spans()]
    for score, emotion, labelling in _emotions(fields, language)[:TRIED]:
        speaker, sure, others = _speaker(fields, emotion)
        found = Roles(emotion, labelling, speaker, score=2 * score + sure, others=others)
        if best is None or found.score > best.score + 1e-9:
            best = found
    return None if best is None else _with_the_rest(best, views, fields)


def emotion_score(one: Field, labelling: Labelling) -> float:
    """How likely a field is the emotion: what its values mean, and that they stand alone."""
    share = one.counts.total() / len(one.values)
    if one.view.column and labelling.score:
        return labelling.score * share + 0.1 * bool(HEADS["emotion"].fullmatch(one.view.column))
    alone = 0.03 * one.view.whole_runs(one.start, one.stop) + 0.03 * one.view.whole_token(one.start, one.stop)
    # An emotion that is lost is worse than one that has to be asked about.
    lost = sum(files for text, files in one.lost.items() if any(words_in(text))) / len(one.values)
    # Words of a label that another field gets make that one wrong, too.
    outside = (*one.view.pieces[: one.start], *one.view.pieces[one.stop :])
    torn = 0.1 * any(piece.regex == ANYTHING for piece in outside)
    return labelling.score * share + (alone - 2 * lost - torn if labelling.score else 0)


def _emotions(fields: Iterable[Field], language: str) -> list[tuple[float, Field, Labelling]]:
    found = []
    for one in fields:
        if 2 <= len(one.counts) <= MOST_EMOTIONS:
            labelling = label_values(one.counts, language)
            score = emotion_score(one, labelling)
            if score >= LEAST_EMOTION:
                found.append((score, one, labelling))
    return sorted(found, key=lambda item: -item[0])


def _speaker(fields: Sequence[Field], emotion: Field) -> tuple[Field | None, float, tuple[Field, ...]]:
    """The speaker, its score, and the others that might be it."""
    possible = [
        one for one in fields
        if not one.overlaps(emotion) and 2 <= len(one.counts) <= len(one.values) / 2 and _may_be_a_name(one, emotion)
    ]  # fmt: skip
    partitions: dict[tuple[int, ...], set[int]] = defaultdict(set)
    shapes = {id(one): _partition(one.values) for one in possible}
    for one in possible:
        if not PART.fullmatch(_sample(one)):
            partitions[shapes[id(one)]].add(one.view.level)
    genders = [one for one in fields if not one.overlaps(emotion) and genders_of(set(one.counts))]
    scored = []
    for number, one in enumerate(possible):
        told = len(one.counts) > 2 and any(not one.overlaps(other) and _one_each(one, other) for other in genders)
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


def _partition(values: Sequence[str | None]) -> tuple[int, ...]:
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
    score += 0.3 * (_gender_within(one) is not None and len(one.counts) > 2)
    score -= 0.6 * bool(PART.fullmatch(sample)) + 0.3 * (len(one.counts) > len(one.values) / 3)
    score -= 0.8 * (genders_of(set(one.counts)) is not None or label_values(one.counts).score > LEAST_EMOTION)
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


def _numbers(values: Iterable[str]) -> list[int] | None:
    """The numbers of values that have digits alone behind one and the same text."""
    found = [re.fullmatch(r"(\D*)(\d+)", value) for value in values]
    if not all(found) or len({match[1] for match in found if match}) != 1:
        return None
    return [int(match[2]) for match in found if match]


def _falls(counts: Counter[str]) -> bool:
    """Whether fewer files have a number the higher it is: files of groups of unlike sizes were counted."""
    numbers = _numbers(counts)
    if numbers is None or len(numbers) < 4 or sorted(numbers) != list(range(min(numbers), max(numbers) + 1)):
        return False
    ordered = [counts[value] for _, value in sorted(zip(numbers, counts, strict=True))]
    rises = sum(later > earlier for earlier, later in itertools.pairwise(ordered))
    return max(ordered) >= 3 * min(ordered) and rises <= len(ordered) // 10


def _gender_within(speaker: Field) -> Field | None:
    """A letter or word of the speaker's name that tells the gender."""
    for start in range(speaker.start, speaker.stop):
        for stop in range(start + 1, speaker.stop + 1):
            one = Field(speaker.view, start, stop)
            if genders_of(set(one.counts)):
                return one
    return None


def _with_the_rest(roles: Roles, views: Sequence[View], fields: Sequence[Field]) -> Roles:
    gender = _gender_within(roles.speaker) if roles.speaker else None
    if gender is None:
        taken = [one for one in (roles.emotion, roles.speaker) if one is not None]
        free = [one for one in fields if not any(one.overlaps(other) for other in taken)]
        gender = next((one for one in free if genders_of(set(one.counts)) and _one_each(roles.speaker, one)), None)
    roles = replace(roles, gender=gender, genders=genders_of(set(gender.counts)) or {} if gender else {})
    segments = list(_segments(roles, views))
    steps = load_vocabulary().intensities
    intensity = next((one for one in segments if {value.casefold() for value in one.counts} <= steps), None)
    segments = [one for one in segments if one is not intensity]
    scored = [(round(text_score(one, roles), 2), len(one.counts), -number) for number, one in enumerate(segments)]
    score, _, number = max(scored, default=(0.0, 0, 0))
    text = segments[-number] if score >= LEAST_TEXT else None
    told = {_partition(one.values) for one in (roles.emotion, roles.speaker) if one is not None}
    rest = tuple(
        one for one in segments
        if one is not text and one.view.level == 0 and _partition(one.values) not in told
    )  # fmt: skip
    return replace(roles, intensity=intensity, text=text, rest=rest)


def _one_each(speaker: Field | None, gender: Field) -> bool:
    if speaker is None:
        return gender.view.whole_token(gender.start, gender.stop)
    pairs = set(zip(speaker.values, gender.values, strict=True))
    return len({one for one, _ in pairs if one is not None}) == len([1 for one, _ in pairs if one is not None])


def _segments(roles: Roles, views: Sequence[View]) -> Iterator[Field]:
    """The longest stretches within tokens that have no role and vary, in the views that the roles are read by."""
    used = [one for one in (roles.emotion, roles.speaker, roles.gender) if one is not None]
    chosen = {view.level: view for view in reversed(views)} | {one.view.level: one.view for one in used}
    for level in sorted(chosen, reverse=True):
        view = chosen[level]
        covered = {place for one in used if one.view is view for place in range(one.start, one.stop)}
        if view.column and not covered and HEADS["text"].fullmatch(view.column):
            yield Field(view, 0, 1)
        if level and not covered:
            continue
        start = 0
        while start < len(view.pieces):
            stop, token = start, view.pieces[start].token
            while stop < len(view.pieces) and stop not in covered and view.pieces[stop].token == token >= 0:
                stop += 1
            if stop > start and len(Field(view, start, stop).counts) > 1:
                yield Field(view, start, stop)
            start = max(stop, start + 1)


def text_score(one: Field, roles: Roles) -> float:
    """How likely a field tells what is said: its values come back in other speakers' and other emotions' files."""
    speakers = roles.speaker.values if roles.speaker else ("",) * len(one.values)
    rows = [row for row in zip(one.values, speakers, roles.emotion.values, strict=True) if None not in row]
    by_value: dict[str, set[tuple[str, str]]] = defaultdict(set)
    numbered: dict[tuple[str, str], set[str]] = defaultdict(set)
    for value, speaker, emotion in rows:
        by_value[str(value)].add((str(speaker), str(emotion)))
        numbered[(str(speaker), str(emotion))].add(str(value))
    if not by_value or _counts_files(numbered):
        return 0.0
    spoken = sum(len(cells) for cells in by_value.values()) / len(by_value) / len(numbered)
    several = sum(len({speaker for speaker, _ in cells}) > 1 for cells in by_value.values()) / len(by_value)
    return spoken + 0.3 * several if roles.speaker else spoken


def _counts_files(groups: dict[tuple[str, str], set[str]]) -> bool:
    """Whether the values only number the files: 1 to n, and n is another for each speaker of an emotion."""
    sizes: dict[str, set[int]] = defaultdict(set)
    for (_, emotion), values in groups.items():
        numbers = _numbers(values)
        if numbers is None or sorted(numbers)[0] > 1 or max(numbers) > 1.2 * len(numbers) + 1:
            return False
        sizes[emotion].add(len(numbers))
    return sum(len(of) > 1 for of in sizes.values()) > len(sizes) / 2
