"""The multi-gate model against a plain forward pass, and what its languages share."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import softmax
from toys import random_batch, shapes

from mser.errors import ConfigError
from mser.loader import Batch
from mser.model import Domain, ModelSettings, MultiGateModel, Prior
from mser.nas.genotype import Genotype

SETTINGS = ModelSettings(hidden=8, dropout=0.3)
EMOTIONS = ("anger", "joy", "sadness")
PLAIN = Genotype({"e0": "skip", "e1": "skip"}, "mean", "constant", 0, 0)
FRAMES = [3, 1, 5]


def domain(genotype: Genotype = PLAIN, language: str = "de", emotions: tuple[str, ...] = EMOTIONS) -> Domain:
    """A domain whose mixtures start off the mean."""
    rng = torch.Generator().manual_seed(3)
    layers = {name: torch.randn(2, generator=rng) for name in genotype.experts}
    return Domain(language, emotions, genotype, Prior(layers, torch.randn(len(genotype.experts), generator=rng)))


def model_of(*domains: Domain) -> MultiGateModel:
    torch.manual_seed(0)
    return MultiGateModel(domains, shapes(2), SETTINGS)


def plain_forward(model: MultiGateModel, batch: Batch, used: list[int]) -> tuple[np.ndarray, ...]:
    """Logits, embedding and gate of ``PLAIN``'s structure, utterance by utterance, by numpy alone."""
    w = {name: value.detach().numpy().astype(np.float64) for name, value in model.named_parameters()}
    gate = softmax(w["networks.lang_de.gate.logits"])
    fused = []
    for row in range(len(batch.labels)):
        total = np.zeros(8)
        for place, (weight, k) in enumerate(zip(gate, used, strict=True)):
            states = batch.states[k][row].numpy()[:, : int(batch.lengths[k][row])]
            mixed = np.einsum("l,ltd->td", softmax(w[f"networks.lang_de.mixes.{place}.logits"]), states)
            projected = mixed @ w[f"projections.{k}.weight"].T + w[f"projections.{k}.bias"]
            embed = f"networks.lang_de.branches.{place}.embed"
            embedded = projected.mean(0) @ w[f"{embed}.weight"].T + w[f"{embed}.bias"]
            total += weight * (embedded - embedded.mean()) / np.sqrt(embedded.var() + 1e-5)
        fused.append(np.maximum(total, 0))
    embedding = np.array(fused)
    head = "networks.lang_de.head.classifier"
    return embedding @ w[f"{head}.weight"].T + w[f"{head}.bias"], embedding, gate


def test_the_simplest_genotype_equals_a_plain_forward_pass() -> None:
    model = model_of(domain()).eval()
    batch = random_batch(FRAMES)
    output = model("de", batch)
    logits, embedding, gate = plain_forward(model, batch, used=[0, 1])
    np.testing.assert_allclose(output.logits.detach(), logits, atol=1e-5)
    np.testing.assert_allclose(output.embedding.detach(), embedding, atol=1e-5)
    np.testing.assert_allclose(output.gate.detach(), np.tile(gate, (3, 1)), atol=1e-6)


@pytest.mark.parametrize("left_out", [0, 1])
def test_an_expert_with_zero_is_left_out(left_out: int) -> None:
    operations = {f"e{k}": "zero" if k == left_out else "skip" for k in range(2)}
    model = model_of(domain(replace(PLAIN, operations=operations))).eval()
    batch = random_batch(FRAMES)
    batch.states[left_out].fill_(float("nan"))
    output = model("de", batch)
    logits, _, _ = plain_forward(model, batch, used=[1 - left_out])
    np.testing.assert_allclose(output.logits.detach(), logits, atol=1e-5)
    assert output.gate[:, left_out].tolist() == [0, 0, 0]
    assert output.gate[:, 1 - left_out].tolist() == [1, 1, 1]
    assert set(model.layer_weights("de")) == {f"e{1 - left_out}"}
    output.logits.sum().backward()
    assert model.projections[left_out].weight.grad is None


