"""Trainings that run as one program, against the same trainings one by one."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from toys import expert_of, separable_states, shapes

from mser.errors import RunError
from mser.heads import ACTIVATIONS, POOLINGS
from mser.loader import Loader
from mser.model import Domain, ModelSettings, MultiGateModel, Prior
from mser.nas.genotype import Genotype
from mser.nas.operations import OPERATIONS, make_operation
from train import fit as fit_module
from train.fit import FitSettings, Replica, fit, grouped, predict
from train.keeper import Fitted
from train.objective import LossSettings
from train.replicas import batchable

EMOTIONS = {"de": ("anger", "fear", "joy"), "it": ("anger", "joy")}
SIZES = {"de": 30, "it": 14}
PLAIN = Genotype({"e0": "skip", "e1": "linear"}, "mean", "constant", 1, 8)
SETTINGS = FitSettings(epochs=2, least_steps=1, batch_size=7, loss=LossSettings(contrastive="none"))
NOISELESS = ModelSettings(hidden=8, dropout=0.0)
SHARED = {"de": torch.tensor([0, 1, 2]), "it": torch.tensor([0, 2])}
BATCHABLE = [name for name in OPERATIONS if make_operation(name, 8).batchable]


def loaders(*languages: str) -> dict[str, Loader]:
    found = {}
    for number, language in enumerate(languages):
        labels = np.arange(SIZES[language]) % len(EMOTIONS[language])
        experts = [expert_of(separable_states(labels.tolist(), seed=5 * number + k)) for k in range(2)]
        found[language] = Loader(experts, torch.from_numpy(labels))
    return found


def replica(
    number: int,
    seed: int = 0,
    fold: int = 0,
    genotype: Genotype = PLAIN,
    languages: tuple[str, ...] = ("de",),
    settings: ModelSettings = NOISELESS,
    double: bool = True,
) -> Replica:
    """A training whose weights, mixtures and standard differ by ``number``, without one of three parts of the rows."""
    rng = torch.Generator().manual_seed(100 + number)
    prior = Prior(
        {name: torch.randn(2, generator=rng) for name in ("e0", "e1")},
        torch.randn(2, generator=rng),
        {name: (torch.randn(2, 4, generator=rng), 0.5 + torch.rand(2, 4, generator=rng)) for name in ("e0", "e1")},
    )
    torch.manual_seed(number)
    model = MultiGateModel([Domain(one, EMOTIONS[one], genotype, prior) for one in languages], shapes(2), settings)
    rows = {one: np.flatnonzero(np.arange(SIZES[one]) // 5 % 3 != fold) for one in languages}
    return Replica(model.double() if double else model, rows, seed)


def both_ways(
    replicas: list[Replica], settings: FitSettings, shared: Mapping[str, torch.Tensor] | None = None
) -> list[tuple[list[Replica], list[Fitted]]]:
    """The trainings one by one, and together."""
    languages = tuple(replicas[0].rows)
    population = {language: np.arange(SIZES[language]) for language in languages}
    found = []
    for together in (False, True):
        own = [replace(one, model=copy.deepcopy(one.model)) for one in replicas]
        found.append((own, fit(own, loaders(*languages), population, settings, shared, together)))
    return found


def assert_equal(replicas: list[Replica], settings: FitSettings, atol: float = 1e-9, shared: Any = None) -> None:
    """Checks that a training's weights do not depend on whether it is trained alone, and that it learned at all."""
    (alone, fitted_alone), (together, fitted) = both_ways(replicas, settings, shared)
    for begun, one, other in zip(replicas, alone, together, strict=True):
        before, expected, found = (each.model.state_dict() for each in (begun, one, other))
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=0, atol=atol, msg=lambda text, name=name: name + text)
        assert any(not torch.equal(before[name], value) for name, value in expected.items())
    for one, other in zip(fitted_alone, fitted, strict=True):
        np.testing.assert_allclose(other.losses, one.losses, rtol=1e-5)
        assert (other.best, other.diverged) == (one.best, one.diverged)


#: Folds and seeds of the replicas of one program: groups of two seeds, two folds each.
FOLDS_AND_SEEDS = [(fold, seed) for seed in (0, 5) for fold in (0, 2)]


def crossed(**arguments: Any) -> list[Replica]:
    return [replica(number, seed, fold, **arguments) for number, (fold, seed) in enumerate(FOLDS_AND_SEEDS)]


ALL_AT_ONCE = ModelSettings(hidden=8, dropout=0.4, temperature=0.7, frame_mask=0.5, feature_mask=0.3)
LOSSES = {
    "cross-entropy": {},
    "smoothing": {"label_smoothing": 0.1},
    "supcon": {"contrastive": "supcon"},
    "ge2e": {"contrastive": "ge2e"},
    "ge2e-truncated": {"contrastive": "ge2e-truncated"},
    "mixup": {"mixup": 0.5, "label_smoothing": 0.1},
    "gate balance": {"gate_balance": 0.1},
    "everything": {"contrastive": "supcon", "mixup": 0.4, "gate_balance": 0.1, "label_smoothing": 0.1},
}


