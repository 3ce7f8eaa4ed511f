"""Genotypes, the supernet and the search, against discrete networks and exact gradients."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logsumexp, softmax
from sklearn.metrics import log_loss
from sklearn.utils.class_weight import compute_sample_weight
from toys import RecordingLoader, examples, expert_of, random_batch, separable_states, shapes

from mser.errors import GenotypeError, RunError
from mser.loader import Loader
from mser.model import Domain, ModelSettings, MultiGateModel, Prior
from mser.nas import darts
from mser.nas.darts import SearchSettings
from mser.nas.genotype import (
    FRAMES_SPACE,
    GATES,
    HEADS,
    POOLED_SPACE,
    Genotype,
    SearchSpace,
    fixed_genotype,
    random_genotype,
)
from mser.nas.operations import OPERATIONS
from mser.nas.supernet import Supernet, kept_operations
from mser.protocol import Split

NAMES = ("e0", "e1")
SETTINGS = ModelSettings(hidden=8, dropout=0.0)
SPACES = {"frames": FRAMES_SPACE, "pooled": POOLED_SPACE}
PLAIN: dict[str, Any] = {"operations": {"e0": "skip"}, "pooling": "mean", "gate": "constant", "depth": 1, "width": 8}


@examples
@given(st.integers(0, 10_000), st.sampled_from(sorted(SPACES)), st.integers(1, 4))
def test_genotypes_come_back_from_json_equal_by_value_and_hash(seed: int, space: str, experts: int) -> None:
    names = tuple(f"e{number}" for number in range(experts))
    genotype = random_genotype(names, SPACES[space], np.random.default_rng(seed))
    back = Genotype.from_dict(json.loads(json.dumps(genotype.to_dict())))
    assert back == genotype
    assert hash(back) == hash(genotype)
    assert str(back) == str(genotype)
    assert set(genotype.operations.values()) != {"zero"}


def test_the_order_of_experts_does_not_matter() -> None:
    one = Genotype(**{**PLAIN, "operations": {"e0": "skip", "e1": "conv3"}})
    other = Genotype(**{**PLAIN, "operations": {"e1": "conv3", "e0": "skip"}})
    assert one == other
    assert hash(one) == hash(other)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("operations", {"e0": "conv7"}),
        ("operations", {"e0": "zero", "e1": "zero"}),
        ("operations", {}),
        ("pooling", "median"),
        ("gate", "open"),
        ("activation", "sin"),
        ("depth", -1),
        ("width", 0),
    ],
)
def test_wrong_values_are_refused_by_the_name_of_their_field(field: str, value: object) -> None:
    content = {**Genotype(**PLAIN).to_dict(), field: value}
    with pytest.raises(GenotypeError, match=rf"field: .*{field}"):
        Genotype.from_dict(content)


@pytest.mark.parametrize("change", [{"schema_version": 2}, {"schema_version": None}, {"colour": "red"}])
def test_another_schema_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(GenotypeError, match="schema"):
        Genotype.from_dict({**Genotype(**PLAIN).to_dict(), **change})


def test_a_missing_field_is_refused() -> None:
    content = Genotype(**PLAIN).to_dict()
    del content["gate"]
    with pytest.raises(GenotypeError, match="schema"):
        Genotype.from_dict(content)


@pytest.mark.parametrize("space", SPACES)
def test_random_genotypes_reach_every_choice_about_equally(space: str) -> None:
    rng = np.random.default_rng(0)
    drawn = [random_genotype(NAMES, SPACES[space], rng) for _ in range(1200)]
    chosen = {
        SPACES[space].operations: [one.operations["e1"] for one in drawn if one.operations["e0"] != "zero"],
        SPACES[space].poolings: [one.pooling for one in drawn],
        GATES: [one.gate for one in drawn],
        HEADS: [(one.depth, one.width) for one in drawn],
    }
    for choices, found in chosen.items():
        shares = [found.count(choice) / len(found) for choice in choices]
        np.testing.assert_allclose(shares, 1 / len(choices), rtol=0.3)


def test_the_fixed_genotype_has_no_temporal_operation() -> None:
    assert fixed_genotype(NAMES, FRAMES_SPACE) == Genotype(dict.fromkeys(NAMES, "skip"), "mean_std", "constant", 1, 128)
    assert fixed_genotype(NAMES, POOLED_SPACE).pooling == "mean"


def supernet_of(space: SearchSpace = FRAMES_SPACE, settings: ModelSettings = SETTINGS, experts: int = 2) -> Supernet:
    torch.manual_seed(0)
    return Supernet(shapes(experts), 3, Prior.uniform(shapes(experts)), space, settings)


def decide(supernet: Supernet, genotype: Genotype) -> None:
    """Puts all weight on the genotype's choices."""
    with torch.no_grad():
        for alpha in supernet.alphas():
            alpha.zero_()
        for row, operation in enumerate(genotype.operations.values()):
            supernet.operation_alpha[row, supernet.space.operations.index(operation)] = 1e3
        supernet.pooling_alpha[supernet.space.poolings.index(genotype.pooling)] = 1e3
        supernet.gate_alpha[GATES.index(genotype.gate)] = 1e3
        supernet.head_alpha[HEADS.index((genotype.depth, genotype.width))] = 1e3


