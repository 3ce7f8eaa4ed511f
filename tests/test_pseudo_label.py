"""Pseudo-labels: what is kept and learnt from, and that nothing but the unlabelled speech decides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_tasks import UPSTREAMS, cross_tasks, languages_of, toy_languages
from toys import make_workspace

from mser.errors import ConfigError
from mser.manifest import Manifest
from train.benchmark.cells import Asked, rows_of
from train.systems import SYSTEMS
from train.systems.descent import Steps
from train.systems.pseudo_label import PseudoLabel, confident, pseudo_targets, threshold_at
from train.systems.task import FEW_SHOT, ZERO_SHOT, Language, Part, Task
from train.systems.transformer import Transformer

QUICK = {"width": 16, "heads": 2, "steps": Steps(epochs=8, rate=1e-2), "tuning": Steps(epochs=2, rate=1e-3)}
ROUNDS = {"rounds": 2, "start": 0.6, "end": 0.4, "round_steps": Steps(epochs=2, rate=1e-3)}
HARD = PseudoLabel(**QUICK, **ROUNDS)  # type: ignore[arg-type]
SOFT = replace(HARD, labels="soft", temperature=0.5)


@pytest.fixture(scope="module")
def languages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Language]:
    return toy_languages(tmp_path_factory.mktemp("toys"))


def cross(languages: dict[str, Language], shots: Sequence[int] = (2,), seed: int = 0) -> list[Asked]:
    """Without shots, then with them, of each half; the layers need no probing."""
    asked = cross_tasks(languages, shots, seeds=(seed,))
    for one in asked:
        one.task.shared.setdefault("layer scores", {name: [1.0 - place, 0.0] for place, name in enumerate(UPSTREAMS)})
    return asked


def uar(said: np.ndarray, truth: np.ndarray) -> float:
    return float(np.mean([(said.argmax(1)[truth == one] == one).mean() for one in np.unique(truth)]))


def test_the_threshold_goes_in_equal_steps() -> None:
    steps = np.linspace(0.95, 0.8, 4)
    assert [threshold_at(number, 4, 0.95, 0.8) for number in range(4)] == pytest.approx(steps)
    assert threshold_at(0, 1, 0.95, 0.8) == 0.95


def test_kept_are_those_whose_likeliest_emotion_is_likely_enough() -> None:
    said = np.random.default_rng(0).dirichlet(np.ones(4) / 2, size=50)
    for threshold in (0.0, 0.5, 0.9, 1.0):
        naive = [row for row in range(50) if any(value >= threshold for value in said[row])]
        assert confident(said, threshold).tolist() == naive
    assert confident(np.array([[0.5, 0.5]]), 0.5).tolist() == [0]


@pytest.mark.parametrize("temperature", [0.25, 1.0, 3.0])
def test_soft_targets_are_a_softmax_of_logits_over_a_temperature(temperature: float) -> None:
    logits = torch.randn(20, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = pseudo_targets(logits.softmax(1).numpy(), "soft", temperature)
    np.testing.assert_allclose(found, (logits / temperature).softmax(1).numpy())


def test_hard_targets_are_the_likeliest_emotion_and_cold_soft_ones_come_to_them() -> None:
    said = np.array([[0.2, 0.5, 0.3], [0.7, 0.2, 0.1]])
    assert pseudo_targets(said, "hard").tolist() == [[0, 1, 0], [1, 0, 0]]
    np.testing.assert_allclose(pseudo_targets(said, "soft", 1e-3), pseudo_targets(said, "hard"), atol=1e-12)


@pytest.mark.parametrize("system", [HARD, SOFT], ids=["hard", "soft"])
def test_emotions_are_learnt_and_what_was_kept_is_told(languages: dict[str, Language], system: PseudoLabel) -> None:
    for asked in cross(languages)[:2]:
        answer = system.answer(asked.task)
        assert uar(answer.probabilities, asked.truth) > 0.6
        unlabelled = len(asked.task.adapt) - len(asked.task.shots)
        assert answer.facts["unlabelled"] == unlabelled
        assert answer.facts["thresholds"] == [0.6, 0.4]
        assert len(answer.facts["kept"]) == 2
        assert all(0 < count <= unlabelled for count in answer.facts["kept"])


def test_before_the_first_round_it_is_the_transformer(languages: dict[str, Language]) -> None:
    control = Transformer(**QUICK)  # type: ignore[arg-type]
    for ours, theirs in list(zip(cross(languages), cross(languages), strict=True))[:2]:
        answer, plain = HARD.answer(ours.task), control.answer(theirs.task)
        assert set(answer.alternatives) == {"rounds-0", "rounds-1"}
        np.testing.assert_array_equal(answer.alternatives["rounds-0"], plain.probabilities)
        assert answer.parameters == plain.parameters
        assert not np.array_equal(answer.probabilities, plain.probabilities)


def test_rounds_in_which_none_is_kept_change_nothing(languages: dict[str, Language]) -> None:
    answer = replace(HARD, start=1.0, end=1.0).answer(cross(languages)[0].task)
    assert answer.facts["kept"] == [0, 0]
    assert answer.facts["round_losses"] == []
    np.testing.assert_array_equal(answer.probabilities, answer.alternatives["rounds-0"])


def test_shots_are_not_judged_as_if_their_labels_were_unknown(languages: dict[str, Language]) -> None:
    task = cross(languages)[1].task
    task = replace(task, shots=replace_labels(task.adapt, languages))
    facts = HARD.answer(task).facts
    assert facts["unlabelled"] == 0
    assert facts["kept"] == [0, 0]


def replace_labels(part: Part, languages: dict[str, Language]) -> Part:
    """A part with labels that go round the emotions."""
    return Part(languages["it"], part.rows, np.arange(len(part)) % 3)


def test_seeds_decide_and_tasks_that_share_a_source_do_not_change_each_other(languages: dict[str, Language]) -> None:
    tasks = [asked.task for asked in cross(languages)[:2]]
    said = [SOFT.answer(task).probabilities for task in tasks]
    alone = SOFT.answer(cross(languages)[1].task).probabilities
    np.testing.assert_array_equal(alone, said[1])
    assert not np.array_equal(SOFT.answer(cross(languages, seed=1)[0].task).probabilities, said[0])


def test_emotions_of_the_target_cannot_matter(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, ("de", "it"))

    def asked() -> Task:
        languages = languages_of(workspace, ("de", "it"))
        return next(one.task for one in cross(languages) if one.task.protocol == ZERO_SHOT)

    first = asked()
    said = HARD.answer(first).probabilities
    manifest = Manifest.read(workspace, "toy_it")
    # Turned within each speaker, so that the halves stay the same.
    turned = {"anger": "fear", "fear": "joy", "joy": "anger"}
    rows = tuple(replace(row, emotion=turned[row.emotion]) for row in manifest.utterances)
    replace(manifest, utterances=rows).write(workspace, [], [])
    second = asked()
    np.testing.assert_array_equal(second.test.rows, first.test.rows)
    assert [row.emotion for row in rows_of(second.test)] != [row.emotion for row in rows_of(first.test)]
    np.testing.assert_array_equal(HARD.answer(second).probabilities, said)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("labels", "medium"),
        ("temperature", 0.0),
        ("start", 1.5),
        ("end", -0.1),
        ("rounds", 0),
        ("pseudo_weight", 0.0),
        ("width", 15),
    ],
)
def test_options_that_cannot_be_are_named(field: str, value: object) -> None:
    with pytest.raises(ConfigError) as caught:
        replace(PseudoLabel(), **{field: value})  # type: ignore[arg-type]
    assert caught.value.field == field


def test_the_benchmark_knows_both_kinds_with_their_control() -> None:
    for name, labels in (("pseudo-label", "hard"), ("pseudo-label-soft", "soft")):
        system = SYSTEMS[name].system
        assert isinstance(system, PseudoLabel)
        assert system.labels == labels
        assert system.adapts
        assert system.protocols == (ZERO_SHOT, FEW_SHOT)
        assert SYSTEMS[name].control == "transformer"
        assert not isinstance(SYSTEMS["transformer"].system, PseudoLabel)
