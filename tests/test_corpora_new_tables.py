"""A definition proposed by tables that lie beside recordings, or with a word on where the emotion stands."""

from __future__ import annotations

import codecs
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from draft_folders import NAMES, ROWS, outcome_by, put, read_again, run, tabled

from mser.corpora import CorpusDefinition
from mser.corpora.new import draft
from mser.errors import CorpusError


def test_a_table_is_used_where_names_do_not_tell(tmp_path: Path) -> None:
    folder = tmp_path / "t"
    names = [f"clips/{number:05}.wav" for number in range(60)]
    put(folder, names)
    rows = [
        "\t".join(
            [PurePosixPath(name).name, "fm"[n % 2], f"spk{n % 4}", ("angry", "happy", "sad")[n % 3], f"text {n % 5}"]
        )
        for n, name in enumerate(names)
    ]
    (folder / "meta.tsv").write_text("file\tsex\tclient\temo\tsentence\n" + "\n".join(rows) + "\n", encoding="utf-8")
    found = draft(folder, language="cy")
    assert found.definition.pattern is None
    columns = {"speaker": "client", "gender": "sex", "emotion": "emo", "text_id": "sentence"}
    table = {"file": "meta.tsv", "path": "file", "by": "name", "delimiter": "\t", "columns": columns}
    assert found.definition.table == table
    assert (len(found.outcome.utterances), len(found.outcome.speakers)) == (60, 4)
    assert {one.fields["gender"] for one in found.outcome.utterances} == {"female", "male"}
    path = tmp_path / "d.yaml"
    path.write_text(found.text, encoding="utf-8")
    assert CorpusDefinition.from_yaml(path).table == found.definition.table


@pytest.mark.parametrize("filled", [1.0, 0.85, 0.55])
def test_a_column_of_speakers_counts_where_it_is_filled(tmp_path: Path, filled: float) -> None:
    rows = [(file, who if n < filled * len(ROWS) else "", one) for n, (file, who, one) in enumerate(ROWS)]
    found = draft(tabled(tmp_path / "x", {"a.csv": rows}))
    assert found.definition.table is not None
    assert found.definition.table["columns"]["speaker"] == "speaker"
    assert len(read_again(found, tmp_path / "x").utterances) == filled * len(ROWS)
    # The same where the table lacks the rows.
    found = draft(tabled(tmp_path / "y", {"a.csv": [row for row in rows if row[1]]}))
    assert found.outcome.speakers == {"s0", "s1", "s2", "s3"}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-8-sig", "utf-32", "cp1252"])
def test_the_encoding_of_a_table_is_known_by_its_mark(tmp_path: Path, encoding: str) -> None:
    rows = [(file, who, one.replace("Wut", "Ärger")) for file, who, one in ROWS]
    folder = tabled(tmp_path / "x", {"a.csv": rows}, encoding)
    if encoding == "utf-16-le":
        with pytest.raises(CorpusError, match="looks like emotions"):
            draft(folder, language="de")
        (folder / "a.csv").write_bytes(codecs.BOM_UTF16_LE + (folder / "a.csv").read_bytes())
    outcome = read_again(draft(folder), folder)
    assert (len(outcome.utterances), outcome.speakers) == (40, {"s0", "s1", "s2", "s3"})
    assert set(outcome.emotions) == {"anger", "happiness", "sadness"}


@pytest.mark.parametrize(
    ("names", "table"),
    [
        (("dev.csv", "train.csv"), {"file": "*.csv"}),
        (("dev.csv", "train.csv", "other.csv"), {"files": {"dev.csv": "file", "train.csv": "file"}}),
        (("s_1.csv", "s_2.csv", "other.csv"), {"file": "s_*.csv"}),
        (("a/meta.csv", "b/meta.csv", "other.csv"), {"file": "*/meta.csv"}),
        (("meta/a [1].csv", "b.csv"), {"file": "**/*.csv"}),
    ],
)  # fmt: skip
def test_tables_of_equal_heads_are_read_together(tmp_path: Path, names: tuple[str, ...], table: dict[str, Any]) -> None:
    folder = tabled(tmp_path / "x", {names[0]: ROWS[:19], names[1]: ROWS[19:]})
    if "other.csv" in names:
        (folder / "other.csv").write_text("word,number\na,1\n", encoding="utf-8")
    found = draft(folder)
    assert found.definition.table is not None
    assert {key: found.definition.table[key] for key in table} == table
    outcome = read_again(found, folder)
    assert (len(outcome.utterances), len(outcome.speakers), outcome.unlike) == (40, 4, [])


def test_tables_that_are_not_used_are_named_with_the_reason(tmp_path: Path) -> None:
    folder = tabled(tmp_path / "x", {"a.csv": ROWS, "sub/few.csv": []})
    (folder / "part.tsv").write_text("file\tnote\n" + "".join(f"{n}.wav\tx\n" for n in range(5)), encoding="utf-8")
    (folder / "again.csv").write_text("clip,note\n" + "".join(f"{n}.wav,x\n" for n in range(40)), encoding="utf-8")
    (folder / "labels.xlsx").touch()
    for name in ("readme.txt", "terms.txt"):
        (folder / name).write_text("This is,\nas you see, a text.\n", encoding="utf-8")
    assert set(draft(folder).remarks) == {
        "Table not used: sub/few.csv: it has no rows below its head",
        "Table not used: part.tsv: its column file names 5 of 40 recordings",
        "Table not used: again.csv: a.csv is used",
        "Table not used: labels.xlsx: .xlsx is not read; export it as .csv",
        "Tables not used: readme.txt, terms.txt: no column names recordings",
    }
    told = put(tmp_path / "y", NAMES["speaker-emotion"])
    (told / "a.csv").touch()
    assert draft(told).remarks == ("Table not used: a.csv: names of recordings tell emotion and speaker",)


