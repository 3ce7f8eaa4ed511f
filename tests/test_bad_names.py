"""Names, links, twins and files that may not be read: nothing is dropped silently, and nothing outside is used."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from odd_corpus import CORPUS, RATE, healthy, noise, put, reasons

import extract.manifest
import mser.audio
from extract.manifest import scan
from mser.audio import PcmInfo, scan_pcm
from mser.config import Workspace
from mser.corpora.recordings import candidates
from mser.errors import CorpusError
from mser.manifest import Manifest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return healthy(tmp_path)


# Names.

NAMES = ["a b", "line\nbreak", "carriage\rreturn", "both\r\nof them", "Zürich", "cafe\u0301", "声音",
         '"quoted", with comma', "-rf", "x" * 200, "dots.in.it", "trailing "]  # fmt: skip


def test_names_of_all_kinds_survive_from_the_folder_to_the_manifest(folder: Path, tmp_path: Path) -> None:
    for number, name in enumerate(NAMES):
        put(folder / "s1" / "neu" / f"{name}.wav", noise(4_000, seed=number))
    found = scan(CORPUS, folder.parent)
    assert found.rejected == ()
    workspace = Workspace(tmp_path / "work")
    found.manifest.write(workspace, [], [])
    read = Manifest.read(workspace, "odd")
    assert read == found.manifest
    assert {row.path for row in read.utterances} == {f"s1/neu/{name}.wav" for name in NAMES} | {"s1/ang/good.wav"}
    for row in read.utterances:
        assert scan_pcm(folder / row.path).sha256 == row.sha256


def test_a_corpus_folder_may_be_called_as_one_likes(folder: Path, tmp_path: Path) -> None:
    called = "Odd [1] it's (2) & 3 + 4*"
    folder.rename(folder.with_name(called))
    put(folder.with_name(called) / "s1" / "neu" / "b.wav")
    found = scan(replace(CORPUS, folder=called), folder.parent)
    assert (len(found.manifest.utterances), found.rejected) == (2, ())
    found.manifest.write(Workspace(tmp_path / "work"), [], [])
    assert Manifest.read(Workspace(tmp_path / "work"), "odd").place == called


def test_what_macos_leaves_beside_recordings_is_counted_and_not_listed(folder: Path) -> None:
    for place in ("s1/ang/._good.wav", "__MACOSX/odd/s1/ang/._good.wav", "__MACOSX/s2/ang/good.wav"):
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_bytes(b"\x00\x05\x16\x07")
    found = scan(CORPUS, folder.parent)
    assert [row.path for row in found.manifest.utterances] == ["s1/ang/good.wav"]
    assert found.rejected == ()
    assert found.warnings[0] == "odd: 3 files of macOS (._*, __MACOSX) are called like recordings, and are left out"


def test_a_name_that_is_not_utf8_is_rejected_in_letters_that_print(folder: Path, tmp_path: Path) -> None:
    try:
        os.rename(put(folder / "s1" / "x.wav"), os.fsencode(folder) + b"/s1/ang/caf\xe9.wav")
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    found = scan(CORPUS, folder.parent)
    assert reasons(found) == {"s1/ang/caf\\xe9.wav": "its name is not UTF-8; rename it"}
    path = found.manifest.write(Workspace(tmp_path / "work"), found.rejected, [])
    assert "caf\\xe9.wav" in path.with_suffix(".rejected.csv").read_text(encoding="utf-8")


def test_a_table_fits_names_that_macos_wrote(tmp_path: Path) -> None:
    put(tmp_path / "odd" / "mu\u0308de.wav")
    (tmp_path / "odd" / "labels.csv").write_text("file,who,what\nmüde.wav,Jürgen,neu\n", encoding="utf-8")
    table = {"file": "labels.csv", "path": "file", "columns": {"speaker": "who", "emotion": "what"}}
    found = scan(replace(CORPUS, folders=None, table=table), tmp_path)
    assert [(row.path, row.speaker) for row in found.manifest.utterances] == [("mu\u0308de.wav", "Jürgen")]


def test_a_table_that_labels_a_recording_twice_is_not_believed(folder: Path) -> None:
    for name in ("same", "unlike"):
        put(folder / f"{name}.wav", noise(4_000, seed=len(name)))
    rows = ["same.wav,s1,neu", "same.wav,s1,neu", "unlike.wav,s1,neu", "unlike.wav,s1,ang", "s1/ang/good.wav,../s1,neu"]
    (folder / "labels.csv").write_text("\n".join(["file,who,what", *rows]), encoding="utf-8")
    table = {"file": "labels.csv", "path": "file", "columns": {"speaker": "who", "emotion": "what"}}
    found = scan(replace(CORPUS, folders=None, table=table), folder.parent)
    assert [row.path for row in found.manifest.utterances] == ["same.wav"]
    assert reasons(found)["unlike.wav"] == "several rows of the table name it, and differ"
    assert "'../s1' leads out" in reasons(found)["s1/ang/good.wav"]


# Links, and files that may not be read.


def test_links_within_the_corpus_are_used_and_others_are_rejected(folder: Path, tmp_path: Path) -> None:
    put(tmp_path / "elsewhere" / "x.wav")
    links = folder / "s1" / "ang"
    (links / "inside.wav").symlink_to("good.wav")
    (links / "outside.wav").symlink_to(tmp_path / "elsewhere" / "x.wav")
    (links / "upwards.wav").symlink_to("../../../elsewhere/x.wav")
    (links / "dangling.wav").symlink_to("absent.wav")
    (links / "loop.wav").symlink_to("loop.wav")
    (links / "round").symlink_to(folder)
    (folder / "s2").symlink_to(tmp_path / "elsewhere")
    found = scan(CORPUS, folder.parent)
    out = "is a link that leads out of the corpus folder"
    assert reasons(found) == {
        "s1/ang/outside.wav": out,
        "s1/ang/upwards.wav": out,
        "s1/ang/dangling.wav": "is a link to a file that does not exist",
        "s1/ang/loop.wav": "is a link that leads to itself",
        "s1/ang/round": "is a link to a folder, which is not followed",
        "s2": out,
    }
    assert [row.path for row in found.manifest.utterances] == ["s1/ang/good.wav", "s1/ang/inside.wav"]


def test_the_corpus_folder_may_be_a_link(folder: Path, tmp_path: Path) -> None:
    (folder / "s1" / "ang" / "inside.wav").symlink_to(folder / "s1" / "ang" / "good.wav")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "odd").symlink_to(folder)
    assert scan(CORPUS, tmp_path / "linked") == scan(CORPUS, folder.parent)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_rejected(folder: Path) -> None:
    put(folder / "s1" / "neu" / "closed.wav").chmod(0)
    put(folder / "s2" / "neu" / "x.wav").parent.parent.chmod(0)
    try:
        found = reasons(scan(CORPUS, folder.parent))
    finally:
        (folder / "s2").chmod(0o700)
    assert found == {
        "s1/neu/closed.wav": "cannot be decoded: Permission denied",
        "s2": "the folder cannot be read: Permission denied",
    }


def test_what_may_not_be_read_is_rejected_as_seen_by_root(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = put(folder / "s1" / "neu" / "closed.wav")
    put(folder / "s2" / "neu" / "x.wav")
    opened, listed = mser.audio._UnclosedWav, os.scandir

    def open_one(path: Path) -> Any:
        if path == closed:
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path)

    def list_one(path: Any) -> Any:
        if Path(path) == folder / "s2":
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(mser.audio, "_UnclosedWav", open_one)
    monkeypatch.setattr(os, "scandir", list_one)
    assert reasons(scan(CORPUS, folder.parent)) == {
        "s1/neu/closed.wav": "cannot be decoded: Permission denied",
        "s2": "the folder cannot be read: Permission denied",
    }


# Twins and duplicates.


def test_of_two_formats_of_one_name_the_usable_one_is_used(folder: Path) -> None:
    put(folder / "s1" / "ang" / "good.flac")
    (folder / "s1" / "ang" / "x.flac").touch()
    put(folder / "s1" / "ang" / "x.wav")
    found = scan(CORPUS, folder.parent)
    assert [row.path for row in found.manifest.utterances] == ["s1/ang/good.flac", "s1/ang/x.wav"]
    assert reasons(found)["s1/ang/good.wav"] == "same name as s1/ang/good.flac in another format"
    assert "cannot be decoded" in reasons(found)["s1/ang/x.flac"]


def test_recordings_of_the_same_samples_are_kept_and_named(folder: Path) -> None:
    samples = (noise(RATE) * 2**15).astype(np.int16)
    put(folder / "s1" / "ang" / "a.wav", samples)
    put(folder / "s2" / "neu" / "b.flac", samples)
    found = scan(CORPUS, folder.parent)
    assert len(found.manifest.utterances) == 3
    assert found.warnings == (
        "odd: the same samples in s1/ang/a.wav and s2/neu/b.flac; speakers s1, s2; emotions anger, neutral",
    )
    for number in range(8):
        for name in ("x", "y"):
            put(folder / "s3" / "neu" / f"{name}{number}.wav", noise(4_000, seed=number))
    warnings = scan(CORPUS, folder.parent).warnings
    assert len(warnings) == 6
    assert warnings[1] == "odd: the same samples in s3/neu/x0.wav and s3/neu/y0.wav"
    assert warnings[-1] == "odd: the same samples in 4 more groups of recordings"


# The scan in threads.


def test_progress_is_told_in_order_and_by_the_thread_that_scans(folder: Path) -> None:
    for number in range(20):
        put(folder / "s1" / "neu" / f"{number:02}.wav", noise(4_000 + 4_000 * (number % 3), seed=number))
    told: list[tuple[int, int, bool]] = []
    main = threading.current_thread()
    found = scan(CORPUS, folder.parent, lambda *counts: told.append((*counts, threading.current_thread() is main)))
    assert told == [(number, 21, True) for number in range(1, 22)]
    assert scan(CORPUS, folder.parent) == found


def test_an_interrupted_scan_decodes_no_more_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(60):
        put(folder / "s1" / "neu" / f"{number:02}.wav", noise(2_000, seed=number))
    decoded = []

    def slowly(path: Path) -> PcmInfo:
        decoded.append(path)
        time.sleep(0.01)
        return scan_pcm(path)

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(extract.manifest, "scan_pcm", slowly)
    with pytest.raises(KeyboardInterrupt):
        scan(CORPUS, folder.parent, interrupt)
    assert len(decoded) <= 1 + 2 * extract.manifest.SCAN_THREADS


def test_a_folder_that_holds_nothing_else_says_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "odd" / "s1" / "ang").mkdir(parents=True)
    (tmp_path / "odd" / "s1" / "ang" / "x.m4a").touch()
    assert [item.fault for item in candidates(tmp_path / "odd")] == [
        "is .m4a, which cannot be decoded; convert it to flac"
    ]
    with pytest.raises(CorpusError, match=r"s1/ang/x\.m4a: is \.m4a, which cannot be decoded"):
        scan(CORPUS, tmp_path)
