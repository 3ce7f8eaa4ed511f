"""Rows of a table in nested JSON: which level of its keys is a row, and where from a row its fields stand."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mser.errors import CorpusError

if TYPE_CHECKING:
    from mser.corpora.definition import CorpusDefinition

#: Bytes of the largest file that is read; labels of a million recordings take less.
LARGEST = 200_000_000
#: Keys, and letters of each, that a message shows.
SHOWN, LETTERS = 5, 40
NAME = re.compile(r"\{([^{}]+)\}")


def check_rows(one: CorpusDefinition, table: Mapping[str, Any]) -> set[str]:
    """The names of the levels that ``rows`` of a table go through; none where its files are not JSON.

    Raises:
        ConfigError: rows without a JSON file, or the other way round, or keys that lead nowhere.
    """
    files = list(table["files"]) if "files" in table else [table["file"]]
    nested = [file for file in files if isinstance(file, str) and file.lower().endswith(".json")]
    if "rows" not in table:
        if nested and "lines" not in table:
            one.fail("table", "rows beside a .json file: its levels, such as '{dialogue}/{utterance}'", nested[0])
        return set()
    rows, places = table["rows"], table["files"] if "files" in table else {"path": table.get("path")}
    if len(nested) < len(files) or {"lines", "delimiter"} & set(table):
        one.fail(("table", "rows"), "rows of .json files alone, and no lines or delimiter beside them", files)
    parts = rows.split("/") if isinstance(rows, str) else [""]
    names = [match[1] for part in parts if (match := NAME.fullmatch(part))]
    if not names or not all(NAME.fullmatch(part) or re.fullmatch("[^{}]+", part) for part in parts):
        one.fail(
            ("table", "rows"),
            "keys with / between them, and names of levels in braces: '{dialogue}/turns/{turn}'",
            rows,
        )
    if len(set(names)) < len(names):
        one.fail(("table", "rows"), "another name for every level", rows)
    columns = table.get("columns")
    paths: dict[tuple[str, ...], Any] = {
        ("columns", name): column for name, column in (columns.items() if isinstance(columns, Mapping) else ())
    }
    paths |= {("files", key) if "files" in table else (key,): place for key, place in places.items()}
    for key, path in paths.items():
        whole = key[0] != "columns" and isinstance(path, str) and "{" in path
        kept = [path] if whole else str(path).removeprefix("/").split("/")
        if not all(re.fullmatch(r"(?:[^{}]|\{[^{}]+\})+", part) for part in kept):
            one.fail(("table", *map(str, key)), "keys with / between them, and names in braces", path)
    return set(names)


def rows_of(
    path: Path, table: Mapping[str, Any], place: str, wanted: Collection[str]
) -> Iterator[tuple[str, dict[str, str]]]:
    """Path and fields of each row of a JSON file.

    Args:
        place: of the recording: keys from the row, or a text with names in braces.
        wanted: names of levels that are fields themselves.

    Raises:
        CorpusError: damaged or too large; keys that are missing, or hold no text or number.
    """
    root = _content(path, table.get("encoding", "utf-8-sig"))
    for row in _rows(path, root, table["rows"].split("/")):
        fields = {name: key for name, key in row.names.items() if name in wanted}
        fields |= {name: row.value(column) for name, column in table["columns"].items()}
        recording = row.filled(place) if "{" in place else row.value(place)
        # Escapes can name halves of letters, which no file and no other program takes.
        if odd := next((text for text in (recording, *fields.values()) if re.search("[\ud800-\udfff]", text)), None):
            raise _unlike(path, row.keys, "no text or number", "letters of Unicode", odd)
        yield recording, fields


@dataclass(frozen=True)
class _Row:
    """A row: the keys that lead to it, and those of them that have a name."""

    path: Path
    root: Any
    node: Any
    keys: tuple[str, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)

    def below(self, key: str, node: Any, name: str = "") -> _Row:
        names = {**self.names, name: key} if name else self.names
        return _Row(self.path, self.root, node, (*self.keys, key), names)

    def value(self, keys: str) -> str:
        """What stands behind keys, from the row downwards, or from the top where they begin with a slash."""
        node, passed = (self.root, ()) if keys.startswith("/") else (self.node, self.keys)
        for part in keys.removeprefix("/").split("/"):
            key = self.filled(part)
            node, passed = _child(self.path, node, key, passed), (*passed, key)
        return _text(self.path, node, passed)

    def filled(self, text: str) -> str:
        """A text with its names in braces replaced: by the key of a level, or else by what the row holds."""
        return NAME.sub(lambda match: self._named(match[1]), text)

    def _named(self, name: str) -> str:
        if name in self.names:
            return self.names[name]
        return _text(self.path, _child(self.path, self.node, name, self.keys, "level or "), (*self.keys, name))


def _rows(path: Path, root: Any, parts: list[str]) -> list[_Row]:
    """The rows, level by level: as deep as there are parts, however deep the file is."""
    level = [_Row(path, root, root)]
    for part in parts:
        name = NAME.fullmatch(part)
        below = []
        for row in level:
            if name is None:
                below.append(row.below(part, _child(path, row.node, part, row.keys)))
            elif isinstance(row.node, dict):
                below += [row.below(key, node, name[1]) for key, node in row.node.items()]
            elif isinstance(row.node, list):
                below += [row.below(str(number), node, name[1]) for number, node in enumerate(row.node)]
            else:
                raise _unlike(path, row.keys, "no keys", f"keys or a list, as the level {part} of rows", row.node)
        level = below
    return level


def _content(path: Path, encoding: str) -> Any:
    """What a JSON file holds, numbers as they are written."""
    size = path.stat().st_size
    if size > LARGEST:
        raise CorpusError(
            "The table of a corpus is too large.",
            file=path,
            expected=f"at most {LARGEST // 10**6} MB",
            found=f"{size / 10**6:.0f} MB",
        )
    try:
        return json.loads(path.read_text(encoding=encoding), parse_int=str, parse_float=str)
    except json.JSONDecodeError as error:
        found = f"{error.msg} in line {error.lineno}, column {error.colno}"
    except RecursionError:
        found = "brackets in brackets without end"
    raise CorpusError(
        "The table of a corpus is no JSON, or damaged.",
        file=path,
        expected="the file that comes with it",
        found=found,
        hint="get it anew",
    )


def _child(path: Path, node: Any, key: str, keys: tuple[str, ...], kind: str = "") -> Any:
    if isinstance(node, dict) and key in node:
        return node[key]
    if isinstance(node, list) and re.fullmatch("[0-9]{1,9}", key) and int(key) < len(node):
        return node[int(key)]
    raise _unlike(path, keys, f"no {kind}key {_short(key)}", f"the {kind}key {_short(key)}", node)


def _text(path: Path, node: Any, keys: tuple[str, ...]) -> str:
    if not isinstance(node, str):
        raise _unlike(path, keys, "no text or number", "a text or a number", node)
    return node


def _unlike(path: Path, keys: tuple[str, ...], lacking: str, expected: str, node: Any) -> CorpusError:
    return CorpusError(
        f"The table of a corpus has {lacking} where its definition looks for one.",
        file=path,
        field="/".join(_short(key, "") for key in keys) or "the whole file",
        expected=expected,
        found=_kind(node),
        hint="mend `table` in the definition",
    )


def _kind(node: Any) -> str:
    if isinstance(node, dict):
        more = f" and {len(node) - SHOWN} more" if len(node) > SHOWN else ""
        return f"the keys {', '.join(_short(key) for key in list(node)[:SHOWN])}{more}" if node else "no keys"
    if isinstance(node, list):
        return f"a list of {len(node)}"
    return f"the text {_short(node)}" if isinstance(node, str) else json.dumps(node)


def _short(text: str, quote: str = "'") -> str:
    """A key as messages show it: whatever a file holds, on one line."""
    shown = ascii(text)[1:-1] if not text.isprintable() else text
    return f"{quote}{shown[:LETTERS]}{'...' if len(shown) > LETTERS else ''}{quote}"
