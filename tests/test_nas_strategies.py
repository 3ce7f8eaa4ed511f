"""The mathematics of each search strategy, against autograd, closed forms and frequencies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.special import expit, logsumexp, softmax
from test_nas import noise_batch, supernet_of
from torch import Tensor

from mser.nas import darts, gdas, routing
from mser.nas.bilevel import collapse
from mser.nas.darts import beta_decay, hypergradient
from mser.nas.genotype import FRAMES_SPACE, SearchSpace
from mser.nas.settings import SearchSettings
from mser.noise import Noise

SPACE = SearchSpace(("zero", "skip", "linear"), ("mean", "max"))
STEPS = 20_000


class Problem:
    """A small bilevel problem in double precision: a mixture of two maps, w in them, a mixing them."""

    def __init__(self, seed: int) -> None:
        rng = torch.Generator().manual_seed(seed)

        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=rng, dtype=torch.float64)

        self.weights = [draw(5, 4).requires_grad_(), draw(4, 3).requires_grad_()]
        self.alphas = [draw(3).requires_grad_(), draw(4).requires_grad_()]
        self.train, self.dev = (draw(20, 5), draw(20, 3)), (draw(15, 5), draw(15, 3))

    def loss(self, weights: Sequence[Tensor], alphas: Sequence[Tensor], data: tuple[Tensor, Tensor]) -> Tensor:
        x, wanted = data
        hidden = x @ weights[0]
        ways = torch.stack([hidden.tanh(), hidden.sin(), hidden.sigmoid()])
        mixed = (alphas[0].softmax(0)[:, None, None] * ways).sum(0) * alphas[1].softmax(0)
        return (mixed @ weights[1] - wanted).square().mean()

    def exact(self, rate: float) -> Tensor:
        """By autograd through the unrolled step."""
        inner = torch.autograd.grad(self.loss(self.weights, self.alphas, self.train), self.weights, create_graph=True)
        moved = [weight - rate * gradient for weight, gradient in zip(self.weights, inner, strict=True)]
        found = torch.autograd.grad(self.loss(moved, self.alphas, self.dev), self.alphas)
        return torch.cat([gradient.flatten() for gradient in found])

    def found(self, rate: float) -> tuple[Tensor, Tensor]:
        loss, gradients = hypergradient(
            lambda: self.loss(self.weights, self.alphas, self.train),
            lambda: self.loss(self.weights, self.alphas, self.dev),
            self.weights,
            self.alphas,
            rate,
        )
        return loss, torch.cat([gradient.flatten() for gradient in gradients])


def relative(found: Tensor, exact: Tensor) -> float:
    return float((found - exact).norm() / exact.norm())


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("rate", [0.025, 0.5])
def test_the_second_order_gradient_equals_autograd_through_the_unrolled_step(seed: int, rate: float) -> None:
    problem = Problem(seed)
    before = [weight.detach().clone() for weight in problem.weights]
    loss, found = problem.found(rate)
    exact = problem.exact(rate)
    assert relative(found, exact) < 1e-3
    # It is no first-order gradient: that one lies further off, at either weights.
    here = torch.autograd.grad(problem.loss(problem.weights, problem.alphas, problem.dev), problem.alphas)
    assert relative(torch.cat([gradient.flatten() for gradient in here]), exact) > 5 * relative(found, exact)
    assert all(torch.equal(weight, old) for weight, old in zip(problem.weights, before, strict=True))
    assert loss.item() < math.inf


def test_a_difference_multiplied_by_its_step_would_be_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: with * eps in the place of / (2 eps), as a public port has it, nothing of the term is left."""
    problem, rate = Problem(0), 0.5
    exact = problem.exact(rate)
    direct = problem.found(rate)[1]
    # hypergradient = direct - rate * (high - low) / (2 eps): recover the term, and scale it as the bug does.
    moved = torch.autograd.grad(problem.loss(problem.weights, problem.alphas, problem.train), problem.weights)
    at = [(weight - rate * gradient).detach() for weight, gradient in zip(problem.weights, moved, strict=True)]
    outer = torch.autograd.grad(
        problem.loss([weight.requires_grad_() for weight in at], problem.alphas, problem.dev), [*problem.alphas, *at]
    )
    eps = darts.DIFFERENCE / torch.cat([gradient.flatten() for gradient in outer[2:]]).norm()
    plain = torch.cat([gradient.flatten() for gradient in outer[:2]])
    wrong = plain + (direct - plain) * 2 * eps * eps
    assert relative(direct, exact) < 1e-3 < relative(wrong, exact)
    assert relative(wrong, exact) > 0.01
    # And the step matters: one that is far too long is no derivative.
    monkeypatch.setattr(darts, "DIFFERENCE", 30.0)
    assert relative(problem.found(rate)[1], exact) > 1e-3


