"""What `mser corpora check` finds in definitions and in folders, by names alone."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from draft_folders import put

from mser.corpora import CorpusDefinition, load_definitions
from mser.corpora.check import Checked, check
from mser.corpora.cli import corpora_group

HEAD = """\
name: {name}
title: A corpus made by the tests
language: de
licence: none
citation: none
get: make it
"""
PATTERN = r"pattern: '(?P<speaker>[fm]\d)/(?P<text_id>t\d)_(?P<emotion>[a-z]+)'"
REST = "emotions: {ang: anger, neu: neutral}\n"
NAMES = [f"{who}/{text}_{one}.wav" for who in ("f1", "f2", "m1") for text in ("t1", "t2") for one in ("ang", "neu")]


def define(folder: Path, body: str = PATTERN + "\n" + REST, name: str = "tiny") -> CorpusDefinition:
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.yaml"
    path.write_text(HEAD.format(name=name) + body, encoding="utf-8")
    return CorpusDefinition.from_yaml(path)


def checked(tmp_path: Path, names: Iterable[str], body: str = PATTERN + "\n" + REST, **changes: Any) -> Checked:
    put(tmp_path / "corpora" / "tiny", names)
    return check(replace(define(tmp_path / "own", body), **changes), tmp_path / "corpora")


def said(found: Checked, severity: str) -> list[str]:
    return [one.sentence for one in found.findings if one.severity == severity]


def test_a_folder_that_fits_gives_no_finding(tmp_path: Path) -> None:
    expected = {"utterances": 12, "speakers": 3, "emotions": {"anger": 6, "neutral": 6}}
    found = checked(tmp_path, NAMES, expected=expected)
    assert (found.findings, found.faulty, found.files) == ((), False, 12)


def test_a_folder_that_is_not_there_leaves_the_definition_alone(tmp_path: Path) -> None:
    body = PATTERN + "\n" + REST + "examples:\n  f1/t1_ang.wav: {speaker: f1, emotion: anger}\n"
    found = check(define(tmp_path / "own", body), tmp_path)
    assert (found.findings, found.outcome) == ((), None)


@pytest.mark.parametrize(
    ("example", "words"),
    [
        ("f1/t1_ang.wav: {speaker: f1, emotion: ang, text_id: t1}", None),
        ("f1/t1_ang.wav: {speaker: f2}", "is read with speaker 'f1', and 'f2' is stated"),
        ("f1/t1_ang.wav: {emotion: neutral}", "is read with emotion 'anger', and 'neutral' is stated"),
        ("f1/t1_ang.wav: {gender: null}", None),
        ("f1/t1_ang.wav: {gender: female}", "is read with gender '', and 'female' is stated"),
        ("f1-t1_ang.wav: {speaker: f1}", "does not match the pattern"),
        ("f1/t1_joy.wav: {speaker: f1}", "'joy' is not in the definition"),
    ],
)
def test_examples_are_read_as_stated(tmp_path: Path, example: str, words: str | None) -> None:
    definition = define(tmp_path / "own", f"{PATTERN}\n{REST}examples:\n  {example}\n")
    errors = [one for one in check(definition, tmp_path).findings if one.severity == "error"]
    assert len(errors) == (words is not None)
    if words is not None:
        assert words in errors[0].sentence
        assert errors[0].place == f"{tmp_path / 'own' / 'tiny.yaml'}:10"


def test_a_pattern_that_matches_nothing_shows_names_and_the_pattern(tmp_path: Path) -> None:
    found = checked(tmp_path, [f"deeper/{number}.wav" for number in range(5)])
    (sentence,) = said(found, "error")
    assert "none of 5 recordings is read, such as deeper/0.wav, deeper/1.wav, deeper/2.wav and 2 more" in sentence
    assert define(tmp_path / "own").pattern in sentence  # type: ignore[operator]
    assert found.findings[0].place.endswith("tiny.yaml:7")


def test_files_that_do_not_match_are_counted_and_named(tmp_path: Path) -> None:
    found = checked(tmp_path, [*NAMES, "a.wav", "b.wav", "c.wav", "d.wav"])
    (sentence,) = said(found, "warning")
    assert sentence.startswith("4 of 16 recordings are not read: a.wav (the name does not match the pattern), b.wav")
    assert sentence.endswith("and 1 more")
    assert not found.faulty


def test_a_label_without_a_mapping_is_an_error_with_the_nearest_and_one_that_never_occurs_a_warning(
    tmp_path: Path,
) -> None:
    names = [*NAMES, "f1/t1_surpr.wav", "f2/t1_surpr.wav", "m1/t1_zzzz.wav"]
    found = checked(tmp_path, names, emotions={"ang": "anger", "neu": "neutral", "bor": "boredom"})
    errors = said(found, "error")
    assert errors[0] == "label 'surpr' of 2 files has no entry in emotions; it may mean surprise"
    assert errors[1].startswith("label 'zzzz' of 1 files has no entry in emotions; map it to a label")
    assert said(found, "warning") == ["labels that never occur: bor"]
    assert [one.place.split(":")[-1] for one in found.findings] == ["8", "8", "8"]


def test_labels_that_are_left_out_on_purpose_occur(tmp_path: Path) -> None:
    found = checked(tmp_path, NAMES, emotions={"ang": "anger", "neu": None})
    assert said(found, "warning") == []
    assert found.outcome is not None
    assert len(found.outcome.left_out) == 6


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        (r"(?P<speaker>[fm]\d/t\d_(?P<emotion>[a-z]+))", "two groups at once: speaker 'f1/t1_ang' and emotion 'ang'"),
        (r"[fm]\d/(?P<speaker>t\d_)(?P<emotion>[a-z]+)", None),
        (r"(?P<speaker>.+)_(?P<emotion>[a-z]+)", None),
    ],
)
def test_a_speaker_that_is_the_emotion_too_is_an_error(tmp_path: Path, pattern: str, words: str | None) -> None:
    errors = said(checked(tmp_path, NAMES, f"pattern: '{pattern}'\n{REST}"), "error")
    assert (words is None and errors == []) or any(words in error for error in errors if words)


def test_an_emotion_or_a_speaker_at_a_wrong_place_is_an_error(tmp_path: Path) -> None:
    found = checked(tmp_path, [name for name in NAMES if "ang" in name])
    assert said(found, "error") == ["emotion is 'ang' in all 6 files: it is read at a wrong place"]
    names = [f"{number:03}_{one}.wav" for number, one in enumerate(["ang", "neu"] * 8)]
    folder = tmp_path / "again"
    body = r"pattern: '(?P<speaker>\d+)_(?P<emotion>[a-z]+)'" + "\n" + REST
    put(folder / "tiny", names)
    errors = [one.sentence for one in check(define(tmp_path / "own", body), folder).findings if one.severity == "error"]
    assert errors == ["as many speakers as files, such as 000, 001, 002 and 13 more: speaker is read at a wrong place"]


def test_speakers_and_texts_of_one_emotion_are_facts(tmp_path: Path) -> None:
    names = ["f1/t1_ang.wav", "f1/t2_ang.wav", "f2/t3_neu.wav", "f2/t1_neu.wav", "m1/t1_ang.wav", "m1/t1_neu.wav"]
    found = checked(tmp_path, names)
    facts = ["2 of 3 speakers carry a single emotion", "2 of 3 texts are spoken in a single emotion"]
    assert said(found, "fact") == facts
    assert not found.faulty


@pytest.mark.parametrize(
    ("expected", "severity", "words"),
    [
        ({"utterances": 14}, "warning", "12 utterances, published 14"),
        ({"utterances": 100}, "error", "12 utterances, published 100; is it the right folder, and the right level"),
        ({"speakers": 1}, "error", "3 speakers, published 1; is there more than this corpus"),
        ({"emotions": {"anger": 6, "neutral": 5}}, "warning", "other counts than published: neutral 6 of 5"),
    ],
)
def test_counts_are_compared_with_the_published_ones(
    tmp_path: Path, expected: dict[str, Any], severity: str, words: str
) -> None:
    found = checked(tmp_path, NAMES, expected=expected)
    assert [one.severity for one in found.findings] == [severity]
    assert words in found.findings[0].sentence


def test_two_definitions_that_read_the_same_files_are_named_also_through_a_link(tmp_path: Path) -> None:
    put(tmp_path / "corpora" / "tiny", NAMES)
    (tmp_path / "corpora" / "other").symlink_to("tiny")
    one = define(tmp_path / "own")
    two = define(tmp_path / "own", name="other")
    found = check(one, tmp_path / "corpora", [one, two])
    (sentence,) = said(found, "error")
    assert "tiny and other both read 12 files, such as" in sentence
    assert f"such as {tmp_path}/corpora/tiny/f1/t1_ang.wav (also {tmp_path}/corpora/other/f1/t1_ang.wav)" in sentence
    parted = replace(two, skip="f.*|m.*")
    assert check(one, tmp_path / "corpora", [parted]).findings == ()


FEW = "the protocol `speakers` needs 3, for training, dev and test; PROTOCOL=random-70-10-20 takes fewer, and measures "
FEW += "nothing for new speakers"


@pytest.mark.parametrize(("number", "told"), [(1, "only 1 speaker"), (2, "only 2 speakers"), (3, "")])
def test_fewer_speakers_than_a_split_needs_are_a_warning(tmp_path: Path, number: int, told: str) -> None:
    names = [name for name in NAMES if name[:2] in ("f1", "f2", "m1")[:number]]
    assert said(checked(tmp_path, names), "warning") == ([f"{told}: {FEW}"] if told else [])
    # What the definition says itself is no news.
    for known in ({"expected": {"speakers": number}}, {"defects": ({"kind": "one-speaker", "note": "x"},)}):
        found = checked(tmp_path, [], **known)
        assert said(found, "warning") == []
        assert [one for one in said(found, "fact") if "random-70-10-20" in one] == ([f"{told}: {FEW}"] if told else [])


def test_speakers_that_are_not_told_apart_are_a_warning_at_their_line(tmp_path: Path) -> None:
    body = r"pattern: '[fm]\d/(?P<text_id>t\d)_(?P<emotion>[a-z]+)'" + "\nspeaker: unknown\n" + REST
    (finding,) = checked(tmp_path, NAMES, body).findings
    assert (finding.severity, finding.sentence) == ("warning", f"speakers are not told apart: {FEW}")
    assert finding.place.endswith("tiny.yaml:8")


def test_as_many_texts_as_files_are_a_warning(tmp_path: Path) -> None:
    names = [name.replace("/t", f"/t{number}") for number, name in enumerate(NAMES)]
    body = PATTERN.replace(r"t\d", r"t\d+") + "\n" + REST
    found = checked(tmp_path, names, body)
    (sentence,) = said(found, "warning")
    assert sentence.startswith("as many texts as files, such as t01, t102, t11: text_id is no sentence")
    assert said(found, "fact") == []
    assert checked(tmp_path, [], body, speech="spontaneous").findings != found.findings


def test_what_a_draft_still_asks_is_a_warning_without_its_folder_too(tmp_path: Path) -> None:
    definition = define(tmp_path / "own")
    text = (tmp_path / "own" / "tiny.yaml").read_text(encoding="utf-8")
    text = text.replace("licence: none", "# QUESTION: terms?\nlicence: unknown").replace("get: make it", "get: unknown")
    (tmp_path / "own" / "tiny.yaml").write_text(text + "# QUESTION: which of them\n#   are female?\n", encoding="utf-8")
    (finding,) = check(CorpusDefinition.from_yaml(tmp_path / "own" / "tiny.yaml"), tmp_path / "nowhere").findings
    assert finding.severity == "warning"
    assert finding.sentence == (
        "licence, get are unknown; 2 lines # QUESTION are left in the file: answer and delete them"
    )
    assert finding.place.endswith("tiny.yaml:5")
    assert check(replace(definition, source=type(definition.source)()), tmp_path / "nowhere").findings == ()


def test_labels_that_are_all_left_out_are_an_error(tmp_path: Path) -> None:
    found = checked(tmp_path, NAMES, PATTERN + "\nemotions: {ang: null, neu: null}\n")
    (sentence,) = said(found, "error")
    assert sentence.startswith("every label is left out")


def test_archives_that_were_not_unpacked_are_named(tmp_path: Path) -> None:
    found = checked(tmp_path, [*NAMES, "part2.ZIP", "more.tar.gz", "f1.zip", "deep/x.7z"])
    (sentence,) = said(found, "warning")
    # f1 lies beside f1.zip.
    assert sentence == "3 archives are not unpacked: deep/x.7z, more.tar.gz, part2.ZIP"


def test_names_that_are_not_utf8_are_written_with_backslashes(tmp_path: Path) -> None:
    folder = put(tmp_path / "corpora" / "tiny", NAMES)
    try:
        Path(os.fsdecode(os.fsencode(folder) + b"/f1/t3\xe9_ang.wav")).touch()
    except OSError:
        pytest.skip("this file system stores names as UTF-8 alone")
    found = checked(tmp_path, [])
    assert said(found, "warning") == [r"1 names are not UTF-8, and cannot be used: f1/t3\xe9_ang.wav; rename them"]


def test_recordings_that_cannot_be_decoded_are_named(tmp_path: Path) -> None:
    (sentence,) = said(checked(tmp_path, [*NAMES, "f1/t3_ang.m4a"]), "warning")
    assert sentence.startswith("1 files cannot be used: f1/t3_ang.m4a is .m4a, which cannot be decoded")


def test_a_table_without_its_column_is_an_error(tmp_path: Path) -> None:
    put(tmp_path / "corpora" / "tiny", NAMES)
    body = "table: {file: t.csv, path: wav, columns: {speaker: who, emotion: label}}\n" + REST
    definition = define(tmp_path / "own", body)
    assert "is not there" in said(check(definition, tmp_path / "corpora"), "error")[0]
    (tmp_path / "corpora" / "tiny" / "t.csv").write_text("wav,who\na,b\n", encoding="utf-8")
    (sentence,) = said(check(definition, tmp_path / "corpora"), "error")
    assert "lacks columns" in sentence
    assert "label" in sentence


def run(*arguments: object) -> Result:
    return CliRunner().invoke(corpora_group, [str(one) for one in arguments], env={"MSER_DEFINITIONS": None})


def test_the_command_has_a_line_a_definition_and_ends_with_1_for_an_error(tmp_path: Path) -> None:
    put(tmp_path / "corpora" / "tiny", NAMES)
    define(tmp_path / "own")
    given = ("--definitions", tmp_path / "own", "--corpora", tmp_path / "corpora")
    found = run("check", "tiny", *given)
    assert found.exit_code == 0, found.output
    assert found.output == "tiny: 12 files, 12 utterances, 3 speakers, 2 emotions, 0 left out: 0 errors, 0 warnings\n"
    put(tmp_path / "corpora" / "tiny", ["f1/t1_joy.wav"])
    found = run("check", "tiny", "emodb", *given)
    assert found.exit_code == 1
    assert "tiny: 13 files" in found.output
    assert (
        f"  error: label 'joy' of 1 files has no entry in emotions; it may mean happiness ({tmp_path}" in found.output
    )
    assert "emodb: no folder emodb, so the definition alone" in found.output


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("language: de", "language: deu", 3, "German is written de"),
        ("language: de", "language: xx", 3, "no ISO 639 code"),
        ("licence: none", "licence: 3", 4, "put it in quotes"),
        ("ang: anger", "ang: rage", 8, "a label of labels.yaml"),
        ("get: make it", "get: make it\nget: twice", 7, "twice"),
    ],
)
def test_the_command_names_file_line_and_key_of_a_broken_definition(
    tmp_path: Path, old: str, new: str, line: int, words: str
) -> None:
    define(tmp_path / "own")
    path = tmp_path / "own" / "tiny.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    found = run("check", path, "--corpora", tmp_path)
    assert found.exit_code == 1
    assert f"{path}:{line}" in found.output
    assert words in found.output


def test_two_files_of_one_name_are_an_error(tmp_path: Path) -> None:
    define(tmp_path / "own")
    (tmp_path / "own" / "twin.yaml").write_bytes((tmp_path / "own" / "tiny.yaml").read_bytes())
    found = run("check", "tiny", "--definitions", tmp_path / "own", "--corpora", tmp_path)
    assert found.exit_code == 1
    assert "Two definitions are named tiny" in found.output


def test_every_shipped_definition_passes_without_its_folder(tmp_path: Path) -> None:
    errors = {
        name: said(found, "error")
        for name, one in load_definitions().items()
        if (found := check(one, tmp_path)).faulty
    }  # fmt: skip
    assert errors == {}


@pytest.mark.real
def test_the_real_corpora_pass() -> None:
    corpora = Path(os.environ.get("MSER_CORPORA", "corpora"))
    known = load_definitions()
    present = [known[name] for name in ("emodb", "emovo", "savee", "urdu") if (corpora / name).is_dir()]
    if not present:
        pytest.skip(f"no corpus in {corpora}")
    for one in present:
        found = check(one, corpora, list(known.values()))
        assert [finding.sentence for finding in found.findings if finding.severity != "fact"] == [], one.name
