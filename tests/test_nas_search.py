"""Searches as a whole: what they find, what they read, and that they follow from their seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from sklearn.metrics import log_loss
from sklearn.utils.class_weight import compute_sample_weight

from mser.errors import ConfigError, ProtocolError, RunError
from mser.loader import Batch
from mser.model import ExpertShape, ModelSettings, Prior
from mser.nas import perturbation
from mser.nas.bilevel import Bilevel, Relaxation, Turn, first_order
from mser.nas.darts import BetaDecay, second_order
from mser.nas.genotype import FRAMES_SPACE, POOLED_SPACE, Genotype, SearchSpace
from mser.nas.search import STRATEGIES, search
from mser.nas.settings import SearchCurve, SearchSettings
from mser.nas.supernet import Ingredients
from mser.protocol import Split

WITH_SUPERNET = [name for name in STRATEGIES if name not in ("random", "fixed")]


class MemoryLoader:
    """Batches of states (N, T, L, D) of one length; remembers the rows of each batch it gave."""

    device = torch.device("cpu")

    def __init__(self, states: Sequence[torch.Tensor], labels: np.ndarray) -> None:
        self.states, self.labels = tuple(states), torch.from_numpy(labels)
        self.gathered: list[list[int]] = []

    def gather(self, rows: np.ndarray) -> Batch:
        self.gathered.append(rows.tolist())
        chosen = torch.from_numpy(rows)
        lengths = tuple(torch.full((len(rows),), x.shape[1]) for x in self.states)
        return Batch(tuple(x[chosen] for x in self.states), lengths, self.labels[chosen], chosen.int())

    def order(self, rows: np.ndarray, batches: int, seed: int, epoch: int) -> list[np.ndarray]:
        return np.array_split(np.random.default_rng([seed, epoch]).permutation(rows), batches)


def ingredients_of(loader: MemoryLoader, space: SearchSpace, hidden: int = 8, dropout: float = 0.0) -> Ingredients:
    shapes = [ExpertShape(f"e{number}", *x.shape[2:]) for number, x in enumerate(loader.states)]
    emotions = int(loader.labels.max()) + 1
    return Ingredients(shapes, emotions, Prior.uniform(shapes), space, ModelSettings(hidden, dropout))


# A planted problem: the label is the order of two neighbouring frames of e0, which only a convolution can see (means
# over time are the same); e1 is noise. So e0 needs conv3.
PLANTED_SPLIT = Split(np.arange(200), np.arange(200, 320))
PLANTED_SPACE = SearchSpace(("zero", "skip", "conv3"), ("mean",), ("constant",), (0,), (16,), ("relu",))
PLANTED = SearchSettings(epochs=1, least_steps=120, rate=1e-2, alpha_rate=0.05, retune_steps=5)


@lru_cache(maxsize=1)
def planted() -> MemoryLoader:
    rng = np.random.default_rng(0)
    labels = np.arange(320) % 2
    x = 0.3 * rng.standard_normal((320, 4, 1, 4))
    for row, label in enumerate(labels):
        at = rng.integers(0, 3)
        x[row, at, 0, 0] += 4 * label - 2
        x[row, at + 1, 0, 0] -= 4 * label - 2
    noise = rng.standard_normal((320, 4, 1, 4))
    return MemoryLoader([torch.from_numpy(one).float() for one in (x, noise)], labels)


@pytest.mark.parametrize("strategy", WITH_SUPERNET)
def test_each_strategy_finds_the_operation_that_tells(strategy: str) -> None:
    # A strategy that computes one candidate a step needs more steps.
    settings = replace(PLANTED, least_steps=200 if strategy == "gdas" else 120)
    ingredients = ingredients_of(planted(), PLANTED_SPACE, hidden=16)
    genotype, curves = search(strategy, ingredients, planted(), PLANTED_SPLIT, settings, seed=0)
    assert genotype.operations["e0"] == "conv3"
    assert curves[-1].weight_loss < 0.5 * curves[0].weight_loss
    # Where gates have learned to leave the noise out, removing it or adding its routes changes next to nothing.
    if strategy not in ("perturbation", "routing"):
        assert genotype.operations["e1"] == "zero"


def test_without_the_planted_label_no_operation_is_found_by_heart() -> None:
    """Control: shuffled labels leave the losses on alpha speakers at chance."""
    loader = planted()
    shuffled = MemoryLoader(loader.states, np.random.default_rng(1).permutation(loader.labels.numpy()))
    _, curves = search(
        "darts", ingredients_of(shuffled, PLANTED_SPACE), shuffled, PLANTED_SPLIT, replace(PLANTED, least_steps=60), 0
    )
    assert min(point.alpha_loss for point in curves) > 0.5


# A small problem for all else: 24 utterances of 3 emotions, each a feature that stands out.
LABELS = np.arange(24) % 3
SPLIT = Split(np.arange(0, 12), np.arange(12, 18))
QUICK = SearchSettings(epochs=2, least_steps=1, batch_size=4, retune_steps=1)
SMALL = SearchSpace(
    ("zero", "skip", "linear", "conv3"), ("mean", "max"), ("constant", "conditioned"), (0, 1), (4, 8), ("relu", "tanh")
)


def loader_of(poisoned: bool = False) -> MemoryLoader:
    """Two experts; NaN in rows 18 and on, if asked for."""
    rng = torch.Generator().manual_seed(0)
    states = [torch.randn(24, 3, 2, 4, generator=rng) for _ in range(2)]
    for x in states:
        for row, label in enumerate(LABELS):
            x[row, :, :, label] += 4
        if poisoned:
            x[18:] = float("nan")
    return MemoryLoader(states, LABELS)


def searched(
    strategy: str = "beta",
    seed: int = 0,
    loader: MemoryLoader | None = None,
    split: Split = SPLIT,
    settings: SearchSettings = QUICK,
) -> tuple[Genotype, list[SearchCurve]]:
    loader = loader_of() if loader is None else loader
    return search(strategy, ingredients_of(loader, SMALL, dropout=0.3), loader, split, settings, seed)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_search_follows_from_its_seed_alone(strategy: str) -> None:
    torch.manual_seed(1)
    first = searched(strategy)
    state = torch.random.get_rng_state()
    torch.manual_seed(2)
    assert searched(strategy) == first
    torch.manual_seed(1)
    assert torch.equal(torch.random.get_rng_state(), state), "a search moves the global generator"
    if strategy in WITH_SUPERNET:
        assert searched(strategy, seed=1)[1] != first[1]


def test_seeds_may_be_large() -> None:
    assert searched(seed=2**40 + 1)[1] != searched(seed=2**40)[1]


@pytest.mark.parametrize("strategy", WITH_SUPERNET)
def test_a_search_sees_the_rows_of_its_split_only(strategy: str) -> None:
    clean, poisoned = loader_of(), loader_of(poisoned=True)
    assert searched(strategy, loader=poisoned) == searched(strategy, loader=clean)
    assert {row for batch in poisoned.gathered for row in batch} == {*SPLIT.train.tolist(), *SPLIT.dev.tolist()}


@pytest.mark.parametrize("strategy", WITH_SUPERNET)
def test_no_batch_mixes_weight_and_alpha_speakers(strategy: str) -> None:
    loader = loader_of()
    searched(strategy, loader=loader)
    train, dev = set(SPLIT.train.tolist()), set(SPLIT.dev.tolist())
    assert all(set(rows) <= train or set(rows) <= dev for rows in loader.gathered)


class Watched(Bilevel):
    """Remembers what each kind of step was given."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.moved: list[str] = []

    def weight_step(self, loss: torch.Tensor) -> None:
        before = [value.detach().clone() for value in self.supernet.alphas()]
        rows = set(self.loader.gathered[-1])  # type: ignore[attr-defined]
        super().weight_step(loss)
        assert rows <= set(self.split.train.tolist())
        assert all(torch.equal(new, old) for new, old in zip(self.supernet.alphas(), before, strict=True))
        self.moved.append("weights")

    def alpha_step(self, gradients: Sequence[torch.Tensor]) -> None:
        before = [value.detach().clone() for value in self.supernet.weights()]
        super().alpha_step(gradients)
        assert all(torch.equal(new, old) for new, old in zip(self.supernet.weights(), before, strict=True))
        self.moved.append("alphas")


