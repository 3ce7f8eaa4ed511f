"""The adversary against autograd and against what it may move; the systems on toy languages."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from toy_tasks import cross_tasks, toy_languages, within_tasks

from mser.errors import ConfigError
from train.benchmark.cells import Asked
from train.systems import SYSTEMS
from train.systems.adversarial import (
    Adversarial,
    Draw,
    Network,
    discriminator_step,
    language_loss,
    ramp,
    reverse,
)
from train.systems.base import System
from train.systems.descent import Steps
from train.systems.task import FEW_SHOT, WITHIN, ZERO_SHOT, Language
from train.systems.vectors import vectors_of

SHORT = Steps(epochs=40, batch_size=12, rate=5e-3)
NAMES = ("adversarial", "adversarial-gan", "adversarial-each", "source-only")


def small(**options: object) -> Adversarial:
    return Adversarial(hidden=16, code=8, critic=8, steps=SHORT, **options)  # type: ignore[arg-type]


def small_of(name: str) -> Adversarial:
    """The system of an entry, made small."""
    system = SYSTEMS[name].system
    assert isinstance(system, Adversarial)
    return dataclasses.replace(system, hidden=16, code=8, critic=8, steps=SHORT)


def accuracy(system: System, asked: list[Asked]) -> float:
    """Share of right answers, over tasks."""
    said = [system.answer(one.task).probabilities.argmax(1) == one.truth for one in asked]
    return float(np.concatenate(said).mean())


class Shifted(Language):
    """A language all of whose states differ from those of others by the same vector."""

    def pooled(self, upstream: str) -> Tensor:
        shifted = super().pooled(upstream).clone()
        shifted[:, :, 0, 3] += 3.0
        return shifted


@pytest.fixture(scope="module")
def languages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Language]:
    return toy_languages(tmp_path_factory.mktemp("toy"))


@pytest.mark.parametrize("strength", [0.0, 0.3, 2.0])
def test_the_reversed_gradient_is_minus_strength_times_the_plain_one(strength: float) -> None:
    torch.manual_seed(0)
    codes, weights = torch.randn(5, 3, dtype=torch.float64, requires_grad=True), torch.randn(3, 2, dtype=torch.float64)

    def value(x: Tensor) -> Tensor:
        return (x @ weights).tanh().pow(2).sum()

    plain = torch.autograd.grad(value(codes), codes)[0]
    found = torch.autograd.grad(value(reverse(codes, strength)), codes)[0]
    torch.testing.assert_close(found, -strength * plain, rtol=0, atol=1e-15)
    assert torch.equal(reverse(codes, strength), codes)


def test_what_lies_behind_the_reversal_descends() -> None:
    torch.manual_seed(0)
    critic, codes = nn.Linear(3, 1), torch.randn(4, 3)
    plain = torch.autograd.grad(critic(codes).sum(), list(critic.parameters()))
    found = torch.autograd.grad(critic(reverse(codes, 0.7)).sum(), list(critic.parameters()))
    for one, other in zip(plain, found, strict=True):
        torch.testing.assert_close(one, other)


def test_the_ramp_rises_from_nothing_to_all() -> None:
    values = [ramp(step / 20) for step in range(21)]
    assert values[0] == 0
    assert values[-1] == pytest.approx(np.tanh(5))
    assert all(np.diff(values) > 0)


def test_the_language_loss_is_a_cross_entropy_that_weighs_languages_alike() -> None:
    rng = np.random.default_rng(0)
    source, target = rng.normal(size=7), rng.normal(size=3)
    own = np.mean([-np.log(1 - 1 / (1 + np.exp(-x))) for x in source])
    other = np.mean([-np.log(1 / (1 + np.exp(-x))) for x in target])
    found = language_loss(torch.from_numpy(source), torch.from_numpy(target))
    assert float(found) == pytest.approx((own + other) / 2)


def test_a_discriminator_step_moves_the_discriminator_alone_and_the_encoders_step_the_encoder_alone() -> None:
    torch.manual_seed(0)
    model, critic = Network(4, 6, 5, 3, dropout=0.0), nn.Linear(5, 1)
    theirs = torch.optim.SGD(critic.parameters(), lr=0.1)
    ours = torch.optim.SGD(model.parameters(), lr=0.1)
    source, target = torch.randn(6, 4), torch.randn(6, 4) + 1
    encoder_before, critic_before = copy.deepcopy(model.state_dict()), copy.deepcopy(critic.state_dict())

    before = discriminator_step(critic, theirs, model.encoder(source), model.encoder(target))
    assert all(value.grad is None for value in model.parameters())
    assert all(torch.equal(value, encoder_before[name]) for name, value in model.state_dict().items())
    assert not torch.equal(critic.weight, critic_before["weight"])
    after = language_loss(critic(model.encoder(source))[:, 0], critic(model.encoder(target))[:, 0])
    assert after < before

    moved = copy.deepcopy(critic.state_dict())
    flipped = language_loss(critic(model.encoder(target))[:, 0], critic(model.encoder(source))[:, 0])
    flipped.backward()
    ours.step()
    assert all(torch.equal(value, moved[name]) for name, value in critic.state_dict().items())
    assert not torch.equal(model.state_dict()["encoder.1.weight"], encoder_before["encoder.1.weight"])
    fooled = language_loss(critic(model.encoder(target))[:, 0], critic(model.encoder(source))[:, 0])
    assert fooled < flipped


def test_batches_are_drawn_once_each_before_any_comes_again() -> None:
    draw = Draw(6, 2, [0])
    for _ in range(3):
        assert sorted(np.concatenate([draw() for _ in range(3)])) == list(range(6))
    assert len(Draw(2, 8, [0])()) == 2


@pytest.mark.parametrize("name", NAMES)
def test_it_learns(name: str, languages: dict[str, Language]) -> None:
    system = small_of(name)
    across = cross_tasks(languages, shots=(2,))[:2]
    for protocol in system.protocols:
        asked = (
            within_tasks(languages) if protocol == WITHIN else [one for one in across if one.task.protocol == protocol]
        )
        assert accuracy(system, asked) > 0.6, protocol


def test_who_takes_part_where() -> None:
    for name in NAMES:
        system = SYSTEMS[name].system
        assert system.adapts == (name != "source-only")
        assert system.protocols == ((ZERO_SHOT, FEW_SHOT) if system.adapts else (WITHIN, ZERO_SHOT, FEW_SHOT))
    assert small(adversary="none", normalise="each").adapts


@pytest.mark.parametrize("adversary", ["reversal", "gan"])
def test_the_adversary_drives_a_plain_language_out_of_the_code(adversary: str, languages: dict[str, Language]) -> None:
    plain = languages["it"]
    shifted = {**languages, "it": Shifted(plain.data, plain.workspace)}
    task = cross_tasks(shifted)[0].task
    steps = Steps(epochs=100, batch_size=12, rate=3e-3)
    told = {
        strength: Adversarial(
            adversary, hidden=32, code=16, critic=16, dropout=0.0, critic_dropout=0.0, strength=strength, steps=steps
        ).answer(task).facts["language_head"]
        for strength in (0.0, 1.0)
    }  # fmt: skip
    assert told[0.0] > 90
    assert told[1.0] < 70


def test_without_strength_it_is_the_control(languages: dict[str, Language]) -> None:
    task = cross_tasks(languages)[0].task
    idle, control = (
        small(adversary=kind, dropout=0.0, critic_dropout=0.0, strength=0.0).answer(task) for kind in ("gan", "none")
    )
    np.testing.assert_allclose(idle.probabilities, control.probabilities, atol=1e-5)


@pytest.mark.parametrize("adversary", ["reversal", "gan"])
def test_the_seed_decides(adversary: str, languages: dict[str, Language]) -> None:
    system = small(adversary=adversary)
    first, again, other = (
        system.answer(cross_tasks(languages, seeds=(seed,))[0].task).probabilities for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_labels_of_the_target_cannot_matter(languages: dict[str, Language]) -> None:
    task = cross_tasks(languages)[0].task
    silent = Language(languages["it"].data, languages["it"].workspace)
    rows = [dataclasses.replace(row, emotion="nobody knows") for row in silent.data.utterances]
    silent.data = dataclasses.replace(silent.data, utterances=tuple(rows))
    parts = {name: dataclasses.replace(getattr(task, name), language=silent) for name in ("adapt", "test", "shots")}
    unlabelled = dataclasses.replace(task, shared={}, **parts)  # type: ignore[arg-type]
    system = small()
    np.testing.assert_array_equal(system.answer(task).probabilities, system.answer(unlabelled).probabilities)


def test_each_language_is_standardised_by_itself_where_asked(languages: dict[str, Language]) -> None:
    plain = languages["it"]
    task = cross_tasks({**languages, "it": Shifted(plain.data, plain.workspace)})[0].task
    own, each = (vectors_of(task, "all", how) for how in ("source", "each"))
    assert own.source.shape[1] == 2 * 4 * len(task.upstreams)
    for found in (own, each):
        torch.testing.assert_close(found.source.mean(0), torch.zeros(found.source.shape[1]), atol=1e-5, rtol=0)
    torch.testing.assert_close(each.adapt.mean(0), torch.zeros(each.adapt.shape[1]), atol=1e-5, rtol=0)
    assert float(own.adapt.mean(0).abs().max()) > 0.5
    assert torch.equal(own.source, each.source)
    assert len(own.shots) == 0
    assert len(own.test) == len(task.test)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("adversary", "judge"), ("features", "best"), ("normalise", "target"), ("hidden", 0), ("code", 1.5),
        ("critic", 0), ("dropout", 1.0), ("critic_dropout", -0.1), ("strength", -1.0),
        ("average", -0.5),
    ],
)  # fmt: skip
def test_options_that_cannot_be(field: str, value: object) -> None:
    with pytest.raises(ConfigError) as caught:
        Adversarial(**{field: value})  # type: ignore[arg-type]
    assert caught.value.field == field
