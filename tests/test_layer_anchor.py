"""Layer anchoring: CORAL and likeness against numpy, anchors by hand, and that labels of the target cannot matter."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from toy_tasks import cross_tasks, toy_languages

from mser.errors import ConfigError
from mser.metrics import score
from train.benchmark.cells import Asked
from train.systems.descent import Steps
from train.systems.layer_anchor import AnchoredHead, LayerAnchor, anchors_of, coral, covariance, likeness
from train.systems.task import FEW_SHOT, WITHIN, ZERO_SHOT, Language, Task

QUICK = LayerAnchor(hidden=16, steps=Steps(epochs=20, batch_size=8, rate=1e-2))


@pytest.fixture(scope="module")
def languages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Language]:
    return toy_languages(tmp_path_factory.mktemp("toys"))


def asked_of(languages: dict[str, Language], shots: tuple[int, ...] = (1,), seed: int = 0) -> list[Asked]:
    """Tasks that keep the dev scores of single layers in a file, as those of the benchmark do."""
    path = languages["de"].workspace.root / "scores.json"
    return [
        replace(one, task=replace(one.task, probes_path=path)) for one in cross_tasks(languages, shots, seeds=(seed,))
    ]


def test_coral_is_the_formula_of_the_paper() -> None:
    torch.manual_seed(0)
    source, target = torch.randn(2, 7, 4), 2 * torch.randn(2, 9, 4) + 1
    for own, others, found in zip(source, target, coral(source, target), strict=True):
        total = 0.0
        gap = np.cov(own.numpy().T) - np.cov(others.numpy().T)
        for row in range(4):
            for column in range(4):
                total += gap[row, column] ** 2
        assert found.item() == pytest.approx(total / (4 * 4**2), rel=1e-4)


def test_coral_is_nothing_between_equal_spreads_and_its_gradient_is_exact() -> None:
    rows = torch.randn(6, 3, dtype=torch.float64)
    assert coral(rows, rows + 5).item() == pytest.approx(0, abs=1e-12)
    other = torch.randn(5, 3, dtype=torch.float64)
    assert torch.autograd.gradcheck(coral, (rows.requires_grad_(), other.requires_grad_()))


def test_the_covariance_of_a_single_utterance_is_nothing() -> None:
    assert covariance(torch.randn(1, 3)).abs().max() == 0


def test_likeness_is_the_cosine_of_covariances() -> None:
    torch.manual_seed(0)
    source, target = torch.randn(3, 8, 4), torch.randn(3, 6, 4)
    target[1] = 3 * source[1, :6] + 1
    source[2] = 0
    expected = []
    for own, others in zip(source.numpy(), target.numpy(), strict=True):
        first, second = np.cov(own.T), np.cov(others.T)
        norms = np.sqrt(np.trace(first @ first)) * np.sqrt(np.trace(second @ second))
        expected.append(np.trace(first @ second) / norms if norms else 0.0)
    np.testing.assert_allclose(likeness(source, target), expected, rtol=1e-4, atol=1e-6)
    # Neither where the languages lie nor how wide they are counts, only how features go together.
    torch.testing.assert_close(likeness(source[:1], 2 * source[:1] + 3), torch.ones(1))


@pytest.mark.parametrize(
    ("groups", "count", "expected"),
    [
        (0, 1, [4]),
        (0, 2, [1, 4]),
        # Groups of 3, 2 and 2 layers, with means 0.5, 0.5 and 0.3: the earlier of equals.
        (3, 1, [0, 1, 2]),
        (3, 2, [0, 1, 2, 3, 4]),
        (9, 1, [4]),
    ],
)
def test_anchors_are_the_layers_that_are_most_alike(groups: int, count: int, expected: list[int]) -> None:
    alike = np.array([0.25, 0.75, 0.5, 0.125, 0.875, 0.25, 0.375])
    assert anchors_of(alike, groups, count) == expected


def test_the_head_mixes_projections_of_its_layers() -> None:
    torch.manual_seed(0)
    head, rows = AnchoredHead(3, 4, 5, 2, 0.5).eval(), torch.randn(6, 3, 4)
    with torch.no_grad():
        head.mix.copy_(torch.tensor([0.0, 1.0, -1.0]))
    shares, total = torch.tensor([0.0, 1.0, -1.0]).softmax(0), torch.zeros(6, 5)
    for layer in range(3):
        own = nn.functional.linear(rows[:, layer], head.weight[layer].T, head.bias[layer, 0])
        torch.testing.assert_close(head.project(rows.transpose(0, 1)[[layer]], [layer])[0], own)
        total = total + shares[layer] * own.relu()
    torch.testing.assert_close(head(rows), head.output[1](total))


@pytest.mark.parametrize("options", [{}, {"groups": 2}, {"anchors": 2}, {"weight": 0.0}, {"normalise": "source"}])
def test_it_learns_across_languages(languages: dict[str, Language], options: dict[str, object]) -> None:
    system = replace(QUICK, **options)
    assert (ZERO_SHOT in system.protocols, FEW_SHOT in system.protocols, WITHIN in system.protocols) == (1, 1, 0)
    for one in asked_of(languages, shots=(2,)):
        answer = system.answer(one.task)
        assert score(one.truth, answer.probabilities.argmax(1)).uar > 75, (one.task.name, one.task.protocol)
        assert answer.facts["upstream"] == "loud"
        assert len(answer.facts["anchors"]) == system.anchors
        assert answer.parameters == 2 * (4 * 16 + 16) + 2 + 16 * 3 + 3


def test_anchoring_draws_the_languages_together(languages: dict[str, Language]) -> None:
    def distance(weight: float) -> float:
        task = asked_of(languages)[0].task
        return replace(QUICK, weight=weight, dropout=0.0).answer(task).facts["coral"][-1]

    assert distance(10.0) < 0.5 * distance(0.0)


def test_a_half_is_anchored_once_for_all_shots(languages: dict[str, Language], monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    kept = LayerAnchor._anchored
    monkeypatch.setattr(LayerAnchor, "_anchored", lambda self, task: (calls.append(task.k), kept(self, task))[1])
    tasks: list[Task] = [one.task for one in asked_of(languages, shots=(1, 2))]
    said = [QUICK.answer(task).probabilities for task in tasks]
    assert calls == [0, 0]
    # Tuning on shots leaves the shared model as it was.
    np.testing.assert_array_equal(QUICK.answer(tasks[0]).probabilities, said[0])
    assert not np.array_equal(said[0], said[1])


def test_seeds_decide(languages: dict[str, Language]) -> None:
    def said(seed: int) -> np.ndarray:
        return QUICK.answer(asked_of(languages, seed=seed)[0].task).probabilities

    np.testing.assert_array_equal(said(0), said(0))
    assert not np.array_equal(said(0), said(1))


def test_emotions_of_the_target_cannot_matter(tmp_path: Path) -> None:
    languages = toy_languages(tmp_path)
    task = asked_of(languages)[0].task
    said = QUICK.answer(task).probabilities
    told = languages["it"].data.utterances
    swapped = tuple(replace(row, emotion=other.emotion) for row, other in zip(told, told[1:] + told[:1], strict=True))
    target = replace_language(languages["it"], swapped)
    others = replace(
        task,
        adapt=replace(task.adapt, language=target),
        test=replace(task.test, language=target),
        shared={},
    )
    np.testing.assert_array_equal(QUICK.answer(others).probabilities, said)


def replace_language(language: Language, utterances: tuple) -> Language:
    """The same states with other rows of the manifest."""
    return Language(replace(language.data, utterances=utterances), language.workspace)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"groups": -1}, "groups"),
        ({"anchors": 0}, "anchors"),
        ({"groups": 2, "anchors": 3}, "anchors"),
        ({"weight": -1.0}, "weight"),
        ({"weight": float("nan")}, "weight"),
        ({"hidden": 0}, "hidden"),
        ({"dropout": -0.1}, "dropout"),
        ({"dropout": 1.0}, "dropout"),
        ({"normalise": "none"}, "normalise"),
    ],
)
def test_an_option_that_cannot_be_is_named(options: dict[str, object], name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        LayerAnchor(**options)  # type: ignore[arg-type]
    assert caught.value.field == name