@pytest.mark.parametrize("operation", ["linear", "conv3", "conv5", "dilated3", "bigru", "attention"])
@pytest.mark.parametrize("pooling", ["mean_std", "max", "attention", "last"])
def test_an_utterance_scores_the_same_alone_and_padded(operation: str, pooling: str) -> None:
    genotype = Genotype({"e0": operation, "e1": "skip"}, pooling, "conditioned", 1, 6)
    model = model_of(domain(genotype)).eval()
    batch = random_batch(FRAMES)
    together = model("de", batch).logits.detach()
    for row, count in enumerate(FRAMES):
        alone = Batch(
            tuple(states[row : row + 1, :, :count].contiguous() for states in batch.states),
            tuple(lengths[row : row + 1] for lengths in batch.lengths),
            batch.labels[row : row + 1],
        )
        np.testing.assert_allclose(model("de", alone).logits.detach()[0], together[row], atol=1e-5)


def test_mixtures_start_at_the_prior() -> None:
    one = domain()
    model = model_of(one).eval()
    for name, logits in one.prior.layers.items():
        np.testing.assert_allclose(model.layer_weights("de")[name], softmax(logits.numpy()), rtol=1e-5)
    gate = model("de", random_batch(FRAMES)).gate[0].detach()
    np.testing.assert_allclose(gate, softmax(one.prior.experts.numpy()), rtol=1e-5)


def test_uniform_prior_gives_equal_weights() -> None:
    model = model_of(Domain("de", EMOTIONS, PLAIN, Prior.uniform(shapes(2))))
    assert model.layer_weights("de") == {"e0": [0.5, 0.5], "e1": [0.5, 0.5]}


def test_languages_share_the_projections_and_nothing_else() -> None:
    conditioned = replace(PLAIN, operations={"e0": "conv3", "e1": "bigru"}, gate="conditioned", depth=1, width=4)
    model = model_of(domain(conditioned), domain(conditioned, "it"))
    own = [{id(value) for value in model.network(language).parameters()} for language in ("de", "it")]
    shared = {id(value) for value in model.projections.parameters()}
    assert not own[0] & own[1]
    assert not (own[0] | own[1]) & shared
    assert own[0] | own[1] | shared == {id(value) for value in model.parameters()}
    model("de", random_batch(FRAMES)).logits.sum().backward()
    assert all(value.grad is not None for value in model.projections.parameters())
    assert all(value.grad is None for value in model.network("it").parameters())


def test_each_language_has_its_own_emotions_and_structure() -> None:
    other = Genotype({"e0": "zero", "e1": "linear"}, "max", "constant", 2, 5)
    model = model_of(domain(), domain(other, "it", ("anger", "joy")))
    batch = random_batch(FRAMES)
    assert model("de", batch).logits.shape == (3, 3)
    assert model("it", batch).logits.shape == (3, 2)
    assert model("it", batch).embedding.shape == (3, 5)


@pytest.mark.parametrize(("gate", "count"), [("constant", 3), ("conditioned", 2)])
def test_mixture_parameters_are_layer_mixes_and_constant_gates(gate: str, count: int) -> None:
    model = model_of(domain(replace(PLAIN, gate=gate, depth=1, width=4)))
    network = model.network("de")
    expected = [mix.logits for mix in network.mixes]
    expected += [network.gate.logits] if gate == "constant" else []
    assert {id(value) for value in model.mixture_parameters()} == {id(value) for value in expected}
    assert len(model.mixture_parameters()) == count


@pytest.mark.parametrize("experts", [("e0",), ("e0", "e1", "e2"), ("e0", "other")])
def test_a_genotype_of_other_upstreams_is_refused(experts: tuple[str, ...]) -> None:
    genotype = Genotype(dict.fromkeys(experts, "skip"), "mean", "constant", 0, 0)
    with pytest.raises(ConfigError, match="other upstreams") as error:
        model_of(domain(genotype))
    assert "make search LANG=de" in (error.value.hint or "")


def test_experts_are_matched_by_name_whatever_their_order_in_the_genotype() -> None:
    turned = replace(PLAIN, operations={"e1": "zero", "e0": "skip"})
    output = model_of(domain(turned)).eval()("de", random_batch(FRAMES))
    assert output.gate[:, 0].tolist() == [1, 1, 1]


def test_a_language_whose_code_is_a_method_of_modules_is_no_trouble() -> None:
    tongan = replace(domain(), language="to")
    assert model_of(tongan).eval()("to", random_batch(FRAMES)).logits.shape == (3, 3)
