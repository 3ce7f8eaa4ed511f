"""Reads the labels of recordings by a corpus definition."""

from __future__ import annotations

import csv
import re
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from mser.containers import is_apple
from mser.corpora.fields import FIELDS, joined_names
from mser.corpora.nested import rows_of
from mser.errors import CorpusError
from mser.manifest import leads_out

if TYPE_CHECKING:
    from mser.corpora.definition import CorpusDefinition


class LabelReader:
    """Reads the fields of one file after another by a definition.

    A table is one file or several (``file``, with ``*``), each with a head and a row an utterance: ``columns`` names
    the column of each field, ``path`` that of the audio path, or a text with columns in braces. Or, with ``lines``, a
    text in which every line that the expression is found in is such a row, with a group for each field and ``path``.
    In nested JSON, ``rows`` names the levels of keys down to a row, and ``columns`` are keys from there.
    Tables whose rows name their recordings in other ways are ``files``: each with its own ``path``.
    A row belongs to the file of its path, with ``by: name`` to the file of that name wherever it lies, with ``by: end``
    to the file whose path ends so; suffixes do not count.
    """

    def __init__(self, definition: CorpusDefinition, folder: Path) -> None:
        self.definition = definition
        self.pattern = re.compile(definition.pattern) if definition.pattern else None
        self.skip = re.compile(definition.skip) if definition.skip else None
        by = (definition.table or {}).get("by", "path")
        self.by_name, self.by_end = by == "name", by == "end"
        self.ambiguous: set[str] = set()
        self.rows = self._read_tables(folder, definition.table) if definition.table else {}

    def _read_tables(self, folder: Path, table: Mapping[str, Any]) -> dict[str, dict[str, str]]:
        places = table.get("files") or {table["file"]: table.get("path", "")}
        paths = [
            (path, place) for pattern, place in places.items() for path in sorted(folder.glob(pattern))
            if not is_apple(PurePosixPath(path.relative_to(folder)))
        ]  # fmt: skip
        if not paths:
            raise CorpusError(
                "The table of a corpus is not there.",
                file=", ".join(str(folder / pattern) for pattern in places),
                expected="the file that comes with it",
            )
        found: dict[str, dict[str, str]] = {}
        for path, where in paths:
            try:
                for place, row in _rows_of(path, table, where):
                    key = audio_stem(_composed(place), self.by_name)
                    if found.setdefault(key, row) != row:
                        self.ambiguous.add(key)
            except (OSError, UnicodeDecodeError, csv.Error) as error:
                raise CorpusError("The table of a corpus could not be read.", file=path, found=error) from error
        return found

    def skips(self, relative: PurePosixPath) -> bool:
        """Whether a file is no utterance of this corpus, as its definition says."""
        return bool(self.skip and self.skip.fullmatch(_composed(str(relative))))

    def unlisted(self, relative: PurePosixPath) -> bool:
        """Whether no row of the table names a file."""
        return self._key_of(PurePosixPath(_composed(str(relative)))) not in self.rows

    def _key_of(self, relative: PurePosixPath) -> str:
        """The row of a file: that of its path or name, or with ``by: end`` of the longest end of its path."""
        key = audio_stem(str(relative), self.by_name)
        parts = PurePosixPath(key).parts
        ends = ("/".join(parts[start:]) for start in range(len(parts) if self.by_end else 0))
        return next((end for end in ends if end in self.rows), key)

    def fields_of(self, relative: PurePosixPath) -> dict[str, str]:
        """The fields a file's place gives: speaker, emotion as written, text_id, gender, intensity.

        Args:
            relative: path of the file below the corpus folder.

        Raises:
            CorpusError: the name does not fit, or its emotion or gender is not in the definition.
        """
        found = self.raw_fields(relative)
        if found.get("emotion") not in self.definition.emotions:
            raise CorpusError(f"emotion {found.get('emotion')!r} is not in the definition")
        if not found.get("speaker"):
            raise CorpusError("no speaker is given by its name, folder or table")
        if leads_out(found["speaker"]):
            raise CorpusError(f"results are named after speakers, and {found['speaker']!r} leads out of their folder")
        found["gender"] = self._gender(found)
        return found

    def raw_fields(self, relative: PurePosixPath) -> dict[str, str]:
        """The fields as they are written, whether or not the definition knows their values.

        Raises:
            CorpusError: the name does not fit, or no row of the table names it, or the two differ.
        """
        relative = PurePosixPath(_composed(str(relative)))
        groups: dict[str, str | None] = {}
        if self.pattern:
            match = self.pattern.fullmatch(str(relative.with_suffix("")))
            if match is None:
                raise CorpusError("the name does not match the pattern")
            groups |= match.groupdict()
        elif self.definition.folders:
            levels = relative.parts[:-1]
            if len(levels) < len(self.definition.folders):
                raise CorpusError(f"expected folders {'/'.join(self.definition.folders)} above the file")
            groups |= dict(zip(self.definition.folders, levels, strict=False))
        if self.definition.table:
            groups |= self._row_of(relative, groups)
        if self.definition.speaker is not None:
            parts = {name: value or "" for name, value in groups.items()}
            groups["speaker"] = self.definition.speaker.format_map(parts)
        return {name: str(value) for name, value in groups.items() if name in FIELDS and value is not None}

    def _row_of(self, relative: PurePosixPath, groups: Mapping[str, str | None]) -> dict[str, str]:
        key = self._key_of(relative)
        row = self.rows.get(key)
        if row is None:
            raise CorpusError("no row of the table names it")
        if key in self.ambiguous:
            raise CorpusError("several rows of the table name it, and differ")
        for name, value in row.items():
            if groups.get(name) not in (None, value):
                raise CorpusError(f"its name and the table differ on {name}: {groups[name]!r} and {value!r}")
        return row

    def _gender(self, found: Mapping[str, str]) -> str:
        if "gender" in found:
            if found["gender"] not in self.definition.genders:
                raise CorpusError(f"gender {found['gender']!r} is not in the definition")
            return self.definition.genders[found["gender"]]
        known = self.definition.speakers.get(found["speaker"], {})
        return known.get("gender") or self.definition.gender or ""


