"""Tables that lie beside recordings: which column holds their paths, and what the others say of each file."""

from __future__ import annotations

import codecs
import csv
import glob
import io
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mser.containers import is_apple
from mser.corpora.reader import audio_stem

SUFFIXES = frozenset({".csv", ".tsv", ".tab", ".txt"})
#: Tables that are not read -> what can be done.
OTHERS = dict.fromkeys((".xlsx", ".xls", ".ods", ".parquet"), "export it as .csv")
OTHERS[".json"] = "a definition can, with `rows` in `table`"
DELIMITERS = ",;\t|"
#: Larger files are no lists of recordings; more tables, more kinds of heads, or deeper ones, are not looked at.
MOST_BYTES, MOST_TABLES, MOST_HEADS, DEEPEST = 50_000_000, 400, 40, 3
#: Share of the recordings that a table must name.
SHARE = 0.5
ENCODINGS = ("utf-8-sig", "cp1252")
#: Marks at the beginning of a file -> the encoding they stand for; that of UTF-32 begins as that of UTF-16 does.
MARKS = {
    codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16",
}  # fmt: skip


@dataclass(frozen=True)
class Sheet:
    """A table whose rows name recordings, or several with one head.

    Attributes:
        files: below the corpus folder. pattern: that matches them and no others; empty where none does.
        path: column of the recordings' paths or names.
        by_name: whether they are found by name alone, wherever they lie.
        columns: of the other columns, a value for each recording; None where no row names it.
    """

    files: tuple[str, ...]
    pattern: str
    path: str
    by_name: bool
    delimiter: str
    encoding: str
    columns: dict[str, tuple[str | None, ...]]

    @property
    def named(self) -> int:
        """Recordings that a row names."""
        return sum(value is not None for value in next(iter(self.columns.values()), ()))

    @property
    def title(self) -> str:
        """What it is called, for people."""
        return (
            self.files[0] if len(self.files) == 1 else self.pattern or f"{self.files[0]} and {len(self.files) - 1} more"
        )


@dataclass(frozen=True)
class Tables:
    """The tables in a corpus folder.

    Attributes:
        sheets: those that name recordings, those that name most first.
        unusable: the others -> why.
    """

    sheets: tuple[Sheet, ...]
    unusable: Mapping[str, str]


@dataclass(frozen=True)
class _Table:
    """A file that was read; ``rows`` hold an entry for each head, None at the end of a short row."""

    file: str
    heads: tuple[str, ...]
    rows: list[dict[str, str | None]]
    delimiter: str
    encoding: str


def tables_of(folder: Path, paths: Sequence[PurePosixPath]) -> Tables:
    """The tables in a folder; those with equal heads are one, and so are read together.

    Args:
        paths: recordings, at least half of which a table must name.
    """
    unusable: dict[str, str] = {}
    alike: dict[tuple[object, ...], list[_Table]] = defaultdict(list)
    for number, file in enumerate(table_names(folder)):
        many = number >= MOST_TABLES or len(alike) >= MOST_HEADS
        found = "there are more than are looked at" if many else _read(folder, file)
        if isinstance(found, str):
            unusable[file] = found
        else:
            alike[found.heads, found.delimiter, found.encoding].append(found)
    sheets = []
    for tables in alike.values():
        sheet = _sheet(folder, tables, paths)
        if isinstance(sheet, Sheet):
            sheets.append(sheet)
        else:
            unusable |= {table.file: sheet for table in tables}
    return Tables(tuple(sorted(sheets, key=lambda one: (-one.named, one.by_name, one.files))), unusable)


def table_names(folder: Path) -> list[str]:
    """The tables in a folder, of any kind, by their paths below it; texts last, and those that lie highest first."""
    found = []
    for place, folders, names in os.walk(folder):
        above = PurePosixPath(Path(place).relative_to(folder).as_posix())
        if len(above.parts) == DEEPEST - 1:
            folders.clear()
        files = (above / name for name in names if Path(name).suffix.lower() in SUFFIXES | set(OTHERS))
        files = (one for one in files if not is_apple(one) and (folder / one).is_file())
        found += [(one.suffix.lower() == ".txt", len(one.parts), str(one)) for one in files]
    return [name for *_, name in sorted(found)]


