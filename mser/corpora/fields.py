"""What the keys of a corpus definition may hold."""

from __future__ import annotations

import codecs
import re
import string
import unicodedata
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mser.config import is_name
from mser.corpora.nested import check_rows
from mser.labels import load_labels

if TYPE_CHECKING:
    from mser.corpora.definition import CorpusDefinition

#: What a definition can read from a name or a table; other groups are ignored.
FIELDS = ("speaker", "emotion", "text_id", "gender", "intensity")
#: How the emotions of a corpus came about: what a model trained on it can be trusted with depends on it.
SPEECH = ("acted", "elicited", "spontaneous", "synthetic", "mixed")
#: How the recordings are got: from an open link, with an account of a data platform, by a form or mail, for money.
ACCESS = ("direct", "account", "form", "paid")
#: What can be known to be wrong with a corpus.
DEFECTS = {
    "misnamed": "files whose names say something wrong, or break the scheme",
    "corrupt": "files that cannot be decoded, are empty or cut off",
    "duplicates": "the same recording more than once",
    "one-speaker": "a single speaker: nothing independent of speakers can be measured",
    "no-speakers": "speakers are not told apart, so no split can be known to be disjoint",
    "speaker-label": "speakers that carry a single emotion: the voice gives the label away",
    "text-label": "texts that are said in a single emotion: the words give the label away",
    "counts": "copies whose counts differ from the published ones",
    "labels": "labels that are doubtful, or no categories",
}
GENDERS = ("female", "male")
#: What :func:`is_folder_name` takes, for people.
FOLDER_NAME = "the name of a folder: no path, no control characters, UTF-8, and no dot at its beginning"
#: Keys of ``table``.
TABLE_KEYS = {"file", "files", "path", "columns", "rows", "lines", "by", "delimiter", "encoding"}
CHECKSUMS = {"sha256": 64, "md5": 32}
DOWNLOAD_KEYS = {"url", "bytes", "into", "name", *CHECKSUMS}
#: Archives whose records tell the sizes and checksums of their files.
ARCHIVES = ("zenodo", "figshare")


@dataclass(frozen=True)
class Places:
    """Where the keys of a file stand: path of keys -> line."""

    path: Path | None = None
    lines: Mapping[tuple[str, ...], int] = field(default_factory=dict)

    def of(self, keys: tuple[str, ...]) -> str | None:
        """``file:line`` of a key, or of the nearest one above it that is there."""
        while keys and keys not in self.lines:
            keys = keys[:-1]
        return None if self.path is None else f"{self.path}:{self.lines[keys]}" if keys else str(self.path)

    def __str__(self) -> str:
        return str(self.path)


def is_folder_name(text: str) -> bool:
    """Whether a text names one folder and no path: it can be joined to any other without leading elsewhere.

    >>> is_folder_name("Kannada Emotional Speech (1)"), is_folder_name("../a"), is_folder_name(".a")
    (True, False, False)
    """
    # Categories of controls, ends of lines, and halves of letters, which stand for bytes that are not UTF-8.
    odd = any(unicodedata.category(one) in ("Cc", "Cs", "Zl", "Zp") for one in text)
    return bool(text.strip()) and not text.startswith(".") and not odd and not set(text) & {"/", "\\"}


def check_text(one: CorpusDefinition) -> None:
    """YAML reads no, 03 and on as something else than text where the quotes are forgotten.

    Raises:
        ConfigError: a value is of another kind than its key is for.
    """
    needed = ("name", "title", "language", "licence", "citation", "get")
    for name in (*needed, "folder", "pattern", "skip", "speaker", "gender", "speech", "access", "page", "documented"):
        text = getattr(one, name)
        if not isinstance(text, str) and (name in needed or text is not None):
            one.fail(name, "text; put it in quotes", text)
    for name in ("emotions", "genders", "speakers", "expected", "examples"):
        value = getattr(one, name)
        if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
            one.fail(name, "a mapping from text; put numbers, yes and no in quotes", value)
    if not re.fullmatch(r"[\w-][\w.-]*", one.name):
        one.fail("name", "the name of a folder: letters, digits, - and _", one.name)
    if not is_folder_name(one.place):
        one.fail("folder", FOLDER_NAME, one.place)
    for label, to in one.emotions.items():
        if to is not None and not isinstance(to, str):
            one.fail(("emotions", label), "a label of labels.yaml in quotes, or null", to)
    for name in ("folders", "downloads", "defects", "aliases"):
        value = getattr(one, name)
        if not isinstance(value, tuple) and value is not None:
            one.fail(name, "a list", value)
        if name in ("folders", "aliases") and not all(isinstance(item, str) for item in value or ()):
            one.fail(name, "a list of texts; put numbers, yes and no in quotes", list(value))