def audio_stem(place: str, by_name: bool) -> str:
    """A recording's path as tables may write it, without suffix; its name alone with ``by_name``."""
    path = PurePosixPath(place.strip().replace("\\", "/"))
    # A name may hold dots of its own: only what looks like a suffix of audio or video is one.
    stem = path.with_suffix("") if re.fullmatch(r"\.[A-Za-z]\w{1,3}", path.suffix) else path
    return stem.name if by_name else str(stem)


def _rows_of(path: Path, table: Mapping[str, Any], place: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Path and fields of each row of a table, whose column ``place``, or a text with columns in braces, is the path."""
    if "rows" in table:
        yield from rows_of(path, table, place, FIELDS)
        return
    with path.open(encoding=table.get("encoding", "utf-8-sig"), newline="") as file:
        if "lines" in table:
            found = (re.search(table["lines"], line) for line in file)
            for groups in (match.groupdict() for match in found if match):
                yield groups.pop("path"), {name: value for name, value in groups.items() if value is not None}
            return
        rows = csv.DictReader(file, delimiter=table.get("delimiter", ","))
        columns = table["columns"]
        needed = set(joined_names(place)) or {place}
        lacking = (needed | set(columns.values())) - set(rows.fieldnames or ())
        if lacking:
            raise CorpusError(
                "The table of a corpus lacks columns.",
                file=path,
                field=", ".join(sorted(lacking)),
                expected=sorted(needed | set(columns.values())),
                found=sorted(rows.fieldnames or ()),
                hint="mend `table` in the definition",
            )
        for row in rows:
            # A row may be shorter than the head.
            filled = {column: value or "" for column, value in row.items() if isinstance(column, str)}
            name = place.format_map(filled) if "{" in place else filled[place]
            yield name, {field: filled[column] for field, column in columns.items()}


def _composed(text: str) -> str:
    """Names as definitions and tables are written: macOS stores an umlaut as a letter and an accent."""
    return unicodedata.normalize("NFC", text)