def test_a_table_and_names_together(tmp_path: Path) -> None:
    folder = tmp_path / "t"
    names = [f"speaker{n % 4}/{n:05}.wav" for n in range(60)]
    put(folder, names)
    rows = [f"{name},{('Wut', 'Freude', 'Trauer')[n % 3]}" for n, name in enumerate(names)]
    (folder / "labels.csv").write_text("path,label\n" + "\n".join(rows) + "\n", encoding="utf-8")
    found = draft(folder)
    assert found.definition.language == "de"
    assert found.definition.table == {"file": "labels.csv", "path": "path", "columns": {"emotion": "label"}}
    assert "(?P<speaker>" in str(found.definition.pattern)
    assert (len(found.outcome.utterances), len(found.outcome.speakers)) == (60, 4)


SWAHILI = ["hasira", "furaha", "huzuni", "kawaida"]


@pytest.mark.parametrize("labels_of", [SWAHILI, list("012345"), [*SWAHILI, "neutral"]])
@pytest.mark.parametrize("head", ["emotion", "Label", "mood"])
def test_a_column_that_is_called_emotion_is_it_whatever_it_holds(
    tmp_path: Path, labels_of: list[str], head: str
) -> None:
    rows = [(f"{n}.wav", f"s{n % 3}", labels_of[n % len(labels_of)]) for n in range(40)]
    folder = tabled(tmp_path / "x", {"a.csv": rows}, head=head)
    found = draft(folder, language="sw")
    read = read_again(found, folder)
    assert found.definition.table is not None
    assert found.definition.table["columns"] == {"speaker": "speaker", "emotion": head}
    unknown = set(labels_of) - {"neutral"}
    assert {one.key for one in found.questions} >= {f"emotions.{label}" for label in unknown}
    assert (len(read.utterances) + len(read.left_out), read.unlike) == (40, [])
    assert all(f"{label}: null  # ?" in found.text.replace("'", "") for label in unknown)


def test_where_the_emotion_stands_can_be_said(tmp_path: Path) -> None:
    names = [f"{who}/{one}/{n}.wav" for who in ("s1", "s2", "s3") for one in SWAHILI for n in range(5)]
    folder = put(tmp_path / "x", names)
    with pytest.raises(CorpusError, match="looks like emotions") as error:
        draft(folder, language="sw")
    assert "folder: furaha, hasira, huzuni, kawaida" in str(error.value.found)
    assert "--emotion 'folder'" in str(error.value.hint)
    with pytest.raises(CorpusError, match="No emotions stand at 'nowhere'") as error:
        draft(folder, language="sw", emotion="nowhere")
    assert "folder: furaha, hasira, huzuni, kawaida" in str(error.value.found)
    found = draft(folder, language="sw", emotion="folder")
    assert found.definition.emotions == dict.fromkeys(SWAHILI)
    assert (len(found.outcome.left_out), found.outcome.unlike) == (60, [])
    given = ("new", folder, "--language", "sw", "--emotion", "folder", "--out", tmp_path / "d.yaml")
    assert "60 files have a label without a meaning" in run(*given).output
    assert "every label is left out" in run("check", tmp_path / "d.yaml", "--corpora", tmp_path).output


def test_a_column_of_any_head_can_be_the_emotion(tmp_path: Path) -> None:
    folder = tabled(
        tmp_path / "x", {"a.csv": [(file, who, str(n % 3)) for n, (file, who, _) in enumerate(ROWS)]}, head="q7"
    )
    with pytest.raises(CorpusError) as error:
        draft(folder, language="sw")
    assert '`table: {"file": "a.csv", "path": "file", "columns": {"speaker": "COLUMN", "emotion": "COLUMN"}}`' in str(
        error.value.hint
    )
    found = draft(folder, language="sw", emotion="q7")
    assert found.definition.table is not None
    assert found.definition.table["columns"] == {"speaker": "speaker", "emotion": "q7"}


def test_a_table_of_macos_is_no_table(tmp_path: Path) -> None:
    folder = put(tmp_path / "x", [f"{number}.wav" for number in range(20)])
    rows = [f"{n}.wav,s{n % 4},{('Wut', 'Freude', 'Trauer')[n % 3]}" for n in range(20)]
    (folder / "a.csv").write_text("file,speaker,emotion\n" + "\n".join(rows), encoding="utf-8")
    (folder / "._a.csv").write_bytes(b"\x00\x05\x16\x07" + bytes(100))
    definition = draft(folder).definition
    assert definition.table is not None
    wide = replace(definition, table={**definition.table, "file": "*.csv"})
    assert len(outcome_by(wide, folder).utterances) == 20