def bilevel_of(
    loader: MemoryLoader,
    relaxation: Relaxation | None = None,
    gradient: Any = first_order,
    space: SearchSpace = SMALL,
    split: Split = SPLIT,
    settings: SearchSettings = QUICK,
) -> Watched:
    ingredients = ingredients_of(loader, space)
    return Watched(ingredients, loader, split, settings, 0, relaxation or Relaxation(settings), gradient)


@pytest.mark.parametrize("gradient", [first_order, second_order])
def test_weights_move_on_training_speakers_only_and_alphas_in_turns_with_them(gradient: Any) -> None:
    bilevel = bilevel_of(loader_of(), gradient=gradient)
    start = [value.detach().clone() for value in bilevel.supernet.parameters()]
    bilevel.run(lambda done, total: None)
    assert bilevel.moved == ["alphas", "weights"] * 6
    assert not any(torch.equal(new, old) for new, old in zip(bilevel.supernet.alphas(), start[-7:], strict=False))


def test_each_epoch_takes_every_training_row_once_and_dev_batches_have_no_row_twice() -> None:
    loader = loader_of()
    _, curves = searched("beta", loader=loader)
    for_alphas, for_weights = loader.gathered[::2], loader.gathered[1::2]
    assert all(set(rows) <= set(SPLIT.dev.tolist()) and len(set(rows)) == 4 for rows in for_alphas)
    for epoch in range(2):
        rows = [row for batch in for_weights[3 * epoch : 3 * epoch + 3] for row in batch]
        assert sorted(rows) == SPLIT.train.tolist()
    assert [point.epoch for point in curves] == [0, 1]


