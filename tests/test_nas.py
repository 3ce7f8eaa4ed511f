"""Search space, genotypes and the supernet, against the discrete networks they stand for."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mser.errors import ConfigError, GenotypeError
from mser.gating import GATES
from mser.loader import Batch
from mser.model import Domain, ExpertShape, ModelSettings, MultiGateModel, Prior
from mser.nas.genotype import (
    FRAMES_SPACE,
    POOLED_SPACE,
    Genotype,
    SearchSpace,
    fixed_genotype,
    random_genotype,
)
from mser.nas.operations import OPERATIONS
from mser.nas.supernet import Ingredients, Supernet
from mser.noise import Noise

NAMES = ("e0", "e1")
EMOTIONS = ("anger", "fear", "joy")
SHAPES = [ExpertShape(name, 2, 4) for name in NAMES]
SETTINGS = ModelSettings(hidden=8, dropout=0.0)
SPACES = {"frames": FRAMES_SPACE, "pooled": POOLED_SPACE}
PLAIN: dict[str, Any] = {"operations": {"e0": "skip"}, "pooling": "mean", "gate": "constant", "depth": 1, "width": 8}


def noise_batch(frames: Sequence[int] = (3, 1, 6), seed: int = 0) -> Batch:
    """A batch of white noise with as many frames for both experts; labels 0, 1, 2, 0, ..."""
    rng = torch.Generator().manual_seed(seed)
    lengths = torch.tensor(frames)
    states = tuple(torch.randn(len(frames), max(frames), 2, 4, generator=rng) for _ in NAMES)
    rows = torch.arange(len(frames), dtype=torch.int32)
    return Batch(states, (lengths, lengths), rows.long() % 3, rows)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(sorted(SPACES)), st.integers(1, 4))
def test_genotypes_come_back_from_json_equal_by_value_and_hash(seed: int, space: str, experts: int) -> None:
    names = tuple(f"e{number}" for number in range(experts))
    genotype = random_genotype(names, SPACES[space], np.random.default_rng(seed))
    back = Genotype.from_dict(json.loads(json.dumps(genotype.to_dict())))
    assert back == genotype
    assert hash(back) == hash(genotype)
    assert str(back) == str(genotype)
    assert set(genotype.operations.values()) != {"zero"}


def test_genotypes_that_differ_in_one_field_differ() -> None:
    one = Genotype(**PLAIN)
    changes = {"pooling": "max", "gate": "none", "depth": 2, "width": 9, "activation": "gelu"}
    others = [Genotype(**{**PLAIN, field: value}) for field, value in changes.items()]
    assert len({one, *others}) == 1 + len(changes)


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
        ("width", "8"),
        ("operations", ["skip"]),
        ("activation", None),
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


@pytest.mark.parametrize("content", [[], ["skip"], "skip", None, 3])
def test_what_is_no_object_is_no_genotype(content: object) -> None:
    with pytest.raises(GenotypeError, match="schema"):
        Genotype.from_dict(content)


@pytest.mark.parametrize("change", [{"schema_version": 2}, {"gate": "open"}, {"depth": -1}])
def test_an_error_names_the_file_that_a_genotype_was_read_from(change: dict[str, object]) -> None:
    with pytest.raises(GenotypeError, match=r"file: +de/beta\.json(.|\n)*make search"):
        Genotype.from_dict({**Genotype(**PLAIN).to_dict(), **change}, "de/beta.json")


@pytest.mark.parametrize("space", SPACES)
def test_a_space_takes_what_is_drawn_from_it_and_the_fixed_head(space: str) -> None:
    rng, chosen = np.random.default_rng(1), SPACES[space]
    for genotype in [fixed_genotype(NAMES, chosen), *(random_genotype(NAMES, chosen, rng) for _ in range(50))]:
        chosen.require(genotype)
        chosen.require(genotype.simplest())


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("operations", {"operations": {"e0": "skip", "e1": "conv3"}}),
        ("pooling", {"pooling": "max"}),
        ("gate", {"gate": "none"}),
        ("depth", {"depth": 3}),
        ("width", {"width": 100}),
        ("activation", {"activation": "gelu"}),
    ],
)
def test_a_structure_of_another_space_is_refused_by_field_and_file(field: str, change: dict[str, Any]) -> None:
    space = SearchSpace(("zero", "skip", "linear"), ("mean",), activations=("relu",))
    plain = {**PLAIN, "width": 64}
    space.require(Genotype(**plain))
    with pytest.raises(GenotypeError, match=rf"file: +here\.json\n  field: +{field}\n"):
        space.require(Genotype(**{**plain, **change}), "here.json")


def test_a_head_without_hidden_layers_has_no_width_that_could_be_wrong() -> None:
    POOLED_SPACE.require(Genotype(**{**PLAIN, "depth": 0, "width": 0}))


def test_a_missing_field_is_refused() -> None:
    content = Genotype(**PLAIN).to_dict()
    del content["gate"]
    with pytest.raises(GenotypeError, match="schema"):
        Genotype.from_dict(content)


@pytest.mark.parametrize("space", SPACES)
def test_random_genotypes_reach_every_choice_about_equally(space: str) -> None:
    rng, chosen = np.random.default_rng(0), SPACES[space]
    drawn = [random_genotype(NAMES, chosen, rng) for _ in range(1500)]
    deep = [one for one in drawn if one.depth]
    found: list[tuple[Sequence[object], list[Any]]] = [
        (chosen.operations, [one.operations["e1"] for one in drawn if one.operations["e0"] != "zero"]),
        (chosen.poolings, [one.pooling for one in drawn]),
        (chosen.gates, [one.gate for one in drawn]),
        (chosen.depths, [one.depth for one in drawn]),
        (chosen.widths, [one.width for one in deep]),
        (chosen.activations, [one.activation for one in deep]),
    ]
    for choices, values in found:
        np.testing.assert_allclose([values.count(one) / len(values) for one in choices], 1 / len(choices), rtol=0.3)
    # Heads without hidden layers are one and the same.
    assert {(one.width, one.activation) for one in drawn if not one.depth} == {(0, "relu")}


def test_the_fixed_genotype_has_no_temporal_operation() -> None:
    assert fixed_genotype(NAMES, FRAMES_SPACE) == Genotype(dict.fromkeys(NAMES, "skip"), "mean_std", "constant", 1, 128)
    assert fixed_genotype(NAMES, POOLED_SPACE).pooling == "mean"


@pytest.mark.parametrize(
    ("field", "choices"),
    [
        ("operations", ("skip", "conv7")),
        ("operations", ("zero",)),
        ("poolings", ()),
        ("gates", ("constant", "none")),
        ("depths", (-1, 0)),
        ("widths", (0, 64)),
        ("widths", (64, 64)),
        ("activations", ("sin",)),
    ],
)
def test_a_space_that_no_network_fits_is_refused(field: str, choices: tuple[object, ...]) -> None:
    content: dict[str, Any] = {"operations": ("zero", "skip"), "poolings": ("mean",), field: choices}
    with pytest.raises(ConfigError, match=rf"field: +{field}"):
        SearchSpace(**content)


def test_the_searched_gates_are_those_that_weigh_experts() -> None:
    assert {*FRAMES_SPACE.gates, "none"} == set(GATES)
    assert FRAMES_SPACE.operations == OPERATIONS
    assert not {"conv3", "conv5", "dilated3", "bigru", "attention"} & set(POOLED_SPACE.operations)


def supernet_of(space: SearchSpace = FRAMES_SPACE, model: ModelSettings = SETTINGS) -> Supernet:
    torch.manual_seed(0)
    return Supernet(Ingredients(SHAPES, len(EMOTIONS), Prior.uniform(SHAPES), space, model))


def decide(supernet: Supernet, genotype: Genotype) -> None:
    """Puts all weight on the genotype's choices."""
    chosen = {f"operation_{row}": name for row, name in enumerate(genotype.operations.values())}
    chosen |= {"pooling": genotype.pooling, "gate": genotype.gate, "depth": str(genotype.depth)}
    chosen |= {"width": str(genotype.width), "activation": genotype.activation}
    with torch.no_grad():
        for edge, names in supernet.edges.items():
            supernet.alpha[edge].zero_()
            if chosen[edge] in names:
                supernet.alpha[edge][names.index(chosen[edge])] = 1e3


