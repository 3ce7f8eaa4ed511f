"""What published splits leak, told from names alone: no recording is needed.

The names that a published split lists are read by the definition as if they were files, and the folds go through
the same audit as those of a study.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from mser.corpora.definition import CorpusDefinition
from mser.corpora.reader import LabelReader
from mser.errors import CorpusError, ProtocolError
from mser.manifest import Utterance
from mser.protocol import Fold, audit
from mser.published import emobox_lists

#: What takes the place of a speaker that a definition does not know.
NOBODY = "unknown"


@dataclass(frozen=True)
class Verdict:
    """What the audit says of a published split.

    Attributes:
        corpus: as the project that published it calls it. names: listed; read: those that a definition reads.
        tested: utterances that are tested in any fold.
        verdict: ``disjoint in speakers``, ``LEAKY`` with how many, or why it cannot be told.
        messages: of the audit.
    """

    corpus: str
    definitions: tuple[str, ...]
    folds: int
    names: int
    read: int
    tested: int
    verdict: str
    messages: tuple[str, ...] = ()


def emobox_verdicts(folder: Path, definitions: Mapping[str, CorpusDefinition], corpora: Path) -> list[Verdict]:
    """A verdict for each corpus of a copy of the EmoBox project.

    Args:
        folder: the project, or its folder ``data``. corpora: where tables of definitions that need one are looked for.

    Raises:
        ProtocolError: no such folder.
    """
    root = folder / "data" if (folder / "data").is_dir() else folder
    places = sorted(path for path in root.glob("*") if any(path.glob("fold_*")))
    if not places:
        raise ProtocolError(
            "The fold files of EmoBox are not there; they are not part of mser.",
            file=folder,
            field="published",
            expected="a copy of the EmoBox project (https://github.com/emo-box/EmoBox), or its folder data",
            hint="get the project, and give its folder",
        )
    return [_verdict(place, _named(place.name, definitions.values()), corpora) for place in places]


def _named(name: str, definitions: Iterable[CorpusDefinition]) -> list[CorpusDefinition]:
    """The definitions that a corpus of this name is read by."""
    return [one for one in definitions if name in (one.name, one.place, *one.aliases)]


def _verdict(place: Path, chosen: Sequence[CorpusDefinition], corpora: Path) -> Verdict:
    names = tuple(one.name for one in chosen)
    if not chosen:
        return Verdict(place.name, (), 0, 0, 0, 0, "no definition")
    try:
        listed = emobox_lists(place)
    except ProtocolError as error:
        return Verdict(place.name, names, 0, 0, 0, 0, f"cannot be told: {error.what}")
    try:
        readers = [one.reader(corpora / one.place) for one in chosen]
    except CorpusError:
        return Verdict(place.name, names, len(listed), 0, 0, 0, "cannot be told: its table is not there")
    paths = sorted({path for parts in listed.values() for part in parts.values() for path in part})
    found = {path: row for path in paths if (row := _row(path, place.name, readers)) is not None}
    rows, place_of = list(found.values()), {path: number for number, path in enumerate(found)}
    folds = [_fold(number, parts, place_of) for number, parts in listed.items()]
    report = audit(place.name, rows, folds, "emobox") if found else None
    unknown = sum(row.speaker == NOBODY for row in rows)
    if report is None:
        verdict = "cannot be told: the definition reads none of its names"
    elif unknown == len(rows):
        verdict = "cannot be told: speakers are unknown"
    else:
        leaks = f"LEAKY: the speakers of {report.speaker_overlap} of {report.tested} are in training"
        verdict = leaks if report.leaky else "disjoint in speakers"
    tested = len({place_of[path] for parts in listed.values() for path in parts["test"] if path in place_of})
    messages = report.messages if report is not None else ()
    return Verdict(place.name, names, len(listed), len(paths), len(found), tested, verdict, messages)


def _fold(number: int, parts: Mapping[str, Sequence[str]], place_of: Mapping[str, int]) -> Fold:
    train = {place_of[path] for part in ("train", "valid") for path in parts.get(part, ()) if path in place_of}
    test = {place_of[path] for path in parts["test"] if path in place_of}
    return Fold(f"fold-{number}", np.array(sorted(train), int), np.array(sorted(test), int), ())


def _row(path: str, corpus: str, readers: Sequence[LabelReader]) -> Utterance | None:
    """A manifest row of a name; None where no definition reads it, or all leave it out.

    EmoBox begins its paths with a folder of its own and the corpus, and joins folder and name where names repeat.
    """
    relative = path.partition(f"{corpus}/")[2] or path
    for reader in readers:
        for tried in (relative, relative.replace("_", "/", 1)):
            place = PurePosixPath(tried)
            if reader.skips(place):
                continue
            try:
                found = reader.fields_of(place)
            except CorpusError:
                continue
            emotion = reader.definition.emotions[found["emotion"]]
            if emotion is None:
                return None
            one = reader.definition
            # The name stands for the recording: whether two are the same sample for sample needs the recordings.
            return Utterance(
                f"{one.name}/{tried}", one.name, one.language, tried, found["speaker"], found["gender"], emotion,
                found["emotion"], found.get("intensity", ""), found.get("text_id", ""), 1, 1, path,
            )  # fmt: skip
    return None
