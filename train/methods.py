"""The methods of a study: each says only what differs from the study's settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from mser.errors import ConfigError
from mser.model import ModelSettings
from mser.nas.genotype import Genotype
from train.fit import FitSettings

#: Kinds of methods: a linear probe of one layer, or of several that all corpora share; heads trained by gradient; the
#: authors' network; the mean of other methods.
PROBE, SHARED_PROBE, HEADS, FAITHFUL, MEAN = "probe", "shared-probe", "heads", "faithful", "mean"


@dataclass(frozen=True)
class Method:
    """One row of a results table.

    Attributes:
        title, description: for readers.
        kind: ``PROBE``: logistic regression on one layer. ``SHARED_PROBE``: the same on several layers, with other
            corpora (:mod:`mser.shared_probe`). ``HEADS``: gates and heads on all experts. ``FAITHFUL``: the authors'
            network (:mod:`mser.faithful`), which has no genotype. ``MEAN``: the mean of other methods' probabilities,
            weighted by their dev UAR as experts are at the start of training.
        of: for ``MEAN``: the names of the other methods.
        structure: the search strategy whose genotype is trained; see :data:`mser.nas.search.STRATEGIES`.
        gate: instead of the genotype's.
        all_languages: one model of all languages (multi-domain), or one for each.
        model, fit, loss: settings that differ, by name.
        normalise: ``speaker`` takes each speaker's mean off and divides by the speaker's deviation, of test speakers
            too, without labels: transductive, and marked so.
    """

    title: str
    description: str
    kind: str = HEADS
    structure: str = "fixed"
    gate: str | None = None
    all_languages: bool = False
    model: Mapping[str, Any] = field(default_factory=dict)
    fit: Mapping[str, Any] = field(default_factory=dict)
    loss: Mapping[str, Any] = field(default_factory=dict)
    normalise: str = "none"
    of: tuple[str, ...] = ()

    @property
    def transductive(self) -> bool:
        """Whether the test speakers' unlabelled utterances are used together."""
        return self.normalise == "speaker"

    @property
    def seeded(self) -> bool:
        """Whether seeds make a difference."""
        return self.kind not in (PROBE, SHARED_PROBE)

    @property
    def trained(self) -> bool:
        """Whether it trains heads by gradient."""
        return self.kind in (HEADS, FAITHFUL)

    def trains_alike(self, other: Method) -> bool:
        """Whether the two differ in nothing but where their structure comes from."""
        bare = [replace(one, title="", description="", structure="", gate=None) for one in (self, other)]
        return bare[0] == bare[1]

    def genotype(self, found: Genotype) -> Genotype:
        """The genotype that is trained, from the one a strategy found."""
        return found if self.gate is None else replace(found, gate=self.gate)

    def model_settings(self, base: ModelSettings) -> ModelSettings:
        return replace(base, **self.model)

    def fit_settings(self, base: FitSettings) -> FitSettings:
        return replace(base, **self.fit, loss=replace(base.loss, **self.loss))


#: One model of all languages sees several times as many utterances an epoch.
MULTI = {"batch_size": 64, "epochs": 15}
#: Against few speakers: what a study on dev speakers preferred for one head of all languages.
AGAINST_FEW_SPEAKERS = {"mixup": 0.5, "label_smoothing": 0.1}

