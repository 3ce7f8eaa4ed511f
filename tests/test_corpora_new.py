"""A definition proposed by the names of a folder alone: roles, labels, questions, tables, refusals, real corpora."""

from __future__ import annotations

import codecs
import os
import random
import shlex
import subprocess
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from mser.corpora import CorpusDefinition
from mser.corpora.check import check
from mser.corpora.cli import corpora_group
from mser.corpora.codes import label_values, load_vocabulary, nearest_label, read_word
from mser.corpora.names import Field, views_of
from mser.corpora.new import Draft, draft, write_draft
from mser.corpora.outcome import Outcome, read_names
from mser.corpora.proposal import Proposal, composed, propose
from mser.corpora.recordings import candidates
from mser.errors import ConfigError, CorpusError
from mser.labels import load_labels
from mser.languages import fault_of

RNG = random.Random(0)
WORDS = "back bar base bath bean beg bite boat bone book".split()
# A scheme -> its names.
NAMES: dict[str, list[str]] = {
    "ravdess": [
        f"Actor_{who:02}/03-01-{one:02}-{level:02}-{text:02}-{take:02}-{who:02}.wav"
        for who in range(1, 25) for one in range(1, 9) for level in (1, 2) for text in (1, 2) for take in (1, 2)
        if not (one == 1 and level == 2)
    ],
    "cremad": [
        f"{who}_{text}_{one}_{level}.wav"
        for who in range(1001, 1012) for text in ("DFA", "IEO", "IOM") for one in "ANG DIS FEA HAP NEU SAD".split()
        for level in (("LO", "MD", "HI") if text == "IEO" and one != "NEU" else ("XX",))
    ],
    "tess": [
        f"{who}_{one}/{who}_{word}_{one}.wav"
        for who in ("OAF", "YAF") for word in WORDS for one in "angry disgust fear happy neutral ps sad".split()
    ],
    "speaker-emotion": [
        f"{who}/{one}/{number:03}.wav" for who in ("anna", "bert", "carl") for one in ("Wut", "Freude", "Trauer")
        for number in range(1, 11)
    ],
    "emotion-speaker": [
        f"wav/{one}/{who}/rec {number}.wav" for one in ("triste", "joie", "colère") for who in ("p1", "p2", "p3")
        for number in range(1, 11)
    ],
    "shemo": [
        f"{who}{one}{number:02}.wav" for who in ("F01", "F02", "F03", "M01", "M02") for one in "AFHNSW"
        for number in range(1, RNG.randint(3, 15))
    ],
    "mess": [
        f"{one}{who}{kind}{number:02}_SCR.wav" for one in "ACHS" for who in ("F1", "F2", "M1", "M2") for kind in "MTV"
        for number in range(1, 6)
    ],
    "alone": [f"{one}_{number:03}.wav" for one in ("angry", "happy", "sad") for number in range(1, 31)],
}  # fmt: skip


def proposed(paths: Iterable[str], language: str = "") -> Proposal:
    found = propose(composed(sorted(map(PurePosixPath, paths))), language)
    assert found is not None
    return found


def where(found: Proposal) -> dict[str, str]:
    return {role.name: role.where for role in found.roles}


def labels(found: Proposal) -> dict[str, str | None]:
    return {value: read.label if read else None for value, read in found.labelling.readings.items()}


