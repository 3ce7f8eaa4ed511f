"""Checkpoints as they are found: fine-tuned heads, missing weights, adapters, pickles, code beside the model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
import transformers
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from safetensors.torch import load_file, save_file
from tiny_upstreams import CPU, build, build_whisper, normalised, saved, wave, worst

from mser.errors import UpstreamError
from mser.upstream import load_upstream
from mser.upstream.adapters import load_adapter
from mser.upstream.registry import Source, registry, resolve

HEADS = [
    ("wav2vec2, group norm", "ForCTC", {"vocab_size": 8}, "lm_head"),
    ("wav2vec2, layer norm", "ForSequenceClassification", {}, "classifier, projector"),
    ("wavlm, group norm", "ForXVector", {}, "classifier, feature_extractor, objective, projector, tdnn"),
    ("unispeech-sat, group norm", "ForAudioFrameClassification", {}, "classifier"),
    ("wav2vec2, group norm", "ForPreTraining", {}, "project_hid, project_q, quantizer"),
    ("sew, group norm", "ForCTC", {"vocab_size": 8}, "lm_head"),
    ("wav2vec2-bert", "ForSequenceClassification", {}, "classifier, projector"),
]


@pytest.mark.parametrize(("variant", "head", "changes", "ignored"), HEADS)
def test_of_a_fine_tuned_model_the_encoder_is_used(
    variant: str, head: str, changes: dict[str, Any], ignored: str, tmp_path: Path
) -> None:
    model, waveform = build(variant, head, **changes), wave(3_000)
    tuned = load_upstream(str(saved(model, tmp_path / "tuned")), CPU)
    assert f"ignored in the checkpoint: {ignored}." in tuned.remarks[0]
    encoder = load_upstream(str(saved(model.base_model, tmp_path / "bare")), CPU)
    assert "ignored" not in " ".join(encoder.remarks)
    assert tuned.info.weights_sha256 == encoder.info.weights_sha256
    assert torch.equal(tuned.states([waveform])[0], encoder.states([waveform])[0])


def test_the_head_of_a_class_of_its_own_is_ignored_by_name(tmp_path: Path) -> None:
    # As published: a wav2vec2 and beside it layers of an emotion head that transformers does not know.
    model = build("wav2vec2, layer norm", "ForCTC", vocab_size=8)
    weights = load_file(saved(model, tmp_path) / "model.safetensors")
    weights = {name: value for name, value in weights.items() if not name.startswith("lm_head")}
    weights |= {"classifier.dense.weight": torch.ones(32, 32), "classifier.out_proj.weight": torch.ones(3, 32)}
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "architectures": ["Wav2Vec2ForSpeechClassification"]}))
    upstream = load_upstream(str(tmp_path), CPU)
    assert "checkpoint: classifier." in upstream.remarks[0]
    assert "No preprocessor_config.json" in upstream.remarks[1]


def renamed(weights: dict[str, torch.Tensor], *pairs: tuple[str, str]) -> dict[str, torch.Tensor]:
    """The weights, each pair of words replaced in their names."""
    for old, new in pairs:
        weights = {name.replace(old, new): value for name, value in weights.items()}
    return weights


def test_weights_that_do_not_fit_are_refused_and_never_drawn_at_random(tmp_path: Path) -> None:
    model = build("hubert, layer norm")
    right = load_file(saved(model, tmp_path) / "model.safetensors")
    key = "encoder.layers.1.attention.k_proj.weight"
    for weights, words in [
        ({name: value for name, value in right.items() if name != key}, f"missing.*{key}"),
        ({**right, key: torch.ones(3, 3)}, f"in other shapes.*{key}"),
        (renamed(right, ("encoder.", "model.speech.encoder.")), "missing.*encoder.layer_norm.bias"),
        ({**right, key.replace("1", "2"): torch.ones(32, 32)}, "not in its config.json.*layers.2"),
        ({**right, "encoder.layers.0.adapter_layer.norm.bias": torch.ones(32)}, "not in its config.json.*adapter"),
    ]:
        save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
        with pytest.raises(UpstreamError, match=f"(?s)does not fit its configuration.*{words}"):
            load_upstream(str(tmp_path), CPU)


def test_names_of_older_versions_and_weights_of_training_alone_change_nothing(tmp_path: Path) -> None:
    model = build("wav2vec2, group norm")
    weights = load_file(saved(model, tmp_path) / "model.safetensors")
    new = load_upstream(str(tmp_path), CPU)
    old = renamed(
        weights, ("parametrizations.weight.original0", "weight_g"), ("parametrizations.weight.original1", "weight_v")
    )
    assert old.keys() != weights.keys()
    del old["masked_spec_embed"]
    save_file(old, tmp_path / "model.safetensors", {"format": "pt"})
    for seed in (1, 2):  # the embedding of masked frames is drawn anew: it belongs to training
        torch.manual_seed(seed)
        other = load_upstream(str(tmp_path), CPU)
        assert other.info == new.info
        assert torch.equal(other.states([wave(900)])[0], new.states([wave(900)])[0])


def test_the_recipe_hash_is_of_what_counts(tmp_path: Path) -> None:
    model = build("hubert, group norm")
    infos = {}
    for name in ("default", "yes", "no"):
        folder = saved(model, tmp_path / name)
        if name != "default":
            recipe = transformers.Wav2Vec2FeatureExtractor(do_normalize=name == "yes", padding_side="left")
            recipe.save_pretrained(folder)
            values = json.loads((folder / "preprocessor_config.json").read_text())
            (folder / "preprocessor_config.json").write_text(
                json.dumps({**values, "processor_class": "Wav2Vec2Processor"})
            )
        infos[name] = load_upstream(str(folder), CPU).info
    assert infos["default"].recipe_sha256 == infos["yes"].recipe_sha256 != infos["no"].recipe_sha256
    assert len(infos["no"].recipe_sha256) == 64
    assert len({info.weights_sha256 for info in infos.values()}) == 1


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        (transformers.WhisperFeatureExtractor(), "Wav2Vec2FeatureExtractor.*WhisperFeatureExtractor"),
        (transformers.Wav2Vec2FeatureExtractor(sampling_rate=8_000), "sampling_rate.*16000.*8000"),
    ],
)
def test_a_recipe_of_another_kind_is_refused(recipe: Any, words: str, tmp_path: Path) -> None:
    recipe.save_pretrained(saved(build("hubert, group norm"), tmp_path))
    with pytest.raises(UpstreamError, match=f"(?s)not this family's.*{words}"):
        load_upstream(str(tmp_path), CPU)


@pytest.mark.parametrize(
    "changes", [{"feature_size": 128}, {"chunk_length": 10}, {"dither": 0.1}, {"padding_side": "left"}]
)
def test_a_whisper_recipe_that_does_not_fit_is_refused(changes: dict[str, Any], tmp_path: Path) -> None:
    transformers.WhisperFeatureExtractor(**changes).save_pretrained(saved(build_whisper(), tmp_path))
    with pytest.raises(UpstreamError, match=f"(?s)does not fit it.*{next(iter(changes))}"):
        load_upstream(str(tmp_path), CPU)


@pytest.mark.parametrize(("head", "start"), [("Model", "encoder."), ("ForConditionalGeneration", "model.encoder.")])
def test_an_encoder_without_a_decoder_is_a_whisper(head: str, start: str, tmp_path: Path) -> None:
    model = build_whisper(head)
    whole = load_upstream(str(saved(model, tmp_path)), CPU)
    weights = {f"{start}{name}": value.contiguous() for name, value in model.get_encoder().state_dict().items()}
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    bare = load_upstream(str(tmp_path), CPU)
    assert bare.info == whole.info
    assert "ignored" not in " ".join([*bare.remarks, *whole.remarks])
    assert torch.equal(bare.states([wave(900)])[0], whole.states([wave(900)])[0])
    save_file({f"x.{name}": value for name, value in weights.items()}, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(UpstreamError, match="does not fit its configuration"):
        load_upstream(str(tmp_path), CPU)


def test_an_adapter_is_put_into_the_model_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, waveform = build("wav2vec2, adapters", "ForCTC", vocab_size=8), wave(3_000)
    saved(model, tmp_path / "mms")
    own = load_upstream(str(tmp_path / "mms"), CPU)
    assert "adapter in the checkpoint itself" in own.remarks[-1]
    generator = torch.Generator().manual_seed(5)
    other = {name: torch.randn(value.shape, generator=generator) for name, value in model._get_adapters().items()}
    other["lm_head.weight"], other["lm_head.bias"] = torch.ones(11, 32), torch.ones(11)  # another alphabet
    save_file(other, tmp_path / "mms" / "adapter.deu.safetensors")
    monkeypatch.chdir(tmp_path)
    german = load_upstream("./mms+deu", CPU)
    assert (german.info.name, german.info.weights_sha256 != own.info.weights_sha256) == ("mms+deu", True)
    assert "adapter" not in " ".join(german.remarks)
    model.config._name_or_path = str(tmp_path / "mms")
    model.load_adapter("deu")
    with torch.no_grad():
        plain = model(normalised(waveform), output_hidden_states=True).hidden_states
    states = german.states([waveform])[0]
    assert worst(states, torch.cat(plain)) < 1e-5
    assert worst(states, own.states([waveform])[0]) > 1e-3
    with pytest.raises(UpstreamError, match=r"(?s)no adapter 'fra'.*adapter.fra.safetensors.*deu"):
        load_upstream("./mms+fra", CPU)
    for damage, words in [
        ({next(iter(other)): torch.ones(3)}, r"does not fit.*\(3,\)"),
        (
            {"wav2vec2.encoder.layers.7.adapter_layer.norm.bias": torch.ones(3)},
            "does not fit.*layers.7.*no such weight",
        ),
    ]:
        save_file({**other, **damage}, tmp_path / "mms" / "adapter.bad.safetensors")
        with pytest.raises(UpstreamError, match=f"(?s){words}"):
            load_upstream("./mms+bad", CPU)
    (tmp_path / "mms" / "adapter.bad.safetensors").write_bytes(b"pickle")
    with pytest.raises(UpstreamError, match="cannot be read"):
        load_upstream("./mms+bad", CPU)


def test_an_adapter_of_the_hub_is_asked_for_locally_first_and_at_the_models_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build("wav2vec2, adapters")
    path, asked = tmp_path / "adapter.deu.safetensors", []
    zeros = {name: torch.zeros(value.shape) for name, value in model.state_dict().items() if ".adapter_layer." in name}
    save_file({f"wav2vec2.{name}": value for name, value in zeros.items()}, path)
    answers: list[Any] = [LocalEntryNotFoundError("not here"), str(path)]

    def download(**asked_for: Any) -> str:
        asked.append(asked_for)
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    source = Source("x", "someone/mms", "a" * 40, False, "deu")
    assert load_adapter(model, source) == ()
    where = {"repo_id": "someone/mms", "filename": "adapter.deu.safetensors", "revision": "a" * 40}
    assert asked == [{**where, "local_files_only": True}, where]
    assert not any(value.any() for name, value in model.state_dict().items() if ".adapter_layer." in name)
    model.config._commit_hash = "b" * 40
    answers[:] = [str(path)]
    load_adapter(model, source)
    assert asked[-1] == {**where, "revision": "b" * 40, "local_files_only": True}
    for answer, words in [
        (EntryNotFoundError("404"), "no adapter 'deu'.*no such file in the repository"),
        (LocalEntryNotFoundError("no network"), "could not be fetched"),
        (OSError("no network"), "could not be fetched"),
    ]:
        answers[:] = [LocalEntryNotFoundError("not here"), answer]
        with pytest.raises(UpstreamError, match=f"(?s){words}"):
            load_adapter(model, source)


def test_adapters_are_refused_where_there_is_no_place_for_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    saved(build("wav2vec2, layer norm"), tmp_path / "plain")
    saved(build_whisper(), tmp_path / "whisper")
    for name in ("./plain+deu", "./whisper+deu"):
        with pytest.raises(UpstreamError, match=r"takes no adapters") as error:
            load_upstream(name, CPU)
        assert "leave +deu out" in str(error.value)
    # A folder that has the plus in its name is itself.
    saved(build("wav2vec2, layer norm"), tmp_path / "plain+deu")
    assert load_upstream("./plain+deu", CPU).info.name == "plain-deu"


def test_names_with_an_adapter_are_resolved(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = resolve("facebook/mms-1b-all+cmn-script_simplified")
    assert (found.name, found.location, found.adapter) == (
        "facebook--mms-1b-all+cmn-script_simplified", "facebook/mms-1b-all", "cmn-script_simplified",
    )  # fmt: skip
    known = resolve("mms-1b-all+deu")
    assert (known.name, known.location, known.adapter) == ("mms-1b-all+deu", registry()["mms-1b-all"]["id"], "deu")
    saved(build("wav2vec2, adapters"), tmp_path / "models" / "mms")
    monkeypatch.chdir(tmp_path)
    folder = resolve("models/mms+deu")
    assert (folder.name, folder.location, folder.local) == ("mms+deu", str(tmp_path / "models/mms"), True)


class Trap:
    """Unpickled, it would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_a_pickle_runs_no_code(legacy: bool, tmp_path: Path) -> None:
    model = build("hubert, group norm")
    sound = load_upstream(str(saved(model, tmp_path)), CPU)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=not legacy)
    assert load_upstream(str(tmp_path), CPU).info.weights_sha256 == sound.info.weights_sha256
    weights = {**model.state_dict(), "trap": Trap(tmp_path / "sprung")}
    torch.save(weights, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(UpstreamError, match="cannot be loaded"):
        load_upstream(str(tmp_path), CPU)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("model_type", ["wav2vec2", "my-own-model"])
@pytest.mark.parametrize("file", ["config.json", "preprocessor_config.json"])
def test_code_beside_a_model_is_never_run(model_type: str, file: str, tmp_path: Path) -> None:
    saved(build("wav2vec2, group norm"), tmp_path)
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(tmp_path)
    (tmp_path / "own.py").write_text(f"open({str(tmp_path / 'sprung')!r}, 'w')\nclass A: pass\nclass B: pass\n")
    values = json.loads((tmp_path / file).read_text())
    if model_type == "my-own-model":
        values = {**values, "model_type" if file == "config.json" else "feature_extractor_type": model_type}
    own = dict.fromkeys(("AutoConfig", "AutoModel", "AutoFeatureExtractor"), "own.A")
    (tmp_path / file).write_text(json.dumps({**values, "auto_map": own}))
    with pytest.raises(UpstreamError, match="code of its own"):
        load_upstream(str(tmp_path), CPU)
    assert not (tmp_path / "sprung").exists()
