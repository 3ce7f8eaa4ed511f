"""Cross-attention over three streams (HuMP-CAT, Zhao et al. 2025, arXiv 2501.10408): a speech model, MFCC and prosody.

Each stream asks the other two, which frames of theirs bear on each of its own. The network is trained on the source and
fine-tuned on a few labelled utterances of the target.

B batch, T and U frames of two streams, D features, H heads, C features of a head, E emotions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from train.systems.descent import Steps, mask_of, masked_mean
from train.systems.layers import layer_scores
from train.systems.streams import Batch, FeatureDropout, Stream, StreamSystem, require
from train.systems.task import Task

#: What is read beside the best pretrained upstream.
BESIDE = ("mfcc", "prosody")


def attend(queries: Tensor, keys: Tensor, values: Tensor, lengths: Tensor) -> Tensor:
    """Scaled dot-product attention, softmax(q k' / sqrt(C)) v, in each head (Vaswani et al. 2017, equation 1).

    Args:
        queries: (B, H, T, C). keys, values: (B, H, U, C). lengths: (B,), of the keys, 1 or more: frames behind are
            not looked at.

    Returns:
        (B, H, T, C).
    """
    scores = queries @ keys.transpose(2, 3) / math.sqrt(queries.shape[3])
    outside = ~mask_of(lengths, keys.shape[2])[:, None, None]
    return scores.masked_fill(outside, -torch.inf).softmax(3) @ values


def positions(frames: int, width: int) -> Tensor:
    """(T, D) sines in the even and cosines in the odd columns, wavelengths 2 pi to 20000 pi (Vaswani et al. 2017)."""
    angles = torch.arange(frames)[:, None] * 10_000.0 ** (-torch.arange(0, width, 2) / width)
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)


class Fusion(nn.Module):
    """One layer: each stream asks all others, adds their answers to itself, and goes through a feed-forward network.

    A stream has one query, key and value of each of its frames, whomever it asks and whoever asks it; what the others
    answer is joined and projected. Both sums are followed by layer normalisation, as in the first transformer.

    Args:
        streams: how many there are, 2 or more. width: D. heads: H, a divisor of it.
    """

    def __init__(self, streams: int, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.triples = nn.ModuleList(nn.Linear(width, 3 * width) for _ in range(streams))
        self.joins = nn.ModuleList(nn.Linear((streams - 1) * width, width) for _ in range(streams))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(streams))
        self.forwards = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width)) for _ in range(streams)
        )
        self.last_norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(streams))
        self.dropout = FeatureDropout(dropout)

    def forward(self, batch: Batch) -> Batch:
        """Streams (B, T, D) with lengths (B,), T of each its own -> the same."""
        triples = [self._triple(linear(frames)) for linear, (frames, _) in zip(self.triples, batch, strict=True)]
        found = []
        for number, (own, lengths) in enumerate(batch):
            answers = [
                attend(triples[number][0], *triples[other][1:], batch[other][1]).transpose(1, 2).flatten(2)
                for other in range(len(batch))
                if other != number
            ]
            joined = self.joins[number](torch.cat(answers, dim=2))
            own = self.norms[number](own + self.dropout(joined))
            own = self.last_norms[number](own + self.dropout(self.forwards[number](own)))
            found.append((own, lengths))
        return found

    def _triple(self, projected: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each (B, H, T, C), of (B, T, 3 D)."""
        queries, keys, values = projected.unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return queries, keys, values


class CrossAttentionNetwork(nn.Module):
    """Streams to one width, with positions; fusion layers; the mean over frames of each, joined; an MLP.

    Args:
        dims: features of each stream.
    """

    def __init__(self, dims: Sequence[int], emotions: int, width: int, heads: int, depth: int, dropout: float) -> None:
        super().__init__()
        self.width = width
        self.projections = nn.ModuleList(nn.Sequential(nn.Linear(dim, width), FeatureDropout(dropout)) for dim in dims)
        self.fusions = nn.Sequential(*(Fusion(len(dims), width, heads, dropout) for _ in range(depth)))
        self.head = nn.Sequential(
            nn.Linear(len(dims) * width, 2 * width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(2 * width, emotions)
        )

    def forward(self, batch: Batch) -> Tensor:
        """Logits (B, E)."""
        placed = []
        for projection, (frames, lengths) in zip(self.projections, batch, strict=True):
            own = projection(frames) + positions(frames.shape[1], self.width).to(frames.device)
            placed.append((own, lengths))
        return self.head(torch.cat([masked_mean(*one) for one in self.fusions(placed)], dim=1))


@dataclass(frozen=True)
class CrossAttentionFusion(StreamSystem):
    """Frames of the best layer of the best pretrained upstream, MFCC and prosody, each asking the other two.

    The paper's speech model is HuBERT; here it is the upstream that dev speakers of the source like best.

    Attributes:
        rate: frames a second, of all streams. 5 for speed: attention over 50 a second costs a hundred times as much.
        width: D after projection. heads: of each attention. depth: fusion layers. dropout: on projected frames, on
            what is added to a stream, and in the MLP. All are open in what is known of the paper; small here, since
            sources have some 500 utterances.
        steps: ten epochs are enough: dev speakers of EmoDB like twenty-eight no better.
        tuning: of all parameters. The paper fine-tunes on a share of the target; here it is k utterances an emotion.
    """

    rate: float = 5.0
    width: int = 64
    heads: int = 4
    depth: int = 1
    dropout: float = 0.2
    steps: Steps = field(default=Steps(epochs=10, rate=1e-3, clip=1.0))

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.rate > 0, "rate", "above 0", self.rate)
        require(self.heads >= 1, "heads", "1 or more", self.heads)
        fits = self.width >= 2 and self.width % 2 == 0 and self.width % self.heads == 0
        require(fits, "width", f"an even multiple of {self.heads} heads", self.width)
        require(self.depth >= 1, "depth", "1 or more", self.depth)
        require(0 <= self.dropout < 1, "dropout", "0 or more, below 1", self.dropout)

    @property
    def extra(self) -> tuple[str, ...]:
        return BESIDE

    def streams(self, task: Task) -> tuple[Stream, ...]:
        scores = {name: own for name, own in layer_scores(task).items() if name not in BESIDE}
        require(bool(scores), "UPSTREAMS", f"one beside {' and '.join(BESIDE)}", " ".join(task.upstreams))
        best = max(scores, key=lambda name: max(scores[name]))
        layer = scores[best].index(max(scores[best]))
        return (Stream(best, layer, self.rate), *(Stream(name, 0, self.rate) for name in BESIDE))

    def network(self, dims: Sequence[int], emotions: int) -> nn.Module:
        return CrossAttentionNetwork(dims, emotions, self.width, self.heads, self.depth, self.dropout)
