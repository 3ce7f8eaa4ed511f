"""``mser predict`` as a user calls it: what is judged, where it is written, and what is refused before that."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result
from toy_runs import EMOTIONS, alone_in, save_two_runs, tones, write_tones

from mser.cli import main
from mser.config import Workspace
from mser.runs import run_path

#: What an MP4 file begins with.
VIDEO = b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41" + bytes(400)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_two_runs(tmp_path_factory.mktemp("home"))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return alone_in(tmp_path, monkeypatch)


def call(home: Path, *arguments: object, run: str = "two", **options: Any) -> Result:
    given = ["predict", *map(str, arguments), "--run", run, "--home", str(home), "--device", "cpu"]
    return CliRunner().invoke(main, given, **options)


def lines_of(done: Result) -> list[dict]:
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_standard_input_is_judged_as_the_file_is(home: Path) -> None:
    path = write_tones(Path("a.flac"), 1.0)
    (file,) = lines_of(call(home, path, "--language", "de", "--format", "jsonl"))
    (piped,) = lines_of(call(home, "-", "--language", "de", "--format", "jsonl", input=path.read_bytes()))
    assert (file.pop("recording"), piped.pop("recording")) == ("a.flac", "standard input")
    assert piped == file
    assert not (home / "cache").exists()  # a run needs no store to be asked


def test_a_list_names_a_recording_on_each_line(home: Path) -> None:
    for name in ("one.wav", "of two.wav"):
        write_tones(Path(name), 0.5)
    Path("list.txt").write_text("one.wav\n\n  of two.wav\n", encoding="utf-8")
    for given in (["--list", "list.txt"], ["--list", "-"]):
        found = lines_of(call(home, *given, "--format", "jsonl", input=Path("list.txt").read_bytes()))
        assert [(one["recording"], one["language"]) for one in found] == [
            ("one.wav", "de"), ("one.wav", "it"), ("of two.wav", "de"), ("of two.wav", "it"),
        ]  # fmt: skip


def test_csv_and_jsonl_are_written_to_a_file_in_a_folder_that_is_made(home: Path) -> None:
    write_tones(Path("a.wav"), 0.5)
    for form in ("csv", "jsonl"):
        done = call(home, "a.wav", "--format", form, "--output", f"new/folder/out.{form}")
        assert (done.exit_code, done.stdout) == (0, ""), done.output
    told = [json.loads(line) for line in Path("new/folder/out.jsonl").read_text(encoding="utf-8").splitlines()]
    with Path("new/folder/out.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["language"] for row in rows] == ["de", "it"]
    for row, line in zip(rows, told, strict=True):
        assert {name: float(row[f"p_{name}"]) for name in EMOTIONS} == line["probabilities"]


def test_a_table_is_written_to_a_file_and_says_what_is_not_calibrated(home: Path) -> None:
    write_tones(Path("a.wav"), 0.5)
    for run, times in (("two", 0), ("raw", 1)):
        assert call(home, "a.wav", "--output", "out.txt", run=run).exit_code == 0
        table = Path("out.txt").read_text(encoding="utf-8")
        assert "a.wav" in table
        assert table.count("(not calibrated)") == times
    assert "(not calibrated)" in call(home, "a.wav", run="raw").stdout


@pytest.mark.parametrize(
    ("seconds", "options", "spans"),
    [
        (10.0, "", [(0, 10)]),
        (10.0, "--window 6", [(0, 6), (3, 9), (4, 10)]),
        (10.0, "--hop 3", [(0, 4), (3, 7), (6, 10)]),
        (10.0, "--window 5 --hop 5", [(0, 5), (5, 10)]),
        (16.0, "", [(start, start + 4) for start in range(0, 13, 2)]),
        (16.0, "--whole", [(0, 16)]),
    ],
)
def test_windows_are_what_is_asked_for(home: Path, seconds: float, options: str, spans: list) -> None:
    write_tones(Path("a.wav"), seconds)
    found = lines_of(call(home, "a.wav", "--language", "it", "--format", "jsonl", *options.split()))
    assert [(one["start"], one["end"]) for one in found] == spans


REFUSED = {
    "--whole --window 2": "expected: --whole alone",
    "--whole --hop 1": "found:    --whole --hop 1",
    "--window 0": "half a second",
    "--hop 0": "a hop above 0",
    "--hop 5": "no longer than it",
    "--language fr": "expected: de it",
}


@pytest.mark.parametrize("options", REFUSED)
@pytest.mark.parametrize("form", ["table", "csv", "jsonl"])
def test_what_cannot_be_asked_is_refused_and_an_old_file_stays(home: Path, options: str, form: str) -> None:
    write_tones(Path("a.wav"), 0.5)
    Path("old").write_text("of yesterday", encoding="utf-8")
    done = call(home, "a.wav", "--format", form, "--output", "old", "--timeline", "pictures", *options.split())
    assert done.exit_code == 1
    assert REFUSED[options] in done.stderr
    assert Path("old").read_text(encoding="utf-8") == "of yesterday"
    assert not Path("pictures").exists()


@pytest.mark.parametrize("form", ["table", "csv", "jsonl"])
def test_an_old_file_stays_until_there_is_something_to_write(home: Path, form: str) -> None:
    Path("text.wav").write_text("no sound", encoding="utf-8")
    Path("old").write_text("of yesterday", encoding="utf-8")
    assert call(home, "text.wav", "--format", form, "--output", "old").exit_code == 1
    assert Path("old").read_text(encoding="utf-8") == "of yesterday"
    write_tones(Path("a.wav"), 0.5)
    assert call(home, "text.wav", "a.wav", "--format", form, "--output", "old").exit_code == 1
    text = Path("old").read_text(encoding="utf-8")
    assert "yesterday" not in text
    assert "a.wav" in text


def test_an_output_below_a_file_is_one_message(home: Path) -> None:
    write_tones(Path("a.wav"), 0.5)
    for given in (["--output", "a.wav/out.csv"], ["--timeline", "a.wav/pictures"]):
        done = call(home, "a.wav", *given)
        assert done.exit_code == 1
        assert f"field:    {given[0]}" in done.stderr
        assert "Traceback" not in done.output


def test_timelines_of_recordings_of_one_name_do_not_overwrite_each_other(home: Path) -> None:
    for name in ("x/1.wav", "y/1.wav", "y/1.flac"):
        Path(name).parent.mkdir(exist_ok=True)
        write_tones(Path(name), 1.0)
    done = call(home, "x", "y", "--language", "de", "--timeline", "pictures")
    assert done.exit_code == 0, done.output
    pictures = sorted(Path("pictures").iterdir())
    assert [path.name[:4] for path in pictures] == ["x-1-", "y-1-", "y-1-"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pictures)
    assert all(path.name in done.stderr for path in pictures)
    # The same recording has the same picture wherever it is asked about from.
    assert call(home, Path("x/1.wav").absolute(), "--language", "de", "--timeline", "pictures").exit_code == 0
    assert sorted(Path("pictures").iterdir()) == pictures


def test_videos_and_foreign_sound_in_a_folder_are_named_and_the_others_judged(home: Path) -> None:
    Path("calls/folder.wav").mkdir(parents=True)
    write_tones(Path("calls/a.wav"), 0.5)
    for name in ("b.mp4", "c.m4a", "d.MOV"):
        Path("calls", name).write_bytes(VIDEO)
    Path("calls/notes.txt").touch()
    Path("calls/._a.wav").touch()
    done = call(home, "calls", "--language", "de", "--format", "jsonl")
    assert done.exit_code == 1
    assert [json.loads(line)["recording"] for line in done.stdout.splitlines()] == ["calls/a.wav"]
    for name in ("b.mp4", "c.m4a", "d.MOV"):
        assert f"calls/{name}: cannot be decoded" in done.stderr
    assert "notes.txt" not in done.stderr
    assert "3 of 4 recordings could not be judged" in done.stderr


@pytest.mark.parametrize("given", ["clip.mp4", "-"])
def test_a_video_is_refused_with_what_to_do(home: Path, given: str) -> None:
    Path("clip.mp4").write_bytes(VIDEO)
    done = call(home, given, "--language", "de", input=VIDEO)
    assert done.exit_code == 1
    assert "expected: a format that libsndfile reads" in done.stderr
    assert ("found:    .mp4" in done.stderr) == (given != "-")
    assert "next:     convert it to flac" in done.stderr


def test_a_folder_without_any_recording_is_refused(home: Path) -> None:
    Path("empty").mkdir()
    done = call(home, "empty")
    assert done.exit_code == 1
    assert "The folder holds no recording" in done.stderr


def test_a_telephone_recording_is_judged(home: Path) -> None:
    soundfile.write("call.wav", tones(2.0, 8_000), 8_000, subtype="ULAW")
    (line,) = lines_of(call(home, "call.wav", "--language", "de", "--format", "jsonl"))
    assert line["end"] == 2.0
    np.testing.assert_allclose(sum(line["probabilities"].values()), 1, atol=1e-3)


def test_only_a_run_stands_in_the_way_of_a_run(home: Path) -> None:
    named, workspace = home / "runs" / "two", Workspace(home)
    assert run_path("two", workspace) == named
    Path("two").mkdir()
    Path("two/notes.txt").touch()
    assert run_path("two", workspace) == named
    write_tones(Path("a.wav"), 0.5)
    assert call(home, "a.wav").exit_code == 0
    Path("raw").touch()
    assert run_path("raw", workspace) == home / "runs" / "raw"
    Path("two/config.json").write_text("{}", encoding="utf-8")
    assert run_path("two", workspace) == Path("two")
    Path("two/config.json").unlink()
    Path("two/model-de.safetensors").touch()
    assert run_path("two", workspace) == Path("two")
    assert run_path("two/model-de.safetensors", workspace) == Path("two/model-de.safetensors")
    # Where there is no such run, the message is about what is there.
    Path("other").mkdir()
    assert run_path("other", workspace) == Path("other")
    assert run_path(str(named), workspace) == named