def discrete(supernet: Supernet, genotype: Genotype) -> MultiGateModel:
    """The genotype's network with the supernet's weights."""
    domain = Domain("de", ("anger", "fear", "joy"), genotype, Prior.uniform(shapes(2)))
    model = MultiGateModel([domain], shapes(2), SETTINGS)
    network = model.network("de")
    pooling = supernet.space.poolings.index(genotype.pooling)
    for row, (mixed, branch) in enumerate(zip(supernet.branches, network.branches, strict=True)):
        operation = kept_operations(supernet.space).index(genotype.operations[NAMES[row]])
        branch.operation.load_state_dict(mixed.operations[operation].state_dict())
        branch.pooling.load_state_dict(mixed.poolings[pooling].state_dict())
        branch.embed.load_state_dict(mixed.embeds[pooling].state_dict())
        network.mixes[row].load_state_dict(supernet.mixes[row].state_dict())
        model.projections[row].load_state_dict(supernet.projections[row].state_dict())
    network.gate.load_state_dict(supernet.gates[GATES.index(genotype.gate)].state_dict())
    network.head.load_state_dict(supernet.heads[HEADS.index((genotype.depth, genotype.width))].state_dict())
    return model.eval()


@pytest.mark.parametrize("number", range(len(OPERATIONS) - 1))
def test_a_decided_supernet_equals_the_network_of_its_genotype(number: int) -> None:
    operations = {"e0": OPERATIONS[1 + number], "e1": OPERATIONS[1 + (number + 1) % (len(OPERATIONS) - 1)]}
    pooling = FRAMES_SPACE.poolings[number % len(FRAMES_SPACE.poolings)]
    genotype = Genotype(operations, pooling, GATES[number % 2], *HEADS[number % 3])
    supernet = supernet_of().eval()
    decide(supernet, genotype)
    assert supernet.genotype() == genotype
    batch = random_batch([3, 1, 6])
    output, expected = supernet(batch), discrete(supernet, genotype)("de", batch)
    torch.testing.assert_close(output.logits, expected.logits, rtol=0, atol=1e-5)
    torch.testing.assert_close(output.gate, expected.gate, rtol=0, atol=1e-6)


def test_an_expert_decided_for_zero_does_not_depend_on_its_states() -> None:
    supernet = supernet_of().eval()
    decide(supernet, Genotype({"e0": "zero", "e1": "linear"}, "mean", "constant", 0, 0))
    batch = random_batch([3, 1, 6])
    before = supernet(batch)
    assert before.gate[:, 0].max() < 1e-5
    batch.states[0].mul_(7)
    torch.testing.assert_close(supernet(batch).logits, before.logits, rtol=0, atol=1e-4)
    batch.states[1].mul_(7)
    assert (supernet(batch).logits - before.logits).abs().max() > 1e-2


def test_where_every_expert_would_be_left_out_the_strongest_stays() -> None:
    supernet = supernet_of()
    with torch.no_grad():
        supernet.operation_alpha.zero_()
        supernet.operation_alpha[:, OPERATIONS.index("zero")] = 5
        supernet.operation_alpha[0, OPERATIONS.index("conv3")] = 1
        supernet.operation_alpha[1, OPERATIONS.index("bigru")] = 2
    assert supernet.genotype().operations == {"e0": "zero", "e1": "bigru"}


