"""The encoder of Whisper (Radford et al. 2022, arXiv 2212.04356)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import transformers
from torch import Tensor

from mser.upstream.base import UpstreamInfo
from mser.upstream.pretrained import PretrainedUpstream, load_feature_extractor, load_weights, weights_sha256
from mser.upstream.registry import Source

SAMPLE_RATE = 16_000
HOP_SAMPLES = 160
#: The second convolution has stride 2, so a frame covers two hops: 50 frames a second.
FRAME_SAMPLES = 2 * HOP_SAMPLES
#: Whisper knows only windows of this length; shorter input is padded with silence.
WINDOW_SAMPLES = 30 * SAMPLE_RATE


class WhisperUpstream(PretrainedUpstream):
    """Every window is padded to 30 s as in training; the states are cut to the utterance's own frames.

    Padding makes all inputs equally long, so a batch holds what each utterance alone would give.
    """

    def __init__(self, source: Source, device: torch.device) -> None:
        model: Any = load_weights(source)
        config: Any = model.config
        info = UpstreamInfo(
            name=source.name,
            family="whisper",
            source=source.name,
            revision=getattr(config, "_commit_hash", None) or source.revision or "folder",
            weights_sha256=weights_sha256(model.encoder),
            layers=config.encoder_layers + 1,
            dim=config.d_model,
            frame_rate=SAMPLE_RATE / FRAME_SAMPLES,
            sample_rate=SAMPLE_RATE,
            policy="equal lengths",
        )
        super().__init__(model.encoder, info, device)
        default = transformers.WhisperFeatureExtractor(feature_size=config.num_mel_bins)
        self.feature_extractor = load_feature_extractor(source, default)
        self.batch = 16 if device.type == "cuda" else 1

    def num_frames(self, num_samples: int) -> int:
        return -(-num_samples // FRAME_SAMPLES)

    def states(self, waveforms: Sequence[Tensor]) -> list[Tensor]:
        self._require_frames(waveforms, longest=WINDOW_SAMPLES)
        features = self.feature_extractor(
            [waveform.numpy() for waveform in waveforms], sampling_rate=SAMPLE_RATE, return_tensors="pt"
        )
        states = self.hidden_states(features.input_features)
        # A copy lets go of the frames of silence.
        pairs = zip(states, waveforms, strict=True)
        return [one[:, : self.num_frames(len(waveform))].clone() for one, waveform in pairs]
