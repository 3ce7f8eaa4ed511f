"""The supernet: every choice of the search space at once, each candidate with a weight.

After DARTS (Liu et al. 2019, arXiv 1806.09055): one vector of logits, alpha, for each choice. How alphas become weights
is the strategy's: a softmax, or a sample.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mser.augment import FrameMask
from mser.gating import LayerMix, make_gate
from mser.loader import Batch
from mser.model import ExpertShape, ModelSettings, Output, Prior
from mser.nas.genotype import Genotype, SearchSpace, operation_edge
from mser.nas.mixed import MixedBranch, MixedHead, Weights, weighted
from mser.noise import Dropout, Noise, number_places

#: Alphas start this close to zero, so that no choice begins ahead.
ALPHA_START = 1e-3
#: An expert decided for ``zero`` keeps this much, so that gates never sum to nothing.
SMALLEST_KEPT = 1e-6


@dataclass(frozen=True)
class Ingredients:
    """What a search is made of, beside the data.

    Attributes:
        experts: K. emotions: E. prior: where layer mixes and gates start, and how states are standardised.
    """

    experts: Sequence[ExpertShape]
    emotions: int
    prior: Prior
    space: SearchSpace
    model: ModelSettings

    @property
    def names(self) -> tuple[str, ...]:
        """Of the experts."""
        return tuple(expert.name for expert in self.experts)


@dataclass(frozen=True)
class Mixture:
    """How much each candidate counts in one step.

    Attributes:
        weights: edge -> candidate -> weight, without ``zero``; candidates that are absent are not computed. An expert
            whose edge has none is left out.
        kept: how far each expert is kept, K times () from 0 to 1: ``zero`` takes an expert's gate away and leaves its
            embedding alone, as a network does that leaves the expert out and shares its gate among the others.
    """

    weights: Mapping[str, Weights]
    kept: tuple[Tensor, ...]


def without_zero(names: Sequence[str], values: Tensor) -> Tensor:
    """The values (candidates,) of all candidates but ``zero``, by slices: an index would be copied to the device."""
    if "zero" not in names:
        return values
    zero = list(names).index("zero")
    return torch.cat([values[:zero], values[zero + 1 :]])


class Supernet(nn.Module):
    """One language's supernet over all experts.

    Attributes:
        edges: every choice and its candidates. alpha: edge -> (candidates,) logits.
    """

    def __init__(self, ingredients: Ingredients) -> None:
        super().__init__()
        experts, space, settings = ingredients.experts, ingredients.space, ingredients.model
        prior = ingredients.prior
        self.space, self.names, self.hidden = space, ingredients.names, settings.hidden
        self.edges = space.edges(len(experts))
        self.mixes = nn.ModuleList(LayerMix(prior.layers[name], *prior.standard[name]) for name in self.names)
        self.input_dropouts = nn.ModuleList(Dropout(settings.dropout) for _ in experts)
        self.masks = nn.ModuleList(FrameMask(settings.frame_mask, settings.feature_mask) for _ in experts)
        self.projections = nn.ModuleList(nn.Linear(expert.dim, settings.hidden) for expert in experts)
        self.branches = nn.ModuleList(MixedBranch(space, settings) for _ in experts)
        self.gates = nn.ModuleDict(
            {kind: make_gate(kind, prior.experts, settings.hidden, settings.temperature) for kind in space.gates}
        )
        self.dropout = Dropout(settings.dropout)
        self.head = MixedHead(ingredients.emotions, space, settings)
        self.alpha = nn.ParameterDict(
            {edge: ALPHA_START * torch.randn(len(candidates)) for edge, candidates in self.edges.items()}
        )
        number_places(self)

    def alphas(self) -> list[Tensor]:
        """The structure's parameters; all others are weights."""
        return [self.alpha[edge] for edge in self.edges]

    def logits(self) -> dict[str, Tensor]:
        """Edge -> alpha (candidates,)."""
        return dict(zip(self.edges, self.alphas(), strict=True))

    def weights(self) -> list[Tensor]:
        """Every parameter but the alphas."""
        return [value for name, value in self.named_parameters() if not name.startswith("alpha.")]

    def forward(self, batch: Batch, noise: Noise | None = None, mixture: Mixture | None = None) -> Output:
        """What the supernet says of a batch.

        Args:
            noise: of the training step; without it nothing is dropped or hidden.
            mixture: weights of the candidates; softmax(alpha) if not given.
        """
        mixture = self.mixture() if mixture is None else mixture
        embeddings = torch.stack([self._embed(number, batch, noise, mixture) for number in range(len(self.names))], 1)
        ways = [(weight, self.gates[kind](embeddings)[1]) for kind, weight in mixture.weights["gate"].items()]
        gate = weighted(ways) * (SMALLEST_KEPT + (1 - SMALLEST_KEPT) * torch.stack(mixture.kept))
        gate = gate / gate.sum(1, keepdim=True)
        fused = self.dropout(torch.relu((gate.unsqueeze(2) * embeddings).sum(1)), noise)
        depth, width, activation = (mixture.weights[edge] for edge in ("depth", "width", "activation"))
        return Output(self.head(fused, depth, width, activation, noise), fused, gate)

    def _embed(self, number: int, batch: Batch, noise: Noise | None, mixture: Mixture) -> Tensor:
        """The embedding (B, H) of one expert; zeros where it has no operation to compute."""
        operation, lengths = mixture.weights[operation_edge(number)], batch.lengths[number]
        if not operation:
            return batch.states[number].new_zeros(len(lengths), self.hidden)
        frames = self.input_dropouts[number](self.mixes[number](batch.states[number]), noise)
        frames = self.projections[number](self.masks[number](frames, lengths, noise))
        return self.branches[number](frames, lengths, operation, mixture.weights["pooling"])

    def mixture(self, candidates: Mapping[str, Sequence[str]] | None = None) -> Mixture:
        """Softmax(alpha) over the given candidates of each edge, over all if none are given."""
        given = self.edges if candidates is None else candidates
        weights: dict[str, Weights] = {}
        kept = []
        for edge, names in given.items():
            logits = dict(zip(self.edges[edge], self.alpha[edge].unbind(), strict=True))
            others = [name for name in names if name != "zero"]
            if edge.startswith("operation"):
                shares = torch.stack([logits[name] for name in names]).softmax(0)
                left_out = shares[list(names).index("zero")] if "zero" in names else shares.new_zeros(())
                kept.append(1 - left_out)
            # Not divided out of the softmax over all names, which may be nothing but ``zero`` to the last bit.
            inside = torch.stack([logits[name] for name in others]).softmax(0).unbind() if others else ()
            weights[edge] = dict(zip(others, inside, strict=True))
        return Mixture(weights, tuple(kept))

    def distribution(self) -> dict[str, Tensor]:
        """Edge -> softmax(alpha), without gradient."""
        return {edge: alpha.detach().softmax(0) for edge, alpha in self.logits().items()}

    def genotype(self, distribution: Mapping[str, Tensor] | None = None) -> Genotype:
        """The strongest candidate everywhere; where every expert would be left out, the strongest expert stays.

        Args:
            distribution: edge -> probabilities (candidates,); softmax(alpha) if not given.
        """
        found = self.distribution() if distribution is None else distribution
        shares = {edge: found[edge].tolist() for edge in self.edges}
        chosen = {edge: names[shares[edge].index(max(shares[edge]))] for edge, names in self.edges.items()}
        experts = [operation_edge(number) for number in range(len(self.names))]
        if all(chosen[edge] == "zero" for edge in experts):
            left = [(share, edge, name) for edge in experts for share, name in self._kept_shares(edge, shares[edge])]
            _, edge, name = max(left, key=lambda one: one[0])
            chosen[edge] = name
        return self.space.genotype(self.names, chosen)

    def _kept_shares(self, edge: str, shares: Sequence[float]) -> list[tuple[float, str]]:
        return [(share, name) for share, name in zip(shares, self.edges[edge], strict=True) if name != "zero"]
