"""What a search can be told, and what it tells of each epoch."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields

from mser.config import ABOVE_ZERO, FROM_ZERO, require_numbers, whole


@dataclass(frozen=True)
class SearchSettings:
    """Settings of a search; those of one strategy are named by it.

    Attributes:
        epochs: over the weight speakers; more where that makes fewer than ``least_steps`` steps.
        batch_size: utterances, of weight and of alpha batches.
        rate, decay: AdamW on the weights. alpha_rate, alpha_decay: Adam on the alphas.
        beta_decay: beta: largest factor of the beta-decay loss; it rises linearly from 0 over the epochs.
        inner_rate: darts-second: xi, rate of the weight step through which alphas are judged (0.025 in Liu et al. 2019,
            appendix A.1).
        retune_steps: perturbation: weight steps after each choice that is made.
        first_temperature, last_temperature: gdas: of the Gumbel-softmax, falling linearly over the epochs. Dong and
            Yang 2019 start at 10; in a few hundred steps that was too warm to learn a planted structure surely.
        sparsity: routing: factor of the expected number of open routes, the L0 penalty. route_rate: Adam on the gates'
            log alphas, in the place of ``alpha_rate``: they start nearly open, and have further to go.

    Raises:
        ConfigError: a value that no search can run with.
    """

    epochs: int = 30
    least_steps: int = 300
    batch_size: int = 32
    rate: float = 2e-3
    decay: float = 1e-2
    alpha_rate: float = 1e-2
    alpha_decay: float = 1e-3
    beta_decay: float = 1.0
    inner_rate: float = 0.025
    retune_steps: int = 20
    first_temperature: float = 1.0
    last_temperature: float = 0.1
    sparsity: float = 0.03
    route_rate: float = 0.05

    def __post_init__(self) -> None:
        least = {"epochs": 1, "least_steps": 0, "batch_size": 1, "retune_steps": 0}
        above = ("rate", "alpha_rate", "route_rate", "inner_rate", "first_temperature", "last_temperature")
        rules = {
            one.name: whole(least[one.name]) if one.name in least else ABOVE_ZERO if one.name in above else FROM_ZERO
            for one in fields(self)
        }
        require_numbers(self, "A search cannot run with this.", rules)


@dataclass(frozen=True)
class SearchCurve:
    """One epoch of a search.

    Attributes:
        weight_loss, alpha_loss: mean balanced cross-entropy over the steps, on weight and on alpha speakers.
        entropy: of the experts' operations, mean over experts, 1 for undecided, 0 for decided.
        parameter_free: weight on operations without parameters (zero and skip), mean over experts: near 1, the search
            has collapsed. Of strategies that sample, both are of the distribution sampled from.
    """

    epoch: int
    weight_loss: float
    alpha_loss: float
    entropy: float
    parameter_free: float

    def to_dict(self) -> dict[str, float]:
        return asdict(self)
