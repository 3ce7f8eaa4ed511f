"""What the pretrained encoders of all families share: how a batch is padded, run, checked and taken apart."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from mser.cores import exact_on
from mser.errors import UpstreamError
from mser.upstream.base import Prepared, Upstream, UpstreamInfo
from mser.upstream.loading import SAMPLE_RATE, weights_sha256
from mser.upstream.registry import Source

COMPUTE = ("float32", "float16", "bfloat16")


class PretrainedUpstream(Upstream):
    """A frozen transformer encoder; a family says how waveforms become its input.

    Args:
        encoder: returns ``hidden_states`` of L entries, each (B, T, D).
        info: ``compute`` in it is what the weights are cast to.
        remarks: what is said once to the user.
    """

    def __init__(self, encoder: Any, info: UpstreamInfo, device: torch.device, remarks: Sequence[str] = ()) -> None:
        self.info, self.device, self.remarks = info, device, tuple(remarks)
        self.dtype: torch.dtype = getattr(torch, info.compute)
        self.encoder = encoder.to(device, self.dtype)
        exact_on(device)

    def use(self, policy: str) -> None:
        super().use(policy)
        self.info = replace(self.info, policy=policy)

    def prepare(self, waveform: Tensor) -> Prepared:
        """The model's input for a waveform (num_samples,); UpstreamError where it does not fit the model."""
        self.require_fit(len(waveform))
        return Prepared(len(waveform), self.features(waveform))

    @abstractmethod
    def features(self, waveform: Tensor) -> Tensor:
        """The encoder's input for a waveform (num_samples,), without a batch dimension."""

    # Not inference mode: its tensors refuse to be changed in place by whoever gets them.
    @torch.no_grad()
    def run(self, batch: Sequence[Prepared]) -> list[Tensor]:
        """Hidden states, for each waveform (L, T, D) float32 on ``device``.

        Raises:
            UpstreamError: the model returns other layers or shapes than its configuration promises, or waveforms
                of several lengths are run at once though the policy does not allow it.
        """
        padded = pad_sequence([one.features for one in batch], batch_first=True)
        inputs = padded.to(self.device, self.dtype, non_blocking=True)
        with self._padding([one.num_samples for one in batch]) as options:
            states = self.encoder(inputs, output_hidden_states=True, **options).hidden_states
        frames = [self.num_frames(one.num_samples) for one in batch]
        shape = (len(batch), self.run_frames(max(frames)), self.info.dim)
        if len(states) != self.info.layers or any(state.shape != shape for state in states):
            raise UpstreamError(
                f"{self.info.name} returned hidden states of an unexpected shape.",
                expected=f"{self.info.layers} layers of (utterances, frames, features) {shape}",
                found=f"{len(states)} layers of {sorted({tuple(state.shape) for state in states})}",
                hint="this model needs its own module in mser/upstream",
            )
        # Stacking copies, so the padding is let go of.
        return [torch.stack([state[i, :own] for state in states]).float() for i, own in enumerate(frames)]

    def run_frames(self, frames: int) -> int:
        """Frames the encoder returns for a batch whose longest waveform has ``frames``."""
        return frames

    def padding_options(self, num_samples: Sequence[int]) -> Any:
        """Context in which waveforms of several lengths are run; it gives arguments for the encoder."""
        raise NotImplementedError

    @contextmanager
    def _padding(self, num_samples: Sequence[int]) -> Iterator[dict[str, Any]]:
        if all(self._as_long(num_samples[0], other) for other in num_samples):
            yield {}  # nothing is padded
            return
        if self.info.policy not in ("masked", "solo convolutions"):
            raise UpstreamError(
                f"{self.info.name} was given waveforms of several lengths at once.",
                field="BATCHING",
                expected=f"one length, under the policy {self.info.policy!r}",
                found=f"{len(set(num_samples))} lengths",
            )
        with self.padding_options(num_samples) as options:
            yield options


def describe(
    model: Any, source: Source, *, frame_samples: int, recipe: str, compute: str, policy: str = "solo"
) -> UpstreamInfo:
    """What determines the states of a model; call it before the model is cast.

    Args:
        frame_samples: from a frame to the next. recipe: hash over the input recipe.
    """
    return UpstreamInfo(
        name=source.name,
        family=model.config.model_type,
        source=source.name,
        revision=getattr(model.config, "_commit_hash", None) or source.revision or "folder",
        weights_sha256=weights_sha256(model),
        layers=model.config.num_hidden_layers + 1,
        dim=model.config.hidden_size,
        frame_rate=SAMPLE_RATE / frame_samples,
        sample_rate=SAMPLE_RATE,
        recipe_sha256=recipe,
        policy=policy,
        compute=compute,
        attention=model.config._attn_implementation or "",
    )


def remarks_of(ignored: Sequence[str], further: Sequence[str] = ()) -> tuple[str, ...]:
    """Remarks on the parts of a checkpoint that are no part of the encoder, and further ones."""
    head = [f"Only the encoder is used; ignored in the checkpoint: {', '.join(ignored)}."] if ignored else []
    return (*head, *further)


def require_compute(compute: str, device: torch.device) -> None:
    """Raises UpstreamError for a kind of number that is unknown, or that the device is slow at."""
    if compute not in COMPUTE:
        what = "There is no such kind of number to compute in."
        raise UpstreamError(what, field="COMPUTE", expected=", ".join(COMPUTE), found=compute)
    if compute != "float32" and device.type == "cpu":
        raise UpstreamError(
            f"{compute} is not computed on a CPU: without matrix units it takes 4 to 19 times as long as float32.",
            field="COMPUTE",
            expected="float32",
            found=compute,
            hint="leave COMPUTE at float32, or give a CUDA device",
        )