def check_counts(one: CorpusDefinition) -> None:
    """Raises ConfigError where ``expected`` or ``examples`` hold what nothing can be compared with."""
    for key, value in one.expected.items():
        if key in ("utterances", "speakers"):
            _require_count(one, ("expected", key), value, 1)
        elif key == "emotions" and isinstance(value, Mapping):
            for label, number in value.items():
                _require_one_of(one, ("expected", key, str(label)), label, load_labels())
                _require_count(one, ("expected", key, label), number, 0)
        else:
            one.fail(("expected", key), "utterances, speakers, and emotions with a number for each label", value)
    for path, stated in one.examples.items():
        if not isinstance(stated, Mapping) or set(stated) - set(FIELDS):
            one.fail(("examples", path), f"some of {', '.join(FIELDS)}, each with what is read", stated)


def _require_count(one: CorpusDefinition, key: tuple[str, ...], value: object, least: int) -> None:
    if type(value) is not int or value < least:
        one.fail(key, f"a whole number from {least} on", value)


def check_words(one: CorpusDefinition) -> None:
    """Raises ConfigError where a key with a fixed set of words holds another one."""
    _require_one_of(one, "speech", one.speech, SPEECH)
    _require_one_of(one, "access", one.access, ACCESS)
    _require_one_of(one, "gender", one.gender, GENDERS)
    for written, gender in one.genders.items():
        _require_one_of(one, ("genders", written), gender, GENDERS)
    for speaker, known in one.speakers.items():
        if not isinstance(known, Mapping) or set(known) - {"gender"}:
            one.fail(("speakers", speaker), "{gender: female} or {gender: male}", known)
        _require_one_of(one, ("speakers", speaker), known.get("gender"), GENDERS)
    for number, defect in enumerate(one.defects):
        if not isinstance(defect, Mapping) or set(defect) != {"kind", "note"}:
            one.fail(("defects", str(number)), "kind and note", defect)
        _require_one_of(one, ("defects", str(number), "kind"), defect["kind"], DEFECTS)
    for number, download in enumerate(one.downloads):
        _check_download(one, ("downloads", str(number)), download)
    if one.record is not None:
        _check_record(one, one.record)


def _check_download(one: CorpusDefinition, key: tuple[str, ...], found: Any) -> None:
    keys = set(found) if isinstance(found, Mapping) else set()
    if not {"url", "bytes"} <= keys or keys - DOWNLOAD_KEYS or not keys & set(CHECKSUMS):
        one.fail(key, "url, bytes, and sha256 or md5; besides name and into", found)
    if not re.fullmatch(r"https?://\S+", str(found["url"])):
        one.fail((*key, "url"), "an address that begins with https://", found["url"])
    if type(found["bytes"]) is not int or found["bytes"] < 1:
        one.fail((*key, "bytes"), "the number of bytes", found["bytes"])
    for kind in keys & set(CHECKSUMS):
        if not re.fullmatch(f"[0-9a-f]{{{CHECKSUMS[kind]}}}", str(found[kind])):
            one.fail((*key, kind), f"{CHECKSUMS[kind]} hexadecimal digits in lower case and in quotes", found[kind])


def _check_record(one: CorpusDefinition, found: Any) -> None:
    keys = set(found) if isinstance(found, Mapping) else set()
    given = [archive for archive in ARCHIVES if archive in keys]
    if len(given) != 1 or "files" not in keys or keys - {*ARCHIVES, "files", "into"}:
        one.fail("record", f"files and one of {', '.join(ARCHIVES)}; besides into", found)
    number = found[given[0]]
    if not isinstance(number, str) or not re.fullmatch(r"[1-9][0-9]{0,15}", number):
        one.fail(("record", given[0]), "the number of the record, digits in quotes", number)
    files = found["files"]
    if not isinstance(files, list) or not files:
        one.fail(("record", "files"), "a list of names, or of patterns such as '*.zip'", files)
    for place, name in enumerate(files):
        if not is_name(name):
            one.fail(("record", "files", str(place)), "the name of a file, or a pattern, without slashes", name)


def _require_one_of(one: CorpusDefinition, key: str | tuple[str, ...], value: object, allowed: Collection[str]) -> None:
    if value is not None and (not isinstance(value, str) or value not in allowed):
        one.fail(key, f"one of {', '.join(allowed)}", value)


def check_layout(one: CorpusDefinition) -> None:
    """Raises ConfigError where pattern, folders and table do not give a speaker and an emotion, or clash."""
    given = [kind for kind in ("pattern", "folders", "table") if getattr(one, kind) is not None]
    if not given or {"pattern", "folders"} <= set(given):
        one.fail(
            "pattern, folders, table", "pattern or folders, a table, or a table beside one of them", given or "none"
        )
    groups: dict[str, set[str]] = {}
    if one.pattern is not None:
        groups["pattern"] = _groups(one, "pattern", one.pattern)
    if one.skip is not None:
        _groups(one, "skip", one.skip)
    if one.folders is not None:
        groups["folders"] = set(one.folders)
    if one.table is not None:
        groups["table"] = _check_table(one, one.table)
    has = set().union(*groups.values()) | ({"speaker"} if one.speaker is not None else set())
    for name in ("speaker", "emotion"):
        if name not in has:
            key = "table" if list(groups) == ["table"] else next(iter(groups))
            fact = {"pattern": f"a group named {name}", "folders": f"a level named {name}", "table": f"a {name} column"}
            one.fail(key, fact[key] + (", or the key speaker" if name == "speaker" else ""), sorted(has) or "none")
    if one.speaker is not None:
        _check_speaker(one, one.speaker, groups)


