"""The supernet: every choice of the search space at once, mixed by softmax(alpha).

After DARTS (Liu et al. 2019, arXiv 1806.09055).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mser.gating import LayerMix, make_gate
from mser.heads import POOLINGS, Head
from mser.loader import Batch
from mser.model import ExpertShape, ModelSettings, Output, Prior, normalised
from mser.nas.genotype import GATES, HEADS, Genotype, SearchSpace
from mser.nas.operations import PARAMETER_FREE, make_operation

#: Alphas start this close to zero, so that no choice begins ahead.
ALPHA_START = 1e-3
#: An expert decided for ``zero`` keeps this much, so that gates never sum to nothing.
SMALLEST_KEPT = 1e-6


class MixedBranch(nn.Module):
    """All operations but ``zero``, then all poolings, of one expert: (B, T, H) -> (B, H)."""

    def __init__(self, space: SearchSpace, settings: ModelSettings) -> None:
        super().__init__()
        self.operations = nn.ModuleList(make_operation(name, settings.hidden) for name in kept_operations(space))
        poolings = [POOLINGS[name](settings.hidden) for name in space.poolings]
        self.poolings = nn.ModuleList(poolings)
        self.embeds = nn.ModuleList(nn.Linear(pooling.size, settings.hidden) for pooling in poolings)

    def forward(self, x: Tensor, lengths: Tensor, operation: Tensor, pooling: Tensor) -> Tensor:
        """``operation`` and ``pooling``: a weight each, that sum to 1."""
        mixed = sum(weight * run(x, lengths) for weight, run in zip(operation, self.operations, strict=True))
        ways = zip(pooling, self.poolings, self.embeds, strict=True)
        return normalised(sum(weight * embed(pool(mixed, lengths)) for weight, pool, embed in ways))


def kept_operations(space: SearchSpace) -> list[str]:
    """The operations that keep an expert: all but ``zero``."""
    return [name for name in space.operations if name != "zero"]


class Supernet(nn.Module):
    """One language's supernet over all experts.

    Args:
        emotions: E. prior: where layer mixes and gates start.
    """

    def __init__(
        self, experts: Sequence[ExpertShape], emotions: int, prior: Prior, space: SearchSpace, settings: ModelSettings
    ) -> None:
        super().__init__()
        self.space = space
        self.names = tuple(expert.name for expert in experts)
        self.dropout = nn.Dropout(settings.dropout)
        self.mixes = nn.ModuleList(LayerMix(prior.layers[name]) for name in self.names)
        self.projections = nn.ModuleList(nn.Linear(expert.dim, settings.hidden) for expert in experts)
        self.branches = nn.ModuleList(MixedBranch(space, settings) for _ in experts)
        self.gates = nn.ModuleList(make_gate(kind, prior.experts, settings.hidden) for kind in GATES)
        self.heads = nn.ModuleList(
            Head(settings.hidden, emotions, depth, width, "relu", settings.dropout) for depth, width in HEADS
        )
        self.operation_alpha = nn.Parameter(ALPHA_START * torch.randn(len(experts), len(space.operations)))
        self.pooling_alpha = nn.Parameter(ALPHA_START * torch.randn(len(space.poolings)))
        self.gate_alpha = nn.Parameter(ALPHA_START * torch.randn(len(GATES)))
        self.head_alpha = nn.Parameter(ALPHA_START * torch.randn(len(HEADS)))

    def alphas(self) -> list[nn.Parameter]:
        """The structure's parameters; all others are weights."""
        return [self.operation_alpha, self.pooling_alpha, self.gate_alpha, self.head_alpha]

    def weights(self) -> list[nn.Parameter]:
        structure = {id(alpha) for alpha in self.alphas()}
        return [value for value in self.parameters() if id(value) not in structure]

    def forward(self, batch: Batch) -> Output:
        kept, operation = self._operation_weights()
        pooling = self.pooling_alpha.softmax(0)
        embedded = []
        for number, branch in enumerate(self.branches):
            frames = self.projections[number](self.dropout(self.mixes[number](batch.states[number])))
            embedded.append(branch(frames, batch.lengths[number], operation[number], pooling))
        embeddings = torch.stack(embedded, dim=1)
        ways = zip(self.gate_alpha.softmax(0), self.gates, strict=True)
        gate = sum(weight * run(embeddings) for weight, run in ways) * kept
        gate = gate / gate.sum(1, keepdim=True)
        fused = self.dropout(torch.relu((gate.unsqueeze(2) * embeddings).sum(1)))
        head = self.head_alpha.softmax(0)
        logits = sum(weight * run(fused)[1] for weight, run in zip(head, self.heads, strict=True))
        return Output(logits, fused, gate)

    def _operation_weights(self) -> tuple[Tensor, Tensor]:
        """How far each expert is kept (K,), and the weights (K, operations but zero) of what it is then given.

        The weight on ``zero`` takes an expert's gate away and leaves its embedding alone, as a network that leaves the
        expert out and shares its gate among the others does.
        """
        zero = self.space.operations.index("zero")
        others = [number for number in range(len(self.space.operations)) if number != zero]
        left_out = self.operation_alpha.softmax(1)[:, zero]
        return (1 - left_out).clamp(min=SMALLEST_KEPT), self.operation_alpha[:, others].softmax(1)

    def beta_decay(self) -> Tensor:
        """The mean of logsumexp(alpha) over all choices (Ye et al. 2022, beta-DARTS, arXiv 2203.01665, equation 11)."""
        rows = [*self.operation_alpha, self.pooling_alpha, self.gate_alpha, self.head_alpha]
        return torch.stack([row.logsumexp(0) for row in rows]).mean()

    def genotype(self) -> Genotype:
        """The strongest choice everywhere; where every expert would be left out, the strongest expert stays."""
        operation = self.operation_alpha.detach().softmax(1)
        chosen = operation.argmax(1)
        zero = self.space.operations.index("zero")
        if (chosen == zero).all():
            others = operation.clone()
            others[:, zero] = 0
            row = int(others.amax(1).argmax())
            chosen[row] = others[row].argmax()
        depth, width = HEADS[int(self.head_alpha.argmax())]
        return Genotype(
            {name: self.space.operations[int(index)] for name, index in zip(self.names, chosen, strict=True)},
            self.space.poolings[int(self.pooling_alpha.argmax())],
            GATES[int(self.gate_alpha.argmax())],
            depth,
            width,
        )

    def diagnostics(self) -> dict[str, float]:
        """Signs of collapse.

        Returns:
            ``entropy``: of the operations, mean over experts, 1 for undecided, 0 for decided.
            ``parameter_free``: weight on zero and skip, mean over experts.
        """
        weights = self.operation_alpha.detach().softmax(1)
        entropy = -(weights * weights.log()).sum(1).mean() / math.log(len(self.space.operations))
        free = weights[:, [self.space.operations.index(name) for name in PARAMETER_FREE]].sum(1).mean()
        return {"entropy": float(entropy), "parameter_free": float(free)}
