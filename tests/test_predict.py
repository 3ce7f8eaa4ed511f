"""Recordings into states and predictions: against the upstream's own states, and what cannot be judged."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st
from toys import examples

from mser.errors import AudioError, ConfigError, RunError
from mser.model import Domain, MultiGateModel, Prior
from mser.model import ExpertShape as Shape
from mser.nas.genotype import FRAMES_SPACE, POOLED_SPACE, fixed_genotype
from mser.predict.explain import explain, explanation_picture
from mser.predict.extractor import Extractor, States, load_extractors
from mser.predict.head import TrainedHead, key_of, load_heads
from mser.predict.output import clock, csv_header, csv_line, json_line, timeline_picture
from mser.predict.recognizer import Prediction, Recognizer, spans
from mser.predict.recording import Recording
from mser.store import Provenance
from mser.store.pack import pool
from mser.upstream import load_upstream

RATE = 16_000
CPU = torch.device("cpu")
EMOTIONS = ("anger", "joy", "sadness")


def noise(seconds: float, rate: int = RATE, seed: int = 0) -> np.ndarray:
    """A recording of tones and noise: (samples,) float32."""
    times = np.arange(round(seconds * rate)) / rate
    tones = 0.2 * np.sin(2 * np.pi * 150 * (1 + 0.2 * np.sin(times)) * times)
    return (tones + 0.02 * np.random.default_rng(seed).normal(size=len(times))).astype(np.float32)


def extractor(name: str = "prosody", **changes: object) -> Extractor:
    upstream = load_upstream(name, CPU)
    return Extractor(upstream, replace(Provenance("toy", asdict(upstream.info), window=30.0, overlap=4.0), **changes))


def recognizer(features: str = "pooled", temperature: float = 2.0) -> Recognizer:
    """One language on two upstreams, of random weights."""
    torch.manual_seed(0)
    made = {name: extractor(name) for name in ("prosody", "mfcc")}
    infos = {name: one.upstream.info for name, one in made.items()}
    shapes = [Shape(name, one.layers, one.dim * (2 if features == "pooled" else 1)) for name, one in infos.items()]
    space = POOLED_SPACE if features == "pooled" else FRAMES_SPACE
    genotype = fixed_genotype(tuple(made), space)
    prior = Prior.uniform(shapes)
    standard = {
        one.name: (torch.full((one.layers, one.dim), 1.0), torch.full((one.layers, one.dim), 0.01)) for one in shapes
    }
    model = MultiGateModel([Domain("de", EMOTIONS, genotype, replace(prior, standard=standard))], shapes)
    keys = {name: key_of(name, one.provenance) for name, one in made.items()}
    stores = {keys[name]: one.provenance for name, one in made.items()}
    head = TrainedHead(Path("none"), model, "de", features, 5.0, keys, stores, temperature, True)
    return Recognizer({"de": head}, {keys[name]: one for name, one in made.items()}, CPU)


@pytest.mark.parametrize("name", ["prosody", "random-tiny-wav2vec2"])
def test_states_of_a_recording_are_those_of_the_upstream_as_a_store_keeps_them(name: str) -> None:
    made = extractor(name)
    waveform = torch.from_numpy(noise(2.3))
    (states,) = made.upstream.states([waveform])
    found = made.whole(Recording.of_samples(waveform, RATE))
    assert found.frames is not None
    assert torch.equal(found.frames, states.half())
    torch.testing.assert_close(found.pooled[:, 0], states.mean(1), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.pooled[:, 1], states.std(1, correction=0), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["prosody", "random-tiny-wav2vec2"])
def test_parts_are_cut_from_the_states_of_the_whole_recording(name: str) -> None:
    made = extractor(name)
    recording = Recording.of_samples(noise(9.0), RATE)
    (states,) = made.upstream.states([recording.at(RATE)])
    step = made.upstream.frame_samples / RATE
    cut = spans(9.0, 2.0, 0.7)
    parts = list(made.parts(recording, cut))
    assert len(parts) == len(cut)
    for (start, end), part in zip(cut, parts, strict=True):
        own = states[:, round(start / step) : None if end == 9.0 else round(end / step)]
        assert part.frames is not None
        assert torch.equal(part.frames, own.half())
        torch.testing.assert_close(part.pooled, pool(own.contiguous()))


def test_parts_of_a_recording_in_windows_hold_every_frame_once() -> None:
    made = extractor("prosody", window=3.0, overlap=1.0)
    recording = Recording.of_samples(noise(10.0), RATE)
    whole = made.whole(recording).frames
    parts = [part.frames for part in made.parts(recording, [(0.0, 2.5), (2.5, 5.0), (5.0, 7.5), (7.5, 10.0)])]
    assert whole is not None
    assert torch.equal(torch.cat([part for part in parts if part is not None], dim=1), whole)


@pytest.mark.parametrize("features", ["pooled", "frames"])
def test_a_recording_is_judged_by_the_model_of_its_language(features: str) -> None:
    made = recognizer(features)
    waveform = noise(2.0)
    found = made(waveform, RATE, "de")
    assert (found.language, found.emotions, found.start, found.end) == ("de", EMOTIONS, 0.0, 2.0)
    np.testing.assert_allclose([found.probabilities.sum(), found.gate.sum()], 1, atol=1e-5)
    assert found.emotion == EMOTIONS[int(found.probabilities.argmax())]
    # Stereo of twice the same, at another rate: nearly the same states.
    again = made(np.stack([waveform, waveform], axis=1), RATE, "de")
    np.testing.assert_allclose(again.probabilities, found.probabilities, atol=1e-5)
    assert (found.says(0.0), found.says(1.0)) == (found.emotion, "unsure")


def test_the_temperature_divides_the_logits() -> None:
    plain, warm = (recognizer(temperature=value)(noise(2.0), RATE, "de").probabilities for value in (1.0, 2.0))
    expected = np.sqrt(plain) / np.sqrt(plain).sum()
    np.testing.assert_allclose(warm, expected, rtol=1e-4)


@pytest.mark.parametrize("features", ["pooled", "frames"])
def test_windows_are_judged_in_the_order_of_time_and_a_single_one_as_the_whole(features: str) -> None:
    made = recognizer(features)
    found = list(made.timeline(Recording.of_samples(noise(9.0), RATE), window=4.0, hop=2.0))
    assert [(one.start, one.end) for one in found] == [(0, 4), (2, 6), (4, 8), (5, 9)]
    recording = Recording.of_samples(noise(3.0), RATE)
    (single,) = made.timeline(recording, window=4.0, hop=2.0)
    (whole,) = made.answers(recording)
    np.testing.assert_allclose(single.probabilities, whole.probabilities, atol=1e-5)


@examples
@given(st.floats(0.1, 500), st.floats(0.5, 20), st.floats(0.05, 1))
def test_parts_cover_a_recording_without_gaps(seconds: float, window: float, share: float) -> None:
    cut = spans(seconds, window, share * window)
    assert cut[0][0] == 0
    assert cut[-1][1] == pytest.approx(seconds)
    assert all(right[0] <= left[1] + 1e-9 and left[0] < right[0] + 1e-9 for left, right in pairwise(cut))
    assert all(end - start <= window + 1e-9 for start, end in cut)


@pytest.mark.parametrize(("window", "hop"), [(0.2, 0.1), (4.0, 0.0), (4.0, 5.0), (float("nan"), 1.0)])
def test_windows_that_cannot_be_used_are_refused(window: float, hop: float) -> None:
    with pytest.raises(ConfigError, match="window"):
        spans(10.0, window, hop)


@pytest.mark.parametrize(
    ("samples", "rate", "said"),
    [
        (noise(0.01), RATE, "too short"),
        (np.zeros(RATE, dtype=np.float32), RATE, "silent"),
        (np.full(RATE, np.nan, dtype=np.float32), RATE, "NaN"),
        (noise(1.0), 800, "sample rate"),
        (np.zeros((4, 4, 4), dtype=np.float32), RATE, "shape"),
    ],
    ids=["10 ms", "silence", "nan", "800 Hz", "shape"],
)
def test_samples_that_cannot_be_judged_are_refused(samples: np.ndarray, rate: int, said: str) -> None:
    with pytest.raises(AudioError, match=said):
        recognizer()(samples, rate, "de")


def test_a_telephone_recording_is_resampled(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "call.wav", noise(2.0, 8000), 8000)
    recording = Recording.of_file(tmp_path / "call.wav")
    assert (recording.seconds, recording.sample_rate, len(recording.at(RATE))) == (2.0, 8000, 2 * RATE)
    assert recognizer().answers(recording)[0].end == 2.0


def test_an_unknown_language_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="expected: de"):
        recognizer()(noise(1.0), RATE, "fr")


def test_an_upstream_of_another_revision_is_refused() -> None:
    upstream = load_upstream("prosody", CPU)
    made = {**asdict(upstream.info), "revision": "another"}
    with pytest.raises(RunError, match="revision"):
        Extractor(upstream, Provenance("toy", made))


def test_an_upstream_that_cannot_be_loaded_is_named() -> None:
    upstream = asdict(load_upstream("prosody", CPU).info)
    provenance = Provenance("toy", {**upstream, "name": "my-model", "source": "my-model"})
    with pytest.raises(RunError, match="--upstreams"):
        load_extractors({"a": provenance}, [], CPU)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(RunError, match="make train"):
        load_heads(tmp_path)


def predictions() -> list[Prediction]:
    rows = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6], [0.2, 0.5, 0.3]])
    return [
        Prediction("a, b.wav", "de", 2.0 * k, 2.0 * k + 4, EMOTIONS, row, ("e0",), np.ones(1), True)
        for k, row in enumerate(rows)
    ]


def test_json_and_csv_hold_the_same(tmp_path: Path) -> None:
    every = (*EMOTIONS, "neutral")
    for one in predictions():
        told = json.loads(json_line(one, 0.65))
        text = "\n".join([csv_header(every), csv_line(one, every, 0.65)])
        (row,) = csv.DictReader(io.StringIO(text))
        assert row["recording"] == told["recording"] == "a, b.wav"
        assert row["emotion"] == told["emotion"] == (one.emotion if one.confidence >= 0.65 else "unsure")
        assert float(row["p_joy"]) == told["probabilities"]["joy"] == pytest.approx(one.probabilities[1])
        assert row["p_neutral"] == ""
    timeline_picture(predictions(), tmp_path / "time.png", 0.5)
    assert (tmp_path / "time.png").read_bytes().startswith(b"\x89PNG")
    assert clock(61.25) == "1:01.2"


def test_an_explanation_is_what_leaving_out_does(tmp_path: Path) -> None:
    made = recognizer()
    waveform = np.concatenate([noise(1.0), 3 * noise(0.5, seed=1)[::-1], noise(1.0, seed=2)])
    recording = Recording.of_samples(waveform, RATE)
    found = explain(made, recording, "de", window=0.5, hop=0.25)
    assert found.prediction.emotion == made(waveform, RATE, "de").emotion
    np.testing.assert_allclose(found.prediction.probabilities, made(waveform, RATE, "de").probabilities, atol=1e-5)
    (head,) = made.asked(["de"])
    place = int(found.prediction.probabilities.argmax())
    for number in (0, 3, len(found.moments) - 1):
        start, end = found.moments[number]
        left = {}
        for key, own in made.extractors.items():
            (states,) = own.upstream.states([recording.at(RATE)])
            frames = np.arange(states.shape[1]) * own.step
            kept = states[:, (frames < start - 1e-9) | (frames >= end - 1e-9)]
            left[key] = [States(None, torch.stack([kept.mean(1), kept.std(1, correction=0)], dim=1))]
        (said,) = made.judge(head, left, recording, [(0.0, 2.5)])
        expected = np.log(found.prediction.probabilities[place]) - np.log(said.probabilities[place])
        assert found.effects[number] == pytest.approx(expected, abs=1e-4)
    assert set(found.without_expert) == {"prosody", "mfcc"}
    assert found.untouched == ()
    explanation_picture(found, recording, tmp_path / "why.png")
    assert (tmp_path / "why.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads(json.dumps(found.to_dict()))["emotion"] == found.prediction.emotion


def test_a_clip_shorter_than_a_moment_has_one() -> None:
    found = explain(recognizer(), Recording.of_samples(noise(0.3), RATE), "de", window=0.5)
    assert len(found.moments) == len(found.effects) == 1


def test_gradients_are_on_again_after_the_parts_of_a_recording() -> None:
    for _ in extractor().parts(Recording.of_samples(noise(9.0), RATE), [(0.0, 2.0), (2.0, 4.0)]):
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()
    assert torch.is_grad_enabled()