METHODS: dict[str, Method] = {
    "logistic": Method(
        "logistic regression",
        "Mean over frames of one layer of one upstream, both chosen on dev speakers. The bar.",
        kind=PROBE,
    ),
    "fixed": Method(
        "fixed head", "All experts, constant gate, no temporal operation, one hidden layer; nothing searched."
    ),
    "random": Method(
        "random search",
        "The best on dev speakers of structures drawn at random, at no less than the search's cost.",
        structure="random",
    ),
    "searched": Method(
        "searched", "The structure of a differentiable search with beta-decay; language-specific.", structure="beta"
    ),
    "darts": Method("DARTS, first order", "Differentiable search without beta-decay.", structure="darts"),
    "darts-second": Method(
        "DARTS, second order",
        "Differentiable search whose alphas look one weight step ahead.",
        structure="darts-second",
    ),
    "perturbation": Method(
        "perturbation",
        "First-order supernet; a choice is decided by what its removal costs on dev.",
        structure="perturbation",
    ),
    "gdas": Method("GDAS", "Search that samples one structure a step by Gumbel-softmax.", structure="gdas"),
    "routing": Method(
        "sub-network routing", "Search by sampled hard-concrete gates with an L0 penalty.", structure="routing"
    ),
    "gate-none": Method("fixed, no gate", "The fixed head, experts concatenated.", gate="none"),
    "gate-conditioned": Method(
        "fixed, conditioned gate", "The fixed head, gate decided by the utterance.", gate="conditioned"
    ),
    "contrastive-none": Method(
        "fixed, no contrastive loss", "The fixed head with cross-entropy alone.", loss={"contrastive": "none"}
    ),
    "contrastive-ge2e": Method(
        "fixed, GE2E loss", "The fixed head with the GE2E softmax loss.", loss={"contrastive": "ge2e"}
    ),
    "smoothing": Method(
        "fixed, label smoothing", "The fixed head with targets smoothed by 0.1.", loss={"label_smoothing": 0.1}
    ),
    "mixup": Method("fixed, mixup", "The fixed head with embeddings mixed up to 0.5.", loss={"mixup": 0.5}),
    "fixed-multi": Method(
        "fixed, multi-domain",
        "The fixed head, all languages in one model: shared projections.",
        all_languages=True,
        fit=MULTI,
    ),
    "multi-domain": Method(
        "multi-domain",
        "All languages in one model: shared projections, each its searched structure.",
        structure="beta",
        all_languages=True,
        fit=MULTI,
    ),
    "shared-logistic": Method(
        "shared logistic regression",
        "Half of an upstream's layers, one classifier for all corpora; layers, weight of the other corpora and penalty "
        "chosen on dev speakers.",
        kind=SHARED_PROBE,
    ),
    "shared-head": Method(
        "shared head",
        "Multi-domain, fixed structure, one head for all languages' emotions, with mixup, dropout of a half and label "
        "smoothing.",
        all_languages=True,
        model={"shared_head": True, "dropout": 0.5},
        fit=MULTI,
        loss=AGAINST_FEW_SPEAKERS,
    ),
    "best": Method(
        "best preset",
        "Mean of shared logistic regression and the multi-domain model, weighted by their UAR on dev speakers.",
        kind=MEAN,
        of=("shared-logistic", "multi-domain"),
    ),
    "logistic-transductive": Method(
        "logistic regression, speakers normalised",
        "The bar on states with each speaker's mean taken off and deviation divided out.",
        kind=PROBE,
        normalise="speaker",
    ),
    "shared-head-transductive": Method(
        "shared head, speakers normalised",
        "The shared head on states with each speaker's mean taken off and deviation divided out.",
        all_languages=True,
        model={"shared_head": True, "dropout": 0.5},
        fit=MULTI,
        loss=AGAINST_FEW_SPEAKERS,
        normalise="speaker",
    ),
    "faithful": Method(
        "faithful preset",
        "The authors' network, losses and training by their code (arXiv 2211.08237), all languages in one model.",
        kind=FAITHFUL,
        all_languages=True,
        fit={"epochs": 20, "least_steps": 1, "batch_size": 256, "decay": 1e-5},
        loss={"contrastive": "ge2e-truncated", "contrastive_weight": 0.01, "balanced": False},
    ),
}
#: Those of a study that is not told which.
DEFAULT_METHODS = ("logistic", "fixed", "random", "searched", "multi-domain")


def named(names: tuple[str, ...]) -> tuple[str, ...]:
    """The methods' names in the order of a table; ``all`` stands for every one.

    Raises:
        ConfigError: none, or an unknown one.
    """
    unknown = set(names) - {*METHODS, "all"}
    chosen = set(METHODS) if "all" in names else set(names)
    if unknown or not chosen:
        raise ConfigError(
            "Unknown methods, or none.", field="METHODS", expected=" ".join([*METHODS, "all"]), found=sorted(unknown)
        )
    # A mean needs what it is the mean of.
    chosen |= {part for name in chosen for part in METHODS[name].of}
    return tuple(name for name in METHODS if name in chosen)


def strategies(names: tuple[str, ...]) -> tuple[str, ...]:
    """The search strategies whose structures these methods train."""
    return tuple(dict.fromkeys(METHODS[name].structure for name in names if METHODS[name].kind == HEADS))
