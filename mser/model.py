"""The multi-gate model: experts, a gate for each language, a searched network for each language.

An utterance's way, for language g:

    states of expert k (B, T, L, D_k) --standardised, layer mix--> (B, T, D_k) --projection, shared by languages-->
    (B, T, H) --operation--> (B, T, H) --pooling, linear, normalised--> e_k (B, H)
    --gate_g over experts--> fused (B, H) --head_g--> logits (B, E)

After Wang et al. 2022 (arXiv 2211.08237): experts, gates and structure of their own for each language, and a
contrastive loss on the embedding before the classifier.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from mser.augment import FrameMask, mixed_up
from mser.config import ABOVE_ZERO, require_numbers, share, whole
from mser.errors import ConfigError
from mser.gating import LayerMix, make_gate
from mser.heads import POOLINGS, Head
from mser.loader import Batch
from mser.nas.genotype import Genotype
from mser.nas.operations import make_operation
from mser.noise import Dropout, Noise, number_places


@dataclass(frozen=True)
class ExpertShape:
    """What a model must know of an upstream's states: its name, L and D."""

    name: str
    layers: int
    dim: int


@dataclass(frozen=True)
class Prior:
    """Where the network of a language starts.

    Attributes:
        layers: for each expert (L,) logits of its layer mix. experts: (K,) logits of the gate.
        standard: for each expert shift and scale (L, D): what is taken off its states, and what they are multiplied
            with.
    """

    layers: Mapping[str, Tensor]
    experts: Tensor
    standard: Mapping[str, tuple[Tensor, Tensor]]

    @classmethod
    def uniform(cls, experts: Sequence[ExpertShape]) -> Prior:
        """Equal weights, and states as they are."""
        shapes = {expert.name: (expert.layers, expert.dim) for expert in experts}
        return cls(
            {name: torch.zeros(layers) for name, (layers, _) in shapes.items()},
            torch.zeros(len(experts)),
            {name: (torch.zeros(shape), torch.ones(shape)) for name, shape in shapes.items()},
        )


@dataclass(frozen=True)
class ModelSettings:
    """Sizes that are not searched.

    Attributes:
        hidden: H, of frames after the projection and of embeddings.
        dropout: on the projected frames' input, on embeddings and in the head.
        temperature: of the gates' softmax.
        frame_mask, feature_mask: largest share of an utterance's frames (features) that a training step hides.
        shared_head: one head over the emotions of all languages, of which each language has its own and a bias for
            each; their genotypes must have equal heads.

    Raises:
        ConfigError: a value that no model can be built with.
    """

    hidden: int = 128
    dropout: float = 0.3
    temperature: float = 1.0
    frame_mask: float = 0.0
    feature_mask: float = 0.0
    shared_head: bool = False

    def __post_init__(self) -> None:
        rules = {"hidden": whole(1), "dropout": share(below=True), "temperature": ABOVE_ZERO}
        rules |= {"frame_mask": share(), "feature_mask": share()}
        require_numbers(self, "No model can be built with this.", rules)


@dataclass(frozen=True)
class Domain:
    """One language of a model: its emotions, structure and starting point.

    Attributes:
        experts: names of the experts that its batches hold, in their order; empty for all of the model's. A language
            without an expert shares its gate among the others.
    """

    language: str
    emotions: tuple[str, ...]
    genotype: Genotype
    prior: Prior
    experts: tuple[str, ...] = ()


class Output(NamedTuple):
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


class SharedHead(nn.Module):
    """A language's share of a head over the emotions of all languages.

    Args:
        columns: (E_g,) its emotions among all.
    """

    columns: Tensor

    def __init__(self, columns: Tensor) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(len(columns)))
        self.register_buffer("columns", columns)

    def forward(self, logits: Tensor) -> Tensor:
        """(B, E) of all languages -> (B, E_g)."""
        return logits.index_select(1, self.columns) + self.bias


class LanguageNetwork(nn.Module):
    """The parts that a language has for itself.

    Args:
        mixes, branches: by the number of the expert in the model; experts that are left out have none.
        places: of the experts that are not left out, in a batch of the language.
        gate: over the experts that are not left out.
        experts: K of the model, left out ones counted in.
    """

    def __init__(
        self,
        mixes: Mapping[int, LayerMix],
        branches: Mapping[int, Branch],
        places: Sequence[int],
        gate: nn.Module,
        head: nn.Module,
        experts: int,
        settings: ModelSettings,
    ) -> None:
        super().__init__()
        self.used, self.places, self.experts = tuple(branches), tuple(places), experts
        self.mixes = nn.ModuleList(mixes.values())
        self.branches = nn.ModuleList(branches.values())
        self.input_dropouts = nn.ModuleList(Dropout(settings.dropout) for _ in branches)
        self.masks = nn.ModuleList(FrameMask(settings.frame_mask, settings.feature_mask) for _ in branches)
        self.gate, self.head, self.dropout = gate, head, Dropout(settings.dropout)

    def forward(
        self,
        batch: Batch,
        projections: nn.ModuleList,
        shared: Head | None,
        noise: Noise | None = None,
        partners: Tensor | None = None,
    ) -> Output:
        embedded = []
        for part, (number, place) in enumerate(zip(self.used, self.places, strict=True)):
            lengths = batch.lengths[place]
            frames = self.mixes[part](batch.states[place])
            frames = self.masks[part](self.input_dropouts[part](frames, noise), lengths, noise)
            embedded.append(self.branches[part](projections[number](frames), lengths))
        fused, gate = self.gate(torch.stack(embedded, dim=1))
        fused = mixed_up(self.dropout(torch.relu(fused), noise), partners)
        if shared is None:
            embedding, logits = self.head(fused, noise)
        else:
            embedding, logits = shared(fused, noise)
            logits = self.head(logits)
        absent = gate.new_zeros(gate.shape[0], 1)
        columns = [
            gate[:, self.used.index(number)][:, None] if number in self.used else absent
            for number in range(self.experts)
        ]
        return Output(logits, embedding, torch.cat(columns, dim=1))