def put(folder: Path, names: Iterable[str]) -> Path:
    """Empty files: nothing is decoded."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


# scheme, pattern, language that its labels tell
SCHEMES = [
    ("ravdess", r"(?:.*/)?Actor_(?P<speaker>\d\d)/\d\d-\d\d-(?P<emotion>\d\d)-\d\d-(?P<text_id>\d\d)-\d\d-\d\d", ""),
    ("cremad", r"(?:.*/)?(?P<speaker>\d{4})_(?P<text_id>[A-Z]{3})_(?P<emotion>[A-Z]{3})_(?P<intensity>[A-Z]{2})", ""),
    ("tess", r"(?:.*/)?(?P<speaker>[A-Z]{3})_(?P<text_id>[a-z]+)_(?P<emotion>[a-z]+)", ""),
    ("speaker-emotion", r"(?:.*/)?(?P<speaker>[^/]+)/(?P<emotion>[^/]+)/(?P<text_id>\d\d\d)", "de"),
    ("emotion-speaker", r"(?:.*/)?(?P<emotion>[^/]+)/(?P<speaker>p\d)/rec (?P<text_id>\d+)", "fr"),
    ("shemo", r"(?:.*/)?(?P<speaker>(?P<gender>F|M)\d\d)(?P<emotion>[A-Z])(?P<take>\d\d)", "fa"),
    ("mess", r"(?:.*/)?(?P<emotion>[A-Z])(?P<speaker>(?P<gender>F|M)\d)(?P<text_id>[A-Z]\d\d)_SCR", ""),
    ("alone", r"(?:.*/)?(?P<emotion>[a-z]+)_(?P<text_id>\d\d\d)", ""),
]


@pytest.mark.parametrize(("scheme", "pattern", "language"), SCHEMES)
def test_a_scheme_is_found_in_the_names(scheme: str, pattern: str, language: str) -> None:
    found = proposed(NAMES[scheme])
    assert (found.pattern, found.language) == (pattern, language)
    assert found.speaker == ("unknown" if scheme == "alone" else None)
    assert None not in labels(found).values()


def test_labels_are_sure_only_where_words_say_so() -> None:
    words = proposed(NAMES["cremad"]).labelling.readings
    assert all(read is not None and read.certain for read in words.values())
    numbers = proposed(NAMES["ravdess"]).labelling.readings
    assert all(read is not None and not read.certain and read.source.endswith("RAVDESS") for read in numbers.values())
    assert labels(proposed(NAMES["ravdess"]))["04"] == "sadness"


def test_what_names_do_not_tell_is_asked() -> None:
    questions = {scheme: [one.text for one in proposed(names).questions] for scheme, names in NAMES.items()}
    assert any("Do they mean what the third number of RAVDESS mean" in text for text in questions["ravdess"])
    assert any("Is the language Persian?" in text for text in questions["shemo"])
    assert any("female, which male?" in text for text in questions["cremad"])
    assert not any("female, which male?" in text for text in questions["shemo"])
    assert any("F female, M male" in text for text in questions["shemo"])
    assert any("tells speakers apart" in text for text in questions["alone"])
    assert any("Are anna, bert, carl the speakers" in text for text in questions["speaker-emotion"])
    assert any("are its words the same" in text for text in questions["tess"])
    assert any("how strong the emotion is" in text for text in questions["cremad"])


def test_a_label_that_is_not_known_is_left_out_and_asked() -> None:
    names = [name.replace("/Wut/", "/Blorp/").replace("/Trauer/", "/Freud/") for name in NAMES["speaker-emotion"]]
    names += [f"{who}/Angst/{number:03}.wav" for who in ("anna", "bert", "carl") for number in range(1, 11)]
    found = proposed(names)
    assert labels(found) == {"Blorp": None, "Freude": "happiness", "Freud": "happiness", "Angst": "fear"}
    assert not found.labelling.readings["Freud"].certain  # type: ignore[union-attr]
    assert {one.key for one in found.questions} >= {"emotions.Blorp", "emotions.Freud"}


def test_a_session_is_not_taken_for_a_speaker() -> None:
    names = [
        f"session{part}/{who}_{one}_{text}.wav"
        for part in (1, 2) for who in (f"s{part}a", f"s{part}b") for one in ("angry", "happy", "sad")
        for text in range(4)
    ]  # fmt: skip
    assert where(proposed(names))["speaker"] == "name, part 1 of 3"


def test_names_with_separators_in_their_labels_are_read() -> None:
    names = [
        f"S{who:02}_{one}_{text}.wav" for who in range(1, 5) for one in ("angry", "happy", "pleasant_surprise", "sad")
        for text in range(1, 6)
    ]  # fmt: skip
    found = proposed(names)
    assert labels(found)["pleasant_surprise"] == "surprise"
    assert found.pattern is not None
    assert "pleasant_surprise|angry|happy|sad" in found.pattern


VIETNAMESE = ["giận dữ", "vui vẻ", "buồn", "bình thường"]


@pytest.mark.parametrize("scheme", ["{who}/{one}/{number}", "{who}_{one}_{number}", "{one}/{who}_{number}"])
@pytest.mark.parametrize("words", [VIETNAMESE, ["angry", "happy", "sad", "no emotion"], ["Wut", "kalte Wut", "Trauer"]])
def test_no_emotion_is_lost_for_having_another_number_of_words(tmp_path: Path, scheme: str, words: list[str]) -> None:
    names = [
        scheme.format(who=who, one=one, number=number) + ".wav" for who in ("an", "binh", "chi") for one in words
        for number in range(1, 6)
    ]  # fmt: skip
    found = draft(put(tmp_path / "x", names), language="vi")
    outcome = found.outcome
    assert len(outcome.utterances) + len(outcome.left_out) == len(names)
    assert outcome.speakers == {"an", "binh", "chi"}
    if words is VIETNAMESE:
        assert outcome.emotions == {"anger": 15, "happiness": 15, "sadness": 15, "neutral": 15}


def test_files_that_are_not_read_are_asked_about_where_they_tell_emotions(tmp_path: Path) -> None:
    names = [f"{who}_{one}_{n}.wav" for who in "abc" for one in ("angry", "happy", "fear") for n in range(9)]
    found = draft(put(tmp_path / "x", [*names, "sad1.wav", "sad 2.wav", "noise.wav"]), language="en")
    (asked,) = (one.text for one in found.questions if "sad" in one.text)
    assert "files that are not read, with 'sad' (sadness) in 2, such as sad" in asked
    assert "What is the scheme of files that are not read" in " ".join(found.text.replace("\n#  ", "").split())


def test_folders_take_part_in_no_field_of_another_shape() -> None:
    views = views_of([PurePosixPath(name) for name in NAMES["shemo"]])
    fields = [Field(views[0], start, stop) for start, stop in views[0].spans()]
    assert {"F", "M"} in [set(one.counts) for one in fields]
    assert {"F01", "F02", "F03", "M01", "M02"} in [set(one.counts) for one in fields]


@pytest.mark.parametrize(
    ("word", "label"),
    [("ANGRY", "anger"), ("Ärger", "anger"), ("tristesse", "sadness"), ("neutr", "neutral"), ("hapy", "happiness"),
     ("giận dữ", "anger"), ("vui_ve", "happiness"), ("sợ hãi", "fear"), ("kalte Wut", "anger"),
     ("sad_angry", None), ("sad_01", None),
     ("blorp", None), ("01", None), ("f", None)],
)  # fmt: skip
def test_words_of_several_languages_are_read(word: str, label: str | None) -> None:
    read = read_word(word)
    assert (read.label if read else None) == label


def test_a_letter_means_something_only_among_others() -> None:
    assert label_values(Counter("ad")).score == 0
    found = label_values(Counter("WLEAFTN"))
    assert (found.readings["F"].label, found.language) == ("happiness", "de")  # type: ignore[union-attr]
    found = label_values(Counter(["a", "d", "f", "h", "n", "sa", "su"]))
    assert (found.readings["f"].label, found.language) == ("fear", "")  # type: ignore[union-attr]
    # Numbers that are not all of a table are numbers.
    assert label_values(Counter(["01", "02", "03", "04", "05", "06"])).score == 0


def test_the_tables_of_codes_hold_unified_labels_alone() -> None:
    known = load_vocabulary()
    assert {read.label for read in known.words.values()} <= set(load_labels())
    assert {label for codes in known.codes for label in codes.labels.values()} <= set(load_labels())
    assert not any(fault_of(codes.language) for codes in known.codes if codes.language)
    assert (nearest_label("Angry"), nearest_label("surprize")) == ("anger", "surprise")


def test_the_draft_is_a_definition_that_reads_every_name(tmp_path: Path) -> None:
    folder = put(tmp_path / "Mein Korpus", [f"{name}" for name in NAMES["speaker-emotion"]] + ["notes.wav"])
    found = draft(folder)
    path = tmp_path / "d.yaml"
    path.write_text(found.text, encoding="utf-8")
    read = CorpusDefinition.from_yaml(path)
    assert (read.name, read.folder, read.language) == ("mein_korpus", "Mein Korpus", "de")
    assert read.emotions == found.definition.emotions
    assert (found.files, len(found.outcome.utterances), len(found.outcome.speakers)) == (91, 90, 3)
    assert found.outcome.emotions == {"anger": 30, "happiness": 30, "sadness": 30}
    assert [str(name) for name, _ in found.outcome.unlike] == ["notes.wav"]
    assert len(read.examples) == 3
    for name, stated in read.examples.items():
        fields = read.reader(folder).fields_of(PurePosixPath(name))
        assert read.emotions[fields["emotion"]] == stated["emotion"]
        assert fields["speaker"] == stated["speaker"]


@pytest.mark.parametrize("called", ["Kannada Emotional Speech (1)", "it's [a] & b + c*", "日本語 音声", "-x", "a\xa0b"])
def test_a_folder_of_any_name_is_drafted_and_read_again(tmp_path: Path, called: str) -> None:
    rows = [f"{n}.wav,s{n % 4},{('Wut', 'Freude', 'Trauer')[n % 3]}" for n in range(20)]
    folder = put(tmp_path / called, [f"{n}.wav" for n in range(20)])
    (folder / "labels [1].csv").write_text("file,speaker,emotion\n" + "\n".join(rows), encoding="utf-8")
    path = tmp_path / "d.yaml"
    write_draft(draft(folder), path)
    definition = CorpusDefinition.from_yaml(path)
    assert (definition.place, definition.title) == (called, called)
    assert len(outcome_by(definition, tmp_path / definition.place).utterances) == 20
    assert not check(definition, tmp_path).faulty


@pytest.mark.parametrize("called", [".hidden", "a\\b", "a\nb"])
def test_a_folder_that_no_definition_can_name_is_at_fault_itself(tmp_path: Path, called: str) -> None:
    with pytest.raises(CorpusError, match="cannot name this folder") as error:
        draft(put(tmp_path / called, NAMES["speaker-emotion"]))
    assert "rename it" in str(error.value.hint)


def test_questions_and_guesses_stand_at_their_keys(tmp_path: Path) -> None:
    text = draft(put(tmp_path / "x", NAMES["shemo"])).text
    lines = text.splitlines()
    for key, question in {
        "language": "Is the language Persian?", "licence": "Under what terms", "citation": "What is to be cited?",
        "emotions": "Do they mean what the letters of ShEMO mean", "genders": "F female, M male",
    }.items():  # fmt: skip
        place = next(number for number, line in enumerate(lines) if line.startswith(f"{key}:"))
        above = [line for line in lines[:place] if line.startswith("# QUESTION")]
        assert question in above[-1], key
    assert "  W: surprise  # guess" in lines
    content = yaml.safe_load(text)
    assert content["genders"] == {"F": "female", "M": "male"}


def test_names_with_what_yaml_stumbles_over_are_written_so_that_they_are_read_again(tmp_path: Path) -> None:
    labels = ("col\u00e8re\u2028x", "it's", "{a: b}", "# joie", "triste", "peur", "joie")
    folder = put(
        tmp_path / "x", [f"{who}/{one}/{n}.wav" for who in ("s1", "s2", "no") for one in labels for n in "123"]
    )
    found = draft(folder, language="fr")
    path = tmp_path / "d.yaml"
    path.write_text(found.text, encoding="utf-8")
    read = CorpusDefinition.from_yaml(path)
    assert read.emotions == found.definition.emotions
    assert set(read.emotions) == set(labels)
    assert (len(found.outcome.utterances) + len(found.outcome.left_out), found.outcome.unlike) == (63, [])


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


ROWS = [(f"{n}.wav", f"s{n % 4}", ("Wut", "Freude", "Trauer")[n % 3]) for n in range(40)]


def tabled(
    folder: Path, tables: dict[str, list[tuple[str, ...]]], encoding: str = "utf-8", head: str = "emotion"
) -> Path:
    """Recordings whose names tell nothing, and tables of them."""
    put(folder, [row[0] for row in ROWS])
    for name, rows in tables.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        text = "\n".join(map(",".join, [("file", "speaker", head), *rows])) + "\n"
        (folder / name).write_text(text, encoding=encoding)
    return folder


def read_again(one: Draft, folder: Path) -> Outcome:
    """What the written definition reads."""
    path = folder.with_name("again.yaml")
    path.write_text(one.text, encoding="utf-8")
    return outcome_by(CorpusDefinition.from_yaml(path), folder)


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


def test_nothing_that_looks_like_emotions_is_an_error_that_shows_what_was_seen(tmp_path: Path) -> None:
    folder = put(tmp_path / "x", [f"{who}_{number:03}.wav" for who in ("jo", "mia") for number in range(20)])
    (folder / "list.csv").write_text("name,score\n" + "".join(f"jo_{n:03},{n}\nmia_{n:03},{n}\n" for n in range(20)))
    with pytest.raises(CorpusError, match="looks like emotions") as error:
        draft(folder, language="en")
    assert "name, part 1 of 2: jo, mia" in str(error.value.found)
    assert "list.csv, column score: 0, 1" in str(error.value.found)
    assert "(?P<emotion>" in str(error.value.hint)


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


@pytest.mark.parametrize(
    ("names", "language", "error", "words"),
    [
        (NAMES["alone"], "", ConfigError, "--language"),
        (NAMES["alone"], "deu", ConfigError, "German is written de"),
        (NAMES["alone"], "xx", ConfigError, "no ISO 639 code"),
        (["readme.txt", "all.zip"], "de", CorpusError, "no recordings"),
        (["a/happy.wav"], "de", CorpusError, "fewer than two recordings"),
    ],
)
def test_a_folder_that_cannot_be_drafted_says_what_to_do(
    tmp_path: Path, names: list[str], language: str, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        draft(put(tmp_path / "x", names), language=language)
    with pytest.raises(CorpusError, match="no such folder"):
        draft(tmp_path / "nowhere")


def test_the_name_of_the_folder_may_tell_the_language(tmp_path: Path) -> None:
    found = draft(put(tmp_path / "my-icelandic-speech", NAMES["alone"]))
    assert found.definition.language == "is"
    assert any("as the folder is named" in one.text for one in found.questions)


def test_what_macos_leaves_beside_recordings_is_no_recording(tmp_path: Path) -> None:
    names = NAMES["speaker-emotion"]
    folder = put(tmp_path / "x", names)
    put(folder, [f"__MACOSX/{name}" for name in names] + [f"anna/Wut/._{number:03}.wav" for number in range(1, 11)])
    put(folder, ["._meta.csv", "__MACOSX/x.zip"])
    found = draft(folder)
    assert (found.files, len(found.outcome.utterances), found.outcome.speakers) == (90, 90, {"anna", "bert", "carl"})
    remark = "100 files of macOS (._*, __MACOSX) are called like recordings, and are left out"
    assert found.remarks == (remark,)
    known = check(replace(found.definition, folder="x"), tmp_path)
    assert known.files == 90
    assert [one.sentence for one in known.findings if "macOS" in one.sentence or "archive" in one.sentence] == [remark]
    assert remark in run("new", folder, "--out", tmp_path / "d.yaml").output


def test_a_table_of_macos_is_no_table(tmp_path: Path) -> None:
    folder = put(tmp_path / "x", [f"{number}.wav" for number in range(20)])
    rows = [f"{n}.wav,s{n % 4},{('Wut', 'Freude', 'Trauer')[n % 3]}" for n in range(20)]
    (folder / "a.csv").write_text("file,speaker,emotion\n" + "\n".join(rows), encoding="utf-8")
    (folder / "._a.csv").write_bytes(b"\x00\x05\x16\x07" + bytes(100))
    definition = draft(folder).definition
    assert definition.table is not None
    wide = replace(definition, table={**definition.table, "file": "*.csv"})
    assert len(outcome_by(wide, folder).utterances) == 20


def run(*arguments: object) -> Result:
    return CliRunner().invoke(corpora_group, [str(one) for one in arguments], env={"MSER_DEFINITIONS": None})


def test_the_command_writes_once_and_says_what_is_next(tmp_path: Path) -> None:
    folder = put(tmp_path / "corpora" / "shemo2", NAMES["shemo"])
    out = tmp_path / "own" / "mine.yaml"
    given = ("new", folder, "--out", out, "--corpora", tmp_path / "corpora", "--licence", "CC0-1.0", "--name", "mine")
    found = run(*given)
    assert found.exit_code == 0, found.output
    assert f"mser corpora check {out}" in found.output
    assert f"make manifest LANG=fa MSER_DEFINITIONS={out.parent}" in found.output
    assert "put the folder" not in found.output
    assert "5 speakers" in found.output
    assert "A anger (guess)" in found.output
    assert "Under what terms" not in found.output
    assert r"pattern: (?:.*/)?(?P<speaker>(?P<gender>F|M)\d\d)(?P<emotion>[A-Z])" in found.output
    read = CorpusDefinition.from_yaml(out)
    assert (read.name, read.folder, read.licence) == ("mine", "shemo2", "CC0-1.0")
    before = out.read_bytes()
    again = run(*given)
    assert again.exit_code == 1
    assert "not overwritten" in again.output
    assert out.read_bytes() == before
    elsewhere = run("new", folder, "--out", tmp_path / "b.yaml", "--corpora", tmp_path / "other", "--name", "emodb")
    assert f"put the folder, or a link to it, at {tmp_path / 'other' / 'shemo2'}" in elsewhere.output
    assert "takes its place" in elsewhere.output


@pytest.mark.parametrize("name", ["foo.txt", "foo", ".foo.yaml", "foo.json"])
def test_a_file_that_definitions_are_not_read_from_is_refused(tmp_path: Path, name: str) -> None:
    found = run("new", put(tmp_path / "x", NAMES["shemo"]), "--out", tmp_path / name)
    assert found.exit_code == 1
    assert f"give --out {tmp_path / 'foo.yaml'}" in found.output
    assert not (tmp_path / name).exists()


def test_a_second_definition_of_a_name_in_a_folder_is_refused(tmp_path: Path) -> None:
    folder, own = put(tmp_path / "x", NAMES["shemo"]), tmp_path / "own"
    assert run("new", folder, "--out", own / "a.yml").exit_code == 0
    (own / "broken.yaml").write_text("a: [", encoding="utf-8")
    found = run("new", folder, "--out", own / "b.yaml")
    assert found.exit_code == 1
    for words in ("A definition named x is in this folder", f"also {own / 'a.yml'}", "--name"):
        assert words in found.output
    assert not (own / "b.yaml").exists()
    assert run("new", folder, "--out", own / "b.yaml", "--name", "y").exit_code == 0


def test_the_next_steps_can_be_pasted_whatever_the_paths_are(tmp_path: Path) -> None:
    folder = put(tmp_path / "my corpora $1" / "x", NAMES["shemo"])
    out = tmp_path / "it's mine" / "x y.yaml"
    found = run("new", folder, "--out", out, "--corpora", folder.parent).output
    check_line, make_line = (line for line in found.splitlines() if line.startswith(("  mser", "  make")))
    assert shlex.split(check_line) == ["mser", "corpora", "check", str(out), "--corpora", str(folder.parent)]
    makefile = tmp_path / "Makefile"
    makefile.write_text("export MSER_CORPORA MSER_DEFINITIONS\nmanifest:\n\t@printenv MSER_CORPORA MSER_DEFINITIONS\n")
    done = subprocess.run(
        ["sh", "-c", f"make -f '{makefile}' {make_line.split('make ')[1]}"], capture_output=True, text=True
    )
    assert done.stdout.splitlines() == [str(folder.parent), str(out.parent)]
    elsewhere = run("new", folder, "--out", out.with_name("z.yaml"), "--name", "z").output
    assert f"or set MSER_CORPORA={shlex.quote(str(folder.parent))}" in elsewhere
    assert "check" in elsewhere
    assert "--corpora" not in elsewhere


def outcome_by(definition: CorpusDefinition, folder: Path) -> Outcome:
    return read_names(definition.reader(folder), [one.relative for one in candidates(folder)])


@pytest.mark.real
@pytest.mark.parametrize(
    ("corpus", "language", "told"),
    [("emodb", "", "de"), ("emovo", "", "it"), ("savee", "en", "en"), ("urdu", "ur", "ur")],
)
def test_a_real_corpus_is_read_as_its_shipped_definition_reads_it(
    tmp_path: Path, corpus: str, language: str, told: str
) -> None:
    folder = Path(os.environ.get("MSER_CORPORA", "corpora")) / corpus
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    # Its name is hidden, so that names of recordings alone are looked at.
    (tmp_path / "hidden").symlink_to(folder.resolve())
    found = draft(tmp_path / "hidden", language=language)
    shipped = CorpusDefinition.from_yaml(
        Path(__file__).resolve().parents[1] / "data_manifest" / "corpora" / f"{corpus}.yaml"
    )
    right = {one.path: one for one in outcome_by(shipped, folder).utterances}
    read = {one.path: one for one in found.outcome.utterances}
    assert found.definition.language == told
    assert right
    assert set(read) == set(right)
    for path, one in read.items():
        assert (one.fields["speaker"], one.emotion) == (right[path].fields["speaker"], right[path].emotion)
        assert one.fields["gender"] in ("", right[path].fields["gender"])
    # EmoDB's numbers and SAVEE's initials do not tell it, and it is asked.
    told_gender = {one.fields["gender"] for one in read.values()} == {"female", "male"}
    assert told_gender == (corpus in ("emovo", "urdu"))
    assert any("female, which male" in one.text for one in found.questions) != told_gender
