"""What every upstream offers: layerwise hidden states of waveforms."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from mser.errors import UpstreamError

#: How several waveforms may be run at once; the fastest way that is exact is chosen by measurement.
#: masked: padded to the longest, every operation that looks across frames kept to each utterance's own.
#: solo convolutions: the convolutions before the transformer utterance by utterance, the transformer masked.
#: equal lengths: only waveforms (or windows) of the same length together. solo: each alone.
POLICIES = ("masked", "solo convolutions", "equal lengths", "solo")
#: Most a padded batch holds on CUDA, in seconds of waveform, padding included.
CUDA_BATCH_SECONDS = 160.0


@dataclass(frozen=True)
class UpstreamInfo:
    """What determines the states an upstream computes.

    Attributes:
        name: folder name of its stores.
        family: ``acoustic``, ``wav2vec2``, ``hubert``, ``whisper``, ...
        source: registry name, hub id or folder name it was loaded from.
        revision: commit of the hub repository, or version of the recipe.
        weights_sha256: hash over all parameters; of the recipe where there are none.
        layers: L, number of layers returned (input of block 1, then each block).
        dim: D, features a layer.
        frame_rate: frames a second; 0 where there is one frame a recording, however long.
        sample_rate: Hz that ``states`` expects.
        recipe_sha256: hash over how waveforms become the model's input (normalisation, mel bands); empty for
            upstreams whose ``weights_sha256`` covers it.
        policy: how utterances are batched, one of ``POLICIES``.
        compute: ``float32``, ``float16`` or ``bfloat16``: what the model calculates in.
        attention: implementation of attention (``sdpa``, ``eager``); empty where there is none.
        random_weights: true for a model that was never trained.
    """

    name: str
    family: str
    source: str
    revision: str
    weights_sha256: str
    layers: int
    dim: int
    frame_rate: float
    sample_rate: int
    recipe_sha256: str = ""
    policy: str = "solo"
    compute: str = "float32"
    attention: str = ""
    random_weights: bool = False

    @property
    def fingerprint(self) -> str:
        """Hash of every attribute, 16 hex digits."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Prepared:
    """One waveform as the model takes it.

    Attributes:
        num_samples: of the waveform.
        features: the model's input on the CPU, without a batch dimension: the normalised waveform (num_samples,),
            or spectral features of another shape.
    """

    num_samples: int
    features: Tensor


class Upstream(ABC):
    """A frozen model that turns waveforms into hidden states of all its layers.

    ``prepare`` and, under the policy ``solo``, ``run`` may be called from several threads at once.
    """

    info: UpstreamInfo
    device: torch.device = torch.device("cpu")
    #: Samples from a frame to the next; a window that starts at a multiple of it has the same frames as the whole.
    #: 0: one frame a recording.
    frame_samples: int
    #: Most samples the model takes at once; None: any number.
    longest: int | None = None
    #: Of ``POLICIES``, those this model can be run under.
    possible: tuple[str, ...] = ("solo",)
    #: What is said once to the user: a head that was ignored, layers that are not used.
    remarks: tuple[str, ...] = ()

    @abstractmethod
    def num_frames(self, num_samples: int) -> int:
        """Frames T of a waveform of ``num_samples`` samples; 0 where they are too few for a frame."""

    @abstractmethod
    def prepare(self, waveform: Tensor) -> Prepared:
        """The model's input for a waveform (num_samples,) float32, mono at ``info.sample_rate``, in [-1, 1]."""

    @abstractmethod
    def run(self, batch: Sequence[Prepared]) -> list[Tensor]:
        """Hidden states of the waveforms of one batch, each as if it had been run alone.

        Returns:
            For each (L, T, D) float32 on ``device``, T = ``num_frames(num_samples)``. On CUDA they may still be
            in the making; use them on the same stream, or synchronise.
        """

    def use(self, policy: str) -> None:
        """Batches by another policy from now on.

        Raises:
            UpstreamError: the model cannot be run under it.
        """
        raise_unless_possible(self, policy)

    def batches(self, num_samples: Sequence[int]) -> list[list[int]]:
        """Which waveforms (by index) to run together under the policy, the longest first."""
        order = sorted(range(len(num_samples)), key=lambda index: (-num_samples[index], index))
        if self.info.policy == "solo":
            return [[index] for index in order]
        room = self.batch_samples()
        found: list[list[int]] = []
        for index in order:
            longest = num_samples[found[-1][0]] if found else 0
            fits = bool(found) and longest * (len(found[-1]) + 1) <= room
            if fits and (self.info.policy != "equal lengths" or self._as_long(longest, num_samples[index])):
                found[-1].append(index)
            else:
                found.append([index])
        return found

    def batch_samples(self) -> int:
        """Most samples of a batch, padding included; a single longer waveform is a batch of its own.

        On a CPU batches gain nothing: the model is bound by arithmetic, and padding only adds to it.
        """
        return int(CUDA_BATCH_SECONDS * self.info.sample_rate) if self.device.type == "cuda" else 0

    def _as_long(self, num_samples: int, other: int) -> bool:
        """Whether two waveforms give inputs of one length."""
        return num_samples == other

    def states(self, waveforms: Sequence[Tensor]) -> list[Tensor]:
        """Hidden states of each waveform as if it had been run alone, in the batches of the policy.

        Args:
            waveforms: each (num_samples,) float32, mono at ``info.sample_rate``, in [-1, 1].

        Returns:
            For each waveform (L, T, D) float32 on the CPU, T = ``num_frames(num_samples)``.

        Raises:
            UpstreamError: a waveform is too short for one frame, or longer than the model takes.
        """
        for waveform in waveforms:
            self.require_fit(len(waveform))
        found: dict[int, Tensor] = {}
        for batch in self.batches([len(waveform) for waveform in waveforms]):
            states = self.run([self.prepare(waveforms[index]) for index in batch])
            found.update((index, one.cpu()) for index, one in zip(batch, states, strict=True))
        return [found[index] for index in range(len(waveforms))]

    def require_fit(self, num_samples: int) -> None:
        """Raises UpstreamError where a waveform is too short for one frame or longer than the model takes."""
        rate = self.info.sample_rate
        if self.num_frames(num_samples) < 1 or (self.longest is not None and num_samples > self.longest):
            limit = "at least one frame" if self.longest is None else f"one frame to {self.longest / rate:g} s"
            raise UpstreamError(
                f"A recording does not fit {self.info.name}.",
                expected=limit,
                found=f"{num_samples / rate:.3f} s",
                hint="leave it out of the corpus, or cut it",
            )


def raise_unless_possible(upstream: Upstream, policy: str) -> None:
    """Raises UpstreamError where a policy is unknown or the upstream cannot follow it."""
    if policy not in upstream.possible:
        raise UpstreamError(
            f"{upstream.info.name} cannot be batched this way.",
            field="BATCHING",
            expected=", ".join(upstream.possible),
            found=policy,
        )
