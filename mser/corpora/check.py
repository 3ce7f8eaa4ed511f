"""What is wrong, or odd, with a corpus definition and the folder it reads: by names alone, nothing is decoded."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from mser.containers import is_apple
from mser.corpora.codes import nearest_label
from mser.corpora.definition import CorpusDefinition
from mser.corpora.drafts import Doubt, speakers_to_split_by, texts_that_never_return, unanswered, unmapped_all
from mser.corpora.outcome import Outcome, read_names
from mser.corpora.overlap import overlaps
from mser.corpora.reader import LabelReader
from mser.corpora.recordings import Listing, listing
from mser.errors import CorpusError

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".7z", ".rar")
#: Names that are shown of those concerned.
SHOWN = 3


@dataclass(frozen=True)
class Finding:
    """One sentence on a definition.

    Attributes:
        severity: ``error``: it cannot be used as it is; ``warning``: probably not as meant; ``fact``: good to know.
        place: file and line, or folder.
    """

    severity: str
    sentence: str
    place: str = ""


@dataclass(frozen=True)
class Checked:
    """A definition that was checked.

    Attributes:
        outcome: what it reads; None where its folder is not there, or nothing could be read.
    """

    definition: CorpusDefinition
    findings: tuple[Finding, ...]
    outcome: Outcome | None = None
    files: int = 0

    @property
    def faulty(self) -> bool:
        return any(one.severity == "error" for one in self.findings)


@dataclass
class _Notes:
    definition: CorpusDefinition
    found: list[Finding] = field(default_factory=list)

    def add(self, severity: str, sentence: str, *keys: str, place: object = None) -> None:
        where = place or self.definition.source.of(keys) or ""
        self.found.append(Finding(severity, sentence, str(where)))

    def add_all(self, doubts: Iterable[Doubt]) -> None:
        for severity, sentence, key in doubts:
            # What is read belongs to the layout, which has no key for each field.
            self.add(severity, sentence, key if getattr(self.definition, key, None) else _layout(self.definition))


def check(definition: CorpusDefinition, corpora: Path, others: Sequence[CorpusDefinition] = ()) -> Checked:
    """Checks one definition, and its folder where that is there.

    Args:
        corpora: folder with a folder for each corpus.
        others: definitions that might read the same files.
    """
    notes = _Notes(definition)
    folder = corpora / definition.place
    reader: LabelReader | None = None
    if folder.is_dir() or definition.table is None:
        try:
            reader = definition.reader(folder)
        except CorpusError as error:
            facts = [f"{error.file}"] + ([f"{error.field}"] if error.field else [])
            notes.add(
                "error",
                " ".join([error.what, *facts, f"(found {error.found})" if error.found else ""]).strip(),
                "table",
            )
    if reader is not None:
        _examples(notes, reader)
    notes.add_all([*unmapped_all(definition), *unanswered(definition)])
    if reader is None or not folder.is_dir():
        return Checked(definition, tuple(notes.found))
    there = listing(folder)
    paths = [one.relative for one in there.files if not one.fault]
    _folder(notes, folder, there)
    outcome = read_names(reader, paths)
    _unread(notes, outcome, paths, folder)
    _readings(notes, reader, outcome)
    _counts(notes, outcome)
    notes.add_all([*speakers_to_split_by(definition, outcome), *texts_that_never_return(definition, outcome)])
    for overlap in overlaps(definition, others, corpora, outcome):
        notes.add("error", str(overlap), _layout(definition))
    return Checked(definition, tuple(notes.found), outcome, len(paths))


def misreadings(reader: LabelReader, paths: Sequence[PurePosixPath]) -> list[str]:
    """The errors of :func:`check` in what is read, though something is: labels or speakers of it would be wrong."""
    notes = _Notes(reader.definition)
    _examples(notes, reader)
    _readings(notes, reader, read_names(reader, paths))
    return [one.sentence for one in notes.found if one.severity == "error"]


def _readings(notes: _Notes, reader: LabelReader, outcome: Outcome) -> None:
    _labels(notes, outcome)
    _spans(notes, reader, outcome)
    _likely(notes, outcome)


def far_off(found: int, published: int) -> str:
    """What to ask where a count is less than half or more than double the published one; empty where it is neither."""
    if found * 2 < published:
        return "; is it the right folder, and the right level of it, and are all archives unpacked?"
    return (
        "; is there more than this corpus in the folder, or is it read at a wrong place?"
        if found > published * 2
        else ""
    )


def some(names: Sequence[Any]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(str(name) for name in names[:SHOWN]) + more


def _examples(notes: _Notes, reader: LabelReader) -> None:
    definition = notes.definition
    for path, stated in definition.examples.items():
        if unlike := unlike_example(reader, path, stated):
            notes.add("error", f"the example {path} {unlike}", "examples", path)


def unlike_example(reader: LabelReader, path: str, stated: Mapping[str, Any]) -> str:
    """How what is read from a documented path differs from what its definition states; empty where it does not.

    The emotion is stated as the unified label, or as it is written.
    """
    if reader.definition.table is not None and reader.unlisted(PurePosixPath(path)):
        # Made-up or partial copies need not hold the rows of every example.
        return ""
    try:
        fields = reader.fields_of(PurePosixPath(path))
    except CorpusError as error:
        return f"is not read: {error.what}"
    label = reader.definition.emotions[fields["emotion"]]
    for name, value in stated.items():
        # Nothing, and an empty text, are the same.
        read = {label, fields["emotion"]} if name == "emotion" else {fields.get(name) or None}
        if (None if value in (None, "") else str(value)) not in read:
            found = label if name == "emotion" else fields.get(name)
            return f"is read with {name} {found!r}, and {value!r} is stated"
    return ""


def _folder(notes: _Notes, folder: Path, there: Listing) -> None:
    odd = [one.printable for one in there.files if "UTF-8" in one.fault]
    if odd:
        notes.add(
            "warning", f"{len(odd)} names are not UTF-8, and cannot be used: {some(odd)}; rename them", place=folder
        )
    faulty = [one for one in there.files if one.fault and "UTF-8" not in one.fault]
    if faulty:
        named = some([f"{one.printable} {one.fault}" for one in faulty])
        notes.add("warning", f"{len(faulty)} files cannot be used: {named}", place=folder)
    packed = sorted(_archives(folder))
    if packed:
        notes.add("warning", f"{len(packed)} archives are not unpacked: {some(packed)}", place=folder)
    if there.remark:
        notes.add("fact", there.remark, place=folder)


def _archives(folder: Path) -> Iterator[str]:
    """Archives that have no folder of their name beside them."""
    for place, folders, names in os.walk(folder):
        for name in names:
            end = next((end for end in ARCHIVES if name.lower().endswith(end)), None)
            if end and name[: -len(end)] not in folders:
                relative = PurePosixPath((Path(place) / name).relative_to(folder).as_posix())
                if not is_apple(relative):
                    yield os.fsencode(str(relative)).decode("utf-8", "backslashreplace")


def _unread(notes: _Notes, outcome: Outcome, paths: Sequence[PurePosixPath], folder: Path) -> None:
    layout = _layout(notes.definition)
    if not paths:
        notes.add("error", "no recordings are in the folder", place=folder)
    elif not outcome.utterances and not outcome.left_out and not outcome.unmapped:
        reason = f"; the first reason: {outcome.unlike[0][1]}" if outcome.unlike else ""
        sentence = f"none of {len(paths)} recordings is read, such as {some(paths)}{reason}; {layout} is "
        notes.add("error", sentence + str(getattr(notes.definition, layout)), layout)
    elif outcome.unlike:
        named = some([f"{path} ({reason})" for path, reason in outcome.unlike])
        notes.add("warning", f"{len(outcome.unlike)} of {len(paths)} recordings are not read: {named}", layout)


def _layout(definition: CorpusDefinition) -> str:
    return next(key for key in ("pattern", "folders", "table") if getattr(definition, key) is not None)


def _labels(notes: _Notes, outcome: Outcome) -> None:
    for label, number in sorted(outcome.unmapped.items()):
        near = nearest_label(label)
        advice = f"; it may mean {near}" if near else "; map it to a label of labels.yaml, or to null to leave it out"
        notes.add("error", f"label {label!r} of {number} files has no entry in emotions{advice}", "emotions")
    seen = {one.fields["emotion"] for one in (*outcome.utterances, *outcome.left_out)}
    never = sorted(set(notes.definition.emotions) - seen)
    if seen and never:
        notes.add("warning", f"labels that never occur: {', '.join(never)}", "emotions")


def _spans(notes: _Notes, reader: LabelReader, outcome: Outcome) -> None:
    """One piece of a name cannot be both the speaker and the emotion."""
    if reader.pattern is None or not {"speaker", "emotion"} <= set(reader.pattern.groupindex):
        return
    for one in outcome.utterances:
        match = reader.pattern.fullmatch(str(one.path.with_suffix("")))
        if match is None or -1 in (*match.span("speaker"), *match.span("emotion")):
            continue
        (start, stop), (begin, end) = match.span("speaker"), match.span("emotion")
        if start < end and begin < stop:
            both = f"speaker {match['speaker']!r} and emotion {match['emotion']!r} share letters of {one.path}"
            notes.add("error", f"two groups at once: {both}", "pattern")
            return


def _likely(notes: _Notes, outcome: Outcome) -> None:
    """Readings that cannot be meant, and facts that the audit tells, too."""
    rows, layout = outcome.utterances, _layout(notes.definition)
    if len(rows) < 2:
        return
    labels = {one.fields["emotion"] for one in rows}
    if len(labels) == 1 and len(set(notes.definition.emotions)) > 1:
        notes.add("error", f"emotion is {labels.pop()!r} in all {len(rows)} files: it is read at a wrong place", layout)
    if len(outcome.speakers) == len(rows) > len(notes.definition.speakers):
        named = some(sorted(outcome.speakers))
        notes.add("error", f"as many speakers as files, such as {named}: speaker is read at a wrong place", layout)
    for key, what in (("speaker", "speakers carry"), ("text_id", "texts are spoken in")):
        emotions: dict[str, set[str | None]] = defaultdict(set)
        for one in rows:
            if one.fields.get(key):
                emotions[one.fields[key]].add(one.emotion)
        single = [value for value, of in emotions.items() if len(of) == 1]
        # Texts that never come back are said to be no texts.
        if single and len(outcome.emotions) > 1 and not (key == "text_id" and len(emotions) == len(rows)):
            notes.add("fact", f"{len(single)} of {len(emotions)} {what} a single emotion", layout)


def _counts(notes: _Notes, outcome: Outcome) -> None:
    """How the counts differ from the published ones."""
    expected = notes.definition.expected
    if not outcome.utterances:
        return
    found: dict[str, int] = {"utterances": len(outcome.utterances), "speakers": len(outcome.speakers)}
    for key, number in found.items():
        if key in expected and number != expected[key]:
            advice = far_off(number, expected[key])
            severity = "error" if advice else "warning"
            notes.add(severity, f"{number} {key}, published {expected[key]}{advice}", "expected", key)
    published = expected.get("emotions") or {}
    unlike = [
        f"{emotion} {outcome.emotions[emotion]} of {published.get(emotion, 0)}"
        for emotion in sorted({*published, *outcome.emotions})
        if published and outcome.emotions[emotion] != published.get(emotion, 0)
    ]
    if unlike:
        notes.add("warning", f"other counts than published: {', '.join(unlike)}", "expected", "emotions")
