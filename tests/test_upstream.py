"""Upstreams against the models' own forward pass, hooks on their layers, and models that cannot be had."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import pytest
import soundfile
import torch
import transformers
from tiny_upstreams import CPU, VARIANTS, build, build_whisper, loaded, normalised, saved, wave

from mser.audio import SUFFIXES, to_waveform
from mser.errors import UpstreamError
from mser.upstream import Upstream, load_upstream
from mser.upstream.registry import registry, resolve
from mser.upstream.wav2vec2 import FAMILIES, RANDOM_NAME
from mser.upstream.whisper import WhisperUpstream

BERTS = [name for name in VARIANTS if name.startswith("wav2vec2-bert")]


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


@pytest.fixture(scope="module")
def whisper_tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Upstream, Any, Path]:
    model = build_whisper()
    folder = saved(model, tmp_path_factory.mktemp("models") / "tiny-whisper")
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


@pytest.mark.parametrize("variant", [name for name in VARIANTS if name not in BERTS])
def test_a_saved_model_of_each_family_gives_its_own_states(variant: str, tmp_path: Path) -> None:
    # The large models normalise each convolution and close with a layer norm, which is no block's output.
    (upstream, model), waveform = loaded(variant, tmp_path), wave(4_111)
    info, squeeze = upstream.info, 2 if "sew" in variant else 1
    assert (info.name, info.family, info.revision, info.random_weights) == (
        "tiny", variant.split(",")[0], "folder", False,
    )  # fmt: skip
    assert (info.layers, info.dim, info.frame_rate, info.sample_rate) == (3, 32, 50.0 / squeeze, 16_000)
    assert (info.policy, info.compute, upstream.frame_samples) == ("solo", "float32", 320 * squeeze)
    assert info.attention == ("eager" if "wavlm" in variant else "sdpa")
    (states,) = upstream.states([waveform])
    with watched(model.encoder.layers, model.encoder.layers[-1]) as seen, torch.no_grad():
        plain = model(normalised(waveform), output_hidden_states=True).hidden_states
    assert states.shape[1] == upstream.num_frames(4_111) == 12 // squeeze
    for layer in range(3):
        torch.testing.assert_close(states[layer], plain[layer][0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(states[layer], seen[layer], rtol=1e-4, atol=1e-5)
    assert {name.split(",")[0] for name in VARIANTS} == FAMILIES | {"wav2vec2-bert"}


@pytest.mark.parametrize("num_samples", [560, 4_000, 4_160])
@pytest.mark.parametrize("variant", BERTS)
def test_wav2vec2_bert_gives_the_frames_that_its_mask_marks(variant: str, num_samples: int, tmp_path: Path) -> None:
    (upstream, model), waveform = loaded(variant, tmp_path), wave(num_samples)
    features = transformers.SeamlessM4TFeatureExtractor()(waveform.numpy(), sampling_rate=16_000, return_tensors="pt")
    with watched(model.encoder.layers, model.encoder.layers[-1]) as seen, torch.no_grad():
        plain = model(**features, output_hidden_states=True).hidden_states
    own = features.attention_mask[0].bool()
    (states,) = upstream.states([waveform])
    assert states.shape == (3, int(own.sum()), 32)
    # 4,160 samples are 24 mel frames; 4,000 are 23, of which the last is half a frame.
    assert len(own) == {560: 1, 4_000: 12, 4_160: 12}[num_samples]
    assert states.shape[1] == upstream.num_frames(num_samples) == {560: 1, 4_000: 11, 4_160: 12}[num_samples]
    assert (upstream.info.family, upstream.info.frame_rate, upstream.frame_samples) == ("wav2vec2-bert", 50.0, 320)
    assert "masked" in upstream.possible
    assert "solo convolutions" not in upstream.possible
    for layer in range(3):
        torch.testing.assert_close(states[layer], plain[layer][0, own], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(states[layer], seen[layer][own], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("variant", [*VARIANTS, "whisper"])
def test_several_threads_give_the_states_of_one_after_another(variant: str, tmp_path: Path) -> None:
    folder = saved(build_whisper() if variant == "whisper" else build(variant), tmp_path)
    upstream = load_upstream(str(folder), CPU)
    lengths = [800, 2_345, 6_000] if variant == "whisper" else [6_000, 2_345, 800, 4_321, 5_000, 1_700, 6_000, 3_000]
    waveforms = [wave(number, seed) for seed, number in enumerate(lengths)]

    def alone(waveform: torch.Tensor) -> torch.Tensor:
        return upstream.run([upstream.prepare(waveform)])[0]

    with ThreadPoolExecutor(4) as pool:  # first, so that nothing was set up by a run before
        together = list(pool.map(alone, waveforms))
    for waveform, states in zip(waveforms, together, strict=True):
        assert torch.equal(states, alone(waveform))


def test_the_input_recipe_beside_the_model_is_followed_or_refused(tmp_path: Path) -> None:
    model, waveform = build("wav2vec2, group norm"), wave(2_000)
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
        model = build("hubert, group norm")
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
        assert entry["family"] in {*FAMILIES, "wav2vec2-bert", "whisper"}
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


def test_half_precision_is_refused_on_a_cpu(random_tiny: Any) -> None:
    for compute in ("float16", "bfloat16"):
        with pytest.raises(UpstreamError, match=r"(?s)not computed on a CPU.*4 to 19 times"):
            load_upstream(RANDOM_NAME, CPU, compute=compute)
        with pytest.raises(UpstreamError, match="computed in float32"):
            load_upstream("logmel", CPU, compute=compute)
    with pytest.raises(UpstreamError, match=r"(?s)no such kind of number.*int8"):
        load_upstream(RANDOM_NAME, CPU, compute="int8")


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
