"""`mser corpora new`: folders that it refuses or takes, what it writes and where, and what it says is next."""

from __future__ import annotations

import os
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from draft_folders import NAMES, outcome_by, put, run

from mser.corpora import CorpusDefinition
from mser.corpora.check import check
from mser.corpora.new import draft, write_draft
from mser.errors import ConfigError, CorpusError


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


def test_nothing_that_looks_like_emotions_is_an_error_that_shows_what_was_seen(tmp_path: Path) -> None:
    folder = put(tmp_path / "x", [f"{who}_{number:03}.wav" for who in ("jo", "mia") for number in range(20)])
    (folder / "list.csv").write_text("name,score\n" + "".join(f"jo_{n:03},{n}\nmia_{n:03},{n}\n" for n in range(20)))
    with pytest.raises(CorpusError, match="looks like emotions") as error:
        draft(folder, language="en")
    assert "name, part 1 of 2: jo, mia" in str(error.value.found)
    assert "list.csv, column score: 0, 1" in str(error.value.found)
    assert "(?P<emotion>" in str(error.value.hint)


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
        ["sh", "-c", f"make -f '{makefile}' {make_line.split('make ')[1]}"],
        capture_output=True,
        text=True,
        env={name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))},
    )
    assert done.stdout.splitlines() == [str(folder.parent), str(out.parent)]
    elsewhere = run("new", folder, "--out", out.with_name("z.yaml"), "--name", "z").output
    assert f"or set MSER_CORPORA={shlex.quote(str(folder.parent))}" in elsewhere
    assert "check" in elsewhere
    assert "--corpora" not in elsewhere
