"""Systems that read several streams of frames of each utterance: trained on the source, then on the shots.

B batch, n utterances of a part, T frames (of each stream its own), L layers, D features, E emotions.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from mser.errors import ConfigError
from train.systems.base import System
from train.systems.descent import Sequences, Steps, class_weights, descend, labels_of, parameters_of
from train.systems.task import Answer, Part, Task

#: Of each stream: frames (B, T, D), zero behind each utterance's end, and lengths (B,).
Batch: TypeAlias = list[tuple[Tensor, Tensor]]
#: Whose statistics standardise the target: the source's, or those of its own unlabelled utterances.
NORMALISE = ("source", "each")


@dataclass(frozen=True)
class Stream:
    """One layer of one upstream, averaged down to at most ``rate`` frames a second."""

    upstream: str
    layer: int
    rate: float

    def standard(self, part: Part) -> tuple[Tensor, Tensor]:
        """Shift and scale, each (L, D) of the one layer, over the frames of a part."""
        return part.language.frames(self.upstream, self.rate, (self.layer,)).standard(part.rows)


class Streams:
    """All streams of a part's n utterances, standardised.

    Args:
        like: the part whose frames standardise them.
    """

    def __init__(self, part: Part, streams: Sequence[Stream], like: Part, device: torch.device) -> None:
        self.held = [
            Sequences(part, one.upstream, one.rate, (one.layer,), one.standard(like), device) for one in streams
        ]

    @property
    def dims(self) -> list[int]:
        """D of each stream."""
        return [one.frames[0].shape[2] for one in self.held]

    def batch(self, positions: np.ndarray | Sequence[int]) -> Batch:
        """The utterances at these positions, (B,)."""
        found = [one.batch(positions) for one in self.held]
        return [(frames[:, :, 0], lengths) for frames, lengths in found]


class FeatureDropout(nn.Module):
    """Drops features of an utterance in all of its frames: (B, T, D) -> (B, T, D).

    One mask for all frames is what recurrent networks want (Gal and Ghahramani 2016, arXiv 1512.05287). It also saves
    time: on a CPU, drawing random numbers for each frame takes longer than a linear layer.

    Args:
        share: of the features.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, frames: Tensor) -> Tensor:
        if not self.training:
            return frames
        return frames * functional.dropout(torch.ones_like(frames[:, :1]), self.share)


def require(fits: bool, field: str, expected: str, found: object) -> None:
    """Raises ConfigError, naming the option, unless its value fits."""
    if not fits:
        raise ConfigError("The system cannot be built so.", field=field, expected=expected, found=found)


@dataclass(frozen=True)
class StreamSystem(System):
    """A network on streams: trained on the source, all of it fine-tuned on the shots.

    Attributes:
        normalise: ``source``: all frames are standardised by the source's statistics. ``each``: the target's by those
            of its unlabelled utterances.
        steps: of the source's training. tuning: of what follows on the shots.
    """

    normalise: str = "source"
    steps: Steps = field(default=Steps(clip=1.0))
    tuning: Steps = field(default=Steps(epochs=5, rate=3e-4, least_steps=20, clip=1.0))

    def __post_init__(self) -> None:
        require(self.normalise in NORMALISE, "normalise", " or ".join(NORMALISE), self.normalise)

    @property
    def adapts(self) -> bool:  # type: ignore[override]
        return self.normalise == "each"

    @abstractmethod
    def streams(self, task: Task) -> tuple[Stream, ...]:
        """What the network reads.

        Raises:
            ConfigError: the task's upstreams do not have it.
        """

    @abstractmethod
    def network(self, dims: Sequence[int], emotions: int) -> nn.Module:
        """A new network: from a :data:`Batch`, with D of each stream as in ``dims``, to logits (B, E)."""

    def answer(self, task: Task) -> Answer:
        streams = self.streams(task)
        others = task.adapt if self.adapts and len(task.adapt) else task.source

        def trained() -> tuple[nn.Module, list[float]]:
            read = Streams(task.source, streams, task.source, task.device)
            torch.manual_seed(task.seed)
            network = self.network(read.dims, len(task.emotions)).to(task.device)
            return network, self._descend(network, read, task.source, task, self.steps)

        network, curve = task.once(("trained on the source", self), trained)
        facts = {"streams": [f"{one.upstream} {one.layer}" for one in streams], "losses": curve}
        if len(task.shots):
            network = copy.deepcopy(network)
            torch.manual_seed(task.seed)
            read = Streams(task.shots, streams, others, task.device)
            facts["losses on shots"] = self._descend(network, read, task.shots, task, self.tuning)
        said = said_by(network, Streams(task.test, streams, others, task.device), len(task.test))
        return Answer(said, parameters_of(network), facts)

    def _descend(self, network: nn.Module, read: Streams, part: Part, task: Task, steps: Steps) -> list[float]:
        labels = labels_of(part, task)
        criterion = nn.CrossEntropyLoss(class_weights(part.labels, len(task.emotions)).to(task.device))
        network.train()
        return descend(
            network.parameters(),
            lambda at, _: criterion(network(read.batch(at)), labels[at]),
            len(part),
            steps,
            task.seed,
        )


def said_by(network: nn.Module, read: Streams, count: int, block: int = 64) -> np.ndarray:
    """(n, E) float64 softmax of a network's logits on all ``count`` utterances."""
    network.eval()
    with torch.inference_mode():
        blocks = (range(start, min(start + block, count)) for start in range(0, count, block))
        return torch.cat([network(read.batch(one)).double().softmax(1).cpu() for one in blocks]).numpy()