def test_a_flat_dev_loss_gives_no_gradient_and_no_nan() -> None:
    weight, alpha = torch.ones(3, requires_grad=True), torch.ones(2, requires_grad=True)
    _, (found,) = hypergradient(
        lambda: (weight.sum() * alpha.sum()) ** 2, lambda: torch.zeros((), requires_grad=True), [weight], [alpha], 0.1
    )
    assert not found.any()


def test_beta_decay_and_its_gradient_equal_scipy() -> None:
    supernet = supernet_of()
    for alpha in supernet.alphas():
        torch.nn.init.normal_(alpha)
    choices = [alpha.detach().numpy() for alpha in supernet.alphas()]
    loss = beta_decay(supernet.alphas())
    np.testing.assert_allclose(loss.item(), np.mean([logsumexp(row) for row in choices]), rtol=1e-6)
    for row, gradient in zip(choices, torch.autograd.grad(loss, supernet.alphas()), strict=True):
        np.testing.assert_allclose(gradient, softmax(row) / len(choices), rtol=1e-5)


def test_beta_decay_rises_from_nothing_to_its_factor() -> None:
    supernet = supernet_of()
    relaxation = darts.BetaDecay(SearchSettings(beta_decay=0.7))
    whole = beta_decay(supernet.alphas()).item()
    for progress in (0.0, 0.5, 1.0):
        penalty = relaxation.penalty(supernet, progress)
        assert penalty is not None
        assert math.isclose(penalty.item(), 0.7 * progress * whole, rel_tol=1e-6)


def test_signs_of_an_undecided_and_of_a_collapsed_supernet() -> None:
    supernet = supernet_of(FRAMES_SPACE)
    start = collapse(supernet.distribution(), supernet.edges)
    np.testing.assert_allclose(start, [1, 2 / 8], atol=1e-3)
    with torch.no_grad():
        supernet.alpha["operation_0"][FRAMES_SPACE.operations.index("skip")] = 200
        supernet.alpha["operation_1"][FRAMES_SPACE.operations.index("conv3")] = 200
    found = collapse(supernet.distribution(), supernet.edges)
    np.testing.assert_allclose(found, [0, 0.5], atol=1e-3)


def step_noise(step: int, edges: int, seed: int = 0) -> Noise:
    """A key for each edge."""
    numbers = [torch.tensor(value, dtype=torch.int32) for value in (seed, step)]
    return Noise.of(*numbers, -1 - torch.arange(edges, dtype=torch.int32))


ALPHA = {"operation_0": [0.2, 1.0, -0.5], "operation_1": [-0.3, 0.4, 0.9], "pooling": [0.5, -0.5]}
EDGES = {"operation_0": SPACE.operations, "operation_1": SPACE.operations, "pooling": SPACE.poolings}