def discrete(supernet: Supernet, genotype: Genotype) -> MultiGateModel:
    """The genotype's network with the supernet's weights; of hidden layers the first units."""
    model = MultiGateModel([Domain("de", EMOTIONS, genotype, Prior.uniform(SHAPES))], SHAPES, SETTINGS)
    network: Any = model.network("de")
    for row, (mixed, branch) in enumerate(zip(supernet.branches, network.branches, strict=True)):
        copied: list[tuple[nn.Module, nn.Module]] = [
            (branch.operation, mixed.operations[genotype.operations[NAMES[row]]]),
            (branch.pooling, mixed.poolings[genotype.pooling]),
            (branch.embed, mixed.embeds[genotype.pooling]),
            (network.mixes[row], supernet.mixes[row]),
            (model.projections[row], supernet.projections[row]),
        ]
        for target, source in copied:
            target.load_state_dict(source.state_dict())
    network.gate.load_state_dict(supernet.gates[genotype.gate].state_dict())
    pairs = [*zip(network.head.hidden, supernet.head.hidden, strict=False)]
    pairs += [(network.head.classifier, supernet.head.classifiers[str(genotype.depth)])]
    with torch.no_grad():
        for target, source in pairs:
            outputs, inputs = target.weight.shape
            target.weight.copy_(source.weight[:outputs, :inputs])
            target.bias.copy_(source.bias[:outputs])
    return model


