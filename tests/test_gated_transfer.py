"""The gated head as a system of the benchmark, and what it becomes for a language without labels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_tasks import UPSTREAMS, cross_tasks, toy_languages, within_tasks

from mser.errors import ConfigError
from train.benchmark.cells import Asked
from train.fit import FitSettings
from train.objective import LossSettings
from train.systems.gated_transfer import GatedTransfer
from train.systems.ours import Gated
from train.systems.task import WITHIN, Language, Task

QUICK = FitSettings(epochs=20, least_steps=60, rate=3e-3)
TUNING = FitSettings(epochs=5, least_steps=20, rate=1e-3, loss=LossSettings(contrastive="none"))


@pytest.fixture(scope="module")
def languages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Language]:
    """Three emotions that stand out in the states, the same in both languages."""
    root: Path = tmp_path_factory.mktemp("toys")
    return toy_languages(root)


def accuracy(asked: Asked, said: np.ndarray) -> float:
    return float((said.argmax(1) == asked.truth).mean())


def alone(task: Task) -> Task:
    """The task as the only one of its source: nothing is kept of others."""
    return replace(task, shared={})


def test_nothing_given_up_is_the_gated_head_itself(languages: dict[str, Language]) -> None:
    asked = cross_tasks(languages, shots=(2,))
    plain = Gated(normalise="each", fit=QUICK, tuning=TUNING)
    same = GatedTransfer(start=1.0, statistics="both", depth=1, fit=QUICK, tuning=TUNING)
    for first, second in zip(plain.answers([one.task for one in asked]), same.answers([one.task for one in asked]),
                             strict=True):  # fmt: skip
        np.testing.assert_array_equal(first.probabilities, second.probabilities)


@pytest.mark.parametrize("system", [Gated, GatedTransfer])
def test_it_tells_what_stands_out_in_the_states(system: type[Gated], languages: dict[str, Language]) -> None:
    made = system(fit=QUICK, tuning=TUNING)
    asked = cross_tasks(languages, shots=(2,))
    if WITHIN in made.protocols:
        asked += within_tasks(languages)[:1]
    assert np.mean([accuracy(one, made.answer(one.task).probabilities) for one in asked]) > 0.7


def test_mixtures_start_flat_on_means_with_a_linear_head(languages: dict[str, Language]) -> None:
    task = cross_tasks(languages)[0].task
    system = GatedTransfer(start=0.0)
    experts = system._experts(task, task.source)
    prior = system._prior(task, experts)
    assert all(torch.equal(logits, torch.zeros(2)) for logits in prior.layers.values())
    assert torch.equal(prior.experts, torch.zeros(len(UPSTREAMS)))
    both = GatedTransfer(statistics="both")._experts(task, task.source)
    assert [(one.dim, two.dim) for one, two in zip(experts, both, strict=True)] == [(4, 8), (4, 8)]
    assert system._genotype(task).depth == 0
    # The target is standardised by the half that may be adapted to: its means are 0 there, and nothing of the test's.
    own = system._experts(task, task.adapt)
    for expert in own:
        states = torch.stack([expert[int(row)][:, 0] for row in task.adapt.rows])
        assert torch.allclose(states.mean(0), torch.zeros(2, 4), atol=1e-5)


def test_self_training_learns_from_its_surest_answers_and_from_nothing_else(
    languages: dict[str, Language], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = cross_tasks(languages, shots=(1,))
    system = GatedTransfer(rounds=2, fit=QUICK, tuning=TUNING)
    learnt: list[tuple[set[int], list[int]]] = []
    import train.systems.gated_transfer as module

    true_fit = module.fit

    def fit(replicas: list, loaders: dict, rows: dict, *more: object) -> object:  # type: ignore[type-arg]
        ((name, own),) = rows.items()
        learnt.append((set(own.tolist()), loaders[name].labels[torch.from_numpy(own)].tolist()))
        return true_fit(replicas, loaders, rows, *more)

    monkeypatch.setattr(module, "fit", fit)
    task = asked[0].task
    flat = replace(system, rounds=0)
    before = flat.answer(alone(replace(task, test=task.adapt))).probabilities
    system.answer(alone(task))
    assert len(learnt) == 2
    first, labels = learnt[0]
    assert first <= set(task.adapt.rows.tolist())
    assert not first & set(task.test.rows.tolist())
    # By a plain loop: of what is taken for each emotion the surer half, rounded up, with that emotion.
    wanted = {}
    for emotion in range(before.shape[1]):
        taken = [place for place in range(len(before)) if before[place].argmax() == emotion]
        taken.sort(key=lambda place: -before[place].max())
        wanted.update({int(task.adapt.rows[place]): emotion for place in taken[: (len(taken) + 1) // 2]})
    assert dict(zip(sorted(first), labels, strict=True)) == wanted


def test_all_k_of_a_half_share_one_self_training_and_leave_it_alone(languages: dict[str, Language]) -> None:
    asked = cross_tasks(languages, shots=(1, 2))
    system = GatedTransfer(rounds=1, fit=QUICK, tuning=TUNING)
    together = [one.probabilities for one in system.answers([one.task for one in asked])]
    for one, said in zip(asked, together, strict=True):
        np.testing.assert_allclose(system.answer(alone(one.task)).probabilities, said, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "wrong",
    [
        {"start": -1.0},
        {"rounds": -1},
        {"statistics": "median"},
        {"depth": 2},
        {"structure": "beta"},
        {"start": float("nan")},
    ],
)
def test_what_cannot_be_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError) as caught:
        GatedTransfer(**wrong)  # type: ignore[arg-type]
    assert next(iter(wrong)) in str(caught.value)