def test_the_batches_of_the_seeds_are_padded_differently_here() -> None:
    loader, every = loaders("de")["de"], np.arange(SIZES["de"])
    longest = [
        [int(loader.gather(rows).states[0].shape[1]) for rows in loader.order(every, 5, seed, 0)] for seed in (0, 5)
    ]
    assert longest[0] != longest[1]


@pytest.mark.parametrize("loss", LOSSES)
def test_folds_and_seeds_trained_together_equal_those_trained_alone_with_every_loss(loss: str) -> None:
    settings = replace(SETTINGS, loss=LossSettings(**{"contrastive": "none", **LOSSES[loss]}))
    assert_equal(crossed(settings=ALL_AT_ONCE), settings)


@pytest.mark.parametrize("gate", ["none", "constant", "conditioned"])
def test_every_gate_trains_together_as_alone(gate: str) -> None:
    assert_equal(crossed(genotype=replace(PLAIN, gate=gate), settings=ALL_AT_ONCE), SETTINGS)


@pytest.mark.parametrize("loss", ["cross-entropy", "ge2e", "everything"])
def test_several_languages_in_one_model_train_together_as_alone(loss: str) -> None:
    settings = replace(SETTINGS, loss=LossSettings(**{"contrastive": "none", **LOSSES[loss]}))
    assert_equal(crossed(languages=("de", "it"), settings=ALL_AT_ONCE), settings, shared=SHARED)


@pytest.mark.parametrize("operation", BATCHABLE)
def test_every_operation_that_can_be_stacked_trains_together_as_alone(operation: str) -> None:
    genotype = replace(PLAIN, operations={"e0": "skip", "e1": operation})
    assert_equal(crossed(genotype=genotype), SETTINGS)


@pytest.mark.parametrize(("pooling", "activation"), [*zip(POOLINGS, itertools.cycle(ACTIVATIONS))])
def test_every_pooling_and_head_trains_together_as_alone(pooling: str, activation: str) -> None:
    genotype = replace(PLAIN, pooling=pooling, depth=2, activation=activation)
    assert_equal(crossed(genotype=genotype)[1:], SETTINGS)


def test_a_linear_head_trains_together_as_alone() -> None:
    assert_equal(crossed(genotype=replace(PLAIN, depth=0, width=0)), SETTINGS)


def test_languages_of_other_structures_train_together_as_alone() -> None:
    replicas = []
    for number in range(3):
        first, second = (replica(number, number, 0, languages=(one,)).model.domains[one] for one in ("de", "it"))
        other = replace(second, genotype=Genotype({"e0": "zero", "e1": "conv3"}, "max", "constant", 1, 5))
        torch.manual_seed(number)
        model = MultiGateModel([first, other], shapes(2), ALL_AT_ONCE).double()
        replicas.append(Replica(model, replica(0, languages=("de", "it")).rows, number))
    assert_equal(replicas, replace(SETTINGS, loss=LossSettings()), shared=SHARED)


def test_in_single_precision_they_agree_to_a_thousandth_in_probability() -> None:
    replicas = crossed(settings=ALL_AT_ONCE, double=False)
    settings = replace(SETTINGS, epochs=4, loss=LossSettings())
    said = [
        [predict(one.model, "de", loaders("de")["de"], np.arange(SIZES["de"]))[0] for one in own]
        for own, _ in both_ways(replicas, settings)
    ]
    np.testing.assert_allclose(said[1], said[0], atol=1e-3)


def test_more_languages_than_a_batch_has_room_for_give_steps_without_rows_of_one_and_agree_all_the_same() -> None:
    # Fourteen Italian rows in 22 steps, of which a fold counts nine.
    assert_equal(crossed(languages=("de", "it")), replace(SETTINGS, epochs=1, batch_size=2), shared=SHARED)


def test_trained_twice_together_gives_the_same_bits() -> None:
    found = []
    for _ in range(2):
        replicas = crossed(settings=ALL_AT_ONCE, double=False)
        fit(replicas, loaders("de"), {"de": np.arange(30)}, replace(SETTINGS, loss=LossSettings()), together=True)
        found.append([value for one in replicas for value in one.model.state_dict().values()])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


RECURRENT = replace(PLAIN, operations={"e0": "skip", "e1": "bigru"})


def test_what_cannot_be_stacked_is_trained_alone_to_its_own_result() -> None:
    replicas = [replica(number, fold=number, genotype=RECURRENT, double=False) for number in range(2)]
    assert not batchable(replicas[0].model)
    assert grouped(replicas) == [[0], [1]]
    (alone, _), (together, _) = both_ways(replicas, SETTINGS)
    for one, other in zip(alone, together, strict=True):
        for name, value in one.model.state_dict().items():
            assert torch.equal(other.model.state_dict()[name], value)


