"""Upstreams against the models' own forward pass, hooks on their layers, and models that cannot be had."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import pytest
import soundfile
import torch
import transformers

from mser.audio import SUFFIXES, to_waveform
from mser.errors import UpstreamError
from mser.upstream import Upstream, load_upstream
from mser.upstream.registry import registry, resolve
from mser.upstream.wav2vec2 import FAMILIES, RANDOM_NAME
from mser.upstream.whisper import WhisperUpstream

CPU = torch.device("cpu")
TINY = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48,
    "conv_dim": [16] * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4,
}  # fmt: skip
MODELS = {
    "wav2vec2": (transformers.Wav2Vec2Config, transformers.Wav2Vec2Model, TINY),
    "hubert": (transformers.HubertConfig, transformers.HubertModel, TINY),
    "wavlm": (transformers.WavLMConfig, transformers.WavLMModel, TINY),
    "data2vec-audio": (
        transformers.Data2VecAudioConfig,
        transformers.Data2VecAudioModel,
        {**TINY, "num_conv_pos_embeddings": 2, "conv_pos_kernel_size": 5},
    ),
    "unispeech-sat": (transformers.UniSpeechSatConfig, transformers.UniSpeechSatModel, TINY),
}


def wave(num_samples: int, seed: int = 0) -> torch.Tensor:
    """Noise with an offset, so that normalisation has something to do."""
    return 0.1 * torch.randn(num_samples, generator=torch.Generator().manual_seed(seed)) + 0.05


def normalised(waveform: torch.Tensor) -> torch.Tensor:
    """Zero mean and unit variance over the utterance, as the wav2vec 2.0 recipe says: (1, num_samples)."""
    values = waveform.numpy().astype(np.float64)
    return torch.from_numpy(((values - values.mean()) / np.sqrt(values.var() + 1e-7)).astype(np.float32))[None]


@contextmanager
def watched(layers: Any, final: torch.nn.Module) -> Iterator[list[torch.Tensor]]:
    """Collects by hooks the input of every layer and the output of ``final``, (T, D) each."""
    seen: list[torch.Tensor] = []

    def before(module: Any, arguments: tuple, named: dict[str, Any]) -> None:
        seen.append((arguments[0] if arguments else named["hidden_states"])[0].detach().clone())

    def after(module: Any, arguments: tuple, output: Any) -> None:
        seen.append((output if isinstance(output, torch.Tensor) else output[0])[0].detach().clone())

    hooks = [layer.register_forward_pre_hook(before, with_kwargs=True) for layer in layers]
    hooks.append(final.register_forward_hook(after))
    yield seen
    for hook in hooks:
        hook.remove()


@pytest.fixture(scope="module")
def random_tiny() -> Any:
    return load_upstream(RANDOM_NAME, CPU)


def build(family: str, **changes: Any) -> Any:
    """A random model of a family, always the same."""
    config, model, shape = MODELS[family]
    torch.manual_seed(0)
    return model(config(**{**shape, **changes})).eval()


@pytest.fixture(scope="module")
def whisper_tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Upstream, Any, Path]:
    torch.manual_seed(0)
    ids: dict[str, Any] = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
    config = transformers.WhisperConfig(
        vocab_size=64, d_model=32, encoder_layers=2, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=48, decoder_ffn_dim=32, max_target_positions=8, **ids,
    )  # fmt: skip
    model = transformers.WhisperModel(config).eval()
    folder = tmp_path_factory.mktemp("models") / "tiny-whisper"
    model.save_pretrained(folder)
    return load_upstream(str(folder), CPU), model, folder


def test_random_states_are_the_models_own_at_every_layer(random_tiny: Any) -> None:
    waveform, model = wave(6_000), random_tiny.encoder
    (states,) = random_tiny.states([waveform])
    with watched(model.encoder.layers, model.encoder.layers[-1]) as seen, torch.no_grad():
        plain = model(normalised(waveform), output_hidden_states=True).hidden_states
    assert (states.dtype, states.shape) == (torch.float32, (4, 18, 64))
    assert len(seen) == len(plain) == random_tiny.info.layers
    for layer, (hooked, forward) in enumerate(zip(seen, plain, strict=True)):
        torch.testing.assert_close(states[layer], hooked, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(states[layer], forward[0], rtol=1e-4, atol=1e-5)
    assert all((states[layer] - states[layer + 1]).abs().max() > 1e-3 for layer in range(3))


@pytest.mark.parametrize("family", sorted(MODELS))
@pytest.mark.parametrize("norm", ["group", "layer"], ids=["as base", "as large"])
def test_a_saved_model_of_each_family_gives_its_own_states(family: str, norm: str, tmp_path: Path) -> None:
    # The large models normalise each convolution and close with a layer norm, which is no block's output.
    model, waveform = build(family, feat_extract_norm=norm, do_stable_layer_norm=norm == "layer"), wave(4_000)
    model.save_pretrained(tmp_path / "tiny")
    upstream = load_upstream(str(tmp_path / "tiny"), CPU)
    info = upstream.info
    assert (info.name, info.family, info.revision, info.random_weights) == ("tiny", family, "folder", False)
    assert (info.layers, info.dim, info.frame_rate, info.sample_rate) == (3, 32, 50.0, 16_000)
    (states,) = upstream.states([waveform])
    with watched(model.encoder.layers, model.encoder.layers[-1]) as seen, torch.no_grad():
        plain = model(normalised(waveform), output_hidden_states=True).hidden_states
    for layer in range(3):
        torch.testing.assert_close(states[layer], plain[layer][0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(states[layer], seen[layer], rtol=1e-4, atol=1e-5)
    assert set(MODELS) == FAMILIES


def test_the_input_recipe_beside_the_model_is_followed_or_refused(tmp_path: Path) -> None:
    model, waveform = build("wav2vec2"), wave(2_000)
    model.save_pretrained(tmp_path)
    recipe = transformers.Wav2Vec2FeatureExtractor(do_normalize=False)
    recipe.save_pretrained(tmp_path)
    (states,) = load_upstream(str(tmp_path), CPU).states([waveform])
    with torch.no_grad():
        plain = model(waveform[None], output_hidden_states=True).hidden_states
        other = model(normalised(waveform), output_hidden_states=True).hidden_states
    torch.testing.assert_close(states[2], plain[2][0], rtol=1e-4, atol=1e-5)
    assert (plain[2] - other[2]).abs().max() > 1e-3
    (tmp_path / "preprocessor_config.json").write_text("{ damaged")
    with pytest.raises(UpstreamError, match="cannot be loaded"):
        load_upstream(str(tmp_path), CPU)


def test_the_number_of_frames_is_as_stated(random_tiny: Any, whisper_tiny: tuple[Any, Any, Path]) -> None:
    for num_samples in [*range(400, 420), *range(715, 725), 1_039, 1_040, 1_041, 5_555, 16_000]:
        (states,) = random_tiny.states([wave(num_samples)])
        assert states.shape[1] == random_tiny.num_frames(num_samples), num_samples
    assert [random_tiny.num_frames(number) for number in (0, 1, 399)] == [0, 0, 0]
    for num_samples in (1, 319, 320, 321, 480_000):
        (states,) = whisper_tiny[0].states([wave(num_samples)])
        assert states.shape[1] == whisper_tiny[0].num_frames(num_samples) == int(np.ceil(num_samples / 320))


def test_several_at_once_are_what_each_is_alone(random_tiny: Any, whisper_tiny: tuple[Any, Any, Path]) -> None:
    waveforms = [wave(number, seed) for seed, number in enumerate([3_000, 400, 16_000, 3_000])]
    for upstream in (random_tiny, whisper_tiny[0]):
        together = upstream.states(waveforms)
        for waveform, states in zip(waveforms, together, strict=True):
            torch.testing.assert_close(states, upstream.states([waveform])[0], rtol=1e-5, atol=1e-5)
            assert states.is_contiguous()


def test_whisper_states_are_the_encoders_own_cut_to_the_utterance(whisper_tiny: tuple[Any, Any, Path]) -> None:
    upstream, model, _ = whisper_tiny
    waveform = wave(5_000)
    extractor = transformers.WhisperFeatureExtractor()
    features = extractor(waveform.numpy(), sampling_rate=16_000, return_tensors="pt").input_features
    assert features.shape == (1, 80, 3_000)
    with watched(model.encoder.layers, model.encoder) as seen, torch.no_grad():
        plain = model.encoder(features, output_hidden_states=True).hidden_states
    (states,) = upstream.states([waveform])
    assert states.shape == (3, 16, 32)
    assert (upstream.info.family, upstream.info.policy, upstream.info.frame_rate) == ("whisper", "equal lengths", 50.0)
    for layer in range(3):
        torch.testing.assert_close(states[layer], plain[layer][0, :16], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(states[layer], seen[layer][:16], rtol=1e-4, atol=1e-5)


def test_the_hash_is_of_the_weights_alone(tmp_path: Path) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = load_upstream(RANDOM_NAME, CPU).info
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert load_upstream(RANDOM_NAME, CPU).info == first
    assert first.random_weights
    hashes = []
    for name, change in [("a", 0.0), ("b", 0.0), ("c", 1e-3)]:
        model = build("hubert")
        with torch.no_grad():
            next(model.encoder.layers[1].parameters())[0] += change
        model.save_pretrained(tmp_path / name)
        hashes.append(load_upstream(str(tmp_path / name), CPU).info.weights_sha256)
    assert hashes[0] == hashes[1] != hashes[2]


def test_recordings_that_do_not_fit_are_refused(random_tiny: Any, whisper_tiny: tuple[Any, Any, Path]) -> None:
    for upstream, length, words in [
        (random_tiny, 399, "0.025 s"),
        (random_tiny, 0, "0.000 s"),
        (whisper_tiny[0], 0, "one frame to 30 s"),
        (whisper_tiny[0], 480_001, "30.000 s"),
    ]:
        with pytest.raises(UpstreamError, match=words):
            upstream.states([wave(1_000), torch.zeros(length)])


def test_names_are_resolved_to_the_registry_the_hub_or_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = resolve("hubert-base")
    assert (known.name, known.location, known.local) == ("hubert-base", "facebook/hubert-base-ls960", False)
    assert known.revision == registry()["hubert-base"]["revision"]
    other = resolve("someone/something")
    assert (other.name, other.location, other.revision, other.local) == (
        "someone--something", "someone/something", None, False,
    )  # fmt: skip
    (tmp_path / "someone" / "something").mkdir(parents=True)
    (tmp_path / "someone" / "something" / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    for name in ("someone/something", "./someone/something/", str(tmp_path / "someone" / "something")):
        found = resolve(name)
        assert (found.name, found.location, found.local) == ("something", str(tmp_path / "someone/something"), True)
    for name in ("hubert-bse", "a/b/c", ""):
        with pytest.raises(UpstreamError, match="is not known") as error:
            resolve(name)
        assert "hubert-base " in str(error.value)


def test_the_registry_is_complete_and_pinned() -> None:
    assert len(registry()) > 10
    for name, entry in registry().items():
        assert "/" not in name
        assert entry["id"].count("/") == 1
        assert entry["family"] in {*FAMILIES, "whisper"}
        assert entry["revision"] is None or (len(entry["revision"]) == 40 and int(entry["revision"], 16))
        assert entry["layers"] > 1
        assert entry["dim"] > 1


def test_a_folder_without_a_usable_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").touch()
    for folder, words in [("absent", "no such folder"), ("empty", "an empty folder"), ("other", "notes.txt")]:
        with pytest.raises(UpstreamError, match="no pretrained model") as error:
            load_upstream(str(tmp_path / folder), CPU)
        assert words in str(error.value)
    for number, text in enumerate(["{ broken", "{}", json.dumps({"model_type": "hubert"})]):
        place = tmp_path / str(number)
        place.mkdir()
        (place / "config.json").write_text(text)
        with pytest.raises(UpstreamError, match="cannot be loaded") as error:
            load_upstream(str(place), CPU)
        assert str(place) in str(error.value)


def test_a_family_that_is_not_supported_is_refused(tmp_path: Path) -> None:
    transformers.BertConfig(hidden_size=8, num_attention_heads=1).save_pretrained(tmp_path)
    with pytest.raises(UpstreamError, match="family 'bert'") as error:
        load_upstream(str(tmp_path), CPU)
    assert "hubert" in str(error.value.expected)


@pytest.mark.parametrize("name", ["wav2vec2-base", "nobody/none"])
@pytest.mark.parametrize("offline", [True, False])
def test_without_a_network_the_message_says_what_to_do(
    name: str, offline: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[Any] = []

    def refuse(*arguments: Any, **named: Any) -> Any:
        asked.append(arguments)
        raise OSError("the tests open no socket")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", offline)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UpstreamError, match="could not be fetched") as error:
        load_upstream(name, CPU)
    assert "UPSTREAMS=./folder" in str(error.value)
    assert bool(asked) is not offline


@pytest.mark.real
def test_a_real_whisper_gives_the_plain_encoders_states() -> None:
    folder = os.environ.get("MSER_TEST_UPSTREAM")
    if not folder:
        pytest.skip("MSER_TEST_UPSTREAM is not set to the folder of a Whisper encoder")
    upstream = load_upstream(folder, CPU)
    assert isinstance(upstream, WhisperUpstream)
    model = transformers.WhisperModel.from_pretrained(folder, local_files_only=True, dtype=torch.float32).eval()
    corpora = Path(os.environ.get("MSER_CORPORA", "no corpora"))
    clips = (path for path in sorted(corpora.rglob("*")) if path.suffix.lower() in SUFFIXES)
    clip = next(clips, None)
    waveform = wave(40_000)
    if clip is not None:
        samples, rate = soundfile.read(clip, dtype="float32", always_2d=True)
        waveform = to_waveform(samples, rate, 16_000)
    extractor = transformers.WhisperFeatureExtractor(feature_size=model.config.num_mel_bins)
    features = extractor(waveform.numpy(), sampling_rate=16_000, return_tensors="pt").input_features
    with torch.no_grad():
        plain = model.encoder(features, output_hidden_states=True).hidden_states
    (states,) = upstream.states([waveform])
    frames = int(np.ceil(len(waveform) / 320))
    assert states.shape == (len(plain), frames, model.config.d_model)
    for ours, theirs in zip(states, plain, strict=True):
        assert (ours - theirs[0, :frames]).abs().max() <= 1e-5 * theirs[0, :frames].abs().max()