def _read(folder: Path, file: str) -> _Table | str:
    """A table, or why it is none."""
    path = folder / file
    if (advice := OTHERS.get(path.suffix.lower())) is not None:
        return f"{path.suffix.lower()} is not read; {advice}"
    try:
        if path.stat().st_size > MOST_BYTES:
            return f"it has more than {MOST_BYTES // 1_000_000} MB"
        text, encoding = _decoded(path.read_bytes())
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    if "\0" in text:
        return "it is no text in UTF-8, cp1252, or UTF-16 with a byte-order mark"
    first = text.splitlines()[:1]
    delimiter = max(DELIMITERS, key=lambda one: first[0].count(one)) if first else ","
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
        rows = list(reader)
    except csv.Error as error:
        return f"it is no table: {error}"
    if not rows:
        return "it has no rows below its head"
    return _Table(file, tuple(reader.fieldnames or ()), rows, delimiter, encoding)


def _decoded(content: bytes) -> tuple[str, str]:
    """The text of a file, and its encoding."""
    marked = next((encoding for mark, encoding in MARKS.items() if content.startswith(mark)), None)
    for encoding in [marked] if marked else ENCODINGS:
        try:
            return content.decode(encoding), encoding
        except UnicodeDecodeError:
            continue
    # No text at all: it holds what text does not.
    return "\0", ENCODINGS[0]


def _sheet(folder: Path, tables: Sequence[_Table], paths: Sequence[PurePosixPath]) -> Sheet | str:
    """Tables with equal heads as one, or why they are of no use."""
    heads, rows = tables[0].heads, [row for table in tables for row in table.rows]
    most = (0, "")
    for by_name in (False, True):
        for head in heads:
            keys = [audio_stem(row[head] or "", by_name) for row in rows]
            if Counter(keys).most_common(1)[0][1] > 1 and by_name and len(set(keys)) < len(paths) * SHARE:
                continue
            by_key = dict(zip(keys, rows, strict=True))
            given = [by_key.get(audio_stem(str(path), by_name)) for path in paths]
            named = sum(row is not None for row in given)
            most = max(most, (named, head))
            if named >= SHARE * len(paths):
                columns = {
                    other: tuple(None if row is None else (row[other] or "") for row in given)
                    for other in heads if other != head
                }  # fmt: skip
                files = tuple(table.file for table in tables)
                if not columns:
                    return "it has no column beside that of the recordings"
                delimiter, encoding = tables[0].delimiter, tables[0].encoding
                return Sheet(files, _pattern_of(folder, files), head, by_name, delimiter, encoding, columns)
    named, head = most
    return f"its column {head} names {named} of {len(paths)} recordings" if named else "no column names recordings"


def _pattern_of(folder: Path, files: Sequence[str]) -> str:
    """What matches these files and no others; empty where nothing does."""
    for pattern in _patterns(files):
        matched = {path.relative_to(folder).as_posix() for path in folder.glob(pattern)}
        if {one for one in matched if not is_apple(PurePosixPath(one))} == set(files):
            return pattern
    return ""


def _patterns(files: Sequence[str]) -> Iterator[str]:
    if len(files) == 1:
        yield glob.escape(files[0])
        return
    places = [PurePosixPath(file) for file in files]
    suffixes, names = {place.suffix for place in places}, {place.name for place in places}
    parents, depths = {place.parent for place in places}, {len(place.parts) for place in places}
    if len(suffixes) > 1:
        return
    ends = glob.escape(suffixes.pop())
    if len(parents) == 1:
        above = "".join(f"{glob.escape(part)}/" for part in parents.pop().parts)
        first, last = min(names), max(names)
        start = glob.escape(
            first[: next(place for place, letter in enumerate(last) if first[place : place + 1] != letter)]
        )
        yield from (f"{above}*{ends}", f"{above}{start}*{ends}")
    elif len(depths) == 1:
        above = "*/" * (depths.pop() - 1)
        yield from [f"{above}{glob.escape(names.pop())}"] if len(names) == 1 else []
        yield f"{above}*{ends}"
    yield f"**/*{ends}"


def lines_of(unused: Mapping[str, str], shown: int = 3) -> Iterable[str]:
    """A line for each reason why tables are not used, with the first of them."""
    by_reason: dict[str, list[str]] = defaultdict(list)
    for file, reason in unused.items():
        by_reason[reason].append(file)
    for reason, files in by_reason.items():
        more = f" and {len(files) - shown} more" if len(files) > shown else ""
        yield f"Table{'s' if len(files) > 1 else ''} not used: {', '.join(files[:shown])}{more}: {reason}"
