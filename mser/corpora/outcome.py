"""What a definition makes of a folder, by the names of its files alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from mser.corpora.reader import LabelReader
from mser.errors import CorpusError


@dataclass(frozen=True)
class Read:
    """One file whose name was read.

    Attributes:
        fields: as the reader gives them. emotion: the unified label; None where it is left out.
    """

    path: PurePosixPath
    fields: dict[str, str]
    emotion: str | None


@dataclass
class Outcome:
    """What is read.

    Attributes:
        utterances: those that a manifest would list. left_out: whose label is mapped to nothing.
        skipped: by the definition. unlike: files that do not fit, with the reason.
        unmapped: source labels that have no entry -> files.
    """

    utterances: list[Read] = field(default_factory=list)
    left_out: list[Read] = field(default_factory=list)
    skipped: list[PurePosixPath] = field(default_factory=list)
    unlike: list[tuple[PurePosixPath, str]] = field(default_factory=list)
    unmapped: Counter[str] = field(default_factory=Counter)

    @property
    def speakers(self) -> set[str]:
        return {one.fields["speaker"] for one in self.utterances}

    @property
    def emotions(self) -> Counter[str]:
        return Counter(one.emotion for one in self.utterances if one.emotion is not None)


def read_names(reader: LabelReader, paths: Iterable[PurePosixPath]) -> Outcome:
    """Reads every path, and none of the files."""
    found = Outcome()
    emotions = reader.definition.emotions
    for path in paths:
        if reader.skips(path):
            found.skipped.append(path)
            continue
        try:
            label = reader.raw_fields(path).get("emotion")
            if label is not None and label not in emotions:
                found.unmapped[label] += 1
                continue
            fields = reader.fields_of(path)
        except CorpusError as error:
            found.unlike.append((path, error.what))
            continue
        read = Read(path, fields, emotions[fields["emotion"]])
        (found.left_out if read.emotion is None else found.utterances).append(read)
    return found
