"""A definition proposed by the names of a folder alone: roles, labels, questions, real corpora."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import pytest
import yaml
from draft_folders import NAMES, outcome_by, put

from mser.corpora import CorpusDefinition
from mser.corpora.codes import label_values, load_vocabulary, nearest_label, read_word
from mser.corpora.names import Field, views_of
from mser.corpora.new import draft
from mser.corpora.proposal import Proposal, composed, propose
from mser.labels import load_labels
from mser.languages import fault_of


def proposed(paths: Iterable[str], language: str = "") -> Proposal:
    found = propose(composed(sorted(map(PurePosixPath, paths))), language)
    assert found is not None
    return found


def where(found: Proposal) -> dict[str, str]:
    return {role.name: role.where for role in found.roles}


def labels(found: Proposal) -> dict[str, str | None]:
    return {value: read.label if read else None for value, read in found.labelling.readings.items()}


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
