"""Encoders of raw waveforms: wav2vec 2.0 and the models built like it.

wav2vec 2.0 (arXiv 2006.11477) with XLS-R and MMS, HuBERT (2106.07447), WavLM (2110.13900), data2vec-audio
(2202.03555), UniSpeech (2101.07597), UniSpeech-SAT (2110.05752), SEW (2109.06870).

The layers are the input of block 1 and the output of each block. The large models close with a layer norm behind
the last block; it is no layer here, whereas transformers 4 put it in the place of the last block's output. SEW squeezes
two frames into one before its blocks and unfolds them behind; its layers are those of the blocks, 25 frames a second.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
import transformers
from torch import Tensor

from mser.upstream.adapters import load_adapter
from mser.upstream.loading import SAMPLE_RATE, load_feature_extractor, load_weights, recipe_sha256
from mser.upstream.padding import Padding, attend_to_whole_frames, frames_after, keep_own_frames, own_frames
from mser.upstream.pretrained import PretrainedUpstream, describe, remarks_of
from mser.upstream.registry import Source

# WavLM hands its attention a mask of padding and one of positions, of two types; both are honoured.
warnings.filterwarnings("ignore", "Support for mismatched key_padding_mask and attn_mask")

FAMILIES = frozenset({"wav2vec2", "hubert", "wavlm", "data2vec-audio", "unispeech", "unispeech-sat", "sew"})
#: A wav2vec 2.0 of this shape and these weights is made from this seed, to show the flow where there is no model.
RANDOM_NAME, RANDOM_SEED = "random-tiny-wav2vec2", 0


class Wav2Vec2Upstream(PretrainedUpstream):
    """Alone, an utterance is run as it is. In a padded batch each is kept to itself (``mser/upstream/padding.py``)."""

    possible = ("masked", "solo convolutions", "equal lengths", "solo")

    def __init__(
        self, model: Any, source: Source, device: torch.device, compute: str, recipe: Any, remarks: Sequence[str] = ()
    ) -> None:
        config = model.config
        self.feature_extractor = recipe
        self.convolutions = list(zip(config.conv_kernel, config.conv_stride, strict=True))
        self.squeeze = config.squeeze_factor if config.model_type == "sew" else 1
        self.frame_samples = math.prod(config.conv_stride) * self.squeeze
        info = describe(
            model,
            source,
            frame_samples=self.frame_samples,
            recipe=recipe_sha256({"input": "waveform", "do_normalize": bool(recipe.do_normalize)}),
            compute=compute,
        )
        model.adapter = None  # behind the last block; not to be mistaken for the adapters in the blocks
        super().__init__(model, info, device, remarks)
        self.lengths = Padding()
        keep_own_frames(model, self.convolutions, self.lengths)
        if self.squeeze > 1:
            attend_to_whole_frames(model, self.convolutions, self.squeeze, self.lengths)

    def num_frames(self, num_samples: int) -> int:
        return frames_after(num_samples, self.convolutions) // self.squeeze

    def features(self, waveform: Tensor) -> Tensor:
        """The waveform (num_samples,), brought to zero mean and unit variance where the recipe says so."""
        values = self.feature_extractor(waveform.numpy(), sampling_rate=SAMPLE_RATE, return_tensors="pt")
        return values.input_values[0]

    @contextmanager
    def padding_options(self, num_samples: Sequence[int]) -> Iterator[dict[str, Any]]:
        with self.lengths.of(num_samples, self.info.policy == "solo convolutions"):
            yield {"attention_mask": own_frames(num_samples, max(num_samples), self.device).long()}


def load_wav2vec2(source: Source, device: torch.device, compute: str = "float32") -> Wav2Vec2Upstream:
    """A pretrained model of one of ``FAMILIES``."""
    model, ignored = load_weights(source)
    recipe, remarks = load_feature_extractor(source, transformers.Wav2Vec2FeatureExtractor(do_normalize=True))
    remarks = remarks_of(ignored, [*remarks, *load_adapter(model, source)])
    return Wav2Vec2Upstream(model, source, device, compute, recipe, remarks)


def random_wav2vec2(device: torch.device, compute: str = "float32") -> Wav2Vec2Upstream:
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
    recipe = transformers.Wav2Vec2FeatureExtractor(do_normalize=True)
    upstream = Wav2Vec2Upstream(model, source, device, compute, recipe)
    upstream.info = replace(upstream.info, random_weights=True)
    return upstream
