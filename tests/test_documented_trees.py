"""Every shipped definition reads the names that its corpus's documentation gives."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from mser.corpora import CorpusDefinition, LabelReader, load_definitions
from mser.corpora.check import unlike_example
from mser.corpora.outcome import read_names

#: Modules with file lists that were written without a look at the definitions.
MODULES = sorted(path.stem for path in Path(__file__).parent.glob("documented_trees_*.py"))
SOURCES = [import_module(name) for name in MODULES]
TREES: dict[str, Any] = {name: tree for source in SOURCES for name, tree in source.TREES.items()}
TABLES: dict[str, Any] = {name: tables for source in SOURCES for name, tables in source.TABLES.items()}
COMPLETE: set[str] = {name for source in SOURCES for name in source.COMPLETE}


@cache
def shipped() -> dict[str, CorpusDefinition]:
    return load_definitions()


def made(content: Any) -> Any:
    """A list or table, or what a function makes of it."""
    return content() if callable(content) else content


def reader_of(name: str, folder: Path) -> LabelReader:
    """The reader of a definition, beside the tables of its corpus where these are documented."""
    tables: Mapping[str, str] = made(TABLES.get(name, {}))
    for place, text in tables.items():
        path = folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding=(shipped()[name].table or {}).get("encoding", "utf-8"))
    return shipped()[name].reader(folder)


def test_there_are_trees_of_known_corpora_alone() -> None:
    assert MODULES
    assert set(TREES) <= set(shipped())
    assert set(TABLES) <= set(TREES)
    assert set(TREES) >= COMPLETE
    named = [name for source in SOURCES for name in source.TREES]
    assert len(named) == len(set(named))


@pytest.mark.parametrize("name", sorted(TREES))
def test_every_documented_path_is_read_or_skipped(name: str, tmp_path: Path) -> None:
    paths = [PurePosixPath(path) for path in made(TREES[name])]
    assert paths
    assert len(paths) == len(set(paths))
    found = read_names(reader_of(name, tmp_path), paths)
    assert found.unlike == []
    assert found.unmapped == {}
    assert found.utterances
    if name in COMPLETE:
        expected = shipped()[name].expected
        counts = {"utterances": len(found.utterances), "speakers": len(found.speakers), "emotions": found.emotions}
        assert {key: counts[key] for key in expected} == dict(expected)


@pytest.mark.parametrize("name", sorted(shipped()))
def test_the_examples_of_a_definition_are_read_as_stated(name: str, tmp_path: Path) -> None:
    definition = shipped()[name]
    if not definition.examples or (definition.table is not None and name not in TABLES):
        return
    reader = reader_of(name, tmp_path)
    unlike = {path: unlike_example(reader, path, stated) for path, stated in definition.examples.items()}
    assert {path: text for path, text in unlike.items() if text} == {}