def test_gdas_draws_each_candidate_with_its_probability() -> None:
    alpha = {edge: torch.tensor(values) for edge, values in ALPHA.items()}
    count = 4000
    found: dict[tuple[str, str], int] = {}
    both = 0
    for step in range(count):
        mixture = gdas.drawn(alpha, EDGES, step_noise(step, len(EDGES)), 1.0)
        kept = [kept.item() for kept in mixture.kept]
        assert set(kept) <= {0.0, 1.0}
        assert any(kept)
        for edge, weights in mixture.weights.items():
            ((name, weight),) = weights.items()
            assert weight.item() == 1.0
            found[edge, name] = found.get((edge, name), 0) + 1
        both += all(kept)
    shares = {edge: dict(zip(EDGES[edge], softmax(values), strict=True)) for edge, values in ALPHA.items()}
    for edge in ("operation_0", "operation_1"):
        # What is computed is drawn among the operations other than zero.
        for name in ("skip", "linear"):
            expected = shares[edge][name] / (1 - shares[edge]["zero"])
            assert abs(found[edge, name] / count - expected) < 4 * math.sqrt(expected * (1 - expected) / count)
    assert abs(found["pooling", "mean"] / count - shares["pooling"]["mean"]) < 0.03
    left_out = [shares[edge]["zero"] for edge in ("operation_0", "operation_1")]
    # Where both would be left out, both are kept.
    expected = math.prod(1 - share for share in left_out) + math.prod(left_out)
    assert abs(both / count - expected) < 0.03


def test_the_gradient_of_a_draw_is_that_of_the_softmax_at_its_temperature() -> None:
    alpha = {edge: torch.tensor(values, dtype=torch.float64, requires_grad=True) for edge, values in ALPHA.items()}
    noise, temperature = step_noise(5, len(EDGES)), 0.7
    mixture = gdas.drawn(alpha, EDGES, noise, temperature)
    ((name, weight),) = mixture.weights["pooling"].items()
    (found,) = torch.autograd.grad(weight, alpha["pooling"])
    gumbel = -np.log(-np.log(gdas.step_uniform(noise, EDGES)["pooling"].numpy()))
    soft = softmax((np.array(ALPHA["pooling"]) + gumbel) / temperature)
    place = EDGES["pooling"].index(name)
    assert place == soft.argmax()
    np.testing.assert_allclose(found, soft[place] * (np.eye(2)[place] - soft) / temperature, rtol=1e-5)


def test_only_the_drawn_candidates_are_computed_and_trained() -> None:
    supernet = supernet_of(SPACE)
    mixture = gdas.drawn(supernet.logits(), supernet.edges, step_noise(1, len(supernet.edges)), 5.0)
    called: set[str] = set()
    for branch in supernet.branches:
        for name, part in branch.operations.items():
            part.register_forward_hook(lambda *_, name=name: called.add(name))
    supernet(noise_batch(), None, mixture).logits.sum().backward(inputs=supernet.weights())
    drawn = {next(iter(mixture.weights[f"operation_{number}"])) for number in range(2)}
    assert called == drawn
    for number, branch in enumerate(supernet.branches):
        linear = branch.operations["linear"].linear.weight
        assert (linear.grad is None) == ("linear" not in mixture.weights[f"operation_{number}"])


def test_the_temperature_falls_linearly() -> None:
    relaxation = gdas.Gumbel(SearchSettings(first_temperature=10, last_temperature=0.1))
    supernet = supernet_of(SPACE)
    slopes = []
    for progress in (0.0, 0.5, 1.0):
        mixture = relaxation.mixture(supernet, step_noise(2, len(supernet.edges)), progress)
        ((name, weight),) = mixture.weights["pooling"].items()
        (gradient,) = torch.autograd.grad(weight, supernet.alpha["pooling"])
        temperature = 10 + (0.1 - 10) * progress
        scores = supernet.alpha["pooling"].detach().numpy() - np.log(
            -np.log(gdas.step_uniform(step_noise(2, len(supernet.edges)), supernet.edges)["pooling"].numpy())
        )
        soft = softmax(scores / temperature)[SPACE.poolings.index(name)]
        slopes.append((gradient[SPACE.poolings.index(name)].item(), soft * (1 - soft) / temperature))
    np.testing.assert_allclose(*zip(*slopes, strict=True), rtol=1e-3)


