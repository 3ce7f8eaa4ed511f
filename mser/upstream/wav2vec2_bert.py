"""wav2vec2-BERT 2.0 (Seamless Communication 2023, arXiv 2312.05187): conformer blocks on log-mel frames."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
import transformers
from torch import Tensor

from mser.errors import UpstreamError
from mser.upstream.base import Prepared
from mser.upstream.loading import SAMPLE_RATE, load_feature_extractor, load_weights, recipe_sha256
from mser.upstream.padding import own_frames
from mser.upstream.pretrained import PretrainedUpstream, describe, remarks_of
from mser.upstream.registry import Source

#: Of the mel spectrum, as the input recipe computes it.
WINDOW_SAMPLES, HOP_SAMPLES = 400, 160


class Wav2Vec2BertUpstream(PretrainedUpstream):
    """Its convolutions look back alone and its blocks take a mask, so a padded batch leaves own frames as they are.

    The recipe joins two mel frames into one of the model; of an odd number it pads the last and masks it. Here that
    frame is left out, which gives the others the same states.
    """

    possible = ("masked", "equal lengths", "solo")

    def __init__(
        self, model: Any, source: Source, device: torch.device, compute: str, recipe: Any, remarks: Sequence[str] = ()
    ) -> None:
        config = model.config
        self.feature_extractor, self.stride = recipe, recipe.stride
        if recipe.num_mel_bins * recipe.stride != config.feature_projection_input_dim:
            raise UpstreamError(
                "The input recipe beside the model does not fit it.",
                file=source.location,
                field="num_mel_bins * stride",
                expected=config.feature_projection_input_dim,
                found=recipe.num_mel_bins * recipe.stride,
            )
        self.frame_samples = HOP_SAMPLES * recipe.stride
        values = {"input": "fbank", "num_mel_bins": recipe.num_mel_bins, "stride": recipe.stride}
        info = describe(
            model,
            source,
            frame_samples=self.frame_samples,
            recipe=recipe_sha256(values),
            compute=compute,
        )
        model.adapter = model.intermediate_ffn = None  # behind the last block
        super().__init__(model, info, device, remarks)
        # These two keep the positions of the last length in the module: threads would take each other's.
        shared = config.position_embeddings_type in ("rotary", "relative")
        self.turn: Any = threading.Lock() if shared else nullcontext()

    def num_frames(self, num_samples: int) -> int:
        mel_frames = max(0, (num_samples - WINDOW_SAMPLES) // HOP_SAMPLES + 1)
        return mel_frames // self.stride

    def _as_long(self, num_samples: int, other: int) -> bool:
        return self.num_frames(num_samples) == self.num_frames(other)

    def features(self, waveform: Tensor) -> Tensor:
        """Log-mel frames (T, mel bands * 2), each band of zero mean and unit variance over the waveform."""
        values = self.feature_extractor(
            waveform.numpy(), sampling_rate=SAMPLE_RATE, return_tensors="pt", pad_to_multiple_of=None
        )
        return values.input_features[0]

    def run(self, batch: Sequence[Prepared]) -> list[Tensor]:
        with self.turn:
            return super().run(batch)

    @contextmanager
    def padding_options(self, num_samples: Sequence[int]) -> Iterator[dict[str, Any]]:
        frames = [self.num_frames(number) for number in num_samples]
        yield {"attention_mask": own_frames(frames, max(frames), self.device)}


def load_wav2vec2_bert(source: Source, device: torch.device, compute: str = "float32") -> Wav2Vec2BertUpstream:
    """A pretrained wav2vec2-BERT."""
    model, ignored = load_weights(source)
    recipe, remarks = load_feature_extractor(source, transformers.SeamlessM4TFeatureExtractor())
    return Wav2Vec2BertUpstream(model, source, device, compute, recipe, remarks_of(ignored, remarks))
