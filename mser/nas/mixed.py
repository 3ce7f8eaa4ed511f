"""Parts of a supernet that hold several choices at once, weighed.

Weights of a choice are given as candidate -> weight (), and sum to 1; candidates without a weight are not computed.
B utterances of T frames, H hidden features, E emotions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise

import torch
from torch import Tensor, nn

from mser.heads import ACTIVATIONS, POOLINGS
from mser.model import ModelSettings, normalised
from mser.nas.genotype import SearchSpace
from mser.nas.operations import make_operation
from mser.noise import Dropout, Noise

#: Candidate -> its weight, ().
Weights = Mapping[str, Tensor]


def weighted(ways: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """The sum of weight (), value (...) pairs, of one pair or more."""
    products = [weight * value for weight, value in ways]
    return torch.stack(products).sum(0) if len(products) > 1 else products[0]


class MixedBranch(nn.Module):
    """All operations but ``zero``, then all poolings, of one expert: (B, T, H) -> (B, H)."""

    def __init__(self, space: SearchSpace, settings: ModelSettings) -> None:
        super().__init__()
        self.operations = nn.ModuleDict(
            {name: make_operation(name, settings.hidden) for name in space.operations if name != "zero"}
        )
        poolings = {name: POOLINGS[name](settings.hidden) for name in space.poolings}
        self.poolings = nn.ModuleDict(poolings)
        # For each pooling its own embedding, as poolings give vectors of different sizes.
        self.embeds = nn.ModuleDict(
            {name: nn.Linear(pooling.size, settings.hidden) for name, pooling in poolings.items()}
        )

    def forward(self, x: Tensor, lengths: Tensor, operation: Weights, pooling: Weights) -> Tensor:
        frames = weighted((weight, self.operations[name](x, lengths)) for name, weight in operation.items())
        return normalised(
            weighted(
                (weight, self.embeds[name](self.poolings[name](frames, lengths))) for name, weight in pooling.items()
            )
        )


class MixedHead(nn.Module):
    """Classifiers of all depths, widths and activations in one network of the largest size.

    A width leaves the units behind it at 0, so widths share their first units, and mixed widths are one product with
    a mask (Wan et al. 2020, FBNetV2, arXiv 2004.05565, section 3.1). Each depth has a classifier of its own on the
    hidden layers that all depths share. So a further width costs a mask, and a further activation itself alone.
    """

    widths: Tensor

    def __init__(self, emotions: int, space: SearchSpace, settings: ModelSettings) -> None:
        super().__init__()
        largest, deepest = max(space.widths), max(space.depths)
        sizes = [settings.hidden, *[largest] * deepest]
        self.hidden = nn.ModuleList(nn.Linear(before, after) for before, after in pairwise(sizes))
        self.dropouts = nn.ModuleList(Dropout(settings.dropout) for _ in range(deepest))
        self.activations = nn.ModuleDict({name: ACTIVATIONS[name]() for name in space.activations})
        self.classifiers = nn.ModuleDict({str(depth): nn.Linear(sizes[depth], emotions) for depth in space.depths})
        self.places = {str(width): place for place, width in enumerate(space.widths)}
        masks = torch.arange(largest)[None] < torch.tensor(space.widths)[:, None]
        self.register_buffer("widths", masks.float(), persistent=False)

    def forward(
        self, fused: Tensor, depth: Weights, width: Weights, activation: Weights, noise: Noise | None = None
    ) -> Tensor:
        """(B, H) -> logits (B, E)."""
        logits = []
        mask = weighted((weight, self.widths[self.places[name]]) for name, weight in width.items())
        x = fused
        for layer in range(max(map(int, depth)) + 1):
            if layer:
                x = self.hidden[layer - 1](x)
                x = weighted((weight, self.activations[name](x)) for name, weight in activation.items()) * mask
                x = self.dropouts[layer - 1](x, noise)
            if str(layer) in depth:
                logits.append((depth[str(layer)], self.classifiers[str(layer)](x)))
        return weighted(logits)
