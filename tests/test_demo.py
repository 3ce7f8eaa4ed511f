"""The demo corpora: what is spoken, and that the definitions say the same."""

from __future__ import annotations

import builtins
import json
import math
import re
import wave
from array import array
from collections import Counter
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
import yaml

from extract import demo
from mser.errors import CorpusError

DEFINITIONS = Path(__file__).resolve().parents[1] / "data_manifest" / "corpora"
SPEAKERS = ["f1", "f2", "f3", "m1", "m2", "m3"]


def definition(language: str) -> dict[str, Any]:
    text = (DEFINITIONS / f"demo_{language}.yaml").read_text(encoding="utf-8")
    loaded: dict[str, Any] = yaml.safe_load(text)
    return loaded


def fields(language: str, path: str) -> dict[str, str]:
    match = re.fullmatch(definition(language)["pattern"], path)
    assert match is not None, path
    return match.groupdict()


def recordings(corpus: Path) -> dict[str, bytes]:
    return {path.relative_to(corpus).as_posix(): path.read_bytes() for path in corpus.rglob("*.wav")}


def measure(path: Path) -> tuple[float, float]:
    """Duration in seconds, and the root mean square as a share of full scale."""
    with wave.open(str(path), "rb") as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 22050)
        samples = array("h", file.readframes(file.getnframes()))
    assert max(map(abs, samples)) < 32767, "clipped"
    return len(samples) / 22050, math.sqrt(sum(sample * sample for sample in samples) / len(samples)) / 32768


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the corpora of German and Italian; tests read it only."""
    pytest.importorskip("espeakng_loader")
    folder = tmp_path_factory.mktemp("demo")
    assert demo.make_demo_corpora(folder, languages=("de", "it")) == {"demo_de": 120, "demo_it": 120}
    return folder


@pytest.mark.parametrize("language", demo.LANGUAGES)
def test_plan_and_definition_agree(language: str) -> None:
    stated = definition(language)
    found = [fields(language, line.path) for line in demo.plan(language)]
    assert stated["name"] == f"demo_{language}"
    assert stated["language"] == language
    assert "synthe" in stated["title"].lower()
    assert "not for results" in stated["title"]
    assert stated["expected"]["utterances"] == len(found)
    assert stated["expected"]["speakers"] == len({row["speaker"] for row in found})
    assert sorted({row["speaker"] for row in found}) == SPEAKERS
    assert {row["gender"] for row in found} == set(stated["genders"])
    assert Counter(stated["emotions"][row["emotion"]] for row in found) == stated["expected"]["emotions"]
    assert len({tuple(row.values()) for row in found}) == len(found)


@pytest.mark.parametrize("language", demo.LANGUAGES)
def test_the_text_does_not_tell_the_emotion(language: str) -> None:
    said: dict[tuple[str, str], set[str]] = {}
    for line in demo.plan(language):
        row = fields(language, line.path)
        said.setdefault((row["speaker"], row["emotion"]), set()).add(line.text)
    assert set(map(frozenset, said.values())) == {frozenset(demo.LANGUAGES[language].sentences)}


@pytest.mark.parametrize("language", demo.LANGUAGES)
def test_every_line_is_within_the_scales(language: str) -> None:
    for line in demo.plan(language):
        rate, volume, pitch, pitch_range = line.manner
        assert 80 <= rate <= 450
        assert 0 < volume <= 100
        assert 0 <= pitch <= 99
        assert 0 <= pitch_range <= 99


@pytest.mark.parametrize("language", demo.LANGUAGES)
def test_no_voice_is_breathy(language: str) -> None:
    """The noise of breath differs between processes, which no seed changes."""
    loader = pytest.importorskip("espeakng_loader")
    for variant in demo.LANGUAGES[language].variants.values():
        description = Path(loader.get_data_path(), "voices", "!v", variant).read_text(encoding="utf-8")
        assert not re.search(r"(?m)^\s*breath\b", description), variant


@pytest.mark.parametrize("language", ["de", "it"])
def test_every_recording_is_spoken(spoken: Path, language: str) -> None:
    corpus = spoken / f"demo_{language}"
    paths = [path.removesuffix(".wav") for path in recordings(corpus)]
    assert sorted(paths) == sorted(line.path for line in demo.plan(language))
    assert len(paths) == definition(language)["expected"]["utterances"]
    assert not list(spoken.glob("*.partial"))


def test_the_same_bytes_each_time(spoken: Path, tmp_path: Path) -> None:
    demo.make_demo_corpora(tmp_path, languages=("it",))  # the first language here, the second there
    assert recordings(tmp_path / "demo_it") == recordings(spoken / "demo_it")


@pytest.mark.parametrize("language", ["de", "it"])
def test_anger_is_louder_and_shorter_than_sadness(spoken: Path, language: str) -> None:
    measured: dict[tuple[str, str], list[tuple[float, float]]] = {}
    corpus = spoken / f"demo_{language}"
    for path in recordings(corpus):
        row = fields(language, path.removesuffix(".wav"))
        duration, loudness = measure(corpus / path)
        assert 0.8 < duration < 3
        measured.setdefault((row["speaker"], row["emotion"]), []).append((duration, loudness))
    for speaker in SPEAKERS:
        anger, sadness = (tuple(map(mean, zip(*measured[speaker, e], strict=True))) for e in ("ang", "sad"))
        assert anger[0] < 0.9 * sadness[0]
        assert anger[1] > 1.5 * sadness[1]


def test_emotions_overlap_between_speakers(spoken: Path) -> None:
    """No threshold on loudness parts neutral from happiness, whoever speaks."""
    levels: dict[str, list[float]] = {}
    for path in recordings(spoken / "demo_de"):
        levels.setdefault(fields("de", path.removesuffix(".wav"))["emotion"], []).append(
            measure(spoken / "demo_de" / path)[1]
        )
    assert max(levels["neu"]) > mean(levels["hap"])
    assert min(levels["hap"]) < mean(levels["neu"])


def fake(monkeypatch: pytest.MonkeyPatch, count: int = 120) -> list[str]:
    """Replaces the synthesiser by one that writes empty files; returns the list of what it was asked for."""
    asked: list[str] = []

    def speak_apart(language: str, corpus: Path) -> None:
        asked.append(language)
        corpus.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            (corpus / f"{number}.wav").touch()
        (corpus / demo.MARKER).write_text(json.dumps({"recipe": demo.RECIPE}), encoding="utf-8")

    monkeypatch.setattr(demo, "_espeak_paths", lambda: ("", ""))
    monkeypatch.setattr(demo, "_speak_apart", speak_apart)
    return asked


def test_a_complete_corpus_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked, told = fake(monkeypatch), list[str]()
    for _ in range(2):
        demo.make_demo_corpora(tmp_path, languages=("en",), progress=told.append)
    assert asked == ["en"]
    assert told == ["demo_en: 120 utterances spoken", "demo_en: 120 utterances, already there"]


def test_another_recipe_or_a_lost_file_is_respoken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = fake(monkeypatch)
    demo.make_demo_corpora(tmp_path, languages=("en",))
    (tmp_path / "demo_en" / "7.wav").unlink()
    demo.make_demo_corpora(tmp_path, languages=("en",))
    assert asked == ["en"] * 2
    monkeypatch.setattr(demo, "RECIPE", demo.RECIPE + 1)
    demo.make_demo_corpora(tmp_path, languages=("en",))
    assert asked == ["en"] * 3


def test_an_older_recipe_is_replaced_as_a_whole(spoken: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "demo_it"
    (corpus / "f9").mkdir(parents=True)
    (corpus / "f9" / "f9_s1_ang.wav").touch()
    (corpus / demo.MARKER).write_text('{"recipe": 0}', encoding="utf-8")
    demo.make_demo_corpora(tmp_path, languages=("it",))
    assert recordings(corpus) == recordings(spoken / "demo_it")
    assert json.loads((corpus / demo.MARKER).read_text(encoding="utf-8"))["recipe"] == demo.RECIPE


def test_a_foreign_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "demo_en").mkdir()
    mine = tmp_path / "demo_en" / "mine.wav"
    mine.touch()
    with pytest.raises(CorpusError, match="no marker"):
        demo.make_demo_corpora(tmp_path, languages=("en",))
    assert mine.exists()


def test_an_unknown_language_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="de, en, it"):
        demo.make_demo_corpora(tmp_path / "new", languages=("en", "xx"))
    assert not (tmp_path / "new").exists()


def test_without_espeak_the_error_tells_the_cure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "espeakng_loader":
            raise ImportError("No module named 'espeakng_loader'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(CorpusError, match=r"pip install mser\[demo\]"):
        demo.make_demo_corpora(tmp_path, languages=("de",))
    assert not list(tmp_path.iterdir())


def test_a_failure_of_the_synthesiser_leaves_no_corpus(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="no such demo corpus"):  # said by the other interpreter
        demo._speak_apart("xx", tmp_path / "demo_xx")
    assert not (tmp_path / "demo_xx").exists()
