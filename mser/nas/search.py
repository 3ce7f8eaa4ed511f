"""Every way to find a structure for a language, behind one call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from torch import Tensor

from mser.errors import ConfigError
from mser.loader import Loader
from mser.nas.bilevel import Advance, Bilevel, Relaxation, Turn, first_order
from mser.nas.darts import BetaDecay, second_order
from mser.nas.gdas import Gumbel
from mser.nas.genotype import Genotype, fixed_genotype, random_genotype
from mser.nas.perturbation import select
from mser.nas.routing import HardConcrete
from mser.nas.settings import SearchCurve, SearchSettings
from mser.nas.supernet import Ingredients
from mser.protocol import Split

#: A structure, and the epochs of the search for it (none without a supernet).
Found = tuple[Genotype, list[SearchCurve]]


class Strategy(Protocol):
    """A way to find a structure; arguments and errors as of :func:`search`."""

    def __call__(
        self,
        ingredients: Ingredients,
        loader: Loader,
        split: Split,
        settings: SearchSettings,
        seed: int,
        advance: Advance,
    ) -> Found: ...


def learned(
    relaxation: Callable[[SearchSettings], Relaxation],
    gradient: Callable[[Bilevel, Turn], tuple[Tensor, Sequence[Tensor]]] = first_order,
    selection: Callable[[Bilevel], Genotype] | None = None,
) -> Strategy:
    """A strategy with a supernet.

    Args:
        relaxation: how alphas become weights of candidates. gradient: of the alphas.
        selection: how a trained supernet becomes a structure; the likeliest candidates if not given.
    """

    def strategy(
        ingredients: Ingredients,
        loader: Loader,
        split: Split,
        settings: SearchSettings,
        seed: int,
        advance: Advance,
    ) -> Found:
        bilevel = Bilevel(ingredients, loader, split, settings, seed, relaxation(settings), gradient)
        curves = bilevel.run(advance)
        if selection is not None:
            return selection(bilevel), curves
        return bilevel.supernet.genotype(bilevel.relaxation.distribution(bilevel.supernet)), curves

    return strategy


def draw(
    ingredients: Ingredients, loader: Loader, split: Split, settings: SearchSettings, seed: int, advance: Advance
) -> Found:
    """One structure drawn from the search space."""
    return random_genotype(ingredients.names, ingredients.space, np.random.default_rng(seed)), []


def fixed(
    ingredients: Ingredients, loader: Loader, split: Split, settings: SearchSettings, seed: int, advance: Advance
) -> Found:
    """The fixed head."""
    return fixed_genotype(ingredients.names, ingredients.space), []


STRATEGIES: dict[str, Strategy] = {
    "darts": learned(Relaxation),
    "darts-second": learned(Relaxation, gradient=second_order),
    "beta": learned(BetaDecay),
    "perturbation": learned(Relaxation, selection=select),
    "gdas": learned(Gumbel),
    "routing": learned(HardConcrete),
    "random": draw,
    "fixed": fixed,
}


def search(
    strategy: str,
    ingredients: Ingredients,
    loader: Loader,
    split: Split,
    settings: SearchSettings,
    seed: int,
    advance: Advance = lambda done, total: None,
) -> Found:
    """Finds a structure for one language and fold.

    Args:
        strategy: one of ``STRATEGIES``; ``random`` and ``fixed`` read no states.
        split: weights are learned on ``split.train``, the structure on ``split.dev``: disjoint speakers.
        seed: decides everything random; torch's own generator is left as it was.
        advance: called after each epoch.

    Returns:
        The genotype, and a point for each epoch.

    Raises:
        ConfigError: no such strategy. ProtocolError: the split's parts are not disjoint.
        RunError: a loss is not finite any more.
    """
    if strategy not in STRATEGIES:
        raise ConfigError("Unknown search strategy.", field="strategy", expected=tuple(STRATEGIES), found=strategy)
    return STRATEGIES[strategy](ingredients, loader, split, settings, seed, advance)
