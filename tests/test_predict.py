"""Recordings into states and predictions: against the upstream's own states, and what cannot be judged."""

from __future__ import annotations

import csv
import io
import json
import shutil
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from tiny_upstreams import TINY
from toy_runs import save_toy_run
from toys import examples

from mser.audio import read_waveform
from mser.errors import AudioError, ConfigError, RunError
from mser.model import Domain, MultiGateModel, Prior
from mser.model import ExpertShape as Shape
from mser.nas.genotype import FRAMES_SPACE, POOLED_SPACE, fixed_genotype
from mser.predict.explain import explain, explanation_picture
from mser.predict.extractor import Extractor, States, load_extractors, part
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


def hub_model(cache: Path, commit: str, seed: int) -> None:
    """A tiny model of another seed for each commit in a cache of the hub, where it is the newest."""
    folder = cache / "models--someone--tiny"
    torch.manual_seed(seed)
    model = transformers.Wav2Vec2Model(transformers.Wav2Vec2Config(**TINY)).eval()
    model.save_pretrained(folder / "snapshots" / commit)
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(folder / "snapshots" / commit)
    (folder / "refs").mkdir(exist_ok=True)
    (folder / "refs" / "main").write_text(commit, encoding="utf-8")


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
    assert found.pooled is not None
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
    for (start, end), one in zip(cut, parts, strict=True):
        own = states[:, round(start / step) : None if end == 9.0 else round(end / step)]
        assert one.frames is not None
        assert torch.equal(one.frames, own.half())
        torch.testing.assert_close(one.pooled, pool(own.contiguous()))


def test_parts_of_a_recording_in_windows_hold_every_frame_once() -> None:
    made = extractor("prosody", window=3.0, overlap=1.0)
    recording = Recording.of_samples(noise(10.0), RATE)
    whole = made.whole(recording).frames
    parts = [one.frames for one in made.parts(recording, [(0.0, 2.5), (2.5, 5.0), (5.0, 7.5), (7.5, 10.0)])]
    assert whole is not None
    assert torch.equal(torch.cat([one for one in parts if one is not None], dim=1), whole)


def test_of_many_windows_no_more_is_kept_than_is_asked_for_and_it_is_the_same() -> None:
    upstream, recording = load_upstream("prosody", CPU), Recording.of_samples(noise(20.0), RATE)
    provenance = Provenance("toy", asdict(upstream.info), window=3.0, overlap=1.0)
    former = Extractor(upstream, provenance).whole(recording)
    assert former.frames is not None
    assert former.pooled is not None
    pooled = Extractor(upstream, provenance, ["pooled"]).whole(recording)
    assert pooled.frames is None
    assert torch.equal(pooled.pooled, former.pooled)
    frames = Extractor(upstream, provenance, ["frames"]).whole(recording)
    assert frames.pooled is None
    assert torch.equal(frames.frames, former.frames)
    for one in Extractor(upstream, provenance, ["pooled"]).parts(recording, spans(20.0, 4.0, 2.0)):
        assert one.frames is None


def test_a_run_keeps_what_its_heads_need_and_answers_as_if_it_kept_all(tmp_path: Path) -> None:
    lean = Recognizer.from_run(save_toy_run(tmp_path / "run", languages=("de",)), device="cpu")
    assert [one.provenance.keep for one in lean.extractors.values()] == [("pooled",)] * 2
    full = Recognizer(
        lean.heads, {key: Extractor(one.upstream, one.provenance) for key, one in lean.extractors.items()}, CPU
    )
    recording = Recording.of_samples(noise(70.0), RATE)  # three windows of the upstreams
    for found, expected in [
        (lean.answers(recording), full.answers(recording)),
        (list(lean.timeline(recording, hop=4.0)), list(full.timeline(recording, hop=4.0))),
    ]:
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one.probabilities, other.probabilities)


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


