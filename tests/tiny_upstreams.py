"""Tiny random models of every family and variant, and waveforms for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from mser.upstream import Upstream, load_upstream

CPU = torch.device("cpu")
TINY = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48,
    "conv_dim": [16] * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4,
}  # fmt: skip
LARGE = {**TINY, "feat_extract_norm": "layer", "do_stable_layer_norm": True}
#: The convolutions of the published models: 320 samples a frame before squeezing.
SEW = {
    **TINY, "squeeze_factor": 2, "num_conv_pos_embeddings": 31, "conv_dim": [8] * 4 + [16] * 9,
    "conv_stride": [5, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1], "conv_kernel": [10, 3, 1, 3, 1, 3, 1, 3, 1, 2, 1, 2, 1],
}  # fmt: skip
#: The positional convolutions are a stack of five.
DATA2VEC = {**TINY, "num_conv_pos_embeddings": 5, "conv_pos_kernel_size": 5}
BERT = {name: TINY[name] for name in ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")}
#: variant -> (class in transformers, settings)
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "wav2vec2, group norm": ("Wav2Vec2", TINY),
    "wav2vec2, layer norm": ("Wav2Vec2", LARGE),
    "wav2vec2, adapters": ("Wav2Vec2", {**LARGE, "adapter_attn_dim": 4}),
    "hubert, group norm": ("Hubert", TINY),
    "hubert, layer norm": ("Hubert", LARGE),
    "hubert, no projection norm": ("Hubert", {**TINY, "feat_proj_layer_norm": False}),
    "hubert, batch norm": ("Hubert", {**TINY, "conv_pos_batch_norm": True}),
    "wavlm, group norm": ("WavLM", TINY),
    "wavlm, layer norm": ("WavLM", LARGE),
    "data2vec-audio": ("Data2VecAudio", DATA2VEC),
    "unispeech, group norm": ("UniSpeech", TINY),
    "unispeech, layer norm": ("UniSpeech", LARGE),
    "unispeech-sat, group norm": ("UniSpeechSat", TINY),
    "unispeech-sat, layer norm": ("UniSpeechSat", LARGE),
    "sew, group norm": ("SEW", SEW),
    "sew, layer norm": ("SEW", {**SEW, "feat_extract_norm": "layer", "num_conv_pos_embeddings": 16}),
    "wav2vec2-bert": ("Wav2Vec2Bert", BERT),
    "wav2vec2-bert, relative": ("Wav2Vec2Bert", {**BERT, "position_embeddings_type": "relative"}),
    "wav2vec2-bert, rotary": ("Wav2Vec2Bert", {**BERT, "position_embeddings_type": "rotary"}),
}


def wave(num_samples: int, seed: int = 0) -> torch.Tensor:
    """Noise with an offset, so that normalisation has something to do."""
    return 0.1 * torch.randn(num_samples, generator=torch.Generator().manual_seed(seed)) + 0.05


def normalised(waveform: torch.Tensor) -> torch.Tensor:
    """Zero mean and unit variance over the utterance, as the wav2vec 2.0 recipe says: (1, num_samples)."""
    values = waveform.numpy().astype(np.float64)
    return torch.from_numpy(((values - values.mean()) / np.sqrt(values.var() + 1e-7)).astype(np.float32))[None]


def build(variant: str, head: str = "Model", **changes: Any) -> Any:
    """A random model of a variant, always the same, with nothing left at zero or one that training would move."""
    name, settings = VARIANTS[variant]
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**{**settings, **changes})
    model = getattr(transformers, f"{name}{head}")(config).eval()
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.02 * torch.randn_like(value))
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm1d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2.0)
    return model


def build_whisper(head: str = "Model", **changes: Any) -> Any:
    """A random Whisper of two encoder layers."""
    torch.manual_seed(0)
    config = transformers.WhisperConfig(
        vocab_size=64, d_model=32, encoder_layers=2, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=48, decoder_ffn_dim=32, max_target_positions=8,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1, **changes,
    )  # fmt: skip
    return getattr(transformers, f"Whisper{head}")(config).eval()


def saved(model: Any, folder: Path) -> Path:
    """The folder of a saved model."""
    model.save_pretrained(folder)
    return folder


def loaded(variant: str, folder: Path) -> tuple[Upstream, Any]:
    """A variant as an upstream, and the model it was saved from."""
    model = build(variant)
    return load_upstream(str(saved(model, folder / "tiny")), CPU), model


def worst(states: torch.Tensor, right: torch.Tensor) -> float:
    """Largest difference of two (L, T, D), of the layer's largest value."""
    assert states.shape == right.shape
    return float(((states - right).abs().amax(dim=(1, 2)) / right.abs().amax(dim=(1, 2))).max())