def _check_speaker(one: CorpusDefinition, speaker: str, groups: Mapping[str, set[str]]) -> None:
    """One for all recordings, or joined from named groups and columns."""
    if any("speaker" in found for found in groups.values()):
        one.fail("speaker", "no such key where names or a table give the speaker", speaker)
    _require_braces(one, "speaker", speaker)
    named = groups.get("pattern", set()) | groups.get("table", set())
    unknown = sorted(set(joined_names(speaker)) - named)
    if unknown:
        one.fail("speaker", f"in braces groups of the pattern, or columns: {', '.join(sorted(named))}", unknown)


def _require_braces(one: CorpusDefinition, key: str | tuple[str, ...], text: str) -> None:
    """Raises ConfigError where the braces of a text that is joined from others do not close."""
    try:
        list(string.Formatter().parse(text))
    except ValueError as error:
        one.fail(key, "names in braces, such as {session}{sex}", f"{text}: {error}")


def joined_names(text: str) -> list[str]:
    """The names in braces of a text that is joined from others.

    >>> joined_names("{session}-{sex}"), joined_names("unknown")
    (['session', 'sex'], [])
    """
    return re.findall(r"\{(.+?)\}", text)


def _groups(one: CorpusDefinition, key: str | tuple[str, ...], pattern: str) -> set[str]:
    try:
        return set(re.compile(pattern).groupindex)
    except re.error as error:
        one.fail(key, "a regular expression", error)
        raise AssertionError from error  # fail always raises


def _check_table(one: CorpusDefinition, table: Any) -> set[str]:
    """The fields that the table gives."""
    keys = set(table) if isinstance(table, Mapping) else set()
    if keys - TABLE_KEYS or not keys & {"file", "files"} or {"file", "files"} <= keys:
        one.fail("table", f"file or files; of {', '.join(sorted(TABLE_KEYS))}", sorted(map(str, keys)) or table)
    if "files" in keys:
        if not isinstance(table["files"], Mapping) or keys & {"path", "lines"}:
            one.fail(("table", "files"), "table file -> path of its recordings, and no path or lines beside it", table)
        keys |= {"path"}
    _check_files(one, table)
    _require_one_of(one, ("table", "by"), table.get("by"), ("path", "name", "end"))
    levels = check_rows(one, table) & set(FIELDS)
    if "lines" in keys:
        found = _groups(one, ("table", "lines"), str(table["lines"]))
        if "path" not in found or keys & {"path", "columns", "delimiter"}:
            one.fail(
                ("table", "lines"), "a group named path, and no path, columns or delimiter beside it", sorted(found)
            )
        return found - {"path"}
    columns = table.get("columns")
    if "path" not in keys or not isinstance(columns, Mapping):
        one.fail("table", "path and columns, or lines", sorted(keys))
    # Others are of use where the speaker is joined from them.
    unknown = sorted(set(map(str, columns)) - set(FIELDS) - set(joined_names(one.speaker or "")))
    if unknown:
        one.fail(("table", "columns", unknown[0]), f"of {', '.join(FIELDS)}, or a name in speaker", unknown)
    for name, column in columns.items():
        if not isinstance(column, str):
            one.fail(("table", "columns", name), "the name of a column; put numbers in quotes", column)
    return set(columns) | levels


def _check_files(one: CorpusDefinition, table: Mapping[str, Any]) -> None:
    """Raises ConfigError where a table's files, their paths or the way they are written cannot be."""
    several = "files" in table
    for file, path in (table["files"] if several else {table["file"]: table.get("path", "path")}).items():
        if not isinstance(file, str) or not file or file.startswith("/") or ".." in file.split("/"):
            one.fail(("table", "files" if several else "file"), "a path below the folder of the corpus", file)
        key = ("table", "files", file) if several else ("table", "path")
        if not isinstance(path, str) or not path:
            one.fail(key, "the name of a column, or a text with columns in braces", path)
        _require_braces(one, key, path)
    delimiter, encoding = table.get("delimiter", ","), table.get("encoding", "utf-8")
    if not isinstance(delimiter, str) or len(delimiter) != 1:
        one.fail(("table", "delimiter"), "a single letter in quotes", delimiter)
    try:
        codecs.lookup(encoding)
    except (LookupError, TypeError):
        one.fail(("table", "encoding"), "an encoding that Python knows, such as utf-8 or cp1252", encoding)
