"""Corpus definitions: how a folder of recordings becomes labelled utterances, as data.

A definition is one YAML file (``data_manifest/corpora/``, or a folder named by
``MSER_DEFINITIONS``). It reads the labels out of file names (``pattern``), folder
names (``folders``) or a table (``table``); adding a corpus needs no code.
"""

from __future__ import annotations

import csv
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path, PurePosixPath
from typing import Any

from mser.config import DATA_FOLDER, fingerprint, read_yaml
from mser.errors import ConfigError, CorpusError
from mser.labels import load_labels
from mser.manifest import leads_out

#: What a definition can read from a name or a table; other groups are ignored.
FIELDS = ("speaker", "emotion", "text_id", "gender", "intensity")
#: How the emotions of a corpus came about: what a model trained on it can be trusted with depends on it.
SPEECH = ("acted", "elicited", "spontaneous", "synthetic")


@dataclass(frozen=True)
class CorpusDefinition:
    """What is known of a corpus before any of its files is seen.

    Exactly one of ``pattern``, ``folders`` and ``table`` is given.

    Attributes:
        name: also the corpus's folder below ``MSER_CORPORA``.
        language: ISO 639-1 code.
        emotions: source label -> unified label; null for a label that is left out on purpose.
        pattern: matched in full on the path relative to the corpus folder, without suffix.
        folders: what each folder level names, from the corpus folder down.
        table: ``file``, ``path`` (column of the audio path) and ``columns`` (field -> column).
        genders: source gender -> female or male. gender: of all speakers.
        speakers: speaker -> ``{gender: ...}``.
        expected: ``utterances``, ``speakers``, ``emotions`` as published.
        speech: one of :data:`SPEECH`, if known.
    """

    name: str
    title: str
    language: str
    licence: str
    citation: str
    get: str
    emotions: Mapping[str, str | None]
    pattern: str | None = None
    folders: tuple[str, ...] | None = None
    table: Mapping[str, Any] | None = None
    genders: Mapping[str, str] = field(default_factory=dict)
    gender: str | None = None
    speakers: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    expected: Mapping[str, Any] = field(default_factory=dict)
    speech: str | None = None
    source: Path | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        self._check_text()
        given = [kind for kind in ("pattern", "folders", "table") if getattr(self, kind) is not None]
        if len(given) != 1:
            self._fail("pattern, folders, table", "exactly one of them", given or "none")
        if not re.fullmatch(r"[a-z]{2,3}", self.language):
            self._fail("language", "an ISO 639-1 code such as de", self.language)
        unknown = {label for label in self.emotions.values() if label} - set(load_labels())
        if unknown:
            self._fail("emotions", f"labels of labels.yaml: {', '.join(load_labels())}", sorted(unknown))
        if self.speech not in (None, *SPEECH):
            self._fail("speech", f"one of {', '.join(SPEECH)}, or no such key", self.speech)
        if self.pattern is not None:
            self._check_pattern(self.pattern)
        if self.folders is not None and "emotion" not in self.folders:
            self._fail("folders", "a level named emotion", list(self.folders))
        if self.table is not None and not {"file", "path", "columns"} <= set(self.table):
            self._fail("table", "the keys file, path and columns", sorted(self.table))

    def _check_text(self) -> None:
        """YAML reads no, 03 and on as something else than text where the quotes are forgotten."""
        for name in ("name", "language", "pattern"):
            value = getattr(self, name)
            if not isinstance(value, str) and (name != "pattern" or value is not None):
                self._fail(name, "text; put it in quotes", value)
        for name in ("emotions", "genders", "speakers"):
            value = getattr(self, name)
            if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
                self._fail(name, "a mapping from text; put numbers, yes and no in quotes", value)

    def _check_pattern(self, pattern: str) -> None:
        try:
            groups = set(re.compile(pattern).groupindex)
        except re.error as error:
            self._fail("pattern", "a regular expression", error)
        if not {"speaker", "emotion"} <= groups:
            self._fail("pattern", "named groups speaker and emotion", sorted(groups))

    def _fail(self, name: str, expected: object, found: object) -> None:
        raise ConfigError(
            f"The definition of corpus {self.name!r} cannot be used.",
            file=self.source,
            field=name,
            expected=expected,
            found=found,
        )

    @classmethod
    def from_yaml(cls, path: Path) -> CorpusDefinition:
        """Reads one definition.

        Raises:
            ConfigError: unknown or missing keys, or values that do not fit.
        """
        content = read_yaml(path)
        known = {item.name for item in fields(cls)} - {"source"}
        required = {"name", "title", "language", "licence", "citation", "get", "emotions"}
        if not isinstance(content, dict) or set(content) - known or required - set(content):
            keys = set(content) if isinstance(content, dict) else set()
            raise ConfigError(
                "A corpus definition has unknown or missing keys.",
                file=path,
                field=", ".join(sorted(map(str, keys - known | required - keys))) or None,
                expected=f"{', '.join(sorted(required))} and one of pattern, folders, table",
                found=", ".join(sorted(map(str, keys))) or type(content).__name__,
            )
        if content.get("folders") is not None:
            content["folders"] = tuple(content["folders"])
        return cls(**content, source=path)

    @property
    def fingerprint(self) -> str:
        """Hash of what decides the labels: nothing else of the file matters to a manifest."""
        names = ("name", "language", "emotions", "pattern", "folders", "table", "genders", "gender", "speakers")
        return fingerprint({name: _plain(getattr(self, name)) for name in names})

    def reader(self, folder: Path) -> LabelReader:
        """A reader of the labels of the files below ``folder``."""
        return LabelReader(self, folder)


