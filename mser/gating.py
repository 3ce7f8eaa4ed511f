"""Mixing: of the layers of an expert, and of the experts of a language."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn


def is_mixture(name: str) -> bool:
    """Whether a parameter of this name is a layer mix or a constant gate: few numbers, to be learned fast.

    >>> is_mixture("networks.lang_de.mixes.0.logits"), is_mixture("projections.0.weight")
    (True, False)
    """
    return name.endswith("logits")


class LayerMix(nn.Module):
    """A convex mixture of an expert's standardised layers: sum_l softmax(a)_l (x_l - shift_l) scale_l.

    (Peters et al. 2018, arXiv 1802.05365, without the factor in front.) Standardising and mixing are one pass over the
    states, which are the largest tensors of a step by far.

    Args:
        start: (L,) initial logits a; zeros give the mean of the layers.
        shift, scale: (L, D) of the training frames.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, start: Tensor, shift: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(start.clone().float())
        self.register_buffer("shift", shift.clone().float())
        self.register_buffer("scale", scale.clone().float())

    def weights(self) -> Tensor:
        """(L,), positive, sum 1."""
        return self.logits.softmax(0)

    def forward(self, states: Tensor) -> Tensor:
        """(B, T, L, D) -> (B, T, D)."""
        factors = self.weights()[:, None] * self.scale
        mixed = -(factors * self.shift).sum(0).expand(*states.shape[:2], -1)
        for layer, factor in enumerate(factors.unbind(0)):
            mixed = torch.addcmul(mixed, states[:, :, layer], factor)
        return mixed


class ConstantGate(nn.Module):
    """One weight an expert, the same for every utterance of a language.

    Args:
        start: (K,) initial logits. temperature: divides the logits; large: equal weights, small: one expert.
    """

    def __init__(self, start: Tensor, temperature: float = 1.0) -> None:
        super().__init__()
        self.logits = nn.Parameter(start.clone().float())
        self.temperature = temperature

    def forward(self, embeddings: Tensor) -> tuple[Tensor, Tensor]:
        """(B, K, H) -> fused (B, H) and weights (B, K), rows sum to 1."""
        weights = (self.logits / self.temperature).softmax(0)
        return torch.matmul(weights, embeddings), weights.expand(embeddings.shape[0], -1)


class ConditionedGate(nn.Module):
    """Weights decided by the utterance: an MLP on the joined expert embeddings, then softmax.

    The MLP is that of the authors of arXiv 2211.08237 (K * H - 128 - 64 - 32 - K, ReLU). Its last layer starts
    at zero, so that training begins at ``start``.

    Args:
        start: (K,) initial logits. dim: H. temperature: divides the logits.
    """

    WIDTHS = (128, 64, 32)

    def __init__(self, start: Tensor, dim: int, temperature: float = 1.0) -> None:
        super().__init__()
        widths = (len(start) * dim, *self.WIDTHS)
        blocks: list[nn.Module] = []
        for before, after in pairwise(widths):
            blocks += [nn.Linear(before, after), nn.ReLU()]
        last = nn.Linear(widths[-1], len(start))
        nn.init.zeros_(last.weight)
        last.bias.data.copy_(start)
        self.mlp = nn.Sequential(*blocks, last)
        self.temperature = temperature

    def forward(self, embeddings: Tensor) -> tuple[Tensor, Tensor]:
        """(B, K, H) -> fused (B, H) and weights (B, K), rows sum to 1."""
        weights = (self.mlp(embeddings.flatten(1)) / self.temperature).softmax(1)
        return torch.matmul(weights.unsqueeze(1), embeddings).squeeze(1), weights


class Concatenation(nn.Module):
    """No gate: a linear map of all experts' embeddings, joined. Its weights are given as equal.

    Args:
        experts: K. dim: H.
    """

    def __init__(self, experts: int, dim: int) -> None:
        super().__init__()
        self.experts = experts
        self.linear = nn.Linear(experts * dim, dim)

    def forward(self, embeddings: Tensor) -> tuple[Tensor, Tensor]:
        """(B, K, H) -> fused (B, H) and weights (B, K)."""
        weights = embeddings.new_full((embeddings.shape[0], self.experts), 1 / self.experts)
        return self.linear(embeddings.flatten(1)), weights


GATES = ("none", "constant", "conditioned")


def make_gate(kind: str, start: Tensor, dim: int, temperature: float = 1.0) -> nn.Module:
    """A gate by the name that genotypes use: one of ``GATES``."""
    if kind == "none":
        return Concatenation(len(start), dim)
    return ConstantGate(start, temperature) if kind == "constant" else ConditionedGate(start, dim, temperature)


def gate_imbalance(weights: Tensor, counted: Tensor) -> Tensor:
    """The squared coefficient of variation of the experts' mean weights: 0 where all are used alike, K - 1 at most.

    (Shazeer et al. 2017, arXiv 1701.06538, equation 7, of means instead of sums.)

    Args:
        weights: (B, K). counted: (B,) 1 for utterances that count, 0 for others.
    """
    mean = (weights * counted[:, None]).sum(0) / counted.sum().clamp(min=1)
    return weights.shape[1] * mean.square().sum() / mean.sum().square().clamp(min=1e-6) - 1
