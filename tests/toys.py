"""Small languages made up in memory, for tests of what follows the store."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from hypothesis import settings
from torch import Tensor

from mser.loader import Batch, Expert, Loader
from mser.manifest import Utterance
from mser.model import ExpertShape

#: For properties: no deadline, since the machine may be busy.
examples = settings(max_examples=40, deadline=None)


def utterance(
    name: str, speaker: str = "anna", emotion: str = "anger", corpus: str = "toy", text: str = "", sha256: str = ""
) -> Utterance:
    """A manifest row; its recording's hash follows from its name unless given."""
    key = f"{corpus}/{name}"
    sha256 = sha256 or hashlib.sha256(key.encode()).hexdigest()
    return Utterance(
        key, corpus, "de", f"{name}.wav", speaker, "female", emotion, emotion, "", text, 16_000, 16_000, sha256
    )


def expert_of(states: Sequence[Tensor], name: str = "toy") -> Expert:
    """An expert of states (L, T_i, D) that lie in memory."""
    moments = [torch.stack([x.mean(1), x.std(1, correction=0)], dim=1) for x in states]
    frames = torch.tensor([x.shape[1] for x in states])
    return Expert(name, list(states).__getitem__, frames, torch.stack(moments))


def random_states(frames: Sequence[int], layers: int = 2, dim: int = 4, seed: int = 0) -> list[Tensor]:
    """States (L, T_i, D) of white noise."""
    rng = torch.Generator().manual_seed(seed)
    return [torch.randn(layers, int(count), dim, generator=rng) for count in frames]


def separable_states(labels: Sequence[int], layers: int = 2, dim: int = 4, seed: int = 0) -> list[Tensor]:
    """States of one to six frames, noise but for feature ``label``, which stands out."""
    frames = np.random.default_rng(seed).integers(1, 7, len(labels))
    states = random_states(frames.tolist(), layers, dim, seed)
    for x, label in zip(states, labels, strict=True):
        x[:, :, label] += 4
    return states


def random_batch(frames: Sequence[int], experts: int = 2, layers: int = 2, dim: int = 4, seed: int = 0) -> Batch:
    """A batch of noise with as many frames for every expert; labels 0, 1, 2, 0, ..."""
    labels = torch.arange(len(frames)) % 3
    found = [expert_of(random_states(frames, layers, dim, seed + number)) for number in range(experts)]
    return Loader(found, labels).gather(np.arange(len(frames)))


def shapes(count: int = 2, layers: int = 2, dim: int = 4) -> list[ExpertShape]:
    """Experts ``e0``, ``e1`` and so on."""
    return [ExpertShape(f"e{number}", layers, dim) for number in range(count)]


class RecordingLoader(Loader):
    """A loader that remembers the rows of each batch it gave."""

    def __init__(self, experts: Sequence[Expert], labels: Tensor) -> None:
        super().__init__(experts, labels)
        self.gathered: list[list[int]] = []

    def gather(self, rows: np.ndarray) -> Batch:
        self.gathered.append(rows.tolist())
        return super().gather(rows)
