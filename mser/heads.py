"""What follows the frames: pooling over time, and the classifier of a language."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from mser.noise import Dropout, Noise

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "tanh": nn.Tanh}


def frame_mask(lengths: Tensor, frames: int) -> Tensor:
    """(B,) -> (B, T, 1) float: 1 on an utterance's frames, 0 behind its end."""
    return (torch.arange(frames, device=lengths.device)[None] < lengths[:, None]).float().unsqueeze(2)


def silenced(x: Tensor, lengths: Tensor) -> Tensor:
    """(B, T, H) with zeros behind each utterance's end, whatever stood there."""
    return x.masked_fill(frame_mask(lengths, x.shape[1]) == 0, 0.0)


class Pooling(nn.Module):
    """Pools frames to one vector: (B, T, H), lengths (B,) -> (B, ``size``)."""

    def __init__(self, dim: int, parts: int = 1) -> None:
        super().__init__()
        self.size = dim * parts

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        raise NotImplementedError


class MeanPooling(Pooling):
    """The mean over the utterance's frames."""

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return silenced(x, lengths).sum(1) / lengths[:, None]


class MeanStdPooling(Pooling):
    """Mean and deviation over the utterance's frames, joined."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim, parts=2)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        mean = silenced(x, lengths).sum(1) / lengths[:, None]
        variance = silenced((x - mean[:, None]).square(), lengths).sum(1) / lengths[:, None]
        # The square root has no gradient at 0, where an utterance has one frame.
        return torch.cat([mean, (variance + 1e-5).sqrt()], dim=1)


class MaxPooling(Pooling):
    """The largest value of each feature over the utterance's frames."""

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return x.masked_fill(frame_mask(lengths, x.shape[1]) == 0, float("-inf")).amax(1)


class AttentionPooling(Pooling):
    """A mean weighted by softmax(q . x_t): one learned query (Mirsamadi et al. 2017, ICASSP)."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.query = nn.Linear(dim, 1, bias=False)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        x = silenced(x, lengths)
        scores = self.query(x).masked_fill(frame_mask(lengths, x.shape[1]) == 0, float("-inf"))
        return (scores.softmax(1) * x).sum(1)


class LastPooling(Pooling):
    """The utterance's last frame."""

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        last = (lengths - 1)[:, None, None].expand(-1, 1, x.shape[2])
        return x.gather(1, last).squeeze(1)


POOLINGS: dict[str, type[Pooling]] = {
    "mean": MeanPooling,
    "mean_std": MeanStdPooling,
    "max": MaxPooling,
    "attention": AttentionPooling,
    "last": LastPooling,
}


class Head(nn.Module):
    """The classifier: ``depth`` hidden layers of ``width``, then E logits.

    Args:
        size: H of the fused embedding.
    """

    def __init__(self, size: int, emotions: int, depth: int, width: int, activation: str, dropout: float) -> None:
        super().__init__()
        sizes = [size, *[width] * depth]
        self.hidden = nn.ModuleList(nn.Linear(before, after) for before, after in pairwise(sizes))
        self.dropouts = nn.ModuleList(Dropout(dropout) for _ in range(depth))
        self.activation = ACTIVATIONS[activation]()
        self.classifier = nn.Linear(sizes[-1], emotions)

    def forward(self, fused: Tensor, noise: Noise | None = None) -> tuple[Tensor, Tensor]:
        """(B, H) -> the embedding before the classifier (B, width or H), and logits (B, E)."""
        embedding = fused
        for linear, dropout in zip(self.hidden, self.dropouts, strict=True):
            embedding = dropout(self.activation(linear(embedding)), noise)
        return embedding, self.classifier(embedding)
