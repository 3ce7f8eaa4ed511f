"""The encoder of Whisper (Radford et al. 2022, arXiv 2212.04356)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from mser.errors import UpstreamError
from mser.upstream.loading import SAMPLE_RATE, load_feature_extractor, load_weights, recipe_sha256
from mser.upstream.pretrained import PretrainedUpstream, describe, remarks_of
from mser.upstream.registry import Source

HOP_SAMPLES = 160
#: The second convolution has stride 2, so a frame covers two hops: 50 frames a second.
FRAME_SAMPLES = 2 * HOP_SAMPLES
#: Whisper knows only windows of this length; shorter input is padded with silence.
WINDOW_SAMPLES = 30 * SAMPLE_RATE
#: Most windows run at once on CUDA.
CUDA_WINDOWS = 16


class WhisperUpstream(PretrainedUpstream):
    """Every window is padded to 30 s as in training; the states are cut to the utterance's own frames.

    Padding makes all inputs equally long, so a batch holds what each utterance alone would give.
    """

    possible = ("equal lengths",)
    longest = WINDOW_SAMPLES
    frame_samples = FRAME_SAMPLES

    def __init__(
        self, model: Any, source: Source, device: torch.device, compute: str, recipe: Any, remarks: Sequence[str] = ()
    ) -> None:
        config = model.config
        self.feature_extractor = recipe
        values = {name: getattr(recipe, name) for name in ("feature_size", "hop_length", "n_fft", "chunk_length")}
        expected = {
            "feature_size": config.num_mel_bins,
            "hop_length": HOP_SAMPLES,
            "chunk_length": WINDOW_SAMPLES // SAMPLE_RATE,
            "padding_side": "right",
            "padding_value": 0.0,
            "dither": 0.0,  # noise would give states that no one could compute again
        }
        for name, right in expected.items():
            if (found := getattr(recipe, name)) != right:
                what = "The input recipe beside the model does not fit it."
                raise UpstreamError(what, file=source.location, field=name, expected=right, found=found)
        info = describe(
            model,
            source,
            frame_samples=FRAME_SAMPLES,
            recipe=recipe_sha256({"input": "whisper log-mel", **values}),
            policy="equal lengths",
            compute=compute,
        )
        super().__init__(model, info, device, remarks)

    def num_frames(self, num_samples: int) -> int:
        return -(-num_samples // FRAME_SAMPLES)

    def run_frames(self, frames: int) -> int:
        return WINDOW_SAMPLES // FRAME_SAMPLES

    def batches(self, num_samples: Sequence[int]) -> list[list[int]]:
        return super().batches([WINDOW_SAMPLES] * len(num_samples))

    def batch_samples(self) -> int:
        return CUDA_WINDOWS * WINDOW_SAMPLES if self.device.type == "cuda" else 0

    def _as_long(self, num_samples: int, other: int) -> bool:
        return True

    def features(self, waveform: Tensor) -> Tensor:
        """Log-mel spectrum (bands, 3000) of the waveform, padded to 30 s."""
        values = self.feature_extractor(waveform.numpy(), sampling_rate=SAMPLE_RATE, return_tensors="pt")
        return values.input_features[0]


def load_whisper(source: Source, device: torch.device, compute: str = "float32") -> WhisperUpstream:
    """The encoder of a pretrained Whisper; the decoder is not even loaded, and may be absent."""
    # Names of its weights: model.encoder.* in a model with a head, encoder.* in a bare one.
    names = {r"^(model\.)?encoder\.": ""}
    model, ignored = load_weights(source, WhisperEncoder, ("layers.", "conv1.", "conv2."), key_mapping=names)
    default = transformers.WhisperFeatureExtractor(feature_size=model.config.num_mel_bins)
    recipe, remarks = load_feature_extractor(source, default)
    head = [name for name in ignored if name not in ("model", "decoder", "proj_out")]
    return WhisperUpstream(model, source, device, compute, recipe, remarks_of(head, remarks))
