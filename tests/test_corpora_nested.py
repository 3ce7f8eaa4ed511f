"""Tables in nested JSON: levels of keys as rows, fields from there or from the top, and what cannot be read."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml
from documented_trees_b import M3ED_DRAMAS, m3ed, m3ed_tables, thai_ser_tables

from mser.corpora import CorpusDefinition, LabelReader, load_definitions
from mser.corpora import nested as module
from mser.corpora.check import check
from mser.errors import ConfigError, CorpusError

HEAD: dict[str, Any] = {
    "name": "own", "title": "t", "language": "it", "licence": "l", "citation": "c", "get": "g",
    "emotions": {"ang": "anger", "neu": "neutral"},
}  # fmt: skip
TABLE: dict[str, Any] = {
    "file": "labels.json",
    "rows": "{talk}/turns/{turn}",
    "path": "{who}_{talk}_{turn}",
    "columns": {"speaker": "/{talk}/people/{who}/name", "emotion": "votes/main"},
}
CONTENT: dict[str, Any] = {
    "one": {
        "people": {"A": {"name": "Ada"}, "B": {"name": "Bea"}},
        "turns": {"1": {"who": "A", "votes": {"main": "ang"}}, "2": {"who": "B", "votes": {"main": "neu"}}},
    },
    "two": {"people": {"A": {"name": "Bea"}}, "turns": {"1": {"who": "A", "votes": {"main": "neu"}}}},
}


def definition(folder: Path, table: dict[str, Any], **changes: Any) -> CorpusDefinition:
    path = folder / "own.yaml"
    content = {key: value for key, value in {**HEAD, "table": table, **changes}.items() if value is not None}
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return CorpusDefinition.from_yaml(path)


def reader(folder: Path, content: Any, table: dict[str, Any] | None = None, **changes: Any) -> LabelReader:
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / "labels.json").write_text(text, encoding="utf-8")
    return definition(folder, {**TABLE, **(table or {})}, **changes).reader(folder)


def fields(one: LabelReader, path: str) -> dict[str, str]:
    return {name: value for name, value in one.fields_of(PurePosixPath(path)).items() if value}


def changed(keys: str, value: Any) -> dict[str, Any]:
    """The content with another value behind keys; None takes the key away."""
    content: dict[str, Any] = json.loads(json.dumps(CONTENT))
    *above, last = keys.split("/")
    node = content
    for key in above:
        node = node[key]
    node[last] = value
    if value is None:
        del node[last]
    return content


def test_levels_of_keys_are_rows_and_columns_start_at_the_row_or_at_the_top(tmp_path: Path) -> None:
    one = reader(tmp_path, CONTENT)
    assert set(one.rows) == {"A_one_1", "B_one_2", "A_two_1"}
    assert fields(one, "A_one_1.wav") == {"speaker": "Ada", "emotion": "ang"}
    assert fields(one, "B_one_2.flac") == fields(one, "A_two_1.wav") == {"speaker": "Bea", "emotion": "neu"}
    with pytest.raises(CorpusError, match="no row"):
        one.fields_of(PurePosixPath("B_two_1.wav"))


@pytest.mark.parametrize("start", ["", "\ufeff"], ids=["plain", "byte order mark"])
def test_lists_count_as_keys_and_numbers_are_read_as_they_are_written(tmp_path: Path, start: str) -> None:
    text = (
        start + '{"data": [{"files": ["x/1.wav"], "who": 07.50, "e": "ang"}, {"files": ["x/2"], "who": 3, "e": "neu"}]}'
    )
    table = {
        "rows": "data/{n}",
        "path": "files/0",
        "columns": {"speaker": "who", "emotion": "e", "text_id": "/data/{n}/who"},
    }
    one = reader(tmp_path, text.replace("07.50", "7.50"), table)
    assert fields(one, "x/1.wav") == {"speaker": "7.50", "emotion": "ang", "text_id": "7.50"}
    assert fields(one, "x/2.wav")["speaker"] == "3"


def test_a_level_that_is_called_like_a_field_is_one(tmp_path: Path) -> None:
    table = {"rows": "{speaker}/{file}", "path": "{speaker}/{file}", "columns": {"emotion": "/{speaker}/{file}"}}
    one = reader(tmp_path, {"s1": {"a.wav": "ang"}, "s2": {"a.wav": "neu"}}, table)
    assert fields(one, "s1/a.flac") == {"speaker": "s1", "emotion": "ang"}
    assert fields(one, "s2/a.flac") == {"speaker": "s2", "emotion": "neu"}


def test_several_files_have_paths_of_their_own(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.JSON").write_text(json.dumps({"1": {"s": name, "e": "ang"}}), encoding="utf-8")
    table = {
        "files": {"a.JSON": "a/{n}", "b.JSON": "b/{n}"},
        "rows": "{n}",
        "columns": {"speaker": "s", "emotion": "e"},
    }
    one = definition(tmp_path, table).reader(tmp_path)
    assert [fields(one, f"{name}/1.wav")["speaker"] for name in ("a", "b")] == ["a", "b"]


def test_speakers_of_one_level_are_joined_from_groups_and_columns(tmp_path: Path) -> None:
    columns = {"name": TABLE["columns"]["speaker"], "emotion": "votes/main"}
    pattern = r"[AB]_(?P<talk>[a-z]+)_\d+"
    one = reader(tmp_path, CONTENT, {"columns": columns}, pattern=pattern, speaker="{talk}-{name}")
    assert fields(one, "B_one_2.wav")["speaker"] == "one-Bea"
    assert fields(one, "A_two_1.wav")["speaker"] == "two-Bea"
    with pytest.raises(ConfigError, match="or columns: emotion, name, talk") as error:
        definition(tmp_path, {**TABLE, "columns": columns}, pattern=pattern, speaker="{talk}-{name}-{turn}")
    assert error.value.field == "speaker"
    with pytest.raises(ConfigError, match="or a name in speaker") as error:
        definition(tmp_path, {**TABLE, "columns": columns}, speaker="nobody")
    assert error.value.field == "table.columns.name"


def test_rows_that_name_a_file_twice_and_differ_are_not_used(tmp_path: Path) -> None:
    one = reader(tmp_path, CONTENT, {"path": "{talk}"})
    with pytest.raises(CorpusError, match="several rows"):
        one.fields_of(PurePosixPath("one.wav"))
    assert fields(one, "two.wav")["speaker"] == "Bea"


@pytest.mark.parametrize(
    ("content", "place", "expected", "found"),
    [
        (changed("one/turns", None), "one", "the key 'turns'", "the keys 'people'"),
        (changed("one/turns", 3), "one/turns", "keys or a list, as the level {turn} of rows", "the text '3'"),
        (changed("one/turns/2/who", None), "one/turns/2", "the level or key 'who'", "the keys 'votes'"),
        (changed("one/turns/2/who", "C"), "one/people", "the key 'C'", "the keys 'A', 'B'"),
        (changed("one/turns/2/who", ["A"]), "one/turns/2/who", "a text or a number", "a list of 1"),
        (changed("one/turns/2", {"who": "B"}), "one/turns/2", "the key 'votes'", "the keys 'who'"),
        (changed("one/turns/2/votes", {}), "one/turns/2/votes", "the key 'main'", "no keys"),
        (changed("one/turns/2/votes/main", True), "one/turns/2/votes/main", "a text or a number", "true"),
        (changed("one/turns/2/votes/main", {"a": 1}), "one/turns/2/votes/main", "a text or a number", "the keys 'a'"),
        (changed("one/turns/2/votes/main", float("nan")), "one/turns/2/votes/main", "a text or a number", "NaN"),
        (json.dumps(changed("one/people/A/name", 0)).replace("0", "null"), "one/people/A/name", "a number", "null"),
        (changed("one/people/A/name", "\ud800"), "one/turns/1", "letters of Unicode", r"\ud800"),
        (changed("one/turns/2", "neu"), "one/turns/2", "the level or key 'who'", "the text 'neu'"),
        (changed("x\n" + "y" * 99, 1), r"x\n" + "y" * 37 + "...", "the key 'turns'", "the text '1'"),
        ([[]], "0", "the key 'turns'", "a list of 0"),
        ("3", "the whole file", "keys or a list", "the text '3'"),
    ],
)  # fmt: skip
def test_a_file_that_is_laid_out_otherwise_is_named_with_the_place(
    tmp_path: Path, content: Any, place: str, expected: str, found: str
) -> None:
    with pytest.raises(CorpusError, match="where its definition looks for one") as error:
        reader(tmp_path, content)
    assert str(error.value.file) == str(tmp_path / "labels.json")
    assert error.value.field == place
    assert expected in str(error.value.expected)
    assert found in str(error.value.found)
    assert str(error.value).isascii()


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ('{"one": {"turns": {"1": ', "line 1, column 25"),
        ("", "line 1, column 1"),
        ("[" * 200_000, "brackets in brackets"),
        ('{"a": 1} {"b": 2}\n', "Extra data in line 1, column 10"),
    ],
    ids=["cut off", "empty", "deep", "lines"],
)
def test_a_file_that_is_damaged_is_named(tmp_path: Path, content: str, found: str) -> None:
    with pytest.raises(CorpusError, match="no JSON, or damaged") as error:
        reader(tmp_path, content)
    assert str(error.value.file) == str(tmp_path / "labels.json")
    assert found in str(error.value.found)


def test_files_that_are_missing_too_large_or_in_another_encoding_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = definition(tmp_path, TABLE)
    with pytest.raises(CorpusError, match="is not there"):
        one.reader(tmp_path)
    path = tmp_path / "labels.json"
    path.write_bytes(b'{"\xff": 1}')
    with pytest.raises(CorpusError, match="could not be read"):
        one.reader(tmp_path)
    with pytest.raises(CorpusError, match="where its definition looks for one"):
        definition(tmp_path, {**TABLE, "encoding": "cp1252"}).reader(tmp_path)
    path.unlink()
    path.mkdir()
    with pytest.raises(CorpusError, match="could not be read"):
        one.reader(tmp_path)
    path.rmdir()
    monkeypatch.setattr(module, "LARGEST", 2_000_000)
    path.write_bytes(b" " * 3_000_000)
    with pytest.raises(CorpusError, match="too large") as error:
        one.reader(tmp_path)
    assert (error.value.expected, error.value.found) == ("at most 2 MB", "3 MB")


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"file": "labels.csv"}, "table.rows", ".json files alone"),
        ({"delimiter": ";"}, "table.rows", "no lines or delimiter"),
        ({"lines": "(?P<path>x)", "path": None, "columns": None}, "table.rows", "no lines or delimiter"),
        ({"file": None, "path": None, "files": {"a.json": "{turn}", "b.csv": "{turn}"}}, "table.rows", "files alone"),
        ({"rows": None}, "table", "rows beside a .json file"),
        ({"rows": ["{talk}"]}, "table.rows", "names of levels in braces"),
        ({"rows": "talks/turns"}, "table.rows", "names of levels in braces"),
        ({"rows": "{talk}//{turn}"}, "table.rows", "keys with / between them"),
        ({"rows": "{talk}/t{turn}"}, "table.rows", "keys with / between them"),
        ({"rows": "{talk}/{talk}"}, "table.rows", "another name for every level"),
        ({"path": "a//b"}, "table.path", "keys with / between them"),
        ({"path": "{who"}, "table.path", "braces"),
        ({"path": "{}_{turn}"}, "table.path", "names in braces"),
        ({"columns": {"speaker": "votes//main", "emotion": "e"}}, "table.columns.speaker", "keys with /"),
        ({"columns": {"speaker": "/{talk", "emotion": "e"}}, "table.columns.speaker", "names in braces"),
        ({"columns": {"speaker": 3, "emotion": "e"}}, "table.columns.speaker", "quotes"),
        ({"columns": {"speaker": "who", "feeling": "e"}}, "table.columns.feeling", "of speaker, emotion"),
        ({"columns": {"speaker": "who"}}, "table", "emotion column"),
    ],
)
def test_rows_that_cannot_be_are_named_with_their_line(
    tmp_path: Path, changes: dict[str, Any], field: str, words: str
) -> None:
    table = {key: value for key, value in {**TABLE, **changes}.items() if value is not None}
    with pytest.raises(ConfigError, match=words) as error:
        definition(tmp_path, table)
    assert error.value.field == field
    assert str(error.value.file).startswith(f"{tmp_path / 'own.yaml'}:")


def test_m3ed_reads_who_speaks_from_the_dialogue_and_keeps_dramas_apart(tmp_path: Path) -> None:
    (tmp_path / "annotation.json").write_text(m3ed_tables()["annotation.json"], encoding="utf-8")
    one = load_definitions()["m3ed"].reader(tmp_path)
    read = {path: one.fields_of(PurePosixPath(path)) for path in m3ed()}
    expected = {f"{drama}_{name}" for drama, talks in M3ED_DRAMAS.items() for pair in talks for name in pair}
    assert {row["speaker"] for row in read.values()} == expected
    assert {"yijiarenzhiming_P1", "waixiangren_P1"} < expected
    assert {row["gender"] for row in read.values()} == {"female", "male"}
    assert read["modality_speech/A_yijiarenzhiming_1_1.wav"]["speaker"] == "yijiarenzhiming_p3"
    # The letter of another speaker than the annotation names is no row of it.
    with pytest.raises(CorpusError, match="no row"):
        one.fields_of(PurePosixPath("modality_speech/B_yijiarenzhiming_1_1.wav"))


def test_thai_ser_reads_improvised_turns(tmp_path: Path) -> None:
    (tmp_path / "emotion_label.json").write_text(thai_ser_tables()["emotion_label.json"], encoding="utf-8")
    one = load_definitions()["thai_ser"].reader(tmp_path)
    found = one.fields_of(PurePosixPath("studio1-10/studio001/con/s001_con_actor001_impro4_8.flac"))
    assert (found["speaker"], found["emotion"]) == ("001", "Sad")
    for microphone in ("clip", "middle"):
        assert one.skips(PurePosixPath(f"studio001/{microphone}/s001_{microphone}_actor001_impro1_8.flac"))


def test_check_tells_what_a_table_lacks(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "labels.json").write_text(json.dumps(changed("two/people/A/name", None)), encoding="utf-8")
    (found,) = check(definition(tmp_path, TABLE), tmp_path).findings
    assert found.severity == "error"
    assert "no key 'name'" in found.sentence
    assert "labels.json two/people/A" in found.sentence
