"""A new language on a trained model: which language's network it begins with, and by what its states are standardised.

A model's file holds for every language the mean and deviation that its states are standardised by (the shift and scale
of its layer mixes). They are all that is needed of the languages it was trained on to tell which of them is nearest, so
a model can be taken to a new language without their recordings, labels or caches.

L layers, D features.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mser.averaged import AveragedModel, member_name
from mser.errors import RunError
from mser.gating import ConstantGate
from mser.heads import Head
from mser.model import Domain, LanguageNetwork, MultiGateModel, Prior

#: For each expert shift and scale, each (L, D): ``(states - shift) * scale`` has mean 0 and deviation 1.
Standard = Mapping[str, tuple[Tensor, Tensor]]


def network_of(model: MultiGateModel, language: str) -> LanguageNetwork:
    """The network of a language.

    Raises:
        RunError: the model has none.
    """
    if language not in model.domains:
        raise RunError(
            "The model has no such language.", field="language", expected=" ".join(model.domains), found=language
        )
    network: Any = model.network(language)
    return network


def standard_of(model: MultiGateModel, language: str) -> dict[str, tuple[Tensor, Tensor]]:
    """What the states of a language are standardised by, for the experts that its network uses."""
    network = network_of(model, language)
    mixes: list[Any] = list(network.mixes)
    return {model.experts[k].name: (one.shift, one.scale) for k, one in zip(network.used, mixes, strict=True)}


def distances(model: MultiGateModel, standard: Standard) -> dict[str, float]:
    """How far the states of each of the model's languages lie from those of another, without a label: smaller, nearer.

    Over layers and features the mean of ((m - n)^2 + (s - t)^2) / ((s^2 + t^2) / 2), with mean m and deviation s of
    the one and n, t of the other: the squared Frechet distance of two Gaussians with independent features (Dowson &
    Landau 1982, Journal of Multivariate Analysis 12), in units of their variance. Over the experts that every network
    uses, or all that each uses where there are no such.

    Args:
        standard: of the other language's states, for every expert.
    """
    own = {language: standard_of(model, language) for language in model.domains}
    common = set.intersection(*(set(one) for one in own.values()))
    found = {}
    for language, statistics in own.items():
        names = [name for name in statistics if name in common or not common]
        found[language] = float(torch.stack([_distance(statistics[name], standard[name]) for name in names]).mean())
    return found


def _distance(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> Tensor:
    # A scale of 0 says that a feature does not vary: it says nothing of how far languages are from each other.
    varies = (one[1] > 0) & (other[1] > 0)
    if not varies.any():
        return torch.zeros((), dtype=torch.float64, device=varies.device)
    means = (one[0] - other[0]).double()[varies].square()
    first, second = 1 / one[1].double()[varies], 1 / other[1].double()[varies]
    return ((means + (first - second).square()) / ((first.square() + second.square()) / 2)).mean()


def averaged_gates(model: MultiGateModel) -> MultiGateModel:
    """A copy whose constant gates over the same experts all have the mean of their weights.

    Gates that an utterance decides, and gates over other experts than any other network's, stay as they are.
    """
    found = copy.deepcopy(model)
    networks = [network_of(found, language) for language in found.domains]
    gates: dict[tuple[int, ...], list[tuple[ConstantGate, list[int]]]] = {}
    for network in networks:
        if isinstance(network.gate, ConstantGate):
            # Networks may have the same experts in another order.
            experts = tuple(sorted(network.used))
            gates.setdefault(experts, []).append((network.gate, [experts.index(k) for k in network.used]))
    with torch.no_grad():
        for alike in gates.values():
            weights = [(one.logits / one.temperature).softmax(0)[np.argsort(order)] for one, order in alike]
            mean = torch.stack(weights).mean(0)
            for one, order in alike:
                one.logits.copy_(one.temperature * mean.clamp(min=1e-12).log()[order])
    return found


def standardised_by(model: MultiGateModel, standard: Standard) -> MultiGateModel:
    """A copy in which every network standardises its states by these statistics instead of its own language's."""
    found = copy.deepcopy(model)
    with torch.no_grad():
        for language in found.domains:
            network = network_of(found, language)
            for k, mix in zip(network.used, network.mixes, strict=True):
                shift, scale = standard[found.experts[k].name]
                mix.shift.copy_(shift)  # type: ignore[operator]
                mix.scale.copy_(scale)  # type: ignore[operator]
    return found


def new_language(
    model: MultiGateModel,
    begins: Sequence[str],
    language: str,
    emotions: Mapping[str, Sequence[str]],
    standard: Standard,
) -> AveragedModel:
    """A model of one new language that begins as the networks of others do: gate, layer mixes, branches and head.

    Its batches hold all of the model's experts, in their order.

    Args:
        begins: the languages whose networks its members begin as, one each; the shared projections are copied.
        emotions: E of the new language, each with those of the model that it is made of; a classifier begins with
            the mean of their rows, and at zero for an emotion that its language does not know (with a shared head:
            that no language knows).
        standard: of the new language's states, for every expert.

    Raises:
        RunError: the model has no such language.
    """
    prior = Prior.uniform(model.experts)
    domains = []
    for begin in begins:
        network_of(model, begin)
        old = model.domains[begin]
        names = old.experts or tuple(shape.name for shape in model.experts)
        domains.append(Domain(member_name(language, begin), tuple(emotions), old.genotype, prior, names))
    # A head for each: what is new has emotions that a shared one may lack.
    found = AveragedModel(domains, model.experts, replace(model.settings, shared_head=False))
    members = found.members
    members.projections.load_state_dict(model.projections.state_dict())
    for begin in begins:
        source, network = network_of(model, begin), network_of(members, member_name(language, begin))
        for part in ("mixes", "branches", "gate"):
            getattr(network, part).load_state_dict(getattr(source, part).state_dict())
        _begin_head(network.head, source, model, model.domains[begin].emotions, emotions)
    found.members = standardised_by(members, standard)
    return found


def _begin_head(
    head: nn.Module,
    source: LanguageNetwork,
    model: MultiGateModel,
    known: Sequence[str],
    emotions: Mapping[str, Sequence[str]],
) -> None:
    """Copies the hidden layers, and the rows of the classifier by emotion."""
    old: Any = source.head if model.shared is None else model.shared
    bias: Any = old.classifier.bias
    if model.shared is not None:
        known = sorted({emotion for one in model.domains.values() for emotion in one.emotions})
        shared: Any = source.head
        bias = bias.index_add(0, shared.columns, shared.bias)
    assert isinstance(head, Head)
    head.hidden.load_state_dict(old.hidden.state_dict())
    with torch.no_grad():
        head.classifier.weight.zero_()
        head.classifier.bias.zero_()
        for row, parts in enumerate(emotions.values()):
            rows = [known.index(part) for part in parts if part in known]
            if rows:
                # A copy, not an assignment: the old model may lie on another device.
                head.classifier.weight[row].copy_(old.classifier.weight[rows].mean(0))
                head.classifier.bias[row].copy_(bias[rows].mean(0))
