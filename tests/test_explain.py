"""``mser explain`` as a user calls it: the JSON, the picture, and parts of recordings that are too long for it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result
from test_predict import recognizer
from toy_runs import EMOTIONS, RATE, alone_in, save_two_runs, tones, write_tones

import mser.predict.explain
from mser.cli import main
from mser.errors import AudioError
from mser.predict.explain import LONGEST, explain, explanation_picture
from mser.predict.recognizer import Recognizer
from mser.predict.recording import Recording

PNG = b"\x89PNG"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_two_runs(tmp_path_factory.mktemp("home"))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return alone_in(tmp_path, monkeypatch)


def call(home: Path, *arguments: object, language: str = "de", run: str = "two") -> Result:
    given = ["explain", *map(str, arguments), "--run", run, "--language", language]
    return CliRunner().invoke(main, [*given, "--home", str(home), "--device", "cpu"])


def written(done: Result, folder: Path = Path()) -> dict[str, Any]:
    """The only JSON of a folder; there is a picture beside it."""
    assert done.exit_code == 0, done.output
    (path,) = folder.glob("*.json")
    assert path.with_suffix(".png").read_bytes().startswith(PNG)
    assert str(path) in done.stderr
    return json.loads(path.read_text(encoding="utf-8"))


def test_the_json_holds_what_carried_the_decision(home: Path) -> None:
    write_tones(Path("a.wav"), 2.0)
    done = call(home, "a.wav", "--output", "new/why")
    told = written(done, Path("new/why"))
    made = Recognizer.from_run(home / "runs" / "two", device="cpu")
    (answer,) = made.answers(Recording.of_file(Path("a.wav")), ["de"])
    assert told["recording"] == "a.wav"
    assert (told["language"], told["start"], told["end"], told["calibrated"]) == ("de", 0.0, 2.0, True)
    assert told["emotion"] == answer.emotion
    assert list(told["probabilities"]) == sorted(EMOTIONS)
    np.testing.assert_allclose([told["probabilities"][name] for name in EMOTIONS], answer.probabilities, atol=1e-4)
    assert set(told["gate"]) == set(told["without_expert"]) == set(told["layers"]) == {"prosody", "mfcc"}
    assert told["moments"][0].keys() == {"start", "end", "effect"}
    assert [told["moments"][0]["start"], told["moments"][-1]["end"]] == [0.0, 2.0]
    assert told["untouched"] == []
    assert f"{answer.emotion}, {100 * answer.confidence:.0f} %" in done.stderr
    assert re.search(r"prosody.*\d\.\d{3}", done.stdout)


def test_a_recording_above_the_longest_is_refused_and_a_part_of_it_explained(home: Path) -> None:
    write_tones(Path("long.flac"), LONGEST + 4)
    done = call(home, "long.flac")
    assert done.exit_code == 1
    for words in ("long.flac is too long", "expected: at most 60 s", "found:    64.0 s", "--start and --end"):
        assert words in done.stderr
    assert call(home, "long.flac", "--start", "1", "--end", "63.5").exit_code == 1
    told = written(call(home, "long.flac", "--start", "61.5", "--end", "63.0"))
    assert (told["start"], told["end"]) == (61.5, 63.0)
    samples, rate = soundfile.read("long.flac", dtype="float32")
    clip = Recording.of_samples(samples[round(61.5 * rate) : 63 * rate], rate)
    expected = explain(Recognizer.from_run(home / "runs" / "two", device="cpu"), clip, "de")
    moments = np.array([(one["start"], one["end"]) for one in told["moments"]])
    np.testing.assert_allclose(moments, 61.5 + expected.moments, atol=1e-3)
    np.testing.assert_allclose([one["effect"] for one in told["moments"]], expected.effects, atol=1e-4)


@pytest.mark.parametrize("part", ["--start 3", "--end 2.1", "--start 1 --end 1", "--start -1", "--start nan"])
def test_a_part_that_is_not_there_is_refused(home: Path, part: str) -> None:
    write_tones(Path("a.wav"), 2.0)
    done = call(home, "a.wav", *part.split())
    assert done.exit_code == 1
    assert "field:    start, end" in done.stderr
    assert "between 0 and 2.000 s" in done.stderr
    assert not list(Path().glob("*.json"))


def test_no_explanation_overwrites_another(home: Path) -> None:
    for folder in ("x", "y"):
        Path(folder).mkdir()
        write_tones(Path(folder, "1.wav"), 1.0)
    for path, language, part in [
        ("x/1.wav", "de", ""), ("y/1.wav", "de", ""), ("x/1.wav", "it", ""), ("x/1.wav", "de", "--end 0.5"),
        ("x/1.wav", "de", "--start 0.5"), ("x/1.wav", "de", ""),
    ]:  # fmt: skip
        assert call(home, path, "--output", "why", *part.split(), language=language).exit_code == 0
    assert len(list(Path("why").glob("*.json"))) == len(list(Path("why").glob("*.png"))) == 5
    told = [json.loads(path.read_text(encoding="utf-8")) for path in Path("why").glob("*.json")]
    assert {one["recording"] for one in told} == {"x/1.wav", "y/1.wav"}


def test_what_is_not_calibrated_is_named_so(home: Path) -> None:
    write_tones(Path("a.wav"), 0.5)
    done = call(home, "a.wav", language="ur", run="raw")
    assert written(done)["calibrated"] is False
    assert "%, not calibrated" in done.stderr


def test_a_language_of_no_head_and_a_folder_below_a_file_are_one_message(home: Path) -> None:
    write_tones(Path("a.wav"), 0.5)
    for done, words in [
        (call(home, "a.wav", language="fr"), "expected: de it"),
        (call(home, "a.wav", "--output", "a.wav/why"), "field:    --output"),
    ]:
        assert done.exit_code == 1
        assert words in done.stderr


@pytest.mark.parametrize("features", ["pooled", "frames"])
def test_moments_are_the_same_however_many_fit_into_memory(features: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made, clip = recognizer(features), Recording.of_samples(tones(2.0), RATE)
    together = explain(made, clip, "de")
    counts = []
    judge = made.judge
    monkeypatch.setattr(made, "judge", lambda *given: counts.append(len(given[3])) or judge(*given))
    monkeypatch.setattr(mser.predict.explain, "BYTES", 1)
    alone = explain(made, clip, "de")
    np.testing.assert_allclose(alone.effects, together.effects, atol=1e-5)
    # Of pooled features nothing but a row for each moment is kept.
    assert max(counts) == (1 if features == "frames" else len(together.moments))


def test_the_library_has_the_same_limit() -> None:
    clip = Recording.of_samples(tones(LONGEST + 1), RATE)
    with pytest.raises(AudioError, match="at most 60 s"):
        explain(recognizer(), clip, "de")


def test_the_picture_has_the_times_of_the_recording(monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib import pyplot

    monkeypatch.setattr(pyplot, "close", lambda figure: None)
    write_tones(Path("a.wav"), 3.0)
    clip = Recording.of_part(Path("a.wav"), 1.0, 2.5)
    explanation_picture(explain(recognizer(), clip, "de"), clip, Path("why.svg"))
    try:
        wave, effect = pyplot.gcf().axes[:2]
        assert effect.get_xlim() == wave.get_xlim() == (1.0, 2.5)
        times = wave.lines[0].get_xdata()
        assert (times[0], round(times[-1], 2)) == (1.0, 2.5)
    finally:
        monkeypatch.undo()
        pyplot.close("all")
