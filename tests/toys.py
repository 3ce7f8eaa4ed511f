"""Small languages made up in memory, for tests of what follows the store."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from hypothesis import settings
from torch import Tensor

from mser.config import Workspace
from mser.experts import Expert
from mser.loader import Batch, Loader
from mser.manifest import Manifest, Utterance
from mser.model import ExpertShape
from mser.noise import Noise
from mser.store import Provenance, ShardEntry, open_or_create, write_shard

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
    return Expert.of_states(name, states)


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


def noise_for(rows: Sequence[int], seed: int = 0, step: int = 0) -> Noise:
    """What a training step draws from, for the utterances of these row numbers."""
    numbers = (torch.tensor(value, dtype=torch.int32) for value in (seed, step, list(rows)))
    return Noise.of(*numbers)


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


def make_workspace(
    root: Path, languages: Sequence[str] = ("de",), upstreams: Sequence[str] = ("loud", "quiet"), speakers: int = 4
) -> Workspace:
    """A workspace as stage one leaves it: for each language one corpus of ``speakers`` speakers, 6 utterances each.

    Emotions stand out in the states of the first upstream, and a little in those of the others.
    """
    workspace = Workspace(root)
    emotions = ("anger", "fear", "joy")
    for place, language in enumerate(languages):
        corpus = f"toy_{language}"
        made = [
            utterance(f"s{speaker}u{number}", f"s{speaker}", emotions[number % 3], corpus, f"t{number}")
            for speaker in range(speakers)
            for number in range(6)
        ]
        rows = tuple(replace(row, language=language) for row in made)
        Manifest(corpus, language, rows, "0" * 16).write(workspace, [], [])
        labels = [emotions.index(row.emotion) for row in rows]
        for number, name in enumerate(upstreams):
            upstream = {
                "name": name, "layers": 2, "dim": 4, "frame_rate": 5.0, "revision": "1", "random_weights": False,
            }  # fmt: skip
            provenance = Provenance(corpus, upstream, dtype="float32")
            states = separable_states(labels, seed=10 * place + number)
            if number:
                states = [x + 4 * noise for x, noise in zip(states, noise_like(states, number), strict=True)]
            folder = workspace.store(corpus, name)
            open_or_create(folder, provenance)
            entries = [ShardEntry(row.utterance_id, row.sha256, x) for row, x in zip(rows, states, strict=True)]
            write_shard(folder, provenance, entries)
    return workspace


def noise_like(states: Sequence[Tensor], seed: int) -> list[Tensor]:
    """White noise of the shapes of ``states``."""
    return random_states([x.shape[1] for x in states], *states[0].shape[::2], seed=seed)
