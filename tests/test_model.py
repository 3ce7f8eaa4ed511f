"""The multi-gate model against a plain forward pass, and what its languages share."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import softmax
from toys import noise_for, random_batch, shapes

from mser.errors import ConfigError
from mser.gating import is_mixture
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
    start = torch.randn(len(genotype.experts), generator=rng)
    standard = {
        name: (torch.randn(2, 4, generator=rng), 0.5 + torch.rand(2, 4, generator=rng)) for name in genotype.experts
    }
    return Domain(language, emotions, genotype, Prior(layers, start, standard))


def model_of(*domains: Domain) -> MultiGateModel:
    torch.manual_seed(0)
    return MultiGateModel(domains, shapes(2), SETTINGS)


def plain_forward(model: MultiGateModel, batch: Batch, used: list[int]) -> tuple[np.ndarray, ...]:
    """Logits, embedding and gate of ``PLAIN``'s structure, utterance by utterance, by numpy alone."""
    w = {name: value.numpy().astype(np.float64) for name, value in model.state_dict().items()}
    gate = softmax(w["networks.lang_de.gate.logits"])
    fused = []
    for row in range(len(batch.labels)):
        total = np.zeros(8)
        for place, (weight, k) in enumerate(zip(gate, used, strict=True)):
            states = batch.states[k][row].numpy()[: int(batch.lengths[k][row])]
            mix = f"networks.lang_de.mixes.{place}"
            standard = (states - w[f"{mix}.shift"]) * w[f"{mix}.scale"]
            mixed = np.einsum("l,tld->td", softmax(w[f"{mix}.logits"]), standard)
            projected = mixed @ w[f"projections.{k}.weight"].T + w[f"projections.{k}.bias"]
            embed = f"networks.lang_de.branches.{place}.embed"
            embedded = projected.mean(0) @ w[f"{embed}.weight"].T + w[f"{embed}.bias"]
            total += weight * (embedded - embedded.mean()) / np.sqrt(embedded.var() + 1e-5)
        fused.append(np.maximum(total, 0))
    embedding = np.array(fused)
    head = "networks.lang_de.head.classifier"
    return embedding @ w[f"{head}.weight"].T + w[f"{head}.bias"], embedding, gate


def test_the_simplest_genotype_equals_a_plain_forward_pass() -> None:
    model = model_of(domain())
    batch = random_batch(FRAMES)
    output = model("de", batch)
    logits, embedding, gate = plain_forward(model, batch, used=[0, 1])
    np.testing.assert_allclose(output.logits.detach(), logits, atol=1e-5)
    np.testing.assert_allclose(output.embedding.detach(), embedding, atol=1e-5)
    np.testing.assert_allclose(output.gate.detach(), np.tile(gate, (3, 1)), atol=1e-6)


@pytest.mark.parametrize("left_out", [0, 1])
def test_an_expert_with_zero_is_left_out(left_out: int) -> None:
    operations = {f"e{k}": "zero" if k == left_out else "skip" for k in range(2)}
    model = model_of(domain(replace(PLAIN, operations=operations)))
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
    model = model_of(domain(genotype))
    batch = random_batch(FRAMES)
    together = model("de", batch).logits.detach()
    for row, count in enumerate(FRAMES):
        alone = Batch(
            tuple(states[row : row + 1, :count].contiguous() for states in batch.states),
            tuple(lengths[row : row + 1] for lengths in batch.lengths),
            batch.labels[row : row + 1],
            batch.rows[row : row + 1],
        )
        np.testing.assert_allclose(model("de", alone).logits.detach()[0], together[row], atol=1e-5)


def test_mixtures_start_at_the_prior() -> None:
    one = domain()
    model = model_of(one)
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


NOISY = ModelSettings(hidden=8, dropout=0.3, frame_mask=0.5, feature_mask=0.3)


def noisy_model() -> MultiGateModel:
    torch.manual_seed(0)
    genotype = Genotype({"e0": "conv3", "e1": "skip"}, "mean_std", "conditioned", 1, 6)
    return MultiGateModel([domain(genotype)], shapes(2), NOISY)


def test_noise_changes_an_answer_as_seed_step_and_utterance_decide_and_without_it_nothing_is_random() -> None:
    model, batch = noisy_model(), random_batch(FRAMES)
    answers = [
        model("de", batch, noise).logits.detach()
        for noise in (None, *(noise_for(batch.rows.tolist(), *own) for own in ((0, 0), (1, 0), (0, 1))))
    ]
    for number, one in enumerate(answers):
        assert not any(torch.equal(one, other) for other in answers[:number])
    assert torch.equal(model("de", batch, noise_for(batch.rows.tolist())).logits, answers[1])
    assert torch.equal(model("de", batch).logits, answers[0])


def test_with_noise_too_an_utterance_scores_the_same_alone_and_padded() -> None:
    model, batch = noisy_model(), random_batch(FRAMES)
    together = model("de", batch, noise_for(batch.rows.tolist())).logits.detach()
    for row, count in enumerate(FRAMES):
        alone = Batch(
            tuple(states[row : row + 1, :count].contiguous() for states in batch.states),
            tuple(lengths[row : row + 1] for lengths in batch.lengths),
            batch.labels[row : row + 1],
            batch.rows[row : row + 1],
        )
        found = model("de", alone, noise_for([int(batch.rows[row])])).logits.detach()[0]
        np.testing.assert_allclose(found, together[row], atol=1e-5)


