"""Training on small languages made to be learned, and what it reads."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss
from sklearn.utils.class_weight import compute_sample_weight
from torch import Tensor
from toys import RecordingLoader, expert_of, separable_states, shapes

from mser.errors import ConfigError, RunError
from mser.model import Domain, ModelSettings, MultiGateModel, Prior
from mser.nas.genotype import Genotype
from train import fit as fit_module
from train.fit import FitSettings, fit, predict

EMOTIONS = ("anger", "fear", "joy")
LABELS = np.arange(48) % 3
TRAIN, TEST = np.arange(36), np.arange(36, 48)
FIXED = Genotype({"e0": "skip"}, "mean", "constant", 1, 8)
QUICK = FitSettings(epochs=2, least_steps=1, batch_size=8)


def loader_of(labels: np.ndarray = LABELS, seed: int = 0) -> RecordingLoader:
    return RecordingLoader([expert_of(separable_states(labels.tolist(), seed=seed))], torch.from_numpy(labels))


def model_of(*languages: str, genotype: Genotype = FIXED, dropout: float = 0.2) -> MultiGateModel:
    """A new model; from here on, the random numbers are the same too."""
    torch.manual_seed(0)
    domains = [Domain(language, EMOTIONS, genotype, Prior.uniform(shapes(1))) for language in languages or ("de",)]
    return MultiGateModel(domains, shapes(1), ModelSettings(hidden=8, dropout=dropout))


def trained(settings: FitSettings = QUICK, seed: int = 0) -> np.ndarray:
    """Probabilities of the test rows after training."""
    model, loader = model_of(), loader_of()
    fit(model, {"de": loader}, {"de": TRAIN}, settings, seed)
    return predict(model, "de", loader, TEST)[0]


@pytest.mark.parametrize("contrastive", ["none", "supcon", "ge2e"])
def test_a_separable_language_is_learned(contrastive: str) -> None:
    settings = FitSettings(epochs=1, least_steps=150, batch_size=12, rate=1e-2, contrastive=contrastive)
    model, loader = model_of(), loader_of()
    losses = fit(model, {"de": loader}, {"de": TRAIN}, settings, 0)
    assert len(losses) == 50  # of three steps each
    assert losses[-1] < 0.5 * losses[0]
    probabilities, gate = predict(model, "de", loader, TEST)
    assert (probabilities.argmax(1) == LABELS[TEST]).all()
    assert (gate == 1).all()


def test_the_same_seed_gives_the_same_predictions_and_another_seed_others() -> None:
    first = trained()
    np.testing.assert_array_equal(trained(), first)
    assert not np.array_equal(trained(seed=1), first)


def test_the_contrastive_loss_and_its_weight_matter() -> None:
    settings = [
        replace(QUICK, contrastive=kind, contrastive_weight=weight)
        for kind, weight in [("none", 1.0), ("supcon", 1.0), ("ge2e", 1.0), ("supcon", 0.5)]
    ]
    found = [trained(one) for one in settings]
    assert all(not np.array_equal(a, b) for number, a in enumerate(found) for b in found[:number])
    np.testing.assert_allclose(trained(replace(settings[1], contrastive_weight=0.0)), found[0], atol=1e-6)


def test_an_unknown_contrastive_loss_is_refused() -> None:
    with pytest.raises(ConfigError, match="supcon, ge2e or none"):
        FitSettings(contrastive="triplet")


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_is_the_balanced_cross_entropy_of_scikit_learn(smoothing: float) -> None:
    labels = np.array([0, 0, 0, 0, 1, 1, 2, 0, 0, 1])
    model, loader = model_of(dropout=0.0), loader_of(labels)
    before, _ = predict(model, "de", loader, np.arange(10))
    settings = replace(QUICK, epochs=1, batch_size=10, contrastive="none", label_smoothing=smoothing)
    (found,) = fit(model, {"de": loader}, {"de": np.arange(10)}, settings, 0)
    weights = compute_sample_weight("balanced", labels)
    expected = log_loss(labels, before, sample_weight=weights)
    if smoothing:
        # Each class's loss counts with its own weight, over the weights of the true classes (PyTorch's definition).
        by_class = compute_sample_weight("balanced", labels)[[0, 4, 6]]
        uniform = -(np.log(before) * by_class).sum() / 3 / weights.sum()
        expected = (1 - smoothing) * expected + smoothing * uniform
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_languages_count_by_their_utterances() -> None:
    labels = {"de": np.arange(12) % 3, "it": np.arange(3)}
    loaders = {language: loader_of(own) for language, own in labels.items()}
    rows = {language: np.arange(len(own)) for language, own in labels.items()}
    model = model_of("de", "it", dropout=0.0)
    before = {language: predict(model, language, loaders[language], rows[language])[0] for language in labels}
    settings = replace(QUICK, epochs=1, batch_size=15, contrastive="none")
    (found,) = fit(model, loaders, rows, settings, 0)
    summed = sum(log_loss(own, before[language]) * len(own) for language, own in labels.items())
    np.testing.assert_allclose(found, summed / 15, rtol=1e-5)


def epochs_of(loader: RecordingLoader, rows: np.ndarray, epochs: int) -> None:
    """Checks that the loader gave each of the rows once an epoch, and no other."""
    gathered = [row for batch in loader.gathered for row in batch]
    assert len(gathered) == epochs * len(rows)
    for epoch in range(epochs):
        assert Counter(gathered[epoch * len(rows) : (epoch + 1) * len(rows)]) == Counter(rows.tolist())


@pytest.mark.parametrize(
    ("german", "italian", "batch_size"), [(36, 20, 8), (40, 3, 8), (46, 33, 1), (48, 35, 2), (5, 5, 64)]
)
def test_every_row_of_every_language_is_trained_on_once_an_epoch(german: int, italian: int, batch_size: int) -> None:
    loaders = {"de": loader_of(), "it": loader_of(seed=1)}
    rows = {"de": np.arange(48)[-german:], "it": np.arange(italian)}
    fit(model_of("de", "it"), loaders, rows, replace(QUICK, batch_size=batch_size), 0)
    for language, chosen in rows.items():
        epochs_of(loaders[language], chosen, epochs=2)


@pytest.mark.parametrize("steps", [41, 61, 64, 67])
def test_as_many_steps_as_asked_for_cover_every_row(steps: int) -> None:
    # Lengths are sorted within pools of about 20 batches, which need not divide the batches evenly.
    loader = loader_of(np.arange(2 * steps - 1) % 3)
    rows = np.arange(2 * steps - 1)
    fit(model_of(), {"de": loader}, {"de": rows}, replace(QUICK, batch_size=2, contrastive="none"), 0)
    epochs_of(loader, rows, epochs=2)
    assert len(loader.gathered) == 2 * steps


def test_epochs_are_added_until_the_least_steps_are_done() -> None:
    loader = loader_of()
    losses = fit(model_of(), {"de": loader}, {"de": TRAIN}, replace(QUICK, least_steps=12), 0)
    assert len(losses) == 3  # of five steps each
    epochs_of(loader, TRAIN, epochs=3)


def test_test_rows_are_neither_read_nor_of_influence() -> None:
    expected = trained()
    states = separable_states(LABELS.tolist())
    clean = [x.clone() for x in states]
    for row in TEST:
        states[row].fill_(float("nan"))
    labels = torch.from_numpy(LABELS).clone()
    labels[TEST] = 77
    model, loader = model_of(), RecordingLoader([expert_of(states)], labels)
    fit(model, {"de": loader}, {"de": TRAIN}, QUICK, 0)
    assert not {row for batch in loader.gathered for row in batch} & set(TEST.tolist())
    found, _ = predict(model, "de", RecordingLoader([expert_of(clean)], labels), TEST)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("shared", [False, True])
def test_the_contrastive_loss_sees_both_languages_by_their_shared_emotions(
    monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    seen: list[Tensor] = []

    class Spy(torch.nn.Module):
        def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
            assert len(embeddings) == len(labels)
            seen.append(labels)
            return embeddings.sum() * 0.0

    monkeypatch.setattr(fit_module, "SupervisedContrastiveLoss", Spy)
    among_all = {"de": torch.tensor([0, 2, 4]), "it": torch.tensor([0, 1, 3])} if shared else None
    loaders = {"de": loader_of(), "it": loader_of(seed=1)}
    rows = {"de": np.arange(9), "it": np.arange(6)}
    settings = replace(QUICK, epochs=1, batch_size=15)
    fit(model_of("de", "it"), loaders, rows, settings, 0, among_all)
    (labels,) = seen
    expected = Counter({0: 5, 2: 3, 4: 3, 1: 2, 3: 2}) if shared else Counter({0: 5, 1: 5, 2: 5})
    assert Counter(labels.tolist()) == expected


def test_languages_with_heads_of_other_widths_train_together() -> None:
    torch.manual_seed(0)
    wide = replace(FIXED, width=16)
    domains = [Domain(one, EMOTIONS, own, Prior.uniform(shapes(1))) for one, own in [("de", FIXED), ("it", wide)]]
    model = MultiGateModel(domains, shapes(1), ModelSettings(hidden=8))
    losses = fit(model, {"de": loader_of(), "it": loader_of()}, {"de": TRAIN, "it": TRAIN}, QUICK, 0)
    assert np.isfinite(losses).all()


def test_mixtures_have_a_rate_of_their_own() -> None:
    model, loader = model_of(), loader_of()
    fit(model, {"de": loader}, {"de": TRAIN}, replace(QUICK, epochs=1, rate=0.0, mixture_rate=0.1), 0)
    fresh = dict(model_of().named_parameters())
    moved = {name for name, value in model.named_parameters() if not torch.equal(value, fresh[name])}
    assert moved == {"networks.lang_de.mixes.0.logits"}  # the gate of one expert has nothing to weigh


def test_states_that_are_not_finite_are_an_error() -> None:
    states = separable_states(LABELS.tolist())
    states[3][:, 0] = float("nan")
    loader = RecordingLoader([expert_of(states)], torch.from_numpy(LABELS))
    with pytest.raises(RunError, match="loss of epoch 0") as error:
        fit(model_of(), {"de": loader}, {"de": TRAIN}, QUICK, 0)
    assert "make verify" in (error.value.hint or "")


def test_predictions_are_those_of_each_utterance_alone_in_the_order_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit_module, "PREDICTION_BATCH", 4)
    model, loader = model_of().train(), loader_of()
    rows = np.array([40, 3, 17, 2, 30, 11, 9, 25, 1])
    probabilities, gate = predict(model, "de", loader, rows)
    alone = [predict(model, "de", loader, rows[place : place + 1])[0][0] for place in range(len(rows))]
    np.testing.assert_allclose(probabilities, alone, atol=1e-6)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-6)
    assert gate.shape == (9, 1)


def test_training_goes_on_after_predicting_a_larger_batch() -> None:
    model, loader = model_of(), loader_of()
    predict(model, "de", loader, np.arange(48))
    assert np.isfinite(fit(model, {"de": loader}, {"de": TRAIN}, QUICK, 0)).all()
