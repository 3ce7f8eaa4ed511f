"""What every upstream offers: layerwise hidden states of waveforms."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from torch import Tensor


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
        frame_rate: frames a second.
        sample_rate: Hz that ``states`` expects.
        policy: how utterances are batched (``solo``: each alone).
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
    policy: str = "solo"
    random_weights: bool = False

    @property
    def fingerprint(self) -> str:
        """Hash of every attribute, 16 hex digits."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class Upstream(ABC):
    """A frozen model that turns waveforms into hidden states of all its layers."""

    info: UpstreamInfo
    #: Utterances that are best handed over at once on this device.
    batch: int = 1

    @abstractmethod
    def num_frames(self, num_samples: int) -> int:
        """Frames T that ``states`` returns for a waveform of ``num_samples`` samples.

        Where they are too few for a frame: 0, or UpstreamError.
        """

    @abstractmethod
    def states(self, waveforms: Sequence[Tensor]) -> list[Tensor]:
        """Hidden states of each waveform, as if it had been run alone.

        Args:
            waveforms: each (num_samples,) float32, mono at ``info.sample_rate``, in [-1, 1].

        Returns:
            For each waveform (L, T, D) float32 on the CPU, T = ``num_frames(num_samples)``.

        Raises:
            UpstreamError: a waveform is too short for one frame, or longer than the model takes.
        """
