"""A transformer on the frames of one upstream: the head of Agarla et al. 2022 (arXiv 2207.06767) by itself.

Of the paper the abstract alone was at hand: what is named open below is a decision of this project.

B batch, T frames, L layers, D features, H attention heads, E emotions, n utterances of a part.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from mser.errors import ConfigError
from train.systems.base import System
from train.systems.descent import Sequences, Steps, class_weights, descend, mask_of, masked_mean, parameters_of
from train.systems.layers import best_layer
from train.systems.task import Answer, Part, Task

#: Labelled or pseudo-labelled utterances of the target that each step sees beside its batch of the source.
BESIDE = 16


def attention(queries: Tensor, keys: Tensor, values: Tensor, lengths: Tensor) -> Tensor:
    """softmax(q k' / sqrt(D)) v over the frames within each utterance (Vaswani et al. 2017, equation 1).

    Queries, keys and values (B, H, T, D), lengths (B,) -> (B, H, T, D).
    """
    within = mask_of(lengths, keys.shape[2])[:, None, None]
    return functional.scaled_dot_product_attention(queries, keys, values, attn_mask=within)


def positions(frames: int, width: int) -> Tensor:
    """(T, D) sines, then cosines, of wavelengths from 2 pi to 20000 pi frames (Vaswani et al. 2017, section 3.5)."""
    rates = torch.exp(-math.log(10_000) * torch.arange(0, width, 2) / width)
    angles = torch.arange(frames)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def soft_cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean of -sum_e t_e log p_e: logits (B, E), distributions (B, E), weights (B,) -> ()."""
    return (functional.cross_entropy(logits, targets, reduction="none") * weights).sum() / weights.sum()


class Block(nn.Module):
    """Attention, then a feed-forward layer of twice the width, each normalised before and added to its input."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.project, self.join = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.forth, self.back = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, D), lengths (B,) -> (B, T, D); frames behind an utterance's end change none within it."""
        parts = self.project(self.before(x)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        seen = attention(parts[0], parts[1], parts[2], lengths).transpose(1, 2).flatten(2)
        x = x + self.dropout(self.join(seen))
        return x + self.dropout(self.back(self.dropout(self.forth(self.between(x)).relu())))


class TransformerHead(nn.Module):
    """Frames -> logits: a mix of layers, a projection, blocks of attention, the mean over frames, a linear layer.

    Args:
        layers: L; of more than one a softmax of learnt weights is summed, all equal at first.
    """

    def __init__(
        self, layers: int, dim: int, emotions: int, width: int, depth: int, heads: int, dropout: float
    ) -> None:
        super().__init__()
        self.mix = nn.Parameter(torch.zeros(layers)) if layers > 1 else None
        self.enter = nn.Linear(dim, width)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(depth))
        self.norm, self.leave = nn.LayerNorm(width), nn.Linear(width, emotions)

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, L, D), lengths (B,) -> (B, E)."""
        mixed = frames[:, :, 0] if self.mix is None else torch.einsum("btld,l->btd", frames, self.mix.softmax(0))
        x = self.enter(mixed)
        x = self.dropout(x + positions(x.shape[1], x.shape[2]).to(x))
        for block in self.blocks:
            x = block(x, lengths)
        return self.leave(self.dropout(masked_mean(self.norm(x), lengths)))

    def judge(self, sequences: Sequences) -> np.ndarray:
        """(n, E) float64 probabilities."""
        self.eval()
        with torch.inference_mode():
            said = [self(*batch).double().softmax(1).cpu() for batch in sequences.batches()]
        return torch.cat(said).numpy() if said else np.zeros((0, self.leave.out_features))


@dataclass(frozen=True)
class Group:
    """Utterances that are learnt from together.

    Attributes:
        frames: n utterances. targets: (n, E) distributions. weights: (n,). weight: of the group's mean loss.
    """

    frames: Sequences
    targets: Tensor
    weights: Tensor
    weight: float = 1.0

    @classmethod
    def of(cls, frames: Sequences, targets: np.ndarray, weight: float = 1.0) -> Group:
        """Weighs utterances so that each emotion, the likeliest of its target, counts the same."""
        likeliest, device = targets.argmax(1), frames.device
        weights = class_weights(likeliest, targets.shape[1])[torch.from_numpy(likeliest)]
        return cls(frames, torch.from_numpy(targets).float().to(device), weights.to(device), weight)

    def loss(self, model: TransformerHead, at: np.ndarray) -> Tensor:
        chosen = torch.from_numpy(at).to(self.targets.device)
        return self.weight * soft_cross_entropy(
            model(*self.frames.batch(at)), self.targets[chosen], self.weights[chosen]
        )


def train_on(model: TransformerHead, groups: Sequence[Group], steps: Steps, seed: int) -> list[float]:
    """Each step sees a batch of the first group, and up to :data:`BESIDE` of each other, drawn anew: the others may be
    few, and their losses would come in bursts if all were one pool. Returns the mean loss of each epoch."""
    rng = np.random.default_rng(seed)
    first, others = groups[0], groups[1:]

    def loss(at: np.ndarray, _: float) -> Tensor:
        total = first.loss(model, at)
        for group in others:
            total = total + group.loss(model, rng.permutation(len(group.frames))[:BESIDE])
        return total

    model.train()
    return descend(model.parameters(), loss, len(first.frames), steps, seed)


def require(holds: bool, name: str, expected: str, found: object) -> None:
    """Raises ConfigError naming the option where it does not hold."""
    if not holds:
        raise ConfigError("The transformer cannot be built so.", field=name, expected=expected, found=found)


@dataclass
class Begun:
    """A model before pseudo-labels.

    Attributes:
        model: this task's own. groups: labelled: the source, then the shots if there are any.
        read: frames of a part of the target. facts: what was chosen.
    """

    model: TransformerHead
    groups: list[Group]
    read: Callable[[Part], Sequences]
    facts: dict[str, Any]


@dataclass(frozen=True)
class Transformer(System):
    """A transformer on the frames of one upstream, trained on the source, then on source and shots together.

    Attributes:
        rate: frames a second; states are averaged down to it. Open: 5 is what two cores can train on.
        layers: ``best``: of the upstream that dev speakers of the source prefer, the layer that they prefer; ``mix``:
            all of its layers, with learnt weights. The paper feeds its own features; frozen states take their place.
        width, depth, heads, dropout: of the transformer. Open; small, for hundreds of utterances.
        normalise: ``each``: the target's frames are standardised by those of its unlabelled utterances, if there are
            any; ``source``: by the source's.
        shots_weight: of the shots' mean loss beside the source's. Open: no dev speakers of the target could tell.
        steps: of the source's training. tuning: of what follows on source and shots.
    """

    rate: float = 5.0
    layers: str = "best"
    width: int = 64
    depth: int = 1
    heads: int = 4
    dropout: float = 0.2
    normalise: str = "each"
    shots_weight: float = 1.0
    steps: Steps = field(default=Steps(epochs=15, rate=1e-3, decay=1e-2, clip=1.0))
    tuning: Steps = field(default=Steps(epochs=2, rate=5e-4, decay=1e-2, least_steps=30, clip=1.0))

    def __post_init__(self) -> None:
        require(self.rate > 0, "rate", "above 0", self.rate)
        require(self.layers in ("best", "mix"), "layers", "best or mix", self.layers)
        require(self.heads > 0, "heads", "1 or more", self.heads)
        whole = self.width > 0 and self.width % 2 == 0 and self.width % self.heads == 0
        require(whole, "width", f"an even multiple of the {self.heads} heads", self.width)
        require(self.depth > 0, "depth", "1 or more", self.depth)
        require(0 <= self.dropout < 1, "dropout", "0 or more, below 1", self.dropout)
        require(self.normalise in ("each", "source"), "normalise", "each or source", self.normalise)
        require(self.shots_weight > 0, "shots_weight", "above 0", self.shots_weight)

    @property
    def adapts(self) -> bool:  # type: ignore[override]
        return self.normalise == "each"

    def answer(self, task: Task) -> Answer:
        begun = self.begin(task)
        return Answer(begun.model.judge(begun.read(task.test)), parameters_of(begun.model), begun.facts)

    def begin(self, task: Task) -> Begun:
        """Trains on the source, which tasks share, and tunes on the shots."""
        upstream, layer = best_layer(task)
        kept = (layer,) if self.layers == "best" else None

        def read(part: Part, standard: tuple[Tensor, Tensor] | None = None) -> Sequences:
            return Sequences(part, upstream, self.rate, kept, standard, task.device)

        def labelled(part: Part, frames: Sequences, weight: float = 1.0) -> Group:
            return Group.of(frames, np.eye(len(task.emotions))[part.labels], weight)

        def trained() -> tuple[TransformerHead, list[float], Group]:
            source = labelled(task.source, read(task.source))
            torch.manual_seed(task.seed)
            layers, dim = source.frames.frames[0].shape[1:]
            sizes = (layers, dim, len(task.emotions), self.width, self.depth, self.heads)
            model = TransformerHead(*sizes, self.dropout).to(task.device)
            return model, train_on(model, [source], self.steps, task.seed), source

        # The subclass shares it too: what decides on it are the options of this class alone.
        shape = (self.rate, self.layers, self.width, self.depth, self.heads, self.dropout, self.steps)
        model, curve, source = task.once(("transformer", shape), trained)
        model, groups = copy.deepcopy(model), [source]
        standard = source.frames.standard
        if self.normalise == "each" and len(task.adapt):
            expert = task.adapt.language.frames(upstream, self.rate, kept)
            standard = expert.standard(task.adapt.rows)
        facts = {"upstream": upstream, "layer": layer if kept else "mix", "losses": curve}
        if len(task.shots):
            groups.append(labelled(task.shots, read(task.shots, standard), self.shots_weight))
            torch.manual_seed(task.seed)
            facts["tuning_losses"] = train_on(model, groups, self.tuning, task.seed)
        return Begun(model, groups, lambda part: read(part, standard), facts)
