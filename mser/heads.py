"""What follows the frames: pooling over time, and the classifier of a language."""

from __future__ import annotations

import torch
from torch import Tensor, nn

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
        return x[torch.arange(len(x), device=x.device), lengths - 1]


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
        blocks: list[nn.Module] = []
        for _ in range(depth):
            blocks += [nn.Linear(size, width), ACTIVATIONS[activation](), nn.Dropout(dropout)]
            size = width
        self.hidden = nn.Sequential(*blocks)
        self.classifier = nn.Linear(size, emotions)

    def forward(self, fused: Tensor) -> tuple[Tensor, Tensor]:
        """(B, H) -> the embedding before the classifier (B, width or H), and logits (B, E)."""
        embedding = self.hidden(fused)
        return embedding, self.classifier(embedding)