@pytest.mark.parametrize(
    ("dtype", "hint"),
    [
        ("int16", "divide them by 32768"), ("int8", "divide them by 128"), ("uint8", "subtract 128"),
        ("int64", "32768 for 16 bits"), ("bool", "largest value"), ("complex64", "largest value"),
    ],
)  # fmt: skip
def test_samples_of_integers_are_refused_with_what_to_divide_by(dtype: str, hint: str) -> None:
    samples = (100 * noise(1.0)).astype(dtype)
    with pytest.raises(AudioError, match=r"expected: floating-point samples in \[-1, 1\]") as error:
        recognizer()(samples, RATE, "de")
    assert f"found:    {dtype}" in str(error.value)
    assert hint in str(error.value.hint)
    with pytest.raises(AudioError, match="int16"):
        recognizer()(torch.zeros(RATE, dtype=torch.int16), RATE, "de")


def test_float64_is_taken() -> None:
    waveform = noise(1.0)
    found = recognizer()(waveform.astype(np.float64), RATE, "de")
    np.testing.assert_array_equal(found.probabilities, recognizer()(waveform, RATE, "de").probabilities)


@pytest.mark.parametrize(("rate", "channels"), [(RATE, 1), (44_100, 2)])
def test_a_part_of_a_file_is_cut_from_the_whole(tmp_path: Path, rate: int, channels: int) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, np.stack([noise(12.0, rate, seed) for seed in range(channels)], axis=1), rate)
    whole = Recording.of_file(path)
    for start, end in [(0.0, 12.0), (3.1, 3.4), (5.0, 11.9), (11.9, 12.0)]:
        found, expected = Recording.of_part(path, start, end), part(whole, start, end)
        assert (found.start, found.seconds) == (start, expected.seconds)
        for asked in (RATE, 8_000):
            assert torch.equal(found.at(asked), expected.at(asked))
        # The whole is decoded, and hashed, all the same.
        assert read_waveform(path, RATE, start, end)[1] == read_waveform(path, RATE)[1]
    assert Recording.of_part(path).seconds == 12.0
    assert Recording.of_part(path, start=2.0).seconds == 10.0
    assert Recording.of_part(path, end=2.0, longest=2.0).seconds == 2.0
    for bad in [(-1.0, 2.0), (2.0, 2.05), (3.0, 2.0), (2.0, 12.1), (12.0, None), (float("nan"), 2.0)]:
        with pytest.raises(ConfigError, match=r"between 0 and 12\.000 s"):
            Recording.of_part(path, *bad)
    with pytest.raises(AudioError, match="at most 2 s"):
        Recording.of_part(path, 1.0, 3.5, longest=2.0)


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


def test_a_run_refuses_its_upstream_in_another_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = save_toy_run(tmp_path / "run")
    monkeypatch.setattr("mser.upstream.acoustic.REVISION", "another")
    with pytest.raises(RunError, match="another prosody") as error:
        Recognizer.from_run(run, device="cpu")
    assert (error.value.field, error.value.found) == ("revision", "another")


def test_a_run_asks_the_hub_for_the_revision_it_was_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    own, newer = "a" * 40, "b" * 40
    hub_model(tmp_path / "hub", own, 0)
    run = save_toy_run(tmp_path / "run", languages=("de",), upstreams=("someone/tiny",))
    hub_model(tmp_path / "hub", newer, 1)
    assert load_upstream("someone/tiny", CPU).info.revision == newer
    for named in ([], ["someone/tiny"]):
        (made,) = Recognizer.from_run(run, named, device="cpu").extractors.values()
        assert made.upstream.info.revision == own
    # No other is taken where it cannot be had.
    shutil.rmtree(tmp_path / "hub" / "models--someone--tiny" / "snapshots" / own)
    with pytest.raises(RunError, match=f"someone--tiny in its revision {own}") as error:
        Recognizer.from_run(run, device="cpu")
    assert "connect to the network" in str(error.value.hint)


def test_an_upstream_that_lay_in_a_folder_is_not_looked_for_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mser.predict.extractor.load_upstream", lambda *given, **options: pytest.fail("loaded"))
    upstream = {**asdict(load_upstream("prosody", CPU).info), "name": "whisper-base", "revision": "folder"}
    with pytest.raises(RunError, match='add --upstreams "/path/to/whisper-base"'):
        load_extractors({"a": Provenance("toy", upstream)}, [], CPU)


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