class LabelReader:
    """Reads the fields of one file after another by a definition."""

    def __init__(self, definition: CorpusDefinition, folder: Path) -> None:
        self.definition = definition
        self.pattern = re.compile(definition.pattern) if definition.pattern else None
        self.ambiguous: set[str] = set()
        self.rows = self._read_table(folder, definition.table) if definition.table else {}

    def _read_table(self, folder: Path, table: Mapping[str, Any]) -> dict[str, dict[str, str]]:
        path = folder / table["file"]
        try:
            with path.open(encoding="utf-8-sig", newline="") as file:
                rows = list(csv.DictReader(file, delimiter=table.get("delimiter", ",")))
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise CorpusError("The table of a corpus could not be read.", file=path, found=error) from error
        columns = set(rows[0]) if rows else set()
        needed = {table["path"], *table["columns"].values()}
        if needed - columns:
            raise CorpusError(
                "The table of a corpus lacks columns.",
                file=path,
                expected=sorted(needed),
                found=sorted(columns),
                hint="mend `table` in the definition",
            )
        by_path: dict[str, dict[str, str]] = {}
        for row in rows:
            place = _composed(row[table["path"]] or "")
            if by_path.setdefault(place, row) != row:
                self.ambiguous.add(place)
        return by_path

    def fields_of(self, relative: PurePosixPath) -> dict[str, str]:
        """The fields a file's place gives: speaker, emotion as written, text_id, gender, intensity.

        Args:
            relative: path of the file below the corpus folder.

        Raises:
            CorpusError: the name does not fit, or its emotion or gender is not in the definition.
        """
        found = self._raw_fields(relative)
        if found.get("emotion") not in self.definition.emotions:
            raise CorpusError(f"emotion {found.get('emotion')!r} is not in the definition")
        if not found.get("speaker"):
            raise CorpusError("no speaker is given by its name, folder or table")
        if leads_out(found["speaker"]):
            raise CorpusError(f"results are named after speakers, and {found['speaker']!r} leads out of their folder")
        found["gender"] = self._gender(found)
        return found

    def _raw_fields(self, relative: PurePosixPath) -> dict[str, str]:
        relative = PurePosixPath(_composed(str(relative)))
        if self.pattern:
            match = self.pattern.fullmatch(str(relative.with_suffix("")))
            if match is None:
                raise CorpusError("the name does not match the pattern")
            groups = match.groupdict()
        elif self.definition.folders:
            levels = relative.parts[:-1]
            if len(levels) < len(self.definition.folders):
                raise CorpusError(f"expected folders {'/'.join(self.definition.folders)} above the file")
            groups = dict(zip(self.definition.folders, levels, strict=False))
        else:
            names = [str(relative), str(relative.with_suffix(""))]
            row = self.rows.get(names[0]) or self.rows.get(names[1])
            if row is None:
                raise CorpusError("no row of the table names it")
            if self.ambiguous.intersection(names):
                raise CorpusError("several rows of the table name it, and differ")
            columns = self.definition.table["columns"] if self.definition.table else {}
            groups = {name: row[column] for name, column in columns.items()}
        return {name: str(value) for name, value in groups.items() if name in FIELDS and value is not None}

    def _gender(self, found: Mapping[str, str]) -> str:
        if "gender" in found:
            if found["gender"] not in self.definition.genders:
                raise CorpusError(f"gender {found['gender']!r} is not in the definition")
            return self.definition.genders[found["gender"]]
        known = self.definition.speakers.get(found["speaker"], {})
        return known.get("gender") or self.definition.gender or ""


def load_definitions(extra: Path | None = None) -> dict[str, CorpusDefinition]:
    """Every corpus definition by name, the user's own folder last so that it can replace one.

    Args:
        extra: the user's own folder of definitions (``MSER_DEFINITIONS``).

    Raises:
        ConfigError: a definition cannot be used, or ``extra`` is no folder.
    """
    if extra is not None and not extra.is_dir():
        raise ConfigError("The folder of own corpus definitions does not exist.", file=extra, field="MSER_DEFINITIONS")
    folders = [DATA_FOLDER / "corpora", *([extra] if extra else [])]
    paths = [path for folder in folders for path in sorted(folder.glob("*.yaml"))]
    return {definition.name: definition for definition in map(CorpusDefinition.from_yaml, paths)}


def corpora_of(languages: Iterable[str], definitions: Mapping[str, CorpusDefinition]) -> list[CorpusDefinition]:
    """The definitions of the given languages, in that order.

    Raises:
        ConfigError: a language has no definition, or is none.
    """
    known = sorted({definition.language for definition in definitions.values()})
    chosen = []
    for language in languages:
        of_language = [item for item in definitions.values() if item.language == language]
        if not of_language:
            raise ConfigError(
                f"No corpus of language {language!r} is defined.",
                field="LANG",
                expected=f"one or several of: {' '.join(known)}",
                found=language,
                hint="choose one of these, or add a definition (data_manifest/README.md)",
            )
        chosen += of_language
    return chosen


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else list(value) if isinstance(value, tuple) else value


def _composed(text: str) -> str:
    """Names as definitions and tables are written: macOS stores an umlaut as a letter and an accent."""
    return unicodedata.normalize("NFC", text)
