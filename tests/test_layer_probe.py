"""Probes of single layers: all at once against each by itself, and the layer that dev speakers choose."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import recall_score
from torch import nn
from toy_tasks import cross_tasks, toy_languages, within_tasks

from mser.errors import ConfigError
from mser.metrics import score
from train.benchmark.cells import Asked
from train.systems.descent import Steps
from train.systems.layer_probe import LayerProbe, StackedProbes, recalls, stacked_cross_entropy
from train.systems.task import Language

QUICK = LayerProbe(hidden=16, steps=Steps(epochs=20, batch_size=8, rate=1e-2))


@pytest.fixture(scope="module")
def languages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Language]:
    return toy_languages(tmp_path_factory.mktemp("toys"))


def probe_of(stacked: StackedProbes, layer: int) -> nn.Sequential:
    """One layer's probe as the paper's code has it, of modules of torch."""
    features, hidden = stacked.first.shape[1:]
    alone = nn.Sequential(nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, stacked.second.shape[2]))
    pairs = ((alone[0], stacked.first, stacked.first_bias), (alone[2], stacked.second, stacked.second_bias))
    with torch.no_grad():
        for linear, weight, bias in pairs:
            linear.weight.copy_(weight[layer].T)
            linear.bias.copy_(bias[layer, 0])
    return alone


def test_stacked_probes_train_as_each_would_alone() -> None:
    torch.manual_seed(0)
    means, labels, weights = torch.randn(3, 12, 5), torch.arange(12) % 4, torch.tensor([1.0, 2.0, 0.5, 1.0])
    stacked = StackedProbes(3, 5, 7, 4)
    alone = [probe_of(stacked, layer) for layer in range(3)]
    optimizers = [torch.optim.Adam(one.parameters(), lr=1e-2) for one in (stacked, *alone)]
    for step in range(6):
        at = np.random.default_rng(step).permutation(12)[:5]
        losses = [stacked_cross_entropy(stacked(means[:, at]), labels[at], weights)]
        losses += [nn.CrossEntropyLoss(weights)(one(x[at]), labels[at]) for one, x in zip(alone, means, strict=True)]
        torch.testing.assert_close(losses[0], sum(losses[1:]))
        for optimizer, loss in zip(optimizers, losses, strict=True):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    found = torch.stack([one(x) for one, x in zip(alone, means, strict=True)])
    torch.testing.assert_close(stacked(means), found, rtol=1e-4, atol=1e-5)


def test_a_probe_is_taken_over_alone() -> None:
    torch.manual_seed(0)
    kept, others, means = StackedProbes(3, 5, 7, 4), StackedProbes(3, 5, 7, 4), torch.randn(3, 2, 5)
    before = kept(means)
    kept.take(others, np.array([1]))
    torch.testing.assert_close(kept(means)[1], others(means)[1])
    torch.testing.assert_close(kept(means)[[0, 2]], before[[0, 2]])
    kept.take(others, np.array([], dtype=np.int64))
    torch.testing.assert_close(kept(means)[[0, 2]], before[[0, 2]])


def test_recalls_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    truth, said = rng.choice([0, 1, 3], 40), rng.integers(0, 4, (5, 40))
    expected = [100 * recall_score(truth, one, labels=np.unique(truth), average="macro") for one in said]
    np.testing.assert_allclose(recalls(said, truth), expected)


@pytest.fixture(scope="module")
def asked(languages: dict[str, Language]) -> list[Asked]:
    return [*within_tasks(languages)[:2], *cross_tasks(languages, shots=(2,))]


def test_it_learns_in_every_protocol_and_tells_of_every_layer(asked: list[Asked]) -> None:
    for one in asked:
        answer = QUICK.answer(one.task)
        assert score(one.truth, answer.probabilities.argmax(1)).uar > 75, (one.task.name, one.task.protocol)
        assert answer.facts["upstream"] == "loud"
        assert set(answer.alternatives) == {"loud:0", "loud:1", "quiet:0", "quiet:1"}
        chosen = f"loud:{answer.facts['layer']}"
        np.testing.assert_array_equal(answer.alternatives[chosen], answer.probabilities)
        for said in answer.alternatives.values():
            np.testing.assert_allclose(said.sum(1), 1)
        assert answer.parameters == 4 * 16 + 16 + 16 * 3 + 3


def test_the_choice_is_the_best_of_the_dev_speakers(asked: list[Asked]) -> None:
    facts = QUICK.answer(asked[0].task).facts
    assert max(facts["dev"]["loud"]) == max(max(scores) for scores in facts["dev"].values())
    assert facts["layer"] == int(np.argmax(facts["dev"]["loud"]))
    assert 1 <= facts["epochs"] <= len(facts["losses"]) <= QUICK.steps.epochs


def test_each_probe_is_that_of_its_own_epoch(asked: list[Asked], monkeypatch: pytest.MonkeyPatch) -> None:
    task = asked[0].task
    # Layer 1 of the first upstream is best after the 3rd epoch, the other layers after others.
    curves = [np.array([[0, 5], [1, 5], [0, 9], [3, 0]]), np.array([[1, 2], [2, 1], [1, 1], [0, 0]])]
    monkeypatch.setattr(LayerProbe, "_dev_curves", lambda self, task: curves)
    found = replace(QUICK, tuning=Steps(epochs=1)).answer(task)
    assert (found.facts["upstream"], found.facts["layer"], found.facts["epochs"]) == ("loud", 1, 3)
    assert len(found.facts["losses"]) == 4
    # Trained for three epochs and no longer, it says the same.
    for curve in curves:
        curve[3:] = 0
    curves[0][2, 0] = 4
    shorter = replace(QUICK, tuning=Steps(epochs=2)).answer(task)
    assert len(shorter.facts["losses"]) == 3
    np.testing.assert_allclose(found.alternatives["loud:1"], shorter.alternatives["loud:1"], rtol=1e-6)
    np.testing.assert_allclose(found.alternatives["quiet:0"], shorter.alternatives["quiet:0"], rtol=1e-6)


def test_seeds_decide(languages: dict[str, Language]) -> None:
    def said(seed: int) -> np.ndarray:
        return QUICK.answer(within_tasks(languages, seeds=(seed,))[0].task).probabilities

    np.testing.assert_array_equal(said(0), said(0))
    assert not np.array_equal(said(0), said(1))


def test_shots_leave_the_shared_probes_as_they_were(languages: dict[str, Language]) -> None:
    zero, few = (one.task for one in cross_tasks(languages, shots=(2,))[:2])
    before = QUICK.answer(zero)
    tuned = QUICK.answer(few)
    assert not np.array_equal(before.probabilities, tuned.probabilities)
    np.testing.assert_array_equal(QUICK.answer(zero).probabilities, before.probabilities)


def test_an_option_that_cannot_be_is_named() -> None:
    with pytest.raises(ConfigError, match="hidden"):
        LayerProbe(hidden=0)


def test_upstreams_may_have_dots_in_their_names(tmp_path: Path) -> None:
    # Names of speech models do, and torch takes none for names of modules.
    languages = toy_languages(tmp_path, ["de"])
    language = languages["de"]
    language.upstreams = ("loud.v2",)
    language._stores["loud.v2"] = language._stores["loud"]
    assert QUICK.answer(within_tasks(languages)[0].task).facts["upstream"] == "loud.v2"