def test_other_structures_in_one_call_are_trained_to_their_own_results_in_the_order_given() -> None:
    conditioned = replace(PLAIN, gate="conditioned")
    replicas = [
        replica(0, 0, 0), replica(1, 0, 1, conditioned), replica(2, 5, 0), replica(3, 5, 2, RECURRENT),
        replica(4, 5, 1, conditioned), replica(5, 0, 2), replica(6, 7, 1),
    ]  # fmt: skip
    assert sorted(number for group in grouped(replicas) for number in group) == list(range(7))
    assert_equal(replicas, SETTINGS)
    (_, alone), (_, together) = both_ways(replicas, SETTINGS)
    losses = [one.losses[0] for one in alone]
    assert len(set(np.round(losses, 6))) == len(losses)  # so that a wrong order would be seen
    np.testing.assert_allclose([one.losses[0] for one in together], losses, rtol=1e-5)


def test_a_program_holds_replicas_of_one_structure_with_as_many_of_every_seed() -> None:
    replicas = [replica(number, seed) for number, seed in enumerate([0, 1, 0, 1, 2])]
    other = [replica(5, 0, genotype=replace(PLAIN, width=4)), replica(6, 1, genotype=replace(PLAIN, width=4))]
    assert sorted(map(sorted, grouped([*replicas, *other]))) == [[0, 1, 2, 3], [4], [5, 6]]


def test_replicas_of_one_program_run_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    class Spy(fit_module.Stacked):
        def __init__(self, objectives: Any, *arguments: Any) -> None:
            sizes.append(len(objectives))
            super().__init__(objectives, *arguments)

    monkeypatch.setattr(fit_module, "Stacked", Spy)
    fit(crossed(), loaders("de"), {"de": np.arange(30)}, replace(SETTINGS, epochs=1), together=True)
    assert sizes == [4]


@pytest.mark.cuda
def test_on_a_cuda_device_replicas_agree_with_those_alone_on_a_cpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    replicas = crossed(settings=ALL_AT_ONCE)
    moved = [replace(one, model=copy.deepcopy(one.model)) for one in replicas]
    on_device = {name: Loader(one.experts, one.labels, "cuda") for name, one in loaders("de").items()}
    for own, where, together in ((replicas, loaders("de"), False), (moved, on_device, True)):
        fit(own, where, {"de": np.arange(30)}, replace(SETTINGS, loss=LossSettings()), together=together)
    for one, other in zip(replicas, moved, strict=True):
        for name, value in one.model.state_dict().items():
            torch.testing.assert_close(other.model.state_dict()[name].cpu(), value, rtol=0, atol=1e-8)


def test_trainings_that_do_not_fit_together_are_halved_and_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def all_of_them() -> list[Replica]:
        return [
            replica(number, seed=seed, fold=fold)
            for number, (seed, fold) in enumerate(itertools.product(range(2), range(3)))
        ]

    own, rows = loaders("de"), {"de": np.arange(SIZES["de"])}
    expected = all_of_them()
    fit(expected, own, rows, SETTINGS, together=True)
    sizes: list[int] = []
    plain = fit_module.Training.run

    def too_small(training: fit_module.Training) -> list[Fitted]:
        sizes.append(len(training.replicas))
        found = plain(training)
        if len(training.replicas) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")
        return found

    monkeypatch.setattr(fit_module.Training, "run", too_small)
    found = all_of_them()
    with pytest.warns(UserWarning, match="6 trainings do not fit"):
        fitted = fit(found, own, rows, SETTINGS, together=True)
    assert sizes[0] == 6
    assert all(one.diverged is None for one in fitted)
    for one, other in zip(found, expected, strict=True):
        for value, wanted in zip(one.model.parameters(), other.model.parameters(), strict=True):
            torch.testing.assert_close(value, wanted, rtol=1e-9, atol=1e-9)


def test_one_training_that_does_not_fit_is_an_error_that_says_what_to_change(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(training: fit_module.Training) -> list[Fitted]:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")

    monkeypatch.setattr(fit_module.Training, "run", never)
    with (
        pytest.warns(RuntimeWarning, match="'streamed' from now on"),
        pytest.raises(RunError, match="too small for one training") as error,
    ):
        fit([replica(0)], loaders("de"), {"de": np.arange(SIZES["de"])}, SETTINGS)
    assert "DEVICE=cpu" in (error.value.hint or "")


def test_one_training_that_does_not_fit_moves_its_states_and_ends_as_if_it_had_fitted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows, expected = {"de": np.arange(SIZES["de"])}, replica(0)
    fit([expected], loaders("de"), rows, SETTINGS)
    plain, own, found = fit_module.Training.run, loaders("de"), replica(0)

    def too_small(training: fit_module.Training) -> list[Fitted]:
        done = plain(training)  # so that the weights have changed when it turns out that there is no room
        if training.loaders["de"].placement == "memory":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")
        return done

    monkeypatch.setattr(fit_module.Training, "run", too_small)
    with pytest.warns(RuntimeWarning, match="'streamed' from now on"):
        fit([found], own, rows, SETTINGS)
    assert own["de"].placement == "streamed"
    for value, wanted in zip(found.model.parameters(), expected.model.parameters(), strict=True):
        assert torch.equal(value, wanted)
