"""Corpus definitions: names to fields for the shipped corpora, the three layouts, and refusals."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml

from mser.config import DATA_FOLDER
from mser.corpora import CorpusDefinition, corpora_of, load_definitions
from mser.errors import ConfigError, CorpusError
from mser.labels import load_labels

HEAD: dict[str, Any] = {
    "name": "own", "title": "t", "language": "it", "licence": "l", "citation": "c", "get": "g",
    "emotions": {"ang": "anger", "neu": "neutral"},
}  # fmt: skip
PATTERN = r"(?P<speaker>\w+)_(?P<emotion>\w+)"
TABLE = {"file": "x.csv", "path": "file", "columns": {"speaker": "s", "emotion": "e"}}


def write(folder: Path, /, **changes: Any) -> Path:
    """A definition file; a key set to None is left out."""
    content = {key: value for key, value in {**HEAD, "pattern": PATTERN, **changes}.items() if value is not None}
    path = folder / "own.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def line_of(path: Path, field: str) -> int:
    """The line that the last part of a key stands in; 0 if it is not there."""
    key = field.split(".")[-1]
    lines = path.read_text(encoding="utf-8").splitlines()
    return next((number for number, line in enumerate(lines, 1) if line.strip().startswith(f"{key}:")), 0)


def read(folder: Path, **changes: Any) -> CorpusDefinition:
    return CorpusDefinition.from_yaml(write(folder, **changes))


# (corpus, path, speaker, gender, source label, unified label, text), read off the corpora's own documentation
NAMES = [
    ("emodb", "wav/03a01Fa.wav", "03", "male", "F", "happiness", "a01"),
    ("emodb", "16b10Wb.wav", "16", "female", "W", "anger", "b10"),
    ("emodb", "wav/08a02Na.wav", "08", "female", "N", "neutral", "a02"),
    ("emovo", "f1/dis-f1-b1.wav", "f1", "female", "dis", "disgust", "b1"),
    ("emovo", "EMOVO/m3/sor-m3-l4.wav", "m3", "male", "sor", "surprise", "l4"),
    ("savee", "DC/su03.wav", "DC", "male", "su", "surprise", "su03"),
    ("savee", "DC/sa01.wav", "DC", "male", "sa", "sadness", "sa01"),
    ("savee", "DC/a01.wav", "DC", "male", "a", "anger", "a01"),
    ("savee", "KL/n30.wav", "KL", "male", "n", "neutral", "n30"),
    ("urdu", "Angry/SM1_F10_A010.wav", "SM1", "male", "Angry", "anger", None),
    ("urdu", "data/Sad/SF12_F2_S033.wav", "SF12", "female", "Sad", "sadness", None),
    ("demo_de", "f1/f1_s3_hap.wav", "f1", "female", "hap", "happiness", "s3"),
]


@pytest.mark.parametrize(("corpus", "path", "speaker", "gender", "source", "unified", "text"), NAMES)
def test_a_shipped_definition_reads_a_name_of_its_corpus(
    corpus: str, path: str, speaker: str, gender: str, source: str, unified: str, text: str | None
) -> None:
    definition = load_definitions()[corpus]
    found = definition.reader(Path()).fields_of(PurePosixPath(path))
    assert (found["speaker"], found["gender"], found["emotion"]) == (speaker, gender, source)
    assert definition.emotions[source] == unified
    assert found.get("text_id") == text


@pytest.mark.parametrize(
    ("corpus", "path"),
    [
        ("emodb", "wav/03a01Xa.wav"),
        ("emodb", "wav/3a01Fa.wav"),
        ("emovo", "f1/dis-x1-b1.wav"),
        ("savee", "XX/su03.wav"),
        ("savee", "DC/s03.wav"),
        ("urdu", "Bored/SM1_F10_A010.wav"),
        ("demo_de", "f1/f2_s3_hap.wav"),
    ],
)
def test_a_shipped_definition_refuses_other_names(corpus: str, path: str) -> None:
    with pytest.raises(CorpusError, match="does not match the pattern"):
        load_definitions()[corpus].reader(Path()).fields_of(PurePosixPath(path))


def test_the_published_counts_of_the_shipped_definitions_add_up() -> None:
    definitions = load_definitions()
    assert {path.stem for path in (DATA_FOLDER / "corpora").glob("*.yaml")} == set(definitions)
    for definition in definitions.values():
        expected = definition.expected
        mapped = {label for label in definition.emotions.values() if label}
        if "emotions" in expected:
            assert set(expected["emotions"]) <= mapped, definition.name
        if {"emotions", "utterances"} <= set(expected):
            assert sum(expected["emotions"].values()) == expected["utterances"], definition.name
            assert set(expected["emotions"]) == mapped, definition.name
        if definition.speakers and "speakers" in expected:
            # Some corpora tell the gender of their main speakers alone.
            assert len(definition.speakers) <= expected["speakers"], definition.name


def test_every_label_has_a_place_in_the_plane_or_none_at_all() -> None:
    labels = load_labels()
    assert {"anger", "neutral", "happiness", "sadness"} <= set(labels)
    for name, label in labels.items():
        assert label.name == name
        assert (label.valence is None) == (label.arousal is None)
        assert all(abs(value) <= 1 for value in (label.valence, label.arousal) if value is not None)


def test_folders_name_the_fields(tmp_path: Path) -> None:
    definition = read(tmp_path, pattern=None, folders=["speaker", "emotion"], gender="female")
    reader = definition.reader(tmp_path)
    assert reader.fields_of(PurePosixPath("s1/ang/anything.wav")) == {
        "speaker": "s1", "emotion": "ang", "gender": "female",
    }  # fmt: skip
    assert reader.fields_of(PurePosixPath("s1/neu/deeper/x.wav"))["emotion"] == "neu"
    with pytest.raises(CorpusError, match="speaker/emotion"):
        reader.fields_of(PurePosixPath("ang/x.wav"))
    with pytest.raises(CorpusError, match="'joy' is not in the definition"):
        reader.fields_of(PurePosixPath("s1/joy/x.wav"))


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"], ids=["plain", "byte order mark"])
def test_a_table_names_the_fields_by_path_with_or_without_suffix(tmp_path: Path, start: bytes) -> None:
    columns = {"speaker": "spk", "emotion": "label", "gender": "sex", "text_id": "text"}
    table = {"file": "labels.csv", "path": "wav", "columns": columns, "delimiter": ";"}
    definition = read(tmp_path, pattern=None, table=table, genders={"F": "female", "M": "male"})
    rows = "wav;spk;label;sex;text\na/1.wav;s1;ang;F;t1\na/2;s2;neu;M;t2\na/3.wav;;neu;F;t3\na/4.wav;s1;neu;X;t3\n"
    (tmp_path / "labels.csv").write_bytes(start + rows.encode())
    reader = definition.reader(tmp_path)
    one = {"speaker": "s1", "emotion": "ang", "gender": "female", "text_id": "t1"}
    assert reader.fields_of(PurePosixPath("a/1.wav")) == one
    assert reader.fields_of(PurePosixPath("a/2.wav"))["gender"] == "male"
    for path, reason in {"a/9.wav": "no row", "a/3.wav": "no speaker", "a/4.wav": "gender 'X'"}.items():
        with pytest.raises(CorpusError, match=reason):
            reader.fields_of(PurePosixPath(path))


def test_tables_that_name_their_recordings_in_ways_of_their_own_are_told_apart_by_the_end_of_the_path(
    tmp_path: Path,
) -> None:
    files = {"*/a.csv": "one/dia{dia}_utt{utt}", "b.csv": "two/dia{dia}_utt{utt}"}
    columns = {"speaker": "who", "emotion": "label"}
    definition = read(tmp_path, pattern=None, table={"files": files, "by": "end", "columns": columns})
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "a.csv").write_text("dia,utt,who,label\n0,1,s1,ang\n", encoding="utf-8")
    (tmp_path / "b.csv").write_text("dia,utt,who,label\n0,1,s2,neu\n", encoding="utf-8")
    reader = definition.reader(tmp_path)
    assert reader.fields_of(PurePosixPath("raw/one/dia0_utt1.wav"))["speaker"] == "s1"
    assert reader.fields_of(PurePosixPath("two/dia0_utt1.flac"))["speaker"] == "s2"
    assert not reader.unlisted(PurePosixPath("raw/one/dia0_utt1.wav"))
    with pytest.raises(CorpusError, match="no row"):
        reader.fields_of(PurePosixPath("three/dia0_utt1.wav"))


@pytest.mark.parametrize(
    ("content", "words"), [(None, "is not there"), (b"wav,spk\n", "label"), (b"wav,\xff\n", "could not be read")]
)
def test_a_table_that_cannot_be_used_is_named(tmp_path: Path, content: bytes | None, words: str) -> None:
    table = {"file": "labels.csv", "path": "wav", "columns": {"speaker": "spk", "emotion": "label"}}
    definition = read(tmp_path, pattern=None, table=table)
    if content is not None:
        (tmp_path / "labels.csv").write_bytes(content)
    with pytest.raises(CorpusError, match=words) as error:
        definition.reader(tmp_path)
    assert str(tmp_path / "labels.csv") in str(error.value)


def test_gender_comes_from_the_name_the_speaker_or_the_corpus(tmp_path: Path) -> None:
    path = PurePosixPath("s1_ang.wav")
    assert read(tmp_path).reader(tmp_path).fields_of(path)["gender"] == ""
    assert read(tmp_path, gender="male").reader(tmp_path).fields_of(path)["gender"] == "male"
    by_speaker = read(tmp_path, gender="male", speakers={"s1": {"gender": "female"}}).reader(tmp_path)
    assert by_speaker.fields_of(path)["gender"] == "female"
    assert by_speaker.fields_of(PurePosixPath("s2_ang.wav"))["gender"] == "male"


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"colour": "red"}, "colour", "unknown keys: colour"),
        ({"licence": None}, "licence", "lacks keys: licence"),
        ({"folders": ["emotion"]}, "pattern, folders, table", "pattern or folders, a table"),
        ({"pattern": None}, "pattern, folders, table", "none"),
        ({"emotions": {"ang": "rage"}}, "emotions.ang", "rage"),
        ({"emotions": {1: "anger"}}, "emotions", "quotes"),
        ({"emotions": ["anger"]}, "emotions", "mapping"),
        ({"speakers": {3: {"gender": "male"}}}, "speakers", "quotes"),
        ({"pattern": "(?P<speaker>"}, "pattern", "regular expression"),
        ({"pattern": r"(?P<speaker>\w+)"}, "pattern", "emotion"),
        ({"pattern": 3}, "pattern", "quotes"),
        ({"language": "German"}, "language", "ISO 639-1"),
        ({"language": False}, "language", "quotes"),
        ({"pattern": None, "folders": ["speaker"]}, "folders", "emotion"),
        ({"pattern": None, "table": {"file": "x.csv"}}, "table", "columns"),
    ],
)
def test_a_definition_that_cannot_be_used_names_its_file_and_field(
    tmp_path: Path, changes: dict[str, Any], field: str, words: str
) -> None:
    path = write(tmp_path, **changes)
    with pytest.raises(ConfigError, match=words) as error:
        load_definitions(tmp_path)
    assert error.value.field == field
    # The line of the key; the file alone where the key is not in it.
    line = line_of(path, field)
    assert str(error.value.file) == (f"{path}:{line}" if line else str(path))
    assert f"file:     {error.value.file}" in str(error.value)


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"name": "..", "folder": "own"}, "name", "folder"),
        ({"folder": "../other"}, "folder", "folder"),
        ({"folder": ".."}, "folder", "folder"),
        ({"folder": ".hidden"}, "folder", "dot"),
        ({"folder": "a/b"}, "folder", "no path"),
        ({"folder": "a\\b"}, "folder", "no path"),
        ({"folder": "a\nb"}, "folder", "control"),
        ({"folder": " "}, "folder", "folder"),
        ({"aliases": [1]}, "aliases", "quotes"),
        ({"pattern": None, "folders": [1, "speaker", "emotion"]}, "folders", "quotes"),
        ({"emotions": {"ang": ["anger"]}}, "emotions.ang", "quotes"),
        ({"speakers": {"f1": "male"}}, "speakers.f1", "gender: female"),
        ({"defects": [{"kind": ["counts"], "note": "x"}]}, "defects.0.kind", "one of"),
        ({"expected": {"utterances": "400"}}, "expected.utterances", "whole number"),
        ({"expected": {"speakers": True}}, "expected.speakers", "whole number"),
        ({"expected": {"emotions": ["anger"]}}, "expected.emotions", "for each label"),
        ({"expected": {"emotions": {"angre": 3}}}, "expected.emotions.angre", "one of"),
        ({"expected": {"emotions": {"anger": "3"}}}, "expected.emotions.anger", "whole number"),
        ({"expected": {"files": 3}}, "expected.files", "utterances, speakers"),
        ({"examples": {"f1/a.wav": ["anger"]}}, "examples.f1/a.wav", "some of"),
        ({"examples": {"f1/a.wav": {"speeker": "f1"}}}, "examples.f1/a.wav", "some of"),
        ({"pattern": "(?P<emotion>ang)", "speaker": "{"}, "speaker", "braces"),
        ({"pattern": None, "table": {**TABLE, "encoding": "utf-88"}}, "table.encoding", "Python knows"),
        ({"pattern": None, "table": {**TABLE, "delimiter": ";;"}}, "table.delimiter", "single letter"),
        ({"pattern": None, "table": {**TABLE, "file": "/x.csv"}}, "table.file", "below the folder"),
        ({"pattern": None, "table": {**TABLE, "file": "../*.csv"}}, "table.file", "below the folder"),
        ({"pattern": None, "table": {**TABLE, "file": ""}}, "table.file", "below the folder"),
        ({"pattern": None, "table": {**TABLE, "path": "{dia"}}, "table.path", "braces"),
        ({"pattern": None, "table": {**TABLE, "columns": {"speaker": 3}}}, "table.columns.speaker", "name of a column"),
    ],
)
def test_a_value_of_another_kind_is_named_with_its_line_and_never_a_traceback(
    tmp_path: Path, changes: dict[str, Any], field: str, words: str
) -> None:
    path = write(tmp_path, **changes)
    with pytest.raises(ConfigError, match=words) as error:
        load_definitions(tmp_path)
    assert error.value.field == field
    assert str(error.value.file).startswith(f"{path}:")


def test_norwegian_without_quotes_is_refused_with_advice(tmp_path: Path) -> None:
    path = write(tmp_path)
    path.write_text(path.read_text().replace("language: it", "language: no"), encoding="utf-8")
    with pytest.raises(ConfigError, match="put it in quotes"):
        CorpusDefinition.from_yaml(path)


def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("- just\n- a list\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="list"):
        load_definitions(tmp_path)


def test_own_definitions_are_added_and_replace_shipped_ones_by_name(tmp_path: Path) -> None:
    write(tmp_path)
    assert set(load_definitions(tmp_path)) == {*load_definitions(), "own"}
    write(tmp_path, name="emodb", title="mine")
    replaced = load_definitions(tmp_path)
    assert (replaced["emodb"].title, replaced["emodb"].language) == ("mine", "it")
    assert set(replaced) == set(load_definitions())
    with pytest.raises(ConfigError, match="MSER_DEFINITIONS"):
        load_definitions(tmp_path / "nowhere")


def test_two_own_definitions_of_one_name_are_refused_and_hidden_files_passed_over(tmp_path: Path) -> None:
    path = write(tmp_path)
    (tmp_path / "._own.yaml").write_bytes(b"\x00\x05\x16\x07")
    (tmp_path / "notes.ymlx").write_text("- no definition")
    assert "own" in load_definitions(tmp_path)
    twin = path.rename(tmp_path / "twin.yml")
    assert load_definitions(tmp_path)["own"].source.path == twin
    write(tmp_path)
    with pytest.raises(ConfigError, match="Two definitions are named own") as error:
        load_definitions(tmp_path)
    assert {error.value.file, Path(str(error.value.found).removeprefix("also "))} == {path, twin}


def test_corpora_are_chosen_by_language_in_the_order_asked(tmp_path: Path) -> None:
    definitions = load_definitions()
    chosen = corpora_of(["ur", "de"], definitions)
    by_language = {code: [one.name for one in definitions.values() if one.language == code] for code in ("ur", "de")}
    assert [item.name for item in chosen] == [*by_language["ur"], *by_language["de"]]
    assert by_language["ur"][:1] == ["urdu"]
    assert {"demo_de", "emodb"} <= set(by_language["de"])
    with pytest.raises(ConfigError, match="language 'xx'") as error:
        corpora_of(["de", "xx"], definitions)
    assert error.value.found == "xx: no ISO 639 code"
    assert "add a definition" in str(error.value)
    with pytest.raises(ConfigError, match="language 'aa'") as error:
        corpora_of(["aa"], definitions)
    assert error.value.found == "aa (Afar)"
    assert {"de", "en", "it", "ur"} <= set(str(error.value.expected).split())


def test_only_what_decides_the_labels_changes_the_fingerprint(tmp_path: Path) -> None:
    base = read(tmp_path).fingerprint
    assert read(tmp_path, title="other", licence="x", get="y", expected={"utterances": 3}).fingerprint == base
    for change in (
        {"emotions": {"ang": "anger", "neu": "calm"}},
        {"pattern": PATTERN + "x"},
        {"genders": {"f": "female"}},
        {"speakers": {"s1": {"gender": "male"}}},
        {"gender": "male"},
        {"pattern": None, "folders": ["speaker", "emotion"]},
    ):
        assert read(tmp_path, **change).fingerprint != base, change