def build_network(
    domain: Domain, experts: Sequence[ExpertShape], settings: ModelSettings, head: nn.Module
) -> LanguageNetwork:
    """The network a genotype describes, before its head.

    Raises:
        ConfigError: the genotype was searched for other experts.
    """
    genotype = domain.genotype
    own = domain.experts or tuple(expert.name for expert in experts)
    if set(own) != set(genotype.experts):
        raise ConfigError(
            f"The genotype of {domain.language} was searched for other upstreams.",
            field="UPSTREAMS",
            expected=" ".join(genotype.experts),
            found=" ".join(own),
            hint=f"train with these upstreams, or run `make search LANG={domain.language}` with yours",
        )
    kept = [name for name in own if genotype.operations[name] != "zero"]
    numbers = {expert.name: number for number, expert in enumerate(experts)}
    used = {numbers[name]: name for name in kept}
    places = [own.index(name) for name in kept]
    prior = domain.prior
    mixes = {number: LayerMix(prior.layers[name], *prior.standard[name]) for number, name in used.items()}
    branches = {number: Branch(genotype.operations[name], genotype.pooling, settings) for number, name in used.items()}
    gate = make_gate(genotype.gate, prior.experts[places], settings.hidden, settings.temperature)
    return LanguageNetwork(mixes, branches, places, gate, head, len(experts), settings)


def build_heads(domains: Sequence[Domain], settings: ModelSettings) -> tuple[Head | None, list[nn.Module]]:
    """The head of all languages, if they share one, and that of each: its own, or its share of the one.

    Raises:
        ConfigError: one head is wanted, and the genotypes have different ones.
    """
    every = sorted({emotion for domain in domains for emotion in domain.emotions})
    shapes = [(domain.genotype.depth, domain.genotype.width, domain.genotype.activation) for domain in domains]
    if not settings.shared_head:
        return None, [
            Head(settings.hidden, len(domain.emotions), *shape, settings.dropout)
            for domain, shape in zip(domains, shapes, strict=True)
        ]
    if len(set(shapes)) > 1:
        raise ConfigError(
            "Languages cannot share a head.",
            field="shared_head",
            expected="genotypes with equal depth, width and activation",
            found=shapes,
            hint="use the fixed structure, or heads of their own",
        )
    columns = [torch.tensor([every.index(emotion) for emotion in domain.emotions]) for domain in domains]
    return Head(settings.hidden, len(every), *shapes[0], settings.dropout), [SharedHead(own) for own in columns]


class MultiGateModel(nn.Module):
    """All languages of a model: shared projections, and a network for each language.

    One language makes it language-specific, several multi-domain.
    """

    kind = "multi-gate"

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
        self.shared, heads = build_heads(domains, settings)
        # Under a key that no method of a module has: `to` is Tongan.
        self.networks = nn.ModuleDict(
            {
                f"lang_{domain.language}": build_network(domain, experts, settings, head)
                for domain, head in zip(domains, heads, strict=True)
            }
        )
        number_places(self)

    @property
    def structure(self) -> str:
        """The same text for models whose parameters differ in nothing but their values."""
        parts = [f"{one.language} ({len(one.emotions)}): {one.genotype}" for one in self.domains.values()]
        return "; ".join([*parts, str(self.experts), str(self.settings)])

    def network(self, language: str) -> nn.Module:
        """The parts of one language."""
        return self.networks[f"lang_{language}"]

    def forward(
        self, language: str, batch: Batch, noise: Noise | None = None, partners: Tensor | None = None
    ) -> Output:
        """What the model says of a batch.

        Args:
            noise: of the training step; without it nothing is dropped or hidden.
            partners: (B, B) convex weights with which utterances are mixed up; see :mod:`mser.augment`.
        """
        return self.network(language)(batch, self.projections, self.shared, noise, partners)

    def layer_weights(self, language: str) -> dict[str, list[float]]:
        """The layer mix of each expert that the language uses."""
        network: Any = self.network(language)
        return {
            self.experts[number].name: mix.weights().tolist()
            for number, mix in zip(network.used, network.mixes, strict=True)
        }
