"""Mixing: of the layers of an expert, and of the experts of a language."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn


class LayerMix(nn.Module):
    """A convex mixture of an expert's layers: sum_l softmax(a)_l x_l (Peters et al. 2018, arXiv 1802.05365).

    Args:
        start: (L,) initial logits a; zeros give the mean of the layers.
    """

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(start.clone().float())

    def weights(self) -> Tensor:
        """(L,), positive, sum 1."""
        return self.logits.softmax(0)

    def forward(self, states: Tensor) -> Tensor:
        """(B, L, T, D) -> (B, T, D)."""
        batch, layers, frames, dim = states.shape
        if layers == 1:
            return states[:, 0]
        return torch.matmul(self.weights(), states.view(batch, layers, frames * dim)).view(batch, frames, dim)


class ConstantGate(nn.Module):
    """One weight an expert, the same for every utterance of a language.

    Args:
        start: (K,) initial logits.
    """

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(start.clone().float())

    def forward(self, embeddings: Tensor) -> Tensor:
        """(B, K, H) -> (B, K), rows sum to 1."""
        return self.logits.softmax(0).expand(len(embeddings), -1)


class ConditionedGate(nn.Module):
    """Weights decided by the utterance: an MLP on the joined expert embeddings, then softmax.

    The MLP is that of the authors of arXiv 2211.08237 (K * H - 128 - 64 - 32 - K, ReLU). Its last layer starts
    at zero, so that training begins at ``start``.

    Args:
        start: (K,) initial logits. dim: H.
    """

    WIDTHS = (128, 64, 32)

    def __init__(self, start: Tensor, dim: int) -> None:
        super().__init__()
        widths = (len(start) * dim, *self.WIDTHS)
        blocks: list[nn.Module] = []
        for before, after in pairwise(widths):
            blocks += [nn.Linear(before, after), nn.ReLU()]
        last = nn.Linear(widths[-1], len(start))
        nn.init.zeros_(last.weight)
        last.bias.data.copy_(start)
        self.mlp = nn.Sequential(*blocks, last)

    def forward(self, embeddings: Tensor) -> Tensor:
        """(B, K, H) -> (B, K), rows sum to 1."""
        return self.mlp(embeddings.flatten(1)).softmax(1)


def make_gate(kind: str, start: Tensor, dim: int) -> nn.Module:
    """A gate by the name that genotypes use: ``constant`` or ``conditioned``."""
    return {"constant": lambda: ConstantGate(start), "conditioned": lambda: ConditionedGate(start, dim)}[kind]()
