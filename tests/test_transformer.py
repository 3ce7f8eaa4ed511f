"""A transformer on frames: its equations, what padding may not change, what it learns."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from toy_tasks import UPSTREAMS, cross_tasks, toy_languages, within_tasks

from mser.errors import ConfigError
from train.benchmark.cells import Asked
from train.systems.descent import Sequences, Steps
from train.systems.task import WITHIN, Language
from train.systems.transformer import (
    Block,
    Group,
    Transformer,
    TransformerHead,
    attention,
    positions,
    soft_cross_entropy,
    train_on,
)

QUICK = Transformer(width=16, heads=2, steps=Steps(epochs=8, rate=1e-2), tuning=Steps(epochs=2, rate=1e-3))


@pytest.fixture(scope="module")
def languages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Language]:
    return toy_languages(tmp_path_factory.mktemp("toys"))


def known(asked: list[Asked]) -> list[Asked]:
    """The same tasks, with layers that need no probing; that takes most of the time of a toy."""
    for one in asked:
        one.task.shared.setdefault("layer scores", {name: [1.0 - place, 0.0] for place, name in enumerate(UPSTREAMS)})
    return asked


def test_attention_is_a_weighted_mean_of_the_frames_within_each_utterance() -> None:
    rng = np.random.default_rng(0)
    queries, keys, values = rng.normal(size=(3, 2, 2, 5, 4))
    lengths = [5, 3]
    expected = np.zeros((2, 2, 5, 4))
    for row, head, frame in np.ndindex(2, 2, 5):
        scores = [math.exp(queries[row, head, frame] @ keys[row, head, other] / 2) for other in range(lengths[row])]
        for other, score in enumerate(scores):
            expected[row, head, frame] += score / sum(scores) * values[row, head, other]
    found = attention(*(torch.from_numpy(x) for x in (queries, keys, values)), torch.tensor(lengths))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)


def test_positions_are_waves_of_growing_length() -> None:
    found = positions(7, 6)
    for frame, place in np.ndindex(7, 3):
        angle = frame / 10_000 ** (2 * place / 6)
        assert found[frame, place] == pytest.approx(math.sin(angle), abs=1e-5)
        assert found[frame, 3 + place] == pytest.approx(math.cos(angle), abs=1e-5)


def test_soft_cross_entropy_is_a_weighted_mean_and_that_of_labels_where_targets_are_sure() -> None:
    rng = np.random.default_rng(1)
    logits, targets, weights = rng.normal(size=(4, 3)), rng.dirichlet(np.ones(3), size=4), rng.uniform(1, 2, 4)
    total = 0.0
    for row in range(4):
        norm = math.log(sum(math.exp(value) for value in logits[row]))
        total -= weights[row] * sum(targets[row, e] * (logits[row, e] - norm) for e in range(3))
    said = soft_cross_entropy(*(torch.from_numpy(x) for x in (logits, targets, weights)))
    assert float(said) == pytest.approx(total / weights.sum())
    labels, balance = torch.tensor([2, 0, 0, 1]), torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    own = torch.nn.functional.cross_entropy(torch.from_numpy(logits), labels, balance)
    sure = soft_cross_entropy(torch.from_numpy(logits), torch.eye(3, dtype=torch.float64)[labels], balance[labels])
    torch.testing.assert_close(sure, own)


def test_a_block_does_not_see_behind_the_end() -> None:
    torch.manual_seed(0)
    block = Block(8, 2, 0.0).double()
    x = torch.randn(2, 6, 8, dtype=torch.float64)
    other = x.clone()
    other[1, 4:] = 1e3
    said = [block(own, torch.tensor([6, 4])) for own in (x, other)]
    torch.testing.assert_close(said[0][1, :4], said[1][1, :4])
    assert not torch.equal(said[0][1, 4:], said[1][1, 4:])


@pytest.mark.parametrize("layers", [1, 3])
def test_padding_does_not_change_an_answer(layers: int) -> None:
    torch.manual_seed(0)
    head = TransformerHead(layers, 5, 4, 8, 2, 2, 0.1).double().eval()
    frames = torch.randn(1, 3, layers, 5, dtype=torch.float64)
    padded = torch.cat([frames, torch.full((1, 4, layers, 5), 7.0, dtype=torch.float64)], dim=1)
    torch.testing.assert_close(head(padded, torch.tensor([3])), head(frames, torch.tensor([3])))


def test_layers_are_mixed_by_a_softmax_that_begins_even() -> None:
    torch.manual_seed(0)
    mixing, single = TransformerHead(3, 5, 4, 8, 1, 2, 0.0), TransformerHead(1, 5, 4, 8, 1, 2, 0.0)
    single.load_state_dict({name: value for name, value in mixing.state_dict().items() if name != "mix"})
    frames, lengths = torch.randn(2, 6, 3, 5), torch.tensor([6, 4])
    torch.testing.assert_close(mixing(frames, lengths), single(frames.mean(2, keepdim=True), lengths))
    assert single.mix is None


def test_a_group_weighs_its_emotions_alike(languages: dict[str, Language]) -> None:
    part = known(within_tasks(languages))[0].task.source.at(np.arange(5))
    targets = np.array([[0.6, 0.4], [0.9, 0.1], [0.8, 0.2], [1, 0], [0.3, 0.7]])
    group = Group.of(Sequences(part, "loud", 5.0, (0,)), targets, 2.0)
    assert group.weights.tolist() == pytest.approx([5 / 8] * 4 + [5 / 2])
    model = TransformerHead(1, 4, 2, 8, 1, 2, 0.0)
    at = np.array([4, 0])
    own = soft_cross_entropy(model(*group.frames.batch(at)), group.targets[at], group.weights[at])
    torch.testing.assert_close(group.loss(model, at), 2 * own)
    # Each group beside the first one adds its loss: here all utterances of both are in the only step.
    curves = []
    for groups in ([group], [group, group]):
        torch.manual_seed(0)
        curves.append(train_on(TransformerHead(1, 4, 2, 8, 1, 2, 0.0), groups, Steps(1), 0))
    assert curves[1] == pytest.approx([2 * curves[0][0]])


@pytest.mark.parametrize("options", [{}, {"layers": "mix"}, {"normalise": "source"}], ids=str)
def test_emotions_are_learnt_in_every_protocol(languages: dict[str, Language], options: dict[str, str]) -> None:
    system = replace(QUICK, **options)  # type: ignore[arg-type]
    for asked in known([*within_tasks(languages)[:1], *cross_tasks(languages, shots=(2,))[:2]]):
        said, truth = system.answer(asked.task).probabilities.argmax(1), asked.truth
        assert np.mean([(said[truth == one] == one).mean() for one in np.unique(truth)]) > 0.6


def test_seeds_decide(languages: dict[str, Language]) -> None:
    tasks = [known(within_tasks(languages, seeds=(seed,)))[0].task for seed in (0, 0, 1)]
    said = [QUICK.answer(task).probabilities for task in tasks]
    np.testing.assert_array_equal(said[0], said[1])
    assert not np.array_equal(said[0], said[2])


def test_the_target_is_standardised_by_its_own_unlabelled_frames_if_asked(languages: dict[str, Language]) -> None:
    task = known(cross_tasks(languages))[0].task
    assert QUICK.adapts
    assert not replace(QUICK, normalise="source").adapts
    each, source = QUICK.begin(task), replace(QUICK, normalise="source").begin(task)
    own = torch.cat(each.read(task.adapt).frames)
    torch.testing.assert_close(own.mean(0), torch.zeros_like(own[0]), atol=1e-5, rtol=0)
    own = torch.cat(source.read(task.source).frames)
    torch.testing.assert_close(own.mean(0), torch.zeros_like(own[0]), atol=1e-5, rtol=0)
    # Within a language there is nothing to adapt to.
    inside = known(within_tasks(languages))[0].task
    assert inside.protocol == WITHIN
    said = [replace(QUICK, normalise=kind).answer(inside).probabilities for kind in ("each", "source")]
    np.testing.assert_array_equal(said[0], said[1])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rate", 0.0),
        ("layers", "all"),
        ("width", 30),
        ("width", 0),
        ("depth", 0),
        ("heads", 0),
        ("dropout", 1.0),
        ("normalise", "target"),
        ("shots_weight", 0.0),
    ],
)
def test_options_that_cannot_be_are_named(field: str, value: object) -> None:
    with pytest.raises(ConfigError) as caught:
        replace(Transformer(), **{field: value})  # type: ignore[arg-type]
    assert caught.value.field == field
