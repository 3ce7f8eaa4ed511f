"""Tables that lie beside recordings: which column holds their paths, and what the others say of each file."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mser.containers import is_apple
from mser.corpora.reader import audio_stem

SUFFIXES = frozenset({".csv", ".tsv", ".tab", ".txt"})
DELIMITERS = ",;\t|"
#: Larger files are no lists of recordings; more tables, or deeper ones, are not looked at.
MOST_BYTES, MOST_TABLES, DEEPEST = 50_000_000, 40, 3
#: Share of the recordings that a table must name.
SHARE = 0.5
ENCODINGS = ("utf-8-sig", "cp1252")


@dataclass(frozen=True)
class Sheet:
    """A table whose rows name recordings.

    Attributes:
        file: below the corpus folder. path: column of the recordings' paths or names.
        by_name: whether they are found by name alone, wherever they lie.
        columns: of the other columns, a value for each recording; None where no row names it.
    """

    file: str
    path: str
    by_name: bool
    delimiter: str
    encoding: str
    columns: dict[str, tuple[str | None, ...]]

    @property
    def named(self) -> int:
        """Recordings that a row names."""
        return sum(value is not None for value in next(iter(self.columns.values()), ()))


def sheets_of(folder: Path, paths: Sequence[PurePosixPath]) -> list[Sheet]:
    """The tables in a folder that name at least half of its recordings, those that name most first."""
    found = [sheet for file in _tables(folder) if (sheet := _sheet(folder, file, paths)) is not None]
    return sorted(found, key=lambda one: (-one.named, one.by_name, one.file))


def _tables(folder: Path) -> Iterator[Path]:
    patterns = ["/".join(["*"] * depth) for depth in range(1, DEEPEST + 1)]
    found = (path for pattern in patterns for path in sorted(folder.glob(pattern)))
    tables = (
        path for path in found
        if path.suffix.lower() in SUFFIXES and path.is_file() and not is_apple(PurePosixPath(path.relative_to(folder)))
    )  # fmt: skip
    for number, path in enumerate(tables):
        if number == MOST_TABLES:
            return
        if path.stat().st_size <= MOST_BYTES:
            yield path


def _sheet(folder: Path, file: Path, paths: Sequence[PurePosixPath]) -> Sheet | None:
    for encoding in ENCODINGS:
        try:
            text = file.read_text(encoding=encoding)
            break
        except (OSError, UnicodeDecodeError):
            continue
    else:
        return None
    lines = text.splitlines()
    delimiter = max(DELIMITERS, key=lambda one: lines[0].count(one)) if lines else ","
    try:
        rows = list(csv.DictReader(lines, delimiter=delimiter))
    except csv.Error:
        return None
    heads = [head for head in (rows[0] if rows else ()) if isinstance(head, str)]
    for by_name in (False, True):
        for head in heads:
            keys = [audio_stem(row[head] or "", by_name) for row in rows]
            if Counter(keys).most_common(1)[0][1] > 1 and by_name and len(set(keys)) < len(paths) * SHARE:
                continue
            by_key = dict(zip(keys, rows, strict=True))
            given = [by_key.get(audio_stem(str(path), by_name)) for path in paths]
            if sum(row is not None for row in given) >= SHARE * len(paths):
                columns = {
                    other: tuple(None if row is None else (row[other] or "") for row in given)
                    for other in heads if other != head
                }  # fmt: skip
                name = file.relative_to(folder).as_posix()
                return Sheet(name, head, by_name, delimiter, encoding, columns) if columns else None
    return None