@pytest.mark.parametrize("factor", [0.0, 0.7])
def test_the_first_order_gradient_is_that_of_the_balanced_loss_and_the_decay(factor: float) -> None:
    loader, rows = loader_of(), np.array([12, 13, 14, 17])
    split = Split(np.array([0, 3, 6, 1, 4, 2]), SPLIT.dev)
    bilevel = bilevel_of(loader, BetaDecay(replace(QUICK, beta_decay=factor)), split=split)
    supernet = bilevel.supernet
    _, gradients = first_order(bilevel, Turn(split.train, rows, 0, 1.0))
    found = torch.cat([gradient.flatten() for gradient in gradients])
    balance = np.array([6 / 9, 6 / 6, 6 / 3])

    def loss() -> float:
        """The balanced cross-entropy and the decay, by numpy, at double precision."""
        batch = loader.gather(rows)
        logits = supernet(batch._replace(states=tuple(x.double() for x in batch.states))).logits.detach().numpy()
        each = logsumexp(logits, axis=1) - logits[np.arange(4), LABELS[rows]]
        weights = balance[LABELS[rows]]
        choices = [alpha.detach().numpy() for alpha in supernet.alphas()]
        return float((weights * each).sum() / weights.sum() + factor * np.mean([logsumexp(row) for row in choices]))

    supernet.double()
    differences = []
    for alpha in supernet.alphas():
        flat = alpha.detach()
        for place in range(len(flat)):
            flat[place] += 1e-5
            above = loss()
            flat[place] -= 2e-5
            differences.append((above - loss()) / 2e-5)
            flat[place] += 1e-5
    np.testing.assert_allclose(found, differences, atol=1e-5)
    assert found.abs().max() > 1e-3


def test_the_second_order_gradient_of_a_supernet_equals_autograd_through_the_step() -> None:
    settings = replace(QUICK, inner_rate=0.5)
    space = SearchSpace(("zero", "skip", "linear"), ("mean",), widths=(4, 8), activations=("gelu", "tanh"))
    bilevel = bilevel_of(loader_of(), space=space, settings=settings)
    bilevel.supernet.double()
    loader = bilevel.loader
    loader.states = tuple(x.double() for x in loader.states)  # type: ignore[attr-defined]
    bilevel.balance = bilevel.balance.double()
    turn = Turn(SPLIT.train[:4], SPLIT.dev[:4], 0, 0.0)
    _, found = second_order(bilevel, turn)

    supernet = bilevel.supernet
    named = dict(supernet.named_parameters())
    weights = {name: value for name, value in named.items() if not name.startswith("alpha.")}

    def loss(parameters: dict[str, torch.Tensor], rows: np.ndarray) -> torch.Tensor:
        batch = loader.gather(rows)
        logits = torch.func.functional_call(supernet, {**named, **parameters}, (batch,)).logits
        return bilevel.balanced(logits, batch.labels)

    inner = torch.autograd.grad(loss(weights, turn.train), list(weights.values()), create_graph=True)
    moved = {name: value - 0.5 * gradient for (name, value), gradient in zip(weights.items(), inner, strict=True)}
    exact = torch.autograd.grad(loss(moved, turn.dev), supernet.alphas())
    joined, wanted = (torch.cat([one.flatten() for one in part]) for part in (found, exact))
    assert (joined - wanted).norm() / wanted.norm() < 1e-3
    first = torch.cat([one.flatten() for one in first_order(bilevel, turn)[1]])
    assert (first - wanted).norm() / wanted.norm() > 1e-2


def test_the_first_weight_loss_is_the_balanced_cross_entropy_of_the_training_rows() -> None:
    rows = np.array([0, 3, 6, 9, 1, 4, 2])
    settings = replace(QUICK, epochs=1, batch_size=7, alpha_rate=1e-12)
    bilevel = bilevel_of(loader_of(), split=Split(rows, SPLIT.dev), settings=settings)
    probabilities = bilevel.supernet(bilevel.loader.gather(rows)).logits.softmax(1).detach().numpy()
    (point,) = bilevel.run(lambda done, total: None)
    weights = compute_sample_weight("balanced", LABELS[rows])
    np.testing.assert_allclose(
        point.weight_loss, log_loss(LABELS[rows], probabilities, sample_weight=weights), rtol=1e-5
    )


