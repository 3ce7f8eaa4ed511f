"""Sub-network routing: every candidate has a gate of its own that is open, closed, or partly open.

(Ma et al. 2019, SNR, AAAI 33, and its gates after Louizos et al. 2018, arXiv 1712.01312.) As it is meant: the gates'
noise is drawn anew in each step and kept off 0 and 1, open routes have a price (the L0 penalty), each language has
routes of its own, learned on other speakers than the weights, and the end is one route of each choice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from mser.nas.bilevel import Relaxation
from mser.nas.gdas import step_uniform
from mser.nas.settings import SearchSettings
from mser.nas.supernet import Mixture, Supernet, without_zero
from mser.noise import Noise

#: Temperature of the gates, and the ends of the interval they are stretched over: z = clip(2.1 s - 0.1, 0, 1).
TEMPERATURE, LOW, HIGH = 0.9, -0.1, 2.0
#: Routes and experts count at least this much beside others: means stay defined where all are closed, and gradients
#: stay moderate where almost all are.
SMALLEST_ROUTE = 0.01


def hard_concrete(alpha: Tensor, numbers: Tensor) -> Tensor:
    """Gates z = clip(s (HIGH - LOW) + LOW, 0, 1), s = sigmoid((log u - log(1 - u) + log_alpha) / TEMPERATURE).

    (Louizos et al. 2018, equations 10 and 11.)

    Args:
        alpha: log_alpha of any shape. numbers: u of the same shape, uniform between 0 and 1.
    """
    stretched = ((numbers.logit() + alpha) / TEMPERATURE).sigmoid() * (HIGH - LOW) + LOW
    return stretched.clamp(0, 1)


def open_probability(alpha: Tensor) -> Tensor:
    """How likely a gate is not 0: sigmoid(log_alpha - TEMPERATURE log(-LOW / HIGH)) (equation 12)."""
    return (alpha - TEMPERATURE * math.log(-LOW / HIGH)).sigmoid()


class HardConcrete(Relaxation):
    """Weights in proportion to the gates; an expert is kept as far as any of its routes is open.

    In proportion, as what follows is normalised, and a mean of classifiers is one of the same scale. An expert's
    operation ``zero`` has no gate: it is what is left where all of the expert's gates are closed.
    """

    def __init__(self, settings: SearchSettings) -> None:
        super().__init__(settings)
        self.rate, self.sparsity = settings.route_rate, settings.sparsity

    def mixture(self, supernet: Supernet, noise: Noise, progress: float) -> Mixture:
        weights: dict[str, dict[str, Tensor]] = {}
        kept = []
        numbers = step_uniform(noise, supernet.edges)
        for edge, names in supernet.edges.items():
            gates = without_zero(names, hard_concrete(supernet.alpha[edge], numbers[edge]))
            shares = (gates + SMALLEST_ROUTE) / (gates + SMALLEST_ROUTE).sum()
            routes = [name for name in names if name != "zero"]
            weights[edge] = dict(zip(routes, shares.unbind(), strict=True))
            if edge.startswith("operation"):
                closed = (1 - gates).prod() if "zero" in names else gates.new_zeros(())
                kept.append(1 - (1 - SMALLEST_ROUTE) * closed)
        return Mixture(weights, tuple(kept))

    def penalty(self, supernet: Supernet, progress: float) -> Tensor | None:
        return self.sparsity * expected_routes(supernet.logits(), supernet.edges)

    def distribution(self, supernet: Supernet) -> dict[str, Tensor]:
        """``zero``: how likely all gates are closed; the others share the rest by how likely they are open."""
        found = {}
        for edge, names in supernet.edges.items():
            chances = open_probability(without_zero(names, supernet.alpha[edge].detach()))
            shares = chances / chances.sum()
            if "zero" in names:
                zero, closed = names.index("zero"), (1 - chances).prod()
                shares = (1 - closed) * shares
                shares = torch.cat([shares[:zero], closed[None], shares[zero:]])
            found[edge] = shares
        return found


def expected_routes(alpha: Mapping[str, Tensor], edges: Mapping[str, tuple[str, ...]]) -> Tensor:
    """The expected number of gates that are not 0, () (Louizos et al. 2018, equation 12)."""
    chances = [open_probability(without_zero(names, alpha[edge])) for edge, names in edges.items()]
    return torch.cat(chances).sum()
