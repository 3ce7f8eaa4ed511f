"""Manifests: what a scan lists, what it rejects and warns of, and that an edited file is refused."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from conftest import WriteTone

from extract.cli import main
from extract.manifest import Scan, copies, present, scan, to_scan
from mser.config import Workspace
from mser.corpora import CorpusDefinition
from mser.errors import CorpusError, ManifestError
from mser.manifest import Manifest, read_manifests


@pytest.fixture
def tiny(definitions: Path) -> CorpusDefinition:
    return CorpusDefinition.from_yaml(definitions / "tiny.yaml")


@pytest.fixture
def found(tiny: CorpusDefinition, corpora: Path) -> Scan:
    return scan(tiny, corpora)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_row_says_what_the_file_and_its_name_say(found: Scan, corpora: Path) -> None:
    files = sorted((corpora / "tiny").rglob("*.wav"))
    assert [row.path for row in found.manifest.utterances] == [
        str(path.relative_to(corpora / "tiny")) for path in files
    ]
    assert (found.rejected, found.left_out, found.warnings) == ((), 0, ())
    for row, path in zip(found.manifest.utterances, files, strict=True):
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
        digest = hashlib.sha256(f"{rate} {samples.shape[1]} ".encode() + samples.tobytes()).hexdigest()
        assert (row.num_samples, row.sample_rate, row.sha256) == (len(samples), rate, digest)
        assert row.utterance_id == f"tiny/{path.parent.name}/{path.stem}"
        assert (row.corpus, row.language, row.speaker, row.speaker_id) == (
            "tiny", "de", path.parent.name, f"tiny/{path.parent.name}",
        )  # fmt: skip
        assert row.gender == {"f": "female", "m": "male"}[row.speaker[0]]
        assert row.text_id == path.stem[:2]
        assert (row.source_label, row.emotion) == (path.stem[3:], {"ang": "anger", "neu": "neutral"}[path.stem[3:]])
        assert row.seconds == pytest.approx(soundfile.info(path).duration)


def test_a_manifest_is_read_back_as_it_was_written(found: Scan, workspace: Workspace) -> None:
    path = found.manifest.write(workspace, found.rejected, found.warnings)
    assert Manifest.read(workspace, "tiny") == found.manifest
    assert [row["utterance_id"] for row in rows_of(path)] == [row.utterance_id for row in found.manifest.utterances]
    assert rows_of(path.with_suffix(".rejected.csv")) == []
    assert sorted(item.name for item in workspace.manifests.iterdir()) == [
        "tiny.csv", "tiny.json", "tiny.rejected.csv",
    ]  # fmt: skip


def test_commas_quotes_and_umlauts_survive(found: Scan, workspace: Workspace) -> None:
    odd = replace(found.manifest.utterances[0], path='f1/ä, "b"\n.wav', text_id=" 007 ", intensity="")
    manifest = replace(found.manifest, utterances=(odd,))
    manifest.write(workspace, [], [])
    assert Manifest.read(workspace, "tiny") == manifest


def test_the_same_files_give_the_same_bytes(tiny: CorpusDefinition, corpora: Path, tmp_path: Path) -> None:
    copies = []
    for name in ("one", "two"):
        result = scan(tiny, corpora)
        path = result.manifest.write(Workspace(tmp_path / name), result.rejected, result.warnings)
        copies.append([item.read_bytes() for item in sorted(path.parent.iterdir())])
    assert copies[0] == copies[1]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("anger", "neutral", "changed after it was made"),
        ("tiny/f1/t1_ang,", "tiny/f1/t9_ang,", "changed after it was made"),
        ("16000", "sixteen", "damaged row"),
        ("sha256\n", "sha\n", "damaged row"),
    ],
)
def test_an_edited_manifest_is_refused(found: Scan, workspace: Workspace, old: str, new: str, words: str) -> None:
    path = found.manifest.write(workspace, [], [])
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ManifestError, match=words) as error:
        Manifest.read(workspace, "tiny")
    assert str(path) in str(error.value)
    assert "make manifest" in str(error.value)


def test_a_removed_row_is_noticed(found: Scan, workspace: Workspace) -> None:
    path = found.manifest.write(workspace, [], [])
    path.write_text("".join(path.read_text(encoding="utf-8").splitlines(keepends=True)[:-1]), encoding="utf-8")
    with pytest.raises(ManifestError, match="changed after it was made"):
        Manifest.read(workspace, "tiny")


def test_another_schema_and_a_missing_manifest_are_refused(found: Scan, workspace: Workspace) -> None:
    with pytest.raises(ManifestError, match="no manifest of corpus 'tiny'"):
        Manifest.read(workspace, "tiny")
    head = found.manifest.write(workspace, [], []).with_suffix(".json")
    content = json.loads(head.read_bytes())
    head.write_text(json.dumps({**content, "schema_version": 99}), encoding="utf-8")
    with pytest.raises(ManifestError, match="schema") as error:
        Manifest.read(workspace, "tiny")
    assert (error.value.expected, error.value.found) == (content["schema_version"], 99)


def test_manifests_are_chosen_by_language(found: Scan, workspace: Workspace) -> None:
    with pytest.raises(ManifestError, match="no manifest yet"):
        read_manifests(workspace, [])
    found.manifest.write(workspace, [], [])
    rows = tuple(replace(row, corpus="other", language="it") for row in found.manifest.utterances)
    replace(found.manifest, corpus="other", language="it", utterances=rows).write(workspace, [], [])
    assert [item.corpus for item in read_manifests(workspace, None)] == ["other", "tiny"]
    assert [item.corpus for item in read_manifests(workspace, ["de"])] == ["tiny"]
    with pytest.raises(ManifestError, match="language 'fr'") as error:
        read_manifests(workspace, ["de", "fr"])
    assert "make manifest LANG=fr" in str(error.value)
    assert "de it" in str(error.value)


def test_every_file_that_cannot_be_used_is_listed_with_its_reason(
    tiny: CorpusDefinition, corpora: Path, workspace: Workspace, write_tone: WriteTone
) -> None:
    folder = corpora / "tiny"
    (folder / "f1" / "t3_ang.wav").write_text("no audio")
    soundfile.write(folder / "f1" / "t4_ang.wav", np.zeros(100), 16_000)
    soundfile.write(folder / "f1" / "t5_ang.wav", np.array([]), 16_000)
    write_tone(folder / "notes" / "sound.wav")
    write_tone(folder / "x1" / "t1_ang.WAV")
    write_tone(folder / "f1" / "t1_odd.wav")
    (folder / "readme.txt").write_text("not a recording, not listed")
    calls: list[tuple[int, int]] = []
    result = scan(tiny, corpora, lambda done, total: calls.append((done, total)))
    path = result.manifest.write(workspace, result.rejected, result.warnings)
    reasons = {row["path"]: row["reason"] for row in rows_of(path.with_suffix(".rejected.csv"))}
    expected = {
        "f1/t3_ang.wav": "cannot be decoded",
        "f1/t4_ang.wav": "silent",
        "f1/t5_ang.wav": "no samples",
        "notes/sound.wav": "does not match the pattern",
        "x1/t1_ang.WAV": "does not match the pattern",
    }
    assert set(reasons) == set(expected)
    assert all(words in reasons[name] for name, words in expected.items())
    assert result.left_out == 1
    assert len(result.manifest.utterances) == 8
    assert calls == [(number, 14) for number in range(1, 15)]


def test_of_two_files_with_one_name_the_second_is_rejected(
    tiny: CorpusDefinition, corpora: Path, write_tone: WriteTone
) -> None:
    write_tone(corpora / "tiny" / "f1" / "t1_ang.flac")
    result = scan(tiny, corpora)
    assert [(item.path, item.reason) for item in result.rejected] == [
        ("f1/t1_ang.wav", "same name as f1/t1_ang.flac in another format")
    ]
    ids = [row.utterance_id for row in result.manifest.utterances]
    assert len(set(ids)) == len(ids) == 8


def test_warnings_name_what_is_missing(tiny: CorpusDefinition, corpora: Path) -> None:
    shutil.rmtree(corpora / "tiny" / "m2")
    (corpora / "tiny" / "f1" / "t1_ang.wav").unlink()
    known = replace(tiny, speakers={"f1": {}, "m2": {}})
    warnings = "\n".join(scan(known, corpora).warnings)
    for words in (
        "3 utterances, published 8",
        "1 speakers, published 2; not seen: m2",
        "anger 1 of 4",
        "neutral 2 of 4",
    ):
        assert words in warnings
    assert "tiny: 1 speakers, published 2; seen: f1" in scan(tiny, corpora).warnings
    assert scan(replace(tiny, expected={}), corpora).warnings == ()


def test_a_corpus_without_folder_or_usable_file_is_refused(tiny: CorpusDefinition, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="language 'de' has a folder") as missing:
        present([tiny], tmp_path)
    assert missing.value.file == tmp_path
    assert "at least one of the folders tiny" in str(missing.value)
    assert "make download LANG=de" in str(missing.value)
    assert "MSER_CORPORA" in str(missing.value)
    (tmp_path / "tiny").mkdir()
    assert present([replace(tiny, name="other"), tiny], tmp_path) == [tiny]
    with pytest.raises(CorpusError, match="0 audio files"):
        scan(tiny, tmp_path)
    (tmp_path / "tiny" / "t.wav").write_text("no audio")
    with pytest.raises(CorpusError, match="No file of corpus 'tiny' can be used") as unusable:
        scan(tiny, tmp_path)
    assert "t.wav: the name does not match the pattern" in str(unusable.value)
    assert "get the corpus: make it" in str(unusable.value)


def test_a_corpus_of_left_out_emotions_alone_is_refused(
    tiny: CorpusDefinition, tmp_path: Path, write_tone: WriteTone
) -> None:
    write_tone(tmp_path / "tiny" / "f1" / "t1_odd.wav")
    with pytest.raises(CorpusError, match="1 audio files, 0 rejected"):
        scan(tiny, tmp_path)


@pytest.mark.parametrize("language", ["de", "it"])
def test_two_definitions_that_read_the_same_files_are_refused_whatever_their_languages(
    tiny: CorpusDefinition, corpora: Path, language: str
) -> None:
    twin = replace(tiny, name="twin", folder="tiny", language=language)
    known = {"tiny": tiny, "twin": twin}
    for languages in ([], ["de"], [language]):
        with pytest.raises(CorpusError, match="read the same recordings") as error:
            to_scan(languages, corpora, known)
        assert {"tiny and twin both read 8 files", "twin and tiny both read 8 files"} & {str(error.value.found)[:31]}
        assert str(corpora / "tiny" / "f1" / "t1_ang.wav") in str(error.value)
        assert str(tiny.source) in str(error.value)


@pytest.mark.parametrize("target", ["tiny", "tiny/f1"])
def test_a_folder_that_is_there_under_two_names_is_refused(tiny: CorpusDefinition, corpora: Path, target: str) -> None:
    (corpora / "twin").symlink_to(target)
    twin = replace(
        tiny, name="twin", pattern=r"(?:.*/)?(?P<text_id>t\d)_(?P<emotion>[a-z]+)", speaker="one", genders={}
    )
    with pytest.raises(CorpusError, match="under two names") as error:
        to_scan(["de"], corpora, {"tiny": tiny, "twin": twin})
    assert f"such as {corpora}/tiny/f1/t1_ang.wav (also {corpora}/{target.replace('tiny', 'twin')[:4]}" in str(
        error.value
    )


def test_definitions_that_part_the_files_of_a_folder_are_fine(tiny: CorpusDefinition, corpora: Path) -> None:
    pattern = str(tiny.pattern)
    (corpora / "other").mkdir()
    women = replace(tiny, skip="m2/.*")
    men = replace(tiny, name="men", folder="tiny", language="it", skip="f1/.*")
    elsewhere = replace(tiny, name="other", pattern=pattern)
    known = {one.name: one for one in (women, men, elsewhere)}
    assert to_scan(["de", "it"], corpora, known) == [women, elsewhere, men]
    # A definition that cannot be read by is said where it is used.
    table = {"file": "none.csv", "path": "file", "columns": {"speaker": "s", "emotion": "e"}}
    broken = replace(tiny, name="broken", folder="tiny", language="fr", pattern=None, table=table)
    assert to_scan(["de"], corpora, {**known, "broken": broken}) == [women, elsewhere]
    with pytest.raises(CorpusError, match="table of a corpus is not there"):
        to_scan(["fr"], corpora, {**known, "broken": broken})


def test_the_command_refuses_before_it_writes(definitions: Path, corpora: Path, tmp_path: Path) -> None:
    text = (definitions / "tiny.yaml").read_text(encoding="utf-8")
    (definitions / "twin.yaml").write_text(text.replace("name: tiny", "name: twin\nfolder: tiny"), encoding="utf-8")
    home = tmp_path / "home"
    options = ["--language", "de", "--corpora", str(corpora), "--definitions", str(definitions), "--home", str(home)]
    result = CliRunner().invoke(main, ["manifest", *options])
    assert result.exit_code == 1
    assert "both read 8 files" in result.output
    assert not home.exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"examples": {"f1/t1_ang.wav": {"emotion": "neutral"}}}, "is read with emotion 'anger', and 'neutral' is"),
        ({"emotions": {"ang": "anger", "odd": None}}, "label 'neu' of 4 files has no entry in emotions"),
        ({"pattern": r"(?P<speaker>\w+/t\d_(?P<emotion>[a-z]+))", "genders": {}}, "two groups at once"),
        ({"pattern": r"(?P<speaker>\w+/t\d_[a-z])[a-z](?P<emotion>[a-z])", "genders": {},
          "emotions": {"g": "anger", "u": "neutral"}}, "as many speakers as files"),
    ],
)  # fmt: skip
def test_what_a_definition_reads_wrongly_is_a_warning(
    tiny: CorpusDefinition, corpora: Path, changes: dict[str, object], words: str
) -> None:
    warnings = scan(replace(tiny, **changes), corpora).warnings
    assert [one for one in warnings if words in one and "`mser corpora check tiny` says where" in one]


def test_counts_far_from_the_published_ones_ask_for_folder_and_level(tiny: CorpusDefinition, corpora: Path) -> None:
    expected = {"utterances": 100, "speakers": 10}
    few = [one for one in scan(replace(tiny, expected=expected), corpora).warnings if "published" in one]
    assert len(few) == 2
    assert all("the right level of it" in one and "`mser corpora check tiny`" in one for one in few)
    (many,) = (one for one in scan(replace(tiny, expected={"utterances": 3}), corpora).warnings if "published" in one)
    assert "is there more than this corpus in the folder" in many
    (near,) = (one for one in scan(replace(tiny, expected={"utterances": 9}), corpora).warnings if "published" in one)
    assert near == "tiny: 8 utterances, published 9"


def test_copies_of_recordings_in_two_corpora_are_told(tiny: CorpusDefinition, corpora: Path) -> None:
    shutil.copytree(corpora / "tiny" / "f1", corpora / "copy" / "f1")
    copy = scan(replace(tiny, name="copy", expected={}), corpora).manifest
    found = scan(tiny, corpora).manifest
    (sentence,) = copies([found, copy])
    assert "tiny and copy share 4 recordings" in sentence
    assert "tiny/f1/t1_ang and copy/f1/t1_ang" in sentence
    assert list(copies([found])) == []
