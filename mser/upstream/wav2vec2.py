"""Encoders of raw waveforms: wav2vec 2.0 and the models built like it.

wav2vec 2.0 (arXiv 2006.11477), HuBERT (2106.07447), WavLM (2110.13900), data2vec-audio
(2202.03555), UniSpeech-SAT (2110.05752).

The layers are the input of block 1 and the output of each block. The large models close with a layer norm behind
the last block; it is no layer here, whereas transformers 4 put it in the place of the last block's output.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from mser.upstream.base import UpstreamInfo
from mser.upstream.pretrained import PretrainedUpstream, load_feature_extractor, load_weights, weights_sha256
from mser.upstream.registry import Source

SAMPLE_RATE = 16_000
FAMILIES = frozenset({"wav2vec2", "hubert", "wavlm", "data2vec-audio", "unispeech-sat"})
#: A wav2vec 2.0 of this shape and these weights is made from this seed, to show the flow where there is no model.
RANDOM_NAME, RANDOM_SEED = "random-tiny-wav2vec2", 0


class Wav2Vec2Upstream(PretrainedUpstream):
    """Each utterance is run alone.

    Padding changes every frame of models with group norm over time, and on CPUs a batch costs more
    than its utterances alone; so the states are exact by construction.
    """

    def __init__(self, model: nn.Module, source: Source, device: torch.device, random_weights: bool = False) -> None:
        config: Any = model.config
        info = UpstreamInfo(
            name=source.name,
            family=config.model_type,
            source=source.name,
            revision=getattr(config, "_commit_hash", None) or source.revision or "folder",
            weights_sha256=weights_sha256(model),
            layers=config.num_hidden_layers + 1,
            dim=config.hidden_size,
            frame_rate=SAMPLE_RATE / math.prod(config.conv_stride),
            sample_rate=SAMPLE_RATE,
            random_weights=random_weights,
        )
        super().__init__(model, info, device)
        default = transformers.Wav2Vec2FeatureExtractor(do_normalize=True)
        self.feature_extractor = default if random_weights else load_feature_extractor(source, default)
        self.convolutions = list(zip(config.conv_kernel, config.conv_stride, strict=True))

    def num_frames(self, num_samples: int) -> int:
        frames = num_samples
        for kernel, stride in self.convolutions:
            frames = max(0, (frames - kernel) // stride + 1)
        return frames

    def states(self, waveforms: Sequence[Tensor]) -> list[Tensor]:
        self._require_frames(waveforms)
        found = []
        for waveform in waveforms:
            features = self.feature_extractor(waveform.numpy(), sampling_rate=SAMPLE_RATE, return_tensors="pt")
            found.append(self.hidden_states(features.input_values)[0])
        return found


def load_wav2vec2(source: Source, device: torch.device) -> Wav2Vec2Upstream:
    """A pretrained model of one of ``FAMILIES``."""
    return Wav2Vec2Upstream(load_weights(source), source, device)


def random_wav2vec2(device: torch.device) -> Wav2Vec2Upstream:
    """A tiny wav2vec 2.0 that was never trained: for demonstrations of the flow, never for a result."""
    config = transformers.Wav2Vec2Config(
        hidden_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=128,
        conv_dim=[64] * 7,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
        num_conv_pos_embeddings=16,
        layerdrop=0.0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(RANDOM_SEED)
        model = transformers.Wav2Vec2Model(config).eval().requires_grad_(False)
    source = Source(RANDOM_NAME, RANDOM_NAME, f"seed {RANDOM_SEED}", True)
    return Wav2Vec2Upstream(model, source, device, random_weights=True)
