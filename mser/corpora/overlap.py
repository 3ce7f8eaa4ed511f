"""Files that two definitions take for their own: they would be in training and in a test under two names."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mser.corpora.definition import CorpusDefinition
from mser.corpora.outcome import Outcome, read_names
from mser.corpora.recordings import candidates
from mser.errors import CorpusError


@dataclass(frozen=True)
class Overlap:
    """What two definitions both read.

    Attributes:
        files: how many. first, as_other: the path of one, as each of the two finds it.
    """

    one: CorpusDefinition
    other: CorpusDefinition
    files: int
    first: Path
    as_other: Path

    def __str__(self) -> str:
        also = f" (also {self.as_other})" if self.as_other != self.first else ""
        files = "1 file" if self.files == 1 else f"{self.files} files"
        return f"{self.one.name} and {self.other.name} both read {files}, such as {self.first}{also}"


def overlaps(
    one: CorpusDefinition, others: Iterable[CorpusDefinition], corpora: Path, outcome: Outcome | None = None
) -> list[Overlap]:
    """What other definitions read of a corpus's files. Folders and files may be links: what they lead to counts.

    Args:
        outcome: what the definition reads, if that is known.

    Raises:
        CorpusError: the definition cannot be read by; that another one cannot is said where that is used.
    """
    near = [other for other in others if other.name != one.name and _nested(corpora / one.place, corpora / other.place)]
    if not near:
        return []
    own = _files_of(one, corpora, outcome)
    found = []
    for other in near:
        try:
            theirs = _files_of(other, corpora)
        except CorpusError:
            continue
        if both := [target for target in own if target in theirs]:
            found.append(Overlap(one, other, len(both), own[both[0]], theirs[both[0]]))
    return found


def _nested(one: Path, other: Path) -> bool:
    """Whether two folders are the same, or one lies in the other: no corpus has files outside of its folder."""
    if not one.is_dir() or not other.is_dir():
        return False
    first, second = PurePosixPath(os.path.realpath(one)), PurePosixPath(os.path.realpath(other))
    return first.is_relative_to(second) or second.is_relative_to(first)


def _files_of(one: CorpusDefinition, corpora: Path, outcome: Outcome | None = None) -> dict[str, Path]:
    """The files that a manifest would list by their names: what they are in the end -> path."""
    folder = corpora / one.place
    if outcome is None:
        outcome = read_names(one.reader(folder), [file.relative for file in candidates(folder) if not file.fault])
    return {os.path.realpath(folder / read.path): folder / read.path for read in outcome.utterances}
