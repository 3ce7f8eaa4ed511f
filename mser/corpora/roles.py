"""Finds out which pieces of names are the emotion, the speaker, the gender and the text, by how they go together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from mser.corpora.codes import Labelling, genders_of, label_values, load_vocabulary, words_in
from mser.corpora.names import ANYTHING, Field, View, place_of
from mser.corpora.speakers import (
    HEADS,
    LEAST_EMOTION,
    find_speaker,
    gender_within,
    numbers_of,
    one_each,
    partition_of,
)

#: Distinct values of a field beyond which it is no emotion.
MOST_EMOTIONS = 40
#: Candidates for the emotion that are each tried with every speaker.
TRIED = 6
#: Score below which there is no text.
LEAST_TEXT = 0.3


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


def find_roles(views: Sequence[View], language: str = "", emotion: str = "") -> Roles | None:
    """The best reading of the names; None where nothing in them looks like emotions.

    Args:
        emotion: where it stands, if that is known: a column, or a place as :func:`mser.corpora.names.place_of` says it.
    """
    best: Roles | None = None
    fields = [Field(view, start, stop) for view in views for start, stop in view.spans()]
    for score, one, labelling in _emotions(fields, language, emotion)[:TRIED]:
        speaker, sure, others = find_speaker(fields, one)
        found = Roles(one, labelling, speaker, score=2 * score + sure, others=others)
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


def _emotions(fields: Iterable[Field], language: str, called: str) -> list[tuple[float, Field, Labelling]]:
    """What may be the emotion, the likeliest first: by what the values mean, or else by the head of a column.

    Args:
        called: column or place of it, where it is known.
    """
    labelled = [(one, label_values(one.counts, language)) for one in fields if 2 <= len(one.counts) <= MOST_EMOTIONS]
    scored = [(emotion_score(one, labelling), one, labelling) for one, labelling in labelled]
    scored.sort(key=lambda item: -item[0])
    if called:
        return [found for found in scored if called in (found[1].view.column, place_of(found[1]))]
    if sure := [found for found in scored if found[0] >= LEAST_EMOTION]:
        return sure
    headed = [found for found in scored if _is_head_of_emotions(found[1].view.column)]
    # Labels and classes are of many things.
    return sorted(headed, key=lambda item: "emo" not in item[1].view.column.lower())[:1]


def _is_head_of_emotions(head: str) -> bool:
    return [kind for kind, usual in HEADS.items() if usual.fullmatch(head)] == ["emotion"]


def _with_the_rest(roles: Roles, views: Sequence[View], fields: Sequence[Field]) -> Roles:
    gender = gender_within(roles.speaker) if roles.speaker else None
    if gender is None:
        taken = [one for one in (roles.emotion, roles.speaker) if one is not None]
        free = [one for one in fields if not any(one.overlaps(other) for other in taken)]
        gender = next((one for one in free if genders_of(set(one.counts)) and one_each(roles.speaker, one)), None)
    roles = replace(roles, gender=gender, genders=genders_of(set(gender.counts)) or {} if gender else {})
    segments = list(_segments(roles, views))
    steps = load_vocabulary().intensities
    intensity = next((one for one in segments if {value.casefold() for value in one.counts} <= steps), None)
    segments = [one for one in segments if one is not intensity]
    scored = [(round(text_score(one, roles), 2), len(one.counts), -number) for number, one in enumerate(segments)]
    score, _, number = max(scored, default=(0.0, 0, 0))
    text = segments[-number] if score >= LEAST_TEXT else None
    told = {partition_of(one.values) for one in (roles.emotion, roles.speaker) if one is not None}
    rest = tuple(
        one for one in segments
        if one is not text and one.view.level == 0 and partition_of(one.values) not in told
    )  # fmt: skip
    return replace(roles, intensity=intensity, text=text, rest=rest)


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
        numbers = numbers_of(values)
        if numbers is None or sorted(numbers)[0] > 1 or max(numbers) > 1.2 * len(numbers) + 1:
            return False
        sizes[emotion].add(len(numbers))
    return sum(len(of) > 1 for of in sizes.values()) > len(sizes) / 2
