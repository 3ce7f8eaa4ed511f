"""Training on small languages made to be learned, and what it reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss
from sklearn.utils.class_weight import compute_sample_weight
from torch import Tensor
from toys import RecordingLoader, expert_of, separable_states, shapes

from mser.errors import ConfigError
from mser.loader import Batch
from mser.model import Domain, ModelSettings, MultiGateModel, Prior
from mser.nas.genotype import Genotype
from train import fit as fit_module
from train import objective
from train.fit import FitSettings, Replica, fit, predict
from train.keeper import Fitted
from train.objective import LossSettings, Objective

EMOTIONS = ("anger", "fear", "joy")
LABELS = np.arange(48) % 3
TRAIN, TEST = np.arange(36), np.arange(36, 48)
FIXED = Genotype({"e0": "skip"}, "mean", "constant", 1, 8)
PLAIN = LossSettings(contrastive="none")
QUICK = FitSettings(epochs=2, least_steps=1, batch_size=8)


def loader_of(labels: np.ndarray = LABELS, seed: int = 0) -> RecordingLoader:
    return RecordingLoader([expert_of(separable_states(labels.tolist(), seed=seed))], torch.from_numpy(labels))


def model_of(*languages: str, genotype: Genotype = FIXED, dropout: float = 0.2) -> MultiGateModel:
    """A model whose weights are the same each time."""
    torch.manual_seed(0)
    domains = [Domain(language, EMOTIONS, genotype, Prior.uniform(shapes(1))) for language in languages or ("de",)]
    return MultiGateModel(domains, shapes(1), ModelSettings(hidden=8, dropout=dropout))


def fit_one(
    model: MultiGateModel,
    loaders: Mapping[str, RecordingLoader],
    rows: Mapping[str, np.ndarray],
    settings: FitSettings = QUICK,
    seed: int = 0,
    shared: Mapping[str, Tensor] | None = None,
) -> Fitted:
    """Trains one model on all rows of its population."""
    (found,) = fit([Replica(model, rows, seed)], loaders, rows, settings, shared)
    return found


def trained(settings: FitSettings = QUICK, seed: int = 0) -> np.ndarray:
    """Probabilities of the test rows after training."""
    model, loader = model_of(), loader_of()
    fit_one(model, {"de": loader}, {"de": TRAIN}, settings, seed)
    return predict(model, "de", loader, TEST)[0]


def with_loss(settings: FitSettings = QUICK, **changes: Any) -> FitSettings:
    return replace(settings, loss=replace(settings.loss, **changes))


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, list[int]]]:
    """The rows that each step of a single training counts, by language."""
    steps: list[dict[str, list[int]]] = []

    class Spy(Objective):
        def forward(
            self, batches: Mapping[str, Batch], counted: Mapping[str, Tensor], seed: Tensor, step: Tensor
        ) -> Tensor:
            steps.append({name: batch.rows[counted[name] > 0].tolist() for name, batch in batches.items()})
            return super().forward(batches, counted, seed, step)

    monkeypatch.setattr(fit_module, "Objective", Spy)
    return steps


def each_once_an_epoch(steps: list[dict[str, list[int]]], language: str, rows: np.ndarray, epochs: int) -> None:
    """Checks that each row counted once an epoch, and no other row did."""
    seen = [row for step in steps for row in step.get(language, [])]
    assert len(seen) == epochs * len(rows)
    for epoch in range(epochs):
        assert Counter(seen[epoch * len(rows) : (epoch + 1) * len(rows)]) == Counter(rows.tolist())


@pytest.mark.parametrize(
    ("contrastive", "left"), [("none", 0.5), ("supcon", 0.7), ("ge2e", 0.7), ("ge2e-truncated", 0.7)]
)
def test_a_separable_language_is_learned(contrastive: str, left: float) -> None:
    settings = FitSettings(
        epochs=1, least_steps=150, batch_size=12, rate=1e-2, loss=LossSettings(contrastive=contrastive)
    )
    model, loader = model_of(), loader_of()
    found = fit_one(model, {"de": loader}, {"de": TRAIN}, settings)
    assert len(found.losses) == 50  # of three steps each
    assert found.losses[-1] < left * found.losses[0]  # a contrastive loss does not fall to 0
    assert (found.best, found.diverged) == (49, None)
    probabilities, gate = predict(model, "de", loader, TEST)
    assert (probabilities.argmax(1) == LABELS[TEST]).all()
    assert (gate == 1).all()


def test_the_same_seed_gives_the_same_predictions_and_another_seed_others() -> None:
    first = trained()
    np.testing.assert_array_equal(trained(), first)
    assert not np.array_equal(trained(seed=1), first)


def test_the_contrastive_loss_and_its_weight_matter() -> None:
    kinds = [("none", 1.0), ("supcon", 1.0), ("ge2e", 1.0), ("ge2e-truncated", 1.0), ("supcon", 0.5)]
    settings = [with_loss(contrastive=kind, contrastive_weight=weight) for kind, weight in kinds]
    found = [trained(one) for one in settings]
    assert all(not np.array_equal(a, b) for number, a in enumerate(found) for b in found[:number])
    np.testing.assert_allclose(trained(with_loss(settings[1], contrastive_weight=0.0)), found[0], atol=1e-6)


@pytest.mark.parametrize("change", [{"label_smoothing": 0.2}, {"mixup": 0.5}, {"balanced": False}], ids=str)
def test_every_setting_of_the_loss_matters(change: dict[str, Any]) -> None:
    loader, rows = loader_of(), np.flatnonzero((LABELS > 0) | (np.arange(48) < 9))
    found = []
    for loss in (PLAIN, replace(PLAIN, **change)):
        model = model_of(dropout=0.0)
        fit_one(model, {"de": loader}, {"de": rows}, replace(QUICK, loss=loss))
        found.append(predict(model, "de", loader, TEST)[0])
    assert not np.allclose(found[0], found[1], atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "change", "named"),
    [
        (LossSettings, {"contrastive": "triplet"}, "supcon ge2e ge2e-truncated none"),
        (LossSettings, {"mixup": 0.6}, "mixup"),
        (LossSettings, {"mixup": -0.1}, "mixup"),
        (FitSettings, {"epochs": 0}, "epochs"),
        (FitSettings, {"batch_size": 0}, "batch_size"),
        (FitSettings, {"patience": -1}, "patience"),
    ],
)
def test_settings_that_make_no_sense_are_refused(kind: type, change: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        kind(**change)


UNEVEN = np.array([0, 0, 0, 0, 1, 1, 2, 0, 0, 1])


def first_loss(model: MultiGateModel, loader: RecordingLoader, loss: LossSettings, batch_size: int = 10) -> float:
    """The loss of the first epoch, in which no weight moves."""
    settings = replace(QUICK, epochs=1, batch_size=batch_size, rate=0.0, mixture_rate=0.0, loss=loss)
    return fit_one(model, {"de": loader}, {"de": np.arange(10)}, settings).losses[0]


@pytest.mark.parametrize("balanced", [True, False])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("batch_size", [10, 3])
def test_the_loss_of_an_epoch_is_the_cross_entropy_of_scikit_learn_however_it_is_cut(
    smoothing: float, balanced: bool, batch_size: int
) -> None:
    model, loader = model_of(dropout=0.0), loader_of(UNEVEN)
    before, _ = predict(model, "de", loader, np.arange(10))
    found = first_loss(
        model, loader, replace(PLAIN, label_smoothing=smoothing, balanced=balanced), batch_size=batch_size
    )
    weights = compute_sample_weight("balanced" if balanced else None, UNEVEN)
    # A sample weighs as much as its true class, for the smoothed part too.
    spread = (weights * -np.log(before).mean(1)).sum() / weights.sum()
    expected = (1 - smoothing) * log_loss(UNEVEN, before, sample_weight=weights) + smoothing * spread
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_mixup_is_the_cross_entropy_against_targets_mixed_like_the_embeddings(monkeypatch: pytest.MonkeyPatch) -> None:
    partners = torch.eye(10) * 0.7 + torch.eye(10).roll(1, 0) * 0.3
    monkeypatch.setattr(objective, "draw_partners", lambda noise, counted, strength: partners)
    model, loader = model_of(dropout=0.0), loader_of(UNEVEN)
    (rows,) = loader.order(np.arange(10), 1, 0, 0)
    with torch.no_grad():
        said = model("de", loader.gather(rows), None, partners).logits.log_softmax(1).numpy()
    weights = compute_sample_weight("balanced", UNEVEN)[rows]
    targets = partners.numpy() @ np.eye(3)[UNEVEN[rows]]
    expected = -(weights[:, None] * targets * said).sum() / 10
    np.testing.assert_allclose(first_loss(model, loader, replace(PLAIN, mixup=0.5)), expected, rtol=1e-5)


def test_balancing_the_gates_adds_their_imbalance() -> None:
    two = Genotype({"e0": "skip", "e1": "skip"}, "mean", "constant", 1, 8)
    prior = replace(Prior.uniform(shapes(2)), experts=torch.tensor([0.0, 1.5]))
    labels = torch.from_numpy(UNEVEN)
    experts = [expert_of(separable_states(UNEVEN.tolist(), seed=seed)) for seed in (0, 1)]
    torch.manual_seed(0)
    model = MultiGateModel([Domain("de", EMOTIONS, two, prior)], shapes(2), ModelSettings(hidden=8, dropout=0.0))
    loader = RecordingLoader(experts, labels)
    gate = predict(model, "de", loader, np.arange(10))[1].astype(np.float64)
    plain, balanced = (first_loss(model, loader, replace(PLAIN, gate_balance=factor)) for factor in (0.0, 0.3))
    expected = 0.3 * (gate.mean(0).std() / gate.mean(0).mean()) ** 2
    np.testing.assert_allclose(balanced - plain, expected, rtol=1e-4)


def test_languages_count_by_their_utterances() -> None:
    labels = {"de": np.arange(12) % 3, "it": np.arange(3)}
    loaders = {language: loader_of(own) for language, own in labels.items()}
    rows = {language: np.arange(len(own)) for language, own in labels.items()}
    model = model_of("de", "it", dropout=0.0)
    before = {language: predict(model, language, loaders[language], rows[language])[0] for language in labels}
    found = fit_one(model, loaders, rows, replace(QUICK, epochs=1, batch_size=15, loss=PLAIN))
    summed = sum(log_loss(own, before[language]) * len(own) for language, own in labels.items())
    np.testing.assert_allclose(found.losses[0], summed / 15, rtol=1e-5)


@pytest.mark.parametrize(
    ("german", "italian", "batch_size"), [(36, 20, 8), (40, 3, 8), (46, 33, 1), (48, 35, 2), (5, 5, 64)]
)
def test_every_row_of_every_language_is_trained_on_once_an_epoch(
    counted: list[dict[str, list[int]]], german: int, italian: int, batch_size: int
) -> None:
    loaders = {"de": loader_of(), "it": loader_of(seed=1)}
    rows = {"de": np.arange(48)[-german:], "it": np.arange(italian)}
    fit_one(model_of("de", "it"), loaders, rows, replace(QUICK, batch_size=batch_size))
    for language, chosen in rows.items():
        each_once_an_epoch(counted, language, chosen, epochs=2)


@pytest.mark.parametrize("steps", [41, 61, 64, 67])
def test_as_many_steps_as_asked_for_cover_every_row(counted: list[dict[str, list[int]]], steps: int) -> None:
    # Lengths are sorted within pools of about 20 batches, which need not divide the batches evenly.
    rows = np.arange(2 * steps - 1)
    fit_one(model_of(), {"de": loader_of(rows % 3)}, {"de": rows}, replace(QUICK, batch_size=2, loss=PLAIN))
    each_once_an_epoch(counted, "de", rows, epochs=2)
    assert len(counted) == 2 * steps


def test_epochs_are_added_until_the_least_steps_are_done(counted: list[dict[str, list[int]]]) -> None:
    found = fit_one(model_of(), {"de": loader_of()}, {"de": TRAIN}, replace(QUICK, least_steps=12))
    assert len(found.losses) == 3  # of five steps each
    each_once_an_epoch(counted, "de", TRAIN, epochs=3)


def test_batches_are_cut_from_the_whole_population_and_a_training_counts_its_own_rows_of_them(
    counted: list[dict[str, list[int]]],
) -> None:
    loader, every = loader_of(), np.arange(48)
    fit([Replica(model_of(), {"de": TRAIN}, 3)], {"de": loader}, {"de": every}, QUICK)
    expected = [
        sorted(set(rows.tolist()) & set(TRAIN.tolist()))
        for epoch in (0, 1)
        for rows in loader.order(every, 6, 3, epoch)
    ]
    assert [sorted(step["de"]) for step in counted] == expected


def other_tests() -> RecordingLoader:
    """The loader of another language that differs in the states and labels of the test rows alone."""
    states, labels = separable_states(LABELS.tolist()), torch.from_numpy(LABELS).clone()
    for row in TEST:
        states[row] = 50 * torch.randn(states[row].shape, generator=torch.Generator().manual_seed(int(row)))
    labels[TEST] = (labels[TEST] + 1) % 3
    return RecordingLoader([expert_of(states)], labels)


@pytest.mark.parametrize("loss", [LossSettings(), LossSettings(mixup=0.5, gate_balance=0.1)], ids=["plain", "mixed"])
@pytest.mark.parametrize("together", [False, True])
def test_test_rows_are_of_no_influence(loss: LossSettings, together: bool) -> None:
    found = []
    for loader in (loader_of(), other_tests()):
        # Together with a training that does train on them.
        replicas = [Replica(model_of(), {"de": rows}, 0) for rows in (TRAIN, np.arange(12, 48))]
        settings = replace(QUICK, loss=loss)
        fit(replicas, {"de": loader}, {"de": np.arange(48)}, settings, together=together)
        found.append(predict(replicas[0].model, "de", loader_of(), TEST)[0])
    np.testing.assert_array_equal(found[0], found[1])


def test_a_training_alone_does_not_read_test_rows() -> None:
    loader = loader_of()
    fit([Replica(model_of(), {"de": TRAIN}, 0)], {"de": loader}, {"de": np.arange(48)}, QUICK)
    assert {row for batch in loader.gathered for row in batch} == set(TRAIN.tolist())


@pytest.mark.parametrize("shared", [False, True])
def test_the_contrastive_loss_sees_both_languages_by_their_shared_emotions(
    monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    seen: list[Tensor] = []

    class Spy(torch.nn.Module):
        def forward(self, embeddings: Tensor, labels: Tensor, counted: Tensor) -> Tensor:
            assert len(embeddings) == len(labels) == len(counted)
            seen.append(labels)
            return embeddings.sum() * 0.0

    monkeypatch.setattr(objective, "SupervisedContrastiveLoss", Spy)
    among_all = {"de": torch.tensor([0, 2, 4]), "it": torch.tensor([0, 1, 3])} if shared else None
    loaders = {"de": loader_of(), "it": loader_of(seed=1)}
    rows = {"de": np.arange(9), "it": np.arange(6)}
    fit_one(model_of("de", "it"), loaders, rows, replace(QUICK, epochs=1, batch_size=15), shared=among_all)
    (labels,) = seen
    expected = Counter({0: 5, 2: 3, 4: 3, 1: 2, 3: 2}) if shared else Counter({0: 5, 1: 5, 2: 5})
    assert Counter(labels.tolist()) == expected


def test_languages_with_heads_of_other_widths_train_together() -> None:
    torch.manual_seed(0)
    wide = replace(FIXED, width=16)
    domains = [Domain(one, EMOTIONS, own, Prior.uniform(shapes(1))) for one, own in [("de", FIXED), ("it", wide)]]
    model = MultiGateModel(domains, shapes(1), ModelSettings(hidden=8))
    found = fit_one(model, {"de": loader_of(), "it": loader_of()}, {"de": TRAIN, "it": TRAIN})
    assert np.isfinite(found.losses).all()


def test_mixtures_have_a_rate_of_their_own() -> None:
    model, loader = model_of(), loader_of()
    fit_one(model, {"de": loader}, {"de": TRAIN}, replace(QUICK, epochs=1, rate=0.0, mixture_rate=0.1))
    fresh = dict(model_of().named_parameters())
    moved = {name for name, value in model.named_parameters() if not torch.equal(value, fresh[name])}
    assert moved == {"networks.lang_de.mixes.0.logits"}  # the gate of one expert has nothing to weigh


def test_predictions_are_those_of_each_utterance_alone_in_the_order_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit_module, "PREDICTION_BATCH", 4)
    model, loader = model_of(), loader_of()
    rows = np.array([40, 3, 17, 2, 30, 11, 9, 25, 1])
    probabilities, gate = predict(model, "de", loader, rows)
    alone = [predict(model, "de", loader, rows[place : place + 1])[0][0] for place in range(len(rows))]
    np.testing.assert_allclose(probabilities, alone, atol=1e-6)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-6)
    assert gate.shape == (9, 1)


def test_training_goes_on_after_predicting_a_larger_batch() -> None:
    model, loader = model_of(), loader_of()
    predict(model, "de", loader, np.arange(48))
    assert np.isfinite(fit_one(model, {"de": loader}, {"de": TRAIN}).losses).all()


def test_training_leaves_the_random_generators_as_they_were() -> None:
    model = model_of()
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    fit_one(model, {"de": loader_of()}, {"de": TRAIN})
    assert torch.equal(torch.get_rng_state(), state)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)


def pair_of(trunk: float | None, together: bool = False, settings: FitSettings = QUICK) -> list[dict[str, Tensor]]:
    """Weights of two models of two languages after training with a rate of their own for the projections."""
    loaders = {"de": loader_of(), "it": loader_of(seed=1)}
    rows = dict.fromkeys(loaders, TRAIN)
    replicas = [Replica(model_of("de", "it"), rows, seed) for seed in (0, 1)]
    more = {} if trunk is None else {"trunk": trunk}
    fit(replicas, loaders, rows, settings, together=together, **more)  # type: ignore[arg-type]
    return [one.model.state_dict() for one in replicas]


@pytest.mark.parametrize("together", [False, True])
def test_a_trunk_at_no_rate_stays_bit_for_bit_and_all_else_is_trained(together: bool) -> None:
    before = model_of("de", "it").state_dict()
    for found in pair_of(0.0, together):
        trained_names = {name for name, value in found.items() if not torch.equal(value, before[name])}
        assert not [name for name in trained_names if name.startswith("projections.")]
        # A gate over one expert has nothing to learn, and a language's standard is no parameter.
        still = ("gate.logits", "shift", "scale")
        assert trained_names == {
            name for name in before if not name.startswith("projections.") and not name.endswith(still)
        }


@pytest.mark.parametrize("together", [False, True])
def test_a_trunk_at_the_whole_rate_is_the_default_bit_for_bit(together: bool) -> None:
    for found, default in zip(pair_of(1.0, together), pair_of(None, together), strict=True):
        assert all(torch.equal(value, default[name]) for name, value in found.items())


def test_a_trunk_at_a_tenth_of_the_rate_goes_a_tenth_of_a_step() -> None:
    one_step = replace(QUICK, epochs=1, batch_size=72)
    before = model_of("de", "it").state_dict()
    tenth, whole = (pair_of(trunk, settings=one_step)[0] for trunk in (0.1, 1.0))
    for name, value in before.items():
        if name.startswith("projections."):
            torch.testing.assert_close(tenth[name] - value, 0.1 * (whole[name] - value), rtol=1e-3, atol=1e-7)
            assert not torch.equal(whole[name], value)
        else:
            assert torch.equal(tenth[name], whole[name])
