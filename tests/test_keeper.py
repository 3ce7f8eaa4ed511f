"""Which epoch counts: early stopping and trainings that diverge, alone and beside others."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score
from torch import Tensor
from toys import examples, expert_of, separable_states, shapes

from mser.loader import Batch, Loader
from mser.model import Domain, ModelSettings, MultiGateModel, Prior
from mser.nas.genotype import Genotype
from train import fit as fit_module
from train.fit import FitSettings, Replica, Training, fit, predict
from train.keeper import Fitted, Keeper
from train.objective import LossSettings
from train.replicas import Single, Stacked

NAN, INF = float("nan"), float("inf")


class Counting:
    """A program of R replicas whose one weight is the number of the epoch that was trained last, from 1."""

    def __init__(self, replicas: int) -> None:
        self.values, self.written = torch.zeros(replicas), torch.zeros(replicas)

    def parameters(self) -> dict[str, Tensor]:
        return {"weight": self.values}

    def losses(self, batches: Sequence[Mapping[str, Batch]], counted: Mapping[str, Tensor], step: Tensor) -> Tensor:
        raise NotImplementedError

    def finite(self) -> Tensor:
        return self.values.isfinite()

    def each(self) -> list[dict[str, Tensor]]:
        return [{"weight": value} for value in self.values.unbind()]

    def write_back(self) -> None:
        self.written = self.values.clone()


def kept(scores: Sequence[Sequence[float]], losses: Sequence[Sequence[float]], patience: int) -> tuple[Any, ...]:
    """Runs a keeper over epochs: what it found, the weights it left, and the epochs that were trained."""
    program, current = Counting(len(scores[0])), list(scores[0])
    keeper = Keeper(program, patience, lambda: current)
    for epoch, (own, loss) in enumerate(zip(scores, losses, strict=True)):
        program.values += 1
        current[:] = own
        if keeper.judge(epoch, torch.tensor(loss)):
            break
    return keeper.finish(), program.written.tolist(), epoch + 1


def one(scores: Sequence[float], patience: int, losses: Sequence[float] | None = None) -> tuple[Fitted, float, int]:
    losses = losses or [1.0] * len(scores)
    (found,), (weight,), epochs = kept([[score] for score in scores], [[loss] for loss in losses], patience)
    return found, weight, epochs


@pytest.mark.parametrize(
    ("scores", "patience", "best", "epochs"),
    [
        ([50, 60, 55, 55, 70, 80], 2, 1, 4),
        ([50, 60, 55, 61, 55, 54], 2, 3, 6),
        ([50, 60, 60, 60, 90], 2, 1, 4),  # as good is no better
        ([50, 40, 90], 1, 0, 2),
        ([10, 20, 30], 3, 2, 3),
        ([10], 5, 0, 1),
    ],
)
def test_a_training_stops_after_its_patience_and_leaves_the_best_epoch(
    scores: list[float], patience: int, best: int, epochs: int
) -> None:
    found, weight, trained = one(scores, patience)
    assert (found.best, found.diverged, weight, trained) == (best, None, best + 1, epochs)
    assert len(found.losses) == epochs


@examples
@given(st.lists(st.integers(0, 5), min_size=1, max_size=20), st.integers(1, 5))
def test_the_epoch_that_is_left_is_the_first_best_up_to_the_stop(scores: list[int], patience: int) -> None:
    best = 0
    for stop, score in enumerate(scores):
        best = stop if score > scores[best] else best
        if stop - best >= patience:
            break
    found, weight, epochs = one(scores, patience)
    assert (found.best, weight, epochs) == (best, best + 1, stop + 1)


def test_without_patience_the_last_epoch_counts_and_no_score_is_asked_for() -> None:
    program = Counting(2)

    def no_scores() -> list[float]:
        raise AssertionError("scores were asked for")

    keeper = Keeper(program, 0, no_scores)
    for epoch in range(3):
        program.values += 1
        assert not keeper.judge(epoch, torch.ones(2))
    assert [one.best for one in keeper.finish()] == [2, 2]
    assert program.written.tolist() == [3, 3]


@examples
@given(st.lists(st.lists(st.integers(0, 4), min_size=8, max_size=8), min_size=1, max_size=4), st.integers(1, 4))
def test_a_replica_ends_among_others_as_it_does_alone(scores: list[list[int]], patience: int) -> None:
    together, weights, _ = kept(list(zip(*scores, strict=True)), [[1.0] * len(scores)] * 8, patience)
    for own, found, weight in zip(scores, together, weights, strict=True):
        expected, alone, _ = one(own, patience)
        assert (found, weight) == (expected, alone)


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_a_training_that_diverges_keeps_the_epoch_before_and_says_so(bad: float) -> None:
    found, weight, epochs = one([0.0] * 5, 0, [3.0, 2.0, bad, 1.0, 1.0])
    assert (found.losses, found.best, found.diverged, weight, epochs) == ([3.0, 2.0], 1, 2, 2, 3)


def test_a_weight_that_is_no_number_counts_as_divergence_though_the_loss_was_finite() -> None:
    program = Counting(2)
    keeper = Keeper(program, 0, list)
    program.values += 1
    assert not keeper.judge(0, torch.ones(2))
    program.values[1] = NAN
    assert not keeper.judge(1, torch.ones(2))
    assert [(one.best, one.diverged) for one in keeper.finish()] == [(1, None), (0, 1)]
    assert program.written[1] == 1


def test_a_training_that_diverges_at_once_keeps_the_weights_it_began_with() -> None:
    found, weight, _ = one([0.0, 0.0], 0, [NAN, 1.0])
    assert (found.losses, found.best, found.diverged, weight) == ([], -1, 0, 0)


def test_a_diverged_replica_with_patience_keeps_its_best_epoch() -> None:
    found, weight, _ = one([50, 70, 60, 80], 3, [1.0, 1.0, 1.0, NAN])
    assert (found.best, found.diverged, weight) == (1, 3, 2)


# With real trainings.

LABELS = np.arange(40) % 3
ROWS = np.arange(40)
SETTINGS = FitSettings(epochs=12, least_steps=1, batch_size=10, rate=2e-3, loss=LossSettings(contrastive="none"))


def loader_of() -> Loader:
    states = separable_states(LABELS.tolist())
    noise = separable_states([0] * len(LABELS), seed=1)
    mixed = [x + y[:, : x.shape[1]].mean(1, keepdim=True) for x, y in zip(states, noise, strict=True)]
    return Loader([expert_of(mixed)], torch.from_numpy(LABELS))


def replicas_of(count: int = 3, dev: bool = True) -> list[Replica]:
    """Trainings of several folds and seeds in double precision."""
    found = []
    for number in range(count):
        torch.manual_seed(number)
        genotype = Genotype({"e0": "skip"}, "mean", "constant", 1, 8)
        domain = Domain("de", ("anger", "fear", "joy"), genotype, Prior.uniform(shapes(1)))
        model = MultiGateModel([domain], shapes(1), ModelSettings(hidden=8)).double()
        tested = number == ROWS // 8
        devs = (number + 1) % 5 == ROWS // 8
        rows = {"de": np.flatnonzero(~tested & ~devs)}
        found.append(
            Replica(model, rows, number % 2 if count > 3 else 0, {"de": np.flatnonzero(devs)} if dev else None)
        )
    return found


def fitted(replicas: list[Replica], settings: FitSettings, together: bool) -> tuple[list[Replica], list[Fitted]]:
    own = [replace(one, model=copy.deepcopy(one.model)) for one in replicas]
    return own, fit(own, {"de": loader_of()}, {"de": ROWS}, settings, together=together)


def weights_of(replica: Replica) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in replica.model.state_dict().items()}


def assert_close(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> None:
    for name, value in one.items():
        torch.testing.assert_close(other[name], value, rtol=0, atol=1e-9)


@pytest.fixture
def histories(monkeypatch: pytest.MonkeyPatch) -> list[list[tuple[list[dict[str, Tensor]], list[float]]]]:
    """Of each training, epoch by epoch, the weights of its replicas and their scores."""
    found: list[list[tuple[list[dict[str, Tensor]], list[float]]]] = []

    class Spy(Training):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            found.append([])

        def _dev_uar(self) -> list[float]:
            scores = super()._dev_uar()
            found[-1].append(([weights_of(one) for one in self.replicas], scores))
            return scores

    monkeypatch.setattr(fit_module, "Training", Spy)
    return found


@pytest.mark.parametrize("together", [False, True])
def test_with_patience_the_weights_are_those_of_the_epoch_with_the_best_dev_score(
    histories: list[list[tuple[list[dict[str, Tensor]], list[float]]]], together: bool
) -> None:
    replicas, found = fitted(replicas_of(), replace(SETTINGS, patience=3), together)
    assert [one.best for one in found] != [11, 11, 11]  # so that stopping is seen
    for number, (replica, one) in enumerate(zip(replicas, found, strict=True)):
        history, place = (histories[0], number) if together else (histories[number], 0)
        scores = [scores[place] for _, scores in history]
        assert one.best == int(np.argmax(scores[: len(one.losses)]))
        assert len(one.losses) == min(one.best + 3, 11) + 1
        assert_close(history[one.best][0][place], weights_of(replica))
        dev = replica.dev["de"]
        said = predict(replica.model, "de", loader_of(), dev)[0].argmax(1)
        assert scores[one.best] == pytest.approx(100 * balanced_accuracy_score(LABELS[dev], said))


def test_stopping_early_together_equals_stopping_early_alone() -> None:
    replicas = replicas_of(4)
    settings = replace(SETTINGS, patience=2)
    (alone, expected), (together, found) = (fitted(replicas, settings, together) for together in (False, True))
    assert [one.best for one in found] == [one.best for one in expected]
    assert len({len(one.losses) for one in expected}) > 1  # they stop at different epochs
    for one, other in zip(alone, together, strict=True):
        assert_close(weights_of(one), weights_of(other))


def test_patience_without_dev_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="dev rows"):
        fitted(replicas_of(dev=False), replace(SETTINGS, patience=1), together=True)


def poisoned(monkeypatch: pytest.MonkeyPatch, number: int, at_step: int) -> None:
    """From a step on, the loss of one replica of each program is no number; with 4 steps an epoch."""

    def spoilt(losses: Tensor, step: Tensor) -> Tensor:
        factor = torch.ones_like(losses)
        if int(step) >= at_step and len(losses) > number:
            factor[number] = NAN
        return losses * factor

    class BadStacked(Stacked):
        def losses(self, *arguments: Any) -> Tensor:
            return spoilt(super().losses(*arguments), arguments[2])

    class BadSingle(Single):
        def losses(self, *arguments: Any) -> Tensor:
            return spoilt(super().losses(*arguments), arguments[2])

    monkeypatch.setattr(fit_module, "Stacked", BadStacked)
    monkeypatch.setattr(fit_module, "Single", BadSingle)


@pytest.mark.parametrize("patience", [0, 12])
def test_a_diverging_replica_keeps_an_epoch_before_and_disturbs_no_other(
    monkeypatch: pytest.MonkeyPatch, patience: int
) -> None:
    settings = replace(SETTINGS, patience=patience)
    healthy, fine = fitted(replicas_of(), settings, together=True)
    with monkeypatch.context() as patched:
        poisoned(patched, number=1, at_step=5)  # in the second step of the second epoch
        found, results = fitted(replicas_of(), settings, together=True)
    with monkeypatch.context() as patched:
        poisoned(patched, number=0, at_step=5)
        (alone,), (own,) = fitted(replicas_of()[1:2], settings, together=False)
    for number in (0, 2):
        assert all(torch.equal(a, b) for a, b in zip(
            weights_of(healthy[number]).values(), weights_of(found[number]).values(), strict=True
        ))  # fmt: skip
        assert results[number] == fine[number]
    assert (results[1].best, results[1].diverged) == (own.best, own.diverged) == (0, 1)
    np.testing.assert_allclose(results[1].losses, own.losses, rtol=1e-5)
    assert_close(weights_of(alone), weights_of(found[1]))
    assert all(value.isfinite().all() for value in weights_of(found[1]).values())


@pytest.mark.parametrize("together", [False, True])
def test_an_enormous_rate_ends_with_finite_weights_and_says_when(together: bool) -> None:
    settings = replace(SETTINGS, rate=1e200, mixture_rate=1e200)
    replicas, found = fitted(replicas_of(dev=False), settings, together)
    for replica, one in zip(replicas, found, strict=True):
        assert one.diverged is not None
        assert one.best == one.diverged - 1
        assert len(one.losses) == one.diverged
        assert all(value.isfinite().all() for value in weights_of(replica).values())


def test_a_training_whose_states_are_too_large_for_any_loss_keeps_the_weights_it_began_with() -> None:
    states = separable_states(LABELS.tolist())
    states[3] *= 1e30
    loader = Loader([expert_of(states)], torch.from_numpy(LABELS))
    (replica,) = replicas_of(1, dev=False)
    own = replace(replica, model=copy.deepcopy(replica.model).float(), rows={"de": ROWS})
    before = weights_of(own)
    (found,) = fit([own], {"de": loader}, {"de": ROWS}, SETTINGS)
    assert (found.losses, found.best, found.diverged) == ([], -1, 0)
    assert all(torch.equal(value, before[name]) for name, value in weights_of(own).items())