def test_alphas_and_weights_are_all_parameters_once() -> None:
    supernet = supernet_of()
    alphas, weights = ({id(value) for value in part} for part in (supernet.alphas(), supernet.weights()))
    assert not alphas & weights
    assert alphas | weights == {id(value) for value in supernet.parameters()}
    assert sum(alpha.numel() for alpha in supernet.alphas()) == 2 * len(OPERATIONS) + 5 + 2 + 3


def test_beta_decay_and_its_gradient_equal_scipy() -> None:
    supernet = supernet_of()
    for alpha in supernet.alphas():
        torch.nn.init.normal_(alpha)
    choices = [row.detach().numpy() for alpha in supernet.alphas() for row in alpha.view(-1, alpha.shape[-1])]
    loss = supernet.beta_decay()
    np.testing.assert_allclose(loss.item(), np.mean([logsumexp(row) for row in choices]), rtol=1e-6)
    loss.backward()
    gradients = [row.numpy() for alpha in supernet.alphas() for row in alpha.grad.view(-1, alpha.shape[-1])]
    for row, gradient in zip(choices, gradients, strict=True):
        np.testing.assert_allclose(gradient, softmax(row) / len(choices), rtol=1e-5)


def test_diagnostics_of_an_undecided_and_of_a_collapsed_supernet() -> None:
    supernet = supernet_of()
    start = supernet.diagnostics()
    np.testing.assert_allclose([start["entropy"], start["parameter_free"]], [1, 2 / 8], atol=1e-3)
    with torch.no_grad():
        supernet.operation_alpha[0, OPERATIONS.index("skip")] = 60
        supernet.operation_alpha[1, OPERATIONS.index("conv3")] = 60
    found = supernet.diagnostics()
    np.testing.assert_allclose([found["entropy"], found["parameter_free"]], [0, 0.5], atol=1e-3)


LABELS = np.arange(24) % 3
SPLIT = Split(np.arange(0, 12), np.arange(12, 18))
QUICK = SearchSettings(epochs=3, least_steps=1, batch_size=4)


def loader_of(poisoned: bool = False) -> RecordingLoader:
    """Two experts of 24 utterances; NaN in rows 18 and on, if asked for."""
    experts = []
    for seed in (0, 1):
        states = separable_states(LABELS.tolist(), seed=seed)
        for x in states[18:] if poisoned else []:
            x.fill_(float("nan"))
        experts.append(expert_of(states))
    return RecordingLoader(experts, torch.from_numpy(LABELS))


SMALL = SearchSpace(("zero", "skip", "linear", "conv3"), ("mean", "max"))


@pytest.mark.parametrize("factor", [0.0, 0.7])
def test_the_alpha_step_takes_the_first_order_gradient(factor: float) -> None:
    supernet, loader, rows = supernet_of(SMALL), loader_of(), np.array([1, 3, 8, 14])
    balance = torch.tensor([1.0, 2.0, 0.5])
    darts._step(supernet, loader, rows, balance, torch.optim.SGD(supernet.alphas(), lr=0.0), factor)
    found = torch.cat([alpha.grad.flatten() for alpha in supernet.alphas()])

    def loss() -> float:
        """The balanced cross-entropy and the decay, by numpy, at double precision."""
        batch = loader.gather(rows)
        batch = replace(batch, states=tuple(states.double() for states in batch.states))
        logits = supernet(batch).logits.detach().numpy()
        each = logsumexp(logits, axis=1) - logits[np.arange(4), LABELS[rows]]
        weights = balance.numpy()[LABELS[rows]]
        choices = [row.detach().numpy() for alpha in supernet.alphas() for row in alpha.view(-1, alpha.shape[-1])]
        return (weights * each).sum() / weights.sum() + factor * np.mean([logsumexp(row) for row in choices])

    supernet.double()
    differences = []
    for alpha in supernet.alphas():
        flat = alpha.detach().view(-1)
        for place in range(len(flat)):
            flat[place] += 1e-5
            above = loss()
            flat[place] -= 2e-5
            differences.append((above - loss()) / 2e-5)
            flat[place] += 1e-5
    np.testing.assert_allclose(found, differences, atol=1e-5)
    assert found.abs().max() > 1e-3