@pytest.mark.parametrize("alpha", [-3.0, -0.5, 0.0, 2.0])
def test_gates_are_shut_and_open_as_often_as_the_closed_form_says(alpha: float) -> None:
    edges = {"pooling": tuple(map(str, range(STEPS)))}
    numbers = gdas.step_uniform(step_noise(0, 1), edges)["pooling"]
    gates = routing.hard_concrete(torch.full((STEPS,), alpha), numbers).numpy()
    low, high, temperature = routing.LOW, routing.HIGH, routing.TEMPERATURE
    shut = expit(temperature * math.log(-low / high) - alpha)
    opened = 1 - expit(temperature * math.log((1 - low) / (high - 1)) - alpha)
    error = 4 * 0.5 / math.sqrt(STEPS)
    assert abs((gates == 0).mean() - shut) < error
    assert abs((gates == 1).mean() - opened) < error
    assert math.isclose(routing.open_probability(torch.tensor(alpha)).item(), 1 - shut, rel_tol=1e-5)

    def gate(u: float) -> float:
        return float(np.clip(expit((math.log(u / (1 - u)) + alpha) / temperature) * 2.1 - 0.1, 0, 1))

    assert abs(gates.mean() - quad(gate, 0, 1, limit=200)[0]) < error


def test_gates_stay_finite_at_the_ends_of_the_noise() -> None:
    numbers = torch.tensor([0.0, 1.0]).clamp(gdas.MARGIN, 1 - gdas.MARGIN)
    alpha = torch.zeros(2, requires_grad=True)
    gates = routing.hard_concrete(alpha, numbers)
    assert gates.tolist() == [0.0, 1.0]
    gates.sum().backward()
    assert alpha.grad is not None
    assert alpha.grad.isfinite().all()


def test_the_price_of_routes_is_the_expected_number_of_open_ones() -> None:
    supernet = supernet_of(SPACE)
    for alpha in supernet.alphas():
        torch.nn.init.normal_(alpha)
    penalty = routing.HardConcrete(SearchSettings(sparsity=0.2)).penalty(supernet, 0.0)
    opened = []
    for edge, names in supernet.edges.items():
        for name, value in zip(names, supernet.alpha[edge].tolist(), strict=True):
            if name != "zero":
                opened.append(1 / (1 + math.exp(-(value - 0.9 * math.log(0.1 / 2.0)))))
    assert penalty is not None
    assert math.isclose(penalty.item(), 0.2 * sum(opened), rel_tol=1e-5)


def test_an_expert_whose_gates_are_all_shut_is_left_out() -> None:
    supernet = supernet_of(SPACE)
    relaxation = routing.HardConcrete(SearchSettings())
    with torch.no_grad():
        supernet.alpha["operation_0"].fill_(-30)
        supernet.alpha["operation_1"].fill_(30)
    mixture = relaxation.mixture(supernet, step_noise(0, len(supernet.edges)), 0.0)
    assert [kept.item() for kept in mixture.kept] == pytest.approx([routing.SMALLEST_ROUTE, 1])
    assert math.isclose(sum(weight.item() for weight in mixture.weights["operation_0"].values()), 1, rel_tol=1e-6)
    shares = relaxation.distribution(supernet)
    torch.testing.assert_close(shares["operation_0"], torch.tensor([1.0, 0, 0]), rtol=0, atol=1e-5)
    torch.testing.assert_close(shares["operation_1"], torch.tensor([0, 0.5, 0.5]), rtol=0, atol=1e-5)
    assert all(math.isclose(share.sum().item(), 1, rel_tol=1e-6) for share in shares.values())
    assert supernet.genotype(shares).operations["e0"] == "zero"


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 0},
        {"batch_size": 1.5},
        {"rate": 0.0},
        {"alpha_rate": math.inf},
        {"beta_decay": -1.0},
        {"last_temperature": 0.0},
        {"sparsity": math.nan},
    ],
)
def test_settings_that_no_search_can_run_with_are_refused_by_their_name(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"field: +{next(iter(change))}"):
        SearchSettings(**change)