def test_every_part_that_makes_noise_has_a_place_of_its_own() -> None:
    genotype = Genotype({"e0": "conv3", "e1": "skip"}, "mean", "constant", 2, 6)
    model = model_of(domain(genotype), domain(genotype, "it"))
    places = [module.place for module in model.modules() if hasattr(module, "place")]
    assert len(places) == len(set(places)) == 2 * (2 + 2 + 1 + 2)  # inputs, masks, embedding, head


def test_partners_mix_fused_embeddings_before_the_head() -> None:
    model, batch = model_of(domain()), random_batch(FRAMES)
    partners = torch.tensor([[0.7, 0.3, 0], [0, 1, 0], [0.5, 0, 0.5]])
    plain, mixed = model("de", batch), model("de", batch, None, partners)
    # The head of this genotype is linear, so that mixing commutes with it.
    torch.testing.assert_close(mixed.logits, partners @ plain.logits)
    torch.testing.assert_close(mixed.embedding, partners @ plain.embedding)
    assert torch.equal(mixed.gate, plain.gate)


def test_the_structure_is_the_same_text_exactly_for_models_whose_parameters_have_the_same_shapes() -> None:
    deeper = replace(PLAIN, depth=1, width=4)
    made = [
        model_of(domain()), model_of(domain()), model_of(domain(deeper)), model_of(domain(language="it")),
        model_of(domain(emotions=EMOTIONS[:2])), model_of(domain(), domain(language="it")),
        MultiGateModel([domain()], shapes(2), replace(SETTINGS, dropout=0.5)),
    ]  # fmt: skip
    assert made[0].structure == made[1].structure
    assert len({model.structure for model in made}) == len(made) - 1


@pytest.mark.parametrize(("gate", "count"), [("none", 2), ("constant", 3), ("conditioned", 2)])
def test_mixtures_are_layer_mixes_and_constant_gates(gate: str, count: int) -> None:
    model = model_of(domain(replace(PLAIN, gate=gate, depth=1, width=4)))
    network = model.network("de")
    expected = [mix.logits for mix in network.mixes]
    expected += [network.gate.logits] if gate == "constant" else []
    found = [value for name, value in model.named_parameters() if is_mixture(name)]
    assert {id(value) for value in found} == {id(value) for value in expected}
    assert len(found) == count


@pytest.mark.parametrize("experts", [("e0",), ("e0", "e1", "e2"), ("e0", "other")])
def test_a_genotype_of_other_upstreams_is_refused(experts: tuple[str, ...]) -> None:
    genotype = Genotype(dict.fromkeys(experts, "skip"), "mean", "constant", 0, 0)
    with pytest.raises(ConfigError, match="other upstreams") as error:
        model_of(domain(genotype))
    assert "make search LANG=de" in (error.value.hint or "")


def test_experts_are_matched_by_name_whatever_their_order_in_the_genotype() -> None:
    turned = replace(PLAIN, operations={"e1": "zero", "e0": "skip"})
    output = model_of(domain(turned))("de", random_batch(FRAMES))
    assert output.gate[:, 0].tolist() == [1, 1, 1]


def test_a_language_whose_code_is_a_method_of_modules_is_no_trouble() -> None:
    tongan = replace(domain(), language="to")
    assert model_of(tongan)("to", random_batch(FRAMES)).logits.shape == (3, 3)


def test_a_language_without_an_expert_shares_its_gate_among_the_others() -> None:
    full, lacking = domain(language="de"), domain(Genotype({"e1": "skip"}, "mean", "constant", 0, 0), "it")
    model = model_of(full, replace(lacking, experts=("e1",)))
    batch = random_batch(FRAMES)
    own = batch._replace(states=batch.states[1:], lengths=batch.lengths[1:])
    output = model("it", own)
    assert output.gate.tolist() == [[0, 1]] * 3
    assert set(model.layer_weights("it")) == {"e1"}
    # The same network where its expert is the model's only one.
    torch.manual_seed(0)
    alone = MultiGateModel([replace(lacking, language="it")], shapes(2)[1:], SETTINGS)
    alone.projections[0].load_state_dict(model.projections[1].state_dict())
    alone.network("it").load_state_dict(model.network("it").state_dict())
    torch.testing.assert_close(alone("it", own).logits, output.logits)


@pytest.mark.parametrize("depths", [(0, 0), (0, 1)])
def test_one_head_serves_all_languages_where_their_genotypes_have_the_same(depths: tuple[int, int]) -> None:
    domains = [
        domain(replace(PLAIN, depth=depth, width=6 if depth else 0), language, emotions)
        for depth, language, emotions in zip(depths, ("de", "it"), (EMOTIONS, ("joy", "surprise")), strict=True)
    ]
    torch.manual_seed(0)
    settings = replace(SETTINGS, shared_head=True)
    if depths[0] != depths[1]:
        with pytest.raises(ConfigError, match="cannot share a head"):
            MultiGateModel(domains, shapes(2), settings)
        return
    model = MultiGateModel(domains, shapes(2), settings)
    batch = random_batch(FRAMES)
    german, italian = model("de", batch), model("it", batch)
    assert (german.logits.shape, italian.logits.shape) == ((3, 3), (3, 2))
    weight, bias = model.shared.classifier.weight, model.shared.classifier.bias
    # All emotions in order: anger, joy, sadness, surprise.
    torch.testing.assert_close(german.logits, german.embedding @ weight[[0, 1, 2]].T + bias[[0, 1, 2]])
    torch.testing.assert_close(italian.logits, italian.embedding @ weight[[1, 3]].T + bias[[1, 3]])