def test_a_search_lowers_its_loss_and_reports_each_epoch() -> None:
    told: list[tuple[int, int]] = []
    settings = replace(QUICK, least_steps=60, rate=1e-2)
    loader = loader_of()
    genotype, curves = search(
        "beta",
        ingredients_of(loader, SMALL),
        loader,
        SPLIT,
        settings,
        0,
        lambda done, total: told.append((done, total)),
    )
    assert told == [(number, 20) for number in range(1, 21)]
    assert curves[-1].weight_loss < 0.2 < curves[0].weight_loss
    assert curves[-1].alpha_loss < 0.5 * curves[0].alpha_loss
    assert genotype.experts == ("e0", "e1")


@pytest.mark.parametrize("strategy", WITH_SUPERNET)
def test_every_strategy_runs_on_all_of_the_frames_space_and_tells_of_collapse(strategy: str) -> None:
    loader = loader_of()
    settings = replace(QUICK, epochs=1, batch_size=12)
    genotype, (point,) = search(strategy, ingredients_of(loader, FRAMES_SPACE), loader, SPLIT, settings, 0)
    assert Genotype.from_dict(genotype.to_dict()) == genotype
    assert 0.5 < point.entropy <= 1
    assert 0 < point.parameter_free < 0.5


@pytest.mark.parametrize("strategy", WITH_SUPERNET)
def test_one_expert_is_never_left_out(strategy: str) -> None:
    loader = MemoryLoader([torch.randn(24, 1, 2, 4)], LABELS)
    genotype, _ = search(
        strategy, ingredients_of(loader, POOLED_SPACE), loader, SPLIT, replace(QUICK, alpha_rate=0.5), 0
    )
    assert genotype.operations["e0"] in ("skip", "linear")
    assert genotype.pooling == "mean"


def test_dev_speakers_without_an_emotion_in_training_do_no_harm() -> None:
    split = Split(np.flatnonzero(LABELS != 2), np.flatnonzero(LABELS == 2))
    _, curves = searched(split=split)
    assert all(math.isfinite(point.alpha_loss) and math.isfinite(point.entropy) for point in curves)


@pytest.mark.parametrize("strategy", WITH_SUPERNET)
def test_states_that_are_not_finite_are_an_error_that_names_the_epoch(strategy: str) -> None:
    with pytest.raises(RunError, match="epoch 0") as error:
        searched(strategy, loader=loader_of(poisoned=True), split=Split(np.arange(12, 24), np.arange(12)))
    assert error.value.hint


@pytest.mark.parametrize(
    "split",
    [Split(np.arange(12), np.arange(11, 18)), Split(np.arange(12), np.arange(0)), Split(np.arange(0), SPLIT.dev)],
)
def test_parts_that_share_a_row_or_are_empty_are_refused(split: Split) -> None:
    with pytest.raises(ProtocolError, match="alpha speakers"):
        searched(split=split)


def test_an_unknown_strategy_is_refused() -> None:
    with pytest.raises(ConfigError, match="darts-third"):
        searched("darts-third")


def test_perturbation_takes_what_dev_speakers_miss_most_not_what_alphas_prefer() -> None:
    """Alphas are set against the truth after training: selection must not believe them."""
    bilevel = bilevel_of(planted(), space=PLANTED_SPACE, split=PLANTED_SPLIT, settings=replace(PLANTED, retune_steps=0))
    bilevel.run(lambda done, total: None)
    supernet = bilevel.supernet
    with torch.no_grad():
        # With equal gates the noise of e1 comes through.
        supernet.gates["constant"].logits.zero_()
        for edge in ("operation_0", "operation_1"):
            supernet.alpha[edge].zero_()
        supernet.alpha["operation_0"][PLANTED_SPACE.operations.index("skip")] = 0.5
        supernet.alpha["operation_1"][PLANTED_SPACE.operations.index("conv3")] = 0.5
    assert supernet.genotype().operations == {"e0": "skip", "e1": "conv3"}
    assert perturbation.select(bilevel).operations == {"e0": "conv3", "e1": "zero"}


@pytest.mark.parametrize("batch_size", [1, 4])
def test_the_dev_loss_of_a_perturbation_is_that_of_all_dev_rows_whatever_the_batches(batch_size: int) -> None:
    split = Split(SPLIT.train, np.arange(12, 24))
    bilevel = bilevel_of(loader_of(), split=split, settings=replace(QUICK, batch_size=batch_size))
    whole = perturbation.dev_loss(bilevel, bilevel.supernet.edges)
    rows = split.dev
    probabilities = bilevel.supernet(bilevel.loader.gather(rows)).logits.softmax(1).detach().numpy()
    weights = np.ones(len(rows))  # the training rows are balanced
    assert math.isclose(whole.item(), log_loss(LABELS[rows], probabilities, sample_weight=weights), rel_tol=1e-5)
