"""The multi-gate model: experts, a gate for each language, a searched network for each language.

An utterance's way, for language g:

    states of expert k (B, L, T, D_k) --layer mix--> (B, T, D_k) --projection, shared by languages--> (B, T, H)
    --operation--> (B, T, H) --pooling, linear, normalised--> e_k (B, H)
    --gate_g over experts--> fused (B, H) --head_g--> logits (B, E)

After Wang et al. 2022 (arXiv 2211.08237): experts, gates and structure of their own for each language, and a
contrastive loss on the embedding before the classifier.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from mser.errors import ConfigError
from mser.gating import LayerMix, make_gate
from mser.heads import POOLINGS, Head
from mser.loader import Batch
from mser.nas.genotype import Genotype
from mser.nas.operations import make_operation


@dataclass(frozen=True)
class ExpertShape:
    """What a model must know of an upstream's states: its name, L and D."""

    name: str
    layers: int
    dim: int


@dataclass(frozen=True)
class Prior:
    """Where the mixtures of a language start: logits, zeros where nothing is known.

    Attributes:
        layers: for each expert (L,). experts: (K,).
    """

    layers: Mapping[str, Tensor]
    experts: Tensor

    @classmethod
    def uniform(cls, experts: Sequence[ExpertShape]) -> Prior:
        return cls({expert.name: torch.zeros(expert.layers) for expert in experts}, torch.zeros(len(experts)))


@dataclass(frozen=True)
class ModelSettings:
    """Sizes that are not searched.

    Attributes:
        hidden: H, of frames after the projection and of embeddings.
        dropout: on the projected frames' input, on embeddings and in the head.
    """

    hidden: int = 128
    dropout: float = 0.3


@dataclass(frozen=True)
class Domain:
    """One language of a model: its emotions, structure and starting point."""

    language: str
    emotions: tuple[str, ...]
    genotype: Genotype
    prior: Prior


@dataclass
class Output:
    """What a model says of B utterances of one language.

    Attributes:
        logits: (B, E). embedding: (B, H), before the classifier. gate: (B, K).
    """

    logits: Tensor
    embedding: Tensor
    gate: Tensor


def normalised(embeddings: Tensor) -> Tensor:
    """Each embedding with mean 0 and deviation 1 over its features: (B, H) -> (B, H).

    Without it a gate's weight would say little: an expert whose features shift from speaker to speaker, as loudness
    and pitch do, grows large on a new speaker and drowns the others at a weight of a few percent.
    """
    return functional.layer_norm(embeddings, embeddings.shape[-1:])


class Branch(nn.Module):
    """What follows the projection for one expert: operation, pooling, embedding: (B, T, H) -> (B, H).

    The embedding is normalised (:func:`normalised`).
    """

    def __init__(self, operation: str, pooling: str, settings: ModelSettings) -> None:
        super().__init__()
        self.operation = make_operation(operation, settings.hidden)
        self.pooling = POOLINGS[pooling](settings.hidden)
        self.embed = nn.Linear(self.pooling.size, settings.hidden)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return normalised(self.embed(self.pooling(self.operation(x, lengths), lengths)))


class LanguageNetwork(nn.Module):
    """The parts that a language has for itself.

    Args:
        mixes, branches: by the number of the expert in a batch; experts that are left out have none.
        gate: over the experts that are not left out.
        experts: K, left out ones counted in.
    """

    def __init__(
        self,
        mixes: Mapping[int, LayerMix],
        branches: Mapping[int, Branch],
        gate: nn.Module,
        head: Head,
        experts: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.used, self.experts = tuple(branches), experts
        self.mixes = nn.ModuleList(mixes.values())
        self.branches = nn.ModuleList(branches.values())
        self.gate, self.head, self.dropout = gate, head, nn.Dropout(dropout)

    def forward(self, batch: Batch, projections: nn.ModuleList) -> Output:
        embedded = []
        for number, mix, branch in zip(self.used, self.mixes, self.branches, strict=True):
            projected = projections[number](self.dropout(mix(batch.states[number])))
            embedded.append(branch(projected, batch.lengths[number]))
        embeddings = torch.stack(embedded, dim=1)
        gate = self.gate(embeddings)
        fused = self.dropout(torch.relu((gate.unsqueeze(2) * embeddings).sum(1)))
        embedding, logits = self.head(fused)
        full = gate.new_zeros(len(gate), self.experts)
        full[:, list(self.used)] = gate
        return Output(logits, embedding, full)


def build_network(domain: Domain, experts: Sequence[ExpertShape], settings: ModelSettings) -> LanguageNetwork:
    """The network a genotype describes.

    Raises:
        ConfigError: the genotype was searched for other experts.
    """
    genotype = domain.genotype
    names = tuple(expert.name for expert in experts)
    if set(names) != set(genotype.experts):
        raise ConfigError(
            f"The genotype of {domain.language} was searched for other upstreams.",
            field="UPSTREAMS",
            expected=" ".join(genotype.experts),
            found=" ".join(names),
            hint=f"train with these upstreams, or run `make search LANG={domain.language}` with yours",
        )
    used = {number: name for number, name in enumerate(names) if genotype.operations[name] != "zero"}
    mixes = {number: LayerMix(domain.prior.layers[name]) for number, name in used.items()}
    branches = {number: Branch(genotype.operations[name], genotype.pooling, settings) for number, name in used.items()}
    gate = make_gate(genotype.gate, domain.prior.experts[list(used)], settings.hidden)
    head = Head(
        settings.hidden, len(domain.emotions), genotype.depth, genotype.width, genotype.activation, settings.dropout
    )
    return LanguageNetwork(mixes, branches, gate, head, len(names), settings.dropout)


class MultiGateModel(nn.Module):
    """All languages of a model: shared projections, and a network for each language.

    One language makes it language-specific, several multi-domain.
    """

    def __init__(
        self,
        domains: Sequence[Domain],
        experts: Sequence[ExpertShape],
        settings: ModelSettings = ModelSettings(),
    ) -> None:
        super().__init__()
        self.domains = {domain.language: domain for domain in domains}
        self.experts, self.settings = tuple(experts), settings
        self.projections = nn.ModuleList(nn.Linear(expert.dim, settings.hidden) for expert in experts)
        # Under a key that no method of a module has: `to` is Tongan.
        self.networks = nn.ModuleDict(
            {f"lang_{domain.language}": build_network(domain, experts, settings) for domain in domains}
        )

    def network(self, language: str) -> nn.Module:
        """The parts of one language."""
        return self.networks[f"lang_{language}"]

    def forward(self, language: str, batch: Batch) -> Output:
        return self.network(language)(batch, self.projections)

    def layer_weights(self, language: str) -> dict[str, list[float]]:
        """The layer mix of each expert that the language uses."""
        network: Any = self.network(language)
        return {
            self.experts[number].name: mix.weights().tolist()
            for number, mix in zip(network.used, network.mixes, strict=True)
        }

    def mixture_parameters(self) -> list[nn.Parameter]:
        """Logits of layer mixes and constant gates: few, and to be learned faster than weights."""
        return [value for name, value in self.named_parameters() if name.endswith("logits")]