@pytest.mark.parametrize("number", range(len(OPERATIONS) - 1))
def test_a_decided_supernet_equals_the_network_of_its_genotype(number: int) -> None:
    operations = {"e0": OPERATIONS[1 + number], "e1": OPERATIONS[1 + (number + 1) % (len(OPERATIONS) - 1)]}
    space, depth = FRAMES_SPACE, number % 3
    pooling, gate = space.poolings[number % 5], space.gates[number % 2]
    head = (depth, space.widths[number // 3], space.activations[(number + 1) % 3]) if depth else (0, 0, "relu")
    genotype = Genotype(operations, pooling, gate, *head)
    supernet = supernet_of()
    decide(supernet, genotype)
    assert supernet.genotype() == genotype
    output, expected = supernet(noise_batch()), discrete(supernet, genotype)("de", noise_batch())
    torch.testing.assert_close(output.logits, expected.logits, rtol=0, atol=1e-5)
    torch.testing.assert_close(output.gate, expected.gate, rtol=0, atol=1e-5)


def test_a_decided_supernet_computes_as_if_nothing_else_were_there() -> None:
    supernet = supernet_of()
    genotype = Genotype({"e0": "conv3", "e1": "attention"}, "max", "conditioned", 2, 64, "tanh")
    decide(supernet, genotype)
    with torch.no_grad():
        whole = supernet(noise_batch()).logits
        for name in ("linear", "bigru", "conv5"):
            for value in supernet.branches[0].operations[name].parameters():
                value.fill_(float("inf"))
    chosen = {"operation_0": ["conv3"], "operation_1": ["attention"], "pooling": ["max"], "gate": ["conditioned"]}
    chosen |= {"depth": ["2"], "width": ["64"], "activation": ["tanh"]}
    alone = supernet(noise_batch(), None, supernet.mixture(chosen)).logits
    torch.testing.assert_close(alone, whole, rtol=0, atol=1e-5)


def test_mixed_widths_equal_the_mixture_of_units_written_out() -> None:
    space = SearchSpace(("skip",), ("mean",), depths=(1,), widths=(2, 5), activations=("tanh",))
    head = supernet_of(space).head
    x, share = torch.randn(4, 8), torch.tensor([0.3, 0.7])
    one = {"1": torch.tensor(1.0)}
    found = head(x, one, dict(zip(("2", "5"), share, strict=True)), {"tanh": one["1"]})
    hidden, classifier = head.hidden[0], head.classifiers["1"]
    units: Tensor = (x @ hidden.weight.T + hidden.bias).tanh()
    kept = torch.tensor([1.0, 1.0, 0.7, 0.7, 0.7])
    torch.testing.assert_close(found, (units * kept) @ classifier.weight.T + classifier.bias)


@pytest.mark.parametrize("how", ["by alpha", "by omission"])
def test_an_expert_decided_for_zero_does_not_depend_on_its_states(how: str) -> None:
    supernet = supernet_of()
    genotype = Genotype({"e0": "zero", "e1": "linear"}, "mean", "constant", 0, 0)
    decide(supernet, genotype)
    left = {**supernet.edges, "operation_0": ("zero",)} if how == "by omission" else supernet.edges

    def output(factors: tuple[float, float]) -> tuple[Tensor, Tensor]:
        batch = noise_batch()
        states = tuple(x * factor for x, factor in zip(batch.states, factors, strict=True))
        said = supernet(batch._replace(states=states), None, supernet.mixture(left))
        return said.logits, said.gate

    before, gate = output((1, 1))
    assert gate[:, 0].max() < 1e-5
    torch.testing.assert_close(output((7, 1))[0], before, rtol=0, atol=1e-4)
    assert (output((1, 7))[0] - before).abs().max() > 1e-2


def test_where_every_expert_would_be_left_out_the_strongest_stays() -> None:
    supernet = supernet_of()
    with torch.no_grad():
        for number, name in enumerate(("conv3", "bigru")):
            supernet.alpha[f"operation_{number}"].zero_()
            supernet.alpha[f"operation_{number}"][OPERATIONS.index("zero")] = 5
            supernet.alpha[f"operation_{number}"][OPERATIONS.index(name)] = 1 + number
    assert supernet.genotype().operations == {"e0": "zero", "e1": "bigru"}


def test_alphas_and_weights_are_all_parameters_once() -> None:
    supernet = supernet_of()
    alphas, weights = ({id(value) for value in part} for part in (supernet.alphas(), supernet.weights()))
    assert not alphas & weights
    assert alphas | weights == {id(value) for value in supernet.parameters()}
    assert sum(alpha.numel() for alpha in supernet.alphas()) == 2 * len(OPERATIONS) + 5 + 2 + 3 * 3


def test_noise_decides_what_a_supernet_drops_and_utterances_do_not_share_it() -> None:
    supernet = supernet_of(POOLED_SPACE, ModelSettings(hidden=8, dropout=0.5))
    batch = noise_batch((1, 1, 1))
    seed = torch.tensor(3, dtype=torch.int32)

    def logits(step: int, rows: Tensor) -> Tensor:
        number = torch.tensor(step, dtype=torch.int32)
        return supernet(batch, Noise.of(seed, number, rows)).logits.detach()

    once = logits(1, batch.rows)
    assert torch.equal(logits(1, batch.rows), once)
    assert not torch.equal(logits(2, batch.rows), once)
    assert not torch.equal(logits(1, batch.rows + 1), once)
    assert torch.equal(supernet(batch).logits, supernet(batch).logits)


def test_mixtures_sum_to_one_and_zero_takes_its_share_from_what_is_kept() -> None:
    supernet = supernet_of()
    for alpha in supernet.alphas():
        nn.init.normal_(alpha)
    mixture = supernet.mixture()
    for edge, weights in mixture.weights.items():
        assert math.isclose(sum(weight.item() for weight in weights.values()), 1, abs_tol=1e-6), edge
    for number, kept in enumerate(mixture.kept):
        shares = np.exp(supernet.alpha[f"operation_{number}"].detach().numpy())
        assert math.isclose(kept.item(), 1 - shares[OPERATIONS.index("zero")] / shares.sum(), abs_tol=1e-6)