@pytest.mark.parametrize("part", ["weights", "alphas"])
def test_a_step_moves_its_own_parameters_only(part: str) -> None:
    supernet = supernet_of(SMALL)
    own = getattr(supernet, part)()
    before = {id(value): value.detach().clone() for value in supernet.parameters()}
    darts._step(supernet, loader_of(), np.arange(6), torch.ones(3), torch.optim.SGD(own, lr=0.1), 0.0)
    moved = {id(value) for value in supernet.parameters() if not torch.equal(value, before[id(value)])}
    assert moved
    assert moved <= {id(value) for value in own}


def searched(seed: int = 0, poisoned: bool = False) -> tuple[Genotype, list[dict[str, float]]]:
    genotype, curves = darts.search(supernet_of(SMALL), loader_of(poisoned), SPLIT, QUICK, seed)
    return genotype, [point.to_dict() for point in curves]


def test_a_search_follows_from_its_seed() -> None:
    first = searched()
    assert searched() == first
    assert searched(seed=1)[1] != first[1]


def test_a_search_sees_the_rows_of_its_split_only() -> None:
    assert searched(poisoned=True) == searched()


def test_weights_learn_on_training_speakers_and_alphas_on_dev_speakers() -> None:
    loader = loader_of()
    _, curves = darts.search(supernet_of(SMALL), loader, SPLIT, QUICK, 0)
    for_alphas, for_weights = loader.gathered[::2], loader.gathered[1::2]
    assert all(set(rows) <= set(SPLIT.dev.tolist()) and len(set(rows)) == 4 for rows in for_alphas)
    for epoch in range(3):
        rows = [row for batch in for_weights[3 * epoch : 3 * epoch + 3] for row in batch]
        assert sorted(rows) == SPLIT.train.tolist()
    assert [point.epoch for point in curves] == [0, 1, 2]


def test_the_first_weight_loss_is_the_balanced_cross_entropy_of_the_training_rows() -> None:
    rows = np.array([0, 3, 6, 9, 1, 4, 2])
    supernet, loader = supernet_of(SMALL), loader_of()
    probabilities = supernet(loader.gather(rows)).logits.softmax(1).detach().numpy()
    settings = replace(QUICK, epochs=1, batch_size=7, alpha_rate=0.0)
    _, (point,) = darts.search(supernet, loader, Split(rows, SPLIT.dev), settings, 0)
    weights = compute_sample_weight("balanced", LABELS[rows])
    np.testing.assert_allclose(
        point.weight_loss, log_loss(LABELS[rows], probabilities, sample_weight=weights), rtol=1e-5
    )


def test_a_search_lowers_its_loss_and_reports_each_epoch() -> None:
    told: list[tuple[int, int]] = []
    settings = replace(QUICK, epochs=2, least_steps=60, rate=1e-2)
    genotype, curves = darts.search(
        supernet_of(SMALL), loader_of(), SPLIT, settings, 0, lambda done, total: told.append((done, total))
    )
    assert told == [(number, 20) for number in range(1, 21)]
    assert curves[-1].weight_loss < 0.2 < curves[0].weight_loss
    assert curves[-1].alpha_loss < 0.5 * curves[0].alpha_loss
    assert genotype.experts == NAMES


def test_dev_speakers_without_an_emotion_in_training_do_no_harm() -> None:
    split = Split(np.flatnonzero(LABELS != 2), np.flatnonzero(LABELS == 2))
    _, curves = darts.search(supernet_of(SMALL), loader_of(), split, QUICK, 0)
    assert all(math.isfinite(point.alpha_loss) and math.isfinite(point.entropy) for point in curves)


def test_states_that_are_not_finite_are_an_error() -> None:
    with pytest.raises(RunError, match="diverged") as error:
        darts.search(supernet_of(SMALL), loader_of(poisoned=True), replace(SPLIT, train=np.arange(24)), QUICK, 0)
    assert error.value.hint


def test_a_search_of_pooled_statistics_runs() -> None:
    states = [x[:, :1].contiguous() for x in separable_states(LABELS.tolist())]
    loader = Loader([expert_of(states)], torch.from_numpy(LABELS))
    genotype, _ = darts.search(supernet_of(POOLED_SPACE, experts=1), loader, SPLIT, QUICK, 0)
    assert genotype.pooling == "mean"
