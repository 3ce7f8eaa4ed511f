"""A new language on a trained model: it begins as an old one answers, and is standardised by what it is told."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from toys import random_batch, shapes

from mser.errors import RunError
from mser.loader import Batch
from mser.model import Domain, ExpertShape, ModelSettings, MultiGateModel, Prior
from mser.nas.genotype import Genotype
from mser.transfer import (
    averaged_gates,
    distances,
    network_of,
    new_language,
    standard_of,
    standardised_by,
)

SHAPES = shapes(2)
FRAMES = [3, 1, 6, 2]
EMOTIONS = {"de": ("anger", "fear", "joy"), "it": ("anger", "joy", "sadness")}
Standard = dict[str, tuple[Tensor, Tensor]]


def standard(seed: int, names: tuple[str, ...] = ("e0", "e1")) -> Standard:
    """Random shift and positive scale (L, D) of each expert."""
    rng = torch.Generator().manual_seed(seed)
    return {name: (torch.randn(2, 4, generator=rng), 0.5 + torch.rand(2, 4, generator=rng)) for name in names}


def prior(seed: int) -> Prior:
    """Mixtures and a standard that are no defaults."""
    rng = torch.Generator().manual_seed(seed)
    layers = {one.name: torch.randn(one.layers, generator=rng) for one in SHAPES}
    return Prior(layers, torch.randn(2, generator=rng), standard(seed))


def genotype(depth: int = 1, gate: str = "constant", **operations: str) -> Genotype:
    names = {"e0": "skip", "e1": "skip", **operations}
    return Genotype(names, "mean", gate, depth, 8 if depth else 0)


def model_of(depth: int = 1, shared: bool = False, gate: str = "constant", **operations: str) -> MultiGateModel:
    """Languages de and it, whose parameters are all random, biases among them."""
    torch.manual_seed(0)
    structure = genotype(depth, gate, **operations)
    domains = [Domain(name, EMOTIONS[name], structure, prior(place)) for place, name in enumerate(EMOTIONS)]
    model = MultiGateModel(domains, SHAPES, ModelSettings(hidden=8, temperature=2.0, shared_head=shared))
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.3 * torch.randn(value.shape))
    return model


def themselves(*emotions: str) -> dict[str, list[str]]:
    return {name: [name] for name in emotions}


def softmax(x: np.ndarray) -> np.ndarray:
    powers = np.exp(x - x.max())
    return powers / powers.sum()


def plain_embedding(model: MultiGateModel, language: str, batch: Batch, by: Mapping[str, Any]) -> np.ndarray:
    """(B, H) before the head, of skipped operations, mean pooling and a constant gate, written out in numpy."""
    network: Any = model.network(language)
    values = {name: value.detach().double().numpy() for name, value in model.state_dict().items()}
    prefix, embedded = f"networks.lang_{language}", []
    for part, (number, place) in enumerate(zip(network.used, network.places, strict=True)):
        shift, scale = (one.double().numpy() for one in by[model.experts[number].name])
        states = (batch.states[place].double().numpy() - shift) * scale
        mixed = np.einsum("l,btld->btd", softmax(values[f"{prefix}.mixes.{part}.logits"]), states)
        frames = mixed @ values[f"projections.{number}.weight"].T + values[f"projections.{number}.bias"]
        lengths = batch.lengths[place].tolist()
        mean = np.stack([own[:length].mean(0) for own, length in zip(frames, lengths, strict=True)])
        branch = f"{prefix}.branches.{part}.embed"
        one = mean @ values[f"{branch}.weight"].T + values[f"{branch}.bias"]
        centred = one - one.mean(1, keepdims=True)
        embedded.append(centred / np.sqrt(one.var(1, keepdims=True) + 1e-5))
    weights = softmax(values[f"{prefix}.gate.logits"] / model.settings.temperature)
    return np.maximum(0, np.einsum("k,kbh->bh", weights, np.stack(embedded)))


def plain_logits(model: MultiGateModel, language: str, batch: Batch, by: Mapping[str, Any]) -> np.ndarray:
    """(B, E) of a language with a head of its own of depth 0."""
    values = {name: value.detach().double().numpy() for name, value in model.state_dict().items()}
    head = f"networks.lang_{language}.head.classifier"
    return plain_embedding(model, language, batch, by) @ values[f"{head}.weight"].T + values[f"{head}.bias"]


@pytest.mark.parametrize("gate", ["constant", "conditioned", "none"])
@pytest.mark.parametrize("depth", [0, 1])
@pytest.mark.parametrize("operations", [{}, {"e0": "zero"}])
def test_it_begins_with_exactly_the_answers_of_the_old_network(
    depth: int, gate: str, operations: dict[str, str]
) -> None:
    model, batch = model_of(depth, gate=gate, **operations), random_batch(FRAMES)
    for begin in EMOTIONS:
        wanted = model(begin, batch)
        found = new_language(model, [begin], "en", themselves(*EMOTIONS[begin]), standard_of(model, begin))
        member = found.members(f"en/{begin}", batch)
        assert torch.equal(member.logits, wanted.logits)
        assert torch.equal(member.gate, wanted.gate)
        assert torch.allclose(found("en", batch).logits.softmax(1), wanted.logits.softmax(1), atol=1e-6)


@pytest.mark.parametrize("depth", [0, 1])
def test_it_begins_so_too_where_languages_share_a_head(depth: int) -> None:
    model, batch = model_of(depth, shared=True), random_batch(FRAMES)
    for begin, own in EMOTIONS.items():
        found = new_language(model, [begin], "en", themselves(*own), standard_of(model, begin))
        assert not found.settings.shared_head
        torch.testing.assert_close(found.members(f"en/{begin}", batch).logits, model(begin, batch).logits)
    # What only another language knows has the shared row, without either language's own bias.
    found = new_language(model, ["de"], "en", themselves("sadness"), standard_of(model, "de"))
    shared: Any = model.shared
    row = ["anger", "fear", "joy", "sadness"].index("sadness")
    head: Any = network_of(found.members, "en/de").head
    assert torch.equal(head.classifier.weight[0], shared.classifier.weight[row])
    assert torch.equal(head.classifier.bias[0], shared.classifier.bias[row])


@pytest.mark.parametrize("shared", [False, True])
def test_unknown_emotions_begin_at_zero_and_merged_ones_at_the_mean(shared: bool) -> None:
    model, batch = model_of(shared=shared), random_batch(FRAMES)
    emotions: dict[str, list[str]] = {"bad": ["fear", "anger"], "disgust": [], "joy": ["joy"], "new": ["disgust"]}
    found = new_language(model, ["de"], "en", emotions, standard_of(model, "de"))
    said, old = found.members("en/de", batch).logits, model("de", batch).logits
    assert found.domains["en"].emotions == tuple(emotions)
    torch.testing.assert_close(said[:, 0], (old[:, 0] + old[:, 1]) / 2)
    torch.testing.assert_close(said[:, 2], old[:, 2])
    assert torch.equal(said[:, [1, 3]], torch.zeros(len(FRAMES), 2))


def test_an_emotion_that_only_one_of_the_merged_ones_is_known_of_begins_as_that() -> None:
    model, batch = model_of(depth=0), random_batch(FRAMES)
    found = new_language(model, ["de", "it"], "en", {"sad": ["boredom", "sadness"]}, standard(5))
    own = standardised_by(model, standard(5))
    torch.testing.assert_close(found.members("en/it", batch).logits[:, 0], own("it", batch).logits[:, 2])
    assert not found.members("en/de", batch).logits.any()


def test_a_new_language_answers_as_plain_numpy_does() -> None:
    model, batch, by = model_of(depth=0), random_batch(FRAMES), standard(7)
    found = new_language(model, ["de", "it"], "en", themselves("anger", "joy"), by)
    each = []
    for begin, columns in (("de", [0, 2]), ("it", [0, 1])):
        logits = plain_logits(model, begin, batch, by)[:, columns]
        np.testing.assert_allclose(found.members(f"en/{begin}", batch).logits.detach().numpy(), logits, atol=1e-5)
        each.append(np.stack([softmax(row) for row in logits]))
    said = found("en", batch).logits.softmax(1).detach().numpy()
    np.testing.assert_allclose(said, np.mean(each, axis=0), atol=1e-6)


def test_standardising_by_others_is_the_plain_formula_and_the_original_stays() -> None:
    model, batch, by = model_of(depth=0), random_batch(FRAMES), standard(7)
    before = copy.deepcopy(model.state_dict())
    found = standardised_by(model, by)
    for language, place in (("de", 0), ("it", 1)):
        said = found(language, batch).logits.detach().numpy()
        np.testing.assert_allclose(said, plain_logits(model, language, batch, by), atol=1e-5)
        old = model(language, batch).logits.detach().numpy()
        np.testing.assert_allclose(old, plain_logits(model, language, batch, standard(place)), atol=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_gates_are_averaged_as_weights_and_the_original_stays() -> None:
    model, batch = model_of(), random_batch(FRAMES)
    before = copy.deepcopy(model.state_dict())
    logits = [network_of(model, name).gate.logits.detach().numpy() for name in EMOTIONS]  # type: ignore[union-attr]
    wanted = np.mean([softmax(one / 2.0) for one in logits], axis=0)
    found = averaged_gates(model)
    for language in EMOTIONS:
        gate = found(language, batch).gate.detach().numpy()
        np.testing.assert_allclose(gate, np.tile(wanted, (len(FRAMES), 1)), atol=1e-6)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    others = {name for name in before if not name.endswith("gate.logits")}
    assert all(torch.equal(found.state_dict()[name], before[name]) for name in others)


def test_gates_that_utterances_decide_stay_and_those_over_other_experts_are_not_mixed() -> None:
    model = model_of(gate="conditioned")
    found = averaged_gates(model).state_dict()
    assert all(torch.equal(value, found[name]) for name, value in model.state_dict().items())
    torch.manual_seed(0)
    structures = {"de": genotype(), "it": genotype(), "en": genotype(e0="zero")}
    domains = [
        Domain(name, ("anger", "joy"), one, prior(place)) for place, (name, one) in enumerate(structures.items())
    ]
    found = averaged_gates(MultiGateModel(domains, SHAPES, ModelSettings(hidden=8)))("en", random_batch(FRAMES)).gate
    assert torch.equal(found, torch.tensor([0.0, 1.0]).expand(len(FRAMES), 2))


def two_orders() -> tuple[MultiGateModel, dict[str, tuple[str, ...]]]:
    """Languages whose batches hold both experts, both in the other order, and the second alone."""
    torch.manual_seed(0)
    orders = {"de": ("e0", "e1"), "it": ("e1", "e0"), "ur": ("e1",)}
    domains = []
    for place, (name, own) in enumerate(orders.items()):
        structure = Genotype(dict.fromkeys(own, "skip"), "mean", "constant", 0, 0)
        start = replace(prior(place), experts=prior(place).experts[: len(own)])
        domains.append(Domain(name, ("anger", "joy"), structure, start, own))
    return MultiGateModel(domains, SHAPES, ModelSettings(hidden=8)), orders


def only(batch: Batch, names: tuple[str, ...]) -> Batch:
    """The batch as a language that has these experts gets it."""
    numbers = [int(name[1]) for name in names]
    return batch._replace(
        states=tuple(batch.states[number] for number in numbers),
        lengths=tuple(batch.lengths[number] for number in numbers),
    )


def test_a_language_that_lacked_experts_is_begun_from_on_batches_of_all() -> None:
    model, orders = two_orders()
    batch = random_batch(FRAMES)
    for begin, own in orders.items():
        wanted = model(begin, only(batch, own))
        found = new_language(model, [begin], "en", themselves("anger", "joy"), standard_of(model, begin))
        assert torch.equal(found.members(f"en/{begin}", batch).logits, wanted.logits)
        assert torch.equal(found("en", batch).gate, wanted.gate)
        assert found.domains["en"].experts == ()
    gates = averaged_gates(model)
    weights = {name: gates(name, only(batch, own)).gate[0] for name, own in orders.items()}
    wanted_gate = (model("de", batch).gate[0] + model("it", only(batch, ("e1", "e0"))).gate[0]) / 2
    torch.testing.assert_close(weights["de"], wanted_gate)
    torch.testing.assert_close(weights["it"], wanted_gate)
    assert torch.equal(weights["ur"], torch.tensor([0.0, 1.0]))


def test_distances_are_zero_to_oneself_and_order_as_the_states_do() -> None:
    model = model_of()
    own = standard_of(model, "de")
    assert set(own) == {"e0", "e1"}
    found = distances(model, own)
    assert found["de"] == 0
    assert found["it"] > 0
    for shift in (0.5, 1.0, 4.0):
        there = {name: (mean + shift, scale) for name, (mean, scale) in own.items()}
        further = distances(model, there)["de"]
        assert further > found["de"]
        found["de"] = further


def test_a_distance_is_the_formula_symmetric_and_blind_to_units() -> None:
    model = model_of()
    one, other = standard(0), standard_of(model, "it")
    by_hand = []
    for name in ("e0", "e1"):
        (m, s), (n, t) = ([x.double().numpy() for x in both] for both in (one[name], other[name]))
        s, t = 1 / s, 1 / t
        by_hand.append(np.mean(((m - n) ** 2 + (s - t) ** 2) / ((s**2 + t**2) / 2)))
    assert distances(model, one)["it"] == pytest.approx(np.mean(by_hand), rel=1e-5)
    assert distances(standardised_by(model, one), other)["it"] == pytest.approx(distances(model, one)["it"], rel=1e-9)
    scaled = {name: (8 * mean, scale / 8) for name, (mean, scale) in one.items()}
    units = standardised_by(model, {name: (8 * mean, scale / 8) for name, (mean, scale) in other.items()})
    assert distances(units, scaled)["it"] == pytest.approx(distances(model, one)["it"], rel=1e-5)


def test_features_that_do_not_vary_say_nothing_of_distance() -> None:
    model, there = model_of(), standard(3)
    before = distances(model, there)
    flat = {name: (mean.clone(), scale.clone()) for name, (mean, scale) in there.items()}
    kept = {name: (mean[:, 1:], scale[:, 1:]) for name, (mean, scale) in there.items()}
    for mean, scale in flat.values():
        mean[:, 0], scale[:, 0] = 1e6, 0
    found = distances(model, flat)
    assert found != before
    for language, value in found.items():
        own = standard_of(model, language)
        left = {name: (mean[:, 1:], scale[:, 1:]) for name, (mean, scale) in own.items()}
        smaller = [ExpertShape(name, 2, 3) for name in left]
        small = MultiGateModel(
            [Domain("xx", ("a", "b"), genotype(), replace(Prior.uniform(smaller), standard=left))], smaller
        )
        assert value == pytest.approx(distances(small, kept)["xx"], rel=1e-6)
    nothing = {name: (mean, torch.zeros_like(scale)) for name, (mean, scale) in there.items()}
    assert distances(model, nothing) == {"de": 0.0, "it": 0.0}


def test_distances_go_over_the_experts_that_every_network_uses() -> None:
    torch.manual_seed(0)
    structures = {"de": genotype(), "it": genotype(e0="zero")}
    domains = [Domain(name, ("a", "b"), one, prior(place)) for place, (name, one) in enumerate(structures.items())]
    model = MultiGateModel(domains, SHAPES, ModelSettings(hidden=8))
    far = standard_of(model, "de")
    far["e0"] = (far["e0"][0] + 100, far["e0"][1])
    assert distances(model, far)["de"] == 0


def test_the_original_model_is_not_touched_by_a_new_language_or_its_training() -> None:
    model = model_of(shared=True)
    before = copy.deepcopy(model.state_dict())
    found = new_language(model, ["de", "it"], "en", themselves("anger", "joy"), standard(5))
    with torch.no_grad():
        for value in found.parameters():
            value.add_(1)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_language_that_the_model_does_not_know_is_named() -> None:
    model = model_of()
    with pytest.raises(RunError, match="no such language") as caught:
        new_language(model, ["fr"], "en", themselves("anger"), standard(0))
    assert "de it" in str(caught.value)
    with pytest.raises(RunError, match="no such language"):
        standard_of(model, "fr")
